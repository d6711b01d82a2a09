//! What is done with models of servers: `gguf run`, `rm`, `prune`, `browse`, and `inspect` of an address.

use std::fs;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::pull::{done, files_in, gguf, model_bytes, noise, program, refused};
use super::quantize_command::text;
use super::servers::{COMMIT, Hub, Registry, Reply, Server, ranged, sha256};

const REPOSITORY: &str = ".cache/huggingface/hub/models--org--Tiny-GGUF";

#[test]
fn run_fetches_once_and_chats() {
    let home = Folder::new("run");
    let model = model_bytes("run-model");
    let server = Hub::default()
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q8_0.gguf", noise(2000, 1))
        .start();
    let registry = Registry::default().with("library/tiny:1b", &[("model", &model)]);
    let registry = Server::start(move |request| registry.answer(request));
    let run = |line: &str| {
        let mut command = program(home.root(), &server.url, &registry.url);
        command.args(line.split_whitespace()).output().expect("runs")
    };
    let first = run("run org/Tiny-GGUF Once -n 8 -t 0 --seed 1");
    assert!(!done(&first).trim().is_empty() && text(&first.stderr).contains("checksums match"), "{first:?}");
    assert!(server.requests().iter().any(|request| request.path.ends_with("/tiny-Q4_K_M.gguf")));
    let second = run("run org/Tiny-GGUF Once -n 8 -t 0 --seed 1");
    assert_eq!(done(&second), done(&first));
    assert!(server.requests().is_empty(), "it is here");
    let chat = run("chat org/Tiny-GGUF Once -n 8 -t 0 --seed 1");
    assert_eq!(done(&chat), done(&first));
    let other = run("run tiny:1b Once -n 8 -t 0 --seed 1");
    assert_eq!(done(&other), done(&first));
    let told = run("run org/Other-GGUF Once");
    assert!(refused(&told).starts_with("error: org/Other-GGUF: no such repository"), "{told:?}");
    let told = run("run nowhere.gguf Once");
    assert!(refused(&told).starts_with("error: nowhere.gguf: no such file"), "{told:?}");
    let told = run("run org/Other-GGUF Once --offline");
    assert!(refused(&told).contains("nothing is fetched offline"), "{told:?}");
}

/// A model's system prompt and settings in Ollama's store hold where the command line says nothing else.
#[test]
fn layers_of_ollama_are_used() {
    let home = Folder::new("run-layers");
    let model = model_bytes("run-layers-model");
    let settings = b"{\"temperature\":0,\"num_predict\":5,\"seed\":1,\"unknown\":[1]}";
    let registry = Registry::default()
        .with("library/tiny:1b", &[("model", &model)])
        .with("library/set:1b", &[("model", &model), ("system", b"Tell of a cat."), ("params", settings)]);
    let server = Server::start(move |request| registry.answer(request));
    let run = |line: &str| {
        let mut command = program(home.root(), &server.url, &server.url);
        command.args(line.split_whitespace()).output().expect("runs")
    };
    let set = done(&run("run set:1b Once")).to_owned();
    let mut command = program(home.root(), &server.url, &server.url);
    let same =
        command.args(["run", "tiny:1b", "Once", "-t", "0", "-n", "5", "-s", "Tell of a cat."]).output().expect("runs");
    assert_eq!(done(&same), set);
    let longer = done(&run("run set:1b Once -n 40")).to_owned();
    assert!(longer.len() > set.len(), "{set:?} {longer:?}");
}

#[test]
fn what_gguf_has_fetched_it_removes() {
    let home = Folder::new("rm");
    let (model, other) = (model_bytes("rm-model"), noise(3000, 2));
    let server = Hub::default()
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q8_0.gguf", other.clone())
        .with("org/Tiny-GGUF", "mmproj-F16.gguf", noise(1500, 3))
        .start();
    done(&gguf("pull org/Tiny-GGUF org/Tiny-GGUF:Q8_0", home.root(), &server.url));
    let before = files_in(&home.path(REPOSITORY));
    let dry = gguf("rm org/Tiny-GGUF:Q8_0 --dry-run", home.root(), &server.url);
    assert_eq!(done(&dry).lines().count(), 2, "a link and a blob: {dry:?}");
    assert_eq!(files_in(&home.path(REPOSITORY)), before);
    let output = gguf("rm org/Tiny-GGUF:Q8_0", home.root(), &server.url);
    done(&output);
    assert_eq!(text(&output.stderr), "removed org/Tiny-GGUF:Q8_0: 2.93 KiB free\n");
    let gone = [format!("blobs/{}", sha256(&other)), format!("snapshots/{COMMIT}/tiny-Q8_0.gguf")];
    let left: Vec<String> = before.into_iter().filter(|file| !gone.contains(file)).collect();
    assert_eq!(files_in(&home.path(REPOSITORY)), left);
    // With the last model, its projector and the repository go.
    done(&gguf("rm org/Tiny-GGUF", home.root(), &server.url));
    assert!(!home.path(REPOSITORY).exists());
    // What another program has brought stays.
    done(&gguf("pull org/Tiny-GGUF --no-mmproj", home.root(), &server.url));
    fs::remove_file(home.path(".local/share/gguf/fetched")).expect("a list");
    let told = gguf("rm org/Tiny-GGUF", home.root(), &server.url);
    let expected = "error: org/Tiny-GGUF: gguf has not fetched it, it belongs to Hugging Face (--force removes it)\n";
    assert_eq!(refused(&told), expected);
    assert!(home.path(REPOSITORY).exists());
    let told = gguf("rm org/Tiny-GGUF nothing:here --force", home.root(), &server.url);
    assert!(refused(&told).starts_with("error: nothing:here: no such file"), "{told:?}");
    assert!(home.path(REPOSITORY).exists(), "nothing goes when a name is wrong");
    done(&gguf("rm org/Tiny-GGUF --force", home.root(), &server.url));
    assert!(!home.path(REPOSITORY).exists());
    let file = home.path("mine.gguf");
    fs::write(&file, &model).expect("written");
    assert!(refused(&gguf("rm ./mine.gguf --force", home.root(), &server.url)).contains("a path"));
    assert!(file.exists());
}

#[test]
fn another_name_of_the_same_bytes_stays() {
    let home = Folder::new("rm-same");
    let model = model_bytes("rm-same-model");
    let server = Hub::default()
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q8_0.gguf", model.clone())
        .start();
    done(&gguf("pull org/Tiny-GGUF org/Tiny-GGUF:Q8_0", home.root(), &server.url));
    done(&gguf("rm org/Tiny-GGUF:Q8_0", home.root(), &server.url));
    let left = home.path(REPOSITORY).join("snapshots").join(COMMIT).join("tiny-Q4_K_M.gguf");
    assert_eq!(fs::read(left).expect("still there"), model);
    assert!(!home.path(REPOSITORY).join("snapshots").join(COMMIT).join("tiny-Q8_0.gguf").exists());
}

#[test]
fn blobs_that_another_model_needs_stay() {
    let home = Folder::new("rm-ollama");
    let model = model_bytes("rm-ollama-model");
    let registry = Registry::default()
        .with("library/tiny:1b", &[("model", &model), ("system", b"Be brief.")])
        .with("library/tiny:latest", &[("model", &model), ("system", b"Be long.")]);
    let server = Server::start(move |request| registry.answer(request));
    done(&gguf("pull tiny:1b tiny", home.root(), &server.url));
    assert_eq!(files_in(&home.path(".ollama/models/blobs")).len(), 4);
    done(&gguf("rm tiny:1b", home.root(), &server.url));
    assert_eq!(files_in(&home.path(".ollama/models/blobs")).len(), 3);
    done(&gguf("inspect tiny", home.root(), &server.url));
    done(&gguf("rm tiny", home.root(), &server.url));
    assert!(files_in(&home.path(".ollama/models")).is_empty());
}

#[test]
fn unfinished_files_are_pruned() {
    let home = Folder::new("prune");
    let bytes = noise(3 << 20, 5);
    let hub = Hub::default().with("org/Tiny-GGUF", "tiny-Q8_0.gguf", bytes.clone());
    let server = Server::start(move |request| {
        let mut reply = hub.answer(request);
        reply.cut = request.is_for_a_file().then_some(2 << 20);
        reply
    });
    refused(&gguf("pull org/Tiny-GGUF --connections 1 --retries 0", home.root(), &server.url));
    let blobs = home.path(REPOSITORY).join("blobs");
    let part = format!("{}.gguf-part", sha256(&bytes));
    assert_eq!(files_in(&blobs), std::slice::from_ref(&part));
    let dry = gguf("prune --dry-run", home.root(), &server.url);
    assert_eq!(done(&dry), format!("{}\n", blobs.join(&part).display()));
    assert_eq!(files_in(&blobs), [part]);
    let output = gguf("prune", home.root(), &server.url);
    done(&output);
    assert!(text(&output.stderr).starts_with("1 unfinished file: ") && files_in(&blobs).is_empty(), "{output:?}");
}

#[test]
fn browse_shows_what_there_is_and_what_is_here() {
    let home = Folder::new("browse");
    let model = model_bytes("browse-model");
    let server = Hub::default()
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q8_0.gguf", noise(4096, 1))
        .with("other/Big-GGUF", "big-Q8_0.gguf", noise(2000, 2))
        .start();
    done(&gguf("pull org/Tiny-GGUF", home.root(), &server.url));
    let output = gguf("browse tiny --repositories --json", home.root(), &server.url);
    let json: Json = serde_json::from_str(done(&output)).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!((&json[0]["name"], &json[0]["here"]), (&json!("org/Tiny-GGUF"), &json!(true)));
    assert_eq!((&json[0]["downloads"], &json[0]["schema_version"]), (&json!(12_345), &json!(2)));
    let table = gguf("browse gguf -r", home.root(), &server.url);
    let lines: Vec<&str> = done(&table).lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("repository"), "{lines:?}");
    assert!(lines[1].ends_with("yes") && !lines[2].ends_with("yes"), "{lines:?}");
    // A text finds the models of all repositories that have it in their names.
    let table = gguf("browse gguf --no-speed", home.root(), &server.url);
    let lines: Vec<&str> = done(&table).lines().collect();
    assert!(lines[0].starts_with("name") && lines[0].contains("fit") && lines.len() == 4, "{lines:?}");
    assert!(lines[1].starts_with("org/Tiny-GGUF:Q4_K_M ") || lines[3].starts_with("org/Tiny-GGUF:"), "{lines:?}");
    let here: Vec<&&str> = lines.iter().filter(|line| line.ends_with("yes")).collect();
    assert!(here.len() == 1 && here[0].contains(":Q4_K_M"), "{lines:?}");
    let output = gguf("browse org/Tiny-GGUF --json", home.root(), &server.url);
    let json: Json = serde_json::from_str(done(&output)).expect("JSON");
    let shown = |n: usize| (json[n]["name"].clone(), json[n]["bytes"].clone(), json[n]["here"].clone());
    assert_eq!(shown(0), (json!("org/Tiny-GGUF:Q4_K_M"), json!(model.len()), json!(true)));
    assert_eq!(shown(1), (json!("org/Tiny-GGUF:Q8_0"), json!(4096), json!(false)));
    assert_eq!((&json[0]["fit"], &json[0]["basis"]), (&json!("fits"), &json!("header")));
    assert!(json[0]["answer_tokens_per_second"].as_f64().is_some_and(|speed| speed > 0.0), "{json}");
    // It is no model: what is known of it is told by the other one, and by its size.
    assert_eq!((&json[1]["fit"], &json[1]["basis"]), (&json!("fits"), &json!("scaled")));
    assert_eq!(json[1]["cache_bytes"], json[0]["cache_bytes"]);
    let table = gguf("browse org/Tiny-GGUF", home.root(), &server.url);
    assert!(done(&table).contains("org/Tiny-GGUF:Q8_0 ") && done(&table).contains("4.00 KiB"), "{table:?}");
    let output = gguf("browse other/Big-GGUF --json", home.root(), &server.url);
    let json: Json = serde_json::from_str(done(&output)).expect("JSON");
    assert_eq!((&json[0]["basis"], &json[0]["needs_bytes"]), (&json!("size"), &json!(2000 + 250 + (256 << 20))));
    assert_eq!(json[0]["answer_tokens_per_second"], Json::Null);
    let told = gguf("browse org/None", home.root(), &server.url);
    assert!(refused(&told).starts_with("error: org/None: no such repository"), "{told:?}");
}

/// A badge says what `inspect --fit` says, and what a type costs is measured where the model is known.
#[test]
fn badges_are_the_estimate_of_inspect() {
    let home = Folder::new("browse-fit");
    let model = model_bytes("browse-fit-model");
    fs::write(home.path("local.gguf"), &model).expect("written");
    done(&gguf("quantize local.gguf -t Q4_K_M -o small.gguf", home.root(), ""));
    let small = fs::read(home.path("small.gguf")).expect("read");
    let server = Hub::default()
        .with("org/Tiny-GGUF", "tiny-F16.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", small)
        .start();
    for options in ["--ctx 300", "--ctx 2000 --kv-type q8_0"] {
        let output = gguf(&format!("browse org/Tiny-GGUF --json --no-speed {options}"), home.root(), &server.url);
        let found: Json = serde_json::from_str(done(&output)).expect("JSON");
        for (i, file) in ["local.gguf", "small.gguf"].iter().enumerate() {
            let output = gguf(&format!("inspect {file} --fit --json {options}"), home.root(), &server.url);
            let told: Json = serde_json::from_str(done(&output)).expect("JSON");
            let told = &told[0]["fit"]["contexts"][0];
            let pairs = [
                ("needs_bytes", "total_bytes"),
                ("weight_bytes", "weight_bytes"),
                ("cache_bytes", "cache_bytes"),
                ("fit", "verdict"),
            ];
            for (own, other) in pairs {
                assert!(found[i][own] == told[other] && !told[other].is_null(), "{file} {own}: {} {told}", found[i]);
            }
        }
        assert_eq!((&found[1]["mean_kl"], &found[1]["quality"]), (&json!(0.0252), &json!("small loss")));
        assert_eq!(
            (&found[1]["quality_evidence"], &found[0]["quality_evidence"]),
            (&json!("measured"), &json!("published"))
        );
        assert!(found[1]["bits_per_weight"].as_f64().is_some_and(|bits| (5.0..5.3).contains(&bits)), "{found}");
    }
}

#[test]
fn a_model_is_inspected_where_it_lies() {
    let home = Folder::new("remote");
    let model = model_bytes("remote-model");
    let hub = Hub::default().with("org/Tiny-GGUF", "tiny-F16.gguf", model.clone());
    let hub = hub.start();
    fs::write(home.path("local.gguf"), &model).expect("written");
    let local = gguf("inspect local.gguf --json --full", home.root(), &hub.url);
    let mut expected: Json = serde_json::from_str(done(&local)).expect("JSON");
    let bytes = model.clone();
    let files = Server::start(move |request| match request.path.as_str() {
        "/models/tiny.gguf?signature=secret" => ranged(request, &bytes),
        "/whole.gguf" => Reply::new(200, bytes.clone()),
        "/text.gguf" => ranged(request, b"<html>not a model</html>"),
        "/cut.gguf" => Reply { cut: Some(1000), ..ranged(request, &bytes) },
        "/start.gguf" => ranged(request, &bytes[..300_000]),
        _ => Reply::new(404, ""),
    });
    let address = format!("{}/models/tiny.gguf?signature=secret", files.url);
    let names = [
        address.as_str(),
        &format!("{}/whole.gguf", files.url),
        "hf://org/Tiny-GGUF",
        "hf://org/Tiny-GGUF/tiny-F16.gguf",
    ];
    for name in names {
        let remote = gguf(&format!("inspect {name} --json --full"), home.root(), &hub.url);
        let mut found: Json = serde_json::from_str(done(&remote)).expect("JSON");
        for model in [&mut expected[0], &mut found[0]] {
            // Where it lies is the one difference.
            model["path"] = Json::Null;
            model["files"][0]["path"] = Json::Null;
        }
        assert!(found == expected, "{name}");
    }
    let asked: usize = files
        .requests()
        .iter()
        .filter(|request| request.path.starts_with("/models"))
        .filter_map(super::servers::Request::range)
        .map(|(first, last)| last - first + 1)
        .sum();
    assert!(asked < model.len() / 4, "{asked} of {} bytes were asked for", model.len());
    assert!(files_in(home.root()).iter().all(|file| file == "local.gguf"), "nothing is kept");
    for (path, said) in [
        ("none.gguf", "the server answers 404"),
        ("text.gguf", "not a GGUF file"),
        ("cut.gguf", "the connection broke: "),
        ("start.gguf", "the file at 300000 (truncated download?)"),
    ] {
        let told = gguf(&format!("inspect {}/{path}", files.url), home.root(), &hub.url);
        let told = refused(&told);
        assert!(told.lines().count() == 1 && told.contains(said), "{path}: {told}");
    }
}
