//! Qwen 1: Llama's model; queries, keys and values in one, with biases.

use super::family::Family;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::RopeStyle;

/// The family.
pub(super) static QWEN: Family = Family {
    keys: config_keys,
    own_code: true,
    ..Family::new(
        "qwen",
        &["QWenLMHeadModel"],
        |h| Ok(rules(h)),
        |h, weights| usual::spec(h, weights, RopeStyle::Halves),
    )
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let (name, heads) = ("kv_channels", config.required_count(&["num_attention_heads"])?);
    let length = config.required_count(&["hidden_size"])?.checked_div(heads);
    if config.count(&[name])?.is_some_and(|own| Some(own) != length) {
        return Err(config.bad(name, "hidden_size over num_attention_heads"));
    }
    keys.shared(config)?;
    // The reference writes the epsilon as that of layer norms alone, so that its engine refuses the file.
    let epsilon = config.number(&["layer_norm_epsilon"])?;
    keys.float(
        keys::LAYER_NORM_RMS_EPSILON,
        epsilon.ok_or_else(|| Error::MissingSetting { name: "layer_norm_epsilon".to_owned() })?,
    );
    Ok(())
}

/// The hidden length of files is that of gate and up together.
fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("transformer.h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "transformer.wte.weight");
    rules.add("output_norm.weight", &[d], "transformer.ln_f.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (rows, hidden) = (h.head_count[i] * h.key_length, h.feed_forward_length[i] / 2);
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "ln_1");
        block.linear("attn_qkv", [d, 3 * rows], "attn.c_attn", &[]);
        block.weight("attn_output", &[rows, d], "attn.c_proj");
        block.weight("ffn_norm", &[d], "ln_2");
        block.linear("ffn_gate", [d, hidden], "mlp.w2", &[]);
        block.linear("ffn_up", [d, hidden], "mlp.w1", &[]);
        block.linear("ffn_down", [hidden, d], "mlp.c_proj", &[]);
    }
    rules.finish()
}
