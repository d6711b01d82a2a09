//! Several models over HTTP: loaded when they are asked for, within a bound of memory.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::served::Served;

/// Two small models with the same weights.
fn models(folder: &Folder) {
    let program = env!("CARGO_BIN_EXE_gguf");
    let save = ["bench", "--shape", "llama-tiny", "-t", "Q8_0", "--save", "one.gguf"];
    let made = std::process::Command::new(program).args(save).current_dir(folder.root()).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::copy(folder.path("one.gguf"), folder.path("two.gguf")).expect("copied");
}

fn served(folder: &Folder, options: &str) -> Served {
    let path = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    Served::start(&format!("{} {} --on-demand {options}", path("one.gguf"), path("two.gguf")))
}

/// The models that are loaded.
fn loaded(served: &Served) -> Vec<String> {
    let running = served.get("/api/ps").json();
    let names = running["models"].as_array().expect("models").iter().map(|model| model["name"].as_str());
    let names: Vec<String> = names.map(|name| name.expect("a name").to_owned()).collect();
    let list = served.get("/v1/models").json();
    let list = list["data"].as_array().expect("models").iter();
    let listed = list.filter(|model| model["status"]["value"] == "loaded").map(|model| model["id"].as_str());
    assert!(listed.eq(names.iter().map(|name| Some(name.as_str()))), "both lists say the same");
    names
}

fn ask(served: &Served, model: &str, fields: &Json) -> Json {
    let options = json!({ "num_predict": 2, "temperature": 0 });
    let mut body = json!({ "model": model, "prompt": "the thing", "stream": false, "raw": true, "options": options });
    fields.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
    served.ask("/api/generate", &body)
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn models_are_loaded_when_they_are_asked_for_and_let_go_of() {
    let folder = Folder::new("serve-models");
    models(&folder);
    let served = served(&folder, "--keep-alive -1");
    assert_eq!(loaded(&served), [""; 0]);
    let shown = served.ask("/api/show", &json!({ "model": "two" }));
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert_eq!(served.get("/props").status, 503);
    let first = ask(&served, "one", &json!({}));
    assert_eq!(loaded(&served), ["one"]);
    // The same answer from whichever of them.
    assert_eq!(ask(&served, "two:latest", &json!({}))["response"], first["response"]);
    assert_eq!(loaded(&served), ["one", "two"]);
    assert_eq!(served.post("/v1/completions", &json!({ "prompt": "a" })).status, 400, "which of them?");

    assert_eq!(served.ask("/models/unload", &json!({ "model": "one" })), json!({ "success": true }));
    assert_eq!(loaded(&served), ["two"]);
    served.ask("/models/load", &json!({ "model": "one" }));
    let unloaded = served.ask("/api/generate", &json!({ "model": "two", "keep_alive": 0 }));
    assert_eq!(unloaded["done_reason"], "unload");
    assert_eq!(loaded(&served), ["one"]);
    // After its answer.
    ask(&served, "one", &json!({ "keep_alive": "1ms" }));
    wait_for("it is let go of", || loaded(&served).is_empty());
    let wrong = served.post("/api/generate", &json!({ "model": "one", "prompt": "a", "keep_alive": "soon" }));
    assert_eq!(wrong.status, 400);
}

#[test]
fn the_model_longest_unused_makes_room() {
    let folder = Folder::new("serve-models-memory");
    models(&folder);
    let bytes = std::fs::metadata(folder.path("one.gguf")).expect("written").len();
    // Room for one with its caches, not for two.
    let served = served(&folder, &format!("--memory {}", (bytes >> 20) + 70));
    ask(&served, "one", &json!({}));
    let left = served.get("/api/ps").json()["models"][0]["expires_at"].clone();
    assert!(left.as_str().is_some_and(|time| !time.starts_with("2318")), "{left}");
    ask(&served, "two", &json!({}));
    assert_eq!(loaded(&served), ["two"]);
    ask(&served, "one", &json!({}));
    assert_eq!(loaded(&served), ["one"]);
}

#[test]
fn capabilities_are_those_of_the_template_that_is_used() {
    let capabilities = |options: &str| {
        let served = Served::start(options);
        let (listed, shown) =
            (served.get("/api/tags").json(), served.ask("/api/show", &json!({ "model": "storyteller" })));
        assert_eq!(listed["models"][0]["capabilities"], shown["capabilities"]);
        shown["capabilities"].clone()
    };
    assert_eq!(capabilities(""), json!(["completion"]));
    let folder = Folder::new("serve-capabilities");
    let template = folder.path("template.jinja");
    let source =
        "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}<think>\n</think>";
    std::fs::write(&template, source).expect("written");
    let options = format!("--chat-template {}", template.to_str().expect("UTF-8"));
    assert_eq!(capabilities(&options), json!(["completion", "thinking", "tools"]));
}

#[test]
fn a_model_that_was_loaded_at_the_start_stays() {
    let served = Served::start("");
    assert_eq!(
        served.ask("/api/generate", &json!({ "model": "storyteller", "keep_alive": 0 }))["done_reason"],
        "unload"
    );
    assert_eq!(loaded(&served), ["storyteller"]);
    assert_eq!(served.post("/models/unload", &json!({ "model": "storyteller" })).status, 400);
    assert_eq!(served.get("/lora-adapters").json(), json!([]));
    assert_eq!(served.post("/slots/0?action=save", &json!({ "filename": "x" })).status, 501);
    let document = served.get("/openapi.json").json();
    assert!(document["paths"]["/v1/chat/completions"]["post"]["requestBody"].is_object(), "{document}");
    assert!(document["paths"]["/v1/responses/{name}"]["delete"]["summary"].is_string());
}
