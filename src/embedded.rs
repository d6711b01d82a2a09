//! The embedded model: a small Llama that tells stories, as a checkpoint, with a text for measuring perplexity.

use crate::convert::Folder;

macro_rules! files {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../testdata/storyteller/", $name)) as &[u8])),*]
    };
}

/// The checkpoint.
#[must_use]
pub fn storyteller() -> Folder {
    Folder::Memory {
        name: "storyteller".into(),
        files: files![
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.model",
            "tokenizer_config.json"
        ],
    }
}

/// Text that the model has not been trained on (from *War and Peace*, public domain).
#[must_use]
pub fn held_out_text() -> &'static str {
    include_str!("../testdata/storyteller/heldout.txt")
}
