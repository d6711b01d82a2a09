//! `docs/models.md`: what each family is judged by, generated from the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use gguf_toolkit::arch::{Config, FAMILIES, Family, by_config};
use gguf_toolkit::export::classes_of;

use super::convert::{MORE_KEYS, OTHER_VALUES};
use super::remote_code::CASES;
use super::shared::{json, testdata};

/// The checkpoints of a folder of goldens, by the name of their family and its first class.
fn checkpoints(of: &str) -> BTreeMap<(&'static str, &'static str), Vec<String>> {
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(testdata(of)).expect("goldens") {
        let path = entry.expect("an entry").path();
        let config = Config::new(json(&path.join("config.json"))).expect("settings");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        found.entry(key(by_config(&config).expect("a family"))).or_default().push(name);
    }
    found.values_mut().for_each(|names| names.sort());
    found
}

fn key(family: &Family) -> (&'static str, &'static str) {
    (family.name(), family.classes().first().copied().unwrap_or_default())
}

/// How the bytes of these checkpoints compare with the files of llama.cpp's converter.
fn bytes(of: &str, names: &[String]) -> String {
    let judged = names.iter().filter(|name| testdata(of).join(name).join("reference.json").exists());
    let judged: Vec<&str> = judged.map(String::as_str).collect();
    if judged.is_empty() {
        return "no reference".to_owned();
    }
    let keys = |list: &[(&str, &'static str)]| -> BTreeSet<&'static str> {
        list.iter().filter(|(name, _)| judged.contains(name)).map(|(_, key)| *key).collect()
    };
    let mut text = "equal".to_owned();
    for (list, before) in [(MORE_KEYS, "; also writes"), (OTHER_VALUES, "; but for")] {
        let keys: Vec<String> = keys(list).into_iter().map(|key| format!("`{key}`")).collect();
        if !keys.is_empty() {
            let _ = write!(text, "{before} {}", keys.join(", "));
        }
    }
    text
}

/// The classes that files of a family are exported to: its own, or one with the same tensors.
fn exported(family: &Family) -> String {
    let all = classes_of(family.name());
    if family.own_code() {
        assert!(all.is_empty(), "{}: transformers has no class", family.name());
        return "-".to_owned();
    }
    let own: Vec<&str> = all.iter().copied().filter(|class| family.classes().contains(class)).collect();
    let names = if own.is_empty() { all } else { own };
    assert!(!names.is_empty(), "{}: cannot be exported", family.name());
    names.iter().map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_page_of_models_is_what_the_tree_says() {
    let (texts, encoders, own_code) = (checkpoints("arch"), checkpoints("encoders"), checkpoints("remote_code"));
    let mut rows = Vec::new();
    let mut unjudged = Vec::new();
    for family in FAMILIES {
        let classes: Vec<String> = family.classes().iter().map(|class| format!("`{class}`")).collect();
        for (of, found, does) in
            [("arch", &texts, "text"), ("encoders", &encoders, "embeddings"), ("remote_code", &own_code, "text")]
        {
            let Some(names) = found.get(&key(family)) else { continue };
            let (name, classes, bytes) = (family.name(), classes.join(", "), bytes(of, names));
            let exported = exported(family);
            rows.push(format!("| `{name}` | {classes} | {does} | {bytes} | {exported} | {} |", names.join(", ")));
        }
        let files = CASES.iter().filter(|(_, architecture, _)| *architecture == family.name());
        let files: Vec<&str> = files.map(|(name, ..)| *name).collect();
        if family.classes().is_empty() && !files.is_empty() {
            rows.push(format!("| `{}` | none: files alone | text | - | - | {} |", family.name(), files.join(", ")));
        } else if ![&texts, &encoders, &own_code].iter().any(|found| found.contains_key(&key(family))) {
            unjudged.push(family.name());
        }
    }
    assert_eq!(unjudged, [""; 0], "families without a checkpoint");
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md")).expect("the page");
    let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(found == rows, "docs/models.md should say:\n{}", rows.join("\n"));
    assert!(page.contains(&format!(
        "{} checkpoints",
        [&texts, &encoders, &own_code].iter().flat_map(|found| found.values()).map(Vec::len).sum::<usize>()
    )));
}
