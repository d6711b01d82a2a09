//! Tensors: queries, keys and values in one, a gate beside the up projection.

use crate::arch::bert::embeddings;
use crate::arch::{Error, Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("encoder.layers.");
    embeddings(&mut rules, h);
    for i in 0..h.block_count {
        let (hidden, heads) = (h.feed_forward_length[i], h.head_count[i]);
        let values = heads * h.value_length;
        let mut block = rules.block(i);
        block.linear("attn_qkv", [d, 2 * heads * h.key_length + values], "attn.Wqkv", &[]);
        block.linear("attn_output", [values, d], "attn.out_proj", &[]);
        block.norm("attn_output_norm", d, "norm1");
        block.linear("ffn_up", [d, hidden], "mlp.fc11", &[]);
        block.linear("ffn_gate", [d, hidden], "mlp.fc12", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.fc2", &[]);
        block.norm("layer_output_norm", d, "norm2");
    }
    Ok(rules.finish())
}
