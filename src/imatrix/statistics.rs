//! The statistics that llama-imatrix shows of a matrix: the distribution of the mean squared inputs of a tensor over its
//! columns, and their similarity to those of the layer before.

use std::collections::BTreeMap;

use super::{Entry, ImportanceMatrix};
use crate::gguf::{layer_of, part_of};

/// A column with at most this mean squared input is inactive.
const INACTIVE: f64 = 1e-5;

/// The distribution of the mean squared inputs of a tensor over its columns. Matrices without input do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorStatistics {
    /// Name of the tensor.
    pub name: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// Columns, of all matrices.
    pub elements: usize,
    /// Sum of the mean squared inputs.
    pub total: f64,
    /// The smallest mean squared input.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Share of the columns that are active: more than 1e-5.
    pub active: f64,
    /// Entropy of the columns' shares of the sum, in bits.
    pub entropy: f64,
    /// Share of the columns more than a standard deviation above the mean.
    pub outliers: f64,
    /// Cosine similarity with the same tensor of the layer before, if there is one.
    pub cosine: Option<f64>,
}

impl TensorStatistics {
    /// Entropy as a share of the greatest possible.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "columns are far below 2^52")]
    pub fn normalized_entropy(&self) -> f64 {
        if self.elements > 1 { self.entropy / (self.elements as f64).log2() } else { 0.0 }
    }

    /// The tensor's name without its layer: `attn_q`.
    #[must_use]
    pub fn part(&self) -> &str {
        let name = self.name.strip_suffix(".weight").unwrap_or(&self.name);
        match self.layer {
            Some(_) => name.splitn(3, '.').nth(2).unwrap_or(name),
            None => name,
        }
    }
}

/// Means over the tensors of a layer, weighted by their columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerStatistics {
    /// The layer.
    pub layer: usize,
    /// Mean of the sums of mean squared inputs.
    pub total: f64,
    /// Mean of the shares of outliers.
    pub outliers: f64,
    /// Mean of the cosines.
    pub cosine: f64,
}

/// Statistics of each tensor with input, in the order of parts, the greatest sum first.
#[must_use]
pub fn statistics(matrix: &ImportanceMatrix) -> Vec<TensorStatistics> {
    let mut all: Vec<TensorStatistics> =
        matrix.entries.iter().filter_map(|(name, entry)| of_tensor(matrix, name, entry)).collect();
    all.sort_by(|a, b| a.part().cmp(b.part()).then(b.total.total_cmp(&a.total)));
    all
}

/// Means over the tensors of each layer.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "columns are far below 2^52")]
pub fn by_layer(tensors: &[TensorStatistics]) -> Vec<LayerStatistics> {
    let mut layers: BTreeMap<usize, (f64, LayerStatistics)> = BTreeMap::new();
    for tensor in tensors {
        let Some(layer) = tensor.layer else { continue };
        let nothing = LayerStatistics { layer, total: 0.0, outliers: 0.0, cosine: 0.0 };
        let (weight, sums) = layers.entry(layer).or_insert((0.0, nothing));
        let elements = tensor.elements as f64;
        *weight += elements;
        sums.total += elements * tensor.total;
        sums.outliers += elements * tensor.outliers;
        sums.cosine += elements * tensor.cosine.unwrap_or(0.0);
    }
    let mean = |(weight, sums): (f64, LayerStatistics)| LayerStatistics {
        total: sums.total / weight,
        outliers: sums.outliers / weight,
        cosine: sums.cosine / weight,
        ..sums
    };
    layers.into_values().map(mean).collect()
}

#[allow(clippy::cast_precision_loss, reason = "columns are far below 2^52")]
fn of_tensor(matrix: &ImportanceMatrix, name: &str, entry: &Entry) -> Option<TensorStatistics> {
    let seen = entry.parts().filter(|(_, count)| *count > 0);
    let means: Vec<f64> =
        seen.flat_map(|(sums, count)| sums.iter().map(move |&sum| f64::from(sum) / count as f64)).collect();
    if means.is_empty() {
        return None;
    }
    let n = means.len() as f64;
    let total: f64 = means.iter().sum();
    let mean = total / n;
    let squares: f64 = means.iter().map(|x| x * x).sum();
    let deviation = (squares / n - mean * mean).max(0.0).sqrt();
    let share = |counts: &dyn Fn(f64) -> bool| means.iter().filter(|&&x| counts(x)).count() as f64 / n;
    let shares = means.iter().map(|x| x / total).filter(|share| total > 0.0 && *share > 0.0);
    let layer = layer_of(name);
    let before = layer.and_then(|layer| layer.checked_sub(1));
    let before = before.and_then(|before| matrix.entries.get(&format!("blk.{before}.{}", part_of(name))));
    Some(TensorStatistics {
        name: name.to_owned(),
        layer,
        elements: means.len(),
        total,
        min: means.iter().copied().fold(f64::INFINITY, f64::min),
        max: means.iter().copied().fold(0.0, f64::max),
        mean,
        deviation,
        active: share(&|x| x > INACTIVE),
        entropy: -shares.map(|share| share * share.log2()).sum::<f64>(),
        outliers: if deviation > 0.0 { share(&|x| (x - mean) / deviation > 1.0) } else { 0.0 },
        cosine: before.and_then(|before| cosine(&entry.sums, &before.sums)),
    })
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let magnitudes = (dot(a, a) * dot(b, b)).sqrt();
    (a.len() == b.len() && magnitudes > 0.0).then(|| dot(a, b) / magnitudes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_of_what_was_seen() {
        let mut matrix = ImportanceMatrix::new(4);
        let mut insert = |name: &str, sums: &[f32], counts: &[u64]| {
            matrix.entries.insert(name.into(), Entry { sums: sums.into(), counts: counts.into() });
        };
        insert("blk.0.ffn_up_exps.weight", &[2.0, 6.0, 0.0, 8.0, 9.0, 9.0, 9.0, 9.0], &[2, 0]);
        insert("blk.1.ffn_up_exps.weight", &[2.0, 6.0, 0.0, 8.0, 9.0, 9.0, 9.0, 9.0], &[2, 2]);
        insert("output.weight", &[4.0], &[4]);
        insert("blk.2.attn_q.weight", &[0.0], &[0]);
        let all = statistics(&matrix);
        let names: Vec<_> = all.iter().map(|t| (t.part(), t.layer)).collect();
        assert_eq!(names, [("ffn_up_exps", Some(1)), ("ffn_up_exps", Some(0)), ("output", None)]);
        let first = &all[1];
        assert_eq!((first.elements, first.total, first.min, first.max), (4, 8.0, 0.0, 4.0));
        assert_eq!((first.mean, first.active, first.cosine), (2.0, 0.75, None));
        assert!((first.deviation - 2.5f64.sqrt()).abs() < 1e-12 && (first.outliers - 0.25).abs() < 1e-12);
        // Shares are 1/8, 3/8, 0 and 4/8.
        assert!((first.entropy - (0.375 + 0.375 * (8.0f64 / 3.0).log2() + 0.5)).abs() < 1e-12);
        assert!((all[0].cosine.expect("a layer before") - 1.0).abs() < 1e-12);
        let layers = by_layer(&all);
        assert_eq!(layers.iter().map(|l| (l.layer, l.total)).collect::<Vec<_>>(), [(0, 8.0), (1, 26.0)]);
    }
}
