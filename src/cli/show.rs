//! `gguf show`: what a model is by its name, with the texts and settings that it was made with.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use gguf_toolkit::gguf::{Reader, Value, keys};
use gguf_toolkit::inspect::{Ability, Summary};
use gguf_toolkit::modelfile::{Setup, modelfile_of, parameter_lines, parameter_size};
use gguf_toolkit::printable::printable;
use gguf_toolkit::stores::Located;
use serde_json::{Value as Json, json};

use crate::pager::Output;
use crate::{model_args, units};

/// Version of the object of `--json`.
const SCHEMA_VERSION: u32 = 1;
/// Lines of a long text that are shown among others.
const MOST_LINES: usize = 5;

/// Shows what a model is, as Ollama does: its file, what it can do, the settings, system prompt and license that it was made with.
/// gguf inspect shows what is inside the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf show llama3.2:1b
  gguf show llama3.2:1b --modelfile > Modelfile
  gguf show llama3.2:1b --parameters
  gguf show llama3.2:1b --json | jq -r .system")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Print the recipe (Modelfile) that makes a model like this one
    #[arg(long, group = "part")]
    modelfile: bool,
    /// Print the template: the model's own (of Ollama), else that of its file
    #[arg(long, group = "part")]
    template: bool,
    /// Print the settings
    #[arg(long, group = "part")]
    parameters: bool,
    /// Print the licenses
    #[arg(long, group = "part")]
    license: bool,
    /// Print the system prompt
    #[arg(long, group = "part")]
    system: bool,
    /// Print a JSON object
    #[arg(long, conflicts_with = "part")]
    json: bool,
}

/// A model with what is known of it.
struct Shown {
    located: Located,
    summary: Summary,
    setup: Setup,
    template: String,
    licenses: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = Shown::of(args)?;
    let parameters = || shown.setup.parameters.as_ref().map(parameter_lines).unwrap_or_default();
    let part = match args {
        Args { modelfile: true, .. } => Some(modelfile_of(&shown.located, true)),
        Args { template: true, .. } => Some(shown.template.clone()),
        Args { parameters: true, .. } => Some(parameters()),
        Args { license: true, .. } => Some(shown.licenses.join("\n\n")),
        Args { system: true, .. } => Some(shown.setup.system.clone().unwrap_or_default()),
        Args { json: true, .. } => Some(format!("{:#}", shown.json())),
        _ => None,
    };
    let mut out = Output::new();
    let text = match part {
        Some(part) if part.ends_with('\n') || part.is_empty() => part,
        Some(part) => part + "\n",
        None => shown.sections(),
    };
    std::io::Write::write_all(&mut out, text.as_bytes())?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

impl Shown {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let located = model_args::locate(&args.model)?;
        let reader = Reader::open_any(&located.path).with_context(|| printable(&located.name).to_string())?;
        let own = reader.metadata().get(keys::TOKENIZER_CHAT_TEMPLATE).and_then(Value::as_str);
        let template = located.layers.template.clone().or_else(|| own.map(str::to_owned)).unwrap_or_default();
        let summary = Summary::new(&reader);
        let mut licenses = located.layer_texts("license");
        if licenses.is_empty() {
            licenses.extend(summary.license.clone());
        }
        let setup = Setup::new(&located.layers, reader.metadata());
        Ok(Self { located, summary, setup, template, licenses })
    }

    /// What it can do, in Ollama's words.
    fn capabilities(&self) -> Vec<&'static str> {
        let can_run = self
            .summary
            .usable
            .as_ref()
            .is_ok_and(|all| all.iter().any(|ability| matches!(ability, Ability::Chat | Ability::Complete)));
        let source = self.setup.template.as_deref();
        let of_setup = source.map(gguf_toolkit::inspect::TemplateFeatures::of);
        let features = of_setup.or(self.summary.template);
        let mut all = Vec::new();
        all.extend(can_run.then_some("completion"));
        all.extend(features.is_some_and(|features| features.tools).then_some("tools"));
        all.extend(features.is_some_and(|features| features.thinking).then_some("thinking"));
        all
    }

    fn json(&self) -> Json {
        let message =
            |message: &gguf_toolkit::engine::Message| json!({ "role": message.role, "content": message.content });
        json!({
            "schema_version": SCHEMA_VERSION,
            "name": self.located.name,
            "id": self.located.digest().map(|digest| digest.digits().to_owned()),
            "store": self.located.store.name(),
            "path": self.located.path.to_string_lossy(),
            "bytes": self.summary.file_bytes,
            "architecture": self.summary.architecture,
            "parameter_count": self.summary.parameters,
            "context_length": self.summary.context_length,
            "embedding_length": self.summary.embedding_length,
            "file_type_name": self.summary.file_type_name(),
            "capabilities": self.capabilities(),
            "parameters": self.setup.parameters,
            "template": self.template,
            "system": self.setup.system,
            "messages": self.setup.messages.iter().map(message).collect::<Vec<_>>(),
            "adapters": self.setup.adapters.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "licenses": self.licenses,
            "warning": self.setup.warning,
        })
    }

    fn sections(&self) -> String {
        let mut text = String::new();
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(
                    text,
                    "  {title}\n{}",
                    lines.iter().map(|line| format!("    {line}\n")).collect::<String>()
                );
            }
        };
        let summary = &self.summary;
        let rows = [
            ("architecture", summary.architecture.as_deref().map(|name| printable(name).to_string())),
            ("parameters", Some(parameter_size(summary.parameters))),
            ("context length", summary.context_length.map(|n| n.to_string())),
            ("embedding length", summary.embedding_length.map(|n| n.to_string())),
            ("quantization", summary.file_type_name().map(str::to_owned)),
            ("size", Some(units::bytes(summary.file_bytes))),
            ("store", Some(self.located.store.name().to_owned())),
            ("adapters", Some(self.setup.adapters.len()).filter(|n| *n > 0).map(|n| n.to_string())),
        ];
        let row = |(name, value): (&str, Option<String>)| value.map(|value| format!("{name:<20}{value}"));
        section("Model", rows.into_iter().filter_map(row).collect());
        section("Capabilities", self.capabilities().into_iter().map(str::to_owned).collect());
        let lines = |text: &str| -> Vec<String> { text.lines().map(|line| printable(line).to_string()).collect() };
        let few = |text: &str| -> Vec<String> {
            let mut all = lines(text);
            if all.len() > MOST_LINES {
                all.truncate(MOST_LINES);
                all.push("...".to_owned());
            }
            all
        };
        let parameters = self.setup.parameters.as_ref().map(parameter_lines).unwrap_or_default();
        section("Parameters", lines(&parameters));
        section("System", self.setup.system.as_deref().map(&few).unwrap_or_default());
        let message = |message: &gguf_toolkit::engine::Message| {
            format!(
                "{:<12}{}",
                printable(&message.role),
                printable(message.content.lines().next().unwrap_or_default()).limit(80)
            )
        };
        section("Messages", self.setup.messages.iter().map(message).collect());
        section("License", self.licenses.first().map(|license| few(license)).unwrap_or_default());
        section("Warning", self.setup.warning.iter().map(|warning| printable(warning).to_string()).collect());
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}
