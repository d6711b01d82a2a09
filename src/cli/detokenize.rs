//! `gguf detokenize`: tokens back to text.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::printable::printable;
use gguf_toolkit::tokenizer::{Error, Tokenizer};
use serde_json::json;

use crate::model_args;

/// Turns tokens back to text: exactly the bytes that they stand for.
///
/// Ids are separated by spaces, commas or newlines; JSON arrays are understood too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf detokenize model.gguf 906 11 1917 0
  gguf detokenize model.gguf \"[906, 11, 1917, 0]\"
  gguf tokenize model.gguf --ids < book.txt | gguf detokenize model.gguf
  gguf detokenize model.gguf --special --json < ids.txt
  gguf detokenize 1,403,1501                                # the embedded model's")]
pub(crate) struct Args {
    /// File, name or checkpoint folder; the embedded model when only ids are given
    #[arg(value_name = "MODEL", allow_negative_numbers = true)]
    first: Option<String>,
    /// Ids (standard input when none are given)
    #[arg(value_name = "IDS", allow_negative_numbers = true)]
    rest: Vec<String>,
    /// Show control tokens by their names
    #[arg(long)]
    special: bool,
    /// Pre-tokenizer of a checkpoint's folder, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = model_args::pre_tokenizers(), hide_possible_values = true)]
    pre: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut words = args.rest.clone();
    let path = match &args.first {
        Some(first) if !Path::new(first).exists() && looks_like_ids(first) => {
            words.insert(0, first.clone());
            None
        }
        first => first.as_ref().map(PathBuf::from),
    };
    let tokenizer = model_args::tokenizer(path.as_deref(), args.pre.as_deref())?;
    let text = if words.is_empty() { model_args::read_text(Path::new("-"))? } else { words.join(" ") };
    let tokens = known(&ids(&text)?, &tokenizer).with_context(|| model_args::short_name(path.as_ref()))?;
    let bytes = tokenizer.decode_bytes(&tokens, args.special);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({ "count": tokens.len(), "text": String::from_utf8_lossy(&bytes) }))?;
    } else if out.is_terminal() {
        // What could steer the terminal is shown, not done; lines stay lines.
        for line in bytes.split(|&byte| byte == b'\n') {
            writeln!(out, "{}", printable(line))?;
        }
    } else {
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether `text` begins as ids do.
fn looks_like_ids(text: &str) -> bool {
    let first = text.trim_start_matches(['[', ' ']).split([',', ' ', ']']).next();
    first.is_some_and(|word| word.parse::<i128>().is_ok())
}

/// The numbers in `text`.
fn ids(text: &str) -> anyhow::Result<Vec<u64>> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
    words
        .map(|word| word.parse().map_err(|_| anyhow::anyhow!("{} is no token id", printable(word).limit(40))))
        .collect()
}

/// `ids` as tokens of the vocabulary.
fn known(ids: &[u64], tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    let tokens = tokenizer.vocab_size();
    let known = |&token: &u64| match u32::try_from(token) {
        Ok(id) if (id as usize) < tokens => Ok(id),
        _ => bail!(Error::UnknownToken { token, tokens }),
    };
    ids.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn ids_come_in_many_forms() {
        assert_eq!(ids("1 2,3\n[4, 5]\t6,").expect("ids"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ids("1 -2").expect_err("no id").to_string(), "-2 is no token id");
        assert!(ids("").expect("none").is_empty());
    }
}
