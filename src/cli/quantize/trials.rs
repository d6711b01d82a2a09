//! The measurements of `--measure`: the model is run with some tensors in other types.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gguf_toolkit::compare::Divergence;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::{Isa, Matrix, Pool};
use gguf_toolkit::model::Model;
use gguf_toolkit::quantize::Judge;
use indicatif::ProgressBar;

use crate::interrupt::Catching;
use crate::model_args;
use crate::perplexity::default_text;
use crate::progress;

/// Tokens of a chunk, and most chunks of a measurement.
const CONTEXT: usize = 512;
const CHUNKS: usize = 4;
/// How often a line is written where nobody sees the bar.
const LINE: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    Time(Duration),
    Measurements(usize),
}

impl Budget {
    /// `90s`, `10m`, `2h`, or a number of measurements.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let problem = || "a time such as 90s, 10m or 2h, or a number of measurements".to_owned();
        let (number, unit) = text.split_at(text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len()));
        let seconds = match unit {
            "" => {
                let count = number.parse().ok().filter(|&count| count > 0);
                return count.map(Self::Measurements).ok_or_else(problem);
            }
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(problem()),
        };
        let number: f64 = number.parse().map_err(|_| problem())?;
        let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| problem())?;
        if time.is_zero() { Err(problem()) } else { Ok(Self::Time(time)) }
    }
}

/// A model that is run again and again. Ctrl-C ends the measuring, not the program, as long as this lives.
pub(super) struct Trials {
    catching: Catching,
    budget: Budget,
    divergence: Divergence,
    bar: ProgressBar,
    /// When the first measurement began, and a line was written last.
    times: Option<(Instant, Instant)>,
}

impl Trials {
    /// Runs the model of `reader` on `text`.
    ///
    /// # Errors
    /// When the model cannot be run, or the text is too short.
    pub(super) fn new(reader: &Reader, budget: Budget, text: Option<&Path>, threads: usize) -> anyhow::Result<Self> {
        let text = match text {
            Some(path) => model_args::read_text(path)?,
            None => {
                eprintln!("measuring on the embedded text (--measure-text FILE takes another)");
                default_text()?
            }
        };
        let threads = if threads == 0 { model_args::default_threads() } else { threads };
        let pool = Arc::new(Pool::with_isa(threads, Isa::selected()?));
        let mut base = Model::from_reader(reader)?;
        if base.tensors().iter().any(|(_, matrix)| matrix.ty().is_quantized()) {
            // Rounded inputs of products would be taken for errors of weights.
            base = base.decoded(&pool)?;
        }
        let divergence = Divergence::new(base, pool, &text, CONTEXT, CHUNKS)?;
        let bar = progress::steps(0, "measuring");
        Ok(Self { catching: Catching::new(), budget, divergence, bar, times: None })
    }

    /// Says that so much has been measured.
    pub(super) fn finish(self, measurements: usize) {
        self.bar.finish_and_clear();
        let stopped = if self.catching.interrupted() { "stopped: " } else { "" };
        if measurements == 0 {
            eprintln!("{stopped}nothing is measured: errors are weighed as without --measure");
        } else {
            eprintln!(
                "{stopped}{measurements} divergences measured, which the choice uses (--measure {measurements} repeats it)"
            );
        }
    }
}

impl Judge for Trials {
    fn goes_on(&mut self, done: usize, most: usize) -> bool {
        let (start, said) = self.times.get_or_insert_with(|| (Instant::now(), Instant::now()));
        self.bar.set_length(most as u64);
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && said.elapsed() > LINE {
            eprintln!("{done} of at most {most} divergences measured");
            *said = Instant::now();
        }
        let is_left = match self.budget {
            Budget::Measurements(count) => done < count,
            // A measurement that would end too late is not begun.
            Budget::Time(time) => {
                let one = start.elapsed() / u32::try_from(done.max(1)).unwrap_or(u32::MAX);
                start.elapsed() + one <= time
            }
        };
        is_left && !self.catching.interrupted()
    }

    fn divergence(&mut self, mut tensors: Vec<(String, Matrix)>) -> Result<Option<f64>, String> {
        let base = self.divergence.base();
        tensors.retain(|(name, _)| base.tensors().iter().any(|(found, _)| found == name));
        if tensors.is_empty() {
            return Ok(None);
        }
        let variant = base.with_tensors(tensors).map_err(|error| error.to_string())?;
        self.divergence.of(&variant).map(Some).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Budget;

    #[test]
    fn a_budget_is_a_time_or_a_number() {
        for (text, seconds) in [("90s", 90.0), ("5m", 300.0), ("2h", 7200.0), ("1.5m", 90.0)] {
            assert_eq!(Budget::parse(text), Ok(Budget::Time(Duration::from_secs_f64(seconds))), "{text}");
        }
        assert_eq!(Budget::parse("40"), Ok(Budget::Measurements(40)));
        assert!(["", "0", "0s", "m", "5 m", "1d", "-3", "1.5", "5ms"].iter().all(|bad| Budget::parse(bad).is_err()));
    }
}
