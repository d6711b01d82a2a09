//! `gguf edit`, `gguf split` and `gguf merge`.

use std::fs;

use gguf_toolkit::gguf::{Reader, Value};

use super::folder::Folder;
use super::quantize_command::{gguf, names, storyteller, text};

#[test]
fn keys_templates_and_tokens_are_changed_and_weights_stay() {
    let folder = Folder::new("edit");
    storyteller(&folder);
    fs::write(folder.path("t.jinja"), "{{ messages[0].content }}\n").expect("written");
    let before = fs::read(folder.path("storyteller-F16.gguf")).expect("there");
    let run = |args: &[&str]| gguf(&[&["edit", "storyteller-F16.gguf"], args].concat(), folder.root());
    let set = ["--set", "general.name=A new name", "--set", "x.list=[i32]:[1,-2]", "--set-template", "t.jinja"];
    let more = [
        "--set-special",
        "eos=2",
        "--delete",
        "general.file_type",
        "--rename-tensor",
        "output_norm.weight=norm.weight",
    ];
    let dry = run(&[&set[..], &more, &["--dry-run"]].concat());
    assert!(dry.status.success(), "{dry:?}");
    let shown = text(&dry.stdout);
    assert!(shown.contains("general.name             Storyteller") || shown.contains("A new name"), "{shown}");
    assert_eq!(names(&folder), ["storyteller-F16.gguf", "t.jinja"]);
    let output = run(&[&set[..], &more, &["-o", "new.gguf"]].concat());
    assert!(output.status.success(), "{output:?}");
    let (old, new) = (
        Reader::open(&folder.path("storyteller-F16.gguf")).expect("old"),
        Reader::open(&folder.path("new.gguf")).expect("new"),
    );
    let value = |key: &str| new.metadata().get(key).cloned();
    assert_eq!(value("general.name"), Some(Value::String("A new name".into())));
    assert_eq!(value("tokenizer.chat_template"), Some(Value::String("{{ messages[0].content }}\n".into())));
    assert_eq!(value("tokenizer.ggml.eos_token_id"), old.metadata().get("tokenizer.ggml.eos_token_id").cloned());
    assert_eq!(value("general.file_type"), None);
    assert!(new.tensor("output_norm.weight").is_none());
    for (a, b) in old.tensors().iter().zip(new.tensors()) {
        assert_eq!((a.name.replace("output_norm", "norm"), a.ty), (b.name.clone(), b.ty));
        assert_eq!(*old.data(a).expect("data"), *new.data(b).expect("data"), "{}", a.name);
    }
    assert_eq!(fs::read(folder.path("storyteller-F16.gguf")).expect("there"), before);
}

#[test]
fn a_file_is_replaced_on_demand_alone() {
    let folder = Folder::new("edit-in-place");
    storyteller(&folder);
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    let told = |line: &str| {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        text(&output.stderr).to_owned()
    };
    let name = "edit storyteller-F16.gguf --set general.name=str:X";
    assert!(told(name).contains("--output <FILE>"));
    assert!(told(&format!("{name} -o storyteller-F16.gguf --force")).contains("is an input, and would be overwritten"));
    assert!(run(&format!("{name} --in-place")).status.success());
    let reader = Reader::open(&folder.path("storyteller-F16.gguf")).expect("opens");
    assert_eq!(reader.metadata().get("general.name"), Some(&Value::String("X".into())));
    assert_eq!(names(&folder), ["storyteller-F16.gguf"]);
    assert!(told("edit storyteller-F16.gguf --delete no.key --in-place").contains("there is no key no.key"));
    assert!(told("edit storyteller-F16.gguf --set a=u8:300 --in-place").contains("not a value of the type UINT8"));
    assert!(told("edit storyteller-F16.gguf --in-place").contains("nothing to change"));
    assert!(told("edit storyteller-F16.gguf --set-special eos=nothing --in-place").contains("nothing: no such token"));
}

#[test]
fn what_is_split_and_merged_is_the_same_file() {
    let folder = Folder::new("edit-split");
    storyteller(&folder);
    let run = |line: &str| {
        let output = gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let before = fs::read(folder.path("storyteller-F16.gguf")).expect("there");
    let told = run("split storyteller-F16.gguf --max-tensors 16 -o parts --dry-run");
    assert!(told.starts_with("parts-00001-of-00003.gguf  16 tensors, ") && told.lines().count() == 3, "{told}");
    assert_eq!(run("split storyteller-F16.gguf --max-tensors 16 -o parts"), told);
    let parts: Vec<String> = (1..=3).map(|n| format!("parts-0000{n}-of-00003.gguf")).collect();
    assert_eq!(names(&folder), [&parts[..], &["storyteller-F16.gguf".to_owned()]].concat());
    let whole = Reader::open(&folder.path(&parts[1])).expect("opens");
    assert_eq!((whole.shards().len(), whole.tensors().len()), (3, 38));
    run(&format!("merge {} -o whole.gguf", parts[2]));
    assert!(fs::read(folder.path("whole.gguf")).expect("there") == before);
    let by_size = run("split whole.gguf --max-size 1M --dry-run");
    assert!(by_size.lines().count() > 5, "{by_size}");
    let refused = |line: &str| {
        let output = gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
        assert_eq!(output.status.code(), Some(2), "{line}");
        text(&output.stderr).to_owned()
    };
    assert!(refused("merge whole.gguf").contains("one file already"));
    assert!(refused("split whole.gguf --max-tensors 16 -o parts").contains("exists already"));
    assert!(refused(&format!("merge {} -o {} --force", parts[0], parts[1])).contains("is an input"));
    assert!(refused("split whole.gguf --max-size 0").contains("a size such as 500M or 2G"));
}
