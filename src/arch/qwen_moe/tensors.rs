//! Tensors: separate projections, experts, and for Qwen 2 a shared part with its gate.

use super::QwenMoe;
use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(family: QwenMoe, h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, experts) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let hidden = h.expert_length()?;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        if family == QwenMoe::Qwen3 {
            block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        }
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.routed_experts(d, hidden, experts, "mlp");
        if family == QwenMoe::Qwen2 {
            block.gated_shared_expert(d, h.shared_expert_length()?, "mlp");
        }
    }
    Ok(rules.finish())
}
