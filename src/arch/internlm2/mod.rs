//! InternLM 2 and 2.5: Llama's model; checkpoints have queries, keys and values in one, group by group.

use super::family::Family;
use super::{Hparams, Rules, Step, TensorRule, TokenKey, usual};
use crate::network::RopeStyle;

/// The family.
pub(super) static INTERNLM2: Family = Family {
    // Dynamic scaling changes nothing within the context that models are trained on.
    settings: &[("rope_type", r#"["default", "dynamic"]"#)],
    token_keys: |_| {
        let end = TokenKey::Text("eos", "<|im_end|>");
        vec![end, TokenKey::SpacePrefixOfModel, TokenKey::Unused("[UNUSED")]
    },
    own_code: true,
    ..Family::new(
        "internlm2",
        &["InternLM2ForCausalLM"],
        |h| Ok(rules(h)),
        |h, weights| usual::spec(h, weights, RopeStyle::Pairs),
    )
};

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.tok_embeddings.weight");
    rules.add("output_norm.weight", &[d], "model.norm.weight");
    rules.add("output.weight", &[d, h.vocab_size], "output.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads, hidden) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        // Each group has the queries of some heads, and the key and the value that these share.
        let queries = heads.checked_div(kv_heads).unwrap_or(0) * k;
        let of = |range| Step::RowsOfEach { of: queries + 2 * k, ranges: vec![range] };
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "attention_norm");
        let source = "attention.wqkv";
        block.linear("attn_q", [d, heads * k], source, &[of(0..queries), Step::InterleaveHalves { heads }]);
        let turned = Step::InterleaveHalves { heads: kv_heads };
        block.linear("attn_k", [d, kv_heads * k], source, &[of(queries..queries + k), turned]);
        block.linear("attn_v", [d, kv_heads * k], source, &[of(queries + k..queries + 2 * k)]);
        block.linear("attn_output", [heads * k, d], "attention.wo", &[]);
        block.weight("ffn_norm", &[d], "ffn_norm");
        block.linear("ffn_gate", [d, hidden], "feed_forward.w1", &[]);
        block.linear("ffn_up", [d, hidden], "feed_forward.w3", &[]);
        block.linear("ffn_down", [hidden, d], "feed_forward.w2", &[]);
    }
    rules.finish()
}
