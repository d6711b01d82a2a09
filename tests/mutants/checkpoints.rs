//! Files of checkpoints, which are converted and run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::quantize::run_in_memory;
use serde_json::{Map, Value as Json, json};

use super::{Choices, Mutant, Outcome, Subject, run};
use crate::folder::Folder;
use crate::goldens::checkpoint;
use crate::shared::testdata;

/// Which files of checkpoints are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any of them.
    Any,
    /// The model's settings.
    Config,
    /// The tokenizer and its settings.
    Tokenizer,
    /// Headers of weights.
    Safetensors,
    /// Model cards.
    Card,
}

impl Kind {
    fn has(self, file: &str) -> bool {
        match self {
            Self::Any => !["tensors.json", "reference.json", "expected.safetensors"].contains(&file),
            Self::Config => matches!(file, "config.json" | "generation_config.json"),
            Self::Tokenizer => file.starts_with("tokenizer") || file == "special_tokens_map.json",
            Self::Safetensors => file == "model.safetensors",
            Self::Card => file == "README.md",
        }
    }
}

/// A card with all that is read of cards.
const CARD: &str = "---\nlicense: apache-2.0\nlanguage:\n- en\n- no\nbase_model: org/Base-7B\ntags: [text-generation, \"x\"]\n\
    datasets:\n  - a/b\nmodel-index: &anchor\n  - name: x\n    results: *anchor\n---\n# A card\n";

/// A golden's folder, and the file of it that is changed.
struct Member {
    name: String,
    folder: PathBuf,
    file: String,
    whole: Vec<u8>,
    json: Option<Json>,
    /// Bytes of all files.
    bytes: usize,
}

/// Checkpoints whose files are changed.
pub(crate) struct Checkpoints {
    members: Vec<Member>,
}

impl Checkpoints {
    /// Of the goldens `names`, or of all.
    pub(crate) fn new(to: &Folder, names: &[&str], kind: Kind) -> Self {
        let mut all: Vec<String> = match names {
            [] => fs::read_dir(testdata("arch"))
                .expect("goldens")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
                .collect(),
            names => names.iter().map(|name| (*name).to_owned()).collect(),
        };
        all.retain(|name| testdata("arch").join(name).is_dir());
        all.sort();
        let members = all.iter().flat_map(|name| {
            let folder = checkpoint(to, name);
            fs::write(folder.join("README.md"), CARD).expect("written");
            let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
            let files: BTreeMap<String, Vec<u8>> = entries
                .filter(|path| path.is_file())
                .map(|path| {
                    let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
                    (name, fs::read(&path).expect("there"))
                })
                .collect();
            let bytes = files.values().map(Vec::len).sum();
            let members: Vec<Member> = files
                .into_iter()
                .filter(|(file, _)| kind.has(file) && Kind::Any.has(file))
                .map(|(file, whole)| Member {
                    name: name.clone(),
                    folder: folder.clone(),
                    json: if file.ends_with(".json") { serde_json::from_slice(&whole).ok() } else { None },
                    file,
                    whole,
                    bytes,
                })
                .collect();
            members
        });
        Self { members: members.collect() }
    }
}

/// The tensors of a header with other shapes for one length: every dimension of that length gets another one.
fn stretch(header: &mut Map<String, Json>, data: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let dims: Vec<u64> = header
        .values()
        .filter_map(|tensor| tensor["shape"].as_array())
        .flat_map(|shape| shape.iter().filter_map(Json::as_u64))
        .collect();
    let Some(old) = (!dims.is_empty()).then(|| *choices.pick(&dims)) else { return };
    let new = choices.number(old).min(600);
    let mut end = 0_u64;
    for tensor in header.values_mut().filter(|tensor| tensor["shape"].is_array()) {
        let shape: Vec<u64> = tensor["shape"].as_array().into_iter().flatten().filter_map(Json::as_u64).collect();
        let shape: Vec<u64> = shape.into_iter().map(|dim| if dim == old { new } else { dim }).collect();
        let elements: u64 = shape.iter().fold(1, |product, dim| product.saturating_mul(*dim));
        let start = end;
        end = start.saturating_add(2 * elements.min(1 << 18));
        tensor["shape"] = json!(shape);
        tensor["data_offsets"] = json!([start, end]);
    }
    data.resize(usize::try_from(end).expect("small"), 0x2c);
}

/// Another file of weights: a damaged header, changed values, or another length throughout.
fn weights(whole: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let header = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().expect("eight"))).expect("small");
    let mut bytes = whole.to_vec();
    match choices.below(3) {
        0 => choices.damage(&mut bytes[..header]),
        way => {
            let mut json: Json = serde_json::from_slice(&whole[8..header]).expect("a header");
            let mut data = whole[header..].to_vec();
            match json.as_object_mut() {
                Some(map) if way == 1 => stretch(map, &mut data, choices),
                _ => choices.json(&mut json),
            }
            let text = json.to_string();
            bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend(text.as_bytes());
            bytes.extend(data);
        }
    }
    bytes
}

impl Subject for Checkpoints {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let member = choices.pick(&self.members);
        let mut bytes = member.whole.clone();
        match &member.json {
            Some(value) if choices.below(5) > 0 => {
                let mut value = value.clone();
                choices.json(&mut value);
                bytes = value.to_string().into_bytes();
            }
            _ if member.file == "README.md" => bytes = choices.text(CARD).into_bytes(),
            // Of weights, the header: the rest are numbers.
            _ if member.file.ends_with(".safetensors") => bytes = weights(&bytes, choices),
            _ => choices.damage(&mut bytes),
        }
        let path = member.folder.join(&member.file);
        fs::write(&path, &bytes).expect("written");
        Mutant {
            told: format!("{}/{}", member.name, member.file),
            bytes: member.bytes - member.whole.len() + bytes.len(),
            run: Box::new(move || {
                let outcome = std::panic::catch_unwind(|| convert_and_run(&member.folder));
                fs::write(&path, &member.whole).expect("written");
                outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        }
    }
}

/// Converts a folder, loads the result and runs it.
fn convert_and_run(folder: &Path) -> Outcome {
    let conversion = Conversion::new(Checkpoint::open(folder).map_err(|e| e.to_string())?, &Options::default());
    let conversion = conversion.map_err(|e| e.to_string())?;
    let plan = conversion.plan(&[]).map_err(|e| e.to_string())?;
    let bytes = run_in_memory(&conversion, &plan).map_err(|e| e.to_string())?;
    // What a conversion writes must open.
    let reader = Reader::from_bytes("out.gguf", Bytes::from(bytes.clone()));
    assert!(reader.is_ok(), "what is written is refused: {:?}", reader.err());
    run(bytes)
}

/// The storyteller's checkpoint, whose tokenizer is a sentencepiece model, which is changed.
pub(crate) struct Sentencepieces {
    root: PathBuf,
    whole: Vec<u8>,
    bytes: usize,
}

impl Sentencepieces {
    pub(crate) fn new(to: &Folder) -> Self {
        let mut bytes = 0;
        for entry in fs::read_dir(testdata("storyteller")).expect("a folder") {
            let path = entry.expect("an entry").path();
            let copied = fs::copy(&path, to.path(path.file_name().and_then(|name| name.to_str()).expect("a name")));
            bytes += usize::try_from(copied.expect("copied")).expect("small");
        }
        Self { root: to.root().to_owned(), whole: fs::read(to.path("tokenizer.model")).expect("there"), bytes }
    }
}

impl Subject for Sentencepieces {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let mut bytes = self.whole.clone();
        let len = bytes.len();
        match choices.below(4) {
            0 => bytes.truncate(choices.below(len)),
            // The settings of trainer and normalizer stand at the end.
            1 => choices.damage(&mut bytes[len - 200..]),
            _ => choices.damage(&mut bytes),
        }
        fs::write(self.root.join("tokenizer.model"), bytes).expect("written");
        Mutant {
            told: "sentencepiece".to_owned(),
            bytes: self.bytes,
            run: Box::new(|| {
                let opened = Checkpoint::open(&self.root).map_err(|e| e.to_string())?;
                let conversion = Conversion::new(opened, &Options::default()).map_err(|e| e.to_string())?;
                let tokenizer = gguf_toolkit::convert::tokenizer(&Checkpoint::open(&self.root).expect("opened"), None);
                let tokenizer = tokenizer.map_err(|e| e.to_string())?;
                let options = gguf_toolkit::tokenizer::EncodeOptions { add_special: true, parse_special: true };
                if let Ok(tokens) = tokenizer.encode("Once upon a  time, wörld 123", options) {
                    let _ = tokenizer.decode(&tokens, true);
                }
                drop(conversion);
                Ok(())
            }),
        }
    }
}
