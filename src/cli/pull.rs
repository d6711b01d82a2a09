//! `gguf pull`: models from Hugging Face and from Ollama's registry.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use gguf_toolkit::memory;
use gguf_toolkit::net::{Choice, ClientOptions, Error, Phase, Plan, Progress, PullOptions, Settings, Wanted};
use gguf_toolkit::printable::printable;
use gguf_toolkit::stores::{self, Fetched, Places, Store};
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};

use crate::{model_args, progress, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;
/// How often a line is written where there is no terminal.
const A_LINE_EVERY: Duration = Duration::from_secs(5);

/// Fetches models, so that every command finds them by name. What is interrupted goes on from where it was.
///
/// ORG/REPO[:TYPE] is a repository of Hugging Face, and lands in its cache, where hf, transformers and llama.cpp find it
/// too; NAME[:TAG] is a model of Ollama's registry, and lands in Ollama's store. Standard output gets the path. HF_TOKEN
/// is for private and gated repositories, HF_ENDPOINT for a mirror.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf pull bartowski/Llama-3.2-1B-Instruct-GGUF             # the usual type, Q4_K_M
  gguf pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0
  gguf pull llama3.2:1b                                      # from Ollama's registry
  gguf pull meta-llama/Llama-3.2-1B-Instruct --checkpoint    # safetensors, for gguf convert
  gguf pull bartowski/Llama-3.2-1B-Instruct-GGUF --dry-run   # which files, and how large")]
pub(crate) struct Args {
    /// ORG/REPO[:TYPE], ORG/REPO/FILE.gguf, an address of such a page, or NAME[:TAG] of Ollama's registry
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Fetch the checkpoint (safetensors, configuration, tokenizer) in place of a GGUF file
    #[arg(long)]
    checkpoint: bool,
    /// A branch, a tag or a commit of the repository (default: main)
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// Leave out the projector of a model that sees or hears
    #[arg(long)]
    no_mmproj: bool,
    /// Only show what would be fetched
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    net: NetArgs,
}

/// How servers are asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NetArgs {
    /// Connections at a time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=32))]
    connections: u8,
    /// Tries after one that failed, while no byte comes
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u8).range(0..=100))]
    retries: u8,
    /// Fetch nothing, take what is on this machine
    #[arg(long)]
    offline: bool,
}

impl NetArgs {
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let options = ClientOptions {
            connections: self.connections.into(),
            retries: self.retries.into(),
            ..ClientOptions::default()
        };
        let settings = Settings::from_environment(options)?;
        Ok(if self.offline { settings.offline() } else { settings })
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.net.settings()?;
    let options = PullOptions {
        wanted: if args.checkpoint { Wanted::Checkpoint } else { Wanted::Model { projector: !args.no_mmproj } },
        revision: args.revision.clone(),
        room: memory::available(),
    };
    let mut objects = Vec::new();
    for name in &args.names {
        if settings.is_offline() {
            let here = Here::find(name, args)?;
            objects.push(here.object(args.dry_run));
            match (args.json, args.dry_run) {
                (true, _) => {}
                (false, true) => here.show()?,
                (false, false) => print_path(&here.path)?,
            }
            continue;
        }
        let plan = Plan::new(&settings, name, &options).map_err(with_advice)?;
        let path = if args.dry_run {
            if !args.json {
                show(&plan)?;
            }
            None
        } else {
            let path = fetch(&settings, &plan)?;
            if !args.json {
                print_path(&path)?;
            }
            Some(path)
        };
        objects.push(object(&plan, path.as_deref()));
    }
    if args.json {
        model_args::print(&format!("{:#}\n", Json::from(objects)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A model or a checkpoint that is on this machine, where no server is asked.
struct Here {
    name: String,
    store: Store,
    path: PathBuf,
    /// Names and bytes.
    files: Vec<(String, u64)>,
}

impl Here {
    fn find(name: &str, args: &Args) -> anyhow::Result<Self> {
        if let Some(revision) = &args.revision {
            bail!("--revision {}: which commit it is, a server says; none is asked offline", printable(revision));
        }
        let found = Places::from_environment().resolve(name);
        let (name, store, path, files) = match (found, args.checkpoint) {
            (Ok(located), false) => {
                let files = located.files();
                (located.name, located.store, located.path, files)
            }
            (Err(stores::Error::Checkpoint { path }), true) => {
                let entries = fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
                (name.to_owned(), Store::HuggingFace, path, entries)
            }
            _ => bail!(Error::Offline { name: name.to_owned() }),
        };
        let file = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
            Some((path.file_name()?.to_string_lossy().into_owned(), metadata.len()))
        };
        let mut files: Vec<_> = files.iter().filter_map(file).collect();
        files.sort();
        Ok(Self { name, store, path, files })
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    fn show(&self) -> anyhow::Result<()> {
        let text: String = self.files.iter().map(|(name, bytes)| file_line(name, *bytes, true)).collect();
        model_args::print(&text)?;
        eprintln!("{}: nothing to fetch, {} are here", printable(&self.name), units::bytes(self.bytes()));
        Ok(())
    }

    fn object(&self, dry_run: bool) -> Json {
        json!({
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "store": self.store.name(),
            "path": if dry_run { None } else { Some(self.path.to_string_lossy()) },
            "bytes": self.bytes(),
            "bytes_to_fetch": 0,
            "types": [],
            "files": self.files.iter().map(|(name, bytes)| file_json(name, *bytes, true)).collect::<Vec<_>>(),
        })
    }
}

fn file_line(name: &str, bytes: u64, is_here: bool) -> String {
    let here = if is_here { "  (here already)" } else { "" };
    format!("{:>10}  {}{here}\n", units::bytes(bytes), printable(name))
}

fn file_json(name: &str, bytes: u64, is_here: bool) -> Json {
    json!({ "name": name, "bytes": bytes, "was_here": is_here })
}

fn print_path(path: &Path) -> anyhow::Result<()> {
    model_args::print(&format!("{}\n", path.display()))
}

/// Fetches a model as [`run`] does, for commands that need it. Returns its name.
pub(crate) fn pull_model(name: &str, net: &NetArgs) -> anyhow::Result<String> {
    let settings = net.settings()?;
    let options = PullOptions { wanted: Wanted::Model { projector: false }, revision: None, room: memory::available() };
    let plan = Plan::new(&settings, name, &options).map_err(with_advice)?;
    fetch(&settings, &plan)?;
    Ok(plan.name)
}

/// As [`pull_model`], for commands that have no options for it.
pub(crate) fn pull_usual(name: &str) -> anyhow::Result<String> {
    pull_model(name, &NetArgs { connections: 4, retries: 7, offline: false })
}

/// What can be done about an error; the library knows no options.
fn with_advice(error: Error) -> anyhow::Error {
    match &error {
        Error::NoModel { hint, .. } if hint.contains("safetensors,") => {
            anyhow::anyhow!("{error} (--checkpoint fetches it)")
        }
        _ => error.into(),
    }
}

/// Fetches what is planned, and tells on standard error how that goes.
fn fetch(settings: &Settings, plan: &Plan) -> anyhow::Result<PathBuf> {
    tell_choice(plan);
    let missing = plan.bytes_to_fetch();
    let started = Instant::now();
    let name = printable(&plan.name).to_string();
    // What was there before is another program's.
    let new: Vec<PathBuf> = plan.entries().into_iter().filter(|path| !path.exists()).collect();
    let display = Display::new(plan.bytes());
    let path = plan.fetch(settings, &|progress| display.update(&progress));
    display.end();
    let path = path?;
    if let Err(error) = Fetched::from_environment().add(&new) {
        eprintln!(
            "warning: gguf rm will ask for --force, the list of what gguf has fetched cannot be written: {error}"
        );
    }
    if missing == 0 {
        eprintln!("{name}: here already, {}", units::bytes(plan.bytes()));
    } else {
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{name}: {} in {seconds:.1} s, checksums match", units::bytes(missing));
    }
    Ok(path)
}

/// Says which of several models is taken, and why.
fn tell_choice(plan: &Plan) {
    let why = match plan.choice {
        Choice::Named => return,
        Choice::Usual => "the usual type",
        Choice::Fits => "the largest type that fits the memory of this machine",
        Choice::Smallest => "the smallest type, and still too large for the memory of this machine",
    };
    let others: Vec<&str> =
        plan.types.iter().map(String::as_str).filter(|ty| !plan.name.ends_with(&format!(":{ty}"))).collect();
    let (name, others) = (printable(&plan.name), others.join(", "));
    eprintln!("{name}: {why} (there is also {})", printable(&others).limit(400));
}

/// What would be fetched.
fn show(plan: &Plan) -> anyhow::Result<()> {
    tell_choice(plan);
    let text: String = plan.files.iter().map(|file| file_line(&file.name, file.bytes, file.is_here)).collect();
    model_args::print(&text)?;
    eprintln!(
        "{}: {} to fetch of {}",
        printable(&plan.name),
        units::bytes(plan.bytes_to_fetch()),
        units::bytes(plan.bytes())
    );
    Ok(())
}

fn object(plan: &Plan, path: Option<&Path>) -> Json {
    let files = plan.files.iter().map(|file| file_json(&file.name, file.bytes, file.is_here));
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": plan.name,
        "store": plan.store.name(),
        "path": path.map(Path::to_string_lossy),
        "bytes": plan.bytes(),
        "bytes_to_fetch": plan.bytes_to_fetch(),
        "types": plan.types,
        "files": files.collect::<Vec<_>>(),
    })
}

/// How far it is: a bar on a terminal, a line from time to time elsewhere.
struct Display {
    bar: ProgressBar,
    started: Instant,
    last: Mutex<LastShown>,
}

struct LastShown {
    at: Instant,
    phase: Option<Phase>,
    file: String,
    /// Bytes that were there when the first came.
    before: Option<u64>,
}

impl Display {
    fn new(total: u64) -> Self {
        let last = LastShown { at: Instant::now(), phase: None, file: String::new(), before: None };
        Self { bar: progress::bytes(total, ""), started: Instant::now(), last: Mutex::new(last) }
    }

    /// Called from several threads.
    fn update(&self, progress: &Progress<'_>) -> bool {
        let Ok(mut last) = self.last.try_lock() else { return true };
        let is_new = last.phase != Some(progress.phase) || last.file != progress.file;
        if is_new {
            last.phase = Some(progress.phase);
            progress.file.clone_into(&mut last.file);
            let name = printable(progress.file.rsplit('/').next().unwrap_or_default()).limit(40).to_string();
            self.bar.set_message(match progress.phase {
                Phase::Waiting => format!("{name} (another program fetches it)"),
                Phase::Fetching => name,
                Phase::Checking => format!("{name} (checking)"),
            });
            self.bar.set_length(progress.total);
        }
        self.bar.set_position(progress.done);
        let before = *last.before.get_or_insert_with(|| {
            // What an earlier run has fetched says nothing of the rate of this one.
            self.bar.reset_eta();
            progress.done
        });
        if !std::io::stderr().is_terminal() && (last.at.elapsed() >= A_LINE_EVERY || progress.phase == Phase::Waiting) {
            last.at = Instant::now();
            self.line(progress, before);
        }
        true
    }

    fn line(&self, progress: &Progress<'_>, before: u64) {
        let name = printable(progress.file).limit(100).to_string();
        let far = format!("{} of {}", units::bytes(progress.done), units::bytes(progress.total));
        match progress.phase {
            Phase::Waiting => eprintln!("{name}: another program fetches it; waiting"),
            Phase::Checking => eprintln!("{name}: {far} checked"),
            Phase::Fetching => {
                let seconds = self.started.elapsed().as_secs().max(1);
                let rate = progress.done.saturating_sub(before) / seconds;
                let left = progress.total.saturating_sub(progress.done).checked_div(rate);
                let left = left.map_or_else(String::new, |left| format!(", {} left", time(left)));
                eprintln!("{name}: {far}, {}/s{left}", units::bytes(rate));
            }
        }
    }

    fn end(&self) {
        let _last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.finish_and_clear();
    }
}

/// Seconds as `1:02:03` or `2:03`.
fn time(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
