//! Layers that are left out of a model (`--prune-layers`): the others are renumbered, and metadata with an element for each layer
//! lose those of the layers left out.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Error;
use super::Source;
use crate::gguf::{Metadata, TensorSpec, Value, keys};

/// Keys of an architecture that may have an element for each layer.
const PER_LAYER: &[&str] = &[
    "attention.compress_ratios",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.indexer.types",
    "attention.recurrent_layers",
    "attention.sliding_window_pattern",
    "expert_feed_forward_length",
    "expert_used_count",
    "feed_forward_length",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
];

/// Where a tensor's name has the number of its layer: `blk.12.attn_v.weight`.
fn number_in(name: &str) -> Option<(Range<usize>, usize)> {
    for (at, part) in name.match_indices("blk.") {
        let start = at + part.len();
        let digits = name[start..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && name[start + digits..].starts_with('.') {
            let range = start..start + digits;
            return name[range.clone()].parse().ok().map(|number| (range, number));
        }
    }
    None
}

/// The new numbers of the layers.
pub(super) struct LayerNumbers {
    /// The new number of each layer of the source; `None` for one that is left out.
    numbers: BTreeMap<usize, Option<usize>>,
    left: usize,
}

impl LayerNumbers {
    /// Leaves the layers `pruned` out of those of `source`.
    ///
    /// # Errors
    /// When the source has no such layer, or no layer would be left.
    pub(super) fn new(source: &dyn Source, pruned: &[usize]) -> Result<Self, Error> {
        let names = source.tensors().iter().map(|spec| spec.name.as_str());
        let mut numbers: BTreeMap<usize, Option<usize>> =
            names.filter_map(number_in).map(|(_, number)| (number, None)).collect();
        let total = numbers.len();
        if let Some(&layer) = pruned.iter().find(|layer| !numbers.contains_key(layer)) {
            return Err(Error::NoSuchLayer { path: source.path().to_owned(), layer, total });
        }
        let first = pruned.iter().min().copied().unwrap_or(usize::MAX);
        let mut left = 0;
        for (&number, new) in numbers.iter_mut().filter(|(number, _)| !pruned.contains(number)) {
            let to = if number < first { number } else { left };
            *new = Some(to);
            left = to + 1;
        }
        if total > 0 && left == 0 {
            return Err(Error::NothingLeft { path: source.path().to_owned() });
        }
        Ok(Self { numbers, left })
    }

    /// Gives a tensor its new name. Returns false for a tensor of a layer that is left out.
    pub(super) fn rename(&self, spec: &mut TensorSpec) -> bool {
        let Some((range, number)) = number_in(&spec.name) else { return true };
        let Some(new) = self.numbers.get(&number).copied().flatten() else { return false };
        spec.name.replace_range(range, &new.to_string());
        true
    }

    /// Sets the number of layers, as the last key as llama-quantize does, and shortens the arrays with an element for each layer.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        let architecture = metadata.get(keys::GENERAL_ARCHITECTURE).and_then(Value::as_str).unwrap_or_default();
        let key = keys::of(architecture, keys::BLOCK_COUNT);
        let total = metadata.get(&key).and_then(Value::as_u64);
        let per_layer: Vec<String> = PER_LAYER.iter().map(|name| keys::of(architecture, name)).collect();
        for name in per_layer {
            let array = metadata.get(&name).and_then(Value::as_array).filter(|array| Some(array.len() as u64) == total);
            let kept =
                array.and_then(|array| array.kept(|layer| self.numbers.get(&layer).copied().flatten().is_some()));
            if let Some(kept) = kept {
                metadata.set(name, kept);
            }
        }
        metadata.set_last(key, u32::try_from(self.left).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::number_in;

    #[test]
    fn names_have_the_number_of_their_layer() {
        let number = |name| number_in(name).map(|(_, number)| number);
        assert_eq!(number("blk.12.attn_v.weight"), Some(12));
        assert_eq!(number("enc.blk.3.ffn_up.weight"), Some(3));
        for name in ["output.weight", "blk.x.weight", "blk.7", "blk..1."] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
