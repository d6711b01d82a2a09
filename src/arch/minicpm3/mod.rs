//! MiniCPM 3: DeepSeek's latent attention, whose rotated parts turn halves, in a dense model with factors for embeddings,
//! residuals and logits. No key holds these factors: they are those of the published model.

use super::deepseek2::Latent;
use super::family::Family;
use super::graph::{gated, layer, long_rope, model};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys};
use crate::network::{Activation, LayerSpec, ModelSpec, NormKind, RopeStyle, Tensors};

const EMBEDDING_SCALE: f32 = 12.0;
/// Of the residuals, before it is divided by the root of the number of blocks.
const DEPTH_SCALE: f32 = 1.4;
/// The length of the embedding with which logits would have no factor.
const BASE_LENGTH: f32 = 256.0;

/// The family.
pub(super) static MINICPM3: Family = Family {
    keys: config_keys,
    settings: &[
        ("dim_model_base", "[256]"),
        ("rope_type", r#"["default", "longrope", "su"]"#),
        ("scale_depth", "[1.4]"),
        ("scale_emb", "[12]"),
    ],
    ..Family::new("minicpm3", &["MiniCPM3ForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.file_type();
    keys.these(config, &[keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH, keys::BLOCK_COUNT, keys::FEED_FORWARD_LENGTH])?;
    keys.these(config, &[keys::HEAD_COUNT, keys::HEAD_COUNT_KV, keys::LAYER_NORM_RMS_EPSILON, keys::VOCAB_SIZE])?;
    if let Some(rank) = config.count(&["q_lora_rank"])? {
        keys.count(keys::Q_LORA_RANK, rank);
    }
    let (plain, rope) = (config.required_count(&["qk_nope_head_dim"])?, config.required_count(&["qk_rope_head_dim"])?);
    keys.count(keys::KV_LORA_RANK, config.required_count(&["kv_lora_rank"])?);
    keys.count(keys::KEY_LENGTH, plain + rope);
    // Of values no key is written: they are an equal share of the embedding.
    let (heads, width) = (config.required_count(&["num_attention_heads"])?, config.required_count(&["hidden_size"])?);
    if let Some(value) = config.count(&["v_head_dim"])?
        && Some(value) != width.checked_div(heads)
    {
        return Err(config.bad("v_head_dim", "hidden_size over num_attention_heads"));
    }
    keys.count(keys::ROPE_DIMENSION_COUNT, rope);
    keys.unusual_rope_base(config);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, latent) = (h.embedding_length, Latent::new(h)?);
    let mut rules = Rules::new(h);
    for name in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        rules.add_rope_factors(name, latent.rope / 2);
    }
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        latent.rules(&mut block, d, h.head_count[i]);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    Ok(rules.finish())
}

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let latent = Latent::new(h)?;
    let rope = long_rope(h, weights, RopeStyle::Halves)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = latent.mixer(h.head_count[i], latent.scale(), Some(&rope));
        let layer = layer(mixer, gated(Activation::Silu));
        LayerSpec { residual_scale: DEPTH_SCALE / (h.block_count as f32).sqrt(), ..layer }
    });
    let model = model(h, NormKind::Rms, layers.collect())?;
    let logit_scale = BASE_LENGTH / h.embedding_length as f32;
    Ok(ModelSpec { embedding_scale: EMBEDDING_SCALE, logit_scale, ..model })
}
