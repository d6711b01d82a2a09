//! Tensors: separate projections, norms with biases.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.add("output_norm.bias", &[d], "model.norm.bias").optional();
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.attention(h, i, false);
        block.norm("ffn_norm", d, "post_attention_layernorm");
        block.linear("ffn_up", [d, hidden], "mlp.c_fc", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.c_proj", &[]);
    }
    rules.finish()
}
