//! `gguf browse`: what Hugging Face has to fetch, and what of it fits this machine.

use std::process::ExitCode;

use gguf_toolkit::compare::Evidence;
use gguf_toolkit::cpu::KvType;
use gguf_toolkit::inspect::Verdict;
use gguf_toolkit::kernels::{Isa, Pool};
use gguf_toolkit::net::{
    Badge, BadgeOptions, Basis, Offers, SearchHit, Settings, badges, bits_per_weight, loss, model_json, offers, search,
};
use gguf_toolkit::printable::printable;
use gguf_toolkit::stores::{Entry, Places, Store};
use serde_json::{Value as Json, json};

use crate::pager::Output;
use crate::pull::NetArgs;
use crate::table::{Column, Table};
use crate::{model_args, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 2;
/// Repositories whose models are shown, and repositories that are listed.
const WITH_MODELS: u16 = 3;
const LISTED: u16 = 30;

/// Searches Hugging Face for models in GGUF files: those of the repositories that are fetched most often, or of the one that is named,
/// each with its size, whether it fits this machine, and how fast it would be.
///
/// What fits is the estimate of gguf inspect --fit, from the header of each file where that is small, else from one header of the
/// repository and the sizes of the files. The quality is what gguf compare has measured: with ~, with another model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf browse llama                                          # models of the repositories whose names have this in them
  gguf browse llama --repositories                           # these repositories alone
  gguf browse bartowski/Llama-3.2-1B-Instruct-GGUF           # the models of one
  gguf browse bartowski/Llama-3.2-1B-Instruct-GGUF --ctx 32768 --kv-type q8_0
  gguf browse llama --json | jq -r '.[] | select(.fit == \"fits\") | .name'")]
pub(crate) struct Args {
    /// What names shall have in them; or the name of one repository (ORG/NAME)
    #[arg(value_name = "TEXT", default_value = "")]
    text: String,
    /// Most repositories (default: 3; 30 with --repositories)
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: Option<u16>,
    /// List repositories, not their models
    #[arg(long, short)]
    repositories: bool,
    /// Tokens of context (default: 4096, or what the model was trained on)
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Type of cached keys and values
    #[arg(long, value_name = "K[,V]", default_value = "f16", value_parser = model_args::parse_kv_type)]
    kv_type: KvType,
    /// Do not measure how fast this machine would be
    #[arg(long)]
    no_speed: bool,
    /// Print a JSON array with an object for each model or repository
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    net: NetArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.net.settings()?;
    if args.repositories {
        return repositories(args, &settings);
    }
    let names = if args.text.contains('/') {
        vec![args.text.clone()]
    } else {
        let found = search(&settings, &args.text, args.limit.unwrap_or(WITH_MODELS))?;
        found.into_iter().map(|hit| hit.name).collect()
    };
    let pool = Pool::with_isa(model_args::default_threads(), Isa::selected()?);
    let options = BadgeOptions { context: args.ctx.map(|n| n as usize), kv_type: args.kv_type, speed: !args.no_speed };
    let mut all: Vec<(Offers, Vec<Badge>)> = Vec::new();
    for name in &names {
        let offers = match offers(&settings, name) {
            Ok(offers) => offers,
            // One of several that a search has found must not hide the others.
            Err(error) if names.len() > 1 => {
                eprintln!("{}: left out: {error}", printable(name));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let badges = badges(&settings, &offers, &options, &pool);
        all.push((offers, badges));
    }
    show(args, &all)
}

fn show(args: &Args, all: &[(Offers, Vec<Badge>)]) -> anyhow::Result<ExitCode> {
    let models = || all.iter().flat_map(|(offers, badges)| offers.models.iter().zip(badges).map(move |m| (offers, m)));
    if args.json {
        let object = |(offers, (model, badge)): (&Offers, _)| {
            let mut object = model_json(offers, model, badge);
            object["schema_version"] = SCHEMA_VERSION.into();
            object
        };
        let all: Json = models().map(object).collect();
        model_args::print(&format!("{all:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if models().next().is_none() {
        match all {
            [(offers, _)] => eprintln!("{}: no GGUF files", printable(&offers.repository)),
            _ => eprintln!("nothing found"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column::names("name"),
        Column::right("size"),
        Column::right("bits/weight").optional(2),
        Column::left("type").optional(5),
        Column::right("needs").optional(4),
        Column::left("fit"),
        Column::right("tokens/s").optional(1),
        Column::left("quality").optional(3),
        Column::left("here"),
    ];
    let mut table = Table::new(columns);
    for (offers, (model, badge)) in models() {
        let quality = loss(offers, model, badge).map(|loss| {
            let about = if matches!(loss.evidence, Evidence::Estimated(_)) { "~" } else { "" };
            format!("{about}{}", loss.verdict.describe())
        });
        let verdict = badge.verdict.map_or("not known", Verdict::name);
        table.row([
            printable(&model.name).to_string(),
            units::bytes(model.bytes),
            bits_per_weight(model, badge).map_or_else(String::new, |bits| format!("{bits:.2}")),
            model.quant.as_deref().map_or_else(String::new, |ty| printable(ty).limit(20).to_string()),
            units::bytes(badge.needs.total()),
            if badge.cannot_run.is_some() { "cannot be run" } else { verdict }.to_owned(),
            badge.answer_speed.map_or_else(|| "-".to_owned(), rate),
            quality.unwrap_or_default(),
            if model.is_here { "yes" } else { "" }.to_owned(),
        ]);
    }
    let mut out = Output::new();
    table.write(&mut out)?;
    out.finish()?;
    footnotes(models().map(|(offers, (model, badge))| (badge, loss(offers, model, badge))));
    Ok(ExitCode::SUCCESS)
}

/// Three digits of a rate.
fn rate(rate: f64) -> String {
    if rate < 99.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// What the estimates are made from.
fn footnotes<'b>(models: impl Iterator<Item = (&'b Badge, Option<gguf_toolkit::compare::ExpectedLoss>)>) {
    let (mut contexts, mut by_size, mut scaled, mut reason, mut others) = (Vec::new(), false, false, None, None);
    for (badge, loss) in models {
        contexts.extend(badge.context);
        by_size |= badge.basis == Basis::Size;
        scaled |= badge.basis == Basis::Scaled;
        reason = reason.or(badge.cannot_run.clone());
        if let Some(Evidence::Estimated(name)) = loss.map(|loss| loss.evidence) {
            others = Some(name);
        }
    }
    contexts.sort_unstable();
    contexts.dedup();
    let contexts: Vec<String> = contexts.iter().map(usize::to_string).collect();
    if !contexts.is_empty() {
        eprintln!("fit with a context of {} tokens (--ctx)", contexts.join(", "));
    }
    if scaled {
        eprintln!("some by the header of another file of their repository, and the sizes of both");
    }
    if by_size {
        eprintln!("some by the size of the file alone: an eighth more for the cache, and 256 MiB");
    }
    if let Some(reason) = reason {
        eprintln!("cannot be run: {}", printable(&reason));
    }
    if let Some(name) = others {
        eprintln!("~ estimated: measured with {name}; larger models usually lose less");
    }
}

fn repositories(args: &Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let found = search(settings, &args.text, args.limit.unwrap_or(LISTED))?;
    let here = Places::from_environment().list();
    let is_here = |found: &SearchHit| here.iter().any(|entry| is_of(entry, &found.name));
    if args.json {
        let all: Json = found.iter().map(|found| repository_json(found, is_here(found))).collect();
        model_args::print(&format!("{all:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        eprintln!("nothing found");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column::names("repository"),
        Column::right("parameters").optional(2),
        Column::left("architecture").optional(3),
        Column::right("downloads").optional(1),
        Column::right("likes").optional(4),
        Column::left("here"),
    ];
    let mut table = Table::new(columns);
    for repository in &found {
        table.row([
            printable(&repository.name).to_string(),
            repository.parameters.map_or_else(String::new, units::count),
            repository.architecture.as_deref().map_or_else(String::new, |name| printable(name).limit(20).to_string()),
            units::count(repository.downloads),
            units::count(repository.likes),
            if is_here(repository) { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a model of this machine is one of a repository's.
fn is_of(entry: &Entry, repository: &str) -> bool {
    let name = entry.located.name.split(':').next().unwrap_or_default();
    entry.located.store == Store::HuggingFace && name.eq_ignore_ascii_case(repository)
}

fn repository_json(found: &SearchHit, is_here: bool) -> Json {
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": found.name,
        "parameters": found.parameters,
        "architecture": found.architecture,
        "downloads": found.downloads,
        "likes": found.likes,
        "gated": found.is_gated,
        "changed": found.changed,
        "here": is_here,
    })
}
