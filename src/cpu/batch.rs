//! The rows of one forward pass.

use super::rope::RopeTables;
use super::rows::keep_rows;
use super::sequence::LayerState;
use super::{AttentionPart, AttentionSpec, Part, Run, Selected, attention};
use crate::kernels::List;
use crate::network::LengthScale;

/// The state of a forward pass, which is handed from layer to layer.
pub(super) struct Batch<'a, 'p> {
    /// Threads, observer and adapters.
    pub(super) run: Run<'a>,
    pub(super) parts: &'a mut [Part<'p>],
    /// First row of each part in the batch, and the end.
    pub(super) starts: Vec<usize>,
    /// Rotary tables of the batch's positions, computed on first use.
    pub(super) rope: RopeTables,
    /// `[rows, layers, length]`, for families with per-layer embeddings.
    pub(super) layer_inputs: Vec<f32>,
    /// The rows (ascending) whose output is needed from this layer on; `None` for all rows.
    pub(super) output_rows: Option<&'a [u32]>,
    /// The positions that the latest indexer has selected for each row.
    pub(super) selection: SelectedPositions,
}

/// The positions that an indexer has selected for the rows of a batch.
#[derive(Default)]
pub(super) struct SelectedPositions {
    /// As in [`Selected`].
    pub(super) bits: Vec<u64>,
    /// Words of a row; 0 where each row sees all that it could see.
    pub(super) words: usize,
}

impl<'a, 'p> Batch<'a, 'p> {
    /// The parts' tokens as rows, part after part.
    pub(super) fn new(run: Run<'a>, parts: &'a mut [Part<'p>]) -> Self {
        let rows = parts.iter().map(|part| part.tokens.len()).sum();
        let mut starts = Vec::with_capacity(parts.len() + 1);
        starts.push(0);
        let (mut positions, mut contexts) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for part in parts.iter() {
            positions.extend(part.sequence.len..part.sequence.len + part.tokens.len());
            contexts.resize(positions.len(), part.sequence.context_length);
            starts.push(positions.len());
        }
        Self {
            run,
            parts,
            starts,
            rope: RopeTables::new(positions, contexts),
            layer_inputs: Vec::new(),
            output_rows: None,
            selection: SelectedPositions::default(),
        }
    }

    /// The rows of all parts from the one on, counted from the part's first, that `first` says.
    pub(super) fn rows_from(&self, first: impl Fn(&Part<'p>) -> usize) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.rows());
        for (part, start) in self.parts.iter().zip(&self.starts) {
            rows.extend((0..).take(start + part.tokens.len()).skip(start + first(part)));
        }
        rows
    }

    /// Rows (tokens) of the batch.
    pub(super) fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Drops the rows whose output is not needed. A mixer calls it once the state of every sequence has all rows.
    pub(super) fn keep_output_rows(&mut self) {
        let Some(output_rows) = self.output_rows else { return };
        let stride = self.layer_inputs.len() / self.rows();
        keep_rows(&mut self.layer_inputs, stride, output_rows);
        for start in &mut self.starts {
            *start = output_rows.partition_point(|&row| (row as usize) < *start);
        }
        self.rope.keep(output_rows);
        keep_rows(&mut self.selection.bits, self.selection.words, output_rows);
    }

    /// Attention of all rows over the caches of layer `layer`: from `query`, `[rows, heads, k_dim]`, to `out`,
    /// `[rows, heads, v_dim]`. Where it is `sparse`, rows see the [selected](Self::selection) positions alone.
    pub(super) fn attend(&self, spec: &AttentionSpec<'_>, layer: usize, sparse: bool, query: &[f32], out: &mut [f32]) {
        let (q, v) = (spec.heads * spec.k_dim, spec.heads * spec.v_dim);
        let mut rest = out;
        let mut parts = List::with_capacity(self.parts.len());
        for (i, part) in self.parts.iter().enumerate() {
            let rows = self.starts[i]..self.starts[i + 1];
            let (out, others) = rest.split_at_mut(rows.len() * v);
            rest = others;
            // All rows of a part may have been dropped.
            let Some(&first_position) = self.rope.positions().get(rows.start) else { continue };
            let SelectedPositions { bits, words } = &self.selection;
            let selected = (sparse && *words > 0)
                .then(|| Selected { bits: &bits[rows.start * words..rows.end * words], words: *words });
            let queries = &query[rows.start * q..rows.end * q];
            if let Some(cache) = &part.sequence.layers[layer].cache {
                parts.push(AttentionPart { queries, cache, first_position, selected, out });
            }
        }
        attention(self.run.pool, spec, &mut parts);
    }

    /// Grows queries, `[rows, heads, k_dim]`, with their position.
    pub(super) fn scale_by_position(&self, scale: &LengthScale, query: &mut [f32]) {
        let positions = self.rope.positions();
        let cols = query.len() / positions.len().max(1);
        for (row, &position) in query.chunks_exact_mut(cols.max(1)).zip(positions) {
            let factor = scale.factor(position);
            row.iter_mut().for_each(|v| *v *= factor);
        }
    }

    /// The state of layer `layer` in part `part`.
    pub(super) fn state(&mut self, part: usize, layer: usize) -> &mut LayerState {
        &mut self.parts[part].sequence.layers[layer]
    }
}
