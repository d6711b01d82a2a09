//! Tools of a chat: definitions with the command lines that a user has written for them. Nothing is run without the user's word.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use gguf_toolkit::engine::{ToolCall, Tools};
use gguf_toolkit::printable::printable_path;
use serde_json::{Map, Value as Json};

use crate::model_args;

/// Bytes of a result, at most.
const MOST_BYTES: usize = 64 << 10;

/// A tool that can be run.
struct Tool {
    name: String,
    /// The program and its arguments, in which `{parameter}` stands for an argument of the call.
    command: Vec<String>,
    /// Where programs with relative paths lie: the folder of the definition.
    folder: PathBuf,
}

/// All of them.
#[derive(Default)]
pub(super) struct Toolbox {
    all: Vec<Tool>,
    pub(super) tools: Tools,
}

impl Toolbox {
    /// The tools of a JSON file, or of all JSON files of a folder.
    ///
    /// # Errors
    /// When a file holds no definitions, or one without a command.
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let name = || printable_path(path).to_string();
            let entries = std::fs::read_dir(path).with_context(name)?;
            files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(name)?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
            files.sort();
        }
        let (mut all, mut definitions) = (Vec::new(), Vec::new());
        for file in files {
            let name = printable_path(&file).to_string();
            let json: Json = serde_json::from_str(&model_args::read_text(&file)?).with_context(|| name.clone())?;
            let list = match json.get("tools").unwrap_or(&json) {
                Json::Array(list) => list.clone(),
                one => vec![one.clone()],
            };
            for mut definition in list {
                all.push(tool(&mut definition, &file).with_context(|| name.clone())?);
                definitions.push(definition);
            }
        }
        if all.is_empty() {
            bail!("{}: no tools", printable_path(path));
        }
        Ok(Self { tools: Tools::new(&definitions)?, all })
    }

    /// A line for each tool.
    pub(super) fn list(&self) -> Vec<String> {
        self.all.iter().map(|tool| format!("{}: {}", tool.name, tool.command.join(" "))).collect()
    }

    /// The command line of a call; nothing for a tool that there is not.
    pub(super) fn command(&self, call: &ToolCall) -> Option<Vec<String>> {
        let tool = self.all.iter().find(|tool| tool.name == call.name)?;
        let arguments: Map<String, Json> = serde_json::from_str(&call.arguments).unwrap_or_default();
        Some(tool.command.iter().map(|part| filled(part, &arguments)).collect())
    }

    /// Runs a call, whose arguments the program gets as JSON on its standard input, too. Returns what it says, or why it failed.
    pub(super) fn run(&self, call: &ToolCall) -> String {
        let folder = self.all.iter().find(|tool| tool.name == call.name).map(|tool| tool.folder.as_path());
        let Some((command, folder)) = self.command(call).zip(folder) else {
            return format!("there is no tool {}", call.name);
        };
        execute(&command, folder, &call.arguments).unwrap_or_else(|error| format!("error: {error:#}"))
    }
}

/// Takes the command out of a definition.
fn tool(definition: &mut Json, file: &Path) -> anyhow::Result<Tool> {
    let command = definition.as_object_mut().and_then(|map| map.remove("command"));
    let function = definition.get("function").unwrap_or(definition);
    let name = function.get("name").and_then(Json::as_str).context("a tool without a name")?.to_owned();
    let command = match command {
        Some(Json::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Json::Array(parts)) => {
            let parts: Option<Vec<String>> = parts.iter().map(|part| part.as_str().map(str::to_owned)).collect();
            parts.with_context(|| format!("{name}: command: must be a text or texts"))?
        }
        _ => Vec::new(),
    };
    if command.is_empty() {
        bail!("{name}: no command: what runs it is an array of texts, [\"program\", \"{{argument}}\"]");
    }
    Ok(Tool { name, command, folder: file.parent().unwrap_or(Path::new(".")).to_owned() })
}

/// A part of a command line with the arguments of a call in their places. No shell sees it.
fn filled(part: &str, arguments: &Map<String, Json>) -> String {
    let (mut text, mut rest) = (String::new(), part);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        match after.split_once('}').and_then(|(name, after)| Some((arguments.get(name)?, after))) {
            Some((Json::String(value), after)) => {
                text.push_str(value);
                rest = after;
            }
            Some((value, after)) => {
                text.push_str(&value.to_string());
                rest = after;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text + rest
}

fn execute(command: &[String], folder: &Path, input: &str) -> anyhow::Result<String> {
    let own = folder.join(&command[0]);
    let program = if command[0].contains('/') && own.exists() { own } else { PathBuf::from(&command[0]) };
    let mut child = Command::new(&program)
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| printable_path(&program).to_string())?;
    let mut stdin = child.stdin.take();
    let stderr = child.stderr.take();
    // Neither side waits for the other with a full pipe.
    let (output, complaint) = std::thread::scope(|scope| {
        scope.spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
        let complaint = scope.spawn(move || bounded(stderr));
        (bounded(child.stdout.take()), complaint.join().unwrap_or_default())
    });
    let status = child.wait()?;
    if status.success() {
        return Ok(output);
    }
    bail!("{status}: {}", if complaint.trim().is_empty() { output.trim() } else { complaint.trim() })
}

/// What comes out of a pipe, as far as a model shall read it.
fn bounded(pipe: Option<impl std::io::Read>) -> String {
    let (mut bytes, mut rest) = (Vec::new(), Vec::new());
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(16 << 20);
        let _ = pipe.by_ref().take(MOST_BYTES as u64).read_to_end(&mut bytes);
        let _ = pipe.read_to_end(&mut rest);
    }
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if rest.is_empty() { text } else { format!("{text}\n(cut off)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_put_in_their_places() {
        let arguments = serde_json::json!({ "city": "a b; rm x", "days": 2 });
        let arguments = arguments.as_object().expect("an object");
        assert_eq!(filled("--city={city}", arguments), "--city=a b; rm x");
        assert_eq!(filled("{days}{other}{", arguments), "2{other}{");
        assert_eq!(filled("{city}", &Map::from_iter([("city".to_owned(), "{city}".into())])), "{city}");
    }

    #[test]
    fn tools_are_loaded_and_run() {
        let folder = std::env::temp_dir().join(format!("gguf-tools-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        let call = |name: &str, arguments: &str| ToolCall { name: name.to_owned(), arguments: arguments.to_owned() };
        write("a.json", r#"{"type": "function", "function": {"name": "echo"}, "command": ["cat"]}"#);
        write(
            "b.json",
            r#"[{"name": "say", "command": ["printf", "%s", "{text}"]}, {"name": "fail", "command": "false"}]"#,
        );
        write("notes.txt", "none");
        let toolbox = Toolbox::load(&folder).expect("tools");
        assert_eq!(toolbox.list(), ["echo: cat", "say: printf %s {text}", "fail: false"]);
        assert_eq!(toolbox.run(&call("echo", "{\"a\": 1}")), "{\"a\": 1}");
        assert_eq!(toolbox.run(&call("say", "{\"text\": \"$(id) ; x\"}")), "$(id) ; x");
        assert!(toolbox.run(&call("fail", "{}")).starts_with("error: exit status: 1"));
        assert_eq!(toolbox.run(&call("other", "{}")), "there is no tool other");
        assert_eq!(toolbox.tools.definitions().len(), 3);
        write("c.json", r#"[{"name": "x"}]"#);
        let error = Toolbox::load(&folder).err().map(|error| format!("{error:#}")).expect("refused");
        assert!(error.contains("c.json: x: no command"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
