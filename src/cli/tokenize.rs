//! `gguf tokenize`: how a text becomes tokens.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::printable::printable;
use gguf_toolkit::tokenizer::{EncodeOptions, TokenKind, Tokenizer};
use serde_json::json;

use crate::{model_args, terminal};

/// Shows the tokens of a text: a line each, with its id and the text it stands for.
///
/// Control tokens that are spelled out in the text, such as <|im_end|>, are text like any other unless --special.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf tokenize model.gguf \"Hello, world!\"
  gguf tokenize model.gguf -f book.txt --count
  gguf tokenize ./Llama-3.2-1B-Instruct < prompt.txt        # a checkpoint's tokenizer, without weights
  gguf tokenize model.gguf --special \"<|im_start|>user\" --json
  gguf tokenize model.gguf --ids \"Hello\" | gguf detokenize model.gguf
  gguf tokenize \"Once upon a time\"                          # the embedded model's")]
pub(crate) struct Args {
    /// File, name or checkpoint folder; the embedded model when only a text is given
    #[arg(value_name = "MODEL", allow_negative_numbers = true)]
    first: Option<String>,
    /// The text (standard input when neither it nor --file is given)
    #[arg(value_name = "TEXT", allow_negative_numbers = true)]
    second: Option<String>,
    /// Text file, - for standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A second text, for models that compare two
    #[arg(long, value_name = "TEXT")]
    pair: Option<String>,
    /// Print the ids alone, in one line
    #[arg(long, conflicts_with_all = ["count", "json"])]
    ids: bool,
    /// Print the number of tokens alone
    #[arg(long, conflicts_with = "json")]
    count: bool,
    /// Do not add the tokens that begin and end a text
    #[arg(long)]
    no_bos: bool,
    /// Take control tokens that are spelled out in the text for what they spell
    #[arg(long)]
    special: bool,
    /// Take them for text like any other (the default here; `logits` has the same two options)
    #[arg(long, conflicts_with = "special")]
    no_special: bool,
    /// Pre-tokenizer of a checkpoint's folder, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = model_args::pre_tokenizers(), hide_possible_values = true)]
    pre: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (path, text) = match (&args.first, &args.second) {
        (Some(only), None) if args.file.is_none() && !model_args::is_model(only) => (None, Some(only.clone())),
        (first, second) => (first.as_ref().map(PathBuf::from), second.clone()),
    };
    let tokenizer = model_args::tokenizer(path.as_deref(), args.pre.as_deref())?;
    let text = match (text, &args.file) {
        (Some(_), Some(_)) => bail!("a text or --file, not both"),
        (Some(text), None) => text,
        (None, file) => model_args::read_text(file.as_deref().unwrap_or(Path::new("-")))?,
    };
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: args.special && !args.no_special };
    let name = model_args::short_name(path.as_ref());
    let tokens = match &args.pair {
        None => tokenizer.encode(&text, options),
        Some(second) => tokenizer.encode_pair(&text, second, options),
    };
    let tokens = tokens.with_context(|| format!("{name}: tokenizer"))?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.count {
        writeln!(out, "{}", tokens.len())?;
    } else if args.ids {
        let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
    } else if args.json {
        writeln!(out, "{:#}", as_json(&tokenizer, &tokens))?;
    } else {
        show(&tokenizer, &tokens, &mut out)?;
        out.flush()?;
        let bytes = text.len() + args.pair.as_ref().map_or(0, String::len);
        eprintln!("{name}: {} tokens, {bytes} bytes", tokens.len());
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn show(tokenizer: &Tokenizer, tokens: &[u32], out: &mut impl Write) -> io::Result<()> {
    let coloured = terminal::is_rich();
    let width = tokens.iter().max().map_or(1, |id| id.to_string().len());
    for &token in tokens {
        let piece = tokenizer.piece(token);
        let colour = match tokenizer.kind(token) {
            _ if !coloured => "",
            TokenKind::Control | TokenKind::Unknown => "\x1b[35m",
            // A part of a character.
            _ if std::str::from_utf8(piece).is_err() => "\x1b[33m",
            _ => "\x1b[32m",
        };
        let (dim, end) = if coloured { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writeln!(out, "{dim}{token:width$}{end}  {colour}'{}'{end}", printable(piece))?;
    }
    Ok(())
}

/// An object for each token: its id, its kind, its text, and its bytes where these are no text of their own.
fn as_json(tokenizer: &Tokenizer, tokens: &[u32]) -> serde_json::Value {
    let tokens: Vec<_> = tokens
        .iter()
        .map(|&token| {
            let piece = tokenizer.piece(token);
            let text = String::from_utf8_lossy(piece);
            let mut object = json!({ "id": token, "text": text, "kind": kind(tokenizer.kind(token)) });
            if matches!(text, Cow::Owned(_)) {
                object["bytes"] = piece.into();
            }
            object
        })
        .collect();
    json!({ "count": tokens.len(), "tokens": tokens })
}

fn kind(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Normal => "normal",
        TokenKind::Unknown => "unknown",
        TokenKind::Control => "control",
        TokenKind::UserDefined => "user-defined",
        TokenKind::Unused => "unused",
        TokenKind::Byte => "byte",
    }
}
