//! The choices: which tensors are open, in which types they may be, and what each costs.

use super::allocate::Choice;
use super::weights::Weights;
use super::{ChosenTensor, Target};
use crate::TensorType;
use crate::quantize::importance::is_required;
use crate::quantize::{FileType, Plan, PlannedTensor, Reason, is_quantized};

/// The types that are tried. Types for which models must be trained are left out.
const TYPES: &[TensorType] = {
    use TensorType as T;
    &[
        T::IQ1_S,
        T::IQ1_M,
        T::IQ2_XXS,
        T::IQ2_XS,
        T::IQ2_S,
        T::Q2_K,
        T::IQ3_XXS,
        T::IQ3_S,
        T::Q3_K,
        T::IQ4_XS,
        T::IQ4_NL,
        T::Q4_0,
        T::Q4_K,
        T::Q4_1,
        T::Q5_K,
        T::Q5_0,
        T::Q5_1,
        T::Q6_K,
        T::Q8_0,
        T::F16,
    ]
};

/// The byte budget.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    pub(super) target: Target,
    /// Alignment of tensors in a file, in bytes.
    pub(super) alignment: u64,
    /// Weights of the model.
    pub(super) parameters: u64,
}

impl Budget {
    pub(super) fn limit(self) -> u64 {
        match self.target {
            Target::FileBytes(bytes) => bytes,
            Target::BitsPerWeight(bits) => (bits * self.parameters as f64 / 8.0) as u64,
        }
    }

    /// The cost of a tensor of `bytes` bytes, padding included.
    pub(super) fn cost(self, bytes: u64) -> u64 {
        match self.target {
            Target::FileBytes(_) => bytes.next_multiple_of(self.alignment),
            Target::BitsPerWeight(_) => bytes,
        }
    }

    /// The cost of a plan.
    pub(super) fn spent(self, plan: &Plan) -> u64 {
        match self.target {
            Target::FileBytes(_) => plan.file_bytes,
            Target::BitsPerWeight(_) => plan.tensor_bytes(),
        }
    }
}

/// A tensor whose type is to be chosen.
pub(super) struct Open {
    /// Its number in the plan.
    pub(super) number: usize,
    pub(super) candidates: Vec<Candidate>,
}

/// A type that a tensor may get.
pub(super) struct Candidate {
    pub(super) ty: TensorType,
    pub(super) bytes: u64,
    /// Its cost, in bytes of the budget.
    pub(super) cost: u64,
    /// As [`ChosenTensor::error`]; 0 before it is measured.
    pub(super) error: f64,
}

impl Open {
    pub(super) fn tensor<'a>(&self, plan: &'a Plan) -> &'a PlannedTensor {
        &plan.tensors[self.number]
    }

    pub(super) fn least(&self) -> u64 {
        self.candidates.iter().map(|candidate| candidate.cost).min().unwrap_or(0)
    }

    pub(super) fn choices(&self, plan: &Plan, weights: &Weights) -> Vec<Choice> {
        let weight = weights.of(&self.tensor(plan).spec.name);
        self.candidates.iter().map(|c| Choice { cost: c.cost, loss: c.error * weight }).collect()
    }

    pub(super) fn chosen(&self, plan: &Plan, weights: &Weights, at: usize) -> ChosenTensor {
        let (name, candidate) = (self.tensor(plan).spec.name.clone(), &self.candidates[at]);
        let loss = candidate.error * weights.of(&name);
        ChosenTensor { name, ty: candidate.ty, bytes: candidate.bytes, error: candidate.error, loss }
    }
}

/// The tensors of `plan` whose types are not fixed by options, with all types that they may get.
pub(super) fn open_tensors(plan: &Plan, budget: Budget) -> Vec<Open> {
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '#' | '=' | ',' | '*');
    let is_open = |tensor: &PlannedTensor| {
        is_quantized(&tensor.spec)
            && !matches!(tensor.reason, Reason::Override | Reason::NotQuantized)
            && !tensor.spec.name.contains(is_odd)
    };
    let open = |(number, tensor): (usize, &PlannedTensor)| {
        let candidate = |&ty: &TensorType| {
            let needs_importance = is_required(&tensor.spec.name, ty, FileType::Q4_K_M);
            let fits = tensor.cols().is_multiple_of(ty.block_len() as u64);
            if !fits || needs_importance && tensor.importance.is_none() {
                return None;
            }
            let bytes = ty.bytes_for(tensor.elements())?;
            Some(Candidate { ty, bytes, cost: budget.cost(bytes), error: 0.0 })
        };
        let mut candidates: Vec<Candidate> = TYPES.iter().filter_map(candidate).collect();
        let source = tensor.source_type;
        if candidates.iter().all(|candidate| candidate.ty != source) {
            let bytes = tensor.source_bytes();
            candidates.push(Candidate { ty: source, bytes, cost: budget.cost(bytes), error: 0.0 });
        }
        Open { number, candidates }
    };
    plan.tensors.iter().enumerate().filter(|(_, tensor)| is_open(tensor)).map(open).collect()
}

/// Leaves out types with far fewer bits than the average that fits: they take longest to measure and would not be
/// chosen.
pub(super) fn leave_out_extremes(open: &mut [Open], room: u64) {
    const MOST_BELOW: f64 = 0.6;
    let most = |open: &Open| open.candidates.iter().map(|c| c.cost).max().unwrap_or(0);
    let all: u64 = open.iter().map(most).sum();
    let share = (room as f64 / all.max(1) as f64).min(1.0);
    let is_kept = |open: &Open, candidate: &Candidate| candidate.cost as f64 >= most(open) as f64 * share * MOST_BELOW;
    let least =
        |open: &Open| open.candidates.iter().filter(|c| is_kept(open, c)).map(|c| c.cost).min().unwrap_or(u64::MAX);
    // Tensors whose rows do not fill blocks of small types may need the bytes that others save.
    if open.iter().map(least).fold(0, u64::saturating_add) > room {
        return;
    }
    for open in open.iter_mut() {
        let bound = most(open) as f64 * share * MOST_BELOW;
        open.candidates.retain(|candidate| candidate.cost as f64 >= bound);
    }
}
