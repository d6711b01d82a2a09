//! The rules of the house that the compiler does not know: layers, sizes of files, where unsafe code may be, licences.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library, and the modules that it may use besides those of the ground.
const LAYERS: &[(&str, &[&str])] = &[
    ("gguf", &[]),
    ("safetensors", &[]),
    ("simd", &[]),
    ("formats", &["simd"]),
    ("tokenizer", &[]),
    // Data alone: what a network is.
    ("network", &[]),
    ("kernels", &["simd", "formats", "network"]),
    ("arch", &["network", "gguf"]),
    ("cpu", &["formats", "kernels", "network"]),
    ("model", &["formats", "kernels", "network", "cpu", "gguf", "arch", "tokenizer"]),
    // A conversion is a source of the one pipeline that writes models.
    ("convert", &["formats", "kernels", "network", "gguf", "safetensors", "tokenizer", "arch", "model", "quantize"]),
    ("quantize", &["formats", "kernels", "gguf", "safetensors", "tokenizer", "arch", "model", "imatrix"]),
    ("engine", BELOW_APPLICATIONS),
    ("embedded", &["convert"]),
    ("bench", &["formats", "kernels", "network", "cpu", "gguf", "tokenizer", "arch", "model", "quantize", "engine"]),
    (
        "perplexity",
        &["formats", "kernels", "network", "cpu", "gguf", "safetensors", "tokenizer", "arch", "model", "engine"],
    ),
    ("imatrix", &["kernels", "cpu", "gguf", "tokenizer", "model", "perplexity"]),
    ("check", &["gguf", "tokenizer", "arch", "model", "engine", "convert", "quantize", "inspect"]),
    ("compare", &["kernels", "cpu", "gguf", "tokenizer", "model", "perplexity", "inspect"]),
    ("edit", &["gguf", "quantize"]),
    ("stores", &[]),
    // Made models: what the recipe, the store, the quantizer and the template language say.
    ("modelfile", &["gguf", "engine", "convert", "quantize", "inspect", "stores"]),
    ("export", &["formats", "network", "gguf", "safetensors", "tokenizer", "arch", "model", "quantize", "convert"]),
    ("net", &["stores", "gguf", "kernels", "cpu", "inspect", "compare"]),
    (
        "serve",
        &[
            "formats",
            "kernels",
            "network",
            "cpu",
            "gguf",
            "tokenizer",
            "arch",
            "model",
            "quantize",
            "engine",
            "inspect",
            "stores",
            "modelfile",
            "net",
        ],
    ),
    ("inspect", &["formats", "kernels", "network", "cpu", "gguf", "tokenizer", "arch", "model", "quantize"]),
];

/// What every module may use; these use nothing but each other.
const GROUND: &[&str] = &["tensor_type", "bytes", "files", "memory", "printable"];

const BELOW_APPLICATIONS: &[&str] =
    &["formats", "kernels", "network", "cpu", "gguf", "safetensors", "tokenizer", "arch", "model"];

/// Names that `lib.rs` lifts to the root, and where they come from.
const AT_ROOT: &[(&str, &str)] = &[("TensorType", "tensor_type")];

/// Folders and files that may switch unsafe code on.
const UNSAFE: &[&str] = &[
    "src/simd/",
    "src/formats/",
    "src/kernels/",
    "src/files/map.rs",
    "src/files/unix.rs",
    "src/files/windows.rs",
    "src/memory/windows.rs",
    "src/cli/faults/",
];

const MAX_LINES: usize = 1000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the package: its path in the package, and its text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let name = |path: &Path| path.strip_prefix(root()).expect("inside").to_str().expect("UTF-8").to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).expect("readable"))).collect()
}

/// The module of the library that a file belongs to: `src/gguf/reader.rs` to `gguf`.
fn module(path: &str) -> &str {
    let path = path.strip_prefix("src/").expect("below src");
    path.split_once('/').map_or(path.trim_end_matches(".rs"), |(module, _)| module)
}

/// First names after `crate::`, also of a list in braces; comments do not count.
fn crate_paths(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => names.push(first_name(part)),
            Some(list) => names.extend(items(list).into_iter().map(first_name)),
        }
    }
    names
}

/// The items of a list in braces, of which the first brace has been read.
fn items(list: &str) -> Vec<&str> {
    let (mut items, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_in_braces_are_found() {
    let names =
        crate_paths("use crate::{a::{b, c}, d};\nuse crate::e::f; // crate::g\n// crate::h\ncrate::i(crate::J)");
    assert_eq!(names, ["a", "d", "e", "g", "i", "J"]);
}

#[test]
fn no_module_uses_what_is_above_it() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let module = module(&path);
        if matches!(module, "lib" | "cli") {
            continue;
        }
        let allowed = match LAYERS.iter().find(|(name, _)| *name == module) {
            Some((_, allowed)) => allowed,
            None if GROUND.contains(&module) => &[][..],
            None => panic!("{path}: {module} has no layer: add it to LAYERS"),
        };
        for name in crate_paths(&text) {
            let target = AT_ROOT.iter().find(|(lifted, _)| *lifted == name).map_or(name.as_str(), |(_, module)| module);
            if target != module && !allowed.contains(&target) && !GROUND.contains(&target) {
                faults.push(format!("{path}: crate::{name}"));
            }
        }
    }
    assert!(faults.is_empty(), "upward imports:\n{}", faults.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let files = ["src", "tests"].iter().flat_map(|folder| sources(folder));
    let long = files.filter(|(path, text)| !path.ends_with("_table.rs") && text.lines().count() > MAX_LINES);
    let long: Vec<_> = long.map(|(path, text)| format!("{path}: {} lines", text.lines().count())).collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    let opened = |text: &str| text.lines().any(|line| line.contains("(unsafe_code") && line.contains("#!["));
    let elsewhere: Vec<_> = sources("src")
        .into_iter()
        .filter(|(path, text)| opened(text) && !UNSAFE.iter().any(|allowed| path.starts_with(allowed)))
        .map(|(path, _)| path)
        .collect();
    assert!(elsewhere.is_empty(), "unsafe code is allowed in {elsewhere:?}");
}

/// Guides for those who add something, with the files whose lines their examples show.
const GUIDES: &[(&str, &[&str])] = &[
    ("adding-an-architecture.md", &["src/arch/glm4_moe/"]),
    ("adding-a-format.md", &["src/formats/iq4_xs.rs", "src/formats/mod.rs"]),
    ("adding-an-instruction-set.md", &["src/simd/x86_64/avx2.rs", "src/simd/isa.rs"]),
    ("adding-a-command.md", &["src/cli/hash.rs", "src/cli/main.rs"]),
    ("adding-a-sampler.md", &[]),
];

fn guide(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("readable")
}

/// Every line of code in a guide stands in the files that it walks through.
#[test]
fn the_guides_show_the_tree() {
    let sources = sources("src");
    for (name, shown) in GUIDES.iter().filter(|(_, shown)| !shown.is_empty()) {
        let of = |path: &str| shown.iter().any(|shown| path.starts_with(shown));
        let tree: Vec<&str> = sources.iter().filter(|(path, _)| of(path)).map(|(_, text)| text.as_str()).collect();
        let tree: Vec<&str> = tree.iter().flat_map(|text| text.lines()).map(str::trim).collect();
        let text = guide(name);
        let blocks = text.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        let lines: Vec<&str> = blocks.flat_map(str::lines).map(str::trim).filter(|line| *line != "...").collect();
        assert!(lines.len() > 9, "{lines:?}");
        for line in lines {
            assert!(tree.contains(&line), "{name}: not in the tree: {line}");
        }
    }
}

/// Every path in a guide exists.
#[test]
fn the_guides_name_files_that_exist() {
    for (name, _) in GUIDES {
        let text = guide(name);
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |word: &&str| ["src/", "tests/", "testdata/", "docs/"].iter().any(|root| word.starts_with(root));
        let paths: Vec<&str> = quoted.filter(is_path).collect();
        assert!(paths.len() > 2, "{name}: {paths:?}");
        for path in paths {
            assert!(root().join(path).exists(), "{name}: there is no {path}");
        }
    }
}

/// Licences that ask for no more than their text beside the program.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether a licence expression can be met with [`LICENCES`]: one alternative of each part.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace("Apache-2.0 WITH LLVM-exception", "Apache-2.0");
    // Parentheses are only used around alternatives.
    expression.split(" AND ").all(|part| {
        let part = part.trim().trim_matches(['(', ')']);
        part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[test]
fn every_dependency_may_be_shipped() {
    assert!(is_permissive("(MIT OR GPL-3.0) AND Unicode-3.0") && is_permissive("MIT/Apache-2.0"));
    assert!(!is_permissive("MIT AND GPL-3.0") && !is_permissive(""));
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform"]);
    // What a build for this machine has fetched.
    cargo.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).current_dir(root());
    let output = cargo.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_permissive(licence), "{}: {licence}", package["name"]);
    }
}
