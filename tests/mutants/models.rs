//! Models of all families with odd hyper-parameters, lists and weights, whose tensors are made to fit.

use std::collections::BTreeMap;

use gguf_toolkit::TensorType;
use gguf_toolkit::arch::{Hparams, by_name};
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::check::{self, check_reader};
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options};
use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::engine::{ChatTemplate, Message, Sampler, SamplerOptions, TemplateOptions};
use gguf_toolkit::gguf::{Metadata, Reader, TensorSpec, Value, Writer};
use gguf_toolkit::inspect::{Fit, Summary};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::run_in_memory;
use gguf_toolkit::tokenizer::EncodeOptions;

use super::{Choices, Mutant, Outcome, Subject};
use crate::folder::Folder;
use crate::goldens::checkpoint;
use crate::shared::testdata;

/// Elements of the largest tensor that is made to fit a mutant.
const MOST_ELEMENTS: u64 = 1 << 18;
/// Name of the file in messages.
const NAME: &str = "m.gguf";

/// Every golden's file, and its name.
pub(crate) fn goldens(folder: &Folder) -> Vec<(String, Reader)> {
    let entries = std::fs::read_dir(testdata("arch")).expect("goldens");
    let mut all: Vec<(String, Reader)> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            let from = Checkpoint::open(&checkpoint(folder, &name)).expect("a folder");
            let conversion = Conversion::new(from, &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let bytes = run_in_memory(&conversion, &conversion.plan(&[]).expect("a plan")).expect("converted");
            let reader = Reader::from_bytes(&name, Bytes::from(bytes)).expect("valid");
            (name, reader)
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

pub(crate) fn specs(reader: &Reader) -> Vec<TensorSpec> {
    reader.tensors().iter().map(TensorSpec::from).collect()
}

/// Loads a model and runs two tokens, with all that is made of them: the message, or nothing when it runs.
pub(crate) fn run(bytes: Vec<u8>) -> Outcome {
    let reader = Reader::from_bytes(NAME, Bytes::from(bytes)).map_err(|e| e.to_string())?;
    let model = Model::from_reader(&reader).map_err(|e| e.to_string())?;
    let mut sequence = model.decoder().sequence(SequenceOptions { kv_type: KvType::F16, context_length: 4 });
    let vocab_size = model.decoder().vocab_size();
    // A pass beyond the positions that the model has learned, or with tokens that it has not, is the caller's fault.
    let positions = model.decoder().learned_positions().unwrap_or(2).min(2);
    let last = u32::try_from(vocab_size).expect("checked") - 1;
    let part = Part { sequence: &mut sequence, tokens: &[1.min(last), 2.min(last)][..positions], logits: Rows::Last };
    let mut logits = model.decoder().forward(Run::new(&Pool::new(1)), &mut [part]);
    assert_eq!(logits.len(), vocab_size);
    let options = SamplerOptions::from_metadata(model.metadata(), &[]).map_err(|e| format!("{NAME}: {e}"))?;
    let mut sampler = Sampler::for_model(options, model.tokenizer());
    sampler.accept(1.min(last));
    if !logits.is_empty() {
        assert!((sampler.sample(&mut logits) as usize) < vocab_size, "a token beyond the vocabulary");
    }
    Ok(())
}

/// Shows, checks, estimates and tokenizes what opens, whether it runs or not.
pub(crate) fn look(bytes: &[u8]) {
    let Ok(reader) = Reader::from_bytes(NAME, Bytes::from(bytes.to_vec())) else { return };
    let _ = Summary::new(&reader).bits_per_weight();
    if let Ok(fit) = Fit::of(&reader) {
        let _ = fit.needs(fit.context_length(), KvType::F16, 2).total();
    }
    let _ = check_reader(&reader, check::Options { data: true }, &|_| ());
    let Ok(model) = Model::from_reader(&reader) else { return };
    let options = EncodeOptions { add_special: true, parse_special: true };
    if let Ok(tokens) = model.tokenizer().encode("Hello  wörld 12345\n<s> x</s>", options) {
        let _ = model.tokenizer().decode(&tokens, true);
    }
    if let Ok(template) = ChatTemplate::from_metadata(model.metadata()) {
        let _ = template.render(&[Message::new("user", "Hello")], &TemplateOptions::default());
    }
}

/// A file of these metadata and tensors; the data of tensors are those of `reader`, cut or repeated.
fn file(reader: &Reader, metadata: &Metadata, tensors: &[TensorSpec], choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let mut writer = Writer::to_sink(Vec::new(), NAME, metadata, tensors).ok()?;
    for tensor in tensors {
        let bytes = tensor.ty.bytes_for(tensor.shape.iter().product())?;
        let old = reader.tensor(&tensor.name).and_then(|info| reader.data(info).ok());
        let old = old.as_deref().filter(|data| !data.is_empty()).unwrap_or(&[0; 64]);
        let wanted = usize::try_from(bytes).ok()?;
        let mut data = old[..wanted.min(old.len())].to_vec();
        while data.len() < wanted {
            data.extend_from_within(..(wanted - data.len()).min(data.len()));
        }
        if !data.is_empty() && choices.below(40) == 0 {
            choices.damage(&mut data);
        }
        writer.write_tensor(&data).ok()?;
    }
    writer.into_sink().ok()
}

/// Gives tensors the shapes that a model of these metadata has, and adds those that it lacks.
fn fit(metadata: &Metadata, tensors: &mut Vec<TensorSpec>) {
    let rules = Hparams::from_metadata(metadata).and_then(|hparams| by_name(&hparams.architecture)?.tensors(&hparams));
    let Ok(rules) = rules else { return };
    let by_tensor: BTreeMap<String, Vec<u64>> =
        rules.iter().map(|rule| (rule.name.clone(), rule.shape.iter().map(|&n| n as u64).collect())).collect();
    for tensor in tensors.iter_mut() {
        if let Some(shape) = by_tensor.get(&tensor.name) {
            resize(tensor, shape);
        }
    }
    // Of layers that are new; not many.
    for rule in rules.iter().filter(|rule| rule.required).take(500) {
        if !tensors.iter().any(|tensor| tensor.name == rule.name) {
            let mut tensor = TensorSpec { name: rule.name.clone(), shape: vec![1], ty: TensorType::F32 };
            resize(&mut tensor, &by_tensor[&rule.name]);
            tensors.push(tensor);
        }
    }
    // Of layers that are gone.
    tensors.retain(|tensor| !tensor.name.starts_with("blk.") || by_tensor.contains_key(&tensor.name));
}

fn resize(tensor: &mut TensorSpec, shape: &[u64]) {
    let elements = shape.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim));
    if elements.is_none_or(|elements| elements > MOST_ELEMENTS) {
        return;
    }
    // Rows of any length.
    if shape.first().is_some_and(|cols| !cols.is_multiple_of(tensor.ty.block_len() as u64)) {
        tensor.ty = TensorType::F32;
    }
    tensor.shape = shape.to_vec();
}

/// The models of all families.
pub(crate) struct Models {
    all: Vec<(String, Reader)>,
}

impl Models {
    pub(crate) fn new(folder: &Folder) -> Self {
        Self { all: goldens(folder) }
    }

    /// Other values of a golden's keys, or none; perhaps a key of another family.
    fn changes(&self, reader: &Reader, choices: &mut Choices<'_>) -> BTreeMap<String, Option<Value>> {
        let keys: Vec<(&str, &Value)> =
            reader.metadata().iter().filter(|(key, _)| !key.starts_with("general.")).collect();
        let mut changes: BTreeMap<String, Option<Value>> = BTreeMap::new();
        for _ in 0..=choices.below(3) {
            let (key, value) = *choices.pick(&keys);
            let other = if choices.below(10) == 0 { None } else { Some(choices.value(value)) };
            changes.insert(key.to_owned(), other);
        }
        if choices.below(6) == 0 {
            let (_, other) = choices.pick(&self.all);
            let foreign: Vec<(&str, &Value)> = other.metadata().iter().collect();
            let (key, value) = choices.pick(&foreign);
            let own = reader.metadata().get("general.architecture").and_then(Value::as_str).unwrap_or_default();
            let key = key.split_once('.').map_or_else(|| (*key).to_owned(), |(_, rest)| format!("{own}.{rest}"));
            changes.insert(key, Some((*value).clone()));
        }
        if choices.below(8) == 0 {
            let keys =
                ["temp", "top_k", "top_p", "min_p", "penalty_repeat", "penalty_last_n", "mirostat", "xtc_probability"];
            let value = if choices.below(2) == 0 { Value::F32(1.0) } else { Value::U32(1) };
            changes.insert(format!("general.sampling.{}", choices.pick(&keys)), Some(choices.value(&value)));
        }
        changes
    }
}

impl Subject for Models {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let (name, reader) = choices.pick(&self.all);
        let mut changes = self.changes(reader, choices);
        let told = format!("{name}: {changes:?}");
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
        let mut tensors = specs(reader);
        if choices.below(8) > 0 {
            fit(&metadata, &mut tensors);
        }
        let bytes = file(reader, &metadata, &tensors, choices);
        let looks = choices.below(8) == 0;
        Mutant {
            told,
            bytes: bytes.as_ref().map_or(0, Vec::len),
            run: Box::new(move || {
                let bytes = bytes.ok_or_else(|| format!("{NAME}: not written"))?;
                if looks {
                    look(&bytes);
                }
                run(bytes)
            }),
        }
    }
}
