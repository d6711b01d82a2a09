//! `gguf bench --url`: how long the clients of a server wait.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use gguf_toolkit::bench::{self, LoadOptions, LoadReport, LoadServer};
use gguf_toolkit::printable::printable;

use crate::interrupt::Catching;
use crate::{model_args, progress};

/// Load on a server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load on a server")]
pub(super) struct LoadArgs {
    /// Measure this server in place of a model, by streams of /v1/completions
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "shape", "prompt", "generation", "depth", "repetitions", "batch"])]
    url: Option<String>,
    /// Its model [default: the first that it lists]
    #[arg(long = "model", value_name = "NAME", requires = "url")]
    name: Option<String>,
    /// Key that it wants
    #[arg(long, value_name = "KEY", requires = "url")]
    api_key: Option<String>,
    /// Requests under way at once
    #[arg(long, value_name = "N", requires = "url", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Requests in all
    #[arg(long, value_name = "N", requires = "url", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Words of each prompt, nearly as many tokens
    #[arg(long, value_name = "N", requires = "url", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    prompt_tokens: u32,
    /// Words that all prompts begin with, besides
    #[arg(long, value_name = "N", requires = "url", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    shared_tokens: u32,
    /// Tokens of each answer
    #[arg(long, value_name = "N", requires = "url", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_tokens: u32,
    /// Requests that begin in a second, at random times [default: as many as may be under way]
    #[arg(long, value_name = "RATE", requires = "url", value_parser = rate)]
    request_rate: Option<f64>,
    /// Chooses prompts and times
    #[arg(long, value_name = "N", requires = "url", default_value_t = 0)]
    seed: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate: &f64| *rate >= 1e-3 && *rate <= 1e6).ok_or("a number from 0.001 to 1000000".into())
}

/// Measures the server, where one is named.
pub(super) fn run(args: &LoadArgs, json: bool) -> anyhow::Result<Option<ExitCode>> {
    let Some(url) = &args.url else { return Ok(None) };
    let server = LoadServer::new(url, args.api_key.clone())?;
    let options = LoadOptions {
        model: args.name.clone(),
        concurrency: args.concurrency.into(),
        requests: args.requests as usize,
        prompt_words: args.prompt_tokens as usize,
        shared_words: args.shared_tokens as usize,
        max_tokens: args.max_tokens as usize,
        request_rate: args.request_rate,
        seed: args.seed,
    };
    let catching = Catching::new();
    let bar = progress::steps(args.requests.into(), "requests");
    let report = bench::load(&server, &options, &|done| {
        bar.set_position(done as u64);
        !catching.interrupted()
    });
    bar.finish_and_clear();
    let report = report.context("bench --url")?;
    let text = if json { format!("{:#}\n", report.json()) } else { table(&report) };
    model_args::print(&text)?;
    if catching.interrupted() {
        return Ok(Some(ExitCode::from(130)));
    }
    if let Some(error) = &report.first_error {
        eprintln!("{} of {} requests failed; the first: {}", report.failed, args.requests, printable(error));
        return Ok(Some(ExitCode::from(1)));
    }
    Ok(Some(ExitCode::SUCCESS))
}

fn table(report: &LoadReport) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "| ms                  |     mean |   median |      p99 |      max |");
    let _ = writeln!(out, "| ------------------- | -------: | -------: | -------: | -------: |");
    for (name, _, figures) in report.figures() {
        let (mean, median, p99, most) = (figures.mean, figures.median, figures.p99, figures.most);
        let _ = writeln!(out, "| {name:<19} | {mean:>8.1} | {median:>8.1} | {p99:>8.1} | {most:>8.1} |");
    }
    let (completed, input, output) = (report.completed, report.input_tokens, report.output_tokens);
    let _ = writeln!(
        out,
        "\n- model: {}\n- requests: {completed} in {:.1} s, {:.2} a second, {} at once\n\
         - output tokens: {output}, {:.1} a second\n- all tokens: {}, {:.1} a second",
        printable(&report.model),
        report.duration.as_secs_f64(),
        report.rate(completed),
        report.options.concurrency,
        report.rate(output),
        input + output,
        report.rate(input + output),
    );
    out
}
