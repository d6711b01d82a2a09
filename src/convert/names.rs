//! Maps names of a checkpoint's tensors to the names in the rules of families.

use crate::arch::{Source, TensorRule};
use crate::safetensors::Checkpoint;

/// Prefixes of the text model in multimodal checkpoints, and their replacements.
const TEXT_PREFIXES: [(&str, &str); 10] = [
    ("model.mtp.", "mtp."),
    ("transformer.", ""),
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.", ""),
    ("text_model.", ""),
    ("bert.", ""),
    ("roberta.", ""),
    ("distilbert.transformer.", ""),
    ("distilbert.", ""),
];

/// Parts of the names of tensors that are not part of the text model: those for images, sound and training, and heads for masked
/// tokens and next sentences.
const NOT_TEXT: [&str; 15] = [
    "visual.",
    "vision",
    "audio",
    "multi_modal_projector.",
    "mm_projector",
    "image_newline",
    ".rotary_emb.inv_freq",
    ".attention.masked_bias",
    ".attn.masked_bias",
    "cls.predictions.",
    "cls.seq_relationship.",
    "embeddings.position_ids",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
];

/// Whether a tensor, as rules call it, is of BERT's pooler: a part of a classification head, and of nothing else.
pub(super) fn is_pooler(name: &str) -> bool {
    name.starts_with("pooler.dense.")
}

/// The name of a checkpoint's tensor as rules call it; none for what is no part of the text model.
pub(super) fn text_name(name: &str) -> Option<String> {
    if NOT_TEXT.iter().any(|part| name.contains(part))
        || name.ends_with(".attention.bias") && !name.contains("self_attn")
        || name.ends_with(".attn.bias")
    {
        return None;
    }
    let renamed = TEXT_PREFIXES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    Some(renamed.unwrap_or_else(|| name.to_owned()))
}

/// The prefix that is missing in a checkpoint saved from the bare model.
#[derive(Clone, Copy)]
pub(super) struct BarePrefix(&'static str);

/// Prefixes under which a model with an output matrix has the bare model.
const MODEL_PREFIXES: [&str; 2] = ["model.", "gpt_neox."];
/// Names that stand beside the bare model.
const BESIDE: [&str; 5] = ["lm_head.", "embed_out.", "mtp.", "2_Dense.", "3_Dense."];

impl BarePrefix {
    /// The name in a model with an output matrix.
    pub(super) fn of(self, name: String) -> String {
        if BESIDE.iter().any(|beside| name.starts_with(beside)) { name } else { format!("{}{name}", self.0) }
    }
}

/// The missing prefix, if `checkpoint` was saved from the bare model: it has `layers.0.` in place of `model.layers.0.`.
pub(super) fn bare_prefix(rules: &[TensorRule], checkpoint: &Checkpoint) -> Option<BarePrefix> {
    let first = rules.iter().flat_map(|rule| &rule.sources).find_map(|source| match source {
        Source::Checkpoint { names, .. } => names.iter().next(),
        Source::RopeFactors => None,
    })?;
    let prefix = MODEL_PREFIXES.into_iter().find(|prefix| first.starts_with(prefix))?;
    let mut names = checkpoint.tensors().iter().filter_map(|tensor| text_name(&tensor.name));
    (!names.any(|name| name.starts_with(prefix))).then_some(BarePrefix(prefix))
}
