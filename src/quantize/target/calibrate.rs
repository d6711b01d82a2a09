//! Weights measured on the model itself: some tensors get the types that they would have, all others stay, and the divergence of the
//! model's predictions, divided by the errors of these tensors, is the weight of each of them.
//!
//! First whole kinds of tensors are measured, then thirds of the layers of each, then single tensors. Before each of these rounds the
//! types are chosen again with what is known, and the groups with the largest expected losses come first. What is measured
//! depends on the number of measurements alone.

use std::collections::{BTreeMap, BTreeSet};

use super::allocate::allocate;
use super::choices::{Candidate, Open};
use super::rounded::rounded;
use super::weights::{Group, Level, Weights};
use crate::TensorType;
use crate::kernels::Matrix;
use crate::quantize::{Error, Plan, Source};

/// The divergence of a measurement is at least this, in nats: below it there is but the rounding of sums.
const LEAST: f64 = 1e-9;
/// Smaller errors are roundings to half precision, of numbers that a type holds as they are (a source that was made from that type):
/// their divergence would be noise.
const LEAST_ERROR: f64 = 1e-6;

/// Runs the model to measure what changes of its tensors cost.
pub trait Judge {
    /// Whether there shall be another measurement, after `done` of at most `most`.
    fn goes_on(&mut self, done: usize, most: usize) -> bool;

    /// The mean divergence of the model with these tensors from the model as it is, in nats; `None` where it does not compute with
    /// them.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn divergence(&mut self, tensors: Vec<(String, Matrix)>) -> Result<Option<f64>, String>;
}

/// What calibration needs to know.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) plan: &'a Plan,
    pub(super) open: &'a [Open],
    /// Bytes for the open tensors.
    pub(super) room: u64,
    pub(super) threads: usize,
}

/// Some tensors, and how they are measured.
struct Trial {
    group: Group,
    /// Number of an open tensor, and the type that it is measured in.
    tensors: Vec<(usize, usize)>,
}

/// Measures until `judge` has enough. Returns the number of measurements.
pub(super) fn calibrate(setting: Setting<'_>, weights: &mut Weights, judge: &mut dyn Judge) -> Result<usize, Error> {
    let Setting { plan, open, .. } = setting;
    let names = || open.iter().map(|open| open.tensor(plan).spec.name.as_str());
    let count = |level: Level| {
        let groups: BTreeSet<Group> = names().map(|name| weights.group(level, name)).collect();
        groups.len()
    };
    let most = Level::ALL.map(count).iter().sum();
    let mut known: BTreeMap<Vec<(usize, usize)>, Option<f64>> = BTreeMap::new();
    // Measured divergences, and what the conventions would have expected.
    let (mut found, mut expected) = (0.0, 0.0);
    for level in Level::ALL {
        for Trial { group, tensors } in trials(setting, weights, level) {
            let error = |&(number, at): &(usize, usize)| open[number].candidates[at].error;
            let name = |&(number, _): &(usize, usize)| &open[number].tensor(plan).spec.name;
            let errors: f64 = tensors.iter().map(error).sum();
            let by_convention: f64 = tensors.iter().map(|at| error(at) * weights.by_convention(name(at))).sum();
            let divergence = match known.get(&tensors) {
                Some(&divergence) => divergence,
                None if !judge.goes_on(known.len(), most) => return Ok(known.len()),
                None => measure(setting, &tensors, judge)?.map(|divergence| divergence.max(LEAST)),
            };
            known.insert(tensors, divergence);
            let Some(divergence) = divergence else { continue };
            if level == Level::Kinds {
                found += divergence;
                expected += by_convention;
                weights.set_scale(found / expected);
            }
            weights.set(group, divergence / errors);
        }
    }
    Ok(known.len())
}

/// The measurements of a level, those with the largest expected losses first.
fn trials(setting: Setting<'_>, weights: &Weights, level: Level) -> Vec<Trial> {
    let Setting { plan, open, room, .. } = setting;
    let choices: Vec<_> = open.iter().map(|open| open.choices(plan, weights)).collect();
    let mut groups: BTreeMap<Group, (f64, Vec<(usize, usize)>)> = BTreeMap::new();
    for (number, (open, chosen)) in open.iter().zip(allocate(&choices, room)).enumerate() {
        let name = &open.tensor(plan).spec.name;
        let Some(at) = with_error(&open.candidates, chosen) else { continue };
        let (loss, tensors) = groups.entry(weights.group(level, name)).or_default();
        *loss += choices[number][at].loss;
        tensors.push((number, at));
    }
    let mut trials: Vec<_> =
        groups.into_iter().map(|(group, (loss, tensors))| (loss, Trial { group, tensors })).collect();
    trials.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    trials.into_iter().map(|(_, trial)| trial).collect()
}

/// The chosen candidate where it has an error that can be measured, else that with the smallest such error.
fn with_error(candidates: &[Candidate], chosen: usize) -> Option<usize> {
    if candidates[chosen].error >= LEAST_ERROR {
        return Some(chosen);
    }
    let others = (0..candidates.len()).filter(|&at| candidates[at].error >= LEAST_ERROR);
    others.min_by(|&a, &b| candidates[a].error.total_cmp(&candidates[b].error))
}

/// The divergence of the model with these tensors.
fn measure(setting: Setting<'_>, tensors: &[(usize, usize)], judge: &mut dyn Judge) -> Result<Option<f64>, Error> {
    let Setting { source, plan, open, threads, .. } = setting;
    let again = |&(number, at): &(usize, usize)| -> Result<(String, Matrix), Error> {
        let (tensor, ty): (_, TensorType) = (open[number].tensor(plan), open[number].candidates[at].ty);
        let name = source.tensors()[tensor.source].name.clone();
        Ok((name, rounded(source, tensor, ty, threads)?))
    };
    let tensors: Vec<_> = tensors.iter().map(again).collect::<Result<_, _>>()?;
    let name = tensors.first().map(|(name, _)| name.clone()).unwrap_or_default();
    judge.divergence(tensors).map_err(|problem| Error::Judge { name, problem })
}
