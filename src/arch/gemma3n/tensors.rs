//! Tensors: those of Gemma 4's small models, the streams' maps, and a low-rank map for every layer.

use crate::arch::graph::shared_caches;
use crate::arch::{BlockRules, Error, Hparams, Names, Rules, Step, TensorRule, keys};

/// Rank of the low-rank maps where a file does not say it.
pub(super) const LAUREL_RANK: usize = 64;

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, own) = (h.embedding_length, h.positive(keys::EMBEDDING_LENGTH_PER_LAYER_INPUT)?);
    let (streams, rank) = (h.positive(keys::ALTUP_NUM_INPUTS)?, h.count_or(keys::LAUREL_RANK, LAUREL_RANK)?);
    if streams < 2 || rank == 0 {
        let key = if rank == 0 { keys::LAUREL_RANK } else { keys::ALTUP_NUM_INPUTS };
        return Err(h.bad_key(key, "more than one stream, and a rank"));
    }
    let slides = slides(h)?;
    let shares = shared_caches(h, &slides)?;
    let mut rules = Rules::new(h);
    let all = own * h.block_count;
    for (name, source) in [("altup_proj", "altup_projections"), ("altup_unembd_proj", "altup_unembed_projections")] {
        let (before, after) = (format!("model.{source}."), ".weight".to_owned());
        let names = Names::Numbered { before, count: streams - 1, after };
        rules.add_named(format!("{name}.weight"), &[d, d, streams - 1], names);
    }
    // Tokens of images and sound, the last ones, have none in checkpoints.
    let rule = rules.add("per_layer_token_embd.weight", &[all, h.vocab_size], "model.embed_tokens_per_layer.weight");
    rule.step(Step::PadRows);
    rules.add("per_layer_model_proj.weight", &[d, all], "model.per_layer_model_projection.weight");
    rules.add("per_layer_proj_norm.weight", &[own], "model.per_layer_projection_norm.weight");
    for (i, shared) in shares.iter().enumerate() {
        let (heads, kv_heads, keeps) = (h.head_count[i], h.head_count_kv[i], shared.is_none());
        let mut block = rules.block(i);
        block.tensor("altup_correct_scale.weight", &[d], "altup.correct_output_scale");
        block.weight("altup_correct_coef", &[streams, streams], "altup.correction_coefs");
        block.weight("altup_router", &[d, streams], "altup.modality_router");
        block.weight("altup_predict_coef", &[streams, streams * streams], "altup.prediction_coefs");
        block.weight("altup_router_norm", &[d], "altup.router_norm");
        block.weight("attn_norm", &[d], "input_layernorm");
        laurel(&mut block, d, rank);
        block.weight("attn_q", &[d, heads * h.key_length], "self_attn.q_proj");
        block.weight("attn_q_norm", &[h.key_length], "self_attn.q_norm");
        // Layers that read another's keys and values have maps for these all the same.
        block.weight("attn_k", &[d, kv_heads * h.key_length], "self_attn.k_proj").required = keeps;
        block.weight("attn_k_norm", &[h.key_length], "self_attn.k_norm").required = keeps;
        block.weight("attn_v", &[d, kv_heads * h.value_length], "self_attn.v_proj").required = keeps;
        block.weight("attn_output", &[heads * h.value_length, d], "self_attn.o_proj");
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.weight("ffn_norm", &[d], "pre_feedforward_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
        block.weight("post_ffw_norm", &[d], "post_feedforward_layernorm");
        block.weight("inp_gate", &[d, own], "per_layer_input_gate");
        block.weight("proj", &[own, d], "per_layer_projection");
        block.weight("post_norm", &[d], "post_per_layer_input_norm");
    }
    Ok(rules.finish())
}

/// Which blocks see a window alone.
pub(super) fn slides(h: &Hparams) -> Result<Vec<bool>, Error> {
    let slides = h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?;
    slides.ok_or_else(|| h.bad_key(keys::SLIDING_WINDOW_PATTERN, "a boolean for each block"))
}

/// The low-rank map beside attention.
fn laurel(block: &mut BlockRules<'_>, d: usize, rank: usize) {
    block.weight("laurel_l", &[d, rank], "laurel.linear_left");
    block.weight("laurel_r", &[rank, d], "laurel.linear_right");
    block.weight("laurel_post_norm", &[d], "laurel.post_laurel_norm");
}
