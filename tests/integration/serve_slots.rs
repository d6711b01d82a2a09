//! States of slots in files: `POST /slots/{id}?action=save|restore|erase`.

use std::fs;
use std::process::Command;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::served::{Answer, Served, with};

const PROMPT: &str = "Once upon a time there was a little girl who had a red ball, and one day she";

fn start(folder: &Folder, options: &str) -> Served {
    Served::start(&format!("--slot-save-path {} {options}", folder.root().to_str().expect("UTF-8")))
}

fn completion(served: &Served, fields: &Json) -> Json {
    let body = json!({ "prompt": PROMPT, "n_predict": 12, "temperature": 0, "ignore_eos": true });
    served.ask("/completion", &with(body, fields))
}

fn act(served: &Served, slot: usize, action: &str, file: &str) -> Answer {
    served.post(&format!("/slots/{slot}?action={action}"), &json!({ "filename": file }))
}

/// The answer of an action that is done.
fn done(served: &Served, slot: usize, action: &str, file: &str) -> Json {
    let answer = act(served, slot, action, file);
    assert_eq!(answer.status, 200, "{action}: {}", answer.body);
    answer.json()
}

/// The names of the files in a folder.
fn files(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.root()).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn count(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| panic!("{json}"))
}

#[test]
fn a_state_survives_the_server_in_its_file() {
    let folder = Folder::new("serve-slots");
    let (whole, saved) = {
        let mut served = start(&folder, "--parallel 3");
        let whole = completion(&served, &json!({ "id_slot": 1 }));
        assert_eq!((&whole["id_slot"], &whole["timings"]["cache_n"]), (&json!(1), &json!(0)));
        let saved = done(&served, 1, "save", "one.bin");
        assert_eq!(count(&saved["n_saved"]), count(&whole["timings"]["prompt_n"]) + 12);
        assert_eq!((&saved["id_slot"], &saved["filename"]), (&json!(1), &json!("one.bin")));
        assert!(saved["timings"]["save_ms"].is_f64(), "{saved}");
        assert_eq!(count(&saved["n_written"]), fs::metadata(folder.path("one.bin")).expect("there").len());
        // What was answered is kept, whatever happens to the server.
        served.child.kill().expect("killed");
        served.child.wait().expect("ended");
        (whole, saved)
    };
    assert_eq!(files(&folder), ["one.bin"]);
    let served = start(&folder, "--parallel 3");
    let restored = done(&served, 2, "restore", "one.bin");
    assert_eq!((&restored["n_restored"], &restored["n_read"]), (&saved["n_saved"], &saved["n_written"]));
    assert!(restored["timings"]["restore_ms"].is_f64(), "{restored}");
    let (prompt, text) = (count(&whole["timings"]["prompt_n"]), whole["content"].as_str().expect("a text"));
    let again = completion(&served, &json!({}));
    // The text was found in its slot, and is the same from a file.
    assert_eq!((&again["id_slot"], &again["content"]), (&json!(2), &json!(text)));
    assert_eq!(again["timings"]["prompt_n"], 1);
    let further = completion(&served, &json!({ "prompt": format!("{PROMPT}{text} the") }));
    assert!(count(&further["timings"]["cache_n"]) >= prompt + 10, "{further}");
    let alone = start(&folder, "");
    assert_eq!(completion(&alone, &json!({ "prompt": format!("{PROMPT}{text} the") }))["content"], further["content"]);

    // What was erased is read again.
    let erased = done(&served, 2, "erase", "");
    assert!(count(&erased["n_erased"]) > prompt && erased["id_slot"] == 2, "{erased}");
    assert_eq!(count(&done(&served, 2, "erase", "")["n_erased"]), 0);
    assert_eq!(count(&completion(&served, &json!({}))["timings"]["prompt_n"]), prompt);
}

#[test]
fn a_slot_is_waited_for() {
    let folder = Folder::new("serve-slots-wait");
    let served = start(&folder, "--parallel 2");
    std::thread::scope(|scope| {
        let long = scope.spawn(|| completion(&served, &json!({ "id_slot": 1, "n_predict": 300 })));
        while served.metric("llamacpp:requests_processing") < 1.0 {
            assert!(!long.is_finished(), "it has ended before it was seen");
            std::thread::yield_now();
        }
        let next = scope.spawn(|| completion(&served, &json!({ "id_slot": 1, "prompt": "One day" })));
        let other = completion(&served, &json!({ "prompt": "One day", "n_predict": 1 }));
        assert_eq!(other["id_slot"], 0);
        assert_eq!(next.join().expect("answered")["id_slot"], 1);
        assert!(long.is_finished());
    });
    let saved = done(&served, 1, "save", "a.bin");
    assert!((12..30).contains(&count(&saved["n_saved"])), "{saved}");
    let (events, _) =
        served.post("/completion", &json!({ "prompt": "A", "n_predict": 2, "id_slot": 1, "stream": true })).events();
    assert!(events.len() > 1 && events.iter().all(|event| event["id_slot"] == 1), "{events:?}");
}

#[test]
fn what_is_wrong_is_told_without_a_path() {
    let folder = Folder::new("serve-slots-wrong");
    let keys = "--parallel 2 --api-key first --api-key second";
    let served = start(&folder, keys);
    let ask = |key: &str, path: &str, body: &str| {
        let answer = served.request("POST", path, &format!("Authorization: Bearer {key}\r\n"), body);
        let root = folder.root().to_str().expect("UTF-8");
        assert!(!answer.body.contains(root), "{}", answer.body);
        (answer.status, answer.body)
    };
    let prompt = json!({ "prompt": PROMPT, "n_predict": 4, "id_slot": 0 }).to_string();
    let file = json!({ "filename": "a.bin" }).to_string();
    // Nothing was computed in it.
    assert_eq!(ask("first", "/slots/0?action=save", &file).0, 400);
    assert_eq!(ask("first", "/completion", &prompt).0, 200);
    // Another key sees nothing of it.
    assert_eq!(ask("second", "/slots/0?action=save", &file).0, 400);
    assert_eq!(ask("second", "/slots/0?action=erase", "").1, r#"{"id_slot":0,"n_erased":0}"#);
    assert_eq!(ask("third", "/slots/0?action=save", &file).0, 401);
    assert_eq!(ask("first", "/slots/0?action=save", &file).0, 200);
    for (path, body, status) in [
        ("/slots/2?action=save", file.as_str(), 400),
        ("/slots/x?action=save", &file, 400),
        ("/slots/-1?action=save", &file, 400),
        ("/slots/0?action=move", &file, 400),
        ("/slots/0", &file, 400),
        ("/slots/0?action=save", "", 400),
        ("/slots/0?action=save", "{", 400),
        ("/slots/0?action=save", r#"{"filename":"../a.bin"}"#, 400),
        ("/slots/0?action=restore", r#"{"filename":"/etc/passwd"}"#, 400),
        ("/slots/0?action=restore", r#"{"filename":"b.bin"}"#, 404),
        ("/slots/0?action=restore", r#"{"filename":"a.bin","model":"other"}"#, 404),
    ] {
        let (found, said) = ask("first", path, body);
        assert_eq!(found, status, "{path} {body}: {said}");
    }
    let wanted = json!({ "prompt": PROMPT, "n_predict": 1, "id_slot": 2 }).to_string();
    assert!(ask("first", "/completion", &wanted).1.contains("id_slot must be a whole number from -1 to 1"));

    let mut bytes = fs::read(folder.path("a.bin")).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.path("changed.bin"), &bytes).expect("written");
    fs::write(folder.path("short.bin"), &bytes[..middle]).expect("written");
    fs::write(folder.path("other.bin"), "what is this").expect("written");
    for (name, why) in [("changed.bin", "damaged"), ("short.bin", "damaged"), ("other.bin", "no session")] {
        let (status, said) = ask("first", "/slots/1?action=restore", &json!({ "filename": name }).to_string());
        assert!(status == 400 && said.contains(why), "{name}: {said}");
    }
    // The whole one is of use to a server of the same settings alone.
    assert_eq!(ask("first", "/slots/1?action=restore", &file).0, 200);
    let short = start(&folder, "--ctx 16");
    let refused = act(&short, 0, "restore", "a.bin");
    assert!(refused.status == 400 && refused.body.contains("does not hold"), "{}", refused.body);
    let coarse = start(&folder, "--kv-type q8_0");
    let refused = act(&coarse, 0, "restore", "a.bin");
    assert!(refused.status == 400 && refused.body.contains("a cache of type"), "{}", refused.body);

    let without = Served::start("");
    assert_eq!(act(&without, 0, "save", "a.bin").status, 501);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gguf"));
    let output = command.args(["serve", "--port", "0", "--slot-save-path", "/nowhere"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a folder"));
}

/// A limit of the file size stands for a full disk.
#[cfg(target_os = "linux")]
#[test]
fn without_room_the_old_file_stays_and_others_are_served() {
    let folder = Folder::new("serve-slots-full");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 300 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gguf")]);
    let options = format!("--slot-save-path {}", folder.root().to_str().expect("UTF-8"));
    let served = Served::with(command, &options);
    completion(&served, &json!({ "id_slot": 0, "n_predict": 1, "prompt": "One" }));
    done(&served, 0, "save", "a.bin");
    let before = fs::read(folder.path("a.bin")).expect("written");
    completion(&served, &json!({ "id_slot": 0, "n_predict": 600, "prompt": "One" }));
    for name in ["a.bin", "b.bin"] {
        let refused = act(&served, 0, "save", name);
        assert_eq!(
            (refused.status, &refused.json()["error"]["type"]),
            (507, &json!("server_error")),
            "{}",
            refused.body
        );
    }
    assert_eq!(files(&folder), ["a.bin"]);
    assert_eq!(fs::read(folder.path("a.bin")).expect("read"), before);
    done(&served, 1, "restore", "a.bin");
    completion(&served, &json!({}));
}
