//! Models made of others: `gguf create`, `cp`, `show`, `ps`, `rm` and `prune`, in a store with Ollama's layout.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::checkpoint;
use super::pull::{done, files_in, gguf, model_bytes, program, refused};
use super::quantize_command::text;
use super::servers::sha256;

const STORE: &str = ".ollama/models";
const NOWHERE: &str = "http://127.0.0.1:9";

fn run(home: &Folder, arguments: &[&str]) -> Output {
    program(home.root(), NOWHERE, NOWHERE).args(arguments).output().expect("runs")
}

/// The small model as `base.gguf`, and a recipe beside it.
fn home(name: &str, recipe: &str) -> Folder {
    let home = Folder::new(name);
    fs::write(home.path("base.gguf"), model_bytes(&format!("{name}-model"))).expect("written");
    fs::write(home.path("Modelfile"), recipe).expect("written");
    home
}

fn manifest_path(home: &Folder, name: &str) -> PathBuf {
    home.path(STORE).join("manifests/registry.ollama.ai/library").join(name)
}

fn manifest(home: &Folder, name: &str) -> Json {
    serde_json::from_slice(&fs::read(manifest_path(home, name)).expect("a manifest")).expect("JSON")
}

fn blob(home: &Folder, layer: &Json) -> PathBuf {
    let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
    home.path(STORE).join("blobs").join(format!("sha256-{digest}"))
}

/// The layers of a manifest: their kinds and bytes. Each blob has the size and the checksum that the manifest says.
fn layers(home: &Folder, manifest: &Json) -> Vec<(String, Vec<u8>)> {
    let of = |layer: &Json| {
        let bytes = fs::read(blob(home, layer)).expect("a blob");
        assert_eq!(layer["size"], bytes.len());
        assert_eq!(layer["digest"], format!("sha256:{}", sha256(&bytes)));
        let kind = layer["mediaType"].as_str().expect("a type");
        (kind.strip_prefix("application/vnd.ollama.image.").unwrap_or(kind).to_owned(), bytes)
    };
    manifest["layers"].as_array().expect("layers").iter().map(of).collect()
}

const RECIPE: &str = "# A model of mine
from ./base.gguf
PARAMETER temperature 0
PARAMETER num_predict 6
PARAMETER seed 7
PARAMETER stop \"<never>\"
PARAMETER stop never too
TEMPLATE \"\"\"{{ if .System }}{{ .System }} {{ end }}{{ range .Messages }}{{ if ne .Role \"system\" }}{{ .Content }} {{ end }}{{ end }}\"\"\"
SYSTEM Once there was a cat.
MESSAGE user \"It was big.\"
MESSAGE assistant It was red.
LICENSE \"\"\"Free
as air\"\"\"
PARAMETER mirostat 1
";

#[test]
fn a_recipe_makes_what_ollama_reads() {
    let home = home("made-layout", RECIPE);
    let output = run(&home, &["create", "mine"]);
    done(&output);
    let told = text(&output.stderr);
    assert!(told.contains("Modelfile: PARAMETER mirostat (Ollama has it no more) is left out"), "{told}");
    let manifest = manifest(&home, "mine/latest");
    assert_eq!(
        (&manifest["schemaVersion"], manifest["mediaType"].as_str()),
        (&json!(2), Some("application/vnd.docker.distribution.manifest.v2+json"))
    );
    let found = layers(&home, &manifest);
    let kinds: Vec<&str> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["model", "template", "system", "params", "messages", "license"]);
    assert_eq!(found[0].1, fs::read(home.path("base.gguf")).expect("read"));
    assert_eq!(found[2].1, b"Once there was a cat.");
    let params: Json = serde_json::from_slice(&found[3].1).expect("JSON");
    assert_eq!(params, json!({ "temperature": 0.0, "num_predict": 6, "seed": 7, "stop": ["<never>", "never too"] }));
    let messages: Json = serde_json::from_slice(&found[4].1).expect("JSON");
    assert_eq!(messages[1], json!({ "role": "assistant", "content": "It was red." }));
    assert_eq!(found[5].1, b"Free\nas air");
    let config: Json =
        serde_json::from_slice(&fs::read(blob(&home, &manifest["config"])).expect("a blob")).expect("JSON");
    let expected = json!({ "model_format": "gguf", "model_family": "llama", "file_type": "F16", "model_type": "3.7M", "os": "linux" });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&config[name], value, "{config}");
    }
    // The weights are not on the disk twice.
    let (file, own) = (home.path("base.gguf"), blob(&home, &manifest["layers"][0]));
    let is_link = fs::metadata(&file).expect("there").ino() == fs::metadata(&own).expect("there").ino();
    assert!(is_link && told.contains("(hard link)") || told.contains("(reflink)"), "{told}");
    let new = told.lines().last().expect("a line").split(", of which ").nth(1).expect("a size");
    assert!(new.contains(" B are new") || new.starts_with("1.") && new.contains("KiB are new"), "{told}");
    // It is listed by its name, with the id that Ollama shows.
    let id = sha256(&fs::read(manifest_path(&home, "mine/latest")).expect("read"));
    let listed = done(&gguf("list", home.root(), NOWHERE)).to_owned();
    let line = listed.lines().find(|line| line.starts_with("mine:latest")).expect("listed");
    assert!(line.contains(&id[..12]) && line.contains("Ollama"), "{line}");
    let listed: Json = serde_json::from_str(done(&gguf("list --json", home.root(), NOWHERE))).expect("JSON");
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&json!(id), &json!("mine:latest")));
}

#[test]
fn what_was_made_is_shown_and_can_be_made_again() {
    let home = home("made-shown", RECIPE);
    done(&run(&home, &["create", "mine"]));
    let show = |option: &str| done(&run(&home, &["show", "mine", option])).to_owned();
    assert_eq!(show("--system"), "Once there was a cat.\n");
    assert_eq!(show("--license"), "Free\nas air\n");
    assert!(show("--template").starts_with("{{ if .System }}"));
    assert!(show("--parameters").lines().any(|line| line == "temperature                    0.0"));
    let object: Json = serde_json::from_str(&show("--json")).expect("JSON");
    assert_eq!((&object["schema_version"], &object["messages"][0]["content"]), (&json!(1), &json!("It was big.")));
    assert_eq!(object["capabilities"], json!(["completion"]));
    let sections = done(&run(&home, &["show", "mine"])).to_owned();
    for part in [
        "  Model\n    architecture        llama\n",
        "  Parameters\n",
        "  System\n    Once there was a cat.\n",
        "  License\n    Free\n    as air\n",
    ] {
        assert!(sections.contains(part), "{sections}");
    }
    // The recipe that is shown makes the same model: all blobs are there already.
    fs::write(home.path("again"), show("--modelfile")).expect("written");
    let made = run(&home, &["create", "again", "-f", "again", "--json"]);
    let made: Json = serde_json::from_str(done(&made)).expect("JSON");
    assert_eq!(made["new_bytes"], 0, "{made}");
    assert_eq!(manifest(&home, "again/latest"), manifest(&home, "mine/latest"));
    // A file of one's own is shown, too.
    assert!(done(&run(&home, &["show", "base.gguf"])).contains("parameters          3.7M"));
}

#[test]
fn made_models_answer_as_they_were_made() {
    let home = home("made-answers", RECIPE);
    done(&run(&home, &["create", "mine"]));
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}";
    fs::write(home.path("plain.jinja"), template).expect("written");
    fs::write(home.path("empty.json"), "").expect("written");
    let answer = |arguments: &[&str]| done(&run(&home, arguments)).to_owned();
    let made = answer(&["run", "mine", "And then"]);
    assert_eq!(made, answer(&["chat", "mine:latest", "And then"]));
    // The same by hand: the whole conversation as a text.
    let by_hand = answer(&[
        "chat",
        "base.gguf",
        "Once there was a cat. It was big. It was red. And then",
        "-t",
        "0",
        "-n",
        "6",
        "--chat-template",
        "plain.jinja",
    ]);
    assert_eq!(made, by_hand);
    // What the command line says holds.
    let other = answer(&["run", "mine", "And then", "-n", "12"]);
    assert!(other.starts_with(made.trim_end()) && other.len() > made.len(), "{made:?} {other:?}");
    assert_ne!(answer(&["run", "mine", "And then", "-s", "The dog sang."]), made);
}

#[test]
fn adapters_of_a_recipe_are_applied() {
    let home = home("made-adapter", "FROM base.gguf\nADAPTER lora.gguf\n");
    let storyteller = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/storyteller");
    super::adapters::write_small(&storyteller, &home.path("peft"));
    done(&run(&home, &["convert", "peft", "--base", "base.gguf", "-o", "lora.gguf"]));
    // Strong enough for other words.
    done(&run(&home, &["edit", "lora.gguf", "--set", "adapter.lora.alpha=f32:500", "--in-place"]));
    done(&run(&home, &["create", "mine"]));
    let manifest = manifest(&home, "mine/latest");
    assert_eq!(layers(&home, &manifest)[1], ("adapter".to_owned(), fs::read(home.path("lora.gguf")).expect("read")));
    let answer = |arguments: &[&str]| {
        let all = [arguments, &["Tell me a story about the sea.", "-t", "0", "-n", "100"]].concat();
        done(&run(&home, &all)).to_owned()
    };
    assert_eq!(answer(&["run", "mine"]), answer(&["chat", "base.gguf", "--lora", "lora.gguf"]));
    assert_ne!(answer(&["run", "mine"]), answer(&["chat", "base.gguf"]));
    // Nothing is left of one that cannot be made.
    let before = files_in(&home.path(STORE));
    fs::write(home.path("Modelfile"), "FROM base.gguf\nSYSTEM Only here.\nADAPTER base.gguf\n").expect("written");
    assert!(refused(&run(&home, &["create", "other", "-q", "Q8_0"])).contains("no adapter (LoRA)"));
    assert_eq!(files_in(&home.path(STORE)), before);
}

#[test]
fn models_are_quantized_and_converted_on_the_way() {
    let home = home("made-quantized", "FROM base.gguf\n");
    done(&run(&home, &["create", "small:q4", "-q", "q4_k_m"]));
    done(&run(&home, &["quantize", "base.gguf", "-t", "Q4_K_M", "-o", "expected.gguf"]));
    let made = manifest(&home, "small/q4");
    assert_eq!(layers(&home, &made)[0].1, fs::read(home.path("expected.gguf")).expect("read"));
    assert!(files_in(&home.path(STORE).join("blobs")).iter().all(|name| name.starts_with("sha256-")));
    // From a checkpoint, the file that convert makes.
    let folder = checkpoint(&home, "llama3");
    fs::write(home.path("Modelfile"), format!("FROM {}\n", folder.display())).expect("written");
    done(&run(&home, &["create", "converted"]));
    done(&run(&home, &["convert", folder.to_str().expect("UTF-8"), "-o", "converted.gguf"]));
    let made = manifest(&home, "converted/latest");
    assert_eq!(layers(&home, &made)[0].1, fs::read(home.path("converted.gguf")).expect("read"));
}

#[test]
fn one_model_is_made_from_another() {
    let home = home("made-from", RECIPE);
    done(&run(&home, &["create", "mine"]));
    fs::write(home.path("second"), "FROM mine\nSYSTEM Another.\nPARAMETER num_predict 3\n").expect("written");
    let made: Json =
        serde_json::from_str(done(&run(&home, &["create", "second", "-f", "second", "--json"]))).expect("JSON");
    assert_eq!(made["layers"][0]["how"], "a blob that is there already");
    let found = layers(&home, &manifest(&home, "second/latest"));
    let of = |kind: &str| found.iter().find(|(found, _)| found == kind).map(|(_, bytes)| bytes.clone()).expect(kind);
    assert_eq!(of("system"), b"Another.");
    let params: Json = serde_json::from_slice(&of("params")).expect("JSON");
    assert_eq!((&params["num_predict"], &params["seed"]), (&json!(3), &json!(7)), "settings are merged");
    assert!(of("template").starts_with(b"{{ if .System }}"));
    assert_eq!(of("license"), b"Free\nas air");
    // Names differ in more than case.
    done(&run(&home, &["create", "MINE", "-f", "second"]));
    assert!(manifest_path(&home, "mine/latest").exists() && !manifest_path(&home, "MINE").exists());
}

#[test]
fn a_further_name_takes_no_room() {
    let home = home("made-copied", RECIPE);
    done(&run(&home, &["create", "mine"]));
    let blobs = files_in(&home.path(STORE).join("blobs"));
    let output = run(&home, &["cp", "mine", "me/other:tag"]);
    done(&output);
    assert!(text(&output.stderr).contains("copied mine:latest to me/other:tag"), "{output:?}");
    assert_eq!(files_in(&home.path(STORE).join("blobs")), blobs);
    let copied = fs::read(home.path(STORE).join("manifests/registry.ollama.ai/me/other/tag")).expect("a manifest");
    assert_eq!(copied, fs::read(manifest_path(&home, "mine/latest")).expect("a manifest"));
    let names = |home: &Folder| -> Vec<String> {
        let listed: Json = serde_json::from_str(done(&gguf("list --json", home.root(), NOWHERE))).expect("JSON");
        listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|model| model["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&home), ["mine:latest", "me/other:tag"]);
    // Blobs stay as long as one of the two names them.
    done(&run(&home, &["rm", "mine"]));
    assert_eq!(files_in(&home.path(STORE).join("blobs")), blobs);
    let removed: Json = serde_json::from_str(done(&run(&home, &["rm", "me/other:tag", "--json"]))).expect("JSON");
    assert_eq!(removed[0]["removed"], true);
    assert!(files_in(&home.path(STORE)).is_empty());
    assert!(home.path("base.gguf").exists(), "the file of one's own stays");
}

/// Blobs that two models share go with the second of them.
#[test]
fn models_that_share_blobs_go_together() {
    let home = home("made-together", RECIPE);
    done(&run(&home, &["create", "mine"]));
    done(&run(&home, &["cp", "mine", "other"]));
    done(&run(&home, &["rm", "mine", "other"]));
    assert!(files_in(&home.path(STORE)).is_empty());
}

/// What another program has put into its store is neither removed nor replaced without --force.
#[test]
fn foreign_models_keep_their_names() {
    let home = home("made-foreign", RECIPE);
    done(&run(&home, &["create", "theirs"]));
    fs::remove_file(home.path(".local/share/gguf/fetched")).expect("a list");
    let before = fs::read(manifest_path(&home, "theirs/latest")).expect("read");
    assert!(refused(&run(&home, &["rm", "theirs"])).contains("it belongs to Ollama (--force removes it)"));
    for line in [&["create", "theirs"][..], &["cp", "base.gguf", "theirs"]] {
        let told = run(&home, line);
        let error = "error: theirs:latest: another program's model has this name (--force takes it)\n";
        assert!(refused(&told).ends_with(error), "{told:?}");
    }
    assert_eq!(fs::read(manifest_path(&home, "theirs/latest")).expect("read"), before);
    done(&run(&home, &["cp", "base.gguf", "theirs", "--force"]));
    assert_ne!(fs::read(manifest_path(&home, "theirs/latest")).expect("read"), before);
    // Now it is ours.
    done(&run(&home, &["rm", "theirs"]));
    // The blobs of the first one were Ollama's: they are left to it.
    assert!(done(&run(&home, &["prune", "--dry-run"])).is_empty());
}

#[test]
fn blobs_that_no_model_names_are_pruned() {
    let home = home("made-pruned", RECIPE);
    done(&run(&home, &["create", "mine"]));
    fs::remove_file(manifest_path(&home, "mine/latest")).expect("removed");
    let blobs = files_in(&home.path(STORE).join("blobs")).len();
    let dry: Json = serde_json::from_str(done(&run(&home, &["prune", "--dry-run", "--json"]))).expect("JSON");
    assert_eq!(dry["unused"].as_array().map(Vec::len), Some(blobs), "{dry}");
    fs::write(home.path(STORE).join("blobs").join(format!("sha256-{}", sha256(b"theirs"))), "theirs").expect("written");
    let output = run(&home, &["prune"]);
    done(&output);
    assert!(text(&output.stderr).contains(&format!("{blobs} unused blobs: ")), "{output:?}");
    assert_eq!(files_in(&home.path(STORE).join("blobs")).len(), 1, "the one that gguf has not put there");
}

#[test]
fn what_is_wrong_with_a_recipe_is_told() {
    let home = home("made-wrong", "");
    let told = |recipe: &str| {
        fs::write(home.path("Modelfile"), recipe).expect("written");
        let output = run(&home, &["create", "mine"]);
        let told = refused(&output).to_owned();
        assert!(told.lines().count() == 1 && files_in(&home.path(STORE)).is_empty(), "{told}");
        told.strip_prefix("error: ").expect("an error").trim_end().to_owned()
    };
    assert_eq!(told("SYSTEM x"), "Modelfile: no FROM: it names the model that another is made from");
    assert_eq!(
        told("FROM base.gguf\nSPEED 3"),
        "Modelfile: line 2: SPEED is no instruction: there are FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, LICENSE, MESSAGE"
    );
    assert!(
        told("FROM base.gguf\n\nPARAMETER speed 3")
            .starts_with("Modelfile: line 3: parameter speed: there is no such parameter, but num_ctx,")
    );
    assert_eq!(
        told("FROM base.gguf\nPARAMETER top_k many"),
        "Modelfile: line 2: parameter top_k: must be a whole number"
    );
    assert_eq!(told("FROM base.gguf\nSYSTEM \"\"\"a\nb"), "Modelfile: line 2: quotes are opened, and not closed");
    assert_eq!(
        told("FROM base.gguf\nMESSAGE robot hi"),
        "Modelfile: line 2: MESSAGE robot: a role is system, user or assistant"
    );
    assert_eq!(told("FROM base.gguf\nTEMPLATE {{ .Speed }}"), "the template: a conversation has no field .Speed");
    assert!(told("FROM none.gguf").starts_with("none.gguf: no such file"));
    assert!(told("FROM Modelfile").contains("not a GGUF file"));
    let output = run(&home, &["create", "../../evil"]);
    assert!(refused(&output).contains("not the name of a model"), "{output:?}");
    let output = run(&home, &["create", "mine", "-q", "Q9"]);
    assert!(refused(&output).contains("no such type"), "{output:?}");
}

#[cfg(feature = "serve")]
#[test]
fn ps_tells_what_a_server_has_loaded() {
    let home = home("made-ps", RECIPE);
    done(&run(&home, &["create", "mine"]));
    let served =
        super::served::Served::with(program(home.root(), NOWHERE, NOWHERE), "mine --on-demand --keep-alive 10m");
    let url = format!("http://{}", served.address);
    let output = run(&home, &["ps", "--url", &url]);
    assert_eq!((done(&output), text(&output.stderr)), ("", "no models are loaded\n"));
    served.ask("/models/load", &json!({ "model": "mine" }));
    let table = done(&run(&home, &["ps", "--url", &url])).to_owned();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("name") && lines[1].starts_with("mine:latest"), "{table}");
    assert!(lines[1].contains("100% CPU") && lines[1].trim_end().ends_with(" minutes from now"), "{table}");
    let json: Json = serde_json::from_str(done(&run(&home, &["ps", "--url", &url, "--json"]))).expect("JSON");
    assert_eq!(json[0]["id"], sha256(&fs::read(manifest_path(&home, "mine/latest")).expect("read")));
    assert!(refused(&run(&home, &["ps", "--url", NOWHERE])).contains("no server answers (--url names another)"));
}
