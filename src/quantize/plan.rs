//! The plan: the type of each tensor with the reason, the metadata, and the exact size of the file, before any weight is
//! read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::importance::is_required;
use super::mix::{Category, Mix, ModelFacts, fallback};
use super::pruned_layers::LayerNumbers;
use super::recipe::TensorQuery;
use super::{Error, FileType, Options, Source};
use crate::TensorType;
use crate::formats;
use crate::gguf::{Metadata, TensorSpec, Value, keys, layer_of, split_file_sizes};

/// Why a tensor gets its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The tensor is never quantized: a norm, a bias, a router.
    NotQuantized,
    /// The default of the mix.
    Default,
    /// A rule of the mix.
    Rule(&'static str),
    /// An option.
    Override,
    /// The model of `--like` has this type.
    Like,
    /// The line of a recipe.
    Recipe(usize),
    /// The rows do not fill blocks of this type.
    Fallback(TensorType),
    /// The tensor is copied.
    Copied,
}

impl Reason {
    /// The reason as one word, for programs.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::NotQuantized => "not_quantized",
            Self::Default => "default",
            Self::Rule(_) => "rule",
            Self::Override => "override",
            Self::Like => "like",
            Self::Recipe(_) => "recipe",
            Self::Fallback(_) => "fallback",
            Self::Copied => "copied",
        }
    }

    /// The reason in a few words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::NotQuantized => "not quantized".into(),
            Self::Default => "default".into(),
            Self::Rule(rule) => format!("mix: {rule}"),
            Self::Override => "override".into(),
            Self::Like => "as in the other model".into(),
            Self::Recipe(line) => format!("recipe: line {line}"),
            Self::Fallback(ty) => format!("fallback: rows do not fill {ty}"),
            Self::Copied => "copied".into(),
        }
    }
}

/// One tensor of the plan.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// The tensor that will be written.
    pub spec: TensorSpec,
    /// Number of the source's tensor.
    pub source: usize,
    /// Type in the source.
    pub source_type: TensorType,
    /// Number of the file it goes to.
    pub shard: usize,
    /// The reason for its type.
    pub reason: Reason,
    /// The importance of each column, `[matrices, cols]`, if it is known.
    pub importance: Option<Arc<[f32]>>,
    /// Whether its type needs importance.
    pub needs_importance: bool,
}

impl PlannedTensor {
    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> u64 {
        self.spec.shape.first().copied().unwrap_or(1)
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.spec.shape.iter().product()
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.spec.shape.iter().skip(1).product()
    }

    /// Bytes in the output.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spec.ty.bytes_for(self.elements()).unwrap_or(0)
    }

    /// Bytes in the source.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.source_type.bytes_for(self.elements()).unwrap_or(0)
    }
}

/// What will be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the output.
    pub tensors: Vec<PlannedTensor>,
    /// Number of files.
    pub shards: usize,
    /// Bytes of all files.
    pub file_bytes: u64,
}

/// How a model is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    /// Maximum tensors in a file.
    Tensors(usize),
    /// Maximum bytes of tensors in a file; a larger tensor has a file of its own.
    Bytes(u64),
}

/// Totals of the tensors of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeTotal {
    /// Tensors of this type.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl TypeTotal {
    /// Adds `tensors` tensors with `parameters` elements and `bytes` bytes in all.
    pub fn add(&mut self, tensors: usize, parameters: u64, bytes: u64) {
        self.tensors += tensors;
        self.parameters = self.parameters.saturating_add(parameters);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Plan {
    /// Plans `options` for `source`.
    ///
    /// # Errors
    /// When a type cannot be read or written, a tensor would be quantized twice, or a forbidden fallback is needed.
    pub fn new(source: &dyn Source, options: &Options) -> Result<Self, Error> {
        let layers = match &options.prune_layers[..] {
            [] => None,
            pruned => Some(LayerNumbers::new(source, pruned)?),
        };
        let kept = in_order(source, options, layers.as_ref());
        let tensors = if options.copy { copied(kept) } else { assign(source, options, kept)? };
        let metadata = metadata(source, options, layers.as_ref());
        let shards = tensors.iter().map(|tensor| tensor.shard + 1).max().unwrap_or(1);
        let mut plan = Self { metadata, tensors, shards, file_bytes: 0 };
        plan.file_bytes = plan.file_sizes()?.iter().sum();
        Ok(plan)
    }

    /// Plans to write `source` as it is, in as many files as `by` asks for.
    ///
    /// # Errors
    /// When the metadata cannot be stored in a file.
    pub fn split(source: &dyn Source, by: SplitBy) -> Result<Self, Error> {
        let mut plan = Self::new(source, &Options { copy: true, ..Options::new(FileType::F16) })?;
        let (mut shard, mut tensors, mut bytes) = (0, 0, 0u64);
        for tensor in &mut plan.tensors {
            let full = match by {
                SplitBy::Tensors(most) => tensors >= most,
                SplitBy::Bytes(most) => bytes.saturating_add(tensor.bytes()) > most,
            };
            if full && tensors > 0 {
                (shard, tensors, bytes) = (shard + 1, 0, 0);
            }
            tensor.shard = shard;
            tensors += 1;
            bytes = bytes.saturating_add(tensor.bytes());
        }
        plan.shards = shard + 1;
        plan.file_bytes = plan.file_sizes()?.iter().sum();
        Ok(plan)
    }

    /// The tensors of each file.
    #[must_use]
    pub fn files(&self) -> Vec<Vec<TensorSpec>> {
        let mut files = vec![Vec::new(); self.shards];
        for tensor in &self.tensors {
            files[tensor.shard].push(tensor.spec.clone());
        }
        files
    }

    /// Bytes of each file.
    ///
    /// # Errors
    /// When metadata or tensors cannot be stored in a file.
    pub fn file_sizes(&self) -> Result<Vec<u64>, Error> {
        Ok(split_file_sizes(&self.metadata, &self.files())?)
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::elements).sum()
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::bytes).sum()
    }

    /// Bytes that these tensors have in the source.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::source_bytes).sum()
    }

    /// Bits of an element on average; zero for a model without any.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "some digits are shown")]
    pub fn bits_per_weight(&self) -> f64 {
        self.tensor_bytes() as f64 * 8.0 / self.parameters().max(1) as f64
    }

    /// Totals by type.
    #[must_use]
    pub fn by_type(&self) -> BTreeMap<TensorType, TypeTotal> {
        let mut totals: BTreeMap<TensorType, TypeTotal> = BTreeMap::new();
        for tensor in &self.tensors {
            totals.entry(tensor.spec.ty).or_default().add(1, tensor.elements(), tensor.bytes());
        }
        totals
    }

    /// Checks that importance is known for all tensors whose types need it.
    ///
    /// # Errors
    /// [`Error::NeedsImportance`] for the first tensor without it. `source` must be the source of the plan.
    pub fn check_importance(&self, source: &dyn Source) -> Result<(), Error> {
        match self.tensors.iter().find(|tensor| tensor.needs_importance && tensor.importance.is_none()) {
            None => Ok(()),
            Some(tensor) => Err(Error::NeedsImportance {
                path: source.path().to_owned(),
                name: tensor.spec.name.clone(),
                ty: tensor.spec.ty,
            }),
        }
    }

    /// Tensors that are quantized without importance.
    pub fn without_importance(&self) -> impl Iterator<Item = &PlannedTensor> {
        let quantized = |t: &&PlannedTensor| t.spec.ty != t.source_type && t.spec.ty.is_quantized();
        self.tensors.iter().filter(quantized).filter(|tensor| tensor.importance.is_none())
    }

    /// Tensors that got another type because their rows do not fill blocks.
    pub fn fallbacks(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.tensors.iter().filter(|t| matches!(t.reason, Reason::Fallback(_)))
    }
}

/// A tensor of the source that is kept.
struct Kept {
    source: usize,
    shard: usize,
    spec: TensorSpec,
}

/// The source's tensors in the order of the output: those outside layers first, then layer by layer, by name. With
/// `keep_split`, in the order of the source.
fn in_order(source: &dyn Source, options: &Options, layers: Option<&LayerNumbers>) -> Vec<Kept> {
    let shard = |tensor| if options.keep_split { source.place(tensor).0 } else { 0 };
    let all = source.tensors().iter().cloned().enumerate();
    let mut all: Vec<Kept> = all.map(|(source, spec)| Kept { source, shard: shard(source), spec }).collect();
    if !options.copy {
        all.iter_mut().for_each(|kept| kept.spec.shape.truncate(dimensions(&kept.spec)));
    }
    if options.keep_split {
        all.sort_by_key(|kept| source.place(kept.source));
    } else if !options.copy {
        all.sort_by(|a, b| (layer_of(&a.spec.name), &a.spec.name).cmp(&(layer_of(&b.spec.name), &b.spec.name)));
    }
    if let Some(layers) = layers {
        all.retain_mut(|kept| layers.rename(&mut kept.spec));
    }
    all
}

fn copied(kept: Vec<Kept>) -> Vec<PlannedTensor> {
    let copy = |Kept { source, shard, spec }: Kept| PlannedTensor {
        source,
        source_type: spec.ty,
        shard,
        spec,
        reason: Reason::Copied,
        importance: None,
        needs_importance: false,
    };
    kept.into_iter().map(copy).collect()
}

fn assign(source: &dyn Source, options: &Options, kept: Vec<Kept>) -> Result<Vec<PlannedTensor>, Error> {
    for pattern in &options.tensor_types {
        if !source.tensors().iter().any(|tensor| pattern.matches(&tensor.name)) {
            let pattern = pattern.pattern().to_owned();
            return Err(Error::NoMatch { path: source.path().to_owned(), pattern });
        }
    }
    let mut mix = Mix::new(options.file_type, facts(source, options, &kept)?);
    kept.into_iter()
        .map(|Kept { source: number, shard, mut spec }| {
            let source_type = spec.ty;
            let (ty, reason) = choose(source, options, &mut mix, &spec)?;
            let path = || source.path().to_owned();
            if ty != source_type {
                if formats::codec(source_type).is_none() {
                    return Err(Error::NotReadable { path: path(), name: spec.name, ty: source_type });
                }
                if formats::codec(ty).is_none_or(|codec| codec.encode.is_none()) {
                    return Err(Error::NotWritable { path: path(), name: spec.name, ty });
                }
                if source_type.is_quantized() && !options.allow_requantize {
                    return Err(Error::Requantize { path: path(), name: spec.name, ty: source_type });
                }
            }
            spec.ty = ty;
            let own_name = &source.tensors()[number].name;
            let changed = ty != source_type && ty.is_quantized();
            let importance = match &options.importance {
                Some(importance) if changed => importance.of(source.path(), own_name, &spec)?,
                _ => None,
            };
            let needs_importance = changed && is_required(&spec.name, ty, options.file_type);
            Ok(PlannedTensor { spec, source: number, source_type, shard, reason, importance, needs_importance })
        })
        .collect()
}

fn choose(
    source: &dyn Source,
    options: &Options,
    mix: &mut Mix,
    spec: &TensorSpec,
) -> Result<(TensorType, Reason), Error> {
    let cols = spec.shape.first().copied().unwrap_or(1);
    let name = spec.name.as_str();
    let like = options.like.as_ref().and_then(|like| like.ty(name));
    if name == "output.weight" && options.leave_output_tensor {
        return Ok((spec.ty, Reason::NotQuantized));
    }
    if !is_quantized(spec) {
        // This overrides the rules, because the other model need not follow them.
        let like = like.filter(|&ty| ty != spec.ty && fallback(ty, cols).is_none());
        return Ok(like.map_or((spec.ty, Reason::NotQuantized), |ty| (ty, Reason::Like)));
    }
    let category = Category::of(name);
    let pattern = options.tensor_types.iter().find(|p| p.matches(name));
    let own_pattern = name == "per_layer_token_embd.weight" && pattern.is_some();
    match (category, options.token_embedding_type, options.output_tensor_type) {
        (Category::Embedding, Some(ty), _) if !own_pattern => return Ok((ty, Reason::Override)),
        (Category::Output, _, Some(ty)) => return Ok((ty, Reason::Override)),
        _ => {}
    }
    let default = options.file_type.default_type();
    let is_plain = !default.is_quantized();
    if is_plain && like.is_none() && options.recipe.is_none() {
        return Ok((default, Reason::Default));
    }
    let (ty, reason) = if let Some(pattern) = pattern {
        (pattern.ty(), Reason::Override)
    } else if let Some(ty) = like {
        (ty, Reason::Like)
    } else {
        let (base, reason) = if is_plain || options.pure {
            (default, Reason::Default)
        } else {
            let tied_output = category == Category::Embedding && !mix.has_output();
            match (mix.next(name, &spec.shape), options.output_tensor_type) {
                (_, Some(ty)) if tied_output => (ty, Reason::Override),
                ((ty, Some(rule)), _) => (ty, Reason::Rule(rule)),
                ((ty, None), _) => (ty, Reason::Default),
            }
        };
        let query = TensorQuery { name, layers: mix.layers(), has_output: mix.has_output() };
        let recipe = options.recipe.as_ref().filter(|_| reason != Reason::Override);
        let by_recipe = recipe.and_then(|recipe| recipe.choose(query, base, spec.ty));
        by_recipe.map_or((base, reason), |(ty, line)| (ty, Reason::Recipe(line)))
    };
    match fallback(ty, cols) {
        None => Ok((ty, reason)),
        Some(fallback) if options.no_fallback => {
            Err(Error::Fallback { path: source.path().to_owned(), name: name.to_owned(), cols, ty, fallback })
        }
        Some(fallback) => Ok((fallback, Reason::Fallback(ty))),
    }
}

/// Dimensions of a tensor, as ggml counts them: without those of 1 at the end.
fn dimensions(spec: &TensorSpec) -> usize {
    spec.shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1)
}

/// Whether a tensor can be quantized: it is a matrix, and not one of those that keep their type in every mix.
#[must_use]
pub fn is_quantized(spec: &TensorSpec) -> bool {
    const NEVER: &[&str] = &[
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        "attn_rel_b.weight",
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    spec.shape.iter().skip(1).any(|&n| n > 1)
        && spec.name.ends_with("weight")
        && !NEVER.iter().any(|part| spec.name.contains(part))
        && spec.name != "position_embd.weight"
        && spec.name != "token_types.weight"
}

fn facts(source: &dyn Source, options: &Options, kept: &[Kept]) -> Result<ModelFacts, Error> {
    let metadata = source.metadata();
    let overriding = |key: &str| options.override_kv.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value);
    let missing = |key: &str| Error::Key { path: source.path().to_owned(), key: key.to_owned(), problem: "missing" };
    let architecture = overriding(keys::GENERAL_ARCHITECTURE)
        .or_else(|| metadata.get(keys::GENERAL_ARCHITECTURE))
        .and_then(Value::as_str)
        .ok_or_else(|| missing(keys::GENERAL_ARCHITECTURE))?;
    let number = |name: &str| -> Option<usize> {
        let key = keys::of(architecture, name);
        let first = match metadata.get(&key) {
            // A value with one element per layer is not overridden.
            Some(Value::Array(array)) => array.iter().next()?.as_u64(),
            value => overriding(&key).or(value)?.as_u64(),
        };
        usize::try_from(first?).ok()
    };
    // Pruned layers count as well, as in llama-quantize.
    let layers = number(keys::BLOCK_COUNT).ok_or_else(|| missing(&keys::of(architecture, keys::BLOCK_COUNT)))?;
    let heads = number("attention.head_count").unwrap_or(0);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let experts = number("expert_count").unwrap_or(0);
    let large = matches!(architecture, "llama") && experts != 8 && heads != kv_heads
        || matches!(architecture, "qwen2" | "deci" | "olmo");
    Ok(ModelFacts {
        architecture: architecture.to_owned(),
        layers,
        experts,
        heads_per_kv: heads.checked_div(kv_heads).unwrap_or(0),
        seventy_billion: large && layers == 80,
        has_output: kept.iter().any(|kept| kept.spec.name == "output.weight"),
        has_importance: options.importance.is_some(),
        values: kept.iter().filter(|kept| matches!(Category::of(&kept.spec.name), Category::Value)).count(),
    })
}

fn metadata(source: &dyn Source, options: &Options, layers: Option<&LayerNumbers>) -> Metadata {
    let mut metadata = source.metadata().clone();
    if !options.copy {
        metadata.set_last(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
        metadata.set_last(keys::GENERAL_FILE_TYPE, Value::U32(options.file_type.id()));
    }
    for key in [keys::SPLIT_NO, keys::SPLIT_COUNT, keys::SPLIT_TENSORS_COUNT] {
        metadata.remove(key);
    }
    for (key, value) in &options.override_kv {
        metadata.set_last(key.clone(), value.clone());
    }
    if let Some(importance) = options.importance.as_ref().filter(|_| !options.copy) {
        importance.describe(&mut metadata);
    }
    if let Some(layers) = layers {
        layers.describe(&mut metadata);
    }
    metadata
}
