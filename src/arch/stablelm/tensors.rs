//! Tensors: separate projections, norms with biases; in some models a norm for each head, and no second norm.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.add("output_norm.bias", &[d], "model.norm.bias").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.attention(h, i, false);
        for (name, heads, source) in [("attn_q_norm", h.head_count[i], "q"), ("attn_k_norm", h.head_count_kv[i], "k")] {
            block.stack(name, &[h.key_length, heads], heads, &format!("self_attn.{source}_layernorm.norms")).optional();
        }
        block.weight("ffn_norm", &[d], "post_attention_layernorm").optional();
        block.tensor("ffn_norm.bias", &[d], "post_attention_layernorm.bias").optional();
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}
