//! Shapes of published models, each as the necessary part of a `config.json`.

use serde_json::{Value as Json, json};

use crate::arch;

/// A shape for synthetic models.
#[derive(Clone, Copy)]
pub struct Shape {
    name: &'static str,
    /// The model that has this shape.
    like: &'static str,
    config: fn() -> Json,
}

macro_rules! shapes {
    ($($name:literal, $like:literal, $config:tt;)*) => {
        &[$(Shape { name: $name, like: $like, config: || json!($config) }),*]
    };
}

/// All shapes, including those whose architecture is not supported.
static SHAPES: &[Shape] = shapes! {
    "llama-tiny", "a llama for tests", {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 512,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true
    };
    "mixtral-tiny", "a mixture of experts for tests", {
        "architectures": ["MixtralForCausalLM"], "hidden_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 256, "vocab_size": 512,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "num_local_experts": 6, "num_experts_per_tok": 2, "tie_word_embeddings": false
    };
    "llama-1b", "Llama-3.2-1B", {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16, "head_dim": 64,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true
    };
    "llama-3b", "Llama-3.2-3B", {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 3072, "num_hidden_layers": 28, "head_dim": 128,
        "num_attention_heads": 24, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true
    };
    "llama-8b", "Llama-3.1-8B", {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": false
    };
    "mixtral-2b", "Mixtral with 8 small experts", {
        "architectures": ["MixtralForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 12,
        "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 3584, "vocab_size": 32000,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": false
    };
    "qwen3-0.6b", "Qwen3-0.6B", {
        "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 28, "head_dim": 128,
        "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 3072, "vocab_size": 151936,
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": true
    };
    "qwen3-4b", "Qwen3-4B", {
        "architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560, "num_hidden_layers": 36, "head_dim": 128,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 9728, "vocab_size": 151936,
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": true
    };
};

impl Shape {
    /// Every shape of the table whose architecture is supported.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        SHAPES.iter().filter(|shape| shape.class().is_some_and(|class| arch::by_class(&class).is_ok()))
    }

    /// The shape called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<&'static Self> {
        Self::all().find(|shape| shape.name == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The model that has this shape.
    #[must_use]
    pub fn like(&self) -> &'static str {
        self.like
    }

    /// Its settings, as a checkpoint's `config.json` has them.
    #[must_use]
    pub fn config(&self) -> Json {
        (self.config)()
    }

    fn class(&self) -> Option<String> {
        Some(self.config().get("architectures")?.get(0)?.as_str()?.to_owned())
    }
}
