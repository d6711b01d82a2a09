//! Hunyuan, dense and with experts: the usual model with halves for pairs, queries and keys normed after they are rotated.

mod config;

use super::family::Family;
use super::graph::experts;
use super::settings::Setting;
use super::{Config, Error, Hparams, TensorRule, TokenKey, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

const NORMS: [&str; 2] = ["self_attn.query_layernorm", "self_attn.key_layernorm"];

const SETTINGS: &[Setting] = &[
    ("mscale", "[0, 1]"),
    ("mscale_all_dim", "[0, 1]"),
    ("rope_type", r#"["default", "dynamic", "linear", "llama3"]"#),
];

/// The checkpoints' own end of text is another token.
fn token_keys(config: &Config) -> Vec<TokenKey> {
    let end = config.count(&["eod_token_id"]).ok().flatten().and_then(|id| u32::try_from(id).ok());
    end.map(|id| TokenKey::Id("eos", id)).into_iter().collect()
}

/// Dense.
pub(super) static HUNYUAN: Family = Family {
    keys: config::keys,
    token_keys,
    settings: SETTINGS,
    ..Family::new(
        "hunyuan-dense",
        &["HunYuanDenseV1ForCausalLM"],
        |h| usual::tensors_and(h, false, |block| block.head_norms(h, NORMS[0], NORMS[1])),
        |h, weights| usual::spec_with(h, weights, RopeStyle::Halves, |_, mixer| mixer.norm_after_rope = true),
    )
};

/// With experts in every block, and a part that all tokens share.
pub(super) static HUNYUAN_MOE: Family = Family {
    keys: config::moe_keys,
    // As the reference has it, whatever the settings say.
    token_keys: |_| vec![TokenKey::Id("bos", 127_959)],
    settings: SETTINGS,
    ..Family::new("hunyuan-moe", &["HunYuanMoEV1ForCausalLM"], moe_rules, moe_spec)
};

fn moe_rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let shared = h.shared_expert_length()?;
    if h.count_or(keys::EXPERT_SHARED_COUNT, 1)? != 1 {
        return Err(h.bad_key(keys::EXPERT_SHARED_COUNT, "1"));
    }
    usual::tensors_of(h, false, |block, _| {
        block.head_norms(h, NORMS[0], NORMS[1]);
        block.weight("ffn_gate_inp", &[d, count], "mlp.gate.wg");
        block.experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
        block.shared_expert(d, shared, "mlp.shared_mlp");
        Ok(())
    })
}

fn moe_spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let experts = experts(h, Activation::Silu, Gating::Softmax, true)?;
    usual::spec_of(
        h,
        weights,
        NormKind::Rms,
        RopeStyle::Halves,
        |_| experts.clone(),
        |_, mixer| {
            mixer.norm_after_rope = true;
        },
    )
}
