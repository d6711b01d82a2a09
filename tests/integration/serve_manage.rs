//! Changes of models over HTTP, as Ollama's clients ask for them, and the search of the page.

use std::fs;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::pull::{model_bytes, noise, program};
use super::served::{Answer, Served};
use super::servers::{Hub, Registry, Server, sha256};

const STORE: &str = ".ollama/models";

fn served(home: &Folder, hub: &str, options: &str) -> Served {
    Served::with(program(home.root(), hub, hub), options)
}

const NOWHERE: &str = "http://127.0.0.1:9";

fn statuses(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.lines().iter().map(|line| line["status"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()).collect()
}

fn names(served: &Served) -> Vec<String> {
    let tags = served.get("/api/tags").json();
    tags["models"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| model["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Sends bytes that are no text.
fn send(served: &Served, path: &str, bytes: &[u8]) -> u16 {
    use std::io::{Read as _, Write as _};
    let mut stream = served.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        served.address,
        bytes.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that refuses does not read it all.
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer[9..12].parse().expect("a status")
}

#[test]
fn models_are_made_of_bytes_that_were_sent() {
    let home = Folder::new("manage-create");
    let served = served(&home, NOWHERE, "--manage");
    let model = model_bytes("manage-create-model");
    let (digest, path) = (format!("sha256:{}", sha256(&model)), format!("/api/blobs/sha256:{}", sha256(&model)));
    assert_eq!(served.request("HEAD", &path, "", "").status, 404);
    assert_eq!(send(&served, &path, &model[..model.len() - 1]), 400, "other bytes");
    assert_eq!(served.request("HEAD", &path, "", "").status, 404);
    assert_eq!(send(&served, &path, &model), 201);
    assert_eq!(send(&served, &path, &model), 200);
    assert_eq!(served.request("HEAD", &path, "", "").status, 200);
    assert_eq!(send(&served, "/api/blobs/sha256:..%2f..%2fx", b"x"), 400);
    assert_eq!(
        fs::read(home.path(STORE).join("blobs").join(format!("sha256-{}", sha256(&model)))).expect("read"),
        model
    );

    let body = json!({
        "model": "mine", "files": { "base.gguf": digest }, "system": "Once there was a cat.", "license": ["A", "B"],
        "parameters": { "temperature": 0, "num_predict": 5, "stop": ["<x>", "<y>"] },
        "template": "{{ .System }} {{ .Prompt }} ", "messages": [{ "role": "user", "content": "It was big." }],
    });
    let told = statuses(&served.post("/api/create", &body));
    assert_eq!(told[0], "parsing GGUF");
    assert_eq!(told[1], format!("using existing layer {digest}"));
    assert!(told[2].starts_with("creating new layer sha256:"), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["writing manifest", "success"]);
    assert!(names(&served).contains(&"mine:latest".to_owned()));
    let manifest =
        fs::read(home.path(STORE).join("manifests/registry.ollama.ai/library/mine/latest")).expect("a manifest");
    let listed = served.get("/api/tags").json()["models"][1].clone();
    assert_eq!(listed["digest"], sha256(&manifest));

    let shown = served.ask("/api/show", &json!({ "model": "mine" }));
    assert_eq!((&shown["system"], &shown["license"]), (&json!("Once there was a cat."), &json!("A\n\nB")));
    assert!(shown["modelfile"].as_str().is_some_and(|text| text.contains("\nFROM mine:latest\n")), "{shown}");
    assert!(!shown.to_string().contains(home.root().to_str().expect("UTF-8")), "no paths");
    assert!(shown["parameters"].as_str().is_some_and(|text| text.contains("stop                           \"<x>\"")));
    assert_eq!(shown["messages"][0]["content"], "It was big.");

    // It answers as it was made, in every dialect.
    let chat = json!({ "model": "mine", "stream": false, "messages": [{ "role": "user", "content": "And" }] });
    let answer = served.ask("/api/chat", &chat);
    assert_eq!(answer["eval_count"], 5);
    let text = answer["message"]["content"].as_str().expect("a text").to_owned();
    let openai = served.ask("/v1/chat/completions", &chat);
    assert_eq!(openai["choices"][0]["message"]["content"], json!(text));
    let prompt =
        served.ask("/apply-template", &json!({ "model": "mine", "messages": chat["messages"] }))["prompt"].clone();
    assert_eq!(prompt, "Once there was a cat. It was big.\n\nAnd ", "two messages of the user in a row are one");
    let own = json!({ "model": "mine", "messages": [{ "role": "system", "content": "S" }, { "role": "user", "content": "u" }] });
    assert!(served.ask("/apply-template", &own)["prompt"].as_str().is_some_and(|prompt| prompt.starts_with("S ")));
    assert_ne!(served.ask("/api/chat", &with_options(&chat, &json!({ "num_predict": 9 })))["eval_count"], 5);

    for (wrong, said) in [
        (json!({ "model": "x" }), "neither 'from' or 'files' was specified"),
        (json!({ "model": "../x", "from": "mine" }), "must be the name of a model"),
        (json!({ "model": "x", "from": "nothing" }), "model 'nothing' not found"),
        (json!({ "model": "x", "from": "/etc/passwd" }), "not found"),
        (json!({ "model": "x", "files": { "a": format!("sha256:{}", "0".repeat(64)) } }), "it has to be sent first"),
        (json!({ "model": "x", "from": "mine", "parameters": { "speed": 1 } }), "there is no such parameter"),
        (json!({ "model": "x", "from": "mine", "quantize": "Q9" }), "there is no type Q9"),
        (json!({ "model": "x", "from": "mine", "template": "{{ .Speed }}" }), "no field .Speed"),
    ] {
        let answer = served.post("/api/create", &wrong);
        assert!(answer.body.contains(said), "{wrong}: {}", answer.body);
    }
    let quantized =
        statuses(&served.post("/api/create", &json!({ "model": "small", "from": "mine", "quantize": "Q4_K_M" })));
    assert!(quantized.contains(&"quantizing F16 model to Q4_K_M".to_owned()), "{quantized:?}");
    let small = served.ask("/api/show", &json!({ "model": "small" }));
    assert_eq!(
        (&small["details"]["quantization_level"], &small["system"]),
        (&json!("Q4_K_M"), &json!("Once there was a cat."))
    );
}

fn with_options(body: &Json, options: &Json) -> Json {
    let mut body = body.clone();
    body["options"] = options.clone();
    body
}

#[test]
fn models_are_copied_and_deleted() {
    let home = Folder::new("manage-copy");
    let model = model_bytes("manage-copy-model");
    fs::write(home.path("base.gguf"), &model).expect("written");
    let made = program(home.root(), NOWHERE, NOWHERE).args(["cp", "base.gguf", "one"]).output().expect("runs");
    assert!(made.status.success());
    let served = served(&home, NOWHERE, "one --on-demand --manage");
    let copied = served.post("/api/copy", &json!({ "source": "one", "destination": "me/two" }));
    assert_eq!((copied.status, copied.body.as_str()), (200, ""));
    assert_eq!(names(&served), ["one:latest", "me/two:latest"]);
    assert_eq!(
        served.ask(
            "/api/generate",
            &json!({ "model": "me/two", "prompt": "a", "stream": false, "options": { "num_predict": 2 } })
        )["done"],
        true
    );
    assert_eq!(served.post("/api/copy", &json!({ "source": "none", "destination": "x" })).status, 404);
    assert_eq!(served.post("/api/copy", &json!({ "source": "one", "destination": "a b" })).status, 400);
    let delete = |name: &str| served.request("DELETE", "/api/delete", "", &json!({ "model": name }).to_string()).status;
    assert_eq!((delete("me/two"), delete("me/two"), delete("/etc/passwd")), (200, 404, 404));
    assert_eq!(names(&served), ["one:latest"]);
    // What another program has made stays.
    fs::remove_file(home.path(".local/share/gguf/fetched")).expect("a list");
    assert_eq!(delete("one"), 403);
    assert_eq!(served.post("/api/copy", &json!({ "source": "one", "destination": "one:other" })).status, 200);
    assert_eq!(served.post("/api/create", &json!({ "model": "one", "from": "one:other" })).status, 403);
    assert!(home.path(STORE).join("manifests/registry.ollama.ai/library/one/latest").exists());
}

#[test]
fn nothing_is_changed_where_nobody_has_allowed_it() {
    let home = Folder::new("manage-refused");
    let served = served(&home, NOWHERE, "");
    for (method, path) in [
        ("POST", "/api/pull"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("HEAD", "/api/blobs/sha256:0"),
        ("POST", "/api/blobs/sha256:0"),
        ("POST", "/models/browse"),
    ] {
        assert_eq!(served.request(method, path, "", r#"{"model":"one"}"#).status, 403, "{path}");
    }
    assert_eq!(served.post("/api/push", &json!({ "model": "one" })).status, 501);
    assert_eq!(served.get("/v1/models").json()["gguf"], json!({ "manage": false, "report": false }));
    assert_eq!(served.get("/report").status, 404);
    assert!(!home.path(".ollama").exists());
}

#[test]
fn models_are_fetched_and_searched_for() {
    let home = Folder::new("manage-pull");
    let model = model_bytes("manage-pull-model");
    let hub = Hub::default().with("org/Tiny-GGUF", "tiny-F16.gguf", model.clone()).with(
        "org/Tiny-GGUF",
        "tiny-Q8_0.gguf",
        noise(4096, 1),
    );
    let registry = Registry::default().with("library/tiny:1b", &[("model", &model), ("system", b"Be brief.")]);
    let server =
        Server::start(
            move |request| {
                if request.path.starts_with("/v2/") { registry.answer(request) } else { hub.answer(request) }
            },
        );
    let served = served(&home, &server.url, "--manage");
    let found = served.ask("/models/browse", &json!({ "text": "tiny" }));
    assert_eq!(found["repositories"][0]["name"], "org/Tiny-GGUF");
    let listed =
        served.ask("/models/browse", &json!({ "repository": "org/Tiny-GGUF", "context": 300, "speed": false }));
    let first = &listed["models"][0];
    assert_eq!(
        (&first["name"], &first["fit"], &first["basis"]),
        (&json!("org/Tiny-GGUF:F16"), &json!("fits"), &json!("header"))
    );
    assert_eq!((&first["context"], &first["here"]), (&json!(300), &json!(false)));

    let told = served.post("/api/pull", &json!({ "model": "org/Tiny-GGUF:F16" }));
    let lines = told.lines();
    assert_eq!(lines[0]["status"], "pulling manifest");
    let pulling: Vec<&Json> = lines.iter().filter(|line| line["digest"].is_string()).collect();
    let last = pulling.last().expect("progress");
    assert_eq!(last["status"], format!("pulling {}", &sha256(&model)[..12]));
    assert_eq!((&last["total"], &last["completed"]), (&json!(model.len()), &json!(model.len())));
    assert_eq!(lines.last().expect("an end")["status"], "success");
    assert!(names(&served).contains(&"org/Tiny-GGUF:F16".to_owned()));
    let once = served.ask("/api/pull", &json!({ "model": "tiny:1b", "stream": false }));
    assert_eq!(once["status"], "success");
    let shown = served.ask("/api/show", &json!({ "model": "tiny:1b" }));
    assert_eq!(shown["system"], "Be brief.");
    let chat = json!({ "model": "tiny:1b", "stream": false, "messages": [{ "role": "user", "content": "a" }], "options": { "num_predict": 2 } });
    assert_eq!(served.ask("/api/chat", &chat)["eval_count"], 2);
    let fit = served.ask("/models/fit", &json!({ "model": "org/Tiny-GGUF:F16", "context": 256 }));
    assert_eq!((&fit["fit"], &fit["context"], &fit["loaded"]), (&json!("fits"), &json!(256), &json!(false)));

    assert_eq!(served.post("/api/pull", &json!({ "model": "org/None-GGUF" })).status, 404);
    // Nobody makes the server ask another one.
    let before = server.requests().len();
    for name in ["http://127.0.0.1:1/evil/model", "evil.example/a/b", "https://evil.example/a/b:tag"] {
        assert_eq!(served.post("/api/pull", &json!({ "model": name })).status, 400, "{name}");
    }
    assert!(server.requests().is_empty() && before > 0);
}

#[test]
fn a_report_is_shown_to_browsers() {
    let home = Folder::new("manage-report");
    fs::write(home.path("report.html"), "<!doctype html><title>Report</title>").expect("written");
    let served = served(&home, NOWHERE, "--report report.html");
    let report = served.get("/report");
    assert_eq!((report.status, report.body.as_str()), (200, "<!doctype html><title>Report</title>"));
    assert!(
        report.head.contains("content-type: text/html") && report.head.contains("default-src 'none'"),
        "{}",
        report.head
    );
    assert_eq!(served.get("/v1/models").json()["gguf"]["report"], true);
}
