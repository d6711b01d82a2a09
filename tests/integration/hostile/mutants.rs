//! Seeded mutants of everything that is read: GGUF files whose hyper-parameters are odd and whose tensors fit them, files of
//! checkpoints, templates, cards, manifests, recipes. Each goes as far as it comes: through loading and one forward pass.
//!
//! `GGUF_MUTANTS=N` makes N times as many as usual, and other ones.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use gguf_toolkit::TensorType;
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options};
use gguf_toolkit::engine::{ChatTemplate, Message, TemplateOptions};
use gguf_toolkit::gguf::{Array, Metadata, Reader, TensorSpec, Value, Writer};
use gguf_toolkit::inspect::hash::Manifest;
use gguf_toolkit::quantize::{Recipe, run_in_memory};
use gguf_toolkit::stores::Places;
use serde_json::{Map, Value as Json, json};

use super::super::folder::Folder;
use super::super::goldens::checkpoint;
use super::super::shared::testdata;
use super::families::{goldens, run, specs};
use super::{Random, check_line};

/// The longest that any mutant may take, in a build without optimizations on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(20);
/// Elements of the largest tensor that is made to fit a mutant.
const MOST_ELEMENTS: u64 = 1 << 18;
/// Numbers that hurt.
const NUMBERS: [u64; 14] = [0, 1, 2, 3, 5, 7, 33, 64, 100, 255, 4097, u32::MAX as u64, 1 << 40, u64::MAX];

/// How many times the usual number of mutants.
fn times() -> usize {
    std::env::var("GGUF_MUTANTS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// What became of mutants.
#[derive(Default)]
struct Tally {
    faults: Vec<String>,
    good: usize,
    refused: usize,
}

impl Tally {
    /// Runs a mutant, which must come to an end in time and without a panic. Messages are of the file `name`, if any.
    fn judge(&mut self, what: &dyn Fn() -> String, name: Option<&str>, mutant: impl FnOnce() -> Result<(), String>) {
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(mutant)) {
            Err(_) => self.faults.push(format!("{}: panics", what())),
            Ok(Ok(())) => self.good += 1,
            Ok(Err(message)) => {
                self.refused += 1;
                if let Some(name) = name {
                    check_line(&message, name);
                }
            }
        }
        if start.elapsed() > PATIENCE {
            self.faults.push(format!("{}: {:?}", what(), start.elapsed()));
        }
    }

    /// Checks that nothing was wrong, and that mutants are neither all good nor all refused: that would test little.
    fn done(&self, least_good: usize, least_refused: usize) {
        assert!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
        assert!(
            self.good >= least_good && self.refused >= least_refused,
            "{} good, {} refused",
            self.good,
            self.refused
        );
    }
}

impl Random {
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A number that hurts, or one near `near`.
    fn number(&mut self, near: u64) -> u64 {
        match self.below(3) {
            0 => near.wrapping_add(self.below(5) as u64).wrapping_sub(2),
            1 => near.saturating_mul(self.below(4) as u64) / (1 + self.below(4) as u64),
            _ => *self.pick(&NUMBERS),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any number will do")]
    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::Bool(v) => Value::Bool(!v),
            Value::String(text) => Value::String(self.text(text)),
            Value::F32(v) => {
                let others = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, v * 2.0, -v, v / 3.0];
                Value::F32(*self.pick(&others))
            }
            Value::Array(array) => self.array(array),
            number => {
                let near = number.as_u64().unwrap_or(0);
                let number = self.number(near);
                match self.below(4) {
                    0 => Value::U64(number),
                    1 => Value::I32(number as i32),
                    _ => Value::U32(number as u32),
                }
            }
        }
    }

    fn array(&mut self, array: &Array) -> Value {
        let mut values: Vec<Value> = array.iter().collect();
        if values.is_empty() || self.below(8) == 0 {
            return Value::Array(Array::from(&[][..] as &[i32]));
        }
        for _ in 0..=self.below(2) {
            let at = self.below(values.len());
            match self.below(4) {
                0 if values.len() > 1 => drop(values.remove(at)),
                1 => values.insert(at, values[at].clone()),
                2 => values[at] = self.value(&values[at].clone()),
                _ => {
                    let other = self.below(values.len());
                    values.swap(at, other);
                }
            }
        }
        // Of one type again.
        Value::Array(match &values[0] {
            Value::String(_) => Array::strings(values.iter().filter_map(Value::as_str)),
            Value::Bool(_) => Array::bools(values.iter().filter_map(Value::as_bool)),
            Value::F32(_) => {
                #[allow(clippy::cast_possible_truncation, reason = "these were single")]
                let numbers: Vec<f32> = values.iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
                Array::from(&numbers[..])
            }
            _ => {
                let numbers: Vec<i32> =
                    values.iter().filter_map(Value::as_i64).map(|v| i32::try_from(v).unwrap_or(i32::MAX)).collect();
                Array::from(&numbers[..])
            }
        })
    }

    /// Another text: damaged, cut, doubled, or with a piece of it elsewhere.
    fn text(&mut self, text: &str) -> String {
        const PIECES: [&str; 12] =
            ["", "\u{0}", "\u{1b}[2J", "\u{202e}", "é", "▁", "{{", "%}", "\"", "<0x41>", "\n", "𝔘"];
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.below(chars.len() + 1);
        match self.below(5) {
            0 => chars.truncate(at),
            1 => chars.extend_from_within(..at.min(1000)),
            2 if !chars.is_empty() => {
                let from = self.below(chars.len());
                let to = (from + self.below(40)).min(chars.len());
                let piece: Vec<char> = chars[from..to].to_vec();
                chars.splice(at..at, piece);
            }
            3 if at < chars.len() => drop(chars.remove(at)),
            _ => drop(chars.splice(at..at, self.pick(&PIECES).chars())),
        }
        chars.into_iter().collect()
    }

    /// Changes one or two places of a JSON value.
    fn json(&mut self, value: &mut Json) {
        for _ in 0..=self.below(2) {
            let mut node = &mut *value;
            loop {
                let stay = self.below(4) == 0;
                let goes_on = match &*node {
                    Json::Object(map) => !map.is_empty() && !stay,
                    Json::Array(list) => !list.is_empty() && !stay,
                    _ => false,
                };
                if !goes_on {
                    *node = self.other(node);
                    break;
                }
                node = match node {
                    Json::Object(map) => {
                        let key = map.keys().nth(self.below(map.len())).expect("there").clone();
                        if self.below(12) == 0 {
                            map.remove(&key);
                            break;
                        }
                        map.get_mut(&key).expect("there")
                    }
                    Json::Array(list) => {
                        let at = self.below(list.len());
                        &mut list[at]
                    }
                    _ => break,
                };
            }
        }
    }

    fn other(&mut self, value: &Json) -> Json {
        let number = value.as_u64().unwrap_or(3);
        match self.below(12) {
            0 => Json::Null,
            1 => json!(-1),
            2 => json!(1e308),
            3 => json!([]),
            4 => json!({}),
            5 => json!(true),
            6 => (0..50).fold(json!(1), |inside, _| json!([inside])),
            7 => json!(self.text(value.as_str().unwrap_or("text"))),
            8 => json!({ "type": "Sequence", "model": [value] }),
            9 => json!([value, value]),
            _ => json!(self.number(number)),
        }
    }
}

/// A file of these metadata and tensors; the data of tensors are those of `reader`, cut or repeated.
fn file(reader: &Reader, metadata: &Metadata, tensors: &[TensorSpec], random: &mut Random) -> Option<Vec<u8>> {
    let mut writer = Writer::to_sink(Vec::new(), "m.gguf", metadata, tensors).ok()?;
    for tensor in tensors {
        let bytes = tensor.ty.bytes_for(tensor.shape.iter().product())?;
        let old = reader.tensor(&tensor.name).and_then(|info| reader.data(info).ok());
        let old = old.as_deref().filter(|data| !data.is_empty()).unwrap_or(&[0; 64]);
        let mut data: Vec<u8> = old.iter().copied().cycle().take(usize::try_from(bytes).ok()?).collect();
        if !data.is_empty() && random.below(40) == 0 {
            random.damage(&mut data);
        }
        writer.write_tensor(&data).ok()?;
    }
    writer.into_sink().ok()
}

/// The shape that a message asks for: `tensor NAME: shape [..], expected [..]`.
fn asked(message: &str) -> Option<(String, Vec<u64>)> {
    let (_, rest) = message.split_once("tensor ")?;
    let (name, rest) = rest.split_once(": shape ")?;
    let (_, rest) = rest.split_once("expected [")?;
    let dims = rest.split_once(']')?.0.split(", ").map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    Some((name.to_owned(), dims))
}

/// Loads and runs a model. Where tensors have other shapes than the metadata ask for, they get these.
fn run_fitted(reader: &Reader, metadata: &Metadata, random: &mut Random) -> Result<(), String> {
    let mut tensors = specs(reader);
    loop {
        let Some(bytes) = file(reader, metadata, &tensors, random) else { return Err("m.gguf: not written".into()) };
        let message = match run(bytes) {
            Ok(()) => return Ok(()),
            Err(message) => message,
        };
        let Some((name, shape)) = asked(&message) else { return Err(message) };
        let elements = shape.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim));
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == name);
        match (tensor, elements) {
            (Some(tensor), Some(1..=MOST_ELEMENTS)) if tensor.shape != shape => {
                // Rows of any length.
                if !shape[0].is_multiple_of(tensor.ty.block_len() as u64) {
                    tensor.ty = TensorType::F32;
                }
                tensor.shape = shape;
            }
            _ => return Err(message),
        }
    }
}

#[test]
fn odd_models_whose_tensors_fit_run_or_are_refused() {
    let folder = Folder::new("mutants-models");
    let all = goldens(&folder);
    let mut random = Random(0x0dd0_b41d_5eed_0001 + times() as u64 * 2);
    let mut tally = Tally::default();
    for number in 0..1200 * times() {
        let (name, reader) = random.pick(&all);
        let keys: Vec<(&str, &Value)> =
            reader.metadata().iter().filter(|(key, _)| !key.starts_with("general.")).collect();
        let mut changes: BTreeMap<String, Option<Value>> = BTreeMap::new();
        for _ in 0..=random.below(3) {
            let (key, value) = *random.pick(&keys);
            let other = if random.below(10) == 0 { None } else { Some(random.value(value)) };
            changes.insert(key.to_owned(), other);
        }
        // A key of another family.
        if random.below(6) == 0 {
            let (_, other) = random.pick(&all);
            let foreign: Vec<(&str, &Value)> = other.metadata().iter().collect();
            let (key, value) = random.pick(&foreign);
            let own = reader.metadata().get("general.architecture").and_then(Value::as_str).unwrap_or_default();
            let key = key.split_once('.').map_or_else(|| (*key).to_owned(), |(_, rest)| format!("{own}.{rest}"));
            changes.insert(key, Some((*value).clone()));
        }
        let told = format!("{name}, mutant {number}: {changes:?}");
        let mut metadata = Metadata::new();
        for (key, value) in reader.metadata().iter() {
            match changes.remove(key) {
                Some(Some(other)) => metadata.set(key, other),
                Some(None) => {}
                None => metadata.set(key, value.clone()),
            }
        }
        for (key, value) in changes {
            if let Some(value) = value {
                metadata.set(key, value);
            }
        }
        tally.judge(&|| told.clone(), Some("m.gguf"), || run_fitted(reader, &metadata, &mut random));
    }
    tally.done(150 * times(), 150 * times());
}

/// Converts a folder, loads the result and runs it.
fn convert_and_run(folder: &Path) -> Result<(), String> {
    let conversion = Conversion::new(Checkpoint::open(folder).map_err(|e| e.to_string())?, &Options::default());
    let conversion = conversion.map_err(|e| e.to_string())?;
    let plan = conversion.plan(&[]).map_err(|e| e.to_string())?;
    let bytes = run_in_memory(&conversion, &plan).map_err(|e| e.to_string())?;
    // What a conversion writes must open.
    let reader = Reader::from_bytes("out.gguf", Bytes::from(bytes.clone()));
    assert!(reader.is_ok(), "what is written is refused: {:?}", reader.err());
    run(bytes)
}

const CARD: &str = "---\nlicense: apache-2.0\nlanguage:\n- en\n- no\nbase_model: org/Base-7B\ntags: [text-generation, \"x\"]\n\
    datasets:\n  - a/b\nmodel-index: &anchor\n  - name: x\n    results: *anchor\n---\n# A card\n";

#[test]
fn damaged_files_of_checkpoints_are_refused_or_convert_and_run() {
    let folder = Folder::new("mutants-checkpoints");
    let mut random = Random(0x0dd0_c4ec_5eed_0003 + times() as u64 * 2);
    let mut tally = Tally::default();
    for name in ["qwen2", "gemma2", "mixtral", "phi3", "qwen35", "deepseek2"] {
        if !testdata("arch").join(name).is_dir() {
            continue;
        }
        let from = checkpoint(&folder, name);
        fs::write(from.join("README.md"), CARD).expect("written");
        let mut files: Vec<String> = fs::read_dir(&from)
            .expect("a folder")
            .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
            .filter(|file| !["tensors.json", "reference.json", "expected.safetensors"].contains(&file.as_str()))
            .filter(|file| from.join(file).is_file())
            .collect();
        files.sort();
        for number in 0..60 * times() {
            let file = random.pick(&files).clone();
            let path = from.join(&file);
            let whole = fs::read(&path).expect("there");
            let mut bytes = whole.clone();
            let as_json = if file.ends_with(".json") { serde_json::from_slice::<Json>(&whole).ok() } else { None };
            match as_json {
                Some(mut value) if random.below(5) > 0 => {
                    random.json(&mut value);
                    bytes = value.to_string().into_bytes();
                }
                _ if file == "README.md" => bytes = random.text(CARD).into_bytes(),
                // Of weights, the header: the rest are numbers.
                _ if file.ends_with(".safetensors") => {
                    let header =
                        8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().expect("eight"))).expect("small");
                    random.damage(&mut bytes[..header]);
                }
                _ => random.damage(&mut bytes),
            }
            fs::write(&path, &bytes).expect("written");
            tally.judge(&|| format!("{name}/{file}, mutant {number}"), None, || convert_and_run(&from));
            fs::write(&path, whole).expect("written");
        }
    }
    tally.done(20 * times(), 60 * times());
}

#[test]
fn damaged_sentencepiece_models_are_refused_or_convert() {
    let folder = Folder::new("mutants-sentencepiece");
    for entry in fs::read_dir(testdata("storyteller")).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.path(path.file_name().and_then(|name| name.to_str()).expect("a name"))).expect("copied");
    }
    let path = folder.path("tokenizer.model");
    let whole = fs::read(&path).expect("there");
    let mut random = Random(0x0dd0_59ec_5eed_0005 + times() as u64 * 2);
    let mut tally = Tally::default();
    for number in 0..150 * times() {
        let mut bytes = whole.clone();
        match random.below(4) {
            0 => bytes.truncate(random.below(whole.len())),
            // The settings of trainer and normalizer stand at the end.
            1 => random.damage(&mut bytes[whole.len() - 200..]),
            _ => random.damage(&mut bytes),
        }
        fs::write(&path, bytes).expect("written");
        tally.judge(&|| format!("mutant {number}"), None, || {
            let opened = Checkpoint::open(folder.root()).map_err(|e| e.to_string())?;
            Conversion::new(opened, &Options::default()).map(drop).map_err(|e| e.to_string())
        });
    }
    tally.done(10, 30);
}

#[test]
fn damaged_templates_are_refused_or_render() {
    let mut sources: Vec<String> = fs::read_dir(testdata("chat_templates"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    sources.sort();
    let mut random = Random(0x0dd0_7e3b_5eed_0007 + times() as u64 * 2);
    let messages = [
        Message::new("system", "Be kind."),
        Message::new("user", "Hello"),
        Message::new("assistant", "Hi"),
        Message::new("user", "Bye"),
    ];
    let mut variables = Map::new();
    variables.insert("enable_thinking".into(), Json::Bool(true));
    let options = TemplateOptions { variables, ..TemplateOptions::default() };
    let mut tally = Tally::default();
    for number in 0..1500 * times() {
        let mut source = random.pick(&sources).clone();
        for _ in 0..=random.below(3) {
            source = if random.below(3) == 0 {
                // A piece of another one.
                let other: Vec<char> = random.pick(&sources).chars().collect();
                let from = random.below(other.len());
                let piece: String = other[from..(from + 60).min(other.len())].iter().collect();
                let mut at = random.below(source.len() + 1);
                while !source.is_char_boundary(at) {
                    at -= 1;
                }
                format!("{}{piece}{}", &source[..at], &source[at..])
            } else {
                random.text(&source)
            };
        }
        tally.judge(&|| format!("mutant {number}: {source}"), None, || {
            let template = ChatTemplate::new(&source, "<s>", "</s>").map_err(|e| e.to_string())?;
            template.render(&messages, &options).map(drop).map_err(|e| e.to_string())
        });
    }
    tally.done(100, 100);
}

#[test]
fn damaged_manifests_and_recipes_are_refused_or_read() {
    let folder = Folder::new("mutants-manifests");
    let mut random = Random(0x0dd0_3a9f_5eed_0009 + times() as u64 * 2);
    let mut tally = Tally::default();
    let sums = "sha256    0b6f9e8d6d4ba58ffb5aa8f8a2c0d7a3d31d9ba4f7a2a5c7e4b1ec1d9c6f3a21  m.gguf\n\
                xxh64     00112233aabbccdd  m.gguf:w\nsha1  da39a3ee5e6b4b0d3255bfef95601890afd80709  m.gguf:v\n";
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/quantize/recipe/shipped/XL.recipe");
    let recipe = fs::read_to_string(recipe).expect("text");
    for number in 0..1000 * times() {
        let text = random.text(&random_twice(sums, number));
        tally.judge(&|| format!("manifest {number}: {text:?}"), None, || {
            Manifest::parse(&text, "m.gguf", &["w", "v"]).map(drop).map_err(|e| e.to_string())
        });
        let text = random.text(&recipe);
        tally.judge(&|| format!("recipe {number}: {text:?}"), None, || {
            Recipe::parse(Path::new("r.recipe"), &text).map(drop).map_err(|e| e.to_string())
        });
    }
    // Manifests of stores: a damaged one hides its own model at most, and leads nowhere outside.
    let path = folder.path("manifests/registry.ollama.ai/library/tiny/1b");
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::create_dir_all(folder.path("blobs")).expect("a folder");
    let blob = "0f".repeat(32);
    fs::write(folder.path(&format!("blobs/sha256-{blob}")), "no model").expect("written");
    fs::write(folder.path("outside"), "no model").expect("written");
    let layer = |kind: &str, digest: &str| json!({ "mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": 8 });
    let manifest = json!({
        "schemaVersion": 2,
        "layers": [
            layer("model", &format!("sha256:{blob}")),
            layer("template", "sha256:../outside"),
            layer("params", "../../outside"),
        ],
    });
    let places = Places { ollama: vec![folder.root().to_owned()], ..Places::default() };
    for number in 0..1000 * times() {
        let mut text = manifest.clone();
        random.json(&mut text);
        let text = if random.below(4) == 0 { random.text(&text.to_string()) } else { text.to_string() };
        fs::write(&path, &text).expect("written");
        tally.judge(&|| format!("store's manifest {number}: {text}"), None, || {
            for entry in places.list() {
                let inside = entry.located.path.starts_with(folder.path("blobs"));
                assert!(inside, "{:?} is outside", entry.located.path);
            }
            places.resolve("tiny:1b").map(drop).map_err(|e| e.to_string())
        });
    }
    tally.done(300, 300);
}

/// The text, every second time twice.
fn random_twice(text: &str, number: usize) -> String {
    text.repeat(1 + number % 2)
}
