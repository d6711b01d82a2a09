//! Nemotron-H and Nemotron 3: blocks of one part each, Mamba 2, attention without position embedding, or a feed-forward part with
//! a squared ReLU and no gate, dense or of experts.

mod config;

use super::family::Family;
use super::graph::{attention, layer, model_of, plain, routed};
use super::settings::Setting;
use super::{Error, Hparams, Rules, Step, TensorRule, granite_hybrid, keys};
use crate::network::{
    Activation, Experts, FeedForward, Gate, Gating, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, NormSpec,
    Tensors,
};

const CLASS: &str = "NemotronHForCausalLM";

const SETTINGS: &[Setting] = &[("mlp_hidden_act", r#"["relu2"]"#), ("mamba_hidden_act", r#"["silu"]"#)];

/// Dense.
pub(super) static NEMOTRON_H: Family = Family {
    when: |config| !config::has_experts(config),
    keys: |config, keys| config::keys(config, keys, false),
    settings: SETTINGS,
    ..Family::new("nemotron_h", &[CLASS], rules, spec)
};

/// With experts.
pub(super) static NEMOTRON_H_MOE: Family = Family {
    when: config::has_experts,
    keys: |config, keys| config::keys(config, keys, true),
    settings: SETTINGS,
    ..Family::new("nemotron_h_moe", &[CLASS], rules, spec)
};

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mamba,
    Attention,
    Dense,
    Experts,
}

impl Kind {
    fn of_letter(letter: char) -> Option<Self> {
        match letter {
            'M' => Some(Self::Mamba),
            '*' => Some(Self::Attention),
            '-' => Some(Self::Dense),
            'E' => Some(Self::Experts),
            _ => None,
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        match name {
            "mamba" | "linear_attention" => Some(Self::Mamba),
            "attention" | "full_attention" => Some(Self::Attention),
            "mlp" => Some(Self::Dense),
            "moe" => Some(Self::Experts),
            _ => None,
        }
    }

    /// Of each block of a file, by its lengths.
    fn all(h: &Hparams) -> Result<Vec<Self>, Error> {
        let feed_forward = if h.count_or(keys::EXPERT_COUNT, 0)? > 0 { Self::Experts } else { Self::Dense };
        let of = |i: usize| match (h.feed_forward_length[i], h.head_count_kv[i]) {
            (0, 0) => Self::Mamba,
            (0, _) => Self::Attention,
            _ => feed_forward,
        };
        Ok((0..h.block_count).map(of).collect())
    }
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("backbone.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "backbone.embeddings.weight");
    rules.add("output_norm.weight", &[d], "backbone.norm_f.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for (i, kind) in Kind::all(h)?.into_iter().enumerate() {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "norm");
        match kind {
            Kind::Mamba => granite_hybrid::mixer(&mut block, h, "mixer")?,
            Kind::Attention => {
                let (heads, kv_heads) = (h.head_count[i], h.head_count_kv[i]);
                // Nothing is rotated, but the reference makes pairs of halves all the same: of queries and keys alike.
                let pairs = |heads| [Step::InterleaveHalves { heads }];
                block.linear("attn_q", [d, heads * k], "mixer.q_proj", &pairs(heads));
                block.linear("attn_k", [d, kv_heads * k], "mixer.k_proj", &pairs(kv_heads));
                block.linear("attn_v", [d, kv_heads * h.value_length], "mixer.v_proj", &[]);
                block.linear("attn_output", [heads * h.value_length, d], "mixer.o_proj", &[]);
            }
            Kind::Dense => block.plain_ffn(d, h.feed_forward_length[i], "mixer.up_proj", "mixer.down_proj"),
            Kind::Experts => {
                let count = h.positive(keys::EXPERT_COUNT)?;
                // Without the key, the experts of a token share the length of the block.
                let hidden = match h.count_or(keys::EXPERT_FEED_FORWARD_LENGTH, 0)? {
                    0 => h.feed_forward_length[i] / h.positive(keys::EXPERT_USED_COUNT)?,
                    hidden => hidden,
                };
                let shared = h.positive(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH)?;
                block.plain_experts(d, hidden, count, "mixer.experts");
                block.tensor("exp_probs_b.bias", &[count], "mixer.gate.e_score_correction_bias");
                block.weight("ffn_gate_inp", &[d, count], "mixer.gate");
                block.weight("ffn_down_shexp", &[shared, d], "mixer.shared_experts.down_proj");
                block.weight("ffn_up_shexp", &[d, shared], "mixer.shared_experts.up_proj");
            }
        }
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let of_mixer = LayerNorms { mixer_in: Some("attn_norm"), ..LayerNorms::NONE };
    let of_part = LayerNorms { feed_forward_in: Some("attn_norm"), ..LayerNorms::NONE };
    let layers = Kind::all(h)?.into_iter().enumerate().map(|(i, kind)| {
        let (mixer, part) = match kind {
            Kind::Mamba => (Mixer::Mamba2(granite_hybrid::mamba(h)?), FeedForward::None),
            Kind::Attention => (Mixer::Attention(attention(h, i, None)), FeedForward::None),
            Kind::Dense => (Mixer::None, plain(Activation::ReluSquared)),
            Kind::Experts => {
                let experts = routed(h, Activation::ReluSquared, Gating::Sigmoid, false)?;
                (Mixer::None, FeedForward::Experts(Experts { gate: Gate::None, ..experts }))
            }
        };
        let norms = if mixer == Mixer::None { of_part } else { of_mixer };
        Ok(LayerSpec { norms, ..layer(mixer, part) })
    });
    // RMS norms, whose epsilon files have under the other name.
    let epsilon =
        if h.has(keys::LAYER_NORM_RMS_EPSILON) { keys::LAYER_NORM_RMS_EPSILON } else { keys::LAYER_NORM_EPSILON };
    let norm = NormSpec { kind: NormKind::Rms, epsilon: h.f32(epsilon)?, plain: false };
    model_of(h, norm, layers.collect::<Result<_, Error>>()?)
}
