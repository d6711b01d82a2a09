//! Synthetic models: a published shape, a vocabulary of bytes and fillers, and pseudorandom weights that are the same in every
//! run. Any program that reads GGUF files can run them; their output is meaningless.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "bits of draws are cut on purpose")]

use std::path::{Path, PathBuf};

use super::Shape;
use crate::TensorType;
use crate::arch::{self, Config, Hparams, Keys, TensorRule};
use crate::files::FileId;
use crate::formats;
use crate::gguf::{Array, Metadata, TensorSpec, Value, keys};
use crate::quantize::{Error, FileType, Source};
use crate::tokenizer::{TokenKind, byte_character};

/// Weights are drawn from a table of this many numbers.
const TABLE: usize = 1 << 16;
/// Standard deviation of weights, a usual value for initialization.
const DEVIATION: f32 = 0.02;
/// Tensors of more than one dimension that stay in single precision, as converted checkpoints have them.
const SINGLE: [&str; 5] = ["ffn_gate_inp", "ssm_conv1d", "shortconv.conv", "position_embd", "token_types"];

/// A model whose weights are generated when they are read.
pub struct SyntheticModel {
    name: PathBuf,
    metadata: Metadata,
    tensors: Vec<TensorSpec>,
    /// Bits of half-precision numbers, normally distributed.
    table: Vec<u16>,
}

impl SyntheticModel {
    /// A model of this shape, in half precision.
    ///
    /// # Errors
    /// When the shape's settings do not make a model.
    pub fn new(shape: &Shape) -> Result<Self, arch::Error> {
        let config = Config::new(shape.config())?;
        let family = arch::by_config(&config)?;
        let mut metadata = Metadata::new();
        metadata.set(keys::GENERAL_ARCHITECTURE, family.name());
        metadata.set(keys::GENERAL_TYPE, "model");
        metadata.set(keys::GENERAL_NAME, format!("{} (made)", shape.name()));
        let mut all = Keys::new(family.name(), metadata, FileType::F16.id());
        family.keys(&config, &mut all)?;
        let mut metadata = all.finish();
        metadata.set(keys::GENERAL_QUANTIZATION_VERSION, Value::U32(2));
        tokenizer(config.required_count(&["vocab_size"])?, &mut metadata);
        let hparams = Hparams::from_metadata(&metadata)?;
        let tied = config.flag("tie_word_embeddings");
        let wanted = |rule: &&TensorRule| rule.required || rule.name == "output.weight" && !tied;
        let tensors = family.tensors(&hparams)?.iter().filter(wanted).map(spec).collect();
        Ok(Self { name: shape.name().into(), metadata, tensors, table: table() })
    }
}

fn spec(rule: &TensorRule) -> TensorSpec {
    let shape: Vec<u64> = rule.shape.iter().map(|&n| n as u64).collect();
    let single = shape.len() < 2 || SINGLE.iter().any(|part| rule.name.contains(part));
    TensorSpec { name: rule.name.clone(), shape, ty: if single { TensorType::F32 } else { TensorType::F16 } }
}

/// A byte-pair vocabulary of `count` tokens: bytes, two merges, fillers, BOS and EOS.
fn tokenizer(count: usize, metadata: &mut Metadata) {
    let mut texts: Vec<String> = (0..=255).map(|byte| byte_character(byte).to_string()).collect();
    texts.extend(["th", "the"].map(str::to_owned));
    let mut kinds = vec![TokenKind::Normal; texts.len()];
    let text = count.saturating_sub(2).max(texts.len());
    for i in texts.len()..text {
        texts.push(format!("[PAD{i}]"));
        kinds.push(TokenKind::Unused);
    }
    texts.extend(["<|begin_of_text|>", "<|end_of_text|>"].map(str::to_owned));
    kinds.extend([TokenKind::Control; 2]);
    let kinds: Vec<i32> = kinds.iter().map(|kind| kind.number()).collect();
    let id = |id: usize| Value::U32(u32::try_from(id).unwrap_or(u32::MAX));
    metadata.set(keys::TOKENIZER_MODEL, "gpt2");
    metadata.set(keys::TOKENIZER_PRE, "llama-bpe");
    metadata.set(keys::TOKENIZER_TOKENS, Value::Array(Array::strings(&texts)));
    metadata.set(keys::TOKENIZER_TOKEN_TYPE, Value::Array(Array::from(&kinds[..])));
    metadata.set(keys::TOKENIZER_MERGES, Value::Array(Array::strings(["t h", "th e"])));
    metadata.set(keys::TOKENIZER_BOS_ID, id(text));
    metadata.set(keys::TOKENIZER_EOS_ID, id(text + 1));
    metadata.set(keys::TOKENIZER_ADD_BOS, true);
}

/// A number that is pseudorandom (splitmix64).
pub(super) fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sums of twelve uniform numbers, which are nearly normally distributed.
fn table() -> Vec<u16> {
    let number = |i: u64| -> f32 {
        let uniform = (0..12).map(|k| (mixed(12 * i + k) >> 48) as f32 / 65536.0);
        (uniform.sum::<f32>() - 6.0) * DEVIATION
    };
    (0..TABLE as u64).map(|i| half::f16::from_f32(number(i)).to_bits()).collect()
}

impl Source for SyntheticModel {
    fn path(&self) -> &Path {
        &self.name
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn granule(&self, _tensor: usize) -> u64 {
        formats::SUPER_BLOCK as u64
    }

    fn read(&self, tensor: usize, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let spec = &self.tensors[tensor];
        let size = spec.ty.block_bytes();
        // Four elements share a draw; each tensor has its own draws.
        let draw = |i: u64| mixed(((tensor as u64) << 40) + i / 4);
        let first = offset_bytes / size as u64;
        let mut bits = draw(first);
        // Weights of norms are about one.
        let base = if spec.shape.len() < 2 && spec.name.contains("norm") { 1.0 } else { 0.0 };
        for (i, element) in (first..).zip(buffer.chunks_exact_mut(size)) {
            if i % 4 == 0 {
                bits = draw(i);
            }
            let number = self.table[usize::from((bits >> (16 * (i % 4))) as u16)];
            match spec.ty {
                TensorType::F16 => element.copy_from_slice(&number.to_le_bytes()),
                _ => element.copy_from_slice(&(base + half::f16::from_bits(number).to_f32()).to_le_bytes()),
            }
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        Ok(())
    }

    fn file_ids(&self) -> Vec<FileId> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_the_same_in_every_run_and_looks_like_chance() {
        let shape = Shape::from_name("llama-tiny").expect("in the table");
        let model = SyntheticModel::new(shape).expect("a model");
        let matrix = model.tensors().iter().position(|t| t.name == "blk.1.ffn_up.weight").expect("there");
        let mut whole = vec![0; 2 * 256 * 512];
        model.read(matrix, 0, &mut whole).expect("made");
        for (offset, len) in [(0, 2), (6, 10), (1030, 4096)] {
            let mut part = vec![0; len];
            model.read(matrix, offset as u64, &mut part).expect("made");
            assert_eq!(part, whole[offset..offset + len]);
        }
        let numbers: Vec<f32> =
            whole.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32() / DEVIATION).collect();
        let mean = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f32>() / numbers.len() as f32;
        assert!(
            mean(1).abs() < 0.02 && (mean(2) - 1.0).abs() < 0.02 && mean(3).abs() < 0.05,
            "{} {}",
            mean(1),
            mean(2)
        );
    }

    #[test]
    fn every_shape_has_what_its_family_asks_for() {
        for shape in Shape::all() {
            let model = SyntheticModel::new(shape).unwrap_or_else(|e| panic!("{}: {e}", shape.name()));
            let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
            assert!(names.contains(&"token_embd.weight"), "{}: {names:?}", shape.name());
        }
        assert!(Shape::from_name("llama-1b").is_some() && Shape::from_name("llama-9000b").is_none());
    }
}
