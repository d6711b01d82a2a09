//! Tensors: separate projections with or without biases and head norms, dense blocks first, then experts with a
//! shared part.

use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let shared = h.count(keys::EXPERT_SHARED_COUNT)?;
    let mut rules = Rules::new(h);
    for (i, like) in h.all_blocks() {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, like, false);
        block.weight("attn_q_norm", &[h.key_length], "self_attn.q_norm").optional();
        block.weight("attn_k_norm", &[h.key_length], "self_attn.k_norm").optional();
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            continue;
        }
        block.corrected_experts(h, shared)?;
        if i >= h.block_count {
            block.prediction(h, |part| format!("model.layers.{i}.{}", part.replace("head_", "head.")), &[]);
        }
    }
    Ok(rules.finish())
}
