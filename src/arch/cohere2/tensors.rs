//! Tensors: separate projections, one norm a block.

use crate::arch::{Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.attention(h, i, false);
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}
