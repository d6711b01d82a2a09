//! Architectures of llama.cpp that are asked for and not run: what each would need.

/// `general.architecture`, and what is missing to run it.
const MISSING: &[(&str, &str)] = &[
    ("arwkv7", "RWKV's recurrence"),
    ("bailingmoe2", "its attention with normed heads and one tensor beside groups of experts"),
    ("bitnet", "norms within attention and feed-forward parts"),
    ("deepseek4", "compressed attention with hyper-connections"),
    ("grok", "experts whose router is squashed, and norms after each part"),
    ("jina-bert-v2", "encoders whose scores fall with the distance"),
    ("jina-bert-v3", "encoders with an adapter for each task"),
    ("neo-bert", "its encoder with gates and RMS norms"),
    ("nomic-bert-moe", "experts in encoders"),
    ("openelm", "numbers of heads and lengths that differ by layer"),
    ("plamo", "attention and feed-forward part after one norm, with its order of heads"),
    ("plamo2", "its own form of Mamba 2"),
    ("plamo3", "its norms after each part and windows"),
    ("rwkv6", "RWKV's recurrence"),
    ("rwkv6qwen2", "RWKV's recurrence"),
    ("rwkv7", "RWKV's recurrence"),
    ("smallthinker", "experts that are chosen before the attention"),
    ("step35", "gates of heads, and activations with a limit"),
    ("t5", "an encoder beside the decoder, and relative biases"),
    ("t5encoder", "relative biases of positions"),
];

/// What is missing to run the architecture `name`, where that is written down.
pub(super) fn missing(name: &str) -> Option<&'static str> {
    MISSING.iter().find(|(known, _)| *known == name).map(|(_, missing)| *missing)
}

#[cfg(test)]
mod tests {
    use super::super::FAMILIES;
    use super::MISSING;

    #[test]
    fn what_is_missing_is_not_there() {
        for (name, _) in MISSING {
            assert!(FAMILIES.iter().all(|family| family.name() != *name), "{name}");
        }
    }
}
