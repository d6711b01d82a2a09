//! Tests on stores with the layouts of the programs that own them.

use std::fs;
use std::path::{Path, PathBuf};

use super::quant_name::quant_of;
use super::{Error, Places, Store};

/// A folder with one of each store, removed with the value.
struct TestStores(PathBuf);

impl TestStores {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("gguf-stores-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("a folder");
        Self(root)
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn places(&self) -> Places {
        Places::from_variables(&|name| (name == crate::files::HOME).then(|| self.0.clone().into()))
    }

    /// The path of a name, relative to the folder.
    fn found(&self, places: &Places, name: &str) -> String {
        match places.resolve(name) {
            Ok(located) => located.path.strip_prefix(&self.0).unwrap_or(&located.path).display().to_string(),
            Err(error) => error.to_string().replace(&self.0.display().to_string(), "HOME"),
        }
    }
}

impl Drop for TestStores {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HUB: &str = ".cache/huggingface/hub/models--org--Tiny-GGUF";

#[test]
fn repositories_of_hugging_face_are_found() {
    let stores = TestStores::new("hub");
    for file in ["tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf", "tiny-IQ4_XS.gguf", "mmproj-tiny-f16.gguf"] {
        stores.file(&format!("{HUB}/snapshots/0abc/{file}"), file);
    }
    for n in 1..=2 {
        stores.file(&format!("{HUB}/snapshots/0abc/BF16/tiny-BF16-0000{n}-of-00002.gguf"), &format!("shard {n}"));
    }
    stores.file(&format!("{HUB}/snapshots/0old/tiny-Q2_K.gguf"), "old");
    stores.file(&format!("{HUB}/refs/main"), "0abc");
    stores.file(".cache/huggingface/hub/models--org--Checkpoint/snapshots/1/config.json", "{}");
    let places = stores.places();
    let at = |file: &str| format!("{HUB}/snapshots/0abc/{file}");
    assert_eq!(stores.found(&places, "org/Tiny-GGUF"), at("tiny-Q4_K_M.gguf"));
    assert_eq!(stores.found(&places, "hf.co/org/tiny-gguf:q8_0"), at("tiny-Q8_0.gguf"));
    assert_eq!(stores.found(&places, "https://huggingface.co/org/Tiny-GGUF:IQ4_XS"), at("tiny-IQ4_XS.gguf"));
    assert_eq!(stores.found(&places, "org/Tiny-GGUF:bf16"), at("BF16/tiny-BF16-00001-of-00002.gguf"));
    assert_eq!(stores.found(&places, "org/Tiny-GGUF/tiny-Q8_0.gguf"), at("tiny-Q8_0.gguf"));
    let other_type = stores.found(&places, "org/Tiny-GGUF:Q3_K");
    assert!(other_type.starts_with("org/Tiny-GGUF:Q3_K: no such file, nor a model of this name"), "{other_type}");
    assert!(other_type.contains("(there is org/Tiny-GGUF:BF16, org/Tiny-GGUF:IQ4_XS, "), "{other_type}");
    stores.file(".lmstudio/models/org/Tiny-GGUF/tiny-Q3_K.gguf", "lm");
    let further = stores.found(&stores.places(), "org/Tiny-GGUF:Q3_K");
    assert_eq!(further, ".lmstudio/models/org/Tiny-GGUF/tiny-Q3_K.gguf", "the type is in another store");
    assert!(stores.found(&places, "org/Checkpoint").ends_with("gguf convert makes a GGUF file of it"));
    let none = stores.found(&places, "org/tiny-gguf2");
    assert!(none.contains("no such file, nor a model of this name in HOME/.cache/huggingface/hub"), "{none}");
    assert!(none.contains("(there is org/Tiny-GGUF:"), "{none}");
    // The same folder twice, with others between.
    let twice = Places { lm_studio: vec![stores.0.clone()], llama_cpp: vec![stores.0.clone()], ..Places::default() };
    let twice = Places { own: vec![stores.0.join("own")], ..twice };
    let none = stores.found(&twice, "none");
    assert!(none.contains(" in HOME, HOME/own"), "{none}");
    assert!(!none.contains("HOME/own, HOME"), "{none}");
    let listed: Vec<(String, u64)> = places.list().into_iter().map(|e| (e.located.name, e.bytes)).collect();
    let expected = [("IQ4_XS", 16), ("Q4_K_M", 16), ("Q8_0", 14), ("BF16", 14)];
    assert_eq!(listed, expected.map(|(quant, bytes)| (format!("org/Tiny-GGUF:{quant}"), bytes)));
}

#[test]
fn names_of_ollama_lead_to_blobs() {
    let stores = TestStores::new("ollama");
    let store = ".ollama/models";
    let digest = |n: u8| format!("{n:02x}").repeat(32);
    for (n, text) in [(1, "GGUF"), (2, "{{ .Prompt }}"), (3, "Be brief."), (4, "{\"temperature\":0.6}")] {
        stores.file(&format!("{store}/blobs/sha256-{}", digest(n)), text);
    }
    let layer = |kind: &str, n| {
        format!(
            "{{\"mediaType\":\"application/vnd.ollama.image.{kind}\",\"digest\":\"sha256:{}\",\"size\":1}}",
            digest(n)
        )
    };
    let layers = [layer("model", 1), layer("template", 2), layer("system", 3), layer("params", 4)].join(",");
    let manifest = format!("{{\"schemaVersion\":2,\"layers\":[{layers}]}}");
    stores.file(&format!("{store}/manifests/registry.ollama.ai/library/Llama3.1/8b"), &manifest);
    stores.file(
        &format!("{store}/manifests/registry.ollama.ai/library/llama3.2/latest"),
        &manifest.replace(&digest(1), &digest(9)),
    );
    stores.file(&format!("{store}/manifests/registry.ollama.ai/me/mine/latest"), "no JSON");
    stores.file(
        &format!("{store}/manifests/registry.ollama.ai/me/evil/latest"),
        &manifest.replace(&format!("sha256:{}", digest(1)), "sha256:../../../etc/passwd"),
    );
    let places = stores.places();
    let blob = format!("{store}/blobs/sha256-{}", digest(1));
    assert_eq!(stores.found(&places, "llama3.1:8b"), blob);
    assert_eq!(stores.found(&places, "registry.ollama.ai/library/Llama3.1:8B"), blob);
    let located = places.resolve("llama3.1:8b").expect("there");
    assert_eq!((located.store, &*located.name), (Store::Ollama, "Llama3.1:8b"));
    assert_eq!(located.layers.system.as_deref(), Some("Be brief."));
    assert_eq!(located.layers.parameters, Some(serde_json::json!({ "temperature": 0.6 })));
    assert!(stores.found(&places, "llama3.2").contains("the model's blob is missing"));
    assert!(stores.found(&places, "me/mine").contains("no manifest: the text is no JSON"));
    assert!(stores.found(&places, "me/evil").contains("the manifest names no GGUF file"));
    let near = stores.found(&places, "llama3.1:70b");
    assert!(near.contains("(there is Llama3.1:8b)"), "{near}");
    assert_eq!(places.list().len(), 1, "broken ones are left out");
}

#[test]
fn folders_and_their_files_are_found() {
    let stores = TestStores::new("folders");
    stores.file(".lmstudio/models/lmstudio-community/gemma-GGUF/gemma-Q4_K_M.gguf", "lm");
    stores.file("mine/a.gguf", "a");
    stores.file("mine/deep/er/b-Q4_0.gguf", "bb");
    stores.file("one/x.gguf", "x");
    stores.file("two/x.gguf", "x");
    stores.file("two/y.gguf", "y");
    stores.file("none/readme.md", "");
    stores.file("checkpoint/config.json", "{}");
    stores.file(".cache/llama.cpp/org_repo_z-Q4_K_M.gguf", "z");
    fs::hard_link(stores.0.join("mine/a.gguf"), stores.0.join("mine/same.gguf")).expect("linked");
    let mut places = stores.places();
    places.own.push(stores.0.join("mine"));
    assert_eq!(stores.found(&places, "gemma-gguf"), ".lmstudio/models/lmstudio-community/gemma-GGUF/gemma-Q4_K_M.gguf");
    assert_eq!(
        stores.found(&places, "lmstudio-community/gemma-GGUF"),
        ".lmstudio/models/lmstudio-community/gemma-GGUF/gemma-Q4_K_M.gguf"
    );
    assert_eq!(stores.found(&places, "a"), "mine/a.gguf");
    assert_eq!(stores.found(&places, "b-q4_0.gguf"), "mine/deep/er/b-Q4_0.gguf");
    assert_eq!(stores.found(&places, "er:Q4_0"), "mine/deep/er/b-Q4_0.gguf");
    assert_eq!(stores.found(&places, "org/repo"), ".cache/llama.cpp/org_repo_z-Q4_K_M.gguf");
    assert_eq!(stores.found(&places, "org/repo:Q4_K_M"), ".cache/llama.cpp/org_repo_z-Q4_K_M.gguf");
    assert!(
        matches!(places.resolve("org/repo:Q8_0"), Err(Error::NotFound { .. })),
        "not another type than the one named"
    );
    let here = |name: &str| stores.found(&places, &stores.0.join(name).display().to_string());
    assert_eq!(here("one"), "one/x.gguf");
    assert_eq!(here("two"), "HOME/two: several models: x.gguf, y.gguf");
    assert_eq!(here("none"), "HOME/none: a folder without GGUF files");
    assert!(here("checkpoint").contains("gguf convert makes"));
    assert_eq!(here("one/nothing.gguf"), "one/nothing.gguf", "opening says that there is none");
    let names: Vec<String> = places.list().into_iter().map(|entry| entry.located.name).collect();
    assert_eq!(
        names,
        ["lmstudio-community/gemma-GGUF:Q4_K_M", "a.gguf", "deep/er/b-Q4_0.gguf", "org_repo_z-Q4_K_M.gguf"]
    );
    for entry in places.list() {
        assert_eq!(places.resolve(&entry.located.name).expect("found").path, entry.located.path);
    }
    assert!(matches!(places.resolve("no/such:model"), Err(Error::NotFound { .. })));
}

#[test]
fn types_are_read_from_names() {
    let of = |name: &str| quant_of(Path::new(name));
    assert_eq!(of("a-Q4_K_M.gguf").as_deref(), Some("Q4_K_M"));
    assert_eq!(of("a.i1-IQ3_XXS.gguf").as_deref(), Some("IQ3_XXS"));
    assert_eq!(of("a-UD-Q4_K_XL-00001-of-00002.gguf").as_deref(), Some("UD-Q4_K_XL"));
    assert_eq!(of("Qwen3-8B.gguf"), None);
    assert_eq!(of("x.gguf"), None);
}

#[test]
fn the_environment_says_where_to_look() {
    let stores = TestStores::new("environment");
    for folder in ["hub", "home/hub", "ollama", "a", "b"] {
        fs::create_dir_all(stores.0.join(folder)).expect("a folder");
    }
    let at = |name: &str| stores.0.join(name);
    let places = |pairs: &[(&str, String)]| {
        Places::from_variables(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone().into()))
    };
    let text = |path: PathBuf| path.display().to_string();
    assert_eq!(places(&[("HF_HOME", text(at("home")))]).hugging_face, [at("home/hub")]);
    assert_eq!(places(&[("HF_HUB_CACHE", text(at("hub"))), ("HF_HOME", text(at("home")))]).hugging_face, [at("hub")]);
    assert_eq!(places(&[("OLLAMA_MODELS", text(at("ollama")))]).ollama, [at("ollama")]);
    let own = std::env::join_paths([at("a"), at("b"), "/nowhere".into()]).expect("paths without separators");
    let own = own.into_string().expect("UTF-8");
    assert_eq!(places(&[("GGUF_MODELS", own)]).own, [at("a"), at("b")]);
}
