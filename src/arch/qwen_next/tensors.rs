//! Tensors: delta nets and gated attention, with dense or expert feed-forward parts. Norms are stored as an offset
//! from one. Checkpoints keep value heads by key head; the files of Qwen 3.5 interleave them.

use super::{DeltaNets, QwenNext};
use crate::arch::{BlockRules, Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(family: QwenNext, h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let nets = DeltaNets::new(h)?;
    let mut rules = Rules::new(h);
    rules.steps_of("output_norm.weight", &[Step::Add(1.0)]);
    for (i, like) in h.all_blocks() {
        let source = match i.checked_sub(h.block_count) {
            None => format!("model.layers.{i}."),
            Some(number) => format!("mtp.layers.{number}."),
        };
        let mut block = rules.block_from(i, &source);
        block.weight("attn_norm", &[d], "input_layernorm").step(Step::Add(1.0));
        if i == like && nets.recurrent[i] {
            delta_net(family, d, &nets, &mut block);
        } else {
            let (heads, kv_heads) = (h.head_count[like], h.head_count_kv[like]);
            block.linear("attn_q", [d, 2 * heads * h.key_length], "self_attn.q_proj", &[]);
            block.linear("attn_k", [d, kv_heads * h.key_length], "self_attn.k_proj", &[]);
            block.linear("attn_v", [d, kv_heads * h.value_length], "self_attn.v_proj", &[]);
            block.linear("attn_output", [heads * h.value_length, d], "self_attn.o_proj", &[]);
            block.weight("attn_q_norm", &[h.key_length], "self_attn.q_norm").step(Step::Add(1.0));
            block.weight("attn_k_norm", &[h.key_length], "self_attn.k_norm").step(Step::Add(1.0));
        }
        block.weight("post_attention_norm", &[d], "post_attention_layernorm").step(Step::Add(1.0));
        if family.has_experts() {
            let hidden = h.expert_length()?;
            block.routed_experts(d, hidden, h.positive(keys::EXPERT_COUNT)?, "mlp");
            block.gated_shared_expert(d, h.shared_expert_length()?, "mlp");
        } else {
            block.gated_ffn(d, h.feed_forward_length[like], "mlp");
        }
        if i == h.block_count {
            block.prediction(h, |part| format!("mtp.{}", prediction_name(part)), &[Step::Add(1.0)]);
        }
    }
    Ok(rules.finish())
}

fn delta_net(family: QwenNext, d: usize, nets: &DeltaNets, block: &mut BlockRules<'_>) {
    let (heads, each) = (nets.heads, nets.heads / nets.key_heads);
    let (keys, values) = (nets.key_heads * nets.k_dim, heads * nets.v_dim);
    let interleave = |start: usize, len: usize| match family {
        QwenNext::Qwen3Next => Vec::new(),
        _ => vec![Step::Interleave { start, groups: nets.key_heads, each, len }],
    };
    block.tensor("ssm_a", &[heads], "linear_attn.A_log").steps(&interleave(0, 1)).step(Step::NegExp);
    let conv = block.weight("ssm_conv1d", &[nets.taps, 2 * keys + values], "linear_attn.conv1d");
    conv.steps(&interleave(2 * keys, nets.v_dim)).stored_as(&[2 * keys + values, 1, nets.taps]);
    block.tensor("ssm_dt.bias", &[heads], "linear_attn.dt_bias").steps(&interleave(0, 1));
    if family == QwenNext::Qwen3Next {
        block.weight("ssm_ba", &[d, 2 * heads], "linear_attn.in_proj_ba");
        // Each key head stands with its query, and with the values and gates that go with it.
        let (key, value) = (nets.k_dim, each * nets.v_dim);
        let starts = [0, key, 2 * key, 2 * key + value, 2 * key + 2 * value];
        let ranges: Vec<_> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let of = starts[4];
        let both = "linear_attn.in_proj_qkvz";
        let part = |ranges: &[std::ops::Range<usize>]| Step::RowsOfEach { of, ranges: ranges.to_vec() };
        block.weight("attn_qkv", &[d, 2 * keys + values], both).step(part(&ranges[..3]));
        block.weight("attn_gate", &[d, values], both).step(part(&ranges[3..]));
    } else {
        block.weight("ssm_alpha", &[d, heads], "linear_attn.in_proj_a").steps(&interleave(0, 1));
        block.weight("ssm_beta", &[d, heads], "linear_attn.in_proj_b").steps(&interleave(0, 1));
        let qkv = block.weight("attn_qkv", &[d, 2 * keys + values], "linear_attn.in_proj_qkv");
        qkv.steps(&interleave(2 * keys, nets.v_dim));
        block.weight("attn_gate", &[d, values], "linear_attn.in_proj_z").steps(&interleave(0, nets.v_dim));
    }
    block.weight("ssm_norm", &[nets.v_dim], "linear_attn.norm");
    let columns: Vec<Step> = interleave(0, nets.v_dim).into_iter().map(|step| Step::Columns(Box::new(step))).collect();
    block.weight("ssm_out", &[values, d], "linear_attn.out_proj").steps(&columns);
}

/// What checkpoints call the tensors that join the first block of predictions to the model.
fn prediction_name(part: &str) -> &str {
    match part {
        "eh_proj" => "fc",
        "enorm" => "pre_fc_norm_embedding",
        "hnorm" => "pre_fc_norm_hidden",
        "shared_head_norm" => "norm",
        other => other,
    }
}
