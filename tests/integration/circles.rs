//! No file of the library uses another that uses it, directly or around a corner.
//!
//! A folder's `mod.rs` and the files below it are one module: what a file uses of the `mod.rs` above it does not count, so
//! that a trait may stand there beside the table of those who have it. Unit tests do not count either.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use regex::Regex;

use super::house::sources;

/// `use a::{b, c as d};` as one path for each name, and the name that it has here.
struct Import {
    is_public: bool,
    path: Vec<String>,
    name: String,
}

/// What matters of a file.
struct File {
    path: String,
    imports: Vec<Import>,
    /// Everything but imports, comments and unit tests.
    code: String,
    /// Names of the items that it defines.
    items: HashSet<String>,
}

/// The files by module: `["gguf", "reader"]` for `src/gguf/reader.rs`.
type Tree = BTreeMap<Vec<String>, File>;

static IMPORT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(pub(?:\([a-z: ]*\))?\s+)?use\s+([^;]+);").expect("a pattern"));
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").expect("a pattern"));
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:fn|struct|enum|trait|type|const|static|macro_rules!)\s+([A-Za-z_]\w*)").expect("a pattern")
});
static PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:crate|super|self|[a-z_0-9]+)(?:::[A-Za-z_]\w*)+").expect("a pattern"));

fn split(path: &str) -> Vec<String> {
    path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The paths of an import, its braces resolved.
fn paths(import: &str) -> Vec<(Vec<String>, String)> {
    let Some((before, list)) = import.split_once('{') else {
        let (path, renamed) = import.split_once(" as ").unwrap_or((import, ""));
        let path = split(path);
        let name = if renamed.is_empty() { path.last().cloned().unwrap_or_default() } else { renamed.trim().into() };
        return vec![(path, name)];
    };
    let (mut items, mut depth, mut item) = (Vec::new(), 0, String::new());
    for c in list[..list.rfind('}').expect("closed")].chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            items.push(std::mem::take(&mut item));
        } else {
            item.push(c);
        }
    }
    items.push(item);
    let before = split(before);
    let inner = items.iter().filter(|item| !item.trim().is_empty()).flat_map(|item| paths(item));
    inner.map(|(path, name)| (before.iter().cloned().chain(path).collect(), name)).collect()
}

fn file(path: String, text: &str) -> File {
    let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |tests| &text[..tests]);
    let text = COMMENT.replace_all(text, "");
    let imports = IMPORT.captures_iter(&text).flat_map(|import| {
        let is_public = import.get(1).is_some();
        paths(&import[2]).into_iter().map(move |(path, name)| Import { is_public, path, name })
    });
    let imports = imports.collect();
    let code = IMPORT.replace_all(&text, "").into_owned();
    let items = ITEM.captures_iter(&code).map(|item| item[1].to_owned()).collect();
    File { path, imports, code, items }
}

/// The library's files, those of the command line left out.
fn tree(sources: Vec<(String, String)>) -> Tree {
    let library = sources.into_iter().filter(|(path, _)| !path.starts_with("src/cli/"));
    library
        .map(|(path, text)| {
            let mut module: Vec<String> =
                path["src/".len()..path.len() - ".rs".len()].split('/').map(str::to_owned).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            (module, file(path, &text))
        })
        .collect()
}

/// The module whose file defines what `path` names in `module`; imports of other files are followed.
fn find(tree: &Tree, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let mut at = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "super" | "self" => {
            while let Some(up) = rest.first().filter(|up| matches!(up.as_str(), "super" | "self")) {
                if up == "super" {
                    at.pop();
                }
                rest = &rest[1..];
            }
        }
        // A module below this one; other names are crates, or have been imported.
        child => {
            at.push(child.to_owned());
            tree.get(&at)?;
            rest = &rest[1..];
        }
    }
    while let Some(child) = rest.first() {
        at.push(child.clone());
        if !tree.contains_key(&at) {
            at.pop();
            break;
        }
        rest = &rest[1..];
    }
    let file = tree.get(&at)?;
    let Some(name) = rest.first() else { return Some(at) };
    if file.items.contains(name) || depth == 0 {
        return Some(at);
    }
    let import = file.imports.iter().find(|import| import.name == *name);
    import.and_then(|import| find(tree, &at, &import.path, depth - 1)).or(Some(at))
}

/// Modules that each module uses.
fn uses(tree: &Tree) -> BTreeMap<&[String], BTreeSet<Vec<String>>> {
    let of = |module: &[String], file: &File| {
        let used =
            |name: &str| Regex::new(&format!(r"\b{}\b", regex::escape(name))).expect("a name").is_match(&file.code);
        // A name that is only passed on is not used here.
        let imports = file.imports.iter().filter(|import| !import.is_public || used(&import.name));
        let inline = PATH.find_iter(&file.code).map(|path| split(path.as_str()));
        let all = imports.map(|import| import.path.clone()).chain(inline);
        let found = all.filter_map(|path| find(tree, module, &path, 8));
        let is_above = |other: &[String]| module.starts_with(other);
        found.filter(|other| !is_above(other)).collect()
    };
    tree.iter().filter(|(module, _)| !module.is_empty()).map(|(module, file)| (&module[..], of(module, file))).collect()
}

/// The files of each circle.
fn circles(tree: &Tree) -> Vec<Vec<&str>> {
    let uses = uses(tree);
    let reached = |from: &[String]| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from.to_vec()]);
        while let Some(module) = waiting.pop() {
            for next in uses.get(&module[..]).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = uses.keys().map(|&module| (module, reached(module))).collect();
    let mut found: Vec<Vec<&str>> = Vec::new();
    for (&module, others) in &reached {
        if others.contains(module) {
            let members = others.iter().filter(|other| reached[&other[..]].contains(module));
            let members: Vec<&str> = members.map(|member| &*tree[member].path).collect();
            if !found.contains(&members) {
                found.push(members);
            }
        }
    }
    found
}

#[test]
fn circles_are_found_through_imports_that_are_passed_on() {
    let sources = |b: &str| {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        vec![
            file("src/lib.rs", "pub mod x;"),
            file(
                "src/x/mod.rs",
                "mod a;\nmod b;\npub use a::{A, other};\npub use b::B;\npub struct Common;\nfn f() { a::other() }",
            ),
            file("src/x/a.rs", "use super::{B, Common};\npub struct A(B);\npub fn other() {}"),
            file("src/x/b.rs", b),
        ]
    };
    let of = |b: &str| circles(&tree(sources(b))).iter().map(|c| c.join(" ")).collect::<Vec<_>>();
    assert_eq!(of("use super::Common; // super::A\npub struct B(Common);"), Vec::<String>::new());
    assert_eq!(of("pub struct B(Box<super::A>);"), ["src/x/a.rs src/x/b.rs"]);
    assert_eq!(of("use crate::x::{self, A as First};\npub struct B;"), ["src/x/a.rs src/x/b.rs"]);
    assert_eq!(of("pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::x::A;\n}"), Vec::<String>::new());
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let tree = tree(sources("src"));
    assert!(tree.len() > 100);
    let circles: Vec<String> = circles(&tree).iter().map(|files| files.join("\n  ")).collect();
    assert!(circles.is_empty(), "files that use each other:\n  {}", circles.join("\n\n  "));
}
