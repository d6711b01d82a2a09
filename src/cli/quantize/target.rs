//! `gguf quantize --target-size` and `--target-bpw`: types for a size.

use std::io::{self, Write};
use std::path::PathBuf;

use gguf_toolkit::gguf::Reader;
use gguf_toolkit::printable::printable;
use gguf_toolkit::quantize::{GgufSource, Judge, Options, RunOptions, Target, TargetPlan, plan_for};

use super::args::WriteArgs;
use super::trials::{Budget, Trials};
use crate::table::{Column, Table};
use crate::{outputs, progress, units};

/// A size to keep to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Types for a size")]
pub(crate) struct TargetArgs {
    /// Choose the types so that the files have at most this size and lose the least: 4.2GB (thousands), 4.2GiB (of 1024)
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes, conflicts_with_all = ["like", "recipe", "pure", "target_bpw"])]
    target_size: Option<u64>,
    /// Choose the types so that a weight has at most so many bits on average
    #[arg(long, value_name = "BITS", value_parser = parse_bits, conflicts_with_all = ["like", "recipe", "pure"])]
    target_bpw: Option<f64>,
    /// Measure for this time what errors of each kind of tensor cost this model, then of each third of its layers, then of each
    /// tensor: 90s, 5m, 2h; a plain number is that of the measurements
    #[arg(long, value_name = "TIME", value_parser = Budget::parse, conflicts_with = "prune_layers")]
    measure: Option<Budget>,
    /// The text for --measure, - for standard input (default: the embedded text)
    #[arg(long, value_name = "FILE", requires = "measure")]
    measure_text: Option<PathBuf>,
    /// Write the choice to this file, which --recipe reads
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
}

fn parse_bits(text: &str) -> Result<f64, String> {
    let bits = text.parse().ok().filter(|bits: &f64| (0.1..=32.0).contains(bits));
    bits.ok_or_else(|| "bits of a weight, such as 4.5".into())
}

impl TargetArgs {
    /// The size that is asked for.
    pub(crate) fn target(&self) -> Option<Target> {
        self.target_size.map(Target::FileBytes).or(self.target_bpw.map(Target::BitsPerWeight))
    }

    /// Checks that nothing is asked for that means something beside a size alone.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let needs = [(self.plan.is_some(), "--plan"), (self.measure.is_some(), "--measure")];
        match needs.iter().find(|(given, _)| *given) {
            Some((_, name)) if self.target().is_none() => anyhow::bail!("{name} needs --target-size or --target-bpw"),
            _ => Ok(()),
        }
    }

    /// Chooses the types, shows what they cost where nothing is written, and writes them to the file of `--plan`.
    pub(super) fn choose(
        &self,
        reader: &Reader,
        options: &Options,
        (target, is_mix_given): (Target, bool),
        write: &WriteArgs,
    ) -> anyhow::Result<TargetPlan> {
        let RunOptions { force, threads, .. } = write.run_options();
        if let Some(path) = &self.plan {
            outputs::check(path, 1, force)?;
        }
        if options.importance.is_none() {
            eprintln!("without --imatrix all columns count alike, and most types below three bits are left out");
        }
        let mut trials = self
            .measure
            .map(|budget| Trials::new(reader, budget, self.measure_text.as_deref(), threads))
            .transpose()?;
        let bar = progress::steps(0, "encoding");
        let judge = trials.as_mut().map(|trials| trials as &mut dyn Judge);
        let source = GgufSource::new(reader);
        let chosen = plan_for(&source, options, (target, is_mix_given), threads, judge, &|done, total| {
            bar.set_length(total);
            bar.set_position(done);
            if done == total {
                bar.finish_and_clear();
            }
            true
        });
        bar.finish_and_clear();
        if let (Some(trials), Ok(chosen)) = (trials, &chosen) {
            trials.finish(chosen.measurements);
        }
        let chosen = chosen?;
        if let Some(path) = &self.plan {
            outputs::write(path, force, chosen.recipe.as_bytes())?;
        }
        if write.dry_run && !write.json {
            show(&mut io::stdout().lock(), &chosen)?;
        }
        Ok(chosen)
    }
}

/// Shows what the choice costs each tensor.
fn show(out: &mut impl Write, chosen: &TargetPlan) -> io::Result<()> {
    let mut table = Table::new([
        Column::names("tensor"),
        Column::left("type"),
        Column::right("bytes").optional(1),
        Column::right("error"),
        Column::right("of the loss"),
    ]);
    let all = chosen.loss();
    for tensor in &chosen.tensors {
        let share = if all > 0.0 { tensor.loss / all } else { 0.0 };
        table.row([
            printable(&tensor.name).to_string(),
            tensor.ty.to_string(),
            tensor.bytes.to_string(),
            format!("{:.3e}", tensor.error),
            format!("{:.2}%", share * 100.0),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nLoss {all:.4e}\n")
}

#[cfg(test)]
mod tests {
    use super::parse_bits;

    #[test]
    fn bits_of_a_weight_are_a_number() {
        assert_eq!(parse_bits("4.5"), Ok(4.5));
        assert!(["0", "33", "x", "nan"].iter().all(|bad| parse_bits(bad).is_err()));
    }
}
