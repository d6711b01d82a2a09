//! Names of tensors: `blk.LAYER.PART` are those of a layer of the model.

/// The layer that a tensor is of, and its part in it: 3 and `attn_q.weight` of `blk.3.attn_q.weight`. `None` for a tensor
/// outside of the layers.
#[must_use]
pub fn layer_and_part(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_number.then(|| layer.parse().ok()).flatten()?, part))
}

/// The layer that a tensor is of; `None` outside of the layers.
#[must_use]
pub fn layer_of(name: &str) -> Option<usize> {
    layer_and_part(name).map(|(layer, _)| layer)
}

/// A tensor's part in its layer: `attn_q.weight` of `blk.3.attn_q.weight`. The name itself outside of the layers.
#[must_use]
pub fn part_of(name: &str) -> &str {
    layer_and_part(name).map_or(name, |(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::{layer_and_part, layer_of, part_of};

    #[test]
    fn layers_and_parts_are_told_apart() {
        assert_eq!(layer_and_part("blk.12.ffn_up_exps.weight"), Some((12, "ffn_up_exps.weight")));
        assert_eq!((layer_of("blk.0.attn_q.bias"), part_of("blk.0.attn_q.bias")), (Some(0), "attn_q.bias"));
        for name in ["output.weight", "blk.x.weight", "blk.+1.weight", "blk.7", "blk..1", "xblk.1.a", ""] {
            assert_eq!((layer_of(name), part_of(name)), (None, name));
        }
    }
}
