//! Tensors: separate projections; norms of whole query and key rows, and after each part.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.attention(h, i, false);
        block.whole_norms(h, i);
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
        block.weight("post_ffw_norm", &[d], "post_feedforward_layernorm");
    }
    rules.finish()
}
