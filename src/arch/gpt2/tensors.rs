//! Tensors: queries, keys and values in one; matrices are transposed in checkpoints.

use crate::arch::{Hparams, Rules, Step, TensorRule};

pub(super) fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "wte.weight");
    rules.add("position_embd.weight", &[d, h.context_length], "wpe.weight");
    rules.norm("output_norm", d, "ln_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "ln_1");
        block.norm("ffn_norm", d, "ln_2");
        for (name, [cols, rows], source) in [
            ("attn_qkv", [d, 3 * d], "attn.c_attn"),
            ("attn_output", [d, d], "attn.c_proj"),
            ("ffn_up", [d, hidden], "mlp.c_fc"),
            ("ffn_down", [hidden, d], "mlp.c_proj"),
        ] {
            block.weight(name, &[cols, rows], source).step(Step::Transpose);
            block.tensor(&format!("{name}.bias"), &[rows], &format!("{source}.bias")).optional();
        }
    }
    rules.finish()
}
