//! How answers are drafted: the options of `chat`, `run` and `serve`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use gguf::engine::{DraftModel, SpeculationOptions};
use gguf::model::Model;
use gguf::printable::printable_path;

use crate::model_args::{self, RunArgs};

/// Drafts of what may come next, which the model checks several tokens at a time. The answers are the same.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SpeculationArgs {
    /// Let a smaller model of the same vocabulary draft tokens, which the model checks in one pass: faster, the same text
    #[arg(long, value_name = "MODEL", aliases = ["model-draft", "spec-draft-model"])]
    draft: Option<PathBuf>,
    /// Draft what followed the same tokens earlier in prompt and answer: faster where texts repeat themselves, the same text
    #[arg(long)]
    lookup: bool,
    /// Most tokens of a draft; how many it has is measured
    #[arg(long, value_name = "N", default_value_t = SpeculationOptions::default().most, aliases = ["draft-n", "spec-draft-n-max"])]
    draft_max: usize,
    /// Least tokens of a draft, whether it is worth its time or not
    #[arg(long, value_name = "N", default_value_t = 0, aliases = ["draft-n-min", "spec-draft-n-min"])]
    draft_min: usize,
}

impl Default for SpeculationArgs {
    fn default() -> Self {
        let SpeculationOptions { lookup, most, least, .. } = SpeculationOptions::default();
        Self { draft: None, lookup, draft_max: most, draft_min: least }
    }
}

impl SpeculationArgs {
    /// The model that drafts, where one is named.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(crate) fn load(&self, run: &RunArgs) -> anyhow::Result<Option<Arc<Model>>> {
        let load = |path: &PathBuf| {
            let plain = run.without_adapters();
            model_args::load(Some(path), &plain).with_context(|| format!("draft model {}", printable_path(path)))
        };
        self.draft.as_ref().map(load).transpose()
    }

    /// How answers of `model` are drafted, with the model that [`Self::load`] has given.
    ///
    /// # Errors
    /// When that has another vocabulary.
    pub(crate) fn options(&self, draft: Option<&Arc<Model>>, model: &Model) -> anyhow::Result<SpeculationOptions> {
        Ok(SpeculationOptions {
            lookup: self.lookup,
            model: draft.map(|draft| DraftModel::new(draft.clone(), model)).transpose()?,
            most: self.draft_max,
            least: self.draft_min,
        })
    }
}
