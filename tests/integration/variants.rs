//! The tiny checkpoints as other versions of transformers, and multimodal models, hold them: the same logits; and with
//! settings that no file can express: refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options};
use gguf_toolkit::cpu::{KvType, Part, Rows, Run, SequenceOptions};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::RunOptions;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value as Json, json};

use super::folder::Folder;
use super::goldens::{checkpoint, expected_of};
use super::shared::json as read_json;

fn write_json(path: &Path, value: &Json) {
    fs::write(path, value.to_string()).expect("written");
}

fn settings(folder: &Path) -> Map<String, Json> {
    read_json(&folder.join("config.json")).as_object().expect("settings").clone()
}

/// Renames the tensors of a folder; their bytes stay.
fn rename(folder: &Path, to: impl Fn(&str) -> String) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).expect("a file");
    let (len, rest) = bytes.split_at(8);
    let len = u64::from_le_bytes(len.try_into().expect("8")).try_into().expect("small");
    let (header, data) = rest.split_at(len);
    let header: Map<String, Json> = serde_json::from_slice(header).expect("a header");
    let header: Map<String, Json> = header.into_iter().map(|(name, info)| (to(&name), info)).collect();
    let header = Json::Object(header).to_string();
    fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).expect("written");
}

fn conversion(folder: &Path) -> Result<Conversion, String> {
    Conversion::new(Checkpoint::open(folder).expect("a folder"), &Options::default()).map_err(|e| e.to_string())
}

/// Fails unless the changed checkpoint still computes the golden's logits.
fn assert_same_logits(folder: &Folder, name: &str, case: &str, change: impl Fn(&Path)) {
    assert_logits(folder, name, ("logits", 2e-3), case, change);
}

/// Fails unless the changed checkpoint computes what the golden calls `logits`, within `tolerance`.
fn assert_logits(folder: &Folder, name: &str, (logits, tolerance): (&str, f32), case: &str, change: impl Fn(&Path)) {
    let (tokens, expected) = expected_of(name, logits);
    let found = changed_logits(folder, name, &tokens, case, change);
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance && found.len() == expected.len(), "{case}: {worst} from the expected logits");
}

/// The logits of `tokens`, `[tokens, vocab]`, that the changed checkpoint computes.
fn changed_logits(folder: &Folder, name: &str, tokens: &[u32], case: &str, change: impl Fn(&Path)) -> Vec<f32> {
    let from = checkpoint(folder, name);
    change(&from);
    let to = folder.path(&format!("{case}.gguf"));
    let conversion = conversion(&from).unwrap_or_else(|e| panic!("{case}: {e}"));
    conversion.write(&conversion.plan(&[]).expect("a plan"), &to, &RunOptions::default(), &|_| true).expect("written");
    let model = Model::load(&to).unwrap_or_else(|e| panic!("{case}: {e}"));
    let mut sequence = model.decoder().sequence(SequenceOptions { kv_type: KvType::F32, context_length: tokens.len() });
    let part = Part { sequence: &mut sequence, tokens, logits: Rows::From(0) };
    model.decoder().forward(Run::new(&Pool::new(1)), &mut [part])
}

/// Settings whose effect the goldens do not show. The numbers are those of tokens 5, 77 and 200 at positions 7, 15 and 23, by
/// a program of NumPy's in double precision, whose logits of the goldens themselves are within 6e-6 of transformers'.
#[test]
fn settings_that_goldens_leave_idle_are_computed_with() {
    let folder = Folder::new("variants-idle");
    let check = |name: &str, expected: [f32; 9], change: &dyn Fn(&mut Map<String, Json>)| {
        let (tokens, _) = expected_of(name, "logits");
        let logits = changed_logits(&folder, name, &tokens, name, |from| {
            let mut settings = settings(from);
            change(&mut settings);
            write_json(&from.join("config.json"), &Json::Object(settings));
        });
        let vocab = logits.len() / tokens.len();
        let found =
            [7, 15, 23].into_iter().flat_map(|position| [5, 77, 200].map(|token| logits[position * vocab + token]));
        let worst = found.zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-3, "{name}: {worst}");
    };
    // Queries grow past the context that the model was first trained on.
    let expected = [0.64132, 0.9108, -0.23054, 0.60713, -0.20406, 0.43501, 1.6939, -0.20949, 1.45713];
    check("mistral4", expected, &|settings| {
        settings["text_config"]["rope_parameters"]["original_max_position_embeddings"] = json!(8);
    });
    // A layer has no positions, the others have another base than the one that all layers have elsewhere.
    let expected = [-0.99074, 1.19857, 1.29192, -2.81969, -1.78372, -0.51536, 2.39477, -0.06277, -4.42644];
    check("graniteswa", expected, &|settings| {
        settings.insert("layer_rope_theta".into(), json!([0.0, 5000.0, 5000.0, 5000.0]));
    });
}

/// Settings as transformers 4 writes them: the rotary ones at the top, no kinds of layers.
fn old_spelling(settings: &mut Map<String, Json>, rope: &[(&str, Json)]) {
    for name in ["rope_parameters", "layer_types"] {
        settings.remove(name);
    }
    let dtype = settings.remove("dtype").expect("a type");
    settings.insert("torch_dtype".into(), dtype);
    settings.extend(rope.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
}

#[test]
fn the_spelling_of_transformers_4_is_understood() {
    let folder = Folder::new("variants-spelling");
    let cases: [(&str, &[(&str, Json)]); 8] = [
        ("qwen2", &[("rope_theta", json!(10000.0))]),
        ("gemma3", &[("rope_theta", json!(1e6)), ("rope_local_base_freq", json!(1e4))]),
        ("olmo3", &[("rope_theta", json!(5e5))]),
        ("cohere2", &[("rope_theta", json!(10000.0))]),
        ("exaone4", &[("rope_theta", json!(10000.0)), ("sliding_window_pattern", json!("LLLG"))]),
        ("gptneox", &[]),
        ("stablelm", &[("rope_theta", json!(10000)), ("partial_rotary_factor", json!(0.25))]),
        ("glm4", &[("partial_rotary_factor", json!(0.5))]),
    ];
    for (name, rope) in cases {
        assert_same_logits(&folder, name, name, |path| {
            let mut settings = settings(path);
            old_spelling(&mut settings, rope);
            write_json(&path.join("config.json"), &Json::Object(settings));
        });
    }
}

#[test]
fn settings_that_the_reference_leaves_out_are_carried_over() {
    let folder = Folder::new("variants-carried");
    let cases = [
        ("gptneox", "hidden_act", json!("gelu_fast"), "logits_gelu_fast"),
        ("falcon", "activation", json!("gelu_new"), "logits_gelu_new"),
        ("gpt2", "activation_function", json!("gelu"), "logits_gelu"),
        ("mistral", "sliding_window", json!(8), "logits_window"),
    ];
    for (name, setting, value, logits) in cases {
        // Forms of GELU differ by a thousandth.
        assert_logits(&folder, name, (logits, 2e-4), name, |path| {
            let mut settings = settings(path);
            settings.insert(setting.into(), value.clone());
            write_json(&path.join("config.json"), &Json::Object(settings));
        });
    }
}

#[test]
fn the_text_part_of_multimodal_checkpoints_is_converted() {
    let folder = Folder::new("variants-multimodal");
    let cases = [
        ("gemma3", "Gemma3ForConditionalGeneration", "language_model."),
        ("ministral3", "Mistral3ForConditionalGeneration", "language_model."),
    ];
    for (name, class, prefix) in cases {
        assert_same_logits(&folder, name, name, |path| {
            let mut text = settings(path);
            text.remove("architectures");
            let config = json!({
                "architectures": [class], "model_type": "multimodal", "text_config": text,
                "vision_config": { "hidden_size": 7, "num_hidden_layers": 1 }
            });
            write_json(&path.join("config.json"), &config);
            rename(path, |tensor| format!("{prefix}{tensor}"));
        });
    }
}

#[test]
fn names_without_their_prefix_are_understood() {
    let folder = Folder::new("variants-prefix");
    for name in ["gpt2", "falcon"] {
        assert_same_logits(&folder, name, name, |path| {
            rename(path, |tensor| tensor.strip_prefix("transformer.").expect("a prefix").to_owned());
        });
    }
}

#[test]
fn checkpoints_of_bare_models_are_understood() {
    let folder = Folder::new("variants-bare");
    for (name, class) in [("llama2", "LlamaModel"), ("llama2", "LlamaForCausalLM"), ("gemma2", "Gemma2Model")] {
        assert_same_logits(&folder, name, &format!("{name}-{class}"), |path| {
            let mut settings = settings(path);
            settings.insert("architectures".into(), json!([class]));
            write_json(&path.join("config.json"), &Json::Object(settings));
            rename(path, |tensor| tensor.strip_prefix("model.").unwrap_or(tensor).to_owned());
        });
    }
}

/// Changes a checkpoint's file into what MLX keeps: one is added to norms that are stored as an offset from one, the
/// convolution has its channels first, experts are stacked, and the header names the framework.
fn as_mlx_keeps_it(folder: &Path, experts: usize) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let mut stacks: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, view) in file.iter().filter(|(name, _)| !name.contains(".experts.")) {
        let (mut ty, mut shape, mut data) = (Dtype::F16, view.shape().to_vec(), view.data().to_vec());
        if name.ends_with("norm.weight") && !name.contains("linear_attn.norm") {
            // In single precision, so that the sums are not rounded.
            let sums = data.as_chunks::<2>().0.iter().map(|x| f16::from_le_bytes(*x).to_f32() + 1.0);
            data = sums.flat_map(f32::to_le_bytes).collect();
            ty = Dtype::F32;
        }
        if name.contains("conv1d") {
            shape.swap(1, 2);
        }
        stacks.insert(name.to_owned(), (ty, shape, data));
    }
    for (name, _) in file.iter().filter(|(name, _)| name.contains(".experts.0.")) {
        let parts = (0..experts)
            .map(|i| file.tensor(&name.replace(".experts.0.", &format!(".experts.{i}."))).expect("an expert"));
        let data: Vec<u8> = parts.flat_map(|part| part.data().to_vec()).collect();
        let shape = [&[experts], file.tensor(name).expect("there").shape()].concat();
        stacks.insert(name.replace(".experts.0.", ".switch_mlp."), (Dtype::F16, shape, data));
    }
    let views = stacks.iter().map(|(name, (ty, shape, data))| {
        (name.clone(), TensorView::new(*ty, shape.clone(), data).expect("a tensor of its shape"))
    });
    let metadata = [("format".to_owned(), "mlx".to_owned())].into_iter().collect();
    fs::write(&path, safetensors::serialize(views, Some(metadata)).expect("a file")).expect("written");
}

#[test]
fn what_mlx_saved_is_understood() {
    let folder = Folder::new("variants-mlx");
    assert_same_logits(&folder, "qwen35", "qwen35", |path| as_mlx_keeps_it(path, 0));
    assert_same_logits(&folder, "qwen3next", "qwen3next", |path| as_mlx_keeps_it(path, 6));
}

/// Rows of each head from two halves to pairs.
fn in_pairs(rows: &[u8], heads: usize, row_bytes: usize) -> Vec<u8> {
    let head = rows.len() / heads;
    let row = |head: &[u8], i: usize| head[i * row_bytes..(i + 1) * row_bytes].to_vec();
    let half = head / row_bytes / 2;
    rows.chunks(head)
        .flat_map(|head| (0..half).flat_map(move |i| [row(head, i), row(head, i + half)].concat()))
        .collect()
}

#[test]
fn mistrals_own_form_is_understood() {
    let folder = Folder::new("variants-own");
    for window in [json!(null), json!(4096)] {
        let case = format!("own-{window}");
        assert_same_logits(&folder, "mistral", &case, |path| {
            let settings = settings(path);
            let from = path.join("model.safetensors");
            let bytes = fs::read(&from).expect("a file");
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
            let names = [("q_proj", "wq", "num_attention_heads"), ("k_proj", "wk", "num_key_value_heads")];
            let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
                .iter()
                .map(|(name, view)| {
                    let turned = names.iter().find(|(part, _, _)| name.contains(part));
                    let data = turned.map_or(view.data().to_vec(), |(_, _, heads)| {
                        let heads = usize::try_from(settings[*heads].as_u64().expect("heads")).expect("few");
                        in_pairs(view.data(), heads, 2 * view.shape()[1])
                    });
                    let own = [
                        ("model.embed_tokens", "tok_embeddings"),
                        ("lm_head", "output"),
                        ("self_attn.q_proj", "attention.wq"),
                        ("self_attn.k_proj", "attention.wk"),
                        ("self_attn.v_proj", "attention.wv"),
                        ("self_attn.o_proj", "attention.wo"),
                        ("input_layernorm", "attention_norm"),
                        ("post_attention_layernorm", "ffn_norm"),
                        ("mlp.gate_proj", "feed_forward.w1"),
                        ("mlp.down_proj", "feed_forward.w2"),
                        ("mlp.up_proj", "feed_forward.w3"),
                        ("model.", ""),
                    ];
                    let name = own.iter().fold(name.to_owned(), |name, (usual, own)| name.replace(usual, own));
                    (name, view.shape().to_vec(), data)
                })
                .collect();
            // Large models are published in shards.
            let shards: Vec<_> = tensors.chunks(if window.is_null() { tensors.len() } else { 7 }).collect();
            let mut places = serde_json::Map::new();
            for (number, shard) in shards.iter().enumerate() {
                let views = shard.iter().map(|(name, shape, data)| {
                    (name.clone(), TensorView::new(Dtype::F16, shape.clone(), data).expect("a tensor of its shape"))
                });
                let name = match shards.len() {
                    1 => "consolidated.safetensors".to_owned(),
                    all => format!("consolidated-{:05}-of-{all:05}.safetensors", number + 1),
                };
                safetensors::serialize_to_file(views, None, &path.join(&name)).expect("written");
                places.extend(shard.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
            }
            if shards.len() > 1 {
                let index = json!({ "metadata": {}, "weight_map": places });
                write_json(&path.join("consolidated.safetensors.index.json"), &index);
            }
            fs::remove_file(from).expect("removed");
            fs::remove_file(path.join("config.json")).expect("removed");
            let params = json!({
                "dim": settings["hidden_size"], "n_layers": settings["num_hidden_layers"], "head_dim": settings["head_dim"],
                "hidden_dim": settings["intermediate_size"], "n_heads": settings["num_attention_heads"],
                "n_kv_heads": settings["num_key_value_heads"], "norm_eps": settings["rms_norm_eps"],
                "vocab_size": settings["vocab_size"], "rope_theta": 10000.0, "sliding_window": window
            });
            write_json(&path.join("params.json"), &params);
        });
    }
}

#[test]
fn factors_for_long_contexts_are_carried_over() {
    let folder = Folder::new("variants-long");
    // The golden's tokens are no more than the model was first trained on: the short factors count, and change nothing.
    assert_same_logits(&folder, "phi3", "phi3", |path| {
        let mut settings = settings(path);
        let scaling = json!({ "type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![64.0; 8] });
        old_spelling(&mut settings, &[("rope_theta", json!(10000.0)), ("rope_scaling", scaling)]);
        write_json(&path.join("config.json"), &Json::Object(settings));
    });
}

#[test]
fn settings_that_files_cannot_express_are_refused() {
    let folder = Folder::new("variants-refused");
    let cases: [(&str, &str, Json); 18] = [
        ("qwen2", "num_attention_heads", json!(0)),
        ("qwen2", "hidden_size", json!("64")),
        ("gemma2", "query_pre_attn_scalar", json!(0)),
        ("gemma3", "layer_types", json!(["full_attention"])),
        ("phi3", "rope_parameters", json!({ "rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] })),
        ("glm4", "rope_parameters", json!({ "partial_rotary_factor": 2.0 })),
        ("olmo3", "layer_types", json!(vec!["recurrent"; 4])),
        ("smollm3", "no_rope_layers", json!([0, 1, 1, 1])),
        ("cohere2", "rope_parameters", json!({ "rope_type": "linear", "factor": 2.0 })),
        ("hunyuan", "rope_parameters", json!({ "rope_type": "dynamic", "alpha": -1.0 })),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true)),
        ("falcon", "alibi", json!(true)),
        ("falcon", "num_kv_heads", json!(0)),
        ("ministral3", "rope_parameters", json!({ "rope_type": "default", "rope_theta": 1e6 })),
        ("ministral3", "model_type", json!("mistral4")),
        ("llama3", "rope_parameters", json!({ "rope_type": "llama3", "rope_theta": 5e5, "factor": 0.0 })),
        ("llama-linear", "rope_parameters", json!({ "rope_type": "linear", "rope_theta": 1e4, "factor": -1.0 })),
        ("mixtral", "num_experts_per_tok", json!(32)),
    ];
    for (name, setting, value) in cases {
        let from = checkpoint(&folder, name);
        assert!(conversion(&from).is_ok(), "{name}");
        let mut settings = settings(&from);
        settings.insert(setting.into(), value.clone());
        write_json(&from.join("config.json"), &Json::Object(settings));
        assert!(conversion(&from).is_err(), "{name}: {setting} = {value} is accepted");
    }
}

/// Whatever loading would refuse is refused before anything is written.
#[test]
fn what_could_not_be_run_is_not_converted() {
    let folder = Folder::new("variants-unusable");
    let cases: [(&str, &str, Json); 14] = [
        ("mixtral", "num_experts_per_tok", json!(0)),
        ("mixtral", "num_experts_per_tok", json!(32)),
        ("mixtral", "num_experts_per_tok", json!(1_000_000_000)),
        ("qwen2moe", "num_experts_per_tok", json!(0)),
        ("qwen2moe", "num_experts_per_tok", json!(1_000_000_000)),
        ("granite", "partial_rotary_factor", json!(1e-9)),
        ("gptneox", "head_dim", json!(1)),
        ("cohere2", "sliding_window", json!(1u64 << 31)),
        ("llama2", "vocab_size", json!(20_000_000)),
        ("llama2", "vocab_size", json!(1 << 24)),
        ("ernie45", "/rope_parameters/rope_theta", json!(-1)),
        ("mixtral", "/rope_parameters/rope_theta", json!(1e-308)),
        ("ministral3", "/rope_parameters/beta_fast", json!(-32.0)),
        ("ministral3", "/rope_parameters/original_max_position_embeddings", json!(2f64.powi(64))),
    ];
    for (name, setting, value) in cases {
        let from = checkpoint(&folder, name);
        let mut settings = Json::Object(settings(&from));
        match settings.pointer_mut(setting) {
            Some(place) if setting.starts_with('/') => *place = value.clone(),
            _ => settings[setting] = value.clone(),
        }
        write_json(&from.join("config.json"), &settings);
        assert!(conversion(&from).is_err(), "{name}: {setting} = {value} is accepted");
    }
    let from = checkpoint(&folder, "qwen3");
    let mut tokenizer = read_json(&from.join("tokenizer.json"));
    tokenizer["model"]["merges"] = json!([]);
    write_json(&from.join("tokenizer.json"), &tokenizer);
    assert!(conversion(&from).is_err(), "a tokenizer without merges is accepted");
}

#[test]
fn a_renamed_tensor_is_told_with_the_one_that_is_missing() {
    let folder = Folder::new("variants-renamed");
    let (name, other) = ("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up.weight");
    let from = checkpoint(&folder, "llama2");
    rename(&from, |tensor| if tensor == name { other } else { tensor }.to_owned());
    let error = conversion(&from).err().expect("refused");
    assert!(error.contains(&format!("{name} is missing; it has no place for {other}")), "{error}");
    let expert = "model.layers.0.block_sparse_moe.experts.1.w1.weight";
    let from = checkpoint(&folder, "mixtral");
    rename(&from, |tensor| if tensor == expert { "visual.x" } else { tensor }.to_owned());
    let error = conversion(&from).err().expect("refused");
    assert!(error.ends_with(&format!("{expert} is missing")), "{error}");
}
