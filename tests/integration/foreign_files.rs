//! GGUF files as other programs and other years write them: with keys left out, under older names, in older layouts.

use std::collections::BTreeMap;
use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::gguf::{Metadata, Reader, TensorSpec, Value, Writer};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;

use super::folder::Folder;
use super::goldens::checkpoint;
use super::shared::{json, testdata};

/// A file as data, to be changed and written again.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
}

/// A tensor with its data.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) ty: TensorType,
    pub(crate) data: Vec<u8>,
}

impl File {
    /// The golden `name`, converted to `output_type`.
    pub(crate) fn golden(name: &str, output_type: OutputType) -> Self {
        let folder = Folder::new(&format!("foreign-{name}-{output_type:?}-{:?}", std::thread::current().id()));
        Self::of(&checkpoint(&folder, name), output_type)
    }

    /// The checkpoint in this folder, converted to `output_type`.
    pub(crate) fn of(folder: &Path, output_type: OutputType) -> Self {
        let options = Options { output_type, ..Options::default() };
        let checkpoint = Checkpoint::open(folder).expect("a folder");
        let conversion = Conversion::new(checkpoint, &options).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let bytes =
            gguf_toolkit::quantize::run_in_memory(&conversion, &conversion.plan(&[]).expect("a plan")).expect("bytes");
        let reader = Reader::from_bytes("golden", bytes.into()).expect("a file");
        let tensors = reader.tensors().iter().map(|info| Tensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            ty: info.ty,
            data: reader.data(info).expect("data").to_vec(),
        });
        Self { metadata: reader.metadata().clone(), tensors: tensors.collect() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let specs: Vec<TensorSpec> = self
            .tensors
            .iter()
            .map(|t| TensorSpec { name: t.name.clone(), shape: t.shape.clone(), ty: t.ty })
            .collect();
        let mut writer = Writer::to_sink(Vec::new(), "file", &self.metadata, &specs).expect("a header");
        self.tensors.iter().for_each(|t| writer.write_tensor(&t.data).expect("written"));
        writer.into_sink().expect("all written")
    }

    pub(crate) fn load(&self) -> Result<Model, String> {
        let reader = Reader::from_bytes("file", self.bytes().into()).map_err(|e| e.to_string())?;
        Model::from_reader(&reader).map_err(|e| e.to_string())
    }

    /// The logits of all positions.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        let model = self.load()?;
        let options = SequenceOptions { kv_type: KvType::F32, context_length: tokens.len() };
        let mut sequence = model.decoder().sequence(options);
        let part = Part { sequence: &mut sequence, tokens, logits: Rows::From(0) };
        Ok(model.decoder().forward(Run::new(&Pool::new(1)), &mut [part]))
    }

    pub(crate) fn without(&self, keys: &[&str]) -> Self {
        let mut file = self.clone();
        keys.iter().for_each(|key| assert!(file.metadata.remove(key).is_some(), "{key}"));
        file
    }
}

/// Keys without which this loader does another thing than llama.cpp, and why.
const EXCEPTIONS: [(&str, &str); 9] = [
    // Without it, llama.cpp turns all layers by 10,000, and passes over `rope.freq_base_swa`: refused, as they differ.
    ("olmo3", "olmo2.rope.freq_base"),
    // llama.cpp knows the window of the model with 64 layers alone.
    ("exaone4", "exaone4.attention.sliding_window"),
    // YaRN's edges lie between pairs here, as in transformers; llama.cpp rounds them, which shows in so short a context.
    ("gptoss", "gpt-oss.rope.scaling.original_context_length"),
    // A key of this program's.
    ("falconmamba", "mamba.ssm.dt_b_c_rms_epsilon"),
    // Scores with a factor for YaRN and frequencies without it are nobody's model: refused.
    ("mistral4", "mistral4.rope.scaling.type"),
    // Checkpoints without `mscale_all_dim`, whose files lack it, have no factor of the scores in transformers; llama.cpp gives them
    // one.
    ("mistral4", "mistral4.rope.scaling.yarn_log_multiplier"),
    // llama.cpp passes over it also where it is there; with it, transformers is followed.
    ("mellum", "mellum.rope.freq_base_swa"),
    // llama.cpp never reads it for this architecture, and takes zero: refused, as the model's own is not known.
    ("qwen2vl", "qwen2vl.attention.layer_norm_rms_epsilon"),
    ("qwen25vl", "qwen2vl.attention.layer_norm_rms_epsilon"),
];

/// The tiny checkpoints with their weights, for `tests/judges/left_out_keys.py`.
#[test]
#[ignore = "writes to the folder that GGUF_CHECKPOINTS names"]
fn checkpoints_are_written_for_judges() {
    let to = std::env::var_os("GGUF_CHECKPOINTS").expect("GGUF_CHECKPOINTS names no folder");
    let folder = Folder::new("foreign-checkpoints");
    for entry in std::fs::read_dir(testdata("arch")).expect("goldens") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        std::fs::rename(checkpoint(&folder, &name), Path::new(&to).join(&name)).expect("moved");
    }
}

#[test]
fn files_without_a_key_compute_what_llama_cpp_computes() {
    let judged = json(&testdata("left_out_keys.json"));
    let numbers = |value: &serde_json::Value| -> Vec<usize> {
        value
            .as_array()
            .expect("a list")
            .iter()
            .map(|n| usize::try_from(n.as_u64().expect("a number")).expect("small"))
            .collect()
    };
    let tokens: Vec<u32> = numbers(&judged["tokens"]).iter().map(|&n| u32::try_from(n).expect("small")).collect();
    let (positions, chosen) = (numbers(&judged["positions"]), numbers(&judged["chosen"]));
    let families: BTreeMap<_, _> = judged["families"].as_object().expect("families").iter().collect();
    let mut failures = Vec::new();
    for (name, judged) in families {
        let file = File::golden(name, OutputType::F32);
        let whole = file.logits(&tokens).unwrap_or_else(|e| panic!("{name}: {e}"));
        let distance = |found: &[f32], expected: &serde_json::Value| -> f64 {
            let vocab = found.len() / tokens.len();
            let found = positions.iter().flat_map(|p| chosen.iter().map(move |c| &found[p * vocab + c]));
            let expected = expected.as_array().expect("logits").iter().map(|n| n.as_f64().expect("a logit"));
            found.zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
        };
        // Where transformers and llama.cpp differ on the whole file, transformers is followed.
        let tolerance = 2e-3 + 2.0 * distance(&whole, &judged["whole"]);
        for (key, expected) in judged["without"].as_object().expect("keys") {
            if EXCEPTIONS.contains(&(name.as_str(), key.as_str())) {
                continue;
            }
            let found = file.without(&[key]).logits(&tokens);
            let failure = match (&found, expected.as_str()) {
                (Ok(found), Some("same")) => {
                    (*found != whole).then(|| "other numbers, not those of the whole file".to_owned())
                }
                (Ok(found), Some(_)) => {
                    (*found != whole).then(|| "other numbers, where llama.cpp refuses it".to_owned())
                }
                (Ok(found), None) => {
                    let distance = distance(found, expected);
                    (distance > tolerance).then(|| format!("{distance} from llama.cpp"))
                }
                (Err(_), Some("refused")) => None,
                (Err(error), _) => Some(format!("refused, where llama.cpp computes: {error}")),
            };
            failures.extend(failure.map(|failure| format!("{name} without {key}: {failure}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const TOKENS: [u32; 24] =
    [229, 204, 16, 358, 64, 116, 334, 213, 201, 239, 44, 186, 157, 150, 245, 346, 137, 162, 191, 27, 113, 105, 9, 46];

/// Fails unless the changed file computes the bits of the whole one.
fn assert_same(name: &str, change: impl Fn(&mut File)) {
    let file = File::golden(name, OutputType::F32);
    let mut changed = file.clone();
    change(&mut changed);
    assert!(changed.bytes() != file.bytes(), "{name}: nothing is changed");
    let found = changed.logits(&TOKENS).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(found == file.logits(&TOKENS).expect("logits"), "{name}: other numbers");
}

/// The message with which the changed file is refused.
fn refusal(name: &str, change: impl Fn(&mut File)) -> String {
    let mut file = File::golden(name, OutputType::F32);
    change(&mut file);
    file.load().err().unwrap_or_else(|| panic!("{name}: not refused"))
}

impl File {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.set(key, value);
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn take(&mut self, name: &str) -> Tensor {
        let at = self.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"));
        self.tensors.remove(at)
    }

    /// Renames keys and tensors.
    fn rename(&mut self, key: impl Fn(&str) -> String, tensor: impl Fn(&str) -> String) {
        self.metadata = self.metadata.iter().map(|(name, value)| (key(name), value.clone())).collect();
        self.tensors.iter_mut().for_each(|t| t.name = tensor(&t.name));
    }

    /// Puts tensors into one along their slowest dimension.
    fn join(&mut self, parts: &[String], name: &str) {
        let parts: Vec<Tensor> = parts.iter().map(|part| self.take(part)).collect();
        let mut shape = parts[0].shape.clone();
        let last = shape.len() - 1;
        shape[last] = parts.iter().map(|part| part.shape[last]).sum();
        let data = parts.iter().flat_map(|part| part.data.clone()).collect();
        self.tensors.push(Tensor { name: name.to_owned(), shape, ty: parts[0].ty, data });
    }

    /// Splits a tensor along its slowest dimension; one piece of that dimension's length is kept as a dimension fewer.
    fn split(&mut self, name: &str, parts: &[(String, u64)]) {
        let whole = self.take(name);
        let (last, shape) = whole.shape.split_last().expect("dimensions");
        let each = whole.data.len() / usize::try_from(*last).expect("small");
        let mut data = whole.data.chunks_exact(each);
        for (name, len) in parts {
            let bytes: Vec<u8> = data.by_ref().take(usize::try_from(*len).expect("small")).flatten().copied().collect();
            let shape = if shape.len() > 1 && *len == 1 { shape.to_vec() } else { [shape, &[*len]].concat() };
            self.tensors.push(Tensor { name: name.clone(), shape, ty: whole.ty, data: bytes });
        }
    }
}

#[test]
fn scaling_under_its_old_name_or_without_a_type_is_linear() {
    assert_same("llama-linear", |file| {
        file.metadata.remove("llama.rope.scaling.type");
        let factor = file.metadata.remove("llama.rope.scaling.factor").expect("a factor");
        file.set("llama.rope.scale_linear", factor);
    });
    let zero = |name, key| assert_same(name, |file| file.set(key, Value::F32(0.0)));
    // No scaling, as in llama.cpp.
    zero("llama2", "llama.rope.scaling.factor");
    let refusal = refusal("llama2", |file| file.set("llama.rope.scaling.factor", Value::F32(-1.0)));
    assert!(refusal.contains("llama.rope.scaling.factor: -1, expected at least 0"), "{refusal}");
}

#[test]
fn rotary_factors_that_divide_by_nothing_are_refused() {
    for factor in [0.0_f32, -1.0, f32::NAN, f32::INFINITY] {
        let refusal = refusal("llama2", |file| {
            let data = [[1.0_f32.to_le_bytes(); 7].concat(), factor.to_le_bytes().to_vec()].concat();
            let name = "rope_freqs.weight".to_owned();
            file.tensors.push(Tensor { name, shape: vec![8], ty: TensorType::F32, data });
        });
        assert!(refusal.contains(&format!("rope_freqs.weight: {factor}")), "{refusal}");
    }
}

#[test]
fn more_experts_than_there_are_cannot_be_used() {
    let refusal = refusal("mixtral", |file| file.set("llama.expert_used_count", 32));
    assert!(refusal.contains("llama.expert_used_count: 32, expected at most expert_count"), "{refusal}");
}

#[test]
fn keys_that_a_family_does_not_compute_with_are_refused_where_they_change_numbers() {
    let cases = [
        ("qwen2", "qwen2.attn_logit_softcapping", Value::F32(50.0)),
        ("llama2", "llama.logit_scale", Value::F32(0.5)),
        ("qwen3", "qwen3.attention.sliding_window", Value::U32(8)),
        ("llama3", "llama.attention.causal", Value::Bool(false)),
        ("olmo3", "olmo2.rope.freq_base_swa", Value::F32(10_000.0)),
    ];
    for (name, key, value) in cases {
        let refusal = refusal(name, |file| file.set(key, value.clone()));
        assert!(refusal.contains(key), "{refusal}");
    }
    assert_same("qwen2", |file| {
        file.set("qwen2.attention.sliding_window", 0);
        file.set("qwen2.attention.causal", Value::Bool(true));
        file.set("qwen2.logit_scale", Value::F32(1.0));
    });
    let mut file = File::golden("qwen2", OutputType::F32);
    file.set("qwen2.a_key_of_nobody", 7);
    let model = file.load().expect("loaded");
    assert!(model.unread_keys().iter().any(|key| key == "qwen2.a_key_of_nobody"), "{:?}", model.unread_keys());
}

#[test]
fn queries_keys_and_values_may_be_in_one_tensor_or_in_three() {
    assert_same("qwen2", |file| {
        for (block, part) in (0..3).flat_map(|block| [(block, "weight"), (block, "bias")]) {
            let parts = ["q", "k", "v"].map(|name| format!("blk.{block}.attn_{name}.{part}"));
            file.join(&parts, &format!("blk.{block}.attn_qkv.{part}"));
        }
    });
    assert_same("phi3", |file| {
        for block in 0..3 {
            let parts = [("q", 64), ("k", 32), ("v", 32)];
            let parts = parts.map(|(name, rows)| (format!("blk.{block}.attn_{name}.weight"), rows));
            file.split(&format!("blk.{block}.attn_qkv.weight"), &parts);
        }
    });
}

#[test]
fn experts_may_be_single_or_have_gate_and_up_in_one() {
    assert_same("mixtral", |file| {
        for (block, part) in (0..3).flat_map(|block| ["gate", "up", "down"].map(|part| (block, part))) {
            let parts: Vec<_> = (0..4).map(|e| (format!("blk.{block}.ffn_{part}.{e}.weight"), 1)).collect();
            file.split(&format!("blk.{block}.ffn_{part}_exps.weight"), &parts);
        }
    });
    assert_same("qwen3moe", |file| {
        for block in 0..3 {
            let (gate, up) =
                ["gate", "up"].map(|part| file.take(&format!("blk.{block}.ffn_{part}_exps.weight"))).into();
            let each = gate.data.len() / 8;
            let data = gate.data.chunks(each).zip(up.data.chunks(each)).flat_map(|(gate, up)| [gate, up].concat());
            let (name, data) = (format!("blk.{block}.ffn_gate_up_exps.weight"), data.collect());
            let shape = vec![gate.shape[0], 2 * gate.shape[1], gate.shape[2]];
            file.tensors.push(Tensor { name, shape, ty: gate.ty, data });
        }
    });
}

#[test]
fn deepseek_files_from_before_the_absorbed_form_compute_the_same() {
    let file = File::golden("deepseek2", OutputType::F32);
    let mut old = file.clone();
    let (rank, heads, plain, value) = (32_usize, 4_usize, 16_usize, 16_usize);
    for block in 0..3 {
        let keys = old.take(&format!("blk.{block}.attn_k_b.weight"));
        let values = old.take(&format!("blk.{block}.attn_v_b.weight"));
        let element = |head: usize, row: usize, col: usize| {
            let at = if row < plain {
                let at = ((head * rank + col) * plain + row) * 4;
                &keys.data[at..at + 4]
            } else {
                let at = ((head * value + row - plain) * rank + col) * 4;
                &values.data[at..at + 4]
            };
            at.to_vec()
        };
        let rows = (0..heads).flat_map(|head| (0..plain + value).map(move |row| (head, row)));
        let data = rows.flat_map(|(head, row)| (0..rank).flat_map(move |col| element(head, row, col)));
        let name = format!("blk.{block}.attn_kv_b.weight");
        let data = data.collect();
        old.tensors.push(Tensor { name, shape: vec![32, 128], ty: TensorType::F32, data });
    }
    old.metadata.remove("deepseek2.attention.key_length_mla").expect("there");
    old.metadata.remove("deepseek2.attention.value_length_mla").expect("there");
    for (key, length) in [("head_count_kv", 4), ("key_length", 32), ("value_length", 16)] {
        old.set(&format!("deepseek2.attention.{key}"), length);
    }
    assert!(old.logits(&TOKENS).expect("logits") == file.logits(&TOKENS).expect("logits"));
}

#[test]
fn ollamas_names_are_understood() {
    assert_same("gptoss", |file| {
        file.rename(
            |key| if key == "gpt-oss.x" { key.to_owned() } else { key.replace("gpt-oss.", "gptoss.") },
            |name| {
                let name = name.replace(".attn_output.", ".attn_out.").replace(".post_attention_norm.", ".ffn_norm.");
                name.strip_suffix(".attn_sinks.weight").map_or(name.clone(), |name| format!("{name}.attn_sinks"))
            },
        );
        file.set("general.architecture", "gptoss");
        file.metadata.remove("gptoss.rope.scaling.type").expect("there");
        file.metadata.remove("gptoss.expert_feed_forward_length").expect("there");
        file.set("tokenizer.ggml.pre", "default");
    });
    assert_same("gemma3", |file| {
        let local = file.metadata.remove("gemma3.rope.freq_base_swa").expect("there");
        file.set("gemma3.rope.local.freq_base", local);
        let global = file.metadata.remove("gemma3.rope.freq_base").expect("there");
        file.set("gemma3.rope.global.freq_base", global);
        file.metadata.remove("gemma3.attention.layer_norm_rms_epsilon").expect("there");
        file.set("gemma3.vision.block_count", 27);
    });
    assert_same("olmo3", |file| {
        file.rename(|key| key.replace("olmo2.", "olmo3."), str::to_owned);
        file.set("general.architecture", "olmo3");
    });
    assert_same("ministral3", |file| {
        for (old, new) in [
            ("rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
            ("rope.scaling.mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
            ("rope.scaling_beta", "attention.temperature_scale"),
        ] {
            let value = file.metadata.remove(&format!("mistral3.{new}")).expect("there");
            file.set(&format!("mistral3.{old}"), value);
        }
    });
    assert_same("lfm2", |file| file.tensor("token_embd_norm.weight").name = "output_norm.weight".into());
    assert_same("qwen35", |file| {
        file.rename(str::to_owned, |name| name.replace(".ssm_dt.bias", ".ssm_dt"));
    });
}

#[test]
fn tensors_for_images_are_left_out_and_named() {
    let mut file = File::golden("gemma3", OutputType::F32);
    let whole = file.logits(&TOKENS).expect("logits");
    for name in ["v.patch_embedding.weight", "mm.mm_input_projection.weight"] {
        let name = name.to_owned();
        file.tensors.push(Tensor { name, shape: vec![4], ty: TensorType::F32, data: vec![0; 16] });
    }
    let model = file.load().expect("loaded");
    let warnings: Vec<String> = model.warnings().iter().map(ToString::to_string).collect();
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("2 tensors are left out, v.patch_embedding.weight"),
        "{warnings:?}"
    );
    assert!(file.logits(&TOKENS).expect("logits") == whole);
}

#[test]
fn what_a_vocabulary_lacks_is_guessed_or_told() {
    let mut file = File::golden("qwen2", OutputType::F32);
    file.metadata.remove("tokenizer.ggml.pre").expect("there");
    file.set("tokenizer.ggml.eos_token_id", 5_000_000);
    let model = file.load().expect("loaded");
    let warnings: Vec<String> = model.warnings().iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().any(|w| w.starts_with("no tokenizer.ggml.pre: texts are split as default does")),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|w| w.contains("tokenizer.ggml.eos_token_id: there is no token 5000000")),
        "{warnings:?}"
    );
    let mut file = File::golden("llama2", OutputType::F32);
    file.metadata.remove("tokenizer.ggml.scores").expect("there");
    file.metadata.remove("tokenizer.ggml.token_type").expect("there");
    file.load().expect("loaded");
}
