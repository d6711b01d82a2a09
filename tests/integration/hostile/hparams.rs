//! Hyper-parameters that no model can have: refused by key, before anything is allocated for them.

use gguf_toolkit::arch::Hparams;
use gguf_toolkit::gguf::{Array, Metadata, Value};

use super::super::mutants::Choices;

fn llama() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    for (key, value) in [
        ("vocab_size", 32u32),
        ("block_count", 2),
        ("context_length", 64),
        ("embedding_length", 16),
        ("feed_forward_length", 32),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 4),
        ("attention.value_length", 4),
    ] {
        metadata.set(format!("llama.{key}"), value);
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    metadata
}

#[test]
fn impossible_values_are_refused_by_key() {
    assert!(Hparams::from_metadata(&llama()).is_ok());
    let cases: Vec<(&str, Value)> = vec![
        ("block_count", 0u32.into()),
        ("block_count", u32::MAX.into()),
        ("block_count", u64::MAX.into()),
        ("block_count", (-1i32).into()),
        ("block_count", "2".into()),
        ("block_count", 2f32.into()),
        ("embedding_length", 0u32.into()),
        ("embedding_length", (1u64 << 40).into()),
        ("context_length", 0u32.into()),
        ("vocab_size", 0u32.into()),
        ("feed_forward_length", Array::from(&[32i32][..]).into()),
        ("feed_forward_length", Array::from(&[32i32, -1][..]).into()),
        ("feed_forward_length", Array::strings(["32", "32"]).into()),
        ("attention.head_count", u32::MAX.into()),
        ("attention.head_count_kv", 3u32.into()),
        ("attention.key_length", (1u32 << 30).into()),
        ("attention.layer_norm_rms_epsilon", f32::NAN.into()),
        ("attention.layer_norm_rms_epsilon", f64::INFINITY.into()),
        ("attention.layer_norm_rms_epsilon", (-1f32).into()),
        ("attention.layer_norm_rms_epsilon", true.into()),
    ];
    for (key, value) in cases {
        let key = format!("llama.{key}");
        let mut metadata = llama();
        metadata.set(key.clone(), value.clone());
        match Hparams::from_metadata(&metadata) {
            Ok(_) => panic!("{key} = {value:?} is accepted"),
            Err(error) => assert!(error.to_string().starts_with(&format!("key {key}: ")), "{error}"),
        }
    }
}

#[test]
fn strange_architectures_are_one_short_line() {
    for name in ["x\x1b[2J\nerror: forged", &"x".repeat(1 << 20)] {
        let message = match gguf_toolkit::arch::by_name(name) {
            Ok(_) => panic!("{name} is known"),
            Err(error) => error.to_string(),
        };
        assert!(message.len() < 200 && !message.contains(char::is_control), "{message:.200}");
    }
    let mut metadata = llama();
    metadata.set("general.architecture", 3u32);
    assert!(Hparams::from_metadata(&metadata).is_err());
    metadata.set("general.architecture", "");
    assert!(Hparams::from_metadata(&metadata).is_err());
}

#[test]
fn any_mixture_of_values_is_read_or_refused() {
    let mut random = Choices::seeded(0xfeed_beef_dead_cafe);
    let values: Vec<Value> = vec![
        0u8.into(),
        1u16.into(),
        7u32.into(),
        u64::MAX.into(),
        i64::MIN.into(),
        f32::NAN.into(),
        f64::MAX.into(),
        false.into(),
        "".into(),
        Array::from(&[0i32; 0][..]).into(),
        Array::from(&[1u64, 2][..]).into(),
        Array::bools([true, false]).into(),
        Array::strings(["a"]).into(),
    ];
    for _ in 0..20_000 {
        let mut metadata = llama();
        let keys: Vec<String> = metadata.iter().skip(1).map(|(key, _)| key.to_owned()).collect();
        for _ in 0..=random.below(2) {
            metadata.set(keys[random.below(keys.len())].clone(), values[random.below(values.len())].clone());
        }
        if let Ok(hparams) = Hparams::from_metadata(&metadata) {
            assert!((1..=4096).contains(&hparams.block_count));
            assert_eq!(hparams.head_count.len(), hparams.block_count);
        }
    }
}

#[test]
fn an_unknown_architecture_is_named_before_its_keys() {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "qwen-3");
    let message = Hparams::from_metadata(&metadata).expect_err("unknown").to_string();
    assert!(
        message == "architecture qwen-3 is not known (nearest: qwen3; `gguf convert --list` lists those that are)",
        "{message}"
    );
}
