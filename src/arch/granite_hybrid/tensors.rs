//! Tensors: Mamba 2 or attention; gate and up of dense parts and experts lie in one tensor of a checkpoint.

use super::mamba;
use crate::arch::{BlockRules, Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    rules.or_of("output_norm.weight", "model.final_layernorm.weight");
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        if h.head_count_kv[i] > 0 {
            block.attention(h, i, true);
        } else {
            mixer(&mut block, h, "mamba")?;
        }
        block
            .weight("ffn_norm", &[d], "post_attention_layernorm")
            .or(format!("model.layers.{i}.pre_ff_layernorm.weight"));
        feed_forward(&mut block, h, i)?;
    }
    Ok(rules.finish())
}

/// The dense part of a block, or its experts with the part that all tokens share.
///
/// # Errors
/// When a hyper-parameter is impossible.
pub(in crate::arch) fn feed_forward(block: &mut BlockRules<'_>, h: &Hparams, index: usize) -> Result<(), Error> {
    let (d, hidden) = (h.embedding_length, h.feed_forward_length[index]);
    let experts = h.count_or(keys::EXPERT_COUNT, 0)?;
    let shared = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)?;
    let part = |of: usize, half: usize| {
        let rows = half * of..(half + 1) * of;
        Step::RowsOfEach { of: 2 * of, ranges: vec![rows] }
    };
    let dense = |suffix: &str| ["gate", "up", "down"].map(|part| format!("ffn_{part}{suffix}"));
    let length = if experts == 0 { hidden } else { shared };
    if length > 0 {
        let [gate, up, down] = dense(if experts == 0 { "" } else { "_shexp" });
        let bamba = |part: &str| format!("model.layers.{index}.feed_forward.{part}_proj.weight");
        let both = "shared_mlp.input_linear";
        block.weight(&gate, &[d, length], both).step(part(length, 0)).or(bamba("gate"));
        block.weight(&up, &[d, length], both).step(part(length, 1)).or(bamba("up"));
        block.weight(&down, &[length, d], "shared_mlp.output_linear").or(bamba("down"));
    }
    if experts > 0 {
        let [gate, up, down] = dense("_exps");
        block.weight("ffn_gate_inp", &[d, experts], "block_sparse_moe.router.layer");
        let both = "block_sparse_moe.input_linear";
        block.weight(&gate, &[d, hidden, experts], both).step(part(hidden, 0));
        block.weight(&up, &[d, hidden, experts], both).step(part(hidden, 1));
        block.weight(&down, &[hidden, d, experts], "block_sparse_moe.output_linear");
    }
    Ok(())
}

/// The tensors of a block's Mamba 2, `source` in the checkpoint.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(in crate::arch) fn mixer(block: &mut BlockRules<'_>, h: &Hparams, source: &str) -> Result<(), Error> {
    let d = h.embedding_length;
    let spec = mamba(h)?;
    let inner = spec.heads * spec.v_dim;
    let mixed = inner + 2 * spec.groups * spec.k_dim;
    block.linear("ssm_in", [d, inner + mixed + spec.heads], &format!("{source}.in_proj"), &[]);
    block.convolution("ssm_conv1d", spec.taps, mixed, &format!("{source}.conv1d"));
    block.tensor("ssm_dt.bias", &[spec.heads], &format!("{source}.dt_bias"));
    block.tensor("ssm_a", &[1, spec.heads], &format!("{source}.A_log")).step(Step::NegExp).stored_as(&[spec.heads]);
    block.tensor("ssm_d", &[1, spec.heads], &format!("{source}.D")).stored_as(&[spec.heads]);
    // A vector in checkpoints: its elements stand in the same order.
    let norm = block.weight("ssm_norm", &[inner / spec.groups, spec.groups], &format!("{source}.norm"));
    norm.step(Step::Reshape).stored_as(&[inner]);
    block.linear("ssm_out", [inner, d], &format!("{source}.out_proj"), &[]);
    Ok(())
}
