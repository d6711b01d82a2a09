//! Tensors: queries, keys and values in one, the gate in the up projection, no biases; the first layer has no norm before
//! its attention.

use crate::arch::graph::scores;
use crate::arch::{Error, Hparams, Rules, TensorRule};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.embeddings.tok_embeddings.weight");
    rules.add("token_embd_norm.weight", &[d], "model.embeddings.norm.weight");
    rules.add("output_norm.weight", &[d], "model.final_norm.weight");
    for i in 0..h.block_count {
        let (hidden, heads) = (h.feed_forward_length[i], h.head_count[i]);
        let values = heads * h.value_length;
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "attn_norm").required = i > 0;
        block.weight("attn_qkv", &[d, 2 * heads * h.key_length + values], "attn.Wqkv");
        block.weight("attn_output", &[values, d], "attn.Wo");
        block.weight("ffn_norm", &[d], "mlp_norm");
        block.weight("ffn_up", &[d, 2 * hidden], "mlp.Wi");
        block.weight("ffn_down", &[hidden, d], "mlp.Wo");
    }
    let scores = scores(h)?;
    rules.add("cls.weight", &[d, d], "head.dense.weight").optional();
    rules.add("cls.bias", &[d], "head.dense.bias").optional();
    rules.add("cls.norm.weight", &[d], "head.norm.weight").optional();
    rules.add("cls.output.weight", &[d, scores], "classifier.weight").optional();
    rules.add("cls.output.bias", &[scores], "classifier.bias").optional();
    Ok(rules.finish())
}
