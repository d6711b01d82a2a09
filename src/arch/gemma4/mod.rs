//! Gemma 4: windows with heads of their own length, values normed, keys and values shared by later blocks, a token
//! embedding for every block, or experts beside the dense parts.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use super::graph::shared_caches;
use super::{Error, Hparams, TokenKey, keys};

/// The family.
pub(super) static GEMMA4: Family = Family {
    keys: config::keys,
    settings: &[
        ("hidden_activation", r#"["gelu_pytorch_tanh", "gelu_new"]"#),
        ("layer_types", r#"["sliding_attention", "full_attention"]"#),
        ("rope_type", r#"["default", "proportional"]"#),
        // Images alone are seen in both directions.
        ("use_bidirectional_attention", r#"[false, "vision"]"#),
    ],
    token_keys: |_| {
        let shown = SHOWN_TOKENS.iter().map(|text| TokenKey::Shown(text));
        [TokenKey::MergesOfCharacters, TokenKey::SpacePrefix(false)].into_iter().chain(shown).collect()
    },
    ..Family::new("gemma4", &["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"], tensors::rules, graph::spec)
};

/// Control tokens of which programs read channels and tools' calls.
const SHOWN_TOKENS: [&str; 7] =
    ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"];

/// What differs from block to block.
struct Blocks {
    /// Whether the block sees a window only.
    slides: Vec<bool>,
    /// Length of a head.
    head: Vec<usize>,
    /// The earlier block whose keys and values it reads.
    shares: Vec<Option<usize>>,
    /// Experts beside each dense part.
    experts: usize,
}

impl Blocks {
    fn new(h: &Hparams) -> Result<Self, Error> {
        let slides = h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?;
        let slides = slides.ok_or_else(|| h.bad_key(keys::SLIDING_WINDOW_PATTERN, "a boolean for each block"))?;
        let (sliding, full) = (h.positive(keys::KEY_LENGTH_SWA)?, h.positive(keys::KEY_LENGTH)?);
        for (key, length) in [(keys::VALUE_LENGTH_SWA, sliding), (keys::VALUE_LENGTH, full)] {
            if h.count_or(key, length)? != length {
                return Err(h.bad_key(key, "the length of keys"));
            }
        }
        let head = slides.iter().map(|&slides| if slides { sliding } else { full }).collect();
        let shares = shared_caches(h, &slides)?;
        Ok(Self { slides, head, shares, experts: h.count_or(keys::EXPERT_COUNT, 0)? })
    }
}
