//! The options that say what answers have to be.

use std::path::Path;

use anyhow::Context as _;
use gguf_toolkit::engine::Grammar;

use crate::model_args;

/// What answers have to be; one at most.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct FormatArgs {
    /// Answer with a JSON object; with --scores: print JSON
    #[arg(long)]
    json: bool,
    /// Answer with JSON that is valid by this schema: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON", alias = "json-schema-file")]
    json_schema: Option<String>,
    /// Answer with what this grammar allows: a GBNF file of llama.cpp's, or a Lark file (.lark)
    #[arg(long, value_name = "FILE", alias = "grammar-file")]
    grammar: Option<String>,
    /// Answer with what this regular expression matches as a whole
    #[arg(long, value_name = "RE")]
    regex: Option<String>,
}

impl FormatArgs {
    /// Whether `--json` is given.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    /// What is asked for.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no JSON where a schema is wanted.
    pub(super) fn grammar(&self) -> anyhow::Result<Option<Grammar>> {
        if self.json {
            return Ok(Some(Grammar::JsonObject));
        }
        if let Some(given) = &self.json_schema {
            let is_text = given.trim_start().starts_with('{');
            let text = if is_text { given.clone() } else { model_args::read_text(Path::new(given))? };
            let place = || if is_text { "--json-schema".to_owned() } else { given.clone() };
            return Ok(Some(Grammar::JsonSchema(serde_json::from_str(&text).with_context(place)?)));
        }
        if let Some(given) = &self.grammar {
            // llama.cpp's option of this name takes the grammar itself.
            if given.contains("::=") {
                return Ok(Some(Grammar::Gbnf(given.clone())));
            }
            let text = model_args::read_text(Path::new(given))?;
            let is_lark = Path::new(given).extension().is_some_and(|extension| extension == "lark");
            return Ok(Some(if is_lark { Grammar::Lark(text) } else { Grammar::Gbnf(text) }));
        }
        Ok(self.regex.clone().map(Grammar::Regex))
    }
}
