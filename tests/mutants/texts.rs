//! Lists of checksums, recipes, Modelfiles; manifests and references of stores.

use std::fs;
use std::path::{Path, PathBuf};

use gguf_toolkit::inspect::hash::Manifest;
use gguf_toolkit::modelfile::Modelfile;
use gguf_toolkit::quantize::Recipe;
use gguf_toolkit::stores::Places;
use serde_json::{Value as Json, json};

use super::{Choices, Mutant, Subject};
use crate::folder::Folder;

const SUMS: &str = "sha256    0b6f9e8d6d4ba58ffb5aa8f8a2c0d7a3d31d9ba4f7a2a5c7e4b1ec1d9c6f3a21  m.gguf\n\
    xxh64     00112233aabbccdd  m.gguf:w\nsha1  da39a3ee5e6b4b0d3255bfef95601890afd80709  m.gguf:v\n";
const RECIPE: &str = include_str!("../../src/quantize/recipe/shipped/XL.recipe");
const MODELFILE: &str = "FROM ./m.gguf\nPARAMETER temperature 0.7\nPARAMETER stop \"x \"\nSYSTEM \"\"\"Be\nkind.\"\"\"\n\
    TEMPLATE {{ .Prompt }}\nMESSAGE user hi there\nLICENSE mit\nADAPTER ./a.gguf\nREQUIRES 0.14.0\n";

/// Texts that commands are given.
pub(crate) struct Manifests;

impl Subject for Manifests {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let kind = choices.below(3);
        let text = [SUMS, RECIPE, MODELFILE][kind].repeat(1 + choices.below(2));
        let text = (0..=choices.below(3)).fold(text, |text, _| choices.text(&text));
        Mutant {
            told: format!("{kind}: {text:?}"),
            bytes: text.len(),
            run: Box::new(move || match kind {
                0 => Manifest::parse(&text, "m.gguf", &["w", "v"]).map(drop).map_err(|e| e.to_string()),
                1 => Recipe::parse(Path::new("r.recipe"), &text).map(drop).map_err(|e| e.to_string()),
                _ => Modelfile::parse(&text).map(drop).map_err(|e| e.to_string()),
            }),
        }
    }
}

/// A store of Ollama and a cache of Hugging Face. A damaged manifest hides its own model at most, and leads nowhere outside.
pub(crate) struct Stores {
    root: PathBuf,
    places: Places,
    manifest: Json,
}

/// The manifest, within the store.
const MANIFEST: &str = "ollama/manifests/registry.ollama.ai/library/tiny/1b";
/// A repository of the cache.
const REPOSITORY: &str = "hub/models--org--tiny";
/// The commit of its snapshot.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Stores {
    pub(crate) fn new(folder: &Folder) -> Self {
        let blob = "0f".repeat(32);
        let files = [
            (MANIFEST.to_owned(), "{}"),
            (format!("ollama/blobs/sha256-{blob}"), "no model"),
            ("ollama/outside".to_owned(), "no model"),
            ("outside/m.gguf".to_owned(), "no model"),
            (format!("{REPOSITORY}/refs/main"), COMMIT),
            (format!("{REPOSITORY}/snapshots/{COMMIT}/m-Q4_0.gguf"), "no model"),
        ];
        for (name, content) in files {
            let path = folder.path(&name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("written");
        }
        let layer = |kind: &str, digest: &str| json!({ "mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": 8 });
        let manifest = json!({
            "schemaVersion": 2,
            "layers": [
                layer("model", &format!("sha256:{blob}")),
                layer("template", "sha256:../outside"),
                layer("params", "../../outside"),
                layer("adapter", "sha256:../outside"),
            ],
        });
        let places =
            Places { ollama: vec![folder.path("ollama")], hugging_face: vec![folder.path("hub")], ..Places::default() };
        Self { root: folder.root().to_owned(), places, manifest }
    }
}

impl Subject for Stores {
    fn mutant<'m>(&'m mut self, choices: &'m mut Choices<'_>) -> Mutant<'m> {
        let reference = choices.below(4) == 0;
        let text = if reference {
            let others = [COMMIT, "../../../outside", "/", "..", "", "main\n"];
            let text = *choices.pick(&others);
            choices.text(text)
        } else {
            let mut manifest = self.manifest.clone();
            choices.json(&mut manifest);
            if choices.below(4) == 0 { choices.text(&manifest.to_string()) } else { manifest.to_string() }
        };
        let path = if reference { format!("{REPOSITORY}/refs/main") } else { MANIFEST.to_owned() };
        fs::write(self.root.join(path), &text).expect("written");
        Mutant {
            told: format!("store: {text}"),
            bytes: text.len(),
            run: Box::new(|| {
                for entry in self.places.list() {
                    let path = &entry.located.path;
                    let inside = path.starts_with(self.root.join("ollama/blobs"))
                        || path.starts_with(self.root.join(REPOSITORY).join("snapshots"));
                    let plain = !path.components().any(|part| part == std::path::Component::ParentDir);
                    assert!(inside && plain, "{path:?} is outside");
                }
                let _ = self.places.resolve("org/tiny").map_err(|e| e.to_string());
                self.places.resolve("tiny:1b").map(drop).map_err(|e| e.to_string())
            }),
        }
    }
}
