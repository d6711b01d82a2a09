//! Files of importance matrices, as llama-imatrix reads and writes them: GGUF (two tensors for each tensor of the model,
//! `NAME.in_sum2` and `NAME.counts`), and the legacy format from before 2025, which has means and no counts for experts.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, Error, ImportanceMatrix};
use crate::TensorType;
use crate::bytes::Bytes;
use crate::files::read_whole;
use crate::gguf::{Array, Metadata, Reader, TensorSpec, Value, Writer, keys};

const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Maximum bytes of a file. The file of a model with a trillion parameters has some hundred MB.
const MAX_BYTES: u64 = 16 << 30;
/// Counts are stored as `f32`; beyond this they would not be whole.
const MAX_COUNT: f32 = 9.0e15;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// GGUF.
    Gguf,
    /// llama.cpp's format from before 2025.
    Legacy,
}

impl ImportanceMatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// When it cannot be read, or is not an importance matrix.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_whole(path, MAX_BYTES)?;
        Self::from_bytes(path, bytes)
    }

    /// Reads the bytes of a file of either format. `path` is used for it in messages.
    ///
    /// # Errors
    /// When they are not an importance matrix.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let matrix = if bytes.starts_with(b"GGUF") { from_gguf(path, bytes)? } else { from_legacy(path, &bytes)? };
        for (name, entry) in &matrix.entries {
            if let Some(sum) = entry.sums.iter().find(|sum| !sum.is_finite()) {
                return Err(at(path, name, format!("one of its sums is {sum}")));
            }
        }
        Ok(matrix)
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// When a name is too long for the format.
    pub fn to_bytes(&self, form: FileForm) -> Result<Vec<u8>, Error> {
        match form {
            FileForm::Gguf => self.to_gguf(),
            FileForm::Legacy => Ok(self.to_legacy()),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are stored as floats")]
    fn to_gguf(&self) -> Result<Vec<u8>, Error> {
        let mut metadata = Metadata::new();
        metadata.set(keys::GENERAL_TYPE, "imatrix");
        metadata.set(DATASETS, Array::strings(&self.datasets));
        metadata.set(CHUNK_COUNT, self.chunks);
        metadata.set(CHUNK_SIZE, self.chunk_size.unwrap_or(1));
        let mut specs = Vec::new();
        let entries = || self.entries.iter().filter(|(_, entry)| !entry.sums.is_empty() && !entry.counts.is_empty());
        for (name, entry) in entries() {
            let (sums, counts) = (entry.sums.len() as u64, entry.counts.len() as u64);
            let mut spec = |suffix: &str, cols| {
                // ggml does not count trailing dimensions of 1.
                let shape = if counts == 1 { vec![cols] } else { vec![cols, counts] };
                specs.push(TensorSpec { name: format!("{name}{suffix}"), shape, ty: TensorType::F32 });
            };
            spec(SUMS, sums / counts);
            spec(COUNTS, 1);
        }
        let mut writer = Writer::to_sink(Vec::new(), "importance matrix", &metadata, &specs)?;
        for (_, entry) in entries() {
            writer.write_tensor(&to_bytes(entry.sums.iter().copied()))?;
            writer.write_tensor(&to_bytes(entry.counts.iter().map(|&count| count as f32)))?;
        }
        Ok(writer.into_sink()?)
    }

    /// The legacy format has means times chunks instead of sums. Tensors without any input are left out, and experts without input
    /// get 1.
    #[allow(clippy::cast_precision_loss, reason = "the format's own arithmetic")]
    fn to_legacy(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let int = |n: u64| i32::try_from(n).unwrap_or(i32::MAX).to_le_bytes();
        let chunk_size = u64::from(self.chunk_size.unwrap_or(1)).max(1);
        let seen = |entry: &Entry| entry.counts.iter().any(|&count| count > 0);
        let entries: Vec<_> = self.entries.iter().filter(|(_, entry)| seen(entry)).collect();
        bytes.extend(int(entries.len() as u64));
        for (name, entry) in entries {
            bytes.extend(int(name.len() as u64));
            bytes.extend(name.as_bytes());
            let calls = entry.counts.iter().max().map_or(0, |most| most.div_ceil(chunk_size));
            bytes.extend(int(calls));
            bytes.extend(int(entry.sums.len() as u64));
            for (sums, count) in entry.parts() {
                let value = |sum: f32| if count == 0 { 1.0 } else { sum / count as f32 };
                bytes.extend(to_bytes(sums.iter().map(|&sum| value(sum) * calls as f32)));
            }
        }
        bytes.extend(int(self.chunks.into()));
        let dataset = self.datasets.last().map_or("", String::as_str);
        bytes.extend(int(dataset.len() as u64));
        bytes.extend(dataset.as_bytes());
        bytes
    }
}

fn to_bytes(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}

fn at(path: &Path, name: &str, problem: String) -> Error {
    Error::Entry { path: path.to_owned(), name: name.to_owned(), problem }
}

fn invalid(path: &Path, problem: impl Into<String>) -> Error {
    Error::Invalid { path: path.to_owned(), problem: problem.into() }
}

fn from_gguf(path: &Path, bytes: Vec<u8>) -> Result<ImportanceMatrix, Error> {
    let reader = Reader::from_bytes(&path.to_string_lossy(), Bytes::from(bytes))?;
    let number = |key: &str| -> Result<u32, Error> {
        let value = reader.metadata().get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        value.ok_or_else(|| invalid(path, format!("no number under the key {key}")))
    };
    let datasets = reader.metadata().get(DATASETS).and_then(Value::as_array).and_then(Array::strs);
    let datasets = datasets.ok_or_else(|| invalid(path, format!("no texts under the key {DATASETS}")))?;
    let mut matrix = ImportanceMatrix {
        datasets: datasets.map(std::borrow::Cow::into_owned).collect(),
        chunks: number(CHUNK_COUNT)?,
        chunk_size: Some(number(CHUNK_SIZE)?.max(1)),
        entries: BTreeMap::new(),
    };
    for tensor in reader.tensors() {
        let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
        let counts = reader.tensor(&format!("{name}{COUNTS}"));
        let counts = counts.ok_or_else(|| at(path, name, "has sums and no counts".into()))?;
        let numbers = |tensor: &crate::gguf::TensorInfo| -> Result<Vec<f32>, Error> {
            if tensor.ty != TensorType::F32 {
                return Err(at(path, &tensor.name, format!("is {} and not F32", tensor.ty)));
            }
            let bytes = reader.data(tensor)?;
            Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        };
        let (sums, counts) = (numbers(tensor)?, numbers(counts)?);
        let counts: Option<Vec<u64>> = counts.into_iter().map(to_count).collect();
        let counts = counts.ok_or_else(|| at(path, name, "has a count that is none".into()))?;
        if counts.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            return Err(at(path, name, format!("has {} sums for {} counts", sums.len(), counts.len())));
        }
        matrix.entries.insert(name.to_owned(), Entry { sums, counts });
    }
    let lone = reader.tensors().iter().filter_map(|tensor| tensor.name.strip_suffix(COUNTS));
    if let Some(name) = lone.into_iter().find(|&name| !matrix.entries.contains_key(name)) {
        return Err(at(path, name, "has counts and no sums".into()));
    }
    if matrix.entries.is_empty() {
        return Err(invalid(path, "it has no tensors NAME.in_sum2 and NAME.counts"));
    }
    Ok(matrix)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn to_count(count: f32) -> Option<u64> {
    (0.0..MAX_COUNT).contains(&count).then(|| count.round() as u64)
}

/// Reads a legacy file from the front.
struct Legacy<'a> {
    path: &'a Path,
    rest: &'a [u8],
}

impl<'a> Legacy<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or_else(|| invalid(self.path, "it is neither GGUF nor complete in llama.cpp's legacy form"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A non-negative number.
    fn number(&mut self) -> Result<usize, Error> {
        let bytes = self.take(4)?;
        let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(number).map_err(|_| invalid(self.path, "it is neither GGUF nor in llama.cpp's legacy form"))
    }

    fn text(&mut self) -> Result<String, Error> {
        let len = self.number()?;
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }
}

fn from_legacy(path: &Path, bytes: &[u8]) -> Result<ImportanceMatrix, Error> {
    let mut file = Legacy { path, rest: bytes };
    let mut matrix = ImportanceMatrix::default();
    let entries = file.number()?;
    if entries == 0 {
        return Err(invalid(path, "it has no entries"));
    }
    for _ in 0..entries {
        let name = file.text()?;
        let calls = file.number()?;
        let values = file.number()?;
        if values == 0 {
            return Err(at(path, &name, "has no values".into()));
        }
        let sums = file.take(values.checked_mul(4).ok_or_else(|| invalid(path, "it is too large"))?)?;
        let sums = sums.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        // A file with zero calls has means already.
        let counts = vec![(calls as u64).max(1)];
        matrix.entries.insert(name, Entry { sums, counts });
    }
    // The oldest files end here.
    if !file.rest.is_empty() {
        matrix.chunks = u32::try_from(file.number()?).unwrap_or(u32::MAX);
        let dataset = file.text()?;
        matrix.datasets.extend(Some(dataset).filter(|dataset| !dataset.is_empty()));
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> ImportanceMatrix {
        let mut matrix = ImportanceMatrix::new(4);
        matrix.datasets = vec!["a.txt".into(), "b.txt".into()];
        let entries = [
            ("blk.0.attn_q.weight", vec![8.0, 16.0], vec![8]),
            ("blk.0.ffn_up_exps.weight", vec![4.0, 2.0, 0.0, 0.0], vec![4, 0]),
            ("blk.1.ffn_up_exps.weight", vec![0.0; 4], vec![0, 0]),
        ];
        for (name, sums, counts) in entries {
            matrix.entries.insert(name.into(), Entry { sums, counts });
        }
        matrix.count_chunks();
        matrix
    }

    #[test]
    fn gguf_files_are_read_as_they_were_written() {
        let bytes = matrix().to_bytes(FileForm::Gguf).expect("written");
        assert_eq!(ImportanceMatrix::from_bytes(Path::new("m"), bytes).expect("read"), matrix());
    }

    #[test]
    fn legacy_files_have_means_times_chunks() {
        let bytes = matrix().to_bytes(FileForm::Legacy).expect("written");
        let read = ImportanceMatrix::from_bytes(Path::new("m"), bytes.clone()).expect("read");
        assert_eq!((read.chunks, read.chunk_size, &read.datasets[..]), (2, None, &["b.txt".to_owned()][..]));
        let entry = |name: &str| &read.entries[name];
        assert_eq!(*entry("blk.0.attn_q.weight"), Entry { sums: vec![2.0, 4.0], counts: vec![2] });
        assert_eq!(*entry("blk.0.ffn_up_exps.weight"), Entry { sums: vec![1.0, 0.5, 1.0, 1.0], counts: vec![1] });
        assert_eq!(read.entries.len(), 2);
        // The oldest files end after the entries; a shorter trailer is not valid.
        let trailer = 8 + "b.txt".len();
        for len in 0..bytes.len() {
            let read = ImportanceMatrix::from_bytes(Path::new("m"), bytes[..len].to_vec());
            assert_eq!(read.is_ok(), len == bytes.len() - trailer, "{len}");
        }
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let mut nan = matrix();
        nan.entries.get_mut("blk.0.attn_q.weight").expect("there").sums[1] = f32::NAN;
        let refused =
            |bytes: Vec<u8>| ImportanceMatrix::from_bytes(Path::new("m"), bytes).expect_err("none").to_string();
        let error = refused(nan.to_bytes(FileForm::Gguf).expect("written"));
        assert_eq!(error, "m: tensor blk.0.attn_q.weight: one of its sums is NaN");
        assert!(refused(b"\xff\xff\xff\xff".to_vec()).contains("not an importance matrix"));
        assert!(refused(b"Once upon a time there was a dog".to_vec()).contains("not an importance matrix"));
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        let model = Writer::to_sink(Vec::new(), "m", &metadata, &[]).expect("valid").into_sink().expect("complete");
        assert!(refused(model).contains("imatrix."));
    }
}
