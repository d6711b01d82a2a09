//! Tensors: low-rank queries (or direct ones), one compressed key and value, each head's own matrices of both; dense
//! blocks first, then experts with a shared part.

use super::Latent;
use crate::arch::{BlockRules, Error, Hparams, Rules, Step, TensorRule, keys};

pub(super) fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    rules_with(h, |_, _| {}, |block| corrected_experts(h, block))
}

/// Experts, a bias that corrects their choice, and the part that all tokens share.
///
/// # Errors
/// When a hyper-parameter is impossible.
pub(in crate::arch) fn corrected_experts(h: &Hparams, block: &mut BlockRules<'_>) -> Result<(), Error> {
    block.corrected_experts(h, h.count(keys::EXPERT_SHARED_COUNT)?)
}

/// The tensors of a model with `more` in the attention of each block, whose number it gets, and `experts` in all blocks after
/// the dense ones.
///
/// # Errors
/// When a hyper-parameter is impossible, or `experts` fails.
pub(in crate::arch) fn rules_with(
    h: &Hparams,
    more: impl Fn(&mut BlockRules<'_>, usize),
    experts: impl Fn(&mut BlockRules<'_>) -> Result<(), Error>,
) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let latent = Latent::new(h)?;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let mut rules = Rules::new(h);
    for (i, like) in h.all_blocks() {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        latent.rules(&mut block, d, h.head_count[like]);
        more(&mut block, i);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            continue;
        }
        experts(&mut block)?;
        if i >= h.block_count {
            block.prediction(h, |part| format!("model.layers.{i}.{}", part.replace("head_", "head.")), &[]);
        }
    }
    Ok(rules.finish())
}

impl Latent {
    /// The tensors of the attention of a block.
    pub(in crate::arch) fn rules(&self, block: &mut BlockRules<'_>, d: usize, heads: usize) {
        let (rank, plain, value) = (self.rank, self.plain, self.value);
        let query_rows = heads * (plain + self.rope);
        if let Some(rank) = self.query_rank {
            block.linear("attn_q_a", [d, rank], "self_attn.q_a_proj", &[]);
            block.weight("attn_q_a_norm", &[rank], "self_attn.q_a_layernorm");
            block.weight("attn_q_b", &[rank, query_rows], "self_attn.q_b_proj");
        } else {
            block.weight("attn_q", &[d, query_rows], "self_attn.q_proj");
        }
        block.linear("attn_kv_a_mqa", [d, rank + self.rope], "self_attn.kv_a_proj_with_mqa", &[]);
        block.weight("attn_kv_a_norm", &[rank], "self_attn.kv_a_layernorm");
        // A head's key matrix acts on the query, so it is turned.
        let both = "self_attn.kv_b_proj";
        let part = |rows| Step::RowsOfEach { of: plain + value, ranges: vec![rows] };
        if self.one_tensor {
            block.weight("attn_kv_b", &[rank, heads * (plain + value)], both);
        } else {
            let stored = [heads * (plain + value), rank];
            let key = block.weight("attn_k_b", &[plain, rank, heads], both);
            key.steps(&[part(0..plain), Step::Transpose]).stored_as(&stored);
            let value_rows = block.weight("attn_v_b", &[rank, value, heads], both);
            value_rows.step(part(plain..plain + value)).stored_as(&stored);
        }
        block.linear("attn_output", [heads * value, d], "self_attn.o_proj", &[]);
    }
}
