//! Tensors: queries, keys and values in one, head by head in checkpoints and kind by kind in files.

use crate::arch::{Hparams, Rules, Step, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("gpt_neox.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "gpt_neox.embed_in.weight");
    rules.norm("output_norm", d, "gpt_neox.final_layer_norm");
    rules.add("output.weight", &[d, h.vocab_size], "embed_out.weight").optional();
    let by_kind = Step::RowsOfEach { of: 3 * k, ranges: vec![0..k, k..2 * k, 2 * k..3 * k] };
    for i in 0..h.block_count {
        let (rows, hidden) = (h.head_count[i] * k, h.feed_forward_length[i]);
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.linear("attn_qkv", [d, 3 * rows], "attention.query_key_value", std::slice::from_ref(&by_kind));
        block.linear("attn_output", [rows, d], "attention.dense", &[]);
        block.norm("ffn_norm", d, "post_attention_layernorm");
        block.linear("ffn_up", [d, hidden], "mlp.dense_h_to_4h", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.dense_4h_to_h", &[]);
    }
    rules.finish()
}
