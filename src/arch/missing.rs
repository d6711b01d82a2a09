//! Architectures that are asked for and not run, and classes that are not converted: what each would need.

/// An architecture that is not run.
struct Missing {
    /// `general.architecture`; none where llama.cpp has no name for it.
    name: Option<&'static str>,
    /// The classes of its checkpoints.
    classes: &'static [&'static str],
    /// What is missing.
    what: &'static str,
}

const fn missing(name: &'static str, classes: &'static [&'static str], what: &'static str) -> Missing {
    Missing { name: Some(name), classes, what }
}

const MISSING: &[Missing] = &[
    missing("arwkv7", &["RwkvHybridForCausalLM"], "RWKV's recurrence"),
    missing(
        "bailingmoe2",
        &["BailingMoeV2ForCausalLM"],
        "its attention with normed heads and one tensor beside groups of experts",
    ),
    missing("bitnet", &["BitnetForCausalLM", "BitNetForCausalLM"], "norms within attention and feed-forward parts"),
    missing("deepseek4", &["DeepseekV4ForCausalLM"], "compressed attention with hyper-connections"),
    missing(
        "grok",
        &["Grok1ForCausalLM", "GrokForCausalLM"],
        "experts whose router is squashed, and norms after each part",
    ),
    missing("jina-bert-v2", &[], "encoders whose scores fall with the distance"),
    missing("jina-bert-v3", &[], "encoders with an adapter for each task"),
    missing(
        "minimax-01",
        &["MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM", "MiniMaxForCausalLM"],
        "linear attention whose memory fades, and residuals weighed by the kind of layer",
    ),
    missing("neo-bert", &["NeoBERT", "NeoBERTLMHead"], "its encoder with gates and RMS norms"),
    missing("nomic-bert-moe", &[], "experts in encoders"),
    missing("openelm", &["OpenELMForCausalLM"], "numbers of heads and lengths that differ by layer"),
    missing("plamo", &["PlamoForCausalLM"], "attention and feed-forward part after one norm, with its order of heads"),
    missing("plamo2", &["Plamo2ForCausalLM", "PLaMo2ForCausalLM"], "its own form of Mamba 2"),
    missing("plamo3", &["Plamo3ForCausalLM", "PLaMo3ForCausalLM"], "its norms after each part and windows"),
    missing("rwkv6", &["Rwkv6ForCausalLM"], "RWKV's recurrence"),
    missing("rwkv6qwen2", &["RWKV6Qwen2ForCausalLM"], "RWKV's recurrence"),
    missing("rwkv7", &["Rwkv7ForCausalLM", "RWKV7ForCausalLM"], "RWKV's recurrence"),
    missing("smallthinker", &["SmallThinkerForCausalLM"], "experts that are chosen before the attention"),
    missing("step35", &["Step3p5ForCausalLM"], "gates of heads, and activations with a limit"),
    missing(
        "t5",
        &[
            "T5ForConditionalGeneration",
            "T5WithLMHeadModel",
            "MT5ForConditionalGeneration",
            "UMT5ForConditionalGeneration",
        ],
        "an encoder beside the decoder, and relative biases",
    ),
    missing("t5encoder", &["T5EncoderModel"], "relative biases of positions"),
    Missing {
        name: None,
        classes: &["NanoChatForCausalLM"],
        what: "norms without weights of embeddings and heads, and squared activations beside a cap of logits",
    },
    Missing { name: None, classes: &["VaultGemmaForCausalLM"], what: "Gemma 2's model without norms after its parts" },
    Missing {
        name: None,
        classes: &["XverseForCausalLM"],
        what: "scores of tokens, which the reference's files of this class lack,",
    },
];

/// What is missing to run the architecture `name`, where that is written down.
pub(super) fn of_architecture(name: &str) -> Option<&'static str> {
    MISSING.iter().find(|missing| missing.name == Some(name)).map(|missing| missing.what)
}

/// What is missing to convert checkpoints of the class `class`, where that is written down.
pub(super) fn of_class(class: &str) -> Option<&'static str> {
    MISSING.iter().find(|missing| missing.classes.contains(&class)).map(|missing| missing.what)
}

#[cfg(test)]
mod tests {
    use super::super::{FAMILIES, by_class, by_name};
    use super::MISSING;

    #[test]
    fn what_is_missing_is_not_there_and_said() {
        for missing in MISSING {
            let refusals = missing.name.map(|name| by_name(name).map(|_| ()));
            let classes = missing.classes.iter().map(|class| by_class(class).map(|_| ()));
            for refusal in refusals.into_iter().chain(classes) {
                let message = refusal.expect_err("refused").to_string();
                assert!(message.contains(missing.what), "{message}");
            }
            assert!(FAMILIES.iter().all(|family| Some(family.name()) != missing.name), "{:?}", missing.name);
        }
    }
}
