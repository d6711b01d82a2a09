//! Names of metadata keys. Those that begin with an architecture's name are made by [`of`].

/// The key `name` of the architecture `arch`: `llama.block_count`.
#[must_use]
pub fn of(arch: &str, name: &str) -> String {
    format!("{arch}.{name}")
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $key:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $key;)*
    };
}

/// What [`GENERAL_TYPE`] says of an adapter.
pub const ADAPTER: &str = "adapter";
/// What [`ADAPTER_TYPE`] says of a low-rank adapter.
pub const LORA: &str = "lora";
/// What the name of the first factor of a change ends with, after that of the tensor and a point.
pub const LORA_A: &str = "lora_a";
/// As [`LORA_A`], of the second factor.
pub const LORA_B: &str = "lora_b";

keys! {
    /// Architecture: names the other keys and the graph.
    GENERAL_ARCHITECTURE = "general.architecture";
    /// Kind of file (`model`, `adapter`, `imatrix` ...).
    GENERAL_TYPE = "general.type";
    /// Name of the model.
    GENERAL_NAME = "general.name";
    /// Parameters of the model, as its name gives them (`1B`).
    GENERAL_SIZE_LABEL = "general.size_label";
    /// Type that most tensors have, as llama.cpp numbers mixes.
    GENERAL_FILE_TYPE = "general.file_type";
    /// Version of the quantized formats (2).
    GENERAL_QUANTIZATION_VERSION = "general.quantization_version";
    /// Alignment of tensor data in bytes.
    GENERAL_ALIGNMENT = "general.alignment";

    /// Of an adapter: its kind ([`LORA`]).
    ADAPTER_TYPE = "adapter.type";
    /// Scale of an adapter's changes times their rank (`alpha`).
    ADAPTER_LORA_ALPHA = "adapter.lora.alpha";
    /// Tokens after which an adapter is active, for adapters that are not always active (aLoRA).
    ADAPTER_INVOCATION_TOKENS = "adapter.alora.invocation_tokens";

    /// Number of this shard, from 0.
    SPLIT_NO = "split.no";
    /// Number of shards.
    SPLIT_COUNT = "split.count";
    /// Tensors of all shards together.
    SPLIT_TENSORS_COUNT = "split.tensors.count";

    /// Number of layers (`ARCHITECTURE.block_count`).
    BLOCK_COUNT = "block_count";
    /// Context length that the model was trained for (`ARCHITECTURE.context_length`).
    CONTEXT_LENGTH = "context_length";
    /// Length of the hidden state (`ARCHITECTURE.embedding_length`).
    EMBEDDING_LENGTH = "embedding_length";

    /// Kind of tokenizer (`llama`, `gpt2` ...).
    TOKENIZER_MODEL = "tokenizer.ggml.model";
    /// Name of the pre-tokenizer.
    TOKENIZER_PRE = "tokenizer.ggml.pre";
    /// Texts of the tokens.
    TOKENIZER_TOKENS = "tokenizer.ggml.tokens";
    /// Types of the tokens.
    TOKENIZER_TOKEN_TYPE = "tokenizer.ggml.token_type";
    /// Number of types of tokens, each of which has an embedding of its own.
    TOKENIZER_TOKEN_TYPE_COUNT = "tokenizer.ggml.token_type_count";
    /// Scores of the tokens.
    TOKENIZER_SCORES = "tokenizer.ggml.scores";
    /// Merges of a byte-pair encoding.
    TOKENIZER_MERGES = "tokenizer.ggml.merges";
    /// Id of the begin-of-text token (BOS).
    TOKENIZER_BOS_ID = "tokenizer.ggml.bos_token_id";
    /// Id of the end-of-text token (EOS).
    TOKENIZER_EOS_ID = "tokenizer.ggml.eos_token_id";
    /// Id of the end-of-turn token (EOT).
    TOKENIZER_EOT_ID = "tokenizer.ggml.eot_token_id";
    /// Id of the end-of-message token (EOM), which ends a message to a tool.
    TOKENIZER_EOM_ID = "tokenizer.ggml.eom_token_id";
    /// Id of the unknown token.
    TOKENIZER_UNKNOWN_ID = "tokenizer.ggml.unknown_token_id";
    /// Id of the padding token.
    TOKENIZER_PADDING_ID = "tokenizer.ggml.padding_token_id";
    /// Whether BOS is put before a text.
    TOKENIZER_ADD_BOS = "tokenizer.ggml.add_bos_token";
    /// Whether EOS is put after a text.
    TOKENIZER_ADD_EOS = "tokenizer.ggml.add_eos_token";
    /// Whether the separator token is put between two texts.
    TOKENIZER_ADD_SEPARATOR = "tokenizer.ggml.add_sep_token";
    /// Whether a space is put before a text.
    TOKENIZER_ADD_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix";
    /// Whether runs of spaces count as one.
    TOKENIZER_REMOVE_EXTRA_SPACES = "tokenizer.ggml.remove_extra_whitespaces";
    /// Character map of a sentencepiece normalizer.
    TOKENIZER_CHARACTER_MAP = "tokenizer.ggml.precompiled_charsmap";
    /// Whether text is converted to lower case.
    TOKENIZER_LOWERCASE = "tokenizer.ggml.normalizer.lowercase";
    /// Whether accents are removed.
    TOKENIZER_STRIP_ACCENTS = "tokenizer.ggml.normalizer.strip_accents";
    /// Jinja template of a chat.
    TOKENIZER_CHAT_TEMPLATE = "tokenizer.chat_template";
    /// Names of further chat templates, each in a key of its own (`tokenizer.chat_template.NAME`).
    TOKENIZER_CHAT_TEMPLATES = "tokenizer.chat_templates";

    /// Ids of added tokens that include white space before them. Not a key of llama.cpp.
    ADDED_TOKENS_LSTRIP = "gguf.added_tokens.lstrip";
    /// Ids of added tokens that include white space after them. Not a key of llama.cpp.
    ADDED_TOKENS_RSTRIP = "gguf.added_tokens.rstrip";
    /// Ids of added tokens that are not matched within words. Not a key of llama.cpp.
    ADDED_TOKENS_SINGLE_WORD = "gguf.added_tokens.single_word";
    /// Ids of added tokens that are matched after normalization of the text. Not a key of llama.cpp.
    ADDED_TOKENS_NORMALIZED = "gguf.added_tokens.normalized";
}
