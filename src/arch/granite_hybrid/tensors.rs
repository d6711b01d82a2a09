//! Tensors: Mamba 2 or attention; gate and up of dense parts and experts lie in one tensor of a checkpoint.

use super::mamba;
use crate::arch::{Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let experts = h.count_or(keys::EXPERT_COUNT, 0)?;
    let shared = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)?;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        if h.head_count_kv[i] > 0 {
            block.attention(h, i, true);
        } else {
            let spec = mamba(h)?;
            let inner = spec.heads * spec.v_dim;
            let mixed = inner + 2 * spec.groups * spec.k_dim;
            block.linear("ssm_in", [d, inner + mixed + spec.heads], "mamba.in_proj", &[]);
            block.linear("ssm_conv1d", [spec.taps, mixed], "mamba.conv1d", &[]);
            block.tensor("ssm_dt.bias", &[spec.heads], "mamba.dt_bias");
            block.tensor("ssm_a", &[1, spec.heads], "mamba.A_log").step(Step::NegExp);
            block.tensor("ssm_d", &[1, spec.heads], "mamba.D");
            // A vector in checkpoints: its elements stand in the same order.
            block.weight("ssm_norm", &[inner / spec.groups, spec.groups], "mamba.norm").step(Step::Reshape);
            block.linear("ssm_out", [inner, d], "mamba.out_proj", &[]);
        }
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        let part = |of: usize, half: usize| {
            let rows = half * of..(half + 1) * of;
            Step::RowsOfEach { of: 2 * of, ranges: vec![rows] }
        };
        let dense = |suffix: &str| ["gate", "up", "down"].map(|part| format!("ffn_{part}{suffix}"));
        let length = if experts == 0 { hidden } else { shared };
        if length > 0 {
            let [gate, up, down] = dense(if experts == 0 { "" } else { "_shexp" });
            block.weight(&gate, &[d, length], "shared_mlp.input_linear").step(part(length, 0));
            block.weight(&up, &[d, length], "shared_mlp.input_linear").step(part(length, 1));
            block.weight(&down, &[length, d], "shared_mlp.output_linear");
        }
        if experts > 0 {
            let [gate, up, down] = dense("_exps");
            block.weight("ffn_gate_inp", &[d, experts], "block_sparse_moe.router.layer");
            let both = "block_sparse_moe.input_linear";
            block.weight(&gate, &[d, hidden, experts], both).step(part(hidden, 0));
            block.weight(&up, &[d, hidden, experts], both).step(part(hidden, 1));
            block.weight(&down, &[hidden, d, experts], "block_sparse_moe.output_linear");
        }
    }
    Ok(rules.finish())
}
