//! Tensors: separate attention projections, gate and up in one, four norms a block.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("post_attention_norm", &[d], "post_self_attn_layernorm");
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.linear("ffn_up", [d, 2 * hidden], "mlp.gate_up_proj", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.down_proj", &[]);
        block.weight("post_ffw_norm", &[d], "post_mlp_layernorm");
    }
    rules.finish()
}
