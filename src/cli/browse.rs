//! `gguf browse`: what Hugging Face has to fetch.

use std::process::ExitCode;

use gguf_toolkit::memory;
use gguf_toolkit::net::{Offered, Offers, SearchHit, Settings, offers, search};
use gguf_toolkit::printable::printable;
use gguf_toolkit::stores::{Entry, Places, Store};
use serde_json::{Value as Json, json};

use crate::pull::NetArgs;
use crate::table::{Column, Table};
use crate::{model_args, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Searches Hugging Face for repositories of GGUF files, those that are fetched most often first; or lists the models of one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf browse llama                                          # repositories whose names have this in them
  gguf browse bartowski/Llama-3.2-1B-Instruct-GGUF           # the models of one: types, sizes
  gguf browse llama --json | jq -r '.[].name'")]
pub(crate) struct Args {
    /// What names shall have in them; or the name of one repository (ORG/NAME)
    #[arg(value_name = "TEXT", default_value = "")]
    text: String,
    /// Most repositories
    #[arg(long, short = 'n', value_name = "N", default_value = "30", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print a JSON array with an object for each repository or model
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    net: NetArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.net.settings()?;
    if args.text.contains('/') { models(args, &settings) } else { repositories(args, &settings) }
}

fn repositories(args: &Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let found = search(settings, &args.text, args.limit)?;
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

fn models(args: &Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let offers = offers(settings, &args.text)?;
    let room = memory::available();
    if args.json {
        let all: Json = offers.models.iter().map(|model| model_json(&offers, model, room)).collect();
        model_args::print(&format!("{all:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if offers.models.is_empty() {
        eprintln!("{}: no GGUF files", printable(&offers.repository));
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column::names("name"),
        Column::right("size"),
        Column::right("bits/weight").optional(1),
        Column::right("files").optional(3),
        Column::left("fits").optional(2),
        Column::left("here"),
    ];
    let mut table = Table::new(columns);
    for model in &offers.models {
        table.row([
            printable(&model.name).to_string(),
            units::bytes(model.bytes),
            model.bits_per_weight.map_or_else(String::new, |bits| format!("{bits:.2}")),
            model.files.to_string(),
            room.map_or("", |room| if model.needs_bytes <= room { "yes" } else { "no" }).to_owned(),
            if model.is_here { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
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

fn model_json(offers: &Offers, model: &Offered, room: Option<u64>) -> Json {
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": model.name,
        "type": model.quant,
        "path": model.path,
        "files": model.files,
        "bytes": model.bytes,
        "parameters": offers.parameters,
        "architecture": offers.architecture,
        "bits_per_weight": model.bits_per_weight,
        "fits": room.map(|room| model.needs_bytes <= room),
        "here": model.is_here,
    })
}
