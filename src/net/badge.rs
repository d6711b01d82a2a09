//! Whether the models of a repository fit this machine, and how fast they would be, before they are fetched: by the estimate of
//! [`inspect::Fit`](crate::inspect::Fit) from the header of the file, which is read by range requests.
//!
//! Headers of models with large vocabularies have several megabytes. Where they are not cheap, one header of the repository is
//! read, and the others are scaled by the sizes of their files: they differ in the types of their weights alone. Where no
//! header can be read, [`Needs::of_size`](crate::inspect::Needs::of_size) holds.

use serde_json::{Value as Json, json};

use super::browse::{Offered, Offers};
use super::hub;
use super::remote::open_at;
use super::settings::Settings;
use crate::compare::{Evidence, ExpectedLoss, expected_loss};
use crate::cpu::KvType;
use crate::gguf::Reader;
use crate::inspect::{Fit, Machine, Needs, Summary, Verdict};
use crate::kernels::Pool;
use crate::memory;

/// A header of so many bytes is cheap.
const CHEAP: u64 = 1 << 20;
/// Models whose speed is measured, which takes about half a second for each.
const MOST_MEASURED: usize = 4;
/// Tokens of context, where none are asked for and the model was trained on more.
const USUAL_CONTEXT: usize = 4096;

/// What badges are for.
#[derive(Clone, Copy, Debug)]
pub struct BadgeOptions {
    /// Tokens of context; 4096, or what the model was trained on, when `None`.
    pub context: Option<usize>,
    /// Type of cached keys and values.
    pub kv_type: KvType,
    /// Whether speeds are measured.
    pub speed: bool,
}

/// What an estimate is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The header of the file.
    Header,
    /// The header of another file of the repository, and the sizes of both.
    Scaled,
    /// The size of the file.
    Size,
}

impl Basis {
    /// One word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Scaled => "scaled",
            Self::Size => "size",
        }
    }
}

/// Whether a model fits, and how fast it would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Badge {
    /// Tokens of context; `None` where the header is not known.
    pub context: Option<usize>,
    /// Bytes that it takes.
    pub needs: Needs,
    /// Whether there are as many; `None` where the system does not say.
    pub verdict: Option<Verdict>,
    /// Tokens a second of an answer at the beginning of the context.
    pub answer_speed: Option<f64>,
    /// What this is made from.
    pub basis: Basis,
    /// Why it cannot be run here.
    pub cannot_run: Option<String>,
    /// Parameters and architecture, as the header says them.
    pub parameters: Option<u64>,
    /// See `parameters`.
    pub architecture: Option<String>,
}

/// A header that was read.
struct Known {
    fit: Fit,
    machine: Option<Machine>,
    file_bytes: u64,
    parameters: u64,
    architecture: Option<String>,
}

/// A badge for each model of a repository, in their order.
#[must_use]
pub fn badges(settings: &Settings, offers: &Offers, options: &BadgeOptions, pool: &Pool) -> Vec<Badge> {
    let mut known: Vec<Known> = Vec::new();
    let mut cannot_run = None;
    let mut is_cheap = true;
    let mut found: Vec<Option<usize>> = vec![None; offers.models.len()];
    // The smallest files first: the header of each is about as long.
    let mut order: Vec<usize> = (0..offers.models.len()).collect();
    order.sort_by_key(|&i| (!offers.models[i].is_here, offers.models[i].bytes));
    for i in order {
        let model = &offers.models[i];
        let is_enough = !known.is_empty() || cannot_run.is_some();
        if model.blob.is_none() && is_enough && !is_cheap {
            continue;
        }
        let Some((reader, fetched)) = header(settings, offers, model) else {
            is_cheap = false;
            continue;
        };
        is_cheap &= fetched <= CHEAP;
        match Fit::of(&reader) {
            Ok(fit) => {
                let summary = Summary::new(&reader);
                let is_measured = options.speed && known.len() < MOST_MEASURED;
                let machine = is_measured.then(|| Machine::measure(&fit, pool));
                found[i] = Some(known.len());
                known.push(Known {
                    fit,
                    machine,
                    file_bytes: model.bytes,
                    parameters: summary.parameters,
                    architecture: summary.architecture,
                });
            }
            Err(error) => cannot_run = Some(error.to_string()),
        }
    }
    let available = memory::available();
    let badge = |(model, own): (&Offered, Option<usize>)| {
        let near = || known.iter().enumerate().min_by_key(|(_, known)| known.file_bytes.abs_diff(model.bytes));
        match own.or_else(|| near().map(|(i, _)| i)) {
            Some(i) => of_header(&known, i, model, own.is_some(), options, (pool.threads(), available)),
            None => of_size(model, available, cannot_run.clone()),
        }
    };
    offers.models.iter().zip(found).map(badge).collect()
}

/// The header of a model, and the bytes that were fetched for it.
fn header(settings: &Settings, offers: &Offers, model: &Offered) -> Option<(Reader, u64)> {
    if let Some(blob) = model.blob.as_deref().filter(|_| model.files == 1) {
        return Some((Reader::open_any(blob).ok()?, 0));
    }
    open_at(&settings.client, &model.url, &|error| hub::explain(settings, &offers.repository, error)).ok()
}

fn of_header(
    known: &[Known],
    own: usize,
    model: &Offered,
    is_own: bool,
    options: &BadgeOptions,
    (threads, available): (usize, Option<u64>),
) -> Badge {
    let Known { fit, file_bytes, parameters, architecture, .. } = &known[own];
    let context = options.context.unwrap_or_else(|| fit.context_length().min(USUAL_CONTEXT));
    let sizes = (*file_bytes, model.bytes);
    let needs = fit.needs_of_size(context, options.kv_type, threads, sizes);
    Badge {
        context: Some(context),
        needs,
        verdict: available.map(|available| needs.verdict(available)),
        answer_speed: speed(known, own, &needs, options).filter(|speed| speed.is_finite()),
        basis: if is_own { Basis::Header } else { Basis::Scaled },
        cannot_run: None,
        parameters: Some(*parameters),
        architecture: architecture.clone(),
    }
}

/// Tokens a second of an answer: measured with its own weights, or else with those of the nearest size.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn speed(known: &[Known], own: usize, needs: &Needs, options: &BadgeOptions) -> Option<f64> {
    let weights = |known: &Known| known.fit.needs(1, options.kv_type, 1).weights;
    let measured = known.iter().filter_map(|known| Some((known.machine.as_ref()?, known)));
    let near = |(_, known): &(&Machine, &Known)| weights(known).abs_diff(needs.weights);
    let (machine, near) = match &known[own].machine {
        Some(machine) => (machine, &known[own]),
        None => measured.min_by_key(near)?,
    };
    let share = needs.weights as f64 / weights(near).max(1) as f64;
    Some(machine.answer_speed_of_share(&near.fit, 0, options.kv_type, share))
}

fn of_size(model: &Offered, available: Option<u64>, cannot_run: Option<String>) -> Badge {
    let needs = Needs::of_size(model.bytes);
    Badge {
        context: None,
        needs,
        verdict: available.map(|available| needs.verdict(available)),
        answer_speed: None,
        basis: Basis::Size,
        cannot_run,
        parameters: None,
        architecture: None,
    }
}

/// A model of a repository with its badge, for programs: what `gguf browse --json` prints and the page of `gguf serve` shows.
#[must_use]
pub fn model_json(offers: &Offers, model: &Offered, badge: &Badge) -> Json {
    let loss = loss(offers, model, badge);
    let evidence = |loss: &ExpectedLoss| match loss.evidence {
        Evidence::Published => "published".to_owned(),
        Evidence::Measured => "measured".to_owned(),
        Evidence::Estimated(name) => format!("estimated from {name}"),
    };
    json!({
        "name": model.name,
        "repository": offers.repository,
        "type": model.quant,
        "path": model.path,
        "files": model.files,
        "bytes": model.bytes,
        "parameters": offers.parameters.or(badge.parameters),
        "architecture": offers.architecture.as_ref().or(badge.architecture.as_ref()),
        "bits_per_weight": bits_per_weight(model, badge),
        "fit": badge.verdict.map(Verdict::name),
        "context": badge.context,
        "needs_bytes": badge.needs.total(),
        "weight_bytes": badge.needs.weights,
        "cache_bytes": badge.needs.cache,
        "answer_tokens_per_second": badge.answer_speed,
        "basis": badge.basis.name(),
        "cannot_run": badge.cannot_run,
        "mean_kl": loss.map(|loss| loss.mean_kl),
        "quality": loss.map(|loss| loss.verdict.describe()),
        "quality_evidence": loss.as_ref().map(evidence),
        "here": model.is_here,
    })
}

/// What a model loses by its type, if the type was measured.
#[must_use]
pub fn loss(offers: &Offers, model: &Offered, badge: &Badge) -> Option<ExpectedLoss> {
    let architecture = offers.architecture.as_deref().or(badge.architecture.as_deref());
    expected_loss(architecture, offers.parameters.or(badge.parameters), model.quant.as_deref()?)
}

/// Bits for each parameter, if the server or the header says how many there are.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bits_per_weight(model: &Offered, badge: &Badge) -> Option<f64> {
    let of_header = || badge.parameters.filter(|&n| n > 0).map(|n| model.bytes as f64 * 8.0 / n as f64);
    model.bits_per_weight.or_else(of_header)
}
