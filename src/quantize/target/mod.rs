//! Types for a target size: chooses a type for each tensor so that the file fits the size with the smallest loss.
//!
//! [`measure`] measures the error of every tensor in every type, [`weights`] says what an error costs, perhaps after [`calibrate`] has
//! measured that on the model itself, [`allocate`] chooses, and the choice becomes a [`Recipe`], from which the plan is made as usual.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bits of a weight become bytes of a budget"
)]

mod allocate;
mod calibrate;
mod choices;
mod measure;
mod rounded;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Error, FileType, Options, Plan, Recipe, Source};
use crate::TensorType;
use crate::gguf::{DEFAULT_ALIGNMENT, Value, keys};
use crate::printable::printable;
use allocate::{Choice, allocate};
use calibrate::{Setting, calibrate};
use choices::{Budget, Open, leave_out_extremes, open_tensors};
use measure::measure;
use weights::Weights;

pub use calibrate::Judge;

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
    /// The error times the weight of this kind of tensor: an expected divergence in nats, where divergences were measured. The sum of
    /// losses is minimized.
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
    /// Divergences that were measured.
    pub measurements: usize,
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
/// weights, and stops the work by returning false. With a `judge`, what errors cost is measured on the model. The result does not
/// depend on `threads` (0 means one per core).
///
/// # Errors
/// When no choice is small enough, the source cannot be read, the model cannot be run, or the options are not valid.
pub fn plan_for(
    source: &dyn Source,
    options: &Options,
    (target, is_mix_given): (Target, bool),
    threads: usize,
    judge: Option<&mut dyn Judge>,
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
    let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
    measure(source, &first, &mut open, threads, progress)?;
    let mut weights = Weights::new(&first);
    let measurements = match judge {
        None => 0,
        Some(judge) => {
            let setting = Setting { source, plan: &first, open: &open, room, threads };
            calibrate(setting, &mut weights, judge)?
        }
    };
    let choices: Vec<Vec<Choice>> = open.iter().map(|open| open.choices(&first, &weights)).collect();
    let chosen = allocate(&choices, room);
    let tensors: Vec<ChosenTensor> =
        open.iter().zip(chosen).map(|(open, at)| open.chosen(&first, &weights, at)).collect();
    let base = if is_mix_given { options.file_type } else { nearest_mix(&tensors, options.file_type) };
    let text = recipe(source, base, target, (&tensors, measurements));
    let recipe = Arc::new(Recipe::parse(Path::new("target.recipe"), &text)?);
    let options = Options { file_type: base, recipe: Some(recipe), like: None, pure: false, ..options.clone() };
    let plan = Plan::new(source, &options)?;
    if budget.spent(&plan) > budget.limit() {
        let (least, limit) = (budget.spent(&plan), budget.limit());
        return Err(Error::TargetTooSmall { path: source.path().to_owned(), least, limit });
    }
    Ok(TargetPlan { options, plan, tensors, measurements, recipe: text })
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
fn recipe(
    source: &dyn Source,
    base: FileType,
    target: Target,
    (tensors, measurements): (&[ChosenTensor], usize),
) -> String {
    let (name, what) = match target {
        Target::FileBytes(bytes) => (format!("{bytes}-bytes"), format!("at most {bytes} bytes")),
        Target::BitsPerWeight(bits) => (format!("{bits}bpw"), format!("at most {bits} bits per weight")),
    };
    let model = source.path().file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("name: {name}\nabout: types of {} for {what}\nbase: {base}\n", printable(model.as_ref()));
    if measurements > 0 {
        text += &format!("# {measurements} divergences measured\n");
    }
    text.push('\n');
    let width = tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
    for tensor in tensors {
        let ChosenTensor { name, ty, bytes, error, loss } = tensor;
        let loss = if measurements > 0 { format!(", loss {loss:.3e}") } else { String::new() };
        text += &format!("{name:width$} = {:7}  # {bytes} bytes, error {error:.3e}{loss}\n", ty.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Metadata, Reader, TensorSpec, Writer};
    use crate::kernels::Matrix;
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
        plan_for(&GgufSource::new(&reader), &Options::new(FileType::Q4_K_M), (target, false), threads, None, &|_, _| {
            true
        })
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

    /// Says that errors in layer 1 cost far more than all others.
    struct LayerOne {
        most: usize,
    }

    impl Judge for LayerOne {
        fn goes_on(&mut self, done: usize, _: usize) -> bool {
            done < self.most
        }

        fn divergence(&mut self, tensors: Vec<(String, Matrix)>) -> Result<Option<f64>, String> {
            assert!(tensors.iter().all(|(_, matrix)| matrix.ty() == TensorType::F32));
            let counts = tensors.iter().any(|(name, _)| name.starts_with("blk.1"));
            Ok(Some(if counts { 1.0 } else { 1e-3 }))
        }
    }

    #[test]
    fn what_is_measured_decides() {
        let judged = |most: usize, threads: usize| {
            let (reader, options) = (model(), Options::new(FileType::Q4_K_M));
            let (mut judge, target) = (LayerOne { most }, (Target::FileBytes(9_000), false));
            let judge = Some(&mut judge as &mut dyn Judge);
            plan_for(&GgufSource::new(&reader), &options, target, threads, judge, &|_, _| true).expect("a plan")
        };
        assert_eq!(judged(0, 1).recipe, plan(Target::FileBytes(9_000), 1).expect("a plan").recipe);
        let all = judged(1000, 1);
        assert!(all.measurements > 4, "four kinds, then parts of them: {}", all.measurements);
        assert!(all.recipe.contains(&format!("\n# {} divergences measured\n", all.measurements)), "{}", all.recipe);
        assert_eq!(judged(1000, 3).recipe, all.recipe);
        assert_eq!(judged(all.measurements, 2).recipe, all.recipe);
        assert_eq!(judged(3, 2).measurements, 3);
        let weight = |name: &str| {
            let tensor = all.tensors.iter().find(|tensor| tensor.name == name).expect("there");
            tensor.loss / tensor.error
        };
        assert!(weight("blk.1.attn_q.weight") > 50.0 * weight("blk.0.attn_q.weight"));
    }

    fn plan_stopped() -> Result<TargetPlan, Error> {
        let (reader, options) = (model(), Options::new(FileType::Q4_K_M));
        plan_for(&GgufSource::new(&reader), &options, (Target::FileBytes(9_000), false), 1, None, &|_, _| false)
    }
}
