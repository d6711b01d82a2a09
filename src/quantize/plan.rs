//! The plan: which tensor gets which type and why, the metadata, and the exact size of the file, before any weight is
//! read.

use regex::Regex;

use super::mix::{Category, Mix, ModelFacts, fallback};
use super::{Error, FileType, Source};
use crate::TensorType;
use crate::gguf::{Metadata, TensorSpec, Value, file_size, keys};
use crate::quant;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mix.
    pub file_type: FileType,
    /// All tensors get the mix's default type.
    pub pure: bool,
    /// The output matrix stays as it is.
    pub leave_output_tensor: bool,
    /// Type of the output matrix.
    pub output_tensor_type: Option<TensorType>,
    /// Type of the token embedding.
    pub token_embedding_type: Option<TensorType>,
    /// Types of the tensors whose names a pattern matches; the first that does counts.
    pub tensor_types: Vec<TensorPattern>,
    /// Quantized tensors may be quantized again.
    pub allow_requantize: bool,
    /// Another type must not be taken for rows that do not fill blocks.
    pub no_fallback: bool,
    /// Keys to set.
    pub override_kv: Vec<(String, Value)>,
    /// Blocks to leave out.
    pub prune_blocks: Vec<usize>,
    /// Tensors stay as they are, whatever the mix says: for a conversion to plain numbers.
    pub copy: bool,
}

impl Options {
    /// The mix as it is, with no other wish.
    #[must_use]
    pub fn new(file_type: FileType) -> Self {
        Self {
            file_type,
            pure: false,
            leave_output_tensor: false,
            output_tensor_type: None,
            token_embedding_type: None,
            tensor_types: Vec::new(),
            allow_requantize: false,
            no_fallback: false,
            override_kv: Vec::new(),
            prune_blocks: Vec::new(),
            copy: false,
        }
    }
}

/// A type for the tensors whose names a pattern matches.
#[derive(Clone, Debug)]
pub struct TensorPattern {
    pattern: Regex,
    ty: TensorType,
}

impl TensorPattern {
    /// A pattern in lower case, as llama-quantize takes it.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn new(pattern: &str, ty: TensorType) -> Result<Self, Error> {
        let problem = |e: regex::Error| Error::Pattern {
            pattern: pattern.to_owned(),
            problem: e.to_string().lines().last().unwrap_or_default().to_owned(),
        };
        Ok(Self { pattern: Regex::new(&pattern.to_lowercase()).map_err(problem)?, ty })
    }
}

/// Why a tensor gets its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is none that is quantized: a norm, a bias, a router.
    NotQuantized,
    /// It is the mix's default.
    Default,
    /// A rule of the mix.
    Rule(&'static str),
    /// An option says so.
    Override,
    /// Its rows do not fill blocks of the type named.
    Fallback(TensorType),
    /// It is copied.
    Copied,
}

impl Reason {
    /// In a few words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::NotQuantized => "not quantized".into(),
            Self::Default => "default".into(),
            Self::Rule(rule) => format!("mix: {rule}"),
            Self::Override => "override".into(),
            Self::Fallback(ty) => format!("fallback: rows do not fill {ty}"),
            Self::Copied => "copied".into(),
        }
    }
}

/// One tensor of the plan.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// What will be written.
    pub spec: TensorSpec,
    /// Number of the source's tensor.
    pub source: usize,
    /// Type there.
    pub source_type: TensorType,
    /// Why it gets its type.
    pub reason: Reason,
}

impl PlannedTensor {
    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> u64 {
        self.spec.shape.first().copied().unwrap_or(1)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.spec.shape.iter().skip(1).product()
    }

    /// Bytes in the output.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.spec.ty.bytes_for(self.spec.shape.iter().product()).unwrap_or(0)
    }

    /// Bytes in the source.
    #[must_use]
    pub fn source_bytes(&self) -> u64 {
        self.source_type.bytes_for(self.spec.shape.iter().product()).unwrap_or(0)
    }
}

/// What will be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the file.
    pub tensors: Vec<PlannedTensor>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Plan {
    /// Plans `options` for `source`.
    ///
    /// # Errors
    /// When a type cannot be read or written, a tensor would be quantized twice, or a forbidden fallback is needed.
    pub fn new(source: &dyn Source, options: &Options) -> Result<Self, Error> {
        let kept: Vec<(usize, TensorSpec)> = in_order(source, options);
        let tensors = if options.copy { copied(kept) } else { assign(source, options, kept)? };
        let metadata = if options.copy { source.metadata().clone() } else { metadata(source, options) };
        let specs: Vec<TensorSpec> = tensors.iter().map(|t| t.spec.clone()).collect();
        let file_bytes = file_size(&metadata, &specs)?;
        Ok(Self { metadata, tensors, file_bytes })
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.spec.shape.iter().product::<u64>()).sum()
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::bytes).sum()
    }

    /// Tensors that got another type because their rows do not fill blocks.
    #[must_use]
    pub fn fallbacks(&self) -> usize {
        self.tensors.iter().filter(|t| matches!(t.reason, Reason::Fallback(_))).count()
    }
}

/// The source's tensors in the order of the output: those outside blocks first, then block by block, by name.
fn in_order(source: &dyn Source, options: &Options) -> Vec<(usize, TensorSpec)> {
    let mut all: Vec<(usize, TensorSpec)> = source.tensors().iter().cloned().enumerate().collect();
    if options.copy {
        return all;
    }
    let block = |name: &str| -> Option<usize> { name.strip_prefix("blk.")?.split('.').next()?.parse().ok() };
    if !options.prune_blocks.is_empty() {
        let mut pruned = options.prune_blocks.clone();
        pruned.sort_unstable();
        pruned.dedup();
        all.retain_mut(|(_, spec)| {
            let Some(number) = block(&spec.name) else { return true };
            if pruned.contains(&number) {
                return false;
            }
            let before = pruned.iter().filter(|&&p| p < number).count();
            let rest = spec.name.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
            spec.name = format!("blk.{}.{rest}", number - before);
            true
        });
    }
    all.sort_by(|(_, a), (_, b)| (block(&a.name), &a.name).cmp(&(block(&b.name), &b.name)));
    all
}

fn copied(kept: Vec<(usize, TensorSpec)>) -> Vec<PlannedTensor> {
    kept.into_iter()
        .map(|(source, spec)| PlannedTensor { source, source_type: spec.ty, spec, reason: Reason::Copied })
        .collect()
}

fn assign(source: &dyn Source, options: &Options, kept: Vec<(usize, TensorSpec)>) -> Result<Vec<PlannedTensor>, Error> {
    let mut mix = Mix::new(options.file_type, facts(source, options, &kept)?);
    kept.into_iter()
        .map(|(number, mut spec)| {
            let source_type = spec.ty;
            let (ty, reason) = choose(source, options, &mut mix, &spec)?;
            let path = || source.path().to_owned();
            if ty != source_type {
                let codecs = [source_type, ty].map(|ty| (ty, quant::codec(ty)));
                if let Some((ty, _)) = codecs.iter().find(|(_, codec)| codec.is_none()) {
                    return Err(Error::NoCodec { path: path(), name: spec.name, ty: *ty });
                }
                if source_type.is_quantized() && !options.allow_requantize {
                    return Err(Error::Requantize { path: path(), name: spec.name, ty: source_type });
                }
            }
            spec.ty = ty;
            Ok(PlannedTensor { spec, source: number, source_type, reason })
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
    if !is_quantized(spec) || name == "output.weight" && options.leave_output_tensor {
        return Ok((spec.ty, Reason::NotQuantized));
    }
    let category = Category::of(name);
    let pattern = options.tensor_types.iter().find(|p| p.pattern.is_match(name));
    let own_pattern = name == "per_layer_token_embd.weight" && pattern.is_some();
    match (category, options.token_embedding_type, options.output_tensor_type) {
        (Category::Embedding, Some(ty), _) if !own_pattern => return Ok((ty, Reason::Override)),
        (Category::Output, _, Some(ty)) => return Ok((ty, Reason::Override)),
        _ => {}
    }
    let default = options.file_type.default_type();
    if !default.is_quantized() {
        return Ok((default, Reason::Default));
    }
    let (ty, reason) = if let Some(pattern) = pattern {
        (pattern.ty, Reason::Override)
    } else if options.pure {
        (default, Reason::Default)
    } else {
        let tied_output = category == Category::Embedding && !mix.has_output();
        match (mix.next(name, cols), options.output_tensor_type) {
            (_, Some(ty)) if tied_output => (ty, Reason::Override),
            ((ty, Some(rule)), _) => (ty, Reason::Rule(rule)),
            ((ty, None), _) => (ty, Reason::Default),
        }
    };
    match fallback(ty, cols) {
        None => Ok((ty, reason)),
        Some(fallback) if options.no_fallback => {
            Err(Error::Fallback { path: source.path().to_owned(), name: name.to_owned(), cols, ty, fallback })
        }
        Some(fallback) => Ok((fallback, Reason::Fallback(ty))),
    }
}

/// Whether a tensor is one that is ever quantized.
fn is_quantized(spec: &TensorSpec) -> bool {
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
    ];
    let dims = spec.shape.iter().rposition(|&n| n > 1).map_or(1, |last| last + 1);
    dims >= 2
        && spec.name.ends_with("weight")
        && !NEVER.iter().any(|part| spec.name.contains(part))
        && spec.name != "position_embd.weight"
        && spec.name != "token_types.weight"
}

fn facts(source: &dyn Source, options: &Options, kept: &[(usize, TensorSpec)]) -> Result<ModelFacts, Error> {
    let metadata = source.metadata();
    let missing = |key: &str| Error::Key { path: source.path().to_owned(), key: key.to_owned(), problem: "missing" };
    let architecture = metadata
        .get(keys::GENERAL_ARCHITECTURE)
        .and_then(Value::as_str)
        .ok_or_else(|| missing(keys::GENERAL_ARCHITECTURE))?;
    let number = |name: &str| -> Option<usize> {
        let value = metadata.get(&keys::of(architecture, name))?;
        let first = match value {
            Value::Array(array) => array.iter().next()?.as_u64(),
            other => other.as_u64(),
        };
        usize::try_from(first?).ok()
    };
    let blocks = number(keys::BLOCK_COUNT).ok_or_else(|| missing(&keys::of(architecture, keys::BLOCK_COUNT)))?;
    let heads = number("attention.head_count").unwrap_or(0);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let experts = number("expert_count").unwrap_or(0);
    let large = matches!(architecture, "llama") && experts != 8 && heads != kv_heads
        || matches!(architecture, "qwen2" | "deci" | "olmo");
    Ok(ModelFacts {
        architecture: architecture.to_owned(),
        blocks: blocks - options.prune_blocks.len().min(blocks),
        experts,
        heads_per_kv: heads.checked_div(kv_heads).unwrap_or(0),
        seventy_billion: large && blocks == 80,
        has_output: kept.iter().any(|(_, spec)| spec.name == "output.weight"),
        values: kept.iter().filter(|(_, spec)| matches!(Category::of(&spec.name), Category::Value)).count(),
    })
}

fn metadata(source: &dyn Source, options: &Options) -> Metadata {
    let mut metadata = source.metadata().clone();
    metadata.set_last(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
    metadata.set_last(keys::GENERAL_FILE_TYPE, Value::U32(options.file_type.id()));
    for key in [keys::SPLIT_NO, keys::SPLIT_COUNT, keys::SPLIT_TENSORS_COUNT] {
        metadata.remove(key);
    }
    for (key, value) in &options.override_kv {
        metadata.set_last(key.clone(), value.clone());
    }
    if !options.prune_blocks.is_empty() {
        let architecture = metadata.get(keys::GENERAL_ARCHITECTURE).and_then(Value::as_str).unwrap_or_default();
        let key = keys::of(architecture, keys::BLOCK_COUNT);
        let count = metadata.get(&key).and_then(Value::as_u64).unwrap_or(0);
        let left = count.saturating_sub(options.prune_blocks.len() as u64);
        metadata.set_last(key, Value::U32(u32::try_from(left).unwrap_or(u32::MAX)));
    }
    metadata
}
