//! `gguf check`: every id of a finding is one that a test has seen, with its text.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use gguf_toolkit::TensorType;
use gguf_toolkit::check::{Finding, Options, check, check_reader};
use gguf_toolkit::files::Overwrite;
use gguf_toolkit::gguf::{Array, ByteOrder, Metadata, Reader, SplitWriter, TensorInfo, TensorSpec, Value, Writer};
use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::copy;
use super::shared::testdata;
use super::storyteller::f16;

/// The finding of this id, in all: `severity: text`.
fn found(findings: &[Finding], id: &str) -> String {
    let finding = findings.iter().find(|finding| finding.id == id);
    finding.map_or_else(|| format!("no {id}: {findings:?}"), |f| format!("{}: {}", f.severity.name(), f.text))
}

fn of_file(path: &Path) -> Vec<Finding> {
    check(path, Options { data: true }, &|_| {})
}

#[test]
fn no_id_is_without_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &Path| fs::read_to_string(path).expect("text");
    let tests =
        [text(&root.join("tests/integration/check.rs")), text(&root.join("tests/integration/check_ids.rs"))].concat();
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(root.join("src/check")).expect("a folder") {
        let source = text(&entry.expect("an entry").path());
        let quoted = source.split('"').filter(|text| {
            let of_id = |c: char| c.is_ascii_lowercase() || c == '-' || c == '.';
            let kinds = ["file.", "structure.", "model.", "tokenizer.", "template.", "data.", "checkpoint."];
            text.chars().all(of_id) && kinds.iter().any(|kind| text.starts_with(kind))
        });
        ids.extend(quoted.map(str::to_owned));
    }
    // A file's name in a message; and what no file leads to: control tokens that their own texts do not find.
    ids.retain(|id| id != "tokenizer.json" && id != "tokenizer.control-lost");
    assert!(ids.len() > 55, "{ids:?}");
    let untested: Vec<&String> = ids.iter().filter(|id| !tests.contains(&format!("\"{id}\""))).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// A file of two tensors of 32 bytes each.
fn two_tensors() -> Vec<u8> {
    let spec = |name: &str| TensorSpec { name: name.into(), shape: vec![8], ty: TensorType::F32 };
    let mut metadata = Metadata::new();
    metadata.set("general.type", "adapter");
    let mut writer = Writer::to_sink(Vec::new(), "two", &metadata, &[spec("aa"), spec("bb")]).expect("valid");
    writer.write_tensor(&[0; 64][..32]).expect("written");
    writer.write_tensor(&[0; 32]).expect("written");
    writer.into_sink().expect("complete")
}

#[test]
fn further_faults_of_the_structure() {
    let folder = Folder::new("check-ids-structure");
    let path = folder.path("f.gguf");
    let of = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = two_tensors();
        change(&mut bytes);
        fs::write(&path, bytes).expect("written");
        of_file(&path)
    };
    let at = |bytes: &[u8], name: &[u8; 2]| bytes.windows(2).position(|two| two == name).expect("a name") + 2;
    let shape = of(&|b| {
        let at = at(b, b"bb");
        b[at] = 9;
    });
    assert!(found(&shape, "structure.shape").ends_with("9 dimensions, the limit is 4"), "{shape:?}");
    let empty = of(&|b| {
        let at = at(b, b"bb") + 4;
        b[at] = 0;
    });
    assert_eq!(found(&empty, "structure.empty-tensor"), "warning: tensor bb has no elements");
    let gap = of(&|b| {
        let at = at(b, b"bb") + 4 + 8 + 4;
        b[at] = 96;
        b.extend([0; 64]);
    });
    assert_eq!(found(&gap, "structure.gap"), "warning: 64 bytes between tensors belong to no tensor");
    let utf8 = of(&|b| {
        let at = b.windows(7).position(|w| w == b"adapter").expect("a value");
        b[at] = 0xff;
    });
    let expected = "warning: key general.type: the text is not UTF-8; invalid bytes have been replaced";
    assert_eq!(found(&utf8, "structure.utf8"), expected);
    // Names that are too long are names; texts are values.
    let named = of(&|b| {
        let at = at(b, b"bb") - 2 - 8;
        b[at] = 64;
        b.extend([0; 256]);
    });
    assert!(found(&named, "structure.name").ends_with("64 bytes long, the limit is 63"), "{named:?}");
    // A header of 200 MiB.
    let mut header = b"GGUF".to_vec();
    header.extend(3_u32.to_le_bytes());
    header.extend([0_u64, 1, 1].iter().flat_map(|n| n.to_le_bytes()));
    header.push(b'k');
    header.extend([9_u32, 0].iter().flat_map(|n| n.to_le_bytes()));
    header.extend((200_u64 << 20).to_le_bytes());
    let file = fs::File::create(&path).expect("created");
    file.write_all_at(&header, 0).expect("written");
    file.set_len(300 << 20).expect("long");
    let size = of_file(&path);
    assert!(
        found(&size, "structure.size").contains("the header is larger than the limit of 134217728 bytes"),
        "{size:?}"
    );
    // The other byte order.
    let mut metadata = Metadata::new();
    metadata.set("general.type", "adapter");
    let big = folder.path("big.gguf");
    let spec = [TensorSpec { name: "a".into(), shape: vec![1], ty: TensorType::F32 }];
    let mut writer =
        Writer::create_in_order(&big, Overwrite::Refuse, ByteOrder::Big, &metadata, &spec).expect("created");
    writer.write_tensor(&1_f32.to_le_bytes()).expect("written");
    writer.finish().expect("finished");
    let expected = "error: big-endian file: `gguf edit FILE --byte-order little -o OUT` makes one for this machine";
    assert_eq!(found(&of_file(&big), "structure.endian"), expected);
    // A shard that is not there.
    let spec = |name: &str| vec![TensorSpec { name: name.into(), shape: vec![1], ty: TensorType::I8 }];
    let mut writer =
        SplitWriter::create(&folder.path("s.gguf"), Overwrite::Refuse, &Metadata::new(), &[spec("a"), spec("b")])
            .expect("created");
    writer.write_tensor(&[1]).expect("written");
    writer.write_tensor(&[1]).expect("written");
    writer.finish().expect("finished");
    fs::remove_file(folder.path("s-00002-of-00002.gguf")).expect("removed");
    let shard = of_file(&folder.path("s-00001-of-00002.gguf"));
    assert!(found(&shard, "structure.shard").contains("s-00002-of-00002.gguf: shard missing"), "{shard:?}");
    let device = of_file(Path::new("/dev/null"));
    assert!(found(&device, "file.read").contains("not a regular file"), "{device:?}");
    let writer = Writer::create(&folder.path("empty.gguf"), Overwrite::Refuse, &Metadata::new(), &[]).expect("created");
    writer.finish().expect("finished");
    let empty = of_file(&folder.path("empty.gguf"));
    assert_eq!(found(&empty, "model.empty"), "error: the file has neither tensors nor tokens");
}

/// The storyteller with other keys, and with tensors that `tensors` changes: their bytes stay, as far as there is room.
fn with(keys: &dyn Fn(&mut Metadata), tensors: &dyn Fn(&mut Vec<TensorSpec>)) -> Vec<Finding> {
    let sound = f16();
    let mut metadata = sound.metadata().clone();
    keys(&mut metadata);
    let mut specs: Vec<TensorSpec> = sound.tensors().iter().map(TensorSpec::from).collect();
    tensors(&mut specs);
    let mut writer = Writer::to_sink(Vec::new(), "changed", &metadata, &specs).expect("a layout");
    for spec in &specs {
        let bytes = spec.ty.bytes_for(spec.shape.iter().product()).expect("whole blocks");
        let data = sound.tensor(&spec.name).map(|info: &TensorInfo| sound.data(info).expect("data").to_vec());
        let mut data = data.unwrap_or_default();
        data.resize(usize::try_from(bytes).expect("small"), 1);
        writer.write_tensor(&data).expect("written");
    }
    let bytes = writer.into_sink().expect("complete");
    check_reader(&Reader::from_bytes("changed", bytes.into()).expect("opens"), Options { data: true }, &|_| {})
}

fn list(metadata: &Metadata, key: &str) -> Array {
    metadata.get(key).and_then(Value::as_array).expect("a list").clone()
}

#[test]
fn further_faults_of_the_model() {
    let add = |name: &'static str| {
        move |specs: &mut Vec<TensorSpec>| {
            specs.push(TensorSpec { name: name.into(), shape: vec![4], ty: TensorType::F32 });
        }
    };
    let integers = |specs: &mut Vec<TensorSpec>| {
        specs.iter_mut().find(|spec| spec.name == "blk.0.ffn_up.weight").expect("there").ty = TensorType::I16;
    };
    type Keys<'a> = &'a dyn Fn(&mut Metadata);
    type Tensors<'a> = &'a dyn Fn(&mut Vec<TensorSpec>);
    let cases: [(&str, &str, Keys<'_>, Tensors<'_>); 5] = [
        (
            "model.load",
            "error: changed: key llama.rope.freq_base: NaN, expected a finite float",
            &|m| m.set("llama.rope.freq_base", f32::NAN),
            &|_| {},
        ),
        (
            "model.settings",
            "error: key llama.block_count: 0, expected more than 0",
            &|m| m.set("llama.block_count", 0_u32),
            &|_| {},
        ),
        (
            "model.unexpected-tensor",
            "error: tensor blk.0.foo.weight: the architecture llama has no such tensor",
            &|_| {},
            &add("blk.0.foo.weight"),
        ),
        (
            "model.left-out",
            "warning: 1 tensors are left out, v.blk.0.attn_q.weight and others: images, sound and prediction of further \
             tokens are not computed",
            &|_| {},
            &add("v.blk.0.attn_q.weight"),
        ),
        ("model.type", "error: weights of type I16 cannot be run yet", &|_| {}, &integers),
    ];
    for (id, expected, keys, tensors) in cases {
        let findings = with(keys, tensors);
        assert!(found(&findings, id).starts_with(expected), "{id}: {findings:?}");
    }
    // A file that is cut while it is read.
    let folder = Folder::new("check-ids-data");
    let path = super::quantize_command::storyteller(&folder);
    let reader = Reader::open(&path).expect("opens");
    fs::OpenOptions::new().write(true).open(&path).expect("opens").set_len(1 << 20).expect("cut");
    let cut = check_reader(&reader, Options { data: true }, &|_| {});
    assert!(found(&cut, "data.read").contains("changed while it was read"), "{:?}", found(&cut, "data.read"));
}

#[test]
fn further_faults_of_the_tokenizer() {
    const MODEL: &str = "tokenizer.ggml.model";
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const KINDS: &str = "tokenizer.ggml.token_type";
    let bpe = |m: &mut Metadata| {
        m.set(MODEL, "gpt2");
        m.set("tokenizer.ggml.merges", Value::Array(Array::strings(["a b"])));
        m.set("tokenizer.ggml.pre", "gpt-2");
    };
    let kinds = |m: &Metadata| -> Vec<i32> {
        let kinds = list(m, KINDS).to_i64s().expect("numbers");
        kinds.into_iter().map(|kind| i32::try_from(kind).expect("small")).collect()
    };
    let more = |m: &mut Metadata| {
        let texts: Vec<Vec<u8>> =
            list(m, TOKENS).string_bytes().expect("texts").map(<[u8]>::to_vec).chain([b"extra".to_vec()]).collect();
        m.set(TOKENS, Value::Array(Array::strings(texts)));
        let kinds = [&kinds(m)[..], &[1]].concat();
        m.set(KINDS, Value::Array(Array::from(&kinds[..])));
        let scores = [&list(m, "tokenizer.ggml.scores").to_f32s().expect("floats")[..], &[0.0]].concat();
        m.set("tokenizer.ggml.scores", Value::Array(Array::from(&scores[..])));
        drop(m.remove("llama.vocab_size"));
    };
    type Keys<'a> = &'a dyn Fn(&mut Metadata);
    let cases: [(&str, &str, Keys<'_>); 10] = [
        ("template.type", "error: key tokenizer.chat_template is no string", &|m| {
            m.set("tokenizer.chat_template", 7_u32)
        }),
        ("tokenizer.missing-key", "error: key tokenizer.ggml.tokens is missing", &|m| drop(m.remove(TOKENS))),
        ("tokenizer.invalid", "error: key tokenizer.ggml.bos_token_id: expected a token id", &|m| {
            m.set("tokenizer.ggml.bos_token_id", "x");
        }),
        ("tokenizer.pre-missing", "warning: no tokenizer.ggml.pre: texts are split as default does", &|m| {
            bpe(m);
            drop(m.remove("tokenizer.ggml.pre"));
        }),
        (
            "tokenizer.encode",
            "error: `Hello, world! 3.14159 and 2026.`: no token for byte 0x20, and no unknown token",
            &bpe,
        ),
        (
            "tokenizer.round-trip",
            "warning: `Hello, world! 3.14159 and 2026.` comes back as `Hello, world! <0x33>",
            &|m| {
                let ordinary: Vec<i32> = kinds(m).into_iter().map(|kind| if kind == 6 { 1 } else { kind }).collect();
                m.set(KINDS, Value::Array(Array::from(&ordinary[..])));
            },
        ),
        ("tokenizer.no-row", "warning: 2049 tokens, but only 2048 rows of token_embd.weight", &more),
        ("tokenizer.no-bos", "error: add_bos_token is set, and there is no bos_token_id", &|m| {
            m.set("tokenizer.ggml.bos_token_id", u32::MAX);
            m.set("tokenizer.ggml.add_bos_token", true);
        }),
        ("tokenizer.no-eos", "error: add_eos_token is set, and there is no eos_token_id", &|m| {
            m.set("tokenizer.ggml.eos_token_id", u32::MAX);
            m.set("tokenizer.ggml.add_eos_token", true);
        }),
        ("tokenizer.no-end", "warning: no token ends an answer: neither eos_token_id nor eot_token_id", &|m| {
            m.set("tokenizer.ggml.eos_token_id", u32::MAX);
            drop(m.remove("tokenizer.ggml.eot_token_id"));
        }),
    ];
    let mut faults = Vec::new();
    for (id, expected, keys) in cases {
        let found = found(&with(keys, &|_| {}), id);
        if !found.starts_with(expected) {
            faults.push(format!("{id}: {found:.600}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn further_faults_of_checkpoints() {
    let folder = Folder::new("check-ids-checkpoint");
    let to = folder.path("st");
    let of = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(&to);
        copy(&testdata("storyteller"), &to);
        change(&to);
        of_file(&to)
    };
    let config = |path: &Path, file: &str, key: &str, value: Json| {
        let mut json: Json = serde_json::from_slice(&fs::read(path.join(file)).expect("there")).expect("JSON");
        json[key] = value;
        fs::write(path.join(file), json.to_string()).expect("written");
    };
    let header = |path: &Path, change: &dyn Fn(&mut Json, usize), more: &[u8]| {
        let path = path.join("model.safetensors");
        let bytes = fs::read(&path).expect("there");
        let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("eight"))).expect("small");
        let mut json: Json = serde_json::from_slice(&bytes[8..8 + len]).expect("JSON");
        let data = &bytes[8 + len..];
        change(&mut json, data.len());
        let json = json.to_string();
        fs::write(path, [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data, more].concat()).expect("written");
    };
    let added = |name: &'static str| {
        move |json: &mut Json, len: usize| {
            json[name] = json!({ "dtype": "F32", "shape": [1], "data_offsets": [len, len + 4] });
        }
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, &str, Change<'_>); 9] = [
        ("checkpoint.settings", "config.json: not known, and not looked at: novel_thing", &|path| {
            config(path, "config.json", "novel_thing", json!(1));
        }),
        ("checkpoint.settings", "class NoSuch is not known (`gguf convert --list` lists those that are)", &|path| {
            config(path, "config.json", "architectures", json!(["NoSuch"]));
        }),
        ("checkpoint.shape", "tensor model.norm.weight: shape [128, 2], expected [256]", &|path| {
            header(path, &|json, _| json["model.norm.weight"]["shape"] = json!([128, 2]), &[]);
        }),
        ("checkpoint.type", "tensor model.norm.weight: type I16 is not a type of weights", &|path| {
            header(path, &|json, _| json["model.norm.weight"]["dtype"] = json!("I16"), &[]);
        }),
        ("checkpoint.unexpected-tensor", "tensor model.layers.0.foo.weight: the model has no place for it", &|path| {
            header(path, &added("model.layers.0.foo.weight"), &[0; 4]);
        }),
        ("checkpoint.other-parts", "note: 1 tensors are no part of the text model", &|path| {
            header(path, &added("vision_tower.foo.weight"), &[0; 4]);
        }),
        ("checkpoint.tokenizer", "no tokenizer in this folder: tokenizer.json, tokenizer.model", &|path| {
            fs::remove_file(path.join("tokenizer.model")).expect("removed");
        }),
        ("checkpoint.invalid", "config.json: not valid JSON: EOF while parsing an object", &|path| {
            fs::write(path.join("config.json"), "{").expect("written");
        }),
        ("checkpoint.ends", "warning: end tokens for which a GGUF file has no key: ", &|path| {
            config(path, "generation_config.json", "eos_token_id", json!([2, 3, 500, 501, 502]));
        }),
    ];
    for (id, expected, change) in cases {
        let findings = of(change);
        assert!(found(&findings, id).contains(expected), "{id}: {findings:?}");
    }
    // Tokens beyond the embedding's rows, in a vocabulary whose other files know more.
    let fewer = of(&|path| {
        let entry = |n: usize| (format!("<extra_{n}>"), json!(2048 + n));
        let added: serde_json::Map<String, Json> = (0..3).map(entry).collect();
        fs::write(path.join("added_tokens.json"), Json::from(added).to_string()).expect("written");
    });
    assert_eq!(found(&fewer, "checkpoint.tokens"), "warning: 3 tokens have no row in the embedding");
}
