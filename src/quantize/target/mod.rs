//! Types for a target size: chooses a type for each tensor so that the file fits the size with the smallest loss.
//!
//! [`measure`] measures the error of every tensor in every type, [`allocate`] chooses, and the choice becomes a
//! [`Recipe`], from which the plan is made as usual.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bits of a weight become bytes of a budget"
)]

mod allocate;
mod measure;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::importance::is_required;
use super::{Error, FileType, Options, Plan, PlannedTensor, Reason, Recipe, Source, is_quantized};
use crate::TensorType;
use crate::gguf::{DEFAULT_ALIGNMENT, Value, keys, layer_of};
use crate::printable::printable;
use allocate::{Choice, allocate};
use measure::measure;

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

/// The maximum size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Bytes of all files, headers and padding included.
    FileBytes(u64),
    /// Average bits per weight.
    BitsPerWeight(f64),
}

/// A tensor with its type and its error.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenTensor {
    /// Its name.
    pub name: String,
    /// The type that it gets.
    pub ty: TensorType,
    /// Bytes in that type.
    pub bytes: u64,
    /// The squared error of products with the tensor, relative to the squares of the products: for the inputs of the importance
    /// matrix, or for uniform inputs without one.
    pub error: f64,
    /// The error times the weight of this kind of tensor; the sum of losses is minimized.
    pub loss: f64,
}

/// Types for a size.
#[derive(Clone, Debug)]
pub struct TargetPlan {
    /// The options that were given, with the recipe.
    pub options: Options,
    /// What will be written.
    pub plan: Plan,
    /// The tensors whose types were chosen, in the order of the output.
    pub tensors: Vec<ChosenTensor>,
    /// The recipe, as a file.
    pub recipe: String,
}

impl TargetPlan {
    /// The losses of all tensors together.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.tensors.iter().map(|tensor| tensor.loss).sum()
    }
}

/// Chooses the types of all tensors of `source` that `options` leave open. The mix of `options` is ignored, unless
/// `is_mix_given`: then it is written as the file type. `progress` is called with the number of measured weights and of all
/// weights, and stops the work by returning false. The result does not depend on `threads` (0 means one per core).
///
/// # Errors
/// When no choice is small enough, the source cannot be read, or the options are not valid.
pub fn plan_for(
    source: &dyn Source,
    options: &Options,
    target: Target,
    is_mix_given: bool,
    threads: usize,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<TargetPlan, Error> {
    // This plan quantizes every tensor that can be quantized, so that its importance is looked up.
    let any = FileType::Q4_K_M;
    let first =
        Options { file_type: any, recipe: None, like: None, pure: false, no_fallback: false, ..options.clone() };
    let first = Plan::new(source, &first)?;
    let alignment = match first.metadata.get(keys::GENERAL_ALIGNMENT).and_then(Value::as_u64) {
        Some(alignment) if alignment > 0 => alignment,
        _ => u64::from(DEFAULT_ALIGNMENT),
    };
    let budget = Budget { target, alignment, parameters: first.parameters() };
    let mut open = open_tensors(&first, budget);
    let fixed = budget.spent(&first) - open.iter().map(|open| budget.cost(open.tensor(&first).bytes())).sum::<u64>();
    let least = fixed + open.iter().map(Open::least).sum::<u64>();
    if least > budget.limit() {
        return Err(Error::TargetTooSmall { path: source.path().to_owned(), least, limit: budget.limit() });
    }
    let room = budget.limit() - fixed;
    leave_out_extremes(&mut open, room);
    measure(source, &first, &mut open, threads, progress)?;
    let weights = Weights::new(&first);
    let choices: Vec<Vec<Choice>> = open.iter().map(|open| open.choices(&first, &weights)).collect();
    let chosen = allocate(&choices, room);
    let tensors: Vec<ChosenTensor> =
        open.iter().zip(chosen).map(|(open, at)| open.chosen(&first, &weights, at)).collect();
    let base = if is_mix_given { options.file_type } else { nearest_mix(&tensors, options.file_type) };
    let text = recipe(source, base, target, &tensors);
    let recipe = Arc::new(Recipe::parse(Path::new("target.recipe"), &text)?);
    let options = Options { file_type: base, recipe: Some(recipe), like: None, pure: false, ..options.clone() };
    let plan = Plan::new(source, &options)?;
    if budget.spent(&plan) > budget.limit() {
        let (least, limit) = (budget.spent(&plan), budget.limit());
        return Err(Error::TargetTooSmall { path: source.path().to_owned(), least, limit });
    }
    Ok(TargetPlan { options, plan, tensors, recipe: text })
}

/// The byte budget.
#[derive(Clone, Copy)]
struct Budget {
    target: Target,
    /// Alignment of tensors in a file, in bytes.
    alignment: u64,
    /// Weights of the model.
    parameters: u64,
}

impl Budget {
    fn limit(self) -> u64 {
        match self.target {
            Target::FileBytes(bytes) => bytes,
            Target::BitsPerWeight(bits) => (bits * self.parameters as f64 / 8.0) as u64,
        }
    }

    /// The cost of a tensor of `bytes` bytes, padding included.
    fn cost(self, bytes: u64) -> u64 {
        match self.target {
            Target::FileBytes(_) => bytes.next_multiple_of(self.alignment),
            Target::BitsPerWeight(_) => bytes,
        }
    }

    /// The cost of a plan.
    fn spent(self, plan: &Plan) -> u64 {
        match self.target {
            Target::FileBytes(_) => plan.file_bytes,
            Target::BitsPerWeight(_) => plan.tensor_bytes(),
        }
    }
}

/// A tensor whose type is to be chosen.
struct Open {
    /// Its number in the plan.
    number: usize,
    candidates: Vec<Candidate>,
}

/// A type that a tensor may get.
struct Candidate {
    ty: TensorType,
    bytes: u64,
    /// Its cost, in bytes of the budget.
    cost: u64,
    /// As [`ChosenTensor::error`]; 0 before it is measured.
    error: f64,
}

impl Open {
    fn tensor<'a>(&self, plan: &'a Plan) -> &'a PlannedTensor {
        &plan.tensors[self.number]
    }

    fn least(&self) -> u64 {
        self.candidates.iter().map(|candidate| candidate.cost).min().unwrap_or(0)
    }

    fn choices(&self, plan: &Plan, weights: &Weights) -> Vec<Choice> {
        let weight = weights.of(&self.tensor(plan).spec.name);
        self.candidates.iter().map(|c| Choice { cost: c.cost, loss: c.error * weight }).collect()
    }

    fn chosen(&self, plan: &Plan, weights: &Weights, at: usize) -> ChosenTensor {
        let (name, candidate) = (self.tensor(plan).spec.name.clone(), &self.candidates[at]);
        let loss = candidate.error * weights.of(&name);
        ChosenTensor { name, ty: candidate.ty, bytes: candidate.bytes, error: candidate.error, loss }
    }
}

/// The tensors of `plan` whose types are not fixed by options, with all types that they may get.
fn open_tensors(plan: &Plan, budget: Budget) -> Vec<Open> {
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
fn leave_out_extremes(open: &mut [Open], room: u64) {
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

/// The weight of an error by kind of tensor: the divergence of the model's predictions per unit of error, relative to that of
/// the token embedding. Measured on two models of 4 and 30 layers by quantizing one kind of tensor at a time
/// (`docs/choosing-a-quant.md` has the figures). The weight of a layer falls with the number of layers.
struct Weights {
    layers: f64,
    has_output: bool,
}

impl Weights {
    fn new(plan: &Plan) -> Self {
        let layers = plan.tensors.iter().filter_map(|tensor| layer_of(&tensor.spec.name));
        let last = u32::try_from(layers.max().unwrap_or(0)).unwrap_or(u32::MAX);
        Self {
            layers: f64::from(last) + 1.0,
            has_output: plan.tensors.iter().any(|tensor| tensor.spec.name == "output.weight"),
        }
    }

    fn of(&self, name: &str) -> f64 {
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
            _ => in_layers.iter().find(|(part, _)| name.contains(part)).map_or(0.3, |&(_, all)| all) / self.layers,
        }
    }
}

/// The mix whose default type most weights have, for the file type in the metadata.
fn nearest_mix(tensors: &[ChosenTensor], otherwise: FileType) -> FileType {
    let mut bytes: BTreeMap<TensorType, u64> = BTreeMap::new();
    for tensor in tensors {
        *bytes.entry(tensor.ty).or_default() += tensor.bytes;
    }
    let most = bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(ty, _)| ty);
    FileType::ALL.iter().copied().find(|mix| Some(mix.default_type()) == most).unwrap_or(otherwise)
}

/// The choice as the text of a recipe.
fn recipe(source: &dyn Source, base: FileType, target: Target, tensors: &[ChosenTensor]) -> String {
    let (name, what) = match target {
        Target::FileBytes(bytes) => (format!("{bytes}-bytes"), format!("at most {bytes} bytes")),
        Target::BitsPerWeight(bits) => (format!("{bits}bpw"), format!("at most {bits} bits per weight")),
    };
    let model = source.path().file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("name: {name}\nabout: types of {} for {what}\nbase: {base}\n\n", printable(model.as_ref()));
    let width = tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
    for tensor in tensors {
        let ChosenTensor { name, ty, bytes, error, .. } = tensor;
        text += &format!("{name:width$} = {:7}  # {bytes} bytes, error {error:.3e}\n", ty.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Metadata, Reader, TensorSpec, Writer};
    use crate::quantize::GgufSource;

    /// A model of two layers whose numbers are harder to keep in the second.
    fn model() -> Reader {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 2u32);
        let spec =
            |name: &str, shape: &[u64]| TensorSpec { name: name.into(), shape: shape.into(), ty: TensorType::F32 };
        let specs = [
            spec("token_embd.weight", &[256, 10]),
            spec("blk.0.attn_norm.weight", &[256]),
            spec("blk.0.attn_q.weight", &[256, 7]),
            spec("blk.0.ffn_down.weight", &[96, 20]),
            spec("blk.1.attn_q.weight", &[256, 7]),
            spec("blk.1.ffn_up_exps.weight", &[256, 3, 2]),
        ];
        let mut writer = Writer::to_sink(Vec::new(), "model", &metadata, &specs).expect("valid");
        let mut seed = 1u32;
        for spec in &specs {
            let count: u64 = spec.shape.iter().product();
            let mut bytes = Vec::new();
            for _ in 0..count {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let x = (f64::from(seed) / f64::from(u32::MAX) - 0.5) as f32;
                let x = if spec.name.starts_with("blk.1") { x * x * x * x * x } else { x };
                bytes.extend(x.to_le_bytes());
            }
            writer.write_tensor(&bytes).expect("written");
        }
        Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
    }

    fn plan(target: Target, threads: usize) -> Result<TargetPlan, Error> {
        let reader = model();
        plan_for(&GgufSource::new(&reader), &Options::new(FileType::Q4_K_M), target, false, threads, &|_, _| true)
    }

    #[test]
    fn more_room_never_loses_more_and_is_never_exceeded() {
        let mut last = f64::INFINITY;
        for bytes in (6_000..45_000).step_by(1_500) {
            let chosen = plan(Target::FileBytes(bytes), 2).expect("a plan");
            assert!(chosen.plan.file_bytes <= bytes, "{} for {bytes}", chosen.plan.file_bytes);
            assert!(chosen.loss() <= last, "{bytes}: {} after {last}", chosen.loss());
            last = chosen.loss();
        }
        assert_eq!(last, 0.0, "all stay in single precision");
        let bits = plan(Target::BitsPerWeight(6.0), 1).expect("a plan");
        let found = bits.plan.bits_per_weight();
        assert!(found <= 6.0 && found > 5.3, "{found}");
    }

    #[test]
    fn threads_do_not_matter_and_the_recipe_says_it_all() {
        let one = plan(Target::FileBytes(9_000), 1).expect("a plan");
        for threads in [2, 5] {
            let more = plan(Target::FileBytes(9_000), threads).expect("a plan");
            assert_eq!((&more.recipe, &more.tensors), (&one.recipe, &one.tensors));
        }
        let reader = model();
        let recipe = Recipe::parse(Path::new("plan.recipe"), &one.recipe).expect("valid");
        let options = Options { recipe: Some(Arc::new(recipe.clone())), ..Options::new(recipe.base()) };
        let again = Plan::new(&GgufSource::new(&reader), &options).expect("a plan");
        let types = |plan: &Plan| plan.tensors.iter().map(|tensor| tensor.spec.clone()).collect::<Vec<_>>();
        assert_eq!(types(&again), types(&one.plan));
    }

    #[test]
    fn what_is_too_small_is_told_with_the_least() {
        let Err(Error::TargetTooSmall { least, limit, .. }) = plan(Target::FileBytes(2_000), 1) else {
            panic!("too small");
        };
        assert_eq!(limit, 2_000);
        let chosen = plan(Target::FileBytes(least), 1).expect("the least is possible");
        assert_eq!(chosen.plan.file_bytes, least);
        assert!(matches!(plan_stopped(), Err(Error::Stopped)));
    }

    fn plan_stopped() -> Result<TargetPlan, Error> {
        let (reader, options) = (model(), Options::new(FileType::Q4_K_M));
        plan_for(&GgufSource::new(&reader), &options, Target::FileBytes(9_000), false, 1, &|_, _| false)
    }
}
