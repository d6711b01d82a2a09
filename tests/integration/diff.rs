//! `gguf diff`.

use serde_json::Value as Json;

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};

#[test]
fn what_quantizing_changes_is_told() {
    let folder = Folder::new("diff");
    storyteller(&folder);
    let run = |line: &str| gguf(&line.split_whitespace().collect::<Vec<_>>(), folder.root());
    assert!(run("quantize storyteller-F16.gguf q.gguf Q8_0").status.success());
    let same = run("diff q.gguf q.gguf");
    assert_eq!((same.status.code(), text(&same.stdout)), (Some(0), "no difference: 31 keys, 38 tensors\n"));
    let output = run("diff storyteller-F16.gguf q.gguf");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines[..2], ["A  storyteller-F16.gguf", "B  q.gguf"]);
    assert!(lines.iter().any(|line| line.starts_with("general.file_type ") && line.ends_with("1  7")), "{lines:?}");
    let row = lines.iter().find(|line| line.starts_with("token_embd.weight")).expect("a row");
    assert!(row.contains("F16 -> Q8_0") && row.contains(" %"), "{row}");
    assert!(!text(&output.stdout).contains("norm.weight"), "norms are as they were");
    let json = run("diff storyteller-F16.gguf q.gguf --json");
    let json: Json = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["equal"], &json["schema_version"]), (&Json::from(false), &Json::from(1)));
    for tensor in json["tensors"].as_array().expect("tensors") {
        let relative = tensor["relative_rmse"].as_f64().expect("a number");
        assert!(tensor["change"] == "type" && (1e-4..0.02).contains(&relative), "{tensor}");
    }
    let headers: Json =
        serde_json::from_slice(&run("diff storyteller-F16.gguf q.gguf --json --no-data").stdout).expect("JSON");
    assert_eq!(headers["tensors"].as_array().map(Vec::len), json["tensors"].as_array().map(Vec::len));
    assert!(headers["tensors"][0]["rmse"].is_null());
    assert_eq!(run("diff q.gguf nowhere.gguf").status.code(), Some(2));
}
