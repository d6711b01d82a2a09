//! Tensors: biases everywhere, sinks, and experts whose gate and up rows take turns in one tensor. Checkpoints hold
//! the experts in MXFP4, or as numbers with inputs before outputs.

use crate::arch::{Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, experts) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let hidden = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let source = format!("model.layers.{i}.mlp.experts.");
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.tensor("attn_sinks.weight", &[h.head_count[i]], "self_attn.sinks");
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.linear("ffn_gate_inp", [d, experts], "mlp.router", &[]);
        for (start, name) in ["ffn_gate_exps", "ffn_up_exps"].into_iter().enumerate() {
            let turn = Step::EverySecond { start };
            let rule = block.tensor(&format!("{name}.weight"), &[d, hidden, experts], "mlp.experts.gate_up_proj");
            rule.steps(&[Step::Transpose, turn.clone()]);
            rule.or(format!("{source}gate_up_proj_blocks")).step(turn.clone());
            let rule = block.tensor(&format!("{name}.bias"), &[hidden, experts], "mlp.experts.gate_up_proj_bias");
            rule.step(Step::Columns(Box::new(turn)));
        }
        let rule = block.tensor("ffn_down_exps.weight", &[hidden, d, experts], "mlp.experts.down_proj");
        rule.step(Step::Transpose).or(format!("{source}down_proj_blocks"));
        block.tensor("ffn_down_exps.bias", &[d, experts], "mlp.experts.down_proj_bias");
    }
    Ok(rules.finish())
}
