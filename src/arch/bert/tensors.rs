//! Tensors: separate projections with biases, in the names of BERT's and of DistilBERT's checkpoints.

use crate::arch::graph::scores;
use crate::arch::{Error, Hparams, Rules, Step, TensorRule, keys as arch_keys};
use crate::gguf::{Value, keys};

/// The two maps of a classification head in a checkpoint.
pub(super) type HeadNames = [&'static str; 2];

/// BERT's: what it calls the pooler belongs to the head.
pub(super) const BERT_HEAD: HeadNames = ["pooler.dense", "classifier"];
/// RoBERTa's.
pub(super) const ROBERTA_HEAD: HeadNames = ["classifier.dense", "classifier.out_proj"];

/// The table, of checkpoints whose first `unused` positions go into no file.
pub(super) fn rules(h: &Hparams, unused: usize, head: HeadNames) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("encoder.layer.");
    embeddings(&mut rules, h);
    let positions = [d, h.context_length];
    let rule = rules.add("position_embd.weight", &positions, "embeddings.position_embeddings.weight");
    if unused > 0 {
        rule.step(Step::Rows { start: unused, count: h.context_length }).stored_as(&[unused + h.context_length, d]);
    }
    for i in 0..h.block_count {
        let (hidden, heads) = (h.feed_forward_length[i], h.head_count[i]);
        let (keys, values) = (heads * h.key_length, heads * h.value_length);
        for (name, shape, bert, distilbert) in [
            ("attn_q", &[d, keys][..], "attention.self.query", "attention.q_lin"),
            ("attn_k", &[d, keys], "attention.self.key", "attention.k_lin"),
            ("attn_v", &[d, values], "attention.self.value", "attention.v_lin"),
            ("attn_output", &[values, d], "attention.output.dense", "attention.out_lin"),
            ("attn_output_norm", &[d], "attention.output.LayerNorm", "sa_layer_norm"),
            ("ffn_up", &[d, hidden], "intermediate.dense", "ffn.lin1"),
            ("ffn_down", &[hidden, d], "output.dense", "ffn.lin2"),
            ("layer_output_norm", &[d], "output.LayerNorm", "output_layer_norm"),
        ] {
            let mut block = rules.block(i);
            let other = |part: &str| format!("layer.{i}.{distilbert}.{part}");
            block.weight(name, shape, bert).or(other("weight"));
            let bias = block.tensor(&format!("{name}.bias"), &shape[shape.len() - 1..], &format!("{bert}.bias"));
            bias.or(other("bias")).optional();
        }
    }
    for (name, rows, source) in [("cls", d, head[0]), ("cls.output", scores(h)?, head[1])] {
        for (part, shape) in [("weight", &[d, rows][..]), ("bias", &[rows])] {
            let rule = rules.add(format!("{name}.{part}"), shape, format!("{source}.{part}")).optional();
            // A bare model's pooler goes into no file: only those with a head have labels of its scores.
            if !h.has(arch_keys::CLASSIFIER_OUTPUT_LABELS) {
                rule.sources.clear();
            }
        }
    }
    Ok(rules.finish())
}

/// The embeddings of tokens and of their types, and the norm of their sum.
pub(in crate::arch) fn embeddings(rules: &mut Rules, h: &Hparams) {
    let d = h.embedding_length;
    rules.add("token_embd.weight", &[d, h.vocab_size], "embeddings.word_embeddings.weight");
    let types = h.metadata().get(keys::TOKENIZER_TOKEN_TYPE_COUNT).and_then(Value::as_u64);
    let types = types.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    rules.add("token_types.weight", &[d, types], "embeddings.token_type_embeddings.weight").optional();
    rules.add("token_embd_norm.weight", &[d], "embeddings.LayerNorm.weight").or("emb_ln.weight");
    rules.add("token_embd_norm.bias", &[d], "embeddings.LayerNorm.bias").or("emb_ln.bias").optional();
}

/// Positions of a RoBERTa that no token has: those up to the padding token's id.
pub(super) fn unused_positions(h: &Hparams) -> usize {
    let padding = h.metadata().get(keys::TOKENIZER_PADDING_ID).and_then(Value::as_u64);
    padding.and_then(|id| usize::try_from(id).ok()).map_or(0, |id| id + 1)
}
