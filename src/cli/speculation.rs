//! Options of speculative decoding, for `chat`, `run` and `serve`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::builder::RangedU64ValueParser;
use gguf_toolkit::engine::{DraftModel, OwnLayer, SpeculationOptions};
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::printable_path;

use crate::model_args::{self, RunArgs};

/// Lengths of drafts.
fn lengths() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=SpeculationOptions::LONGEST as u64)
}

/// Speculative decoding: tokens are drafted, and the model checks several in one pass. The answers stay the same.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("drafter").args(["draft", "lookup", "mtp"]).multiple(true))]
pub(crate) struct SpeculationArgs {
    /// Let a smaller model with the same vocabulary draft tokens, which the model checks in one pass: faster, the same text
    #[arg(long, value_name = "MODEL", aliases = ["model-draft", "spec-draft-model"])]
    draft: Option<PathBuf>,
    /// Draft what followed the same tokens earlier in prompt and answer: faster where texts repeat themselves, the same text
    #[arg(long)]
    lookup: bool,
    /// Let the model's own layer for it (MTP, NextN) draft tokens, if its file has one: the same text, faster where drafts are
    /// often right
    #[arg(long)]
    mtp: bool,
    /// Maximum tokens of a draft; the length that pays off is measured
    #[arg(
        long, value_name = "N", default_value_t = SpeculationOptions::default().max_tokens, value_parser = lengths(),
        requires = "drafter", aliases = ["draft-n", "spec-draft-n-max"]
    )]
    draft_max: usize,
    /// Minimum tokens of a draft, even if it does not pay off
    #[arg(
        long, value_name = "N", default_value_t = 0, value_parser = lengths(), requires = "drafter",
        aliases = ["draft-n-min", "spec-draft-n-min"]
    )]
    draft_min: usize,
}

impl Default for SpeculationArgs {
    fn default() -> Self {
        let SpeculationOptions { lookup, max_tokens, min_tokens, .. } = SpeculationOptions::default();
        Self { draft: None, lookup, mtp: false, draft_max: max_tokens, draft_min: min_tokens }
    }
}

impl SpeculationArgs {
    /// Whether a draft model is named.
    pub(crate) const fn has_draft(&self) -> bool {
        self.draft.is_some()
    }

    /// Loads the draft model, if one is named.
    ///
    /// # Errors
    /// When it cannot be loaded, or the minimum of a draft is more than its maximum.
    pub(crate) fn load(&self, run: &RunArgs) -> anyhow::Result<Option<Arc<Model>>> {
        let (min, max) = (self.draft_min, self.draft_max);
        ensure!(min <= max, "--draft-min {min} is more than --draft-max {max}");
        let load = |path: &PathBuf| {
            let plain = run.without_adapters();
            model_args::load(Some(path), &plain).with_context(|| format!("draft model {}", printable_path(path)))
        };
        self.draft.as_ref().map(load).transpose()
    }

    /// The settings for `model`, with the draft model from [`Self::load`].
    ///
    /// # Errors
    /// When the two have different vocabularies, or the model has no layer that drafts.
    pub(crate) fn options(&self, draft: Option<&Arc<Model>>, model: &Model) -> anyhow::Result<SpeculationOptions> {
        Ok(SpeculationOptions {
            model: draft.map(|draft| DraftModel::new(draft.clone(), model)).transpose()?,
            own: self.mtp.then(|| OwnLayer::of(model)).transpose().context("--mtp")?,
            ..self.without_models()
        })
    }

    /// The settings without the draft model and the model's own layer.
    pub(crate) fn without_models(&self) -> SpeculationOptions {
        let (lookup, max_tokens, min_tokens) = (self.lookup, self.draft_max, self.draft_min);
        SpeculationOptions { lookup, max_tokens, min_tokens, ..SpeculationOptions::default() }
    }
}
