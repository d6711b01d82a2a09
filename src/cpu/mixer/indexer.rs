//! The lightning indexer of DeepSeek's sparse attention: it selects the positions that each query sees.

use super::super::batch::Batch;
use super::super::kv::TileBuffer;
use super::super::{Linear, Norm, Weights};
use crate::kernels::attention::TILE;
use crate::kernels::index_scores::IndexScores;
use crate::kernels::{Activations, Scratch, Store};
use crate::network::{Error, Indexer};

/// Scores that are held at a time, in rows of the batch that are looked at together.
const MAX_SCORES: usize = 1 << 22;
/// Tiles that a task scores.
const TILES: usize = 8;

/// An indexer with its weights.
pub(super) struct IndexerWeights {
    spec: Indexer,
    query: Linear,
    key: Linear,
    key_norm: Norm,
    /// One weight for each head.
    weights: Linear,
    /// Where its key begins in that of a position.
    first: usize,
}

impl IndexerWeights {
    /// The indexer of a layer whose input has `cols` elements and its compressed query `rank`; its key follows `first` others.
    pub(super) fn load(
        w: &Weights,
        prefix: &str,
        spec: &Indexer,
        (cols, rank, first): (usize, usize, usize),
    ) -> Result<Self, Error> {
        let name = |part: &str| format!("{prefix}indexer.{part}");
        Ok(Self {
            query: Linear::load(w, &name("attn_q_b"), spec.heads * spec.dim, rank)?,
            key: Linear::load(w, &name("attn_k"), spec.dim, cols)?,
            key_norm: Norm::load(w, &name("k_norm"), spec.dim, spec.norm)?,
            weights: Linear::load(w, &name("proj"), spec.heads, cols)?,
            spec: spec.clone(),
            first,
        })
    }

    /// The indexer's keys of all rows, `[rows, dim]`.
    pub(super) fn keys(&self, batch: &mut Batch<'_, '_>, x: &Activations<'_>) -> Scratch {
        let mut keys = Scratch::new(batch.rows() * self.spec.dim);
        self.key.apply(batch.run, x, Store::Set, &mut keys);
        self.key_norm.apply(batch.run.pool, &mut keys);
        batch.rope.apply(batch.run.pool, &self.spec.rope, 1, &mut keys);
        keys
    }

    /// Selects the positions that the batch's rows see. `x` is the layer's input, of which the batch has kept the output rows;
    /// `low` are these rows' compressed queries.
    pub(super) fn select(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &Activations<'_>, low: &[f32]) {
        let (run, rows, heads) = (batch.run, batch.rows(), self.spec.heads);
        let tiles = batch.rope.positions().iter().map(|position| position / TILE + 1).max().unwrap_or(0);
        let sees_all = batch.rope.positions().iter().all(|&position| position < self.spec.top_k);
        batch.selection.words = if sees_all { 0 } else { tiles };
        batch.selection.bits.clear();
        batch.selection.bits.resize(rows * batch.selection.words, 0);
        if sees_all {
            return;
        }
        let mut queries = Scratch::new(rows * heads * self.spec.dim);
        self.query.apply(run, &Activations::new(low, low.len() / rows), Store::Set, &mut queries);
        batch.rope.apply(run.pool, &self.spec.rope, heads, &mut queries);
        let mut weights = Scratch::new(rows * heads);
        self.weights.apply_some(run, x, batch.output_rows, Store::Set, &mut weights);
        let mut bits = std::mem::take(&mut batch.selection.bits);
        let together = (MAX_SCORES / (tiles * TILE)).max(1);
        for (i, bits) in bits.chunks_mut(together * tiles).enumerate() {
            let mut scores = Scratch::new(bits.len() * TILE);
            let row_of = |row: usize| i * together + row;
            self.score(batch, layer, (&queries, &weights), i * together, &mut scores);
            let rows = bits.chunks_exact_mut(tiles).zip(scores.chunks_exact(tiles * TILE)).enumerate();
            run.pool.run_over(rows, &|(row, (bits, scores))| {
                let position = batch.rope.positions()[row_of(row)];
                select_best(&scores[..=position], self.spec.top_k, bits);
            });
        }
        batch.selection.bits = bits;
    }

    /// The scores of the positions of all tiles for the rows from `first_row` on: `[rows, tiles, 64]`. Those of positions that a
    /// row comes before are left as they are.
    fn score(
        &self,
        batch: &Batch<'_, '_>,
        layer: usize,
        (queries, weights): (&[f32], &[f32]),
        first_row: usize,
        scores: &mut [f32],
    ) {
        let (pool, heads, dim) = (batch.run.pool, self.spec.heads, self.spec.dim);
        let tiles = batch.selection.words;
        let tasks = scores.chunks_exact_mut(tiles * TILE).zip(first_row..).flat_map(|(scores, row)| {
            scores.chunks_mut(TILES * TILE).enumerate().map(move |(i, scores)| (row, i * TILES, scores))
        });
        pool.run_over(tasks, &|(row, first_tile, scores)| {
            let part = batch.starts.partition_point(|&start| start <= row) - 1;
            let Some(cache) = &batch.parts[part].sequence.layers[layer].cache else { return };
            let last_tile = batch.rope.positions()[row] / TILE;
            let (queries, weights) = (&queries[row * heads * dim..][..heads * dim], &weights[row * heads..][..heads]);
            let mut buffer = TileBuffer::default();
            for (tile, out) in (first_tile..=last_tile).zip(scores.as_chunks_mut::<TILE>().0) {
                let (keys, _) = cache.tile(pool.isa(), tile, 0, &mut buffer);
                let k_dim = cache.spec().k_dim;
                pool.isa().run(IndexScores { queries, weights, keys, k_dim, first: self.first, out });
            }
        });
    }
}

/// Sets the bits of the `top_k` positions with the highest scores; of equal scores those of earlier positions count as higher.
fn select_best(scores: &[f32], top_k: usize, bits: &mut [u64]) {
    let mut set = |position: usize| bits[position / 64] |= 1 << (position % 64);
    if scores.len() <= top_k {
        (0..scores.len()).for_each(set);
        return;
    }
    let mut sorted = Scratch::new(scores.len());
    sorted.copy_from_slice(scores);
    let (higher, &mut least, _) = sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
    let above = higher.iter().filter(|score| score.total_cmp(&least).is_gt()).count();
    let mut equal = top_k - above;
    for (position, score) in scores.iter().enumerate() {
        let order = score.total_cmp(&least);
        if order.is_gt() {
            set(position);
        } else if order.is_eq() && equal > 0 {
            equal -= 1;
            set(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::select_best;

    #[test]
    fn the_best_are_selected_and_of_equals_the_earlier() {
        let select = |scores: &[f32], top_k: usize| {
            let mut bits = [0];
            select_best(scores, top_k, &mut bits);
            bits[0]
        };
        assert_eq!(select(&[1.0, 3.0, 2.0, 3.0], 2), 0b1010);
        assert_eq!(select(&[1.0, 3.0, 3.0, 3.0], 2), 0b0110);
        assert_eq!(select(&[0.0, 0.0, 0.0, 5.0], 3), 0b1011);
        assert_eq!(select(&[1.0, 2.0], 2), 0b11);
        assert_eq!(select(&[f32::NAN, 1.0, 2.0], 2).count_ones(), 2);
    }
}
