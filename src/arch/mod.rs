//! Model architectures: one folder a family, one row in [`FAMILIES`] to register it.
//!
//! A family says three things: which metadata keys a checkpoint's `config.json` becomes (`config.rs`), which
//! tensors there are, in which shape and from where (`tensors.rs`: conversion and loading read the same table),
//! and how they are computed with (`graph.rs`).

mod afmoe;
mod apertus;
mod arcee;
mod baichuan;
mod bailingmoe;
mod bert;
mod bloom;
mod chatglm;
mod class_defaults;
mod codeshell;
mod cohere2;
mod cohere2_moe;
mod command_r;
mod config;
mod dbrx;
mod deepseek;
mod deepseek2;
mod deepseek32;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod error;
mod eurobert;
mod exaone;
mod exaone4;
mod exaone_moe;
mod falcon;
mod falcon_h1;
mod family;
mod gemma;
mod gemma3n;
mod gemma4;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granite_hybrid;
mod granite_moe;
mod granite_swa;
mod graph;
mod hparams;
mod hunyuan;
mod hy_v3;
mod internlm2;
mod jais2;
mod jamba;
pub mod keys;
mod kimi_linear;
mod laguna;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod mamba2;
mod mellum;
mod mimo2;
mod minicpm;
mod minicpm3;
mod minimax_m2;
mod missing;
mod mistral3;
mod mistral4;
mod modern_bert;
mod mpt;
mod nemotron;
mod nemotron_h;
mod nomic_bert;
mod olmo;
mod olmo2;
mod olmoe;
mod orion;
mod phi2;
mod phi3;
mod phimoe;
mod qwen;
mod qwen1;
mod qwen_moe;
mod qwen_next;
mod qwen_vl;
mod refact;
mod remote_code;
mod rope_factors;
mod seed_oss;
mod settings;
mod smollm3;
mod stablelm;
mod starcoder;
mod starcoder2;
mod tensor_rule;
mod token_key;
mod usual;

use std::collections::BTreeMap;

pub(crate) use class_defaults::class_settings;
pub(crate) use config::{BLOCK_NAMES, settings_of_keys};
pub use config::{Config, DenseModule, Keys, by_setting};
pub use error::Error;
pub use family::{Family, LayerNumber};
pub use hparams::Hparams;
pub use rope_factors::rope_factors;
pub use settings::check as check_settings;
pub use tensor_rule::{BlockRules, Names, Rules, Source, Step, TensorRule};
pub use token_key::TokenKey;

/// All families.
pub static FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi3::PHI3,
    &glm4::GLM4,
    &olmo2::OLMO2,
    &granite::GRANITE,
    &smollm3::SMOLLM3,
    &cohere2::COHERE2,
    &ernie4_5::ERNIE4_5,
    &seed_oss::SEED_OSS,
    &hunyuan::HUNYUAN,
    &hunyuan::HUNYUAN_MOE,
    &exaone4::EXAONE4,
    &starcoder2::STARCODER2,
    &gpt2::GPT2,
    &gptneox::GPTNEOX,
    &falcon::FALCON,
    &stablelm::STABLELM,
    &mistral3::MISTRAL3,
    &qwen_moe::QWEN2_MOE,
    &qwen_moe::QWEN3_MOE,
    &deepseek2::DEEPSEEK2,
    &deepseek32::DEEPSEEK32,
    &deepseek32::GLM_DSA,
    &gpt_oss::GPT_OSS,
    &glm4_moe::GLM4_MOE,
    &lfm2::LFM2,
    &lfm2::LFM2_MOE,
    &qwen_next::QWEN3_NEXT,
    &qwen_next::QWEN35,
    &qwen_next::QWEN35_MOE,
    &gemma4::GEMMA4,
    &granite_hybrid::GRANITE_HYBRID,
    &olmoe::OLMOE,
    &arcee::ARCEE,
    &nemotron::NEMOTRON,
    &jais2::JAIS2,
    &phi2::PHI2,
    &starcoder::STARCODER,
    &granite_moe::GRANITE_MOE,
    &qwen_vl::QWEN2_VL,
    &qwen_vl::QWEN3_VL,
    &qwen_vl::QWEN3_VL_MOE,
    &chatglm::CHATGLM,
    &dots1::DOTS1,
    &minimax_m2::MINIMAX_M2,
    &ernie4_5_moe::ERNIE4_5_MOE,
    &exaone_moe::EXAONE_MOE,
    &mellum::MELLUM,
    &command_r::COMMAND_R,
    &olmo::OLMO,
    &afmoe::AFMOE,
    &minicpm3::MINICPM3,
    &cohere2_moe::COHERE2_MOE,
    &mamba2::MAMBA2,
    &mamba::MAMBA,
    &nemotron_h::NEMOTRON_H,
    &nemotron_h::NEMOTRON_H_MOE,
    &falcon_h1::FALCON_H1,
    &jamba::JAMBA,
    &bloom::BLOOM,
    &mpt::MPT,
    &phimoe::PHIMOE,
    &kimi_linear::KIMI_LINEAR,
    &apertus::APERTUS,
    &dbrx::DBRX,
    &llama4::LLAMA4,
    &mistral4::MISTRAL4,
    &granite_swa::GRANITE_SWA,
    &mimo2::MIMO2,
    &laguna::LAGUNA,
    &hy_v3::HY_V3,
    &bert::BERT,
    &bert::ROBERTA,
    &nomic_bert::NOMIC_BERT,
    &modern_bert::MODERN_BERT,
    &eurobert::EUROBERT,
    &gemma::GEMMA_EMBEDDING,
    &gemma3n::GEMMA3N,
    &internlm2::INTERNLM2,
    &remote_code::XVERSE,
    &exaone::EXAONE,
    &baichuan::BAICHUAN,
    &minicpm::MINICPM,
    &orion::ORION,
    &qwen1::QWEN,
    &deepseek::DEEPSEEK,
    &bailingmoe::BAILINGMOE,
    &refact::REFACT,
    &codeshell::CODESHELL,
];

/// The family of a file's `general.architecture`.
///
/// # Errors
/// [`Error::MissingArchitecture`] with what is missing, or [`Error::UnknownArchitecture`] with the nearest known one.
pub fn by_name(name: &str) -> Result<&'static Family, Error> {
    FAMILIES.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
        if let Some(missing) = missing::of_architecture(name) {
            return Error::MissingArchitecture { name: name.to_owned(), missing };
        }
        let known = FAMILIES.iter().map(|family| family.name());
        Error::UnknownArchitecture { name: name.to_owned(), nearest: nearest(name, known) }
    })
}

/// The family that converts checkpoints of the class `class`.
///
/// # Errors
/// [`Error::MissingClass`] with what is missing, or [`Error::UnknownClass`] with the nearest known one.
pub fn by_class(class: &str) -> Result<&'static Family, Error> {
    FAMILIES.iter().copied().find(|family| family.classes().contains(&class)).ok_or_else(|| {
        if let Some(missing) = missing::of_class(class) {
            return Error::MissingClass { name: class.to_owned(), missing };
        }
        let known = FAMILIES.iter().flat_map(|family| family.classes()).copied();
        Error::UnknownClass { name: class.to_owned(), nearest: nearest(class, known) }
    })
}

/// Every known architecture (`general.architecture`), and the classes of checkpoints that become it.
#[must_use]
pub fn known() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut known: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    for family in FAMILIES {
        let classes = known.entry(family.name()).or_default();
        classes.extend(family.classes());
        classes.sort_unstable();
        classes.dedup();
    }
    known
}

/// The family that converts checkpoints with these settings.
///
/// # Errors
/// As [`by_class`].
pub fn by_config(config: &Config) -> Result<&'static Family, Error> {
    let found = FAMILIES.iter().copied().find(|family| family.converts(config));
    found.map_or_else(|| by_class(config.class()), Ok)
}

/// Classes of several models, whose text part says by its `model_type` which one it is.
const BY_MODEL_TYPE: [(&str, &str, &str); 1] =
    [("Mistral3ForConditionalGeneration", "mistral4", "Mistral4ForCausalLM")];

/// The class of the text part, where `class` is that of several models.
fn of_model_type(class: &str, model_type: &str) -> Option<&'static str> {
    let found = BY_MODEL_TYPE.iter().find(|(several, known, _)| *several == class && *known == model_type);
    found.map(|(.., own)| *own)
}

/// The class that has an output matrix besides, where `class` is the bare model of one that is known. A class that is known
/// itself stays where attention is `bidirectional`, as in embedding models made of decoders.
fn with_output(class: &str, bidirectional: bool) -> Option<String> {
    let known = |class: &String| FAMILIES.iter().any(|family| family.classes().contains(&class.as_str()));
    let stem = class.strip_suffix("TextModel").or_else(|| class.strip_suffix("Model"))?;
    let known_stem = [format!("{stem}ForCausalLM"), format!("{stem}LMHeadModel")].into_iter().find(known);
    known_stem.filter(|_| !bidirectional || !known(&class.to_owned()))
}

/// The one of `known` with the fewest edits from `name`, if no more than a third of it differs.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let (edits, candidate) =
        known.map(|candidate| (edits(name, candidate), candidate)).min_by_key(|(edits, _)| *edits)?;
    (edits * 3 <= name.len().max(candidate.len())).then_some(candidate)
}

/// Levenshtein distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(256).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_has_the_fewest_edits() {
        assert_eq!(edits("kitten", "sitting"), 3);
        let known = ["llama", "qwen2", "qwen3"];
        assert_eq!(nearest("qwen-3", known.into_iter()), Some("qwen3"));
        assert_eq!(nearest("transformer", known.into_iter()), None);
    }
}
