//! Tensors: queries, keys and values in one, group by group in checkpoints and kind by kind in files.

use crate::arch::{Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "word_embeddings.weight");
    rules.norm("output_norm", d, "ln_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads, hidden) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        let queries = heads.checked_div(kv_heads).ok_or_else(|| h.bad_key(keys::HEAD_COUNT_KV, "more than 0"))? * k;
        let by_kind = Step::RowsOfEach {
            of: queries + 2 * k,
            ranges: vec![0..queries, queries..queries + k, queries + k..queries + 2 * k],
        };
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm").or(format!("h.{i}.ln_mlp.weight"));
        block.tensor("attn_norm.bias", &[d], "input_layernorm.bias").or(format!("h.{i}.ln_mlp.bias")).optional();
        block.weight("attn_norm_2", &[d], "ln_attn").optional();
        block.tensor("attn_norm_2.bias", &[d], "ln_attn.bias").optional();
        let rows = (heads + 2 * kv_heads) * k;
        block.linear("attn_qkv", [d, rows], "self_attention.query_key_value", &[by_kind]);
        block.linear("attn_output", [heads * k, d], "self_attention.dense", &[]);
        block.linear("ffn_up", [d, hidden], "mlp.dense_h_to_4h", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.dense_4h_to_h", &[]);
    }
    Ok(rules.finish())
}
