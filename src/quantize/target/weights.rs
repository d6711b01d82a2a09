//! What an error of a tensor costs: a weight for each kind of tensor, or what has been measured on the model itself.

use std::collections::BTreeMap;

use crate::gguf::{layer_of, part_of};
use crate::quantize::Plan;

/// Tensors that share a weight, from many to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// All of a kind: the name without its layer.
    Kind(String),
    /// Those of a kind in the first, second or last third of the layers.
    Third(String, usize),
    /// One tensor.
    Tensor(String),
}

/// How tensors are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Kinds,
    Thirds,
    Tensors,
}

impl Level {
    /// From groups of many tensors to single tensors.
    pub(super) const ALL: [Self; 3] = [Self::Kinds, Self::Thirds, Self::Tensors];
}

/// The loss of a tensor per unit of its error.
///
/// Before anything is measured, it is relative to that of the token embedding, from divergences of two models of 4 and 30 layers of which
/// one kind of tensor was quantized at a time (`docs/choosing-a-quant.md` has the figures); that of a layer falls with the number of
/// layers. What is measured is in nats.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    layers: usize,
    has_output: bool,
    /// What the conventions are multiplied with.
    scale: f64,
    measured: BTreeMap<Group, f64>,
}

impl Weights {
    pub(super) fn new(plan: &Plan) -> Self {
        let layers = plan.tensors.iter().filter_map(|tensor| layer_of(&tensor.spec.name));
        Self {
            layers: layers.max().unwrap_or(0) + 1,
            has_output: plan.tensors.iter().any(|tensor| tensor.spec.name == "output.weight"),
            scale: 1.0,
            measured: BTreeMap::new(),
        }
    }

    /// The group of a tensor.
    pub(super) fn group(&self, level: Level, name: &str) -> Group {
        let kind = part_of(name).to_owned();
        match (level, layer_of(name)) {
            (Level::Kinds, _) => Group::Kind(kind),
            (Level::Thirds, layer) => Group::Third(kind, layer.unwrap_or(0) * 3 / self.layers),
            (Level::Tensors, _) => Group::Tensor(name.to_owned()),
        }
    }

    /// The weight of a tensor: that of the smallest group which has been measured, or the convention.
    pub(super) fn of(&self, name: &str) -> f64 {
        let measured = |level: &Level| self.measured.get(&self.group(*level, name)).copied();
        Level::ALL.iter().rev().find_map(measured).unwrap_or_else(|| self.scale * self.by_convention(name))
    }

    /// Sets the weight of a group.
    pub(super) fn set(&mut self, group: Group, weight: f64) {
        self.measured.insert(group, weight);
    }

    /// Brings the conventions to the scale of what is measured.
    pub(super) fn set_scale(&mut self, scale: f64) {
        self.scale = scale;
    }

    /// The weight of a tensor of this kind in any model.
    #[allow(clippy::cast_precision_loss, reason = "a number of layers")]
    pub(super) fn by_convention(&self, name: &str) -> f64 {
        const LOOKED_UP_AND_OUTPUT: f64 = 1.0;
        let in_layers = [
            ("attn_q.", 0.11),
            ("attn_k.", 0.12),
            ("attn_v.", 0.5),
            ("attn_output", 0.19),
            ("attn_qkv", 0.4),
            ("ffn_gate", 0.36),
            ("ffn_up", 0.47),
            ("ffn_down", 0.63),
        ];
        match name {
            "token_embd.weight" if !self.has_output => LOOKED_UP_AND_OUTPUT,
            "token_embd.weight" | "output.weight" => LOOKED_UP_AND_OUTPUT / 2.0,
            _ => {
                let found = in_layers.iter().find(|(part, _)| name.contains(part));
                found.map_or(0.3, |&(_, all)| all) / self.layers as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Group, Level, Weights};

    #[test]
    fn the_smallest_measured_group_counts() {
        let mut weights = Weights { layers: 4, has_output: false, scale: 1.0, measured: BTreeMap::new() };
        let of = |weights: &Weights| [0, 1, 2, 3].map(|layer| weights.of(&format!("blk.{layer}.attn_v.weight")));
        assert_eq!(of(&weights), [0.125; 4]);
        weights.set_scale(2.0);
        assert_eq!((of(&weights), weights.of("token_embd.weight")), ([0.25; 4], 2.0));
        weights.set(weights.group(Level::Kinds, "blk.3.attn_v.weight"), 5.0);
        weights.set(Group::Third("attn_v.weight".into(), 0), 7.0);
        weights.set(Group::Tensor("blk.3.attn_v.weight".into()), 9.0);
        assert_eq!(of(&weights), [7.0, 7.0, 5.0, 9.0]);
        assert_eq!(weights.of("blk.3.attn_k.weight"), 2.0 * 0.12 / 4.0);
    }
}
