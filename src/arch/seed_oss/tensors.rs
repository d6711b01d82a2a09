//! Tensors: the usual ones, the second norm named after the attention that it follows.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}
