//! `gguf quantize --like` and `--recipe`.

use std::fs;
use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::formats;
use gguf_toolkit::gguf::{Metadata, Reader, TensorSpec, Writer};
use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, names, text};
use super::shared::testdata;

fn spec(name: &str, shape: &[u64], ty: TensorType) -> TensorSpec {
    TensorSpec { name: name.into(), shape: shape.into(), ty }
}

/// A model of `layers` layers with an output matrix of its own and experts, in single precision.
fn model(path: &Path, layers: u32) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", layers);
    let mut tensors =
        vec![spec("token_embd.weight", &[256, 8], TensorType::F32), spec("output.weight", &[256, 8], TensorType::F32)];
    for layer in 0..layers {
        let names = ["attn_q", "attn_v", "attn_output", "ffn_up"];
        tensors.extend(names.map(|name| spec(&format!("blk.{layer}.{name}.weight"), &[256, 4], TensorType::F32)));
        tensors.push(spec(&format!("blk.{layer}.ffn_down_exps.weight"), &[256, 2, 2], TensorType::F32));
        tensors.push(spec(&format!("blk.{layer}.attn_norm.weight"), &[256], TensorType::F32));
    }
    let mut writer = Writer::create(path, Overwrite::Refuse, &metadata, &tensors).expect("begun");
    for (number, tensor) in tensors.iter().enumerate() {
        let count: u64 = tensor.shape.iter().product();
        let numbers = (0..count).map(|i| ((i * 37 + number as u64 * 11) % 101) as f32 / 50.0 - 1.0);
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        writer.write_tensor(&bytes).expect("written");
    }
    writer.finish().expect("finished");
}

fn run(folder: &Folder, args: &[&str]) -> String {
    let output = gguf(args, folder.root());
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr).to_owned()
}

/// Name and type of each tensor of a file.
fn types(folder: &Folder, file: &str) -> Vec<(String, TensorType)> {
    let reader = Reader::open(&folder.path(file)).expect("opens");
    reader.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.ty)).collect()
}

fn ty(types: &[(String, TensorType)], name: &str) -> TensorType {
    types.iter().find(|(own, _)| own == name).expect("a tensor of the file").1
}

#[test]
fn a_model_like_another_is_the_same_file() {
    let folder = Folder::new("recipes-like");
    model(&folder.path("model.gguf"), 2);
    let writable = formats::codecs().iter().filter(|codec| codec.encode.is_some()).map(|codec| codec.ty.name());
    for ty in writable {
        // What needs a matrix stands where it needs none.
        let low = ["IQ1", "IQ2", "IQ3_XXS"].iter().any(|low| ty.starts_with(low));
        let pattern = if low { format!("token_embd={ty}") } else { format!("token_embd|attn_q|ffn_down={ty}") };
        let (other, out) = (format!("other-{ty}.gguf"), format!("out-{ty}.gguf"));
        let mix = ["quantize", "model.gguf", "-t", "Q4_K_S", "-o", &other, "--output-tensor-type", "Q5_0"];
        run(&folder, &[&mix[..], &["--tensor-type", &pattern]].concat());
        let told = run(&folder, &["quantize", "model.gguf", "--like", &other, "-o", &out]);
        assert!(!told.contains("lacks"), "{told}");
        assert!(fs::read(folder.path(&other)).expect("there") == fs::read(folder.path(&out)).expect("there"), "{ty}");
    }
}

#[test]
fn what_the_other_model_lacks_goes_by_the_mix() {
    let folder = Folder::new("recipes-lacks");
    model(&folder.path("model.gguf"), 3);
    model(&folder.path("shorter.gguf"), 1);
    run(&folder, &["quantize", "shorter.gguf", "-t", "Q8_0", "-o", "other.gguf"]);
    run(&folder, &["split", "other.gguf", "--max-tensors", "3", "-o", "parts.gguf"]);
    let part = names(&folder).into_iter().find(|name| name.contains("-00002-of-")).expect("a second shard");
    let told = run(&folder, &["quantize", "model.gguf", "out.gguf", "--like", &part]);
    assert!(told.contains("lacks 12 tensors, which get their types by the mix Q8_0: blk.1.attn_norm.weight"), "{told}");
    let types_of = types(&folder, "out.gguf");
    assert_eq!(ty(&types_of, "blk.2.attn_v.weight"), TensorType::Q8_0);
    run(&folder, &["quantize", "model.gguf", "--like", "other.gguf", "-t", "Q5_K_S", "-o", "five.gguf"]);
    let types_of = types(&folder, "five.gguf");
    assert_eq!(ty(&types_of, "blk.0.attn_v.weight"), TensorType::Q8_0);
    assert_eq!(ty(&types_of, "blk.2.attn_v.weight"), TensorType::Q5_K);
    // The source says nothing of a mix.
    let output = gguf(&["quantize", "model.gguf", "--like", "shorter.gguf", "-o", "none.gguf"], folder.root());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("-t TYPE names one"), "{}", text(&output.stderr));
}

#[test]
fn recipes_give_types_by_role_and_layer() {
    let folder = Folder::new("recipes-rules");
    model(&folder.path("model.gguf"), 8);
    let recipe = "about: a trial\nbase: Q4_K_S\n\noutput = keep\nattn_v in first 1/8, last 1/8 = Q8_0\nattention = +1\nexperts in 2-3 = -1\nmissing = F16\n";
    fs::write(folder.path("my.recipe"), recipe).expect("written");
    let told = run(&folder, &["quantize", "model.gguf", "--recipe", "my.recipe"]);
    assert!(told.contains("recipe my: the model has none of the tensors of line 8"), "{told}");
    let types_of = types(&folder, "model-my.gguf");
    use TensorType as T;
    for (name, expected) in [
        ("output.weight", T::F32),
        ("blk.0.attn_v.weight", T::Q8_0),
        ("blk.7.attn_v.weight", T::Q8_0),
        // Q4_K_S has Q5_K for the first four.
        ("blk.3.attn_v.weight", T::Q6_K),
        ("blk.4.attn_v.weight", T::Q5_K),
        ("blk.4.attn_q.weight", T::Q5_K),
        ("blk.2.ffn_down_exps.weight", T::Q3_K),
        ("blk.4.ffn_down_exps.weight", T::Q4_K),
        ("blk.4.attn_norm.weight", T::F32),
    ] {
        assert_eq!(ty(&types_of, name), expected, "{name}");
    }
    let output = gguf(
        &[
            "quantize",
            "model.gguf",
            "--recipe",
            "my.recipe",
            "-t",
            "Q6_K",
            "--tensor-type",
            "attn_q=q4_0",
            "-n",
            "--json",
        ],
        folder.root(),
    );
    let plan: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let tensor = |name: &str| {
        plan["tensors"]
            .as_array()
            .expect("tensors")
            .iter()
            .find(|tensor| tensor["name"] == name)
            .expect("there")
            .clone()
    };
    assert_eq!(
        (&tensor("blk.5.attn_v.weight")["type"], &tensor("blk.5.attn_v.weight")["why"]),
        (&"Q8_0".into(), &"recipe: line 6".into())
    );
    assert_eq!(
        (&tensor("blk.5.attn_q.weight")["type"], &tensor("blk.5.attn_q.weight")["reason"]),
        (&"Q4_0".into(), &"override".into())
    );
    assert!(plan["output"].as_str().expect("a path").ends_with("model-Q6_K-my.gguf"));
}

#[test]
fn shipped_recipes_are_listed_and_work_in_convert() {
    let folder = Folder::new("recipes-shipped");
    let list = gguf(&["quantize", "--list-recipes"], folder.root());
    let list = text(&list.stdout).to_owned();
    assert!(list.contains("Q8_0-attention") && list.contains("XL"), "{list}");
    let checkpoint = testdata("storyteller");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    run(&folder, &["convert", checkpoint, "--recipe", "xl", "-o", "xl.gguf"]);
    run(&folder, &["convert", checkpoint, "--like", "xl.gguf", "-o", "like.gguf"]);
    run(&folder, &["convert", checkpoint, "-t", "f16", "-o", "model-F16.gguf"]);
    run(&folder, &["quantize", "model-F16.gguf", "--recipe", "XL"]);
    let bytes = |name: &str| fs::read(folder.path(name)).expect("there");
    assert!(bytes("xl.gguf") == bytes("like.gguf"), "like");
    assert!(bytes("xl.gguf") == bytes("model-XL.gguf"), "two steps");
    for (args, problem) in [
        (&["convert", checkpoint, "--recipe", "XL", "-t", "f16"][..], "can only be a quantized type"),
        (&["quantize", "model-F16.gguf", "--recipe", "LX"], "no shipped recipe (XL, Q8_0-attention"),
        (&["quantize", "model-F16.gguf", "--recipe", "bad.recipe"], "bad.recipe:2:10: `Q9_K` is no type"),
        (&["quantize", "model-F16.gguf", "--recipe", "XL", "--pure"], "cannot be used with"),
        (&["quantize", "model-F16.gguf", "--like", "bad.recipe"], "bad.recipe"),
    ] {
        fs::write(folder.path("bad.recipe"), "base: Q4_K_M\nattn_v = Q9_K\n").expect("written");
        let output = gguf(args, folder.root());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(problem), "{}", text(&output.stderr));
    }
}
