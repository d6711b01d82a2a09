//! Hunyuan, dense: the usual model with halves for pairs, queries and keys normed after they are rotated.

mod config;

use super::family::Family;
use super::{TokenKey, usual};
use crate::network::RopeStyle;

/// The family.
pub(super) static HUNYUAN: Family = Family {
    keys: config::keys,
    // The checkpoints' own end of text is another token.
    token_keys: |config| {
        let end = config.count(&["eod_token_id"]).ok().flatten().and_then(|id| u32::try_from(id).ok());
        end.map(|id| TokenKey::Id("eos", id)).into_iter().collect()
    },
    settings: &[
        ("mscale", "[0, 1]"),
        ("mscale_all_dim", "[0, 1]"),
        ("rope_type", r#"["default", "dynamic", "linear", "llama3"]"#),
    ],
    ..Family::new(
        "hunyuan-dense",
        &["HunYuanDenseV1ForCausalLM"],
        |h| {
            let norms = ["self_attn.query_layernorm", "self_attn.key_layernorm"];
            usual::tensors_and(h, false, |block| block.head_norms(h, norms[0], norms[1]))
        },
        |h, weights| usual::spec_with(h, weights, RopeStyle::Halves, |_, mixer| mixer.norm_after_rope = true),
    )
};
