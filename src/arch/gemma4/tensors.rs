//! Tensors: norms around both parts, heads of two lengths, and where the family has them, embeddings for every block.

use super::Blocks;
use crate::arch::{BlockRules, Error, Hparams, Rules, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let blocks = Blocks::new(h)?;
    let own = h.count_or(keys::EMBEDDING_LENGTH_PER_LAYER_INPUT, 0)?;
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    if own > 0 {
        let all = own * h.block_count;
        rules.add("per_layer_token_embd.weight", &[all, h.vocab_size], "model.embed_tokens_per_layer.weight");
        rules.add("per_layer_model_proj.weight", &[d, all], "model.per_layer_model_projection.weight");
        rules.add("per_layer_proj_norm.weight", &[own], "model.per_layer_projection_norm.weight");
    }
    for i in 0..h.block_count {
        let (heads, kv_heads, head) = (h.head_count[i], h.head_count_kv[i], blocks.head[i]);
        let keeps = blocks.shares[i].is_none();
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.weight("attn_q", &[d, heads * head], "self_attn.q_proj");
        block.weight("attn_q_norm", &[head], "self_attn.q_norm");
        block.weight("attn_k", &[d, kv_heads * head], "self_attn.k_proj").required = keeps;
        block.weight("attn_k_norm", &[head], "self_attn.k_norm").required = keeps;
        block.weight("attn_v", &[d, kv_heads * head], "self_attn.v_proj").optional();
        block.weight("attn_output", &[heads * head, d], "self_attn.o_proj");
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.weight("ffn_norm", &[d], "pre_feedforward_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
        block.weight("post_ffw_norm", &[d], "post_feedforward_layernorm");
        if blocks.experts > 0 {
            experts(&mut block, d, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?, blocks.experts);
        }
        block.tensor("layer_output_scale.weight", &[1], "layer_scalar").optional();
        if own > 0 {
            block.weight("inp_gate", &[d, own], "per_layer_input_gate");
            block.weight("proj", &[own, d], "per_layer_projection");
            block.weight("post_norm", &[d], "post_per_layer_input_norm");
        }
    }
    Ok(rules.finish())
}

/// Experts beside the dense part, with norms of both; files hold gate and up in one.
fn experts(block: &mut BlockRules<'_>, d: usize, hidden: usize, experts: usize) {
    block.tensor("ffn_gate_up_exps.weight", &[d, 2 * hidden, experts], "experts.gate_up_proj");
    block.tensor("ffn_down_exps.weight", &[hidden, d, experts], "experts.down_proj");
    block.weight("post_ffw_norm_1", &[d], "post_feedforward_layernorm_1");
    block.weight("post_ffw_norm_2", &[d], "post_feedforward_layernorm_2");
    block.weight("pre_ffw_norm_2", &[d], "pre_feedforward_layernorm_2");
    block.tensor("ffn_down_exps.scale", &[experts], "router.per_expert_scale");
    block.weight("ffn_gate_inp", &[d, experts], "router.proj");
    block.tensor("ffn_gate_inp.scale", &[d], "router.scale");
}
