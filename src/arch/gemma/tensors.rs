//! Tensors: separate projections, tied embedding, norms as an offset from one.

use crate::arch::{Error, Hparams, Rules, Step, TensorRule, keys};

/// Which norms a generation has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Norms {
    /// Before each part.
    Before,
    /// Before and after each part.
    Around,
    /// Also of query and key heads.
    AroundAndHeads,
}

pub(super) fn rules(h: &Hparams, norms: Norms) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.embed_tokens.weight");
    rules.add("output_norm.weight", &[d], "model.norm.weight").step(Step::Add(1.0));
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        let mut norm = |name: &str, len: usize, source: &str| {
            block.weight(name, &[len], source).step(Step::Add(1.0));
        };
        norm("attn_norm", d, "input_layernorm");
        if norms == Norms::Before {
            norm("ffn_norm", d, "post_attention_layernorm");
        } else {
            norm("post_attention_norm", d, "post_attention_layernorm");
            norm("ffn_norm", d, "pre_feedforward_layernorm");
            norm("post_ffw_norm", d, "post_feedforward_layernorm");
        }
        if norms == Norms::AroundAndHeads {
            norm("attn_q_norm", h.key_length, "self_attn.q_norm");
            norm("attn_k_norm", h.key_length, "self_attn.k_norm");
        }
        block.attention(h, i, false);
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}

/// Those of an embedding model, with the linear maps behind the pooling where the keys have their lengths.
pub(super) fn embedding_rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (mut all, d) = (rules(h, Norms::AroundAndHeads), h.embedding_length);
    let (wide, back) = (h.count_or(keys::DENSE_2_FEAT_OUT, 0)?, h.count_or(keys::DENSE_3_FEAT_IN, 0)?);
    if wide != back {
        return Err(h.bad_key(keys::DENSE_3_FEAT_IN, "dense_2_feat_out"));
    }
    for key in [keys::DENSE_2_FEAT_IN, keys::DENSE_3_FEAT_OUT] {
        if h.count_or(key, d)? != d {
            return Err(h.bad_key(key, "embedding_length"));
        }
    }
    if wide > 0 {
        let mut dense = Rules::with_blocks("");
        dense.add("dense_2.weight", &[d, wide], "2_Dense.linear.weight");
        dense.add("dense_3.weight", &[wide, d], "3_Dense.linear.weight");
        all.extend(dense.finish());
    }
    Ok(all)
}
