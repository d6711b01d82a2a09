//! Several models that answer the same messages, each in a conversation of its own over its own template: `gguf chat A B`. On a
//! terminal with room for it they stand side by side ([`columns`]), elsewhere one after another ([`plain`]).

mod ask;
mod columns;
mod commands;
mod frame;
mod line;
mod plain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::printable::printable_path;

use super::commands::ChatState;
use super::sampling::random_seed;
use super::{Args, start};
use crate::model_args::{self, short_name};
use crate::terminal;

/// Most models at once: what a vote's digit can name, and what terminals have room for.
pub(super) const MOST: usize = 9;
/// Fewest columns of a terminal for each model.
const LEAST_WIDTH: usize = 20;

/// How several models answer, and what comes of their votes.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct SeveralArgs {
    /// Several models answer at the same time, each on its share of the threads, not one after another
    #[arg(long)]
    parallel: bool,
    /// Hide which of several models is which until /vote
    #[arg(long)]
    blind: bool,
    /// Print what came of all votes: ratings, and wins of each pair of models
    #[arg(long, conflicts_with_all = ["model", "rest", "prompt", "file", "parallel", "blind"])]
    pub(super) scores: bool,
}

impl SeveralArgs {
    /// Refuses what makes no sense with one model.
    pub(super) fn check_one(self) -> anyhow::Result<()> {
        for (given, option) in [(self.parallel, "--parallel"), (self.blind, "--blind")] {
            if given {
                bail!("{option} is for several models: gguf chat A B");
            }
        }
        Ok(())
    }
}

/// A model and its conversation.
struct Member {
    state: ChatState,
    /// Whether the last message is in its conversation.
    answered: bool,
}

/// All of them.
pub(super) struct Group {
    members: Vec<Member>,
    /// They answer at the same time.
    parallel: bool,
    /// Names are asked to be hidden.
    blind: bool,
    /// Names are hidden now.
    hidden: bool,
    /// The last message.
    message: Option<String>,
    /// The vote on its answers is in.
    voted: bool,
}

impl Group {
    /// Loads the models at `paths`.
    ///
    /// # Errors
    /// When one of them cannot be run, or is named twice.
    pub(super) fn load(args: &Args, paths: &[PathBuf]) -> anyhow::Result<Self> {
        let names = unique_names(paths)?;
        let SeveralArgs { parallel, blind, .. } = args.several;
        let shared = args.run.share_of_threads(1)?;
        let mut members = Vec::new();
        for (path, name) in paths.iter().zip(names) {
            let located = model_args::locate(path)?;
            let reader = Reader::open(&located.path)?;
            let mut own = args.with_setup(model_args::setup(&located, &reader));
            own.model = Some(path.clone());
            let model = model_args::load_from(&reader, &own.run)?;
            let pool = if parallel { args.run.share_of_threads(paths.len())? } else { shared.clone() };
            let state = ChatState { name, ..start(&own, model, pool)? };
            members.push(Member { state, answered: false });
        }
        let mut group = Self { members, parallel, blind, hidden: false, message: None, voted: false };
        group.hide();
        Ok(group)
    }

    /// If names are to be hidden: puts the models in a random order, and hides their names.
    fn hide(&mut self) {
        if !self.blind {
            return;
        }
        self.hidden = true;
        let mut random = random_seed();
        for i in (1..self.members.len()).rev() {
            // Knuth's generator: enough to mix a few models.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.members.swap(i, usize::try_from(random >> 33).unwrap_or_default() % (i + 1));
        }
    }

    /// The name under which a model is shown.
    fn label(&self, i: usize) -> String {
        if self.hidden { letter(i).to_string() } else { self.members[i].state.name.clone() }
    }

    /// Who is behind the letters.
    fn revealed(&self) -> String {
        let one = |(i, member): (usize, &Member)| format!("{} is {}", letter(i), member.state.name);
        self.members.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The letter of a model whose name is hidden.
fn letter(i: usize) -> char {
    ('A'..='Z').nth(i).unwrap_or('?')
}

/// Short names, or whole ones for models whose short names are the same.
fn unique_names(paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let short: Vec<String> = paths.iter().map(|path| short_name(Some(path))).collect();
    let whole = |path: &Path| printable_path(path).to_string();
    for (i, path) in paths.iter().enumerate() {
        if paths[..i].contains(path) {
            bail!("{}: is named twice", whole(path));
        }
    }
    let is_alone = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    Ok(short.iter().zip(paths).map(|(name, path)| if is_alone(name) { name.clone() } else { whole(path) }).collect())
}

/// One answer of each model to `message`, or a conversation.
pub(super) fn run(mut group: Group, message: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Some(message) = message {
        return plain::once(&mut group, message);
    }
    let has_room = terminal::width().is_some_and(|width| width >= LEAST_WIDTH * group.members.len());
    if has_room && terminal::can_be_steered() { columns::talk(&mut group) } else { plain::talk(&mut group) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_tell_models_apart() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(unique_names(&paths(&["x/a.gguf", "x/b.gguf"])).expect("names"), ["a", "b"]);
        let same = unique_names(&paths(&["x/a.gguf", "y/a.gguf", "b.gguf"])).expect("names");
        assert_eq!(same, ["x/a.gguf", "y/a.gguf", "b"]);
        assert_eq!(
            unique_names(&paths(&["a.gguf", "a.gguf"])).expect_err("twice").to_string(),
            "a.gguf: is named twice"
        );
    }
}
