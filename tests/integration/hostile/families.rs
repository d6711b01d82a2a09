//! Every key and tensor of every family, broken one at a time: the model is refused by the key's or a tensor's name, or
//! runs a token; nothing panics, and no number in a file makes the program take much memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use gguf_toolkit::gguf::{Array, Metadata, Reader, TensorSpec, Value, Writer};

use super::super::folder::Folder;
use super::super::mutants::{goldens, run, specs};
use super::check_line;

/// Keys that a golden's network and tokenizer do not read: of experts, groups and rotary embeddings that it does not
/// have; of images; of chats. Empty lists of scores and kinds stand for none.
const UNREAD: &[(&str, &str)] = &[
    ("granitehybrid", "expert_used_count"),
    ("granitehybrid", "rope.dimension_count"),
    ("granitehybrid", "rope.freq_base"),
    ("granitehybridmoe", "rope.dimension_count"),
    ("granitehybridmoe", "rope.freq_base"),
    ("nemotronh", "rope.dimension_count"),
    ("nemotronh", "rope.scaling.finetuned"),
    ("nemotronhmoe", "expert_shared_count"),
    ("nemotronhmoe", "rope.dimension_count"),
    ("nemotronhmoe", "rope.scaling.finetuned"),
    ("phi3", "rope.scaling.original_context_length"),
    ("phimoe", "rope.scaling.original_context_length"),
    ("qwen35", "rope.dimension_sections"),
    ("qwen35moe", "rope.dimension_sections"),
    ("", "tokenizer.chat_template"),
    ("", "tokenizer.ggml.scores"),
    ("", "tokenizer.ggml.token_type"),
];

fn is_unread(golden: &str, key: &str) -> bool {
    let golden = golden.strip_suffix("mtp").unwrap_or(golden);
    UNREAD.iter().any(|(of, unread)| (of.is_empty() || *of == golden) && key.ends_with(unread))
}

/// The file with other metadata or tensors; a tensor of another size is cut or filled up.
fn rewrite(reader: &Reader, metadata: &Metadata, tensors: &[TensorSpec]) -> Vec<u8> {
    let mut writer = Writer::to_sink(Vec::new(), "m.gguf", metadata, tensors).expect("can be written");
    for tensor in tensors {
        let found = reader.tensors().iter().find(|info| info.name == tensor.name).expect("there");
        let mut data = reader.data(found).expect("in memory").to_vec();
        let bytes = tensor.ty.bytes_for(tensor.shape.iter().product()).expect("whole blocks");
        data.resize(bytes.try_into().expect("small"), 0);
        writer.write_tensor(&data).expect("written");
    }
    writer.into_sink().expect("whole")
}

/// What may stand in place of a value: none, numbers that hurt, other types.
fn others(value: &Value) -> Vec<Option<Value>> {
    let mut others = vec![
        None,
        Some(Value::U32(0)),
        Some(Value::U32(1)),
        Some(Value::U32(3)),
        Some(Value::U32(u32::MAX)),
        Some(Value::U64(u64::MAX)),
        Some(Value::I32(-1)),
        Some(Value::F32(f32::NAN)),
        Some(Value::F32(-1.0)),
        Some(Value::F32(f32::MAX)),
        Some(Value::String("none".into())),
        Some(Value::Bool(true)),
        Some(Value::Array(Array::from(&[][..] as &[i32]))),
        Some(Value::Array(Array::from(&[i32::MAX, 0][..]))),
    ];
    if let Value::Array(array) = value {
        let n = array.len();
        others.push(Some(Value::Array(Array::from(&vec![0; n][..]))));
        others.push(Some(Value::Array(Array::from(&vec![i32::MAX; n][..]))));
        others.push(Some(Value::Array(Array::bools(vec![true; n]))));
        others.push(Some(Value::Array(Array::bools(vec![false; n]))));
    }
    others
}

/// Whether a value is of a kind that can never stand in place of the other.
fn of_another_kind(value: &Value, other: &Value) -> bool {
    match other {
        Value::String(_) => value.as_str().is_none(),
        Value::Bool(_) => !matches!(value, Value::Bool(_)),
        Value::Array(array) => array.is_empty(),
        Value::F32(number) => number.is_nan(),
        _ => false,
    }
}

/// Every file with one key of the architecture broken: golden, key, what stands there, bytes.
fn with_broken_keys(all: &[(String, Reader)], mut visit: impl FnMut(&str, (&str, &Value), &Option<Value>, Vec<u8>)) {
    for (name, reader) in all {
        let tensors = specs(reader);
        for (key, value) in reader.metadata().iter() {
            let ours = !key.starts_with("general.") || key == "general.architecture";
            for other in others(value).into_iter().filter(|_| ours) {
                let mut metadata = Metadata::new();
                for (k, v) in reader.metadata().iter() {
                    match &other {
                        Some(other) if k == key => metadata.set(k, other.clone()),
                        None if k == key => {}
                        _ => metadata.set(k, v.clone()),
                    }
                }
                visit(name, (key, value), &other, rewrite(reader, &metadata, &tensors));
            }
        }
    }
}

#[test]
fn every_broken_key_is_refused_by_name_or_runs() {
    let folder = Folder::new("hostile-keys");
    let all = goldens(&folder);
    let (mut faults, mut refused, mut ran) = (Vec::new(), 0, 0);
    with_broken_keys(&all, |name, (key, value), other, bytes| {
        let case = || format!("{name}: {key} = {other:?}");
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| run(bytes))) {
            Err(_) => faults.push(format!("{} panics", case())),
            Ok(Ok(())) => {
                ran += 1;
                let unfit = other.as_ref().is_some_and(|other| of_another_kind(value, other));
                if unfit && !is_unread(name, key) {
                    faults.push(format!("{} runs", case()));
                }
            }
            Ok(Err(message)) => {
                check_line(&message, "m.gguf");
                refused += 1;
                let named = [key, "tensor ", "key ", "architecture "].iter().any(|name| message.contains(name));
                if !named {
                    faults.push(format!("{}: {message}", case()));
                }
            }
        }
        if start.elapsed() > Duration::from_secs(2) {
            faults.push(format!("{}: {:?}", case(), start.elapsed()));
        }
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(refused > 10_000 && ran > 1000, "{refused} refused, {ran} ran");
}

#[test]
fn every_broken_tensor_is_refused_by_name() {
    let folder = Folder::new("hostile-tensors");
    let (mut faults, mut refused) = (Vec::new(), 0);
    for (name, reader) in goldens(&folder) {
        let all = specs(&reader);
        // Blocks that predict further tokens are not looked at.
        let run_blocks = |tensor: &TensorSpec| !(name.ends_with("mtp") && tensor.name.starts_with("blk.3."));
        for (i, tensor) in all.iter().enumerate().filter(|(_, tensor)| run_blocks(tensor)) {
            let changed = |change: &dyn Fn(&mut TensorSpec)| {
                let mut all = all.clone();
                change(&mut all[i]);
                all
            };
            let mut without = all.clone();
            without.remove(i);
            let cases = [
                ("missing", without),
                ("longer", changed(&|tensor| tensor.shape[0] += 32)),
                ("empty", changed(&|tensor| tensor.shape[0] = 0)),
                ("one more dimension", changed(&|tensor| tensor.shape.push(2))),
                ("turned", changed(&|tensor| tensor.shape.reverse())),
                ("of integers", changed(&|tensor| tensor.ty = gguf_toolkit::TensorType::I32)),
            ];
            for (case, tensors) in cases {
                if case == "turned" && tensors[i].shape == tensor.shape || tensors.iter().any(|t| t.shape.len() > 4) {
                    continue;
                }
                let bytes = rewrite(&reader, reader.metadata(), &tensors);
                match catch_unwind(AssertUnwindSafe(|| run(bytes))) {
                    Err(_) => faults.push(format!("{name}: {} {case}: panics", tensor.name)),
                    // Some may be missing: an output matrix, biases, factors.
                    Ok(Ok(())) if case == "missing" => {}
                    Ok(Ok(())) => faults.push(format!("{name}: {} {case}: runs", tensor.name)),
                    Ok(Err(message)) => {
                        check_line(&message, "m.gguf");
                        refused += 1;
                        if !message.contains(&tensor.name) {
                            faults.push(format!("{name}: {} {case}: {message}", tensor.name));
                        }
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(refused > 5000, "{refused} refused");
}

/// Numbers that are too large, through the command, with 400 MB of address space.
#[test]
#[cfg(target_os = "linux")]
fn no_number_takes_much_memory() {
    let folder = Folder::new("hostile-numbers");
    let all = goldens(&folder);
    let mut cases = Vec::new();
    with_broken_keys(&all, |name, (key, _), other, bytes| {
        let large = match other {
            Some(Value::U32(n)) => *n == u32::MAX,
            Some(Value::Array(array)) => array.iter().next() == Some(Value::I32(i32::MAX)),
            _ => false,
        };
        if large && !key.starts_with("tokenizer.") {
            let file = format!("{}.gguf", cases.len());
            std::fs::write(folder.path(&file), bytes).expect("written");
            cases.push((file, format!("{name}: {key} = {other:?}")));
        }
    });
    let script = "ulimit -v 400000; for f in \"$@\"; do \"$0\" logits -j 1 --ids 1,2 --json \"$f\" >/dev/null 2>\"$f.err\"; echo $?; done";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_gguf")])
        .args(cases.iter().map(|(file, _)| file))
        .current_dir(folder.root())
        .output()
        .expect("runs");
    let codes = String::from_utf8(output.stdout).expect("text");
    assert_eq!(codes.lines().count(), cases.len(), "{codes}");
    for (code, (file, case)) in codes.lines().zip(&cases) {
        let error = std::fs::read_to_string(folder.path(&format!("{file}.err"))).expect("readable");
        assert!(matches!(code, "0" | "2"), "{case}: ends with {code}: {error}");
        assert!(!error.contains("memory"), "{case}: {error}");
    }
    assert!(cases.len() > 1000, "{}", cases.len());
}
