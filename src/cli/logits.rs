//! `gguf logits`: what a model expects to come next.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::{Session, SessionOptions};
use gguf_toolkit::kernels::vector;
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::tokenizer::EncodeOptions;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::model_args::{self, RunArgs};
use crate::outputs;
use crate::table::{Column, Table};

/// Shows the likeliest next tokens after a text, or writes the logits of every position for programs.
///
/// The file holds `input_ids` [tokens] (i64) and `logits` [tokens, vocabulary] (f32), so that any two models or
/// programs can be laid side by side.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf logits model.gguf \"The capital of France is\"
  gguf logits model.gguf --ids 1,450,1483 --top 20
  gguf logits model.gguf \"Once upon a time\" -o logits.safetensors
  gguf logits \"Once upon a time\"                      # the embedded model")]
pub(crate) struct Args {
    /// File, folder or name; the embedded model when only a text is given
    #[arg(value_name = "MODEL")]
    first: Option<String>,
    /// The text (standard input when neither it nor --ids is given)
    #[arg(value_name = "TEXT")]
    second: Option<String>,
    /// Take control tokens that are spelled out in the text, such as <|im_end|>, for text like any other
    #[arg(long, conflicts_with = "special")]
    no_special: bool,
    /// Take control tokens for what they spell (the default here; `tokenize` has the same two options)
    #[arg(long)]
    special: bool,
    /// Tokens in place of a text
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
    /// Tokens to show
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = model_args::parse_length)]
    top: usize,
    /// Write the logits of every position to this safetensors file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (path, text) = match (&args.first, &args.second) {
        // One argument that is no file's name is a text.
        (Some(only), None) if !model_args::is_model(only) => (None, Some(only.clone())),
        (first, second) => (first.as_ref().map(PathBuf::from), second.clone()),
    };
    let model = model_args::load(path.as_deref(), &args.run)?;
    let name = model_args::short_name(path.as_ref());
    let tokens = match (&args.ids, text) {
        (Some(ids), None) => ids.clone(),
        (Some(_), Some(_)) => bail!("a text or --ids, not both"),
        (None, text) => {
            let text = text.map_or_else(|| model_args::read_text(Path::new("-")), Ok)?;
            let options = EncodeOptions { add_special: true, parse_special: args.special || !args.no_special };
            model.tokenizer().encode(&text, options).with_context(|| format!("{name}: tokenizer"))?
        }
    };
    // What comes after these tokens is not asked for: models with other frequencies for long contexts take those of
    // this length.
    let context_length = Some(tokens.len().min(model.hparams().context_length));
    let options = SessionOptions { context_length, kv_type: args.run.kv_type, ..SessionOptions::default() };
    let mut session = Session::new(model.clone(), args.run.pool()?, options);
    if let Some(output) = &args.output {
        // Before the work, which may be long.
        outputs::check(output, 1, args.force)?;
    }
    let logits = match &args.output {
        Some(output) => {
            let all = session.evaluate_all(&tokens).with_context(|| name.clone())?;
            write(output, args.force, &tokens, &all)?;
            eprintln!("{}: {} x {}", printable_path(output), tokens.len(), model.decoder().vocab_size());
            if !args.json {
                return Ok(ExitCode::SUCCESS);
            }
            all[all.len() - model.decoder().vocab_size()..].to_vec()
        }
        None => session.evaluate(&tokens, &mut |_| true).with_context(|| name.clone())?.unwrap_or_default(),
    };
    let top = likeliest(&logits, args.top);
    if args.json {
        show_json(&model, &tokens, &top)?
    } else {
        show(&model, &tokens, &top)?
    }
    Ok(ExitCode::SUCCESS)
}

/// A token with its logit and probability.
struct RankedToken {
    token: u32,
    logit: f32,
    probability: f32,
}

fn likeliest(logits: &[f32], count: usize) -> Vec<RankedToken> {
    let mut probabilities = logits.to_vec();
    vector::softmax(&mut probabilities);
    let mut all: Vec<RankedToken> = (0..)
        .zip(logits.iter().zip(probabilities))
        .map(|(token, (&logit, probability))| RankedToken { token, logit, probability })
        .collect();
    all.sort_by(|a, b| b.logit.total_cmp(&a.logit));
    all.truncate(count);
    all
}

fn show(model: &Model, tokens: &[u32], top: &[RankedToken]) -> anyhow::Result<()> {
    let mut table = Table::new([
        Column::right("token"),
        Column::texts("text"),
        Column::right("probability"),
        Column::right("logit").optional(1),
    ]);
    for likely in top {
        let piece = format!("{:?}", String::from_utf8_lossy(model.tokenizer().piece(likely.token)));
        table.row([
            likely.token.to_string(),
            printable(&piece).to_string(),
            format!("{:.2} %", likely.probability * 100.0),
            format!("{:.4}", likely.logit),
        ]);
    }
    eprintln!("after {} tokens:", tokens.len());
    Ok(table.write(&mut std::io::stdout().lock())?)
}

fn show_json(model: &Model, tokens: &[u32], top: &[RankedToken]) -> anyhow::Result<()> {
    let top: Vec<_> = top
        .iter()
        .map(|l| {
            let text = String::from_utf8_lossy(model.tokenizer().piece(l.token));
            json!({ "token": l.token, "text": text, "probability": l.probability, "logit": l.logit })
        })
        .collect();
    model_args::print(&format!("{:#}\n", json!({ "input_ids": tokens, "next": top })))
}

fn write(path: &Path, force: bool, tokens: &[u32], logits: &[f32]) -> anyhow::Result<()> {
    let ids: Vec<u8> = tokens.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    let rows: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![tokens.len(), logits.len() / tokens.len().max(1)];
    let tensors = [
        ("input_ids", TensorView::new(Dtype::I64, vec![tokens.len()], &ids)?),
        ("logits", TensorView::new(Dtype::F32, shape, &rows)?),
    ];
    let bytes = safetensors::serialize(tensors, None)?;
    outputs::write(path, force, &bytes)
}
