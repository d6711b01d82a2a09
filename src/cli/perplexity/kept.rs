//! `--resume FILE`: what is known of a run, written each minute and at Ctrl-C, and read by the run that goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::{Kept, ModelState, State};
use gguf_toolkit::printable::printable_path;
use sha2::{Digest as _, Sha256};

/// Time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// The state of a run, and its file if it has one.
pub(super) struct Keeper<'a> {
    path: Option<&'a Path>,
    state: State,
    /// The model that is measured: name and hash.
    current: (String, String),
    written: Instant,
}

impl<'a> Keeper<'a> {
    /// Reads the file, where there is one, and checks that it is of a run with these settings over so many models.
    pub(super) fn open(
        path: Option<&'a Path>,
        mut settings: Vec<(String, String)>,
        models: usize,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            path != Some(Path::new("-")),
            "-: the file of --resume needs a name (./- is a file of this one)"
        );
        // Another version may compute other bits.
        settings.push(("program".into(), format!("gguf {}", env!("CARGO_PKG_VERSION"))));
        let mut state = State::new(settings);
        if let Some(path) = path
            && let Some(known) = State::load(path)?
        {
            known.check(path, &state.settings, models)?;
            state = known;
        }
        Ok(Self { path, state, current: Default::default(), written: Instant::now() })
    }

    /// What is known already of the model at a place of the run, from 0.
    pub(super) fn begin(&mut self, place: usize, name: &str, model: &Model) -> anyhow::Result<Option<Kept>> {
        let Some(path) = self.path else { return Ok(None) };
        let hash = model.fingerprint_with_weights()?;
        let known = self.state.of_model(path, place, name, &hash)?.cloned();
        self.current = (name.to_owned(), hash);
        Ok(known)
    }

    /// Notes what is known of the model at this place, and writes the file each minute, or at once.
    pub(super) fn keep(&mut self, place: usize, kept: Kept, at_once: bool) -> anyhow::Result<()> {
        let Some(path) = self.path else { return Ok(()) };
        let (name, hash) = self.current.clone();
        let model = ModelState { name, hash, kept };
        match self.state.models.get_mut(place) {
            Some(known) => *known = model,
            None => self.state.models.push(model),
        }
        if at_once || self.written.elapsed() > WRITE_EVERY {
            self.state.save(path)?;
            self.written = Instant::now();
        }
        Ok(())
    }

    /// What to tell users of a run that was stopped.
    pub(super) fn how_to_go_on(&self) -> String {
        match self.path {
            Some(path) => format!("the same command goes on from {}", printable_path(path)),
            None => "with --resume FILE the same command would go on from there".to_owned(),
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
