//! The header of a file to be written.

use serde_json::{Map, Value as Json, json};

use super::Dtype;

/// The first bytes of a file with tensors of these names, shapes and types, whose elements follow in this order: the
/// header's length and the header, padded with spaces to a multiple of eight bytes.
#[must_use]
pub fn header_bytes<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>, dtype: Dtype) -> Vec<u8> {
    let mut header = Map::new();
    // Transformers refuses files that do not name a framework.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + shape.iter().product::<u64>() * dtype.bytes();
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [start, end] });
        header.insert(name.to_owned(), entry);
        start = end;
    }
    let mut text = Json::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safetensors::Checkpoint;

    #[test]
    fn what_is_written_is_read() {
        let shapes: [(&str, &[u64]); 2] = [("b", &[2, 3]), ("a", &[4])];
        let mut file = header_bytes(shapes, Dtype::F16);
        assert_eq!(file.len() % 8, 0);
        file.extend([0; 20]);
        let read = Checkpoint::from_bytes("made", file.into()).expect("valid");
        let found: Vec<(&str, &[u64])> = read.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
        assert_eq!((found.len(), read.tensor("b").map(|t| &t.shape[..])), (2, Some(&[2, 3][..])));
        assert_eq!(read.format(), Some("pt"));
    }
}
