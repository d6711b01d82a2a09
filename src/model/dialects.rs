//! Translates files of other writers to llama.cpp's names. Ollama's own converter (2024 to 2026) uses architectures, keys and
//! tensors that llama.cpp does not know, and puts tensors for images into the same file. Their meaning is taken from the
//! translation in Ollama itself, which now runs llama.cpp (`llama/compat` of its repository).

use super::Warning;
use crate::gguf::{Array, Metadata, Reader, Value, keys};

/// A file's metadata and tensors with the names that families use.
pub(super) struct Translated {
    pub(super) metadata: Metadata,
    /// The name of each tensor of the file; `None` for one that is left out.
    pub(super) names: Vec<Option<String>>,
    pub(super) warnings: Vec<Warning>,
}

/// The names that a writer uses for a family.
struct Dialect {
    /// `general.architecture`.
    architecture: &'static str,
    /// llama.cpp's name of the architecture.
    family: &'static str,
    /// Keys of the architecture: llama.cpp's name, and the name in files that do not have that one.
    keys: &'static [(&'static str, &'static str)],
    /// Suffixes of tensor names, and their replacements.
    tensors: &'static [(&'static str, &'static str)],
    /// Further corrections of metadata.
    complete: fn(&mut Metadata, &Reader),
}

const PLAIN: Dialect = Dialect { architecture: "", family: "", keys: &[], tensors: &[], complete: |_, _| {} };

/// The bias of the time step in recurrent layers, whose name has no suffix.
const TIME_STEP: &[(&str, &str)] = &[(".ssm_dt", ".ssm_dt.bias")];

static DIALECTS: &[Dialect] = &[
    Dialect {
        architecture: "gemma3",
        family: "gemma3",
        keys: &[("rope.global.freq_base", "rope.freq_base"), ("rope.local.freq_base", "rope.freq_base_swa")],
        complete: gemma3,
        ..PLAIN
    },
    Dialect {
        architecture: "gemma4",
        family: "gemma4",
        tensors: &[(".ffn_gate_inp.per_expert_scale", ".ffn_down_exps.scale")],
        // The tokenizer uses merges, whatever the file says.
        complete: |metadata, _| {
            let merges = metadata.get(keys::TOKENIZER_MERGES).is_some();
            if merges && text(metadata, keys::TOKENIZER_MODEL) == Some("llama") {
                metadata.set(keys::TOKENIZER_MODEL, "gemma4");
            }
        },
        ..PLAIN
    },
    Dialect {
        architecture: "gptoss",
        family: "gpt-oss",
        tensors: &[
            (".attn_out.weight", ".attn_output.weight"),
            (".attn_out.bias", ".attn_output.bias"),
            (".attn_sinks", ".attn_sinks.weight"),
            (".ffn_norm.weight", ".post_attention_norm.weight"),
        ],
        complete: gpt_oss,
        ..PLAIN
    },
    Dialect { architecture: "olmo3", family: "olmo2", ..PLAIN },
    Dialect {
        architecture: "mistral3",
        family: "mistral3",
        keys: &[
            ("rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
            ("rope.scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
            ("rope.scaling.mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
            ("rope.scaling_beta", "attention.temperature_scale"),
        ],
        ..PLAIN
    },
    Dialect { architecture: "glm4moelite", family: "deepseek2", complete: glm4_moe_lite, ..PLAIN },
    Dialect {
        architecture: "lfm2",
        family: "lfm2",
        tensors: &[("output_norm.weight", "token_embd_norm.weight")],
        ..PLAIN
    },
    Dialect { architecture: "qwen3next", family: "qwen3next", tensors: TIME_STEP, ..PLAIN },
    Dialect { architecture: "qwen35", family: "qwen35", tensors: TIME_STEP, ..PLAIN },
    Dialect { architecture: "qwen35moe", family: "qwen35moe", tensors: TIME_STEP, ..PLAIN },
];

/// Prefixes of tensors for images, sound and MTP.
const LEFT_OUT: [&str; 5] = ["v.", "mm.", "a.", "mtp.", "model.vision_tower."];

/// Translates the names of a file to those that families use.
pub(super) fn translate(reader: &Reader) -> Translated {
    let mut metadata = reader.metadata().clone();
    let architecture = text(&metadata, keys::GENERAL_ARCHITECTURE).unwrap_or_default().to_owned();
    let dialect = DIALECTS.iter().find(|dialect| dialect.architecture == architecture).unwrap_or(&PLAIN);
    if dialect.family != architecture && !dialect.family.is_empty() {
        rename_architecture(&mut metadata, dialect);
    }
    for (from, to) in dialect.keys {
        let (from, to) = (keys::of(dialect.family, from), keys::of(dialect.family, to));
        if let (Some(value), None) = (metadata.get(&from).cloned(), metadata.get(&to)) {
            metadata.remove(&from);
            metadata.set(to, value);
        }
    }
    (dialect.complete)(&mut metadata, reader);
    let mut warnings = Vec::new();
    let names = names(reader, dialect, &mut warnings);
    cut_tokens(&mut metadata, reader, &mut warnings);
    Translated { metadata, names, warnings }
}

/// Replaces the prefix of the architecture's keys by the family's name.
fn rename_architecture(metadata: &mut Metadata, dialect: &Dialect) {
    let prefix = format!("{}.", dialect.architecture);
    let renamed = metadata.iter().map(|(key, value)| {
        let key = key.strip_prefix(&prefix).map_or_else(|| key.to_owned(), |key| keys::of(dialect.family, key));
        (key, value.clone())
    });
    *metadata = renamed.collect();
    metadata.set(keys::GENERAL_ARCHITECTURE, dialect.family);
}

fn names(reader: &Reader, dialect: &Dialect, warnings: &mut Vec<Warning>) -> Vec<Option<String>> {
    let mut left_out = Vec::new();
    let names = reader.tensors().iter().map(|info| {
        let name = info.name.as_str();
        if LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) {
            left_out.push(name);
            return None;
        }
        let renamed = dialect.tensors.iter().find_map(|(from, to)| {
            let name = format!("{}{to}", name.strip_suffix(from)?);
            reader.tensor(&name).is_none().then_some(name)
        });
        Some(renamed.unwrap_or_else(|| name.to_owned()))
    });
    let names = names.collect();
    if let Some(first) = left_out.first() {
        warnings.push(Warning::LeftOutTensors { count: left_out.len(), first: (*first).to_owned() });
    }
    names
}

/// Removes tokens without a row in the embedding (tokens for images, in some files).
fn cut_tokens(metadata: &mut Metadata, reader: &Reader, warnings: &mut Vec<Warning>) {
    // An embedding of another length is no table of tokens; what is wrong with it is said when it is loaded.
    let architecture = text(metadata, keys::GENERAL_ARCHITECTURE).unwrap_or_default();
    let length = metadata.get(&keys::of(architecture, "embedding_length")).and_then(Value::as_u64);
    let embedding = reader.tensor("token_embd.weight").filter(|info| info.shape.first().copied() == length);
    let rows = embedding.and_then(|info| usize::try_from(info.rows()).ok());
    let tokens = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).map(Array::len);
    let (Some(rows), Some(tokens)) = (rows, tokens) else { return };
    if rows == 0 || tokens <= rows {
        return;
    }
    let texts = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).and_then(Array::string_bytes);
    if let Some(kept) = texts.map(|texts| Array::strings(texts.take(rows))) {
        metadata.set(keys::TOKENIZER_TOKENS, Value::Array(kept));
    }
    for key in [keys::TOKENIZER_SCORES, keys::TOKENIZER_TOKEN_TYPE] {
        if let Some(kept) = metadata.get(key).and_then(Value::as_array).and_then(|array| array.kept(|i| i < rows)) {
            metadata.set(key, Value::Array(kept));
        }
    }
    warnings.push(Warning::TokensWithoutRow { tokens, rows });
}

/// Ollama's files of Gemma 3 leave out keys that are the same in all sizes, and the scaling of those with a long context.
fn gemma3(metadata: &mut Metadata, reader: &Reader) {
    const EPSILON: &str = "gemma3.attention.layer_norm_rms_epsilon";
    let by_ollama = metadata.get(EPSILON).is_none()
        || metadata.get("gemma3.mm.tokens_per_image").is_some()
        || reader.tensors().iter().any(|info| info.name.starts_with("v.") || info.name.starts_with("mm."));
    if !by_ollama {
        return;
    }
    let defaults = [(EPSILON, 1e-6), ("gemma3.rope.freq_base", 1e6), ("gemma3.rope.freq_base_swa", 1e4)];
    for (key, value) in defaults {
        set_missing(metadata, key, Value::F32(value));
    }
    let context = metadata.get("gemma3.context_length").and_then(Value::as_u64);
    let scaled = ["rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"];
    let scaled = scaled.iter().any(|key| metadata.get(&keys::of("gemma3", key)).is_some());
    if context.is_some_and(|length| length >= 131_072) && !scaled {
        metadata.set("gemma3.rope.scaling.type", "linear");
        metadata.set("gemma3.rope.scaling.factor", Value::F32(8.0));
    }
}

fn gpt_oss(metadata: &mut Metadata, reader: &Reader) {
    let rows = reader.tensor("blk.0.ffn_gate_exps.weight").and_then(|info| info.shape.get(1).copied());
    if let Some(rows) = rows.and_then(|rows| u32::try_from(rows).ok()) {
        set_missing(metadata, "gpt-oss.expert_feed_forward_length", Value::U32(rows));
    }
    set_missing(metadata, "gpt-oss.rope.scaling.type", Value::from("yarn"));
    // The files name the default pre-tokenizer.
    metadata.set(keys::TOKENIZER_PRE, "gpt-4o");
}

/// GLM 4.7 Flash: DeepSeek's network. The keys have the lengths of heads, where llama.cpp has the lengths of what is cached.
fn glm4_moe_lite(metadata: &mut Metadata, _: &Reader) {
    let number = |metadata: &Metadata, key: &str| {
        metadata.get(&keys::of("deepseek2", key)).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
    };
    let (rank, rope) = (number(metadata, "attention.kv_lora_rank"), number(metadata, "rope.dimension_count"));
    let head = number(metadata, "attention.key_length");
    if let (Some(rank), Some(rope), Some(head)) = (rank, rope, head) {
        let lengths = [
            ("attention.head_count_kv", 1),
            ("attention.key_length", rank.saturating_add(rope)),
            ("attention.value_length", rank),
            ("attention.key_length_mla", head),
            ("attention.value_length_mla", head),
        ];
        lengths.into_iter().for_each(|(key, length)| metadata.set(keys::of("deepseek2", key), Value::U32(length)));
    }
    metadata.set(keys::TOKENIZER_PRE, "glm4");
}

fn set_missing(metadata: &mut Metadata, key: &str, value: Value) {
    if metadata.get(key).is_none() {
        metadata.set(key, value);
    }
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str)
}
