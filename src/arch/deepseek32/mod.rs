//! DeepSeek V3.2 and GLM 5: DeepSeek's latent attention, which sees only the positions that an indexer chooses.

use serde_json::{Value as Json, json};

use super::deepseek2::{self, Latent};
use super::family::Family;
use super::{BlockRules, Config, Error, Hparams, Keys, TensorRule, glm4_moe, keys, usual};
use crate::network::{
    Gating, Indexer, LatentMixer, Mixer, ModelSpec, NormKind, NormSpec, RopeStyle, Selection, Tensors,
};

/// DeepSeek V3.2.
pub(super) static DEEPSEEK32: Family = Family {
    keys: config_keys,
    settings: SETTINGS,
    predicting_blocks: usual::predicting_blocks,
    ..Family::new("deepseek32", &["DeepseekV32ForCausalLM"], rules, deepseek_spec)
};

/// GLM 5 and later, some of whose layers share the positions that an earlier one has chosen.
pub(super) static GLM_DSA: Family = Family {
    keys: glm_keys,
    settings: SETTINGS,
    predicting_blocks: usual::predicting_blocks,
    token_keys: |_| glm4_moe::token_keys(),
    ..Family::new("glm-dsa", &["GlmMoeDsaForCausalLM"], rules, glm_spec)
};

/// Settings that both classes have and that change nothing.
const SETTINGS: &[(&str, &str)] = &[("mlp_bias", "[false]")];
/// Added to the variance in the norm of the indexer's keys: the same in all models.
const EPSILON: f32 = 1e-6;
/// The context from which files of GLM that do not say it share positions as GLM 5.2 does.
const SHARING_CONTEXT: usize = 1 << 20;

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let count = config.block_count()?;
    let indexed = |types: &[&str]| types.len() == count && types.iter().all(|ty| *ty == "indexed_attention");
    if config.layer_types().is_some_and(|types| !indexed(&types)) {
        return Err(config.bad("layer_types", "indexed_attention for each layer"));
    }
    deepseek2::keys(config, keys)?;
    glm4_moe::predicting(config, keys);
    let counts = [
        (keys::INDEXER_HEAD_COUNT, "index_n_heads"),
        (keys::INDEXER_KEY_LENGTH, "index_head_dim"),
        (keys::INDEXER_TOP_K, "index_topk"),
    ];
    for (key, name) in counts {
        keys.count(key, config.required_count(&[name])?);
    }
    Ok(())
}

fn glm_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    config.expect_rotary("partial_rotary_factor", 1.0)?;
    config_keys(config, keys)?;
    if let Some(own) = own_indexers(config)? {
        keys.flags(keys::INDEXER_TYPES, own);
    }
    Ok(())
}

/// Whether each layer has an indexer of its own, where the checkpoint says it: in a list, as a pattern of letters, or as a
/// period.
fn own_indexers(config: &Config) -> Result<Option<Vec<bool>>, Error> {
    let count = config.block_count()?;
    let (list, pattern) = ("indexer_types", "index_topk_pattern");
    let (period, offset) = (config.count(&["index_topk_freq"])?, config.count(&["index_skip_topk_offset"])?);
    let letters = |text: &str| text.chars().map(|letter| json!(letter)).collect();
    let (name, kinds): (_, Vec<Json>) = match (config.get(list), config.get(pattern)) {
        (Some(Json::Array(kinds)), _) => (list, kinds.clone()),
        (_, Some(Json::String(text))) => (pattern, letters(text)),
        (_, Some(Json::Array(kinds))) => (pattern, kinds.clone()),
        _ => {
            let (Some(period), offset) = (period.filter(|&period| period > 1), offset.unwrap_or(2)) else {
                return Ok(None);
            };
            let own = (0..count).map(|i| (i + 1).saturating_sub(offset).is_multiple_of(period));
            return Ok(Some(own.collect()));
        }
    };
    let own = kinds.iter().map(|kind| match kind.as_str() {
        Some("full" | "F") => Some(true),
        Some("shared" | "S") => Some(false),
        _ => None,
    });
    let own: Option<Vec<bool>> = own.collect();
    let own = own.filter(|own| own.len() == count && own.first() == Some(&true));
    own.ok_or_else(|| config.bad(name, "full or shared for each layer, the first full")).map(Some)
}

/// Whether each block of a file has an indexer of its own.
fn has_indexer(h: &Hparams) -> Result<Vec<bool>, Error> {
    if let Some(own) = h.bools_per_block(keys::INDEXER_TYPES)? {
        return match own.first() {
            Some(true) => Ok(own),
            _ => Err(h.bad_key(keys::INDEXER_TYPES, "true for the first block")),
        };
    }
    let shares = h.architecture == GLM_DSA.name && h.context_length >= SHARING_CONTEXT;
    Ok((0..h.block_count).map(|i| !shares || i < 2 || (i - 2).is_multiple_of(4)).collect())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, heads, dim) =
        (h.embedding_length, h.positive(keys::INDEXER_HEAD_COUNT)?, h.positive(keys::INDEXER_KEY_LENGTH)?);
    let rank = query_rank(h)?;
    let own = has_indexer(h)?;
    let indexer = |block: &mut BlockRules<'_>, i: usize| {
        // A block that predicts further tokens may have one, which nothing uses.
        if own.get(i) == Some(&false) {
            return;
        }
        let add = |block: &mut BlockRules<'_>| {
            block.weight("indexer.attn_q_b", &[rank, heads * dim], "self_attn.indexer.wq_b");
            block.weight("indexer.attn_k", &[d, dim], "self_attn.indexer.wk");
            block.norm("indexer.k_norm", dim, "self_attn.indexer.k_norm");
            block.weight("indexer.proj", &[d, heads], "self_attn.indexer.weights_proj");
        };
        if i < h.block_count { add(block) } else { block.optionally(add) }
    };
    deepseek2::rules_with(h, indexer, |block| deepseek2::corrected_experts(h, block))
}

/// Length of the compressed query, from which the indexer's queries come too.
fn query_rank(h: &Hparams) -> Result<usize, Error> {
    Latent::new(h)?.query_rank.ok_or_else(|| h.bad_key(keys::Q_LORA_RANK, "a length"))
}

fn deepseek_spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    h.positive(keys::EXPERT_GATING_FUNC)?;
    spec(h, weights, RopeStyle::Halves)
}

fn glm_spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    spec(h, weights, RopeStyle::Pairs)
}

fn spec(h: &Hparams, weights: &dyn Tensors, style: RopeStyle) -> Result<ModelSpec, Error> {
    query_rank(h)?;
    let (heads, dim) = (h.positive(keys::INDEXER_HEAD_COUNT)?, h.positive(keys::INDEXER_KEY_LENGTH)?);
    let top_k = h.positive(keys::INDEXER_TOP_K)?;
    let own = has_indexer(h)?;
    let mut model = deepseek2::spec_with(h, weights, Gating::Sigmoid)?;
    for (layer, own) in model.layers.iter_mut().zip(own) {
        let Mixer::Latent(LatentMixer { rope: Some(rope), rope_dim, selection, .. }) = &mut layer.mixer else {
            continue;
        };
        if *rope_dim > dim {
            return Err(h.bad_key(keys::INDEXER_KEY_LENGTH, "at least rope.dimension_count"));
        }
        let norm = NormSpec { kind: NormKind::Layer, epsilon: EPSILON, plain: false };
        let indexer = || {
            let rope = crate::network::RopeSpec { style, ..rope.clone() };
            Selection::Indexer(Indexer { heads, dim, top_k, rope, norm })
        };
        *selection = Some(if own { indexer() } else { Selection::OfEarlierLayer });
    }
    // Which positions it would see depends on an indexer that files may lack.
    model.prediction = None;
    Ok(model)
}
