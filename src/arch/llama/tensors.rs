//! Tensors: separate projections, rows of queries and keys interleaved, dense or expert feed-forward parts.

use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let experts = h.count_or(keys::EXPERT_COUNT, 0)?;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, true);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        if experts == 0 {
            block.gated_ffn(d, hidden, "mlp");
        } else {
            block.weight("ffn_gate_inp", &[d, experts], "block_sparse_moe.gate");
            block.experts(d, hidden, experts, "block_sparse_moe.experts", ["w1", "w3", "w2"]);
        }
    }
    Ok(rules.finish())
}
