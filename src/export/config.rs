//! `config.json` of an exported model: the defaults of its class, overridden by the settings of the file.
//!
//! If the absence of a key has a meaning, the value is taken from the network description, so that this meaning is defined in
//! one place.

use serde_json::{Map, Value as Json, json};

use super::class::{Class, When, classes};
use super::error::Error;
use super::rope;
use super::setting::{Set, one, setting, unfit};
use super::source::Source;
use crate::arch::{BLOCK_NAMES, class_settings, keys, settings_of_keys};
use crate::gguf::{Value, keys as file_keys};
use crate::tensor_type::TensorType;

/// The class that a file is exported to.
pub(super) fn class(source: &Source<'_>) -> Result<&'static Class, Error> {
    let architecture = &source.header.hparams.architecture;
    let fits =
        |class: &&Class| class.architecture == architecture && class.when.iter().all(|when| holds(source, *when));
    let unknown = || Error::Architecture { path: source.path(), architecture: architecture.clone() };
    classes().find(fits).ok_or_else(unknown)
}

/// Whether a condition of a class holds.
fn holds(source: &Source<'_>, when: When) -> bool {
    let h = &source.header.hparams;
    match when {
        When::Has(name) => source.has(&format!("blk.0.{name}")),
        When::Tensor(name) => source.has(name),
        When::NoTensor(name) => !source.has(name),
        When::Windows => source.attention().any(|mixer| mixer.window.is_some()),
        When::Key(key) => h.has(key),
        When::Lacks(key) => !h.has(key),
        When::True(key) => h.get(key).and_then(Value::as_bool) == Some(true),
        When::Number(key, number) => h.get(key).and_then(Value::as_u64) == Some(number),
        When::Tokenizer(name) => {
            let text = |key: &str| source.header.metadata.get(key).and_then(Value::as_str);
            [file_keys::TOKENIZER_MODEL, file_keys::TOKENIZER_PRE].into_iter().any(|key| text(key) == Some(name))
        }
        When::WholeHeads => {
            let rotated = source.attention().find_map(|mixer| Some(2 * mixer.rope.as_ref()?.frequencies.len()));
            rotated == Some(h.key_length)
        }
    }
}

/// The settings of a model with weights of this type.
pub(super) fn config(source: &Source<'_>, class: &Class, ty: TensorType) -> Result<Map<String, Json>, Error> {
    let h = &source.header.hparams;
    // A test checks that each class has defaults.
    let no_defaults = || unfit(source, class, keys::BLOCK_COUNT);
    let (model_type, defaults) = class_settings(class.name).ok_or_else(no_defaults)?;
    let mut config = Map::new();
    config.insert("architectures".into(), json!([class.name]));
    config.insert("model_type".into(), model_type.into());
    // JSON has no infinity; the class gives these by itself.
    let finite = defaults.iter().filter(|(_, value)| !value.to_string().contains("Infinity"));
    config.extend(finite.map(|(name, value)| (name.clone(), value.clone())));
    let own = |names: &[&'static str]| names.iter().copied().find(|name| defaults.contains_key(*name));
    config.insert(own(BLOCK_NAMES).unwrap_or(BLOCK_NAMES[0]).into(), h.block_count.into());
    for (key, names) in settings_of_keys() {
        if let (Some(name), Some(value)) = (own(names).filter(|name| !class.has(name)), h.get(key)) {
            config.insert(name.into(), one(source, class, key, value)?);
        }
    }
    heads(source, class, &mut config)?;
    config.insert("vocab_size".into(), h.vocab_size.into());
    if source.spec.logits {
        config.insert("tie_word_embeddings".into(), (!source.has("output.weight")).into());
    }
    rotary(source, class, &mut config)?;
    for (name, from) in class.settings() {
        set(&mut config, name, setting(source, class, *from)?);
    }
    let special = source.special();
    for (name, id) in [("bos_token_id", special.bos), ("eos_token_id", special.eos), ("pad_token_id", special.padding)]
    {
        config.insert(name.into(), id.into());
    }
    let dtype = match ty {
        TensorType::F32 => "float32",
        TensorType::BF16 => "bfloat16",
        _ => "float16",
    };
    config.insert("torch_dtype".into(), dtype.into());
    Ok(nested(config))
}

fn set(config: &mut Map<String, Json>, name: &str, value: Set) {
    match value {
        Set::To(value) => drop(config.insert(name.to_owned(), value)),
        Set::Absent => drop(config.remove(name)),
        Set::AsItIs => {}
    }
}

/// Counts of key-value heads and lengths of heads.
fn heads(source: &Source<'_>, class: &Class, config: &mut Map<String, Json>) -> Result<(), Error> {
    let h = &source.header.hparams;
    // For most classes the default is the number of heads, which is not a constant.
    if !class.has("num_key_value_heads") {
        let kv_heads = h.head_count_kv.iter().copied().max().unwrap_or(0);
        if h.head_count_kv.iter().any(|&heads| heads != kv_heads) {
            return Err(unfit(source, class, keys::HEAD_COUNT_KV));
        }
        config.insert("num_key_value_heads".into(), kv_heads.into());
    }
    if class.has("head_dim") {
        return Ok(());
    }
    if h.key_length != h.value_length && !class.has("v_head_dim") {
        return Err(unfit(source, class, keys::VALUE_LENGTH));
    }
    if h.has(keys::KEY_LENGTH) || config.contains_key("head_dim") {
        config.insert("head_dim".into(), h.key_length.into());
    }
    Ok(())
}

/// The rotary embedding, in the form of transformers 4.
fn rotary(source: &Source<'_>, class: &Class, config: &mut Map<String, Json>) -> Result<(), Error> {
    if class.has("rope_parameters") || !source.rotates() {
        return Ok(());
    }
    config.insert("rope_theta".into(), source.rotary_base());
    let mut scaling = match rope::scaling(source)? {
        Some(Json::Object(scaling)) => scaling,
        _ => Map::new(),
    };
    // What scaling alone uses has no meaning without.
    if scaling.is_empty() {
        return Ok(());
    }
    for (name, from) in class.rope {
        set(&mut scaling, name, setting(source, class, *from)?);
    }
    config.insert("rope_scaling".into(), scaling.into());
    Ok(())
}

/// The settings whose names have a point as objects within.
fn nested(config: Map<String, Json>) -> Map<String, Json> {
    let mut result = Map::new();
    for (name, value) in config {
        let Some((object, name)) = name.split_once('.') else {
            result.insert(name, value);
            continue;
        };
        if let Json::Object(inner) = result.entry(object).or_insert_with(|| json!({})) {
            inner.insert(name.to_owned(), value);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch;

    #[test]
    fn each_family_that_converts_has_a_class() {
        for family in arch::FAMILIES.iter().filter(|family| !family.classes().is_empty()) {
            assert!(classes().any(|class| class.architecture == family.name()), "{}", family.name());
        }
    }

    #[test]
    fn each_class_is_of_a_family_and_has_defaults() {
        for class in classes() {
            let family = arch::by_name(class.architecture).expect("a family");
            let converts = class.family(family).expect("a class that is converted");
            assert!(converts.classes().contains(&class.name), "{}", class.name);
            assert!(class_settings(class.name).is_some(), "{}", class.name);
        }
    }
}
