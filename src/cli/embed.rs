//! `gguf embed`: texts as vectors.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::{Embedder, EmbeddingOptions};
use gguf_toolkit::network::Pooling;
use gguf_toolkit::printable::printable_path;
use gguf_toolkit::tokenizer::EncodeOptions;
use serde_json::json;

use crate::model_args::{self, PoolingArg, RunArgs, pooling_name};
use crate::outputs;

/// Turns texts into vectors: those of texts that mean the same point the same way.
///
/// Prints a line of numbers for each text. The vectors have length 1, so that the similarity (cosine) of two texts is the
/// sum of the products of their numbers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf embed model.gguf \"A cat sits on the mat\" \"A kitten rests on a rug\"
  gguf embed model.gguf -f text.txt --raw vectors.npy       # a text a line; numpy.load reads them
  gguf embed model.gguf --pooling mean --json \"Hello\"
  cat text.txt | gguf embed model.gguf --similarity")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The texts (the lines of standard input when neither they nor --file are given)
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// File with a text a line, - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// How the hidden states of a text become one vector [default: what the file says]
    #[arg(long, value_name = "KIND")]
    pooling: Option<PoolingArg>,
    /// Do not bring vectors to length 1
    #[arg(long)]
    no_normalize: bool,
    /// Print the cosine of each text with each in place of the vectors
    #[arg(long)]
    similarity: bool,
    /// Write the vectors to this file, as numpy's .npy (f32, [texts, length])
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(raw) = &args.raw {
        // Before the work, which may be long.
        outputs::check(raw, 1, args.force)?;
    }
    let model = model_args::load(Some(&args.model), &args.run)?;
    let name = model_args::short_name(Some(&args.model));
    let texts = texts(args)?;
    let options = EmbeddingOptions {
        pooling: args.pooling.map(PoolingArg::pooling),
        normalize: !args.no_normalize,
        kv_type: args.run.kv_type,
    };
    let embedder = Embedder::new(model.clone(), args.run.pool()?, options).with_context(|| name.clone())?;
    if args.pooling.is_none() && model.decoder().pooling().is_none() {
        eprintln!("note: {name}: the file names no pooling: {} is taken", pooling_name(embedder.pooling()));
    }
    let mut tokens = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let options = EncodeOptions { add_special: true, parse_special: false };
        let ids = model.tokenizer().encode(text, options).with_context(|| format!("{name}: tokenizer"))?;
        embedder.check(&ids).with_context(|| format!("text {}", i + 1))?;
        tokens.push(ids);
    }
    let vectors = embedder.embed(&tokens).with_context(|| name.clone())?;
    if let Some(raw) = &args.raw {
        let bytes = npy(&vectors.concat(), embedder.length());
        outputs::write(raw, args.force, &bytes)?;
        let rows = vectors.iter().map(Vec::len).sum::<usize>() / embedder.length();
        eprintln!("{}: {rows} x {}", printable_path(raw), embedder.length());
        if !args.json && !args.similarity {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let counts: Vec<usize> = tokens.iter().map(Vec::len).collect();
    show(args, &embedder, &counts, &vectors)?;
    Ok(ExitCode::SUCCESS)
}

/// The texts: arguments, or lines that are not empty.
fn texts(args: &Args) -> anyhow::Result<Vec<String>> {
    if !args.texts.is_empty() {
        return Ok(args.texts.clone());
    }
    let all = model_args::read_text(args.file.as_deref().unwrap_or(Path::new("-")))?;
    let texts: Vec<String> = all.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if texts.is_empty() {
        bail!("no texts");
    }
    Ok(texts)
}

fn show(args: &Args, embedder: &Embedder, counts: &[usize], vectors: &[Vec<f32>]) -> anyhow::Result<()> {
    let length = embedder.length();
    let similarity = args.similarity.then(|| similarities(vectors));
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let texts: Vec<_> = counts
            .iter()
            .zip(vectors)
            .map(|(tokens, vector)| {
                let rows: Vec<&[f32]> = vector.chunks(length).collect();
                let embedding = if embedder.pooling() == Pooling::None { json!(rows) } else { json!(vector) };
                json!({ "tokens": tokens, "embedding": embedding })
            })
            .collect();
        let mut all = json!({
            "schema": 1, "pooling": pooling_name(embedder.pooling()), "normalized": !args.no_normalize,
            "length": length, "texts": texts,
        });
        if let Some(rows) = similarity {
            all["similarity"] = json!(rows);
        }
        writeln!(out, "{all}")?;
    } else if let Some(rows) = similarity {
        for row in rows {
            let row: Vec<String> = row.iter().map(|cosine| format!("{cosine:.4}")).collect();
            writeln!(out, "{}", row.join(" "))?;
        }
    } else {
        for row in vectors.iter().flat_map(|vector| vector.chunks(length)) {
            let row: Vec<String> = row.iter().map(|x| format!("{x:.6}")).collect();
            writeln!(out, "{}", row.join(" "))?;
        }
    }
    Ok(out.flush()?)
}

/// The cosine of each vector with each.
fn similarities(vectors: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths: Vec<f64> = vectors.iter().map(|v| dot(v, v).sqrt().max(f64::MIN_POSITIVE)).collect();
    let row = |(a, own): (&Vec<f32>, &f64)| {
        vectors.iter().zip(&lengths).map(|(b, other)| dot(a, b) / (own * other)).collect()
    };
    vectors.iter().zip(&lengths).map(row).collect()
}

/// Rows of `cols` floats as numpy's format 1.0.
fn npy(values: &[f32], cols: usize) -> Vec<u8> {
    const BEFORE: usize = 10;
    let rows = values.len() / cols.max(1);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    // The numbers begin at a multiple of 64.
    let padded = (BEFORE + header.len() + 1).next_multiple_of(64) - BEFORE;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}
