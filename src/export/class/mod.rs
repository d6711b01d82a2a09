//! The classes of transformers that models are exported to: a row for each, with its settings beyond those that all classes
//! have.
//!
//! An incomplete row is safe: the exported folder is converted back before it is kept, and the resulting network must be that of
//! the file.

mod dense;
mod encoders;
mod experts;
mod recurrent;

use serde_json::Value as Json;

use super::source::Source;
use crate::arch::{self, Family, keys};
use crate::network::LatentMixer;

/// A class of transformers.
pub(super) struct Class {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// The conditions for models of the architecture to be of this class; the first row whose conditions hold is used.
    pub(super) when: &'static [When],
    /// Settings of its own, in groups; a later one overrides an earlier one.
    pub(super) settings: &'static [&'static [Setting]],
    /// Settings of its rotary embedding besides those of the kinds of scaling.
    pub(super) rope: &'static [Setting],
    /// Parts of names: where conversion takes a tensor from one of several, this class has the one whose name has such a part,
    /// or else the first.
    pub(super) names: &'static [&'static str],
    /// How its checkpoints' names differ from those of rules.
    pub(super) rename: Rename,
}

/// Another beginning of names.
#[derive(Clone, Copy)]
pub(super) struct Rename {
    /// The beginning in rules.
    from: &'static str,
    /// The beginning in checkpoints.
    to: &'static str,
    /// Beginnings of names that are the same in both.
    but: &'static [&'static str],
}

impl Rename {
    const NONE: Self = Self { from: "", to: "", but: &[] };
    /// Everything but the output matrix lies in a part of this name.
    const TRANSFORMER: Self = Self { from: "", to: "transformer.", but: &["lm_head."] };
}

/// A setting and the source of its value.
pub(super) type Setting = (&'static str, Origin);

/// A condition for models of an architecture to be of a class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// The first layer has this tensor.
    Has(&'static str),
    /// There is a tensor of this name.
    Tensor(&'static str),
    /// There is no tensor of this name.
    NoTensor(&'static str),
    /// Some layers have a sliding window.
    Windows,
    /// There is this key of the architecture.
    Key(&'static str),
    /// This key of the architecture is missing.
    Lacks(&'static str),
    /// This key of the architecture is true.
    True(&'static str),
    /// This key of the architecture holds this number.
    Number(&'static str, u64),
    /// The tokenizer or its pre-tokenizer has this name.
    Tokenizer(&'static str),
    /// Heads are rotated as a whole.
    WholeHeads,
}

/// The source of a setting's value.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// What a key holds, where the file has the key.
    Key(&'static str),
    /// What a key holds, or this value, as JSON.
    KeyOr(&'static str, &'static str),
    /// A boolean that a key holds, or this.
    Flag(&'static str, bool),
    /// What a key holds for each layer, as a list.
    Each(&'static str),
    /// What the first key holds over what the second holds: both are counts.
    Quotient(&'static str, &'static str),
    /// Whether each layer has all of these tensors.
    Has(&'static [&'static str]),
    /// Whether some layer has one of these tensors.
    Any(&'static [&'static str]),
    /// Whether there is this tensor.
    Tensor(&'static str),
    /// A value, as JSON.
    Json(&'static str),
    /// The class has no such setting.
    Absent,
    /// The form of GELU, if it is not the default of the class.
    Gelu,
    /// The length of the sliding window, `null` if no layer has one.
    Window,
    /// A name for each layer: of attention to everything, of attention to a window or a chunk, of anything else.
    Mixers([&'static str; 3]),
    /// A name for each layer: of a dense feed-forward part, of experts.
    FeedForward([&'static str; 2]),
    /// Number of layers before the first with experts.
    DenseLayers,
    /// The function that weighs experts: `softmax` or `sigmoid`.
    Gating,
    /// 1 for each layer that rotates, 0 for each that does not.
    Rotating,
    /// A length of the latent attention.
    Latent(fn(&LatentMixer) -> usize),
    /// Key-value heads of the layers that have attention.
    KvHeads,
    /// The share of a head that is rotated.
    RotaryShare,
    /// The base of the rotary embedding.
    RotaryBase,
    /// The base of layers with sliding windows.
    SlidingBase,
    /// The rotary settings of the layers that see everything and of those with windows, under the names of these kinds.
    RopeOfKinds,
    /// One over the square of the factor of attention scores.
    ScoreScalar,
    /// The softcap of attention scores, `null` if there is none.
    ScoreCap,
    /// The softcap of logits, `null` if there is none.
    LogitCap,
    /// What a function makes of the file; nothing, if the class cannot express it.
    Made(fn(&Source<'_>) -> Option<Json>),
}

use Origin::{Absent, Any, Flag, Has, Key, KeyOr, LogitCap, Mixers, RotaryShare, ScoreCap, ScoreScalar, Window};

const QKV: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias"];
const QKVO: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"];
const GATED: &[&str] = &["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"];
const PLAIN: &[&str] = &["ffn_up.bias", "ffn_down.bias"];

const ATTENTION_BIAS: Setting = ("attention_bias", Has(QKVO));
const INPUT_BIAS: Setting = ("attention_bias", Has(QKV));
/// Where only some layers have attention.
const SOME_BIAS: Setting = ("attention_bias", Any(QKVO));
const MLP_BIAS: Setting = ("mlp_bias", Has(GATED));
const PLAIN_BIAS: Setting = ("mlp_bias", Has(PLAIN));
const SHARE: Setting = ("partial_rotary_factor", RotaryShare);
const WINDOW: Setting = ("sliding_window", Window);
/// The kinds of layers, some of which have a window.
const LAYERS: Setting = ("layer_types", Mixers(["full_attention", "sliding_attention", ""]));
const NORMED: Setting = ("norm_topk_prob", Flag(keys::EXPERT_WEIGHTS_NORM, true));
const NOT_NORMED: Setting = ("norm_topk_prob", Flag(keys::EXPERT_WEIGHTS_NORM, false));
const WEIGHT_SCALE: Setting = ("routed_scaling_factor", KeyOr(keys::EXPERT_WEIGHTS_SCALE, "1.0"));
const CAPS: &[Setting] = &[("attn_logit_softcapping", ScoreCap), LOGIT_CAP];
const LOGIT_CAP: Setting = ("final_logit_softcapping", LogitCap);
const SCALAR: Setting = ("query_pre_attn_scalar", ScoreScalar);
const FACTORS: &[Setting] = &[
    ("attention_multiplier", Key(keys::ATTENTION_SCALE)),
    ("embedding_multiplier", KeyOr(keys::EMBEDDING_SCALE, "1.0")),
    ("residual_multiplier", KeyOr(keys::RESIDUAL_SCALE, "1.0")),
    ("logits_scaling", KeyOr(keys::LOGIT_SCALE, "1.0")),
];
/// The class counts no key-value heads.
const NO_KV_HEADS: Setting = ("num_key_value_heads", Absent);

/// A class of all models of an architecture for which no row before it holds.
const fn class(architecture: &'static str, name: &'static str, settings: &'static [&'static [Setting]]) -> Class {
    Class { architecture, name, when: &[], settings, rope: &[], names: &[], rename: Rename::NONE }
}

/// All classes.
pub(super) fn classes() -> impl Iterator<Item = &'static Class> {
    [dense::CLASSES, experts::CLASSES, recurrent::CLASSES, encoders::CLASSES].into_iter().flatten()
}

impl Class {
    /// The family that converts it: that of the file, if the class is one of its own, else one with the same tensors.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn family(&self, own: &'static Family) -> Result<&'static Family, arch::Error> {
        if own.classes().contains(&self.name) { Ok(own) } else { arch::by_class(self.name) }
    }

    /// The one of several sources that its checkpoints have.
    pub(super) fn source<'a>(&self, sources: &'a [arch::Source]) -> Option<&'a arch::Source> {
        let own = |source: &&arch::Source| match source {
            arch::Source::Checkpoint { names, .. } => {
                names.iter().next().is_some_and(|name| self.names.iter().any(|part| name.contains(part)))
            }
            arch::Source::RopeFactors => false,
        };
        sources.iter().find(own).or_else(|| sources.first())
    }

    /// What its checkpoints call a tensor that rules call `name`.
    pub(super) fn full_name(&self, name: String) -> String {
        let Rename { from, to, but } = self.rename;
        match name.strip_prefix(from) {
            Some(rest) if !but.iter().any(|other| name.starts_with(other)) => format!("{to}{rest}"),
            _ => name,
        }
    }

    /// The settings of the row.
    pub(super) fn settings(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().copied().flatten()
    }

    /// Whether the row says where the setting `name` comes from.
    pub(super) fn has(&self, name: &str) -> bool {
        self.settings().any(|(own, _)| *own == name)
    }
}
