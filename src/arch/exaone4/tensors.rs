//! Tensors: separate projections, norms of heads and after each part.

use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.attention(h, i, false);
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
        block.weight("post_ffw_norm", &[d], "post_feedforward_layernorm");
    }
    Ok(rules.finish())
}
