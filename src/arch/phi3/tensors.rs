//! Tensors: queries, keys and values in one, gate and up in one.

use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let pairs = h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_factors_long.weight", pairs);
    rules.add_rope_factors("rope_factors_short.weight", pairs);
    for i in 0..h.block_count {
        let (heads, kv_heads, hidden) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        let rows = (heads + kv_heads) * h.key_length + kv_heads * h.value_length;
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.linear("attn_qkv", [d, rows], "self_attn.qkv_proj", &[]);
        block.linear("attn_output", [heads * h.value_length, d], "self_attn.o_proj", &[]);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.linear("ffn_up", [d, 2 * hidden], "mlp.gate_up_proj", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.down_proj", &[]);
    }
    Ok(rules.finish())
}
