//! An importance matrix in memory.

use std::collections::BTreeMap;

use super::Error;

/// Sums of squared inputs of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportanceMatrix {
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Number of chunks of these texts.
    pub chunks: u32,
    /// Tokens of a chunk. `None` for a file of the legacy format, which counts chunks and not tokens.
    pub chunk_size: Option<u32>,
    /// The sums of each tensor, by its name.
    pub entries: BTreeMap<String, Entry>,
}

/// The sums of a tensor, which is one matrix or a stack of them (experts, heads).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Sum of the squared inputs of each column, `[matrices, cols]`.
    pub sums: Vec<f32>,
    /// Number of rows summed: one count for each matrix, or one for all.
    pub counts: Vec<u64>,
}

impl Entry {
    /// An entry without any rows.
    #[must_use]
    pub fn new(sums: usize, counts: usize) -> Self {
        Self { sums: vec![0.0; sums], counts: vec![0; counts] }
    }

    /// The sums that each count belongs to.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&[f32], u64)> {
        let len = (self.sums.len() / self.counts.len().max(1)).max(1);
        self.sums.chunks(len).zip(self.counts.iter().copied())
    }

    /// The weight of the squared error of each column, `[matrices, cols]`: the mean of the squared inputs, or 1 for a matrix without
    /// input.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "as the reference does")]
    pub fn weights(&self) -> Vec<f32> {
        let mean = |(sums, count): (&[f32], u64)| -> Vec<f32> {
            match count {
                0 => vec![1.0; sums.len()],
                _ => sums.iter().map(|sum| sum / count as f32).collect(),
            }
        };
        self.parts().flat_map(mean).collect()
    }

    /// Number of matrices without input.
    #[must_use]
    pub fn unseen(&self) -> usize {
        self.counts.iter().filter(|&&count| count == 0).count()
    }

    fn add(&mut self, name: &str, other: &Self) -> Result<(), Error> {
        let mismatch = |what, expected, found| Err(Error::Mismatch { name: name.to_owned(), what, expected, found });
        if self.sums.len() != other.sums.len() {
            return mismatch("sums", self.sums.len(), other.sums.len());
        }
        // Older files have one count for all experts, or one for each head.
        let (ours, theirs) = (self.counts.len(), other.counts.len());
        match (ours, theirs) {
            _ if ours == theirs => {}
            (1, _) => self.counts = vec![self.counts[0]; theirs],
            (_, 1) => {}
            _ => return mismatch("counts", ours, theirs),
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        let more = other.counts.iter().cycle();
        self.counts.iter_mut().zip(more).for_each(|(count, more)| *count = count.saturating_add(*more));
        Ok(())
    }
}

impl ImportanceMatrix {
    /// An empty matrix, for chunks of `chunk_size` tokens.
    #[must_use]
    pub fn new(chunk_size: u32) -> Self {
        Self { chunk_size: Some(chunk_size), ..Self::default() }
    }

    /// Adds the sums of `other`. If that is in the legacy format, its chunks count as having the length of the chunks of this matrix.
    ///
    /// # Errors
    /// When a tensor has another number of columns or matrices in `other`.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        let scale = if other.chunk_size.is_none() { self.chunk_size } else { None };
        for (name, entry) in &other.entries {
            let scaled = scale.map(|scale| scaled(entry, scale));
            let entry = scaled.as_ref().unwrap_or(entry);
            match self.entries.get_mut(name) {
                Some(own) => own.add(name, entry)?,
                None => drop(self.entries.insert(name.clone(), entry.clone())),
            }
        }
        self.datasets.extend_from_slice(&other.datasets);
        self.count_chunks();
        Ok(())
    }

    /// Sets the number of chunks from the tensor with the most rows.
    pub(super) fn count_chunks(&mut self) {
        let most = self.entries.values().flat_map(|entry| &entry.counts).max().copied().unwrap_or(0);
        let chunks = most / u64::from(self.chunk_size.unwrap_or(1).max(1));
        self.chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
    }

    /// Tensors of which some matrices have no input.
    pub fn partly_seen(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.unseen() > 0).map(|(name, entry)| (name.as_str(), entry))
    }
}

/// Sums and counts of chunks as sums and counts of tokens.
#[allow(clippy::cast_precision_loss, reason = "as the reference does")]
fn scaled(entry: &Entry, chunk_size: u32) -> Entry {
    Entry {
        sums: entry.sums.iter().map(|sum| sum * chunk_size as f32).collect(),
        counts: entry.counts.iter().map(|count| count.saturating_mul(chunk_size.into())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(sums: &[f32], counts: &[u64]) -> ImportanceMatrix {
        let mut matrix = ImportanceMatrix::new(2);
        matrix.entries.insert("a".into(), Entry { sums: sums.into(), counts: counts.into() });
        matrix.count_chunks();
        matrix
    }

    #[test]
    fn weights_are_means_and_one_where_nothing_was_seen() {
        let entry = Entry { sums: vec![6.0, 3.0, 0.0, 0.0], counts: vec![3, 0] };
        assert_eq!(entry.weights(), [2.0, 1.0, 1.0, 1.0]);
        assert_eq!(entry.unseen(), 1);
        // One count may be for all matrices.
        assert_eq!(Entry { sums: vec![6.0, 3.0, 0.0, 9.0], counts: vec![3] }.weights(), [2.0, 1.0, 0.0, 3.0]);
    }

    #[test]
    fn matrices_are_added() {
        let mut sum = matrix(&[1.0, 2.0], &[4]);
        sum.merge(&matrix(&[10.0, 20.0], &[6, 8])).expect("one count for all");
        assert_eq!(sum.entries["a"], Entry { sums: vec![11.0, 22.0], counts: vec![10, 12] });
        assert_eq!(sum.chunks, 6);
        assert!(sum.merge(&matrix(&[1.0], &[4])).is_err());
        assert!(sum.merge(&matrix(&[1.0, 2.0], &[1, 1, 1])).is_err());
        let legacy = ImportanceMatrix { chunk_size: None, ..matrix(&[5.0, 7.0], &[1]) };
        sum.merge(&legacy).expect("of chunks");
        assert_eq!(sum.entries["a"], Entry { sums: vec![21.0, 36.0], counts: vec![12, 14] });
    }
}
