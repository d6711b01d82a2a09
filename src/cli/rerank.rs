//! `gguf rerank`: documents in the order of how well they answer a query.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::Reranker;
use gguf_toolkit::printable::printable;
use serde_json::json;

use crate::model_args::{self, RunArgs};

/// Orders documents by how well they answer a query.
///
/// Prints a line for each document, the best first: its score, its number, its text. Needs a model that was made for it, with
/// a classification head, such as BGE's, MiniLM's and Qwen's rerankers. What scores mean depends on the model; Qwen's are
/// shares from 0 to 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf rerank reranker.gguf \"What do cats eat?\" \"Cats eat mice.\" \"Stocks fell on Monday.\"
  gguf rerank reranker.gguf \"What do cats eat?\" -f documents.txt --top 3     # a document a line
  cat documents.txt | gguf rerank reranker.gguf --json \"What do cats eat?\"")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What is asked
    #[arg(value_name = "QUERY")]
    query: String,
    /// The documents (the lines of standard input when neither they nor --file are given)
    #[arg(value_name = "DOC")]
    documents: Vec<String>,
    /// File with a document a line, - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "documents")]
    file: Option<PathBuf>,
    /// Print only this many, the best
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = model_args::load(Some(&args.model), &args.run)?;
    let name = model_args::short_name(Some(&args.model));
    let reranker = Reranker::new(model, args.run.pool()?, args.run.kv_type).with_context(|| name.clone())?;
    let documents = documents(args)?;
    let pair = |(i, document): (usize, &String)| {
        reranker.pair(&args.query, document).with_context(|| format!("document {}", i + 1))
    };
    let pairs: Vec<_> = documents.iter().enumerate().map(pair).collect::<Result<_, _>>()?;
    let scores = reranker.scores(&pairs, &|| false).with_context(|| name.clone())?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(args.top.map_or(usize::MAX, |top| top as usize));
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let results: Vec<_> = order
            .iter()
            .map(|&i| {
                json!({ "index": i, "score": scores[i], "tokens": pairs[i].tokens.len(), "document": documents[i] })
            })
            .collect();
        writeln!(out, "{}", json!({ "schema": 1, "query": args.query, "results": results }))?;
    } else {
        let width = documents.len().to_string().len();
        for i in order {
            writeln!(out, "{:>10.6}  {:>width$}  {}", scores[i], i + 1, printable(&documents[i]))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The documents: arguments, or lines that are not empty.
fn documents(args: &Args) -> anyhow::Result<Vec<String>> {
    if !args.documents.is_empty() {
        return Ok(args.documents.clone());
    }
    let all = model_args::read_text(args.file.as_deref().unwrap_or(Path::new("-")))?;
    let documents: Vec<String> = all.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if documents.is_empty() {
        bail!("no documents");
    }
    Ok(documents)
}
