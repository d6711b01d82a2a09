//! `gguf pull` against servers that behave and servers that do not: what has a name is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::quantize_command::{storyteller, text};
use super::servers::{COMMIT, Hub, Registry, Reply, Request, Server, git_name, ranged, sha256};

const MIB: usize = 1 << 20;

/// The program of a user whose home is `home`, and who uses servers at these addresses.
pub(crate) fn program(home: &Path, hub: &str, registry: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    for name in [
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "OLLAMA_MODELS",
        "LLAMA_CACHE",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "GGUF_MODELS",
        "ALL_PROXY",
        "all_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("HF_ENDPOINT", hub).env("GGUF_OLLAMA_REGISTRY", registry);
    command.current_dir(home).stdin(Stdio::null());
    command
}

pub(crate) fn gguf(line: &str, home: &Path, hub: &str) -> Output {
    program(home, hub, hub).args(line.split_whitespace()).output().expect("runs")
}

pub(crate) fn done(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn refused(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(2), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

/// Bytes that no two places have in common.
pub(crate) fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed >> 16).to_le_bytes()[..6]);
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn model_bytes(name: &str) -> Vec<u8> {
    let folder = Folder::new(name);
    fs::read(storyteller(&folder)).expect("read")
}

fn repository(home: &Folder) -> PathBuf {
    home.path(".cache/huggingface/hub/models--org--Tiny-GGUF")
}

/// The names below a folder, folders left out.
pub(crate) fn files_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("inside").display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn repositories_land_in_the_cache_of_hugging_face() {
    let home = Folder::new("pull-hub");
    let model = model_bytes("pull-hub-model");
    let hub = Hub::default()
        .with("org/Tiny-GGUF", "README.md", "# Tiny")
        .with("org/Tiny-GGUF", "tiny-Q4_K_M.gguf", model.clone())
        .with("org/Tiny-GGUF", "tiny-Q8_0.gguf", noise(2000, 1))
        .with("org/Tiny-GGUF", "mmproj-tiny-F16.gguf", noise(1500, 2))
        .with("org/Tiny-GGUF", "BF16/ti ny-BF16-00001-of-00002.gguf", noise(1200, 3))
        .with("org/Tiny-GGUF", "BF16/ti ny-BF16-00002-of-00002.gguf", noise(500, 4));
    let server = hub.start();
    let output = gguf("pull org/Tiny-GGUF", home.root(), &server.url);
    let folder = repository(&home);
    let file = folder.join("snapshots").join(COMMIT).join("tiny-Q4_K_M.gguf");
    assert_eq!(done(&output), format!("{}\n", file.display()));
    let told = text(&output.stderr);
    assert!(told.starts_with("org/Tiny-GGUF:Q4_K_M: the usual type (there is also "), "{told}");
    assert!(told.ends_with(", checksums match\n"), "{told}");
    assert_eq!(fs::read(&file).expect("read"), model);
    let link = fs::read_link(&file).expect("a link");
    assert_eq!(link, PathBuf::from(format!("../../blobs/{}", sha256(&model))));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).expect("a reference"), COMMIT);
    let mut expected = [
        format!("blobs/{}", sha256(&noise(1500, 2))),
        format!("blobs/{}", sha256(&model)),
        "refs/main".to_owned(),
        format!("snapshots/{COMMIT}/mmproj-tiny-F16.gguf"),
        format!("snapshots/{COMMIT}/tiny-Q4_K_M.gguf"),
    ];
    expected.sort();
    assert_eq!(files_in(&folder), expected);
    assert!(done(&gguf("inspect org/Tiny-GGUF", home.root(), &server.url)).contains("llama"));
    assert!(done(&gguf("list", home.root(), &server.url)).contains("org/Tiny-GGUF:Q4_K_M"));
    // Once more: nothing is fetched.
    server.requests();
    let output = gguf("pull hf.co/org/tiny-gguf:q4_k_m", home.root(), &server.url);
    assert!(refused(&output).contains("no such repository"), "names of servers have a case");
    let output = gguf("pull https://huggingface.co/org/Tiny-GGUF:q4_k_m", home.root(), &server.url);
    assert!(
        done(&output).ends_with("tiny-Q4_K_M.gguf\n") && text(&output.stderr).contains("here already"),
        "{output:?}"
    );
    assert!(server.requests().iter().all(|request| !request.is_for_a_file()));
    // A split one, with a blank in its name, as JSON.
    let output = gguf("pull org/Tiny-GGUF:BF16 --json --no-mmproj", home.root(), &server.url);
    let json: Json = serde_json::from_str(done(&output)).expect("JSON");
    assert_eq!((&json[0]["name"], &json[0]["bytes"]), (&json!("org/Tiny-GGUF:BF16"), &json!(1700)));
    let second = folder.join("snapshots").join(COMMIT).join("BF16/ti ny-BF16-00002-of-00002.gguf");
    assert_eq!(fs::read(second).expect("read"), noise(500, 4));
    assert!(folder.join("blobs").join(git_name(&noise(500, 4))).is_file(), "small files have git's names");
    // One file by its name, and one that there is not.
    done(&gguf("pull org/Tiny-GGUF/tiny-Q8_0.gguf", home.root(), &server.url));
    let told = gguf("pull org/Tiny-GGUF:Q6_K", home.root(), &server.url);
    let expected = "error: org/Tiny-GGUF:Q6_K: no file of this name or type; there is BF16, Q4_K_M, Q8_0\n";
    assert_eq!(refused(&told), expected);
}

#[test]
fn checkpoints_can_be_converted() {
    let home = Folder::new("pull-checkpoint");
    let mut hub = Hub::default();
    for entry in fs::read_dir(super::shared::testdata("storyteller")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        hub = hub.with("org/Teller", &name, fs::read(&path).expect("read"));
    }
    let server = hub.with("org/Teller", "pytorch_model.bin", noise(5000, 1)).start();
    let told = gguf("pull org/Teller", home.root(), &server.url);
    assert!(refused(&told).contains("a checkpoint in safetensors") && text(&told.stderr).contains("--checkpoint"));
    let output = gguf("pull org/Teller --checkpoint", home.root(), &server.url);
    let folder = home.path(&format!(".cache/huggingface/hub/models--org--Teller/snapshots/{COMMIT}"));
    assert_eq!(done(&output), format!("{}\n", folder.display()));
    assert!(!folder.join("pytorch_model.bin").exists());
    done(&gguf("convert org/Teller -t f16 -o teller.gguf", home.root(), &server.url));
}

#[test]
fn models_of_a_registry_land_in_the_store_of_ollama() {
    let home = Folder::new("pull-registry");
    let model = model_bytes("pull-registry-model");
    let layers: [(&str, &[u8]); 3] = [("model", &model), ("system", b"Be brief."), ("params", b"{\"temperature\":0}")];
    let mut registry = Registry::default().with("library/tiny:1b", &layers);
    let manifest = registry.manifest("library/tiny:1b").to_owned();
    let blobs = registry.clone();
    let elsewhere = Server::start(move |request| blobs.answer(request));
    registry.elsewhere = Some(elsewhere.url.clone());
    let server = Server::start(move |request| registry.answer(request));
    let output = program(home.root(), &server.url, &server.url).args(["pull", "tiny:1b"]).output().expect("runs");
    let store = home.path(".ollama/models");
    let blob = store.join(format!("blobs/sha256-{}", sha256(&model)));
    assert_eq!(done(&output), format!("{}\n", blob.display()));
    assert_eq!(fs::read(&blob).expect("read"), model);
    let path = store.join("manifests/registry.ollama.ai/library/tiny/1b");
    assert_eq!(fs::read_to_string(path).expect("read"), manifest);
    assert_eq!(files_in(&store.join("blobs")).len(), 4);
    assert!(elsewhere.requests().len() >= 4);
    assert!(done(&gguf("inspect tiny:1b", home.root(), &server.url)).contains("llama"));
    let told = gguf("pull tiny:70b", home.root(), &server.url);
    assert!(refused(&told).starts_with("error: tiny:70b: no such model at 127.0.0.1:"), "{told:?}");
    // A registry by its address.
    let output = gguf(&format!("pull {}/library/tiny:1b", server.url), home.root(), "https://nowhere.invalid");
    assert_eq!(done(&output), format!("{}\n", blob.display()));
    let host = server.url.trim_start_matches("http://");
    assert!(store.join(format!("manifests/{host}/library/tiny/1b")).is_file());
}

/// A repository with one large file, served by `serve_file`, which gets the request and the file's bytes.
fn faulty(bytes: Vec<u8>, serve_file: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    let hub = Hub::default().with("org/Tiny-GGUF", "tiny-Q8_0.gguf", bytes.clone());
    Server::start(
        move |request| {
            if request.is_for_a_file() { serve_file(request, &bytes) } else { hub.answer(request) }
        },
    )
}

/// That there is the whole file, or nothing of its name.
fn whole_or_nothing(home: &Folder, bytes: &[u8]) -> bool {
    let folder = repository(home);
    let blob = folder.join("blobs").join(sha256(bytes));
    let link = folder.join("snapshots").join(COMMIT).join("tiny-Q8_0.gguf");
    match fs::read(&blob) {
        Ok(found) => {
            assert!(found == bytes, "a file with other bytes has its name");
            assert!(link.exists());
            true
        }
        Err(_) => {
            assert!(fs::symlink_metadata(&link).is_err(), "a name that leads nowhere");
            false
        }
    }
}

#[test]
fn a_token_goes_to_its_server_alone() {
    let home = Folder::new("pull-token");
    let bytes = noise(3 * MIB, 7);
    let served = bytes.clone();
    let elsewhere = Server::start(move |request| ranged(request, &served));
    let to = elsewhere.url.clone();
    let server = faulty(bytes.clone(), move |_, _| Reply::redirect(&format!("{to}/cdn/file?signature=secret")));
    let pull = |home: &Folder| {
        let mut command = program(home.root(), &server.url, &server.url);
        command.args(["pull", "org/Tiny-GGUF"]).env("HF_TOKEN", "hf_0123456789").output().expect("runs")
    };
    done(&pull(&home));
    assert!(whole_or_nothing(&home, &bytes));
    let (asked, fetched) = (server.requests(), elsewhere.requests());
    assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer hf_0123456789")), "{asked:?}");
    assert!(!fetched.is_empty() && fetched.iter().all(|request| request.header("authorization").is_none()));
    assert!(fetched.iter().all(|request| request.path == "/cdn/file?signature=secret"));
    // The token that `hf auth login` keeps.
    let other = Folder::new("pull-token-file");
    fs::create_dir_all(other.path(".cache/huggingface")).expect("a folder");
    fs::write(other.path(".cache/huggingface/token"), "hf_fromfile\n").expect("written");
    done(&gguf("pull org/Tiny-GGUF", other.root(), &server.url));
    assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_fromfile")));
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn connections_that_break_cost_no_byte_that_came() {
    let home = Folder::new("pull-breaks");
    let bytes = noise(7 * MIB + 12_345, 9);
    // Every answer ends in the middle of its second piece.
    let server = faulty(bytes.clone(), |request, bytes| {
        let mut reply = ranged(request, bytes);
        reply.cut = Some(MIB + MIB / 2);
        reply
    });
    let output = gguf("pull org/Tiny-GGUF --connections 1", home.root(), &server.url);
    done(&output);
    assert!(whole_or_nothing(&home, &bytes));
    let starts: Vec<usize> =
        server.requests().iter().filter(|r| r.is_for_a_file()).filter_map(|r| Some(r.range()?.0 / MIB)).collect();
    assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6], "each goes on behind the last whole piece");
}

#[test]
fn what_an_earlier_run_has_fetched_is_not_asked_for_again() {
    let home = Folder::new("pull-resumes");
    let bytes = noise(6 * MIB, 11);
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    let server = faulty(bytes.clone(), move |request, bytes| {
        let mut reply = ranged(request, bytes);
        // The first answer has three pieces, then the server is gone for a while.
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply.cut = Some(3 * MIB),
            1..=2 => return Reply::new(500, "{\"error\":\"tired\"}"),
            _ => {}
        }
        reply
    });
    let told = gguf("pull org/Tiny-GGUF --connections 1 --retries 2", home.root(), &server.url);
    assert!(refused(&told).ends_with("the server answers 500: tired\n"), "{told:?}");
    assert!(!whole_or_nothing(&home, &bytes));
    let asked = server.requests().iter().filter_map(Request::range).count();
    assert_eq!(asked, 3);
    done(&gguf("pull org/Tiny-GGUF --connections 1", home.root(), &server.url));
    assert!(whole_or_nothing(&home, &bytes));
    let ranges: Vec<(usize, usize)> = server.requests().iter().filter_map(Request::range).collect();
    assert_eq!(ranges, [(3 * MIB, 6 * MIB - 1)]);
    assert_eq!(files_in(&repository(&home).join("blobs")), [sha256(&bytes)], "nothing else is left");
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let home = Folder::new("pull-killed");
    let bytes = noise(12 * MIB + 1, 13);
    let server = faulty(bytes.clone(), |request, bytes| {
        let mut reply = ranged(request, bytes);
        reply.pause = Duration::from_millis(4);
        reply
    });
    let mut moment = 1_u64;
    for _ in 0..20 {
        let mut command = program(home.root(), &server.url, &server.url);
        command.args(["pull", "org/Tiny-GGUF"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("runs");
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_millis((moment >> 33) % 250));
        let _ = child.kill();
        child.wait().expect("ends");
        whole_or_nothing_on_the_way(&home, &bytes);
    }
    done(&gguf("pull org/Tiny-GGUF", home.root(), &server.url));
    assert!(whole_or_nothing(&home, &bytes));
    assert_eq!(files_in(&repository(&home).join("blobs")), [sha256(&bytes)]);
}

/// As [`whole_or_nothing`], for a moment between the file's name and the link to it.
fn whole_or_nothing_on_the_way(home: &Folder, bytes: &[u8]) {
    let blob = repository(home).join("blobs").join(sha256(bytes));
    if let Ok(found) = fs::read(blob) {
        assert!(found == bytes, "a file with other bytes has its name");
    }
}

#[test]
fn of_two_at_once_one_fetches() {
    let home = Folder::new("pull-two");
    let bytes = noise(4 * MIB, 17);
    let server = faulty(bytes.clone(), |request, bytes| {
        let mut reply = ranged(request, bytes);
        reply.pause = Duration::from_millis(5);
        reply
    });
    let start = || {
        let mut command = program(home.root(), &server.url, &server.url);
        command.args(["pull", "org/Tiny-GGUF"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("runs")
    };
    let both = [start(), start()];
    for child in both {
        done(&child.wait_with_output().expect("ends"));
    }
    assert!(whole_or_nothing(&home, &bytes));
    let asked: usize = server.requests().iter().filter_map(Request::range).map(|(first, last)| last - first + 1).sum();
    assert_eq!(asked, bytes.len(), "each byte is asked for once");
}

#[test]
fn wrong_bytes_get_no_name() {
    let home = Folder::new("pull-wrong");
    let bytes = noise(2 * MIB, 19);
    let lies = Arc::new(AtomicUsize::new(1));
    let lying = Arc::clone(&lies);
    let server = faulty(bytes.clone(), move |request, bytes| {
        let mut reply = ranged(request, bytes);
        if lying.load(Ordering::SeqCst) > 0 {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let told = gguf("pull org/Tiny-GGUF", home.root(), &server.url);
    assert!(refused(&told).contains("the bytes that came are not the file's: their checksum is "), "{told:?}");
    assert!(!whole_or_nothing(&home, &bytes));
    assert!(files_in(&repository(&home)).is_empty(), "nothing is left of them");
    lies.store(0, Ordering::SeqCst);
    done(&gguf("pull org/Tiny-GGUF", home.root(), &server.url));
    assert!(whole_or_nothing(&home, &bytes));
    // What a crash has spoiled is found, and fetched once more.
    let other = Folder::new("pull-spoiled");
    let blobs = repository(&other).join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(blobs.join(format!("{}.gguf-part", sha256(&bytes))), noise(2 * MIB, 20)).expect("written");
    done(&gguf("pull org/Tiny-GGUF", other.root(), &server.url));
    assert!(whole_or_nothing(&other, &bytes));
}

#[test]
fn servers_without_ranges_are_taken_as_they_are() {
    let home = Folder::new("pull-ranges");
    let bytes = noise(9 * MIB, 23);
    let server = faulty(bytes.clone(), |_, bytes| Reply::new(200, bytes));
    done(&gguf("pull org/Tiny-GGUF", home.root(), &server.url));
    assert!(whole_or_nothing(&home, &bytes));
}

/// What a server may do to a request for a file, and what is said then.
#[test]
fn every_refusal_is_a_sentence_and_leaves_no_file() {
    type Serve = fn(&Request, &[u8]) -> Reply;
    let faults: [(Serve, &str); 14] = [
        (|_, _| Reply::new(401, "{}").with("x-error-code", "GatedRepo"), "accepted first: do so at http://127.0.0.1:"),
        (
            |_, _| Reply::new(403, "{}").with("x-error-code", "GatedRepo"),
            "then set HF_TOKEN to a token of your account",
        ),
        (|_, _| Reply::new(401, "Unauthorized"), "or it is private: then HF_TOKEN must be set"),
        (|_, _| Reply::new(403, ""), "refuses access (403)"),
        (|_, _| Reply::new(404, "").with("x-error-code", "EntryNotFound"), "no such file in this repository"),
        (|_, _| Reply::new(451, ""), "the repository is disabled"),
        (|_, _| Reply::new(429, "").with("retry-after", "0"), "too many requests; with a token (HF_TOKEN) more"),
        (|_, _| Reply::new(500, "{\"error\":\"out of order\"}"), "the server answers 500: out of order"),
        (|_, bytes| Reply::new(206, bytes).with("content-range", "bytes 5-9/10"), "the server sends bytes 5-9/10"),
        (|_, _| Reply::new(206, "hello"), "the server sends nothing"),
        (|_, _| Reply::new(200, "<html>log in at this hotel</html>"), "the server sends 33"),
        (|_, _| Reply::redirect("/org/Tiny-GGUF/resolve/x/again"), "redirected too often"),
        (|_, _| Reply::redirect("file:///etc/passwd"), "an address begins with https:// or http://"),
        (|request, bytes| Reply { cut: Some(0), ..ranged(request, bytes) }, "the connection broke"),
    ];
    let bytes = noise(MIB + 5, 29);
    for (number, (serve, said)) in faults.into_iter().enumerate() {
        let home = Folder::new(&format!("pull-fault-{number}"));
        let server = faulty(bytes.clone(), serve);
        let told = gguf("pull org/Tiny-GGUF --retries 1", home.root(), &server.url);
        let told = refused(&told);
        assert!(told.starts_with("error: ") && told.lines().count() == 1, "{number}: {told}");
        assert!(told.contains(said), "{number}: {told}");
        assert!(!told.contains("signature"), "{number}: {told}");
        assert!(!whole_or_nothing(&home, &bytes), "{number}");
    }
}

/// What a server may answer when it is asked what there is.
#[test]
fn listings_that_make_no_sense_are_refused() {
    let home = Folder::new("pull-listings");
    let file = |path: &str, size: Json| json!([{ "type": "file", "path": path, "size": size, "oid": "0".repeat(40) }]);
    let about = json!({ "id": "org/Tiny-GGUF", "sha": COMMIT });
    let cases = [
        (Reply::new(200, "<html>"), json!([]), "the answer is no JSON"),
        (Reply::json(&json!({ "sha": "../../evil" })), json!([]), "the answer names no commit"),
        (Reply::json(&about), json!({}), "the answer lists no files"),
        (Reply::json(&about), json!([]), "no GGUF files"),
        (Reply::json(&about), file("../../evil.gguf", json!(5)), "no GGUF files"),
        (Reply::json(&about), file("/tmp/evil.gguf", json!(5)), "no GGUF files"),
        (Reply::json(&about), file("a.gguf", json!(-5)), "no GGUF files"),
        (Reply::json(&about), file("a.gguf", json!(1_u64 << 49)), "no room: needs 562949953421312 bytes"),
        (Reply::new(401, "").with("x-error-code", "RepoNotFound"), json!([]), "no such repository"),
        (Reply::new(503, ""), json!([]), "the server answers 503"),
        (Reply::redirect("/api/models/org/Tiny-GGUF/revision/main"), json!([]), "redirected too often"),
    ];
    for (number, (first, tree, said)) in cases.into_iter().enumerate() {
        let server = Server::start(
            move |request| {
                if request.path.contains("/tree/") { Reply::json(&tree) } else { first.clone() }
            },
        );
        let told = gguf("pull org/Tiny-GGUF --retries 1", home.root(), &server.url);
        let told = refused(&told);
        assert!(told.contains(said) && told.lines().count() == 1, "{number}: {told}");
        assert!(files_in(home.root()).is_empty(), "{number}: {:?}", files_in(home.root()));
    }
    let nobody = gguf("pull org/Tiny-GGUF --retries 0", home.root(), "http://127.0.0.1:9");
    assert!(refused(&nobody).starts_with("error: cannot reach 127.0.0.1:9: "), "{nobody:?}");
    for (name, said) in [("../x", "not the name of a repository"), ("a b", "not the name of a model")] {
        let output = program(home.root(), "http://127.0.0.1:9", "http://127.0.0.1:9").args(["pull", name]).output();
        assert!(refused(&output.expect("runs")).contains(said));
    }
}

#[test]
fn nothing_is_asked_offline() {
    let home = Folder::new("pull-offline");
    let server = Hub::default().with("org/Tiny-GGUF", "tiny-Q8_0.gguf", model_bytes("pull-offline-model")).start();
    let told = gguf("pull org/Tiny-GGUF --offline", home.root(), &server.url);
    assert_eq!(refused(&told), "error: org/Tiny-GGUF: not on this machine, and nothing is fetched offline\n");
    let told = gguf("inspect org/Tiny-GGUF", home.root(), &server.url);
    assert!(refused(&told).contains("; gguf pull org/Tiny-GGUF may fetch it"), "{told:?}");
    assert!(server.requests().is_empty());
    let told = gguf("pull org/Tiny-GGUF --dry-run", home.root(), &server.url);
    assert!(done(&told).ends_with("  tiny-Q8_0.gguf\n") && files_in(home.root()).is_empty(), "{told:?}");
    done(&gguf("pull org/Tiny-GGUF", home.root(), &server.url));
    server.requests();
    let mut command = program(home.root(), &server.url, &server.url);
    let output = command.args(["pull", "org/Tiny-GGUF"]).env("HF_HUB_OFFLINE", "1").output().expect("runs");
    assert!(done(&output).ends_with("tiny-Q8_0.gguf\n") && server.requests().is_empty());
    // What is here is told as what would be fetched is.
    let told = gguf("pull org/Tiny-GGUF --offline --dry-run", home.root(), &server.url);
    assert!(done(&told).ends_with("  tiny-Q8_0.gguf  (here already)\n"), "{told:?}");
    let told = gguf("pull org/Tiny-GGUF --offline --json", home.root(), &server.url);
    let offline: Json = serde_json::from_str(done(&told)).expect("JSON");
    let told = gguf("pull org/Tiny-GGUF --json", home.root(), &server.url);
    let online: Json = serde_json::from_str(done(&told)).expect("JSON");
    for name in ["schema_version", "store", "bytes", "bytes_to_fetch", "files"] {
        assert_eq!(offline[0][name], online[0][name], "{name}");
    }
    let names = |object: &Json| object.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    assert_eq!(names(&offline[0]), names(&online[0]));
    server.requests();
    for (option, said) in
        [("--revision main", "error: --revision main: "), ("--checkpoint", "error: org/Tiny-GGUF: not on")]
    {
        let told = gguf(&format!("pull org/Tiny-GGUF --offline {option}"), home.root(), &server.url);
        assert!(refused(&told).starts_with(said), "{told:?}");
    }
    assert!(server.requests().is_empty());
}
