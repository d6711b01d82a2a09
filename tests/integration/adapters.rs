//! Adapters (LoRA): what PEFT saves, converted and applied, against the same model with its weights changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gguf_toolkit::TensorType;
use gguf_toolkit::convert::{AdapterConversion, Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::cpu::{KvType, Part, Rows, SequenceOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::{Adapter, Model};
use gguf_toolkit::quantize::RunOptions;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::checkpoint;

fn gguf(args: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_gguf")).args(args).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

const RANK: usize = 3;
const ALPHA: f32 = 6.0;

/// A matrix of floats, `[rows, cols]`.
struct Floats {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn read(path: &Path) -> BTreeMap<String, Floats> {
    let bytes = fs::read(path).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let floats = |view: &TensorView<'_>| Floats {
        shape: view.shape().to_vec(),
        values: view.data().as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
    };
    file.iter().map(|(name, view)| (name.to_owned(), floats(&view))).collect()
}

fn save(path: &Path, tensors: &BTreeMap<String, Floats>) {
    let bytes: Vec<(&String, &Floats, Vec<u8>)> =
        tensors.iter().map(|(name, t)| (name, t, t.values.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = bytes.iter().map(|(name, t, data)| {
        ((*name).clone(), TensorView::new(Dtype::F32, t.shape.clone(), data).expect("a tensor of its shape"))
    });
    safetensors::serialize_to_file(views, None, path).expect("written");
}

/// Numbers that look random, about `size` large.
fn noise(seed: &str, count: usize, size: f32) -> Vec<f32> {
    let mut state = seed.bytes().fold(7_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[allow(clippy::cast_precision_loss, reason = "24 bits")]
        let unit = (state >> 40) as f32 / (1 << 24) as f32;
        (unit - 0.5) * 2.0 * size
    };
    (0..count).map(|_| next()).collect()
}

/// Writes an adapter for the weights of `checkpoint` whose names `picks` chooses, and changes these weights in the
/// checkpoint, which is saved in F32.
fn peft(checkpoint: &Path, adapter: &Path, turned: bool, picks: impl Fn(&str) -> bool) -> usize {
    let path = checkpoint.join("model.safetensors");
    let mut weights = read(&path);
    let mut factors = BTreeMap::new();
    let mut changed = 0;
    for (name, weight) in &mut weights {
        let &[rows, cols] = &weight.shape[..] else { continue };
        let Some(module) = name.strip_suffix(".weight").filter(|_| picks(name)) else { continue };
        // Of a module whose columns lie as rows, the factors are those of the usual form.
        let (outputs, inputs) = if turned { (cols, rows) } else { (rows, cols) };
        let a = noise(&format!("{name}a"), RANK * inputs, 0.3);
        let b = noise(&format!("{name}b"), outputs * RANK, 0.05);
        for output in 0..outputs {
            for input in 0..inputs {
                let sum: f32 = (0..RANK).map(|r| b[output * RANK + r] * a[r * inputs + input]).sum();
                let place = if turned { input * cols + output } else { output * cols + input };
                #[allow(clippy::cast_precision_loss, reason = "a small number")]
                let scale = ALPHA / RANK as f32;
                weight.values[place] += scale * sum;
            }
        }
        let name = |factor: &str| format!("base_model.model.{module}.{factor}.weight");
        factors.insert(name("lora_A"), Floats { shape: vec![RANK, inputs], values: a });
        factors.insert(name("lora_B"), Floats { shape: vec![outputs, RANK], values: b });
        changed += 1;
    }
    save(&path, &weights);
    fs::create_dir_all(adapter).expect("a folder");
    save(&adapter.join("adapter_model.safetensors"), &factors);
    let config = json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "fan_in_fan_out": turned, "bias": "none",
        "use_dora": false, "use_rslora": false, "target_modules": [], "modules_to_save": null });
    fs::write(adapter.join("adapter_config.json"), config.to_string()).expect("written");
    changed
}

/// Writes an adapter of one matrix of the checkpoint in `checkpoint` to the folder `to`.
pub(crate) fn write_small(checkpoint: &Path, to: &Path) {
    let bytes = fs::read(checkpoint.join("model.safetensors")).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let shape = file.tensor("model.layers.0.self_attn.q_proj.weight").expect("a matrix").shape().to_vec();
    let factor = |name: &str, shape: [usize; 2]| {
        let values = noise(name, shape[0] * shape[1], 0.1);
        (
            format!("base_model.model.model.layers.0.self_attn.q_proj.{name}.weight"),
            Floats { shape: shape.to_vec(), values },
        )
    };
    fs::create_dir_all(to).expect("a folder");
    let factors = [factor("lora_A", [RANK, shape[1]]), factor("lora_B", [shape[0], RANK])].into_iter().collect();
    save(&to.join("adapter_model.safetensors"), &factors);
    let config = json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA });
    fs::write(to.join("adapter_config.json"), config.to_string()).expect("written");
}

fn convert(from: &Path, to: PathBuf) -> PathBuf {
    let options = Options { output_type: OutputType::F32, ..Options::default() };
    let conversion = Conversion::new(Checkpoint::open(from).expect("a folder"), &options).expect("convertible");
    conversion.write(&conversion.plan(&[]).expect("a plan"), &to, &RunOptions::default(), &|_| true).expect("written");
    to
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let options = SequenceOptions { kv_type: KvType::F32, context_length: tokens.len() };
    let mut sequence = model.decoder().sequence(options);
    let part = Part { sequence: &mut sequence, tokens, logits: Rows::From(0) };
    model.decoder().forward(model.run(&Pool::new(2)), &mut [part])
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const TOKENS: [u32; 12] = [5, 17, 33, 8, 100, 44, 91, 7, 63, 12, 80, 3];

/// The golden `name` with its chosen weights changed computes the same as the golden with an adapter.
fn assert_adapts(name: &str, turned: bool, picks: impl Fn(&str) -> bool) {
    let folder = Folder::new(&format!("adapters-{name}"));
    let plain = convert(&checkpoint(&folder, name), folder.path("plain.gguf"));
    let changed = folder.path("changed");
    fs::rename(checkpoint(&folder, name), &changed).expect("moved");
    let adapter = folder.path("adapter");
    assert!(peft(&changed, &adapter, turned, picks) > 3, "{name}: no weight was picked");
    let changed = Model::load(&convert(&changed, folder.path("changed.gguf"))).expect("loaded");
    let plain = Reader::open(&plain).expect("a file");
    let conversion =
        AdapterConversion::new(&adapter, &plain, TensorType::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
    let file = folder.path("adapter.gguf");
    conversion.write(&file, false).expect("written");
    let plain = Model::from_reader(&plain).expect("loaded");
    let adapter = Adapter::load(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
    let adapted = plain.with_adapter(&adapter, 1.0).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (expected, before, found) = (logits(&changed, &TOKENS), logits(&plain, &TOKENS), logits(&adapted, &TOKENS));
    let (effect, worst) = (distance(&before, &expected), distance(&found, &expected));
    assert!(effect > 0.05, "{name}: the change changes {effect}");
    assert!(worst < 1e-3, "{name}: {worst} from the logits of changed weights, which are {effect} from those before");
    // One token after the other, the same bits.
    let options = SequenceOptions { kv_type: KvType::F32, context_length: TOKENS.len() };
    let mut sequence = adapted.decoder().sequence(options);
    let pool = Pool::new(1);
    let steps: Vec<f32> = TOKENS
        .iter()
        .flat_map(|token| {
            let part = Part { sequence: &mut sequence, tokens: &[*token], logits: Rows::Last };
            adapted.decoder().forward(adapted.run(&pool), &mut [part])
        })
        .collect();
    assert!(steps == found, "{name}: other bits token by token");
    // Twice half is once, and without it nothing has changed.
    let halves = plain.with_adapter(&adapter, 0.5).and_then(|model| model.with_adapter(&adapter, 0.5)).expect("fits");
    assert!(distance(&logits(&halves, &TOKENS), &found) < 1e-3);
    assert!(logits(&adapted.without_adapters(), &TOKENS) == before);
}

fn is_linear(name: &str) -> bool {
    !["embed", "norm", "lm_head", "conv", "rotary", ".wte", ".wpe", "router", "mlp.gate.weight"]
        .iter()
        .any(|part| name.contains(part))
}

#[test]
fn adapters_of_usual_models_equal_changed_weights() {
    for name in ["llama3", "qwen2", "gemma3", "olmo2"] {
        assert_adapts(name, false, is_linear);
    }
}

#[test]
fn adapters_of_fused_projections_equal_changed_weights() {
    for name in ["phi3", "glm4", "falcon", "gptneox", "qwen3next"] {
        assert_adapts(name, false, is_linear);
    }
    assert_adapts("gpt2", true, is_linear);
}

#[test]
fn adapters_of_experts_equal_changed_weights() {
    assert_adapts("mixtral", false, |name| is_linear(name) && !name.contains("block_sparse_moe.gate"));
    assert_adapts("deepseekv2lite", false, |name| is_linear(name) && !name.contains("kv_b_proj"));
}

/// An adapter of a golden, by default settings.
fn adapter(folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
    let plain = convert(&checkpoint(folder, name), folder.path("plain.gguf"));
    let to = folder.path("adapter");
    peft(&folder.path(name), &to, false, |name| name.contains("self_attn"));
    (plain, to)
}

#[test]
fn the_commands_take_adapters() {
    let folder = Folder::new("adapters-commands");
    let (plain, peft) = adapter(&folder, "llama3");
    let file = folder.path("adapter.gguf");
    let (plain, file, peft) =
        (plain.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"), peft.to_str().expect("UTF-8"));
    let fails = |args: &[&str]| {
        let (_, stderr, code) = gguf(args);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        stderr
    };
    assert!(fails(&["convert", peft]).contains("is an adapter: --base MODEL.gguf names the model"));
    let (stdout, stderr, code) = gguf(&["convert", peft, "--base", plain, "-o", file]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("12 tensors are changed"), "{stdout}");
    assert!(fails(&["convert", peft, "--base", plain, "-o", file]).contains("exists"));
    let top = |lora: &[&str]| {
        let (stdout, stderr, code) = gguf(&[&["logits", plain, "Hello", "--json"], lora].concat());
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str::<Json>(&stdout).expect("JSON")
    };
    let (with, twice) = (format!("{file}:1.0"), format!("{file}:2"));
    assert_eq!(top(&["--lora", file]), top(&["--lora", &with]));
    assert_ne!(top(&["--lora", file]), top(&[]));
    assert_ne!(top(&["--lora", file]), top(&["--lora", &twice]));
    assert_eq!(top(&["--lora", &format!("{file}:0")]), top(&[]));
    assert!(fails(&["logits", plain, "Hello", "--lora", plain]).contains("general.type is \"model\", not \"adapter\""));
    assert!(fails(&["logits", "Hello", "--lora", file]).contains("has the shapes"));
    assert!(fails(&["logits", file, "Hello"]).contains("an adapter"));
}

#[cfg(feature = "serve")]
#[test]
fn a_server_lists_its_adapters() {
    let folder = Folder::new("adapters-served");
    let (plain, peft) = adapter(&folder, "llama3");
    let file = folder.path("adapter.gguf");
    let (plain, file, peft) =
        (plain.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"), peft.to_str().expect("UTF-8"));
    let (_, stderr, code) = gguf(&["convert", peft, "--base", plain, "-o", file]);
    assert_eq!(code, Some(0), "{stderr}");
    let served = super::served::Served::start(&format!("{plain} --lora {file} --lora {file}:0.5"));
    let adapter = |id: u32, scale: f32| json!({ "id": id, "path": "adapter.gguf", "scale": scale });
    assert_eq!(served.get("/lora-adapters").json(), json!([adapter(0, 1.0), adapter(1, 0.5)]));
    let set = |scales: Json| served.post("/lora-adapters", &scales).status;
    assert_eq!(set(json!([{ "id": 1, "scale": 0.5 }, { "id": 0, "scale": 1.0 }])), 200, "as it is");
    for other in [json!([]), json!([{ "id": 0, "scale": 1.0 }]), json!([{ "id": 7, "scale": 0.0 }])] {
        assert_eq!(set(other.clone()), 501, "{other}");
    }
    assert_eq!(set(json!({ "id": 0 })), 400);
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused_by_name() {
    let folder = Folder::new("adapters-refused");
    let (plain, peft) = adapter(&folder, "llama3");
    let reader = Reader::open(&plain).expect("a file");
    let refused = || match AdapterConversion::new(&peft, &reader, TensorType::F32) {
        Ok(_) => "converts".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(refused(), "converts");
    let path = peft.join("adapter_model.safetensors");
    let good = fs::read(&path).expect("a file");
    let with = |name: &str, shape: &[usize]| {
        let mut tensors = BTreeMap::new();
        for (name, shape) in
            [(name, shape), ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 64])]
        {
            let values = noise(name, shape.iter().product(), 1.0);
            tensors.insert(name.to_owned(), Floats { shape: shape.to_vec(), values });
        }
        save(&path, &tensors);
        refused()
    };
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    assert!(
        with("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", &[2, 64]).contains("one of its two factors")
    );
    assert!(with(&format!("{q}.lora_magnitude_vector"), &[64]).contains("is not a factor of a change"));
    assert!(with(&format!("{q}.lora_B.weight"), &[8, 2]).contains("do they belong to this base model?"));
    assert!(with(&format!("{q}.lora_B.weight"), &[64, 3]).contains("do they belong to this base model?"));
    fs::write(&path, good).expect("written");
    let config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true });
    fs::write(peft.join("adapter_config.json"), config.to_string()).expect("written");
    assert!(refused().contains("use_dora true is not supported"));
}
