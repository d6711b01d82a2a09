//! What the fuzz targets do with a fuzzer's bytes: they are choices of the mutators that the test suite has as well
//! (`tests/mutants`), or a file as it is. A panic, and memory beyond ten times what is read and 64 MiB, end the process;
//! libFuzzer watches the time.
//!
//! `GGUF_FUZZ_TELL=1` says of each mutant what it is, to look at a finding.
#![allow(dead_code, unused_imports, reason = "what only the test suite uses")]

#[path = "../../integration/folder.rs"]
mod folder;
#[path = "../../integration/goldens.rs"]
mod goldens;
#[path = "../../mutants/mod.rs"]
mod mutants;
#[path = "../../integration/shared.rs"]
mod shared;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use folder::Folder;
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::gguf::{Reader, Writer};
use gguf_toolkit::safetensors::Checkpoint;
use mutants::{
    Checkpoints, Choices, Counting, Kind, Manifests, Models, Mutant, Sentencepieces, Stores, Subject, Templates,
    allowance, models::look, peak_of, run, specs,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TELLS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("GGUF_FUZZ_TELL").is_some());

/// Runs `work`, which reads so many bytes.
fn bounded(bytes: usize, work: impl FnOnce()) {
    let peak = peak_of(work);
    assert!(peak <= allowance(bytes), "{peak} bytes of memory for {bytes}");
}

fn mutate(subject: &RefCell<impl Subject>, bytes: &[u8]) {
    let mut choices = Choices::of_bytes(bytes);
    let mut subject = subject.borrow_mut();
    let Mutant { told, bytes, run } = subject.mutant(&mut choices);
    if *TELLS {
        eprintln!("{told}");
    }
    bounded(bytes, || {
        let outcome = run();
        if *TELLS {
            eprintln!("{outcome:?}");
        }
    });
}

/// A folder that stays until the process ends.
fn kept(name: &str) -> &'static Folder {
    Box::leak(Box::new(Folder::new(name)))
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $new:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(bytes: &[u8]) {
            thread_local! {
                static SUBJECT: RefCell<$type> = RefCell::new($new(kept(concat!("fuzz-", stringify!($name)))));
            }
            SUBJECT.with(|subject| mutate(subject, bytes));
        }
    )*};
}

subjects! {
    /// A model with odd hyper-parameters, whose tensors fit them.
    model: Models = Models::new;
    /// The settings of a checkpoint.
    config: Checkpoints = |folder: &Folder| Checkpoints::new(folder, &[], Kind::Config);
    /// The tokenizer of a checkpoint.
    tokenizer: Checkpoints = |folder: &Folder| Checkpoints::new(folder, &[], Kind::Tokenizer);
    /// The weights of a checkpoint, other lengths among them.
    weights: Checkpoints = |folder: &Folder| Checkpoints::new(folder, &[], Kind::Safetensors);
    /// A model card.
    card: Checkpoints = |folder: &Folder| Checkpoints::new(folder, &["qwen2"], Kind::Card);
    /// A sentencepiece model.
    sentencepiece: Sentencepieces = Sentencepieces::new;
    /// A chat template in Jinja or Go.
    template: Templates = |_: &Folder| Templates::new();
    /// A list of checksums, a recipe, a Modelfile.
    manifest: Manifests = |_: &Folder| Manifests;
    /// A manifest of Ollama's store, a reference of Hugging Face's cache.
    store: Stores = Stores::new;
}

/// A GGUF file as it is.
pub fn gguf(bytes: &[u8]) {
    bounded(bytes.len(), || {
        look(bytes);
        let outcome = run(bytes.to_vec());
        if *TELLS {
            eprintln!("{outcome:?}");
        }
    });
}

/// A safetensors file as it is.
pub fn safetensors(bytes: &[u8]) {
    bounded(bytes.len(), || {
        let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Bytes::from(bytes.to_vec())) else { return };
        for tensor in checkpoint.tensors() {
            let mut data = vec![0; usize::try_from(tensor.bytes()).expect("inside the file")];
            checkpoint.read_at(tensor, 0, &mut data).expect("inside");
        }
    });
}

/// Where `GGUF_FUZZ_SEEDS` names a folder, writes small valid files to it, of GGUF or safetensors: a fuzzer that begins with none
/// never leaves the header.
pub fn write_seeds(gguf: bool) {
    let Some(to) = std::env::var_os("GGUF_FUZZ_SEEDS") else { return };
    let to = Path::new(&to);
    fs::create_dir_all(to).expect("a folder");
    let folder = Folder::new("fuzz-seeds");
    for (name, reader) in mutants::goldens(&folder) {
        let (bytes, most) = if gguf {
            (whole(&reader), 150_000)
        } else {
            (fs::read(folder.path(&name).join("model.safetensors")).expect("there"), 60_000)
        };
        if bytes.len() < most {
            fs::write(to.join(name), bytes).expect("written");
        }
    }
}

/// The bytes of an opened file, written again.
fn whole(reader: &Reader) -> Vec<u8> {
    let mut writer = Writer::to_sink(Vec::new(), "m.gguf", reader.metadata(), &specs(reader)).expect("can be written");
    for tensor in reader.tensors() {
        writer.write_tensor(&reader.data(tensor).expect("in memory")).expect("written");
    }
    writer.into_sink().expect("whole")
}
