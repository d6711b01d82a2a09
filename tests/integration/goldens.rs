//! The tiny checkpoints of `testdata/arch`: their weights are a function of name and shape, so they are made here.

use std::path::{Path, PathBuf};

use gguf_toolkit::safetensors::Checkpoint;
use half::f16;
use serde_json::{Map, Value as Json, json};

use super::folder::Folder;
use super::shared::json as read_json;

/// Families whose norms are stored as an offset from one: there the base of a norm's weights is zero.
const OFFSET_NORMS: [&str; 5] = ["gemma", "gemma2", "gemma3", "embeddinggemma", "nemotron"];

/// The folder of the golden `name`.
pub(crate) fn golden(name: &str) -> PathBuf {
    super::shared::testdata("arch").join(name)
}

/// A checkpoint's folder, with its weights, named `name`.
pub(crate) fn checkpoint(folder: &Folder, name: &str) -> PathBuf {
    checkpoint_of(folder, &golden(name), name)
}

/// As [`checkpoint`], of the golden `from`.
pub(crate) fn checkpoint_of(folder: &Folder, from: &Path, name: &str) -> PathBuf {
    let to = folder.path(name);
    copy(from, &to);
    let shapes = read_json(&from.join("tensors.json"));
    let offset_norms = OFFSET_NORMS.contains(&name);
    std::fs::write(to.join("model.safetensors"), safetensors(shapes.as_object().expect("shapes"), offset_norms))
        .expect("written");
    to
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a golden") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, to).expect("copied");
        }
    }
}

/// A safetensors file of F16 tensors of these shapes.
pub(crate) fn safetensors(shapes: &Map<String, Json>, offset_norms: bool) -> Vec<u8> {
    let mut header = Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, shape) in shapes {
        let dims: Vec<usize> = shape
            .as_array()
            .expect("dims")
            .iter()
            .map(|n| n.as_u64().and_then(|n| n.try_into().ok()).expect("dim"))
            .collect();
        let start = data.len();
        data.extend(weights(name, &dims, offset_norms).flat_map(f16::to_le_bytes));
        header.insert(name.clone(), json!({ "dtype": "F16", "shape": dims, "data_offsets": [start, data.len()] }));
    }
    let header = Json::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Element `i` is `u(i)` in [-1, 1): SplitMix64 from FNV-1a of the name, seed 1.
#[allow(clippy::cast_possible_truncation, reason = "rounded to F16 at last")]
pub(crate) fn weights(name: &str, dims: &[usize], offset_norms: bool) -> impl Iterator<Item = f16> {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) ^ 1;
    let last = *dims.last().unwrap_or(&1) as f64;
    let norm = name.to_lowercase().contains("norm") || name.contains(".ln_");
    let base = if name.ends_with(".weight") && !offset_norms { 1.0 } else { 0.0 };
    let several = dims.len() >= 2;
    (0..dims.iter().product()).map(move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let u = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let value = if several {
            2.0 * u / last.sqrt()
        } else if norm {
            base + u / 4.0
        } else {
            u / 5.0
        };
        f16::from_f32(value as f32)
    })
}

/// The tokens and the logits `[tokens, vocab]` that a golden expects.
pub(crate) fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    expected_of(name, "logits")
}

/// The file of a golden's expected numbers.
fn expected_file(golden: &Path) -> Checkpoint {
    Checkpoint::open(&golden.join("expected.safetensors")).expect("expected numbers")
}

/// Floats of a golden's expected numbers.
pub(crate) fn expected_floats(golden: &Path, name: &str) -> Vec<f32> {
    let file = expected_file(golden);
    let tensor = file.tensor(name).expect("a tensor");
    let mut bytes = vec![0; usize::try_from(tensor.bytes()).expect("small")];
    file.read_at(tensor, 0, &mut bytes).expect("readable");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect()
}

/// The first tokens of a golden, as many as the logits `[tokens, vocab]` that it calls `logits` are for, and these.
pub(crate) fn expected_of(name: &str, logits: &str) -> (Vec<u32>, Vec<f32>) {
    let file = expected_file(&golden(name));
    let tokens = file.tensor(logits).expect("logits").shape[0].try_into().expect("few");
    let read = |name: &str| {
        let tensor = file.tensor(name).expect("a tensor");
        let mut bytes = vec![0; usize::try_from(tensor.bytes()).expect("small")];
        file.read_at(tensor, 0, &mut bytes).expect("readable");
        bytes
    };
    let ids = read("input_ids")
        .chunks_exact(8)
        .map(|b| u32::try_from(i64::from_le_bytes(b.try_into().expect("8"))).expect("id"))
        .take(tokens)
        .collect();
    let logits = read(logits).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect();
    (ids, logits)
}
