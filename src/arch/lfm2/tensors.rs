//! Tensors: a convolution between two projections, or attention with head norms; the final norm is called the
//! embedding's.

use crate::arch::{Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let dense = super::dense_blocks(h)?;
    let taps = h.positive(keys::SHORTCONV_L_CACHE)?;
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.embed_tokens.weight");
    rules.add("token_embd_norm.weight", &[d], "model.embedding_norm.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "operator_norm");
        if h.head_count_kv[i] == 0 {
            block.weight("shortconv.conv", &[taps, d], "conv.conv").stored_as(&[d, 1, taps]);
            block.weight("shortconv.in_proj", &[d, 3 * d], "conv.in_proj");
            block.weight("shortconv.out_proj", &[d, d], "conv.out_proj");
        } else {
            let (heads, kv_heads) = (h.head_count[i], h.head_count_kv[i]);
            block.weight("attn_q", &[d, heads * h.key_length], "self_attn.q_proj");
            block.weight("attn_k", &[d, kv_heads * h.key_length], "self_attn.k_proj");
            block.weight("attn_v", &[d, kv_heads * h.value_length], "self_attn.v_proj");
            block.weight("attn_output", &[heads * h.value_length, d], "self_attn.out_proj");
            block.head_norms(h, "self_attn.q_layernorm", "self_attn.k_layernorm");
        }
        block.weight("ffn_norm", &[d], "ffn_norm");
        if i >= dense {
            let (count, hidden) = (h.positive(keys::EXPERT_COUNT)?, h.expert_length()?);
            block.weight("ffn_gate_inp", &[d, count], "feed_forward.gate");
            block.tensor("exp_probs_b.bias", &[count], "feed_forward.expert_bias");
            block.experts(d, hidden, count, "feed_forward.experts", ["w1", "w3", "w2"]);
            continue;
        }
        block.weight("ffn_gate", &[d, hidden], "feed_forward.w1");
        block.weight("ffn_up", &[d, hidden], "feed_forward.w3");
        block.weight("ffn_down", &[hidden, d], "feed_forward.w2");
    }
    Ok(rules.finish())
}
