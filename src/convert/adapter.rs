//! Converts adapters (LoRA) saved by PEFT to GGUF files, as llama.cpp's `convert_lora_to_gguf.py` does.
//!
//! The change of a module is a product of two factors, `B A`. The conversion steps of its weight move rows, which are rows of
//! `B`, or columns, which are columns of `A`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

use super::error::{AdapterProblem, Error};
use super::folder::Folder;
use super::layout::Layout;
use super::names::text_name;
use super::stored::number_type;
use crate::TensorType;
use crate::arch::{self, Hparams, Names, Source, Step, TensorRule};
use crate::files::{FileId, Overwrite};
use crate::formats;
use crate::gguf::{Metadata, Reader, TensorSpec, Value, Writer, keys};
use crate::safetensors::{Checkpoint, TensorInfo};

/// The file with the settings of an adapter.
const CONFIG: &str = "adapter_config.json";
/// The file with its weights.
const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter, ready to be written.
pub struct AdapterConversion {
    metadata: Metadata,
    tensors: Vec<(TensorSpec, Vec<f32>)>,
    inputs: Vec<FileId>,
}

/// The factors of one module, with the scale of its change in the second.
struct Change {
    /// `[rank, cols]`.
    a: Vec<f32>,
    /// `[rows, rank]`.
    b: Vec<f32>,
    rank: usize,
    cols: usize,
    rows: usize,
}

/// The settings that are used.
struct Settings {
    rank: f64,
    alpha: f64,
    root: bool,
    /// Whether weights are transposed (GPT-2) while changes are not.
    turned: bool,
    ranks: BTreeMap<String, f64>,
    alphas: BTreeMap<String, f64>,
}

impl AdapterConversion {
    /// Whether `folder` is an adapter.
    #[must_use]
    pub fn is_adapter(folder: &Path) -> bool {
        folder.join(CONFIG).is_file() && !folder.join("config.json").exists()
    }

    /// Reads the adapter in `folder`, which changes the model `base`, with factors of the type `ty` (F32, F16 or BF16).
    ///
    /// # Errors
    /// When it is not an adapter of this model, or of a kind that GGUF files cannot express.
    pub fn new(folder: &Path, base: &Reader, ty: TensorType) -> Result<Self, Error> {
        let path = folder.join(WEIGHTS);
        let failed = |problem| Error::Adapter { path: path.clone(), problem };
        let opened = Folder::open(folder)?;
        let config = opened.json(CONFIG)?.ok_or_else(|| Error::MissingFile { path: folder.join(CONFIG) })?;
        let settings =
            Settings::new(&config).map_err(|problem| Error::Adapter { path: folder.join(CONFIG), problem })?;
        let checkpoint = Checkpoint::open(&path)?;
        let changes = changes(&checkpoint, &settings, &path)?;
        let base_failed = |source| Error::Architecture { path: base.path().to_owned(), source };
        let hparams = Hparams::from_metadata(base.metadata()).map_err(base_failed)?;
        let family = arch::by_name(&hparams.architecture).map_err(base_failed)?;
        let rules = family.tensors(&hparams).map_err(base_failed)?;
        let mut used = BTreeSet::new();
        let mut tensors = Vec::new();
        for rule in rules.iter().filter(|rule| base.tensor(&rule.name).is_some()) {
            let made = made(rule, &changes, settings.turned, &mut used).map_err(failed)?;
            for (suffix, shape, values) in made.into_iter().flatten() {
                tensors.push((TensorSpec { name: format!("{}.{suffix}", rule.name), shape, ty }, values));
            }
        }
        if let Some(module) = changes.keys().find(|module| !used.contains(*module)) {
            return Err(failed(AdapterProblem::NoTensor { module: module.clone() }));
        }
        let mut metadata = Metadata::new();
        metadata.set(keys::GENERAL_ARCHITECTURE, family.name());
        metadata.set(keys::GENERAL_TYPE, keys::ADAPTER);
        metadata.set(keys::ADAPTER_TYPE, keys::LORA);
        metadata.set(keys::GENERAL_NAME, opened.name());
        #[allow(clippy::cast_possible_truncation, reason = "the key is an f32")]
        metadata.set(keys::ADAPTER_LORA_ALPHA, Value::F32(settings.file_alpha() as f32));
        metadata.set(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
        let inputs = checkpoint.file_ids().into_iter().chain(opened.file_ids()).chain(base.file_ids()).collect();
        Ok(Self { metadata, tensors, inputs })
    }

    /// Number of tensors of the model that are changed.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.tensors.len() / 2
    }

    /// Writes the file and returns its size in bytes. `force` replaces an existing file, unless it is an input.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path, force: bool) -> Result<u64, Error> {
        let overwrite = if force { Overwrite::Replace { inputs: &self.inputs } } else { Overwrite::Refuse };
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut writer = Writer::create(path, overwrite, &self.metadata, &specs).map_err(write_error)?;
        for (spec, values) in &self.tensors {
            writer.write_tensor(&bytes(spec.ty, values)).map_err(write_error)?;
        }
        writer.finish().map_err(write_error)
    }
}

fn write_error(error: crate::gguf::Error) -> Error {
    Error::Write(error.into())
}

impl Settings {
    fn new(config: &Json) -> Result<Self, AdapterProblem> {
        let unsupported = |name: &'static str, value: &Json| AdapterProblem::Setting { name, value: value.to_string() };
        let kind = config.get("peft_type").unwrap_or(&Json::Null);
        if kind != "LORA" {
            return Err(unsupported("peft_type", kind));
        }
        // Settings that change more than matrices, or in another way.
        for name in
            ["use_dora", "lora_bias", "alora_invocation_tokens", "invocation_string", "layer_replication", "use_qalora"]
        {
            let value = config.get(name).unwrap_or(&Json::Null);
            if !(value.is_null() || value == false) {
                return Err(unsupported(name, value));
            }
        }
        if let Some(bias) = config.get("bias").filter(|bias| !bias.is_null() && *bias != "none") {
            return Err(unsupported("bias", bias));
        }
        let positive = |value: Option<&Json>, name: &str| {
            let number = value.and_then(Json::as_f64).filter(|n| n.is_finite() && *n > 0.0);
            number.ok_or_else(|| AdapterProblem::Number { name: name.to_owned() })
        };
        let pattern = |name: &str| -> Result<BTreeMap<String, f64>, AdapterProblem> {
            let entries = config.get(name).and_then(Json::as_object).into_iter().flatten();
            entries.map(|(module, value)| Ok((module.clone(), positive(Some(value), name)?))).collect()
        };
        Ok(Self {
            rank: positive(config.get("r"), "r")?,
            alpha: positive(config.get("lora_alpha"), "lora_alpha")?,
            root: config.get("use_rslora").and_then(Json::as_bool).unwrap_or(false),
            turned: config.get("fan_in_fan_out").and_then(Json::as_bool).unwrap_or(false),
            ranks: pattern("rank_pattern")?,
            alphas: pattern("alpha_pattern")?,
        })
    }

    /// The file's alpha, which is the same for all changes; divided by the rank of a change it gives its scale.
    fn file_alpha(&self) -> f64 {
        if self.root { self.alpha * self.rank.sqrt() } else { self.alpha }
    }

    /// The factor for the second matrix of a module's change that makes the file's alpha divided by the rank give its scale.
    fn factor(&self, module: &str, rank: usize) -> f64 {
        let of = |pattern: &BTreeMap<String, f64>| {
            let fits = |key: &str| module == key || module.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
            pattern.iter().find(|(key, _)| fits(key)).map(|(_, value)| *value)
        };
        let (wanted, alpha) = (of(&self.ranks).unwrap_or(self.rank), of(&self.alphas).unwrap_or(self.alpha));
        let scale = if self.root { alpha / wanted.sqrt() } else { alpha / wanted };
        #[allow(clippy::cast_precision_loss, reason = "a rank is a small number")]
        let of_file = self.file_alpha() / rank as f64;
        scale / of_file
    }
}

/// The module of a factor, by the name of its weight in rules, and whether it is the first factor.
fn factor(name: &str) -> Option<(String, bool)> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let (at, is_a) = match (name.rfind(".lora_A."), name.rfind(".lora_B.")) {
        (Some(at), None) => (at, true),
        (None, Some(at)) => (at, false),
        _ => return None,
    };
    let rest = &name[at + ".lora_A.".len()..];
    // PEFT leaves the adapter's name out of files; some training programs do not.
    if rest != "weight" && !(rest.ends_with(".weight") && rest.matches('.').count() == 1) {
        return None;
    }
    Some((format!("{}.weight", &name[..at]), is_a))
}

/// The changes of a file, by the names of the weights of their modules.
fn changes(checkpoint: &Checkpoint, settings: &Settings, path: &Path) -> Result<BTreeMap<String, Change>, Error> {
    let failed = |problem| Error::Adapter { path: path.to_owned(), problem };
    let mut factors: BTreeMap<String, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let found = factor(&tensor.name).and_then(|(module, is_a)| Some((text_name(&module)?, is_a)));
        let (module, is_a) = found.ok_or_else(|| failed(AdapterProblem::NoFactor { name: tensor.name.clone() }))?;
        factors.entry(module).or_default()[usize::from(!is_a)] = Some(tensor);
    }
    let mut changes = BTreeMap::new();
    for (module, factors) in factors {
        let [Some(a), Some(b)] = factors else { return Err(failed(AdapterProblem::OneFactor { module })) };
        let bad =
            || failed(AdapterProblem::BadShape { module: module.clone(), a: a.shape.clone(), b: b.shape.clone() });
        let (&[rank, cols], &[rows, inner]) = (&a.shape[..], &b.shape[..]) else { return Err(bad()) };
        if rank == 0 || rank != inner {
            return Err(bad());
        }
        let size = |n: u64| usize::try_from(n).map_err(|_| bad());
        let (rank, cols, rows) = (size(rank)?, size(cols)?, size(rows)?);
        let mut b = floats(checkpoint, b, path)?;
        let name = module.strip_suffix(".weight").unwrap_or(&module);
        #[allow(clippy::cast_possible_truncation, reason = "factors are f32")]
        let scale = settings.factor(name, rank) as f32;
        if scale != 1.0 {
            b.iter_mut().for_each(|v| *v *= scale);
        }
        let a = floats(checkpoint, a, path)?;
        changes.insert(module, Change { a, b, rank, cols, rows });
    }
    Ok(changes)
}

fn floats(checkpoint: &Checkpoint, tensor: &TensorInfo, path: &Path) -> Result<Vec<f32>, Error> {
    let mut bytes = vec![0; usize::try_from(tensor.bytes()).unwrap_or(usize::MAX)];
    checkpoint.read_at(tensor, 0, &mut bytes)?;
    let Some(ty) = number_type(tensor.dtype) else {
        let problem = AdapterProblem::BadType { name: tensor.name.clone(), dtype: tensor.dtype };
        return Err(Error::Adapter { path: path.to_owned(), problem });
    };
    let mut values = vec![0.0; bytes.len() / ty.block_bytes()];
    formats::decode(ty, &bytes, &mut values);
    Ok(values)
}

/// A factor of a tensor's change: the end of its name, shape in GGUF order, numbers.
type Factor = (&'static str, Vec<u64>, Vec<f32>);

/// The factors of a tensor's change, if any of its modules is changed.
fn made(
    rule: &TensorRule,
    changes: &BTreeMap<String, Change>,
    turned: bool,
    used: &mut BTreeSet<String>,
) -> Result<Option<[Factor; 2]>, AdapterProblem> {
    for source in &rule.sources {
        let Source::Checkpoint { names, steps, .. } = source else { continue };
        let found: Vec<(String, &Change)> =
            names.iter().filter_map(|name| changes.get(&name).map(|change| (name, change))).collect();
        let Some((first, change)) = found.first() else { continue };
        // All experts are in one tensor: either all are changed, or none.
        let all = match names {
            Names::One(_) => 1,
            Names::Numbered { count, .. } => *count,
        };
        let steps = if turned {
            steps.iter().filter(|step| **step != Step::Transpose).cloned().collect()
        } else {
            steps.clone()
        };
        let one_rank = found.iter().all(|(_, other)| other.rank == change.rank);
        let (Some(places), true, true) = (Places::of(rule, &steps, all), found.len() == all, one_rank) else {
            return Err(AdapterProblem::NoTensor { module: first.clone() });
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (module, change) in &found {
            if !places.fit(change) {
                let (a, b) = ([change.rank, change.cols], [change.rows, change.rank]);
                let [a, b] = [a, b].map(|shape| shape.iter().map(|&n| n as u64).collect());
                return Err(AdapterProblem::BadShape { module: module.clone(), a, b });
            }
            for row in change.a.chunks_exact(change.cols) {
                a.extend(places.cols.iter().map(|&col| row[col]));
            }
            for &row in &places.rows {
                b.extend_from_slice(&change.b[row * change.rank..(row + 1) * change.rank]);
            }
        }
        used.extend(found.iter().map(|(module, _)| module.clone()));
        let stack = matches!(names, Names::Numbered { .. }).then_some(all as u64);
        let shape = |first: usize, second: usize| [first as u64, second as u64].into_iter().chain(stack).collect();
        let (cols, rows) = (places.cols.len(), places.rows.len());
        return Ok(Some([(keys::LORA_A, shape(cols, change.rank), a), (keys::LORA_B, shape(change.rank, rows), b)]));
    }
    Ok(None)
}

/// The positions of a tensor's rows and columns in the weight of its module.
struct Places {
    rows: Vec<usize>,
    cols: Vec<usize>,
    layout: Layout,
}

impl Places {
    /// `None` for a tensor that is not a matrix, or whose steps do more than move rows and columns.
    fn of(rule: &TensorRule, steps: &[Step], count: usize) -> Option<Self> {
        let (&cols, &matrix) = (rule.shape.first()?, rule.shape.get(1)?);
        let rows = rule.shape.iter().skip(1).product::<usize>() / count;
        let layout = Layout::new(steps, rows as u64, cols as u64, matrix as u64);
        let plain = steps
            .iter()
            .all(|step| !matches!(step, Step::Add(_) | Step::NegExp | Step::Reshape | Step::Multiplier { .. }));
        if !plain || layout.transposes() {
            return None;
        }
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let places = Self {
            rows: (0..rows as u64).map(|row| index(layout.source(row, 0).0)).collect(),
            cols: (0..cols as u64).map(|col| index(layout.source(0, col).1)).collect(),
            layout,
        };
        Some(places)
    }

    /// Whether a change fits a weight of this shape.
    fn fit(&self, change: &Change) -> bool {
        let rows = change.rows as u64;
        let enough =
            if self.layout.at_least { rows >= self.layout.source_rows } else { rows == self.layout.source_rows };
        enough && change.cols as u64 == self.layout.source_cols && self.rows.iter().all(|&row| row < change.rows)
    }
}

fn bytes(ty: TensorType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(values.len())];
    formats::encode(ty, values, None, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_lead_to_modules() {
        let of = |name: &str| factor(name);
        let q = || Some(("model.layers.0.self_attn.q_proj.weight".to_owned(), true));
        assert_eq!(of("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"), q());
        assert_eq!(of("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"), q());
        assert_eq!(of("base_model.model.lm_head.lora_B.weight"), Some(("lm_head.weight".to_owned(), false)));
        assert_eq!(of("base_model.model.model.embed_tokens.lora_embedding_A"), None);
        assert_eq!(of("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"), None);
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "exact in binary")]
    fn scales_are_those_of_peft() {
        let settings = |config: Json| Settings::new(&config).expect("settings");
        let scale = |settings: &Settings, module: &str, rank: usize| {
            settings.factor(module, rank) * settings.file_alpha() / rank as f64
        };
        let plain = settings(json!({ "peft_type": "LORA", "r": 8, "lora_alpha": 16 }));
        assert_eq!((plain.factor("a.q_proj", 8), scale(&plain, "a.q_proj", 8)), (1.0, 2.0));
        let root = settings(json!({ "peft_type": "LORA", "r": 16, "lora_alpha": 8, "use_rslora": true }));
        assert_eq!((root.factor("a.q_proj", 16), scale(&root, "a.q_proj", 16)), (1.0, 2.0));
        let patterns = json!({ "peft_type": "LORA", "r": 8, "lora_alpha": 16, "rank_pattern": { "q_proj": 4 },
            "alpha_pattern": { "k_proj": 32 } });
        let patterns = settings(patterns);
        assert_eq!(scale(&patterns, "a.q_proj", 4), 4.0);
        assert_eq!(scale(&patterns, "a.k_proj", 8), 4.0);
        assert_eq!(scale(&patterns, "a.xq_proj", 8), 2.0);
    }

    #[test]
    fn other_kinds_are_refused_by_their_setting() {
        let refused = |config: Json| Settings::new(&config).err().expect("refused").to_string();
        assert_eq!(refused(json!({ "peft_type": "IA3" })), "peft_type \"IA3\" is not supported");
        let with = |name: &str, value: Json| {
            let mut config = json!({ "peft_type": "LORA", "r": 8, "lora_alpha": 16 });
            config[name] = value;
            refused(config)
        };
        assert_eq!(with("use_dora", json!(true)), "use_dora true is not supported");
        assert_eq!(with("bias", json!("all")), "bias \"all\" is not supported");
        assert_eq!(with("lora_alpha", json!(0)), "lora_alpha: a positive number is needed");
    }
}
