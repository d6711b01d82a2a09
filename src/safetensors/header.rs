//! The header of one safetensors file. Everything is checked before it is used.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Deserialize;

use super::dtype::Dtype;
use super::error::{Place, Problem};
use super::json::Entries;

/// Bytes of a header. That of a checkpoint with 10,000 tensors has about a million.
pub(super) const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Bytes of the field that gives the header's length.
pub(super) const LENGTH_BYTES: u64 = 8;

/// A tensor as the header describes it.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Dimensions, the slowest-running one first.
    pub(super) shape: Vec<u64>,
    /// Start of its data, in bytes from the start of the file.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// An invalid field: the place, its offset in the file, the problem.
pub(super) type Fault = (Place, u64, Problem);

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Checks the announced length of the header. `begins` are the first bytes of the file, `size` those of all of it.
pub(super) fn length(begins: &[u8], size: u64) -> Result<u64, Fault> {
    let fault = |problem| (Place::HeaderLength, 0, problem);
    let Some(field) = begins.first_chunk() else {
        return Err(fault(Problem::Truncated { needed: LENGTH_BYTES, left: size, begins: begins.into() }));
    };
    let bytes = u64::from_le_bytes(*field);
    let left = size.saturating_sub(LENGTH_BYTES);
    if bytes > left {
        return Err(fault(Problem::Truncated { needed: bytes, left, begins: begins.into() }));
    }
    if bytes > MAX_HEADER_BYTES {
        return Err(fault(Problem::TooLong { bytes, limit: MAX_HEADER_BYTES, begins: begins.into() }));
    }
    Ok(bytes)
}

/// A checked header.
pub(super) struct Header {
    /// Sorted by name.
    pub(super) tensors: Vec<Entry>,
    /// The framework that wrote it, if the file says so.
    pub(super) format: Option<String>,
}

/// Reads and checks a header, in a file of `size` bytes.
pub(super) fn parse(json: &[u8], size: u64) -> Result<Header, Fault> {
    let in_header = |problem| (Place::Header, LENGTH_BYTES, problem);
    let entries: Entries<RawEntry> =
        serde_json::from_slice(json).map_err(|error| in_header(Problem::Json(error.to_string())))?;
    let format = entries.format.clone();
    let raw = entries.sorted().map_err(|name| (Place::Tensor(name), LENGTH_BYTES, Problem::Duplicate))?;
    let data_start = LENGTH_BYTES.saturating_add(json.len() as u64);
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, raw) in raw {
        match entry(&name, raw, data_start, size) {
            Ok(entry) => tensors.push(entry),
            Err(problem) => return Err((Place::Tensor(name), LENGTH_BYTES, problem)),
        }
    }
    check_adjacent(&tensors, data_start, size)?;
    Ok(Header { tensors, format })
}

fn entry(name: &str, raw: RawEntry, data_start: u64, size: u64) -> Result<Entry, Problem> {
    let RawEntry { dtype, shape, data_offsets: (start, end) } = raw;
    let dtype = Dtype::from_name(&dtype).ok_or(Problem::Dtype(dtype))?;
    if shape.len() > super::MAX_DIMS {
        return Err(Problem::Dimensions(shape.len()));
    }
    let expected = shape.iter().try_fold(dtype.bytes(), |product, &dim| product.checked_mul(dim));
    let Some(expected) = expected else { return Err(Problem::Shape(shape)) };
    let found = end.checked_sub(start).ok_or(Problem::Range { start, end })?;
    if found != expected {
        return Err(Problem::Size { found, expected, shape, dtype });
    }
    let end = data_start.saturating_add(end);
    if end > size {
        return Err(Problem::PastEnd { end, size });
    }
    Ok(Entry { name: name.to_owned(), dtype, shape, start: data_start.saturating_add(start), bytes: expected })
}

/// Checks that the data of all tensors fill the data section: no gap, no overlap, nothing after them.
fn check_adjacent(tensors: &[Entry], data_start: u64, size: u64) -> Result<(), Fault> {
    let mut by_start: Vec<&Entry> = tensors.iter().collect();
    by_start.sort_by_key(|entry| (entry.start, entry.bytes));
    let mut end = data_start;
    for entry in by_start {
        if entry.start != end {
            let problem = Problem::NotAdjacent {
                start: entry.start.saturating_sub(data_start),
                expected: end.saturating_sub(data_start),
            };
            return Err((Place::Tensor(entry.name.clone()), entry.start, problem));
        }
        end = entry.start.saturating_add(entry.bytes);
    }
    let bytes = size.saturating_sub(end);
    if bytes == 0 { Ok(()) } else { Err((Place::Header, end, Problem::Trailing { bytes })) }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers of a test are small")]
mod tests {
    use super::{Problem, length, parse};

    /// The problem of a header whose file has `data` bytes after it.
    fn problem(json: &str, data: u64) -> Option<Problem> {
        parse(json.as_bytes(), 8 + json.len() as u64 + data).err().map(|(_, _, problem)| problem)
    }

    #[test]
    fn good_headers_pass() {
        assert_eq!(problem("{}", 0), None);
        let text = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"I64","shape":[0],"data_offsets":[4,4]}}  "#;
        assert_eq!(problem(text, 12 + 4), None);
    }

    #[test]
    fn every_fault_is_seen() {
        let one = |fields: &str| format!(r#"{{"a":{{{fields}}}}}"#);
        let tensor = |dtype: &str, shape: &str, offsets: &str| {
            one(&format!(r#""dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offsets}]"#))
        };
        let is = |json: String, data: u64, check: fn(&Problem) -> bool| {
            let problem = problem(&json, data).unwrap_or_else(|| panic!("accepted: {json}"));
            assert!(check(&problem), "{json}: {problem:?}");
        };
        is("[]".into(), 0, |p| matches!(p, Problem::Json(_)));
        is("[".repeat(100_000), 0, |p| matches!(p, Problem::Json(_)));
        is(one(r#""dtype":"F32""#), 0, |p| matches!(p, Problem::Json(_)));
        is(tensor("F32", "-1", "0,4"), 4, |p| matches!(p, Problem::Json(_)));
        is(tensor("F32", "1", "0,99999999999999999999"), 4, |p| matches!(p, Problem::Json(_)));
        is(tensor("F33", "1", "0,4"), 4, |p| matches!(p, Problem::Dtype(_)));
        is(tensor("F32", "1,1,1,1,1,1,1,1,1", "0,4"), 4, |p| matches!(p, Problem::Dimensions(9)));
        is(tensor("F32", "4294967296,4294967296", "0,0"), 0, |p| matches!(p, Problem::Shape(_)));
        is(tensor("F32", "1", "4,0"), 4, |p| matches!(p, Problem::Range { .. }));
        is(tensor("F32", "2", "0,4"), 4, |p| matches!(p, Problem::Size { found: 4, expected: 8, .. }));
        is(tensor("F32", "1", "0,4"), 3, |p| matches!(p, Problem::PastEnd { .. }));
        is(tensor("F32", "1", "0,4"), 5, |p| matches!(p, Problem::Trailing { bytes: 1 }));
        is(tensor("F32", "1", "4,8"), 8, |p| matches!(p, Problem::NotAdjacent { start: 4, expected: 0 }));
        let entry = r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
        is(format!(r#"{{"a":{entry},"b":{entry}}}"#), 4, |p| {
            matches!(p, Problem::NotAdjacent { start: 0, expected: 4 })
        });
        is(format!(r#"{{"a":{entry},"a":{entry}}}"#), 4, |p| matches!(p, Problem::Duplicate));
    }

    #[test]
    fn header_lengths_are_checked() {
        let problem = |bytes: &[u8], size| length(bytes, size).err().map(|(_, _, problem)| problem.to_string());
        assert_eq!(problem(&2u64.to_le_bytes(), 10), None);
        assert!(problem(&[1, 2], 2).is_some_and(|text| text.contains("8 bytes needed, 2 left")));
        assert!(problem(&3u64.to_le_bytes(), 10).is_some());
        assert!(problem(&(1u64 << 40).to_le_bytes(), u64::MAX).is_some_and(|text| text.contains("limit")));
        assert!(problem(b"GGUF\x03\0\0\0", 1000).is_some_and(|text| text.ends_with("a GGUF file?")));
    }
}
