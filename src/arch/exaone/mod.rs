//! EXAONE 3 and 3.5: the usual model under GPT-2's names.

use super::family::Family;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, TokenKey, keys, usual};
use crate::network::RopeStyle;

/// The family.
pub(super) static EXAONE: Family = Family {
    keys: config_keys,
    token_keys: |_| vec![TokenKey::Pre("exaone")],
    ..Family::new("exaone", &["ExaoneForCausalLM"], rules, |h, weights| usual::spec(h, weights, RopeStyle::Halves))
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // Published checkpoints give the epsilon of their RMS norms the name of that of layer norms.
    let published = config.number(&["layer_norm_epsilon"])?.filter(|_| !config.is_given("rms_norm_eps"));
    keys.shared(config)?;
    keys.rename(keys::LAYER_NORM_EPSILON, keys::LAYER_NORM_RMS_EPSILON);
    if let Some(epsilon) = published {
        keys.float(keys::LAYER_NORM_RMS_EPSILON, epsilon);
    }
    keys.these(config, &[keys::ROPE_DIMENSION_COUNT])
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("transformer.h.");
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads) = (h.head_count[i], h.head_count_kv[i]);
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "ln_1");
        block.linear("attn_q", [d, heads * h.key_length], "attn.attention.q_proj", &[]);
        block.linear("attn_k", [d, kv_heads * h.key_length], "attn.attention.k_proj", &[]);
        block.linear("attn_v", [d, kv_heads * h.value_length], "attn.attention.v_proj", &[]);
        block.linear("attn_output", [heads * h.value_length, d], "attn.attention.out_proj", &[]);
        block.weight("ffn_norm", &[d], "ln_2");
        block.linear("ffn_gate", [d, h.feed_forward_length[i]], "mlp.c_fc_0", &[]);
        block.linear("ffn_up", [d, h.feed_forward_length[i]], "mlp.c_fc_1", &[]);
        block.linear("ffn_down", [h.feed_forward_length[i], d], "mlp.c_proj", &[]);
    }
    rules.add("output_norm.weight", &[d], "transformer.ln_f.weight");
    rules.add("token_embd.weight", &[d, h.vocab_size], "transformer.wte.weight");
    Ok(rules.finish())
}
