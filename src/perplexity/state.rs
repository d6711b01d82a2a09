//! What is known of a run over several models, in a file: JSON, with sums as the digits of their bits, so that a run that goes on
//! ends with the figures of one that was never stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Partial, Scores};
use crate::files::{OutputError, Overwrite, write_whole};
use crate::printable::{printable, printable_path};

/// The version of the file's schema.
const SCHEMA_VERSION: u64 = 1;
/// What the file says that it is.
const KIND: &str = "state of gguf perplexity";
/// Maximum bytes of a file: ten thousand tasks take some hundred kB for each model.
const MAX_BYTES: u64 = 256 << 20;

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file cannot be read.
    #[error("{}: {source}", printable_path(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] OutputError),
    /// The file is not a state.
    #[error("{}: not the state of a measurement: {problem}", printable_path(path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The state is of a run with another setting.
    #[error(
        "{}: of a run with {setting} {}, and here it is {}",
        printable_path(path),
        printable(found),
        printable(expected)
    )]
    OtherSetting {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: String,
        /// Its value in the file.
        found: String,
        /// Its value in this run.
        expected: String,
    },
    /// The state has another model at a place.
    #[error(
        "{}: its model {place} is {}, and here it is {}",
        printable_path(path),
        printable(found),
        printable(expected)
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model's place in the run, from 1.
        place: usize,
        /// Its name and the beginning of its hash in the file.
        found: String,
        /// The same in this run.
        expected: String,
    },
    /// The state has more models than this run.
    #[error("{}: of a run over {found} models, and here there are {expected}", printable_path(path))]
    MoreModels {
        /// The file.
        path: PathBuf,
        /// Models in the file.
        found: usize,
        /// Models of this run.
        expected: usize,
    },
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// Of a text.
    Text(Partial),
    /// Of tasks: the scores of the choices of each that is done, in the order of the run.
    Tasks {
        /// The scores.
        scores: Vec<Vec<f64>>,
        /// Time for the evaluation.
        time: Duration,
    },
}

/// A model with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelState {
    /// Its name, for messages.
    pub name: String,
    /// What tells it from others ([`Model::fingerprint_with_weights`](crate::model::Model::fingerprint_with_weights)).
    pub hash: String,
    /// What is known.
    pub kept: Kept,
}

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What decides the figures beside the model, by name: hash of the text, context and so on.
    pub settings: Vec<(String, String)>,
    /// The models so far, in the order of the run.
    pub models: Vec<ModelState>,
}

impl State {
    /// A state of nothing yet.
    #[must_use]
    pub fn new(settings: Vec<(String, String)>) -> Self {
        Self { settings, models: Vec::new() }
    }

    /// Reads the file, or returns `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a state.
    pub fn load(path: &Path) -> Result<Option<Self>, StateError> {
        let cannot_read = |source| StateError::Read { path: path.into(), source };
        let invalid = |problem: String| StateError::Invalid { path: path.into(), problem };
        // Not noted as an input of the run: the run writes it again.
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot_read(error)),
        };
        if !metadata.is_file() {
            return Err(invalid("no regular file".into()));
        }
        if metadata.len() > MAX_BYTES {
            return Err(invalid(format!("{} bytes, {MAX_BYTES} at most", metadata.len())));
        }
        let bytes = std::fs::read(path).map_err(cannot_read)?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        Self::from_json(&json).map(Some).map_err(invalid)
    }

    /// Writes the file, completely or not at all, in place of one that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let text = format!("{:#}\n", self.to_json());
        write_whole(path, Overwrite::Replace { inputs: &[] }, text.as_bytes())?;
        Ok(())
    }

    /// Checks that this state of the file `path` is of a run with these settings over so many models.
    ///
    /// # Errors
    /// With the first setting that differs, or when there are more models.
    pub fn check(&self, path: &Path, settings: &[(String, String)], models: usize) -> Result<(), StateError> {
        let value = |of: &[(String, String)], name: &str| {
            of.iter().find(|(own, _)| own == name).map_or_else(|| "not given".to_owned(), |(_, value)| value.clone())
        };
        for (name, _) in settings.iter().chain(&self.settings) {
            let (found, expected) = (value(&self.settings, name), value(settings, name));
            if found != expected {
                return Err(StateError::OtherSetting { path: path.into(), setting: name.clone(), found, expected });
            }
        }
        match self.models.len() {
            found if found > models => Err(StateError::MoreModels { path: path.into(), found, expected: models }),
            _ => Ok(()),
        }
    }

    /// What the state of the file `path` knows of the model at a place of the run (from 0), if it knows any.
    ///
    /// # Errors
    /// When it has another model there.
    pub fn of_model(&self, path: &Path, place: usize, name: &str, hash: &str) -> Result<Option<&Kept>, StateError> {
        let Some(model) = self.models.get(place) else { return Ok(None) };
        if model.hash != hash {
            let shown = |name: &str, hash: &str| format!("{name} ({})", hash.chars().take(12).collect::<String>());
            let (found, expected) = (shown(&model.name, &model.hash), shown(name, hash));
            return Err(StateError::OtherModel { path: path.into(), place: place + 1, found, expected });
        }
        Ok(Some(&model.kept))
    }

    fn to_json(&self) -> Value {
        let settings: Map<String, Value> =
            self.settings.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let models: Vec<Value> = self.models.iter().map(ModelState::to_json).collect();
        json!({ "kind": KIND, "schema_version": SCHEMA_VERSION, "settings": settings, "models": models })
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        if json["kind"] != KIND {
            return Err("it does not say that it is one".into());
        }
        if json["schema_version"] != SCHEMA_VERSION {
            return Err(format!("version {}, and not {SCHEMA_VERSION}", json["schema_version"]));
        }
        let settings = json["settings"].as_object().ok_or("no settings")?;
        let setting = |(name, value): (&String, &Value)| {
            let value = value.as_str().ok_or_else(|| format!("setting {name} is no text"))?;
            Ok((name.clone(), value.to_owned()))
        };
        let settings = settings.iter().map(setting).collect::<Result<_, String>>()?;
        let models = json["models"].as_array().ok_or("no models")?;
        let model = |(i, model): (usize, &Value)| {
            ModelState::from_json(model).map_err(|problem| format!("model {}: {problem}", i + 1))
        };
        Ok(Self { settings, models: models.iter().enumerate().map(model).collect::<Result<_, _>>()? })
    }
}

impl ModelState {
    fn to_json(&self) -> Value {
        let kept = match &self.kept {
            Kept::Text(Partial { chunks, scores, time }) => json!({
                "chunks": chunks, "tokens": scores.count, "nll": bits(scores.nll), "squares": bits(scores.squares),
                "nanoseconds": nanoseconds(*time),
            }),
            Kept::Tasks { scores, time } => {
                let scores: Vec<Vec<String>> =
                    scores.iter().map(|scores| scores.iter().map(|&score| bits(score)).collect()).collect();
                json!({ "scores": scores, "nanoseconds": nanoseconds(*time) })
            }
        };
        json!({ "name": self.name, "hash": self.hash, "kept": kept })
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        let text = |name: &str| json[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}"));
        let kept = &json["kept"];
        let number = |name: &str| kept[name].as_u64().ok_or_else(|| format!("no {name}"));
        let count = |name: &str| number(name).and_then(|n| usize::try_from(n).map_err(|_| format!("{name}: {n}")));
        let time = Duration::from_nanos(number("nanoseconds")?);
        let kept = if let Some(tasks) = kept["scores"].as_array() {
            let scores = |task: &Value| -> Option<Vec<f64>> { task.as_array()?.iter().map(number_of).collect() };
            let scores = tasks.iter().map(scores).collect::<Option<_>>().ok_or("a score is no number")?;
            Kept::Tasks { scores, time }
        } else {
            let sum = |name: &str| number_of(&kept[name]).ok_or_else(|| format!("no {name}"));
            let scores = Scores { count: count("tokens")?, nll: sum("nll")?, squares: sum("squares")? };
            Kept::Text(Partial { chunks: count("chunks")?, scores, time })
        };
        Ok(Self { name: text("name")?, hash: text("hash")?, kept })
    }
}

/// The bits of a number as sixteen digits.
fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

/// The finite number of such digits.
fn number_of(json: &Value) -> Option<f64> {
    let digits = json.as_str().filter(|digits| digits.len() == 16)?;
    let value = f64::from_bits(u64::from_str_radix(digits, 16).ok()?);
    value.is_finite().then_some(value)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Kept, ModelState, State};
    use crate::perplexity::{Partial, Scores};

    fn state() -> State {
        let scores = Scores { count: 255, nll: 0.1 + 0.2, squares: 1e300 / 3.0 };
        let kept = Kept::Text(Partial { chunks: 1, scores, time: Duration::from_nanos(1_234_567_891) });
        let tasks = Kept::Tasks { scores: vec![vec![-1.1, -2.2], vec![-0.0; 3]], time: Duration::ZERO };
        let model = |name: &str, kept| ModelState { name: name.into(), hash: format!("{name}{name}"), kept };
        State {
            settings: vec![("context".into(), "512".into()), ("text".into(), "ab".into())],
            models: vec![model("a", kept), model("b", tasks)],
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let json = state().to_json();
        assert_eq!(State::from_json(&json).expect("read"), state());
        assert_eq!(json["models"][0]["kept"]["nll"], "3fd3333333333334");
    }

    #[test]
    fn what_is_no_state_is_refused_with_the_place() {
        for (pointer, value, problem) in [
            ("/kind", "x".into(), "does not say"),
            ("/schema_version", 2.into(), "version 2, and not 1"),
            ("/settings/text", 1.into(), "setting text is no text"),
            ("/models/0/hash", 1.into(), "model 1: no hash"),
            ("/models/0/kept/chunks", (-1).into(), "model 1: no chunks"),
            ("/models/0/kept/nll", "7ff0000000000000".into(), "model 1: no nll"),
            ("/models/0/kept/nll", "3fd".into(), "model 1: no nll"),
            ("/models/1/kept/scores/1", 5.into(), "model 2: a score is no number"),
        ] {
            let mut json = state().to_json();
            *json.pointer_mut(pointer).expect(pointer) = value;
            let found = State::from_json(&json).expect_err(pointer);
            assert!(found.contains(problem), "{pointer}: {found}");
        }
    }

    #[test]
    fn other_runs_are_told_apart() {
        let (state, path) = (state(), Path::new("part.json"));
        let settings = |context: &str| {
            [("context", context), ("text", "ab")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert!(state.check(path, &settings("512"), 3).is_ok());
        let told = |result: Result<(), super::StateError>| result.expect_err("refused").to_string();
        assert_eq!(
            told(state.check(path, &settings("256"), 2)),
            "part.json: of a run with context 512, and here it is 256"
        );
        assert_eq!(
            told(state.check(path, &settings("512")[..1], 2)),
            "part.json: of a run with text ab, and here it is not given"
        );
        assert_eq!(
            told(state.check(path, &settings("512"), 1)),
            "part.json: of a run over 2 models, and here there are 1"
        );
        assert!(matches!(state.of_model(path, 1, "b", "bb"), Ok(Some(Kept::Tasks { .. }))));
        assert_eq!(state.of_model(path, 2, "c", "cc").expect("nothing"), None);
        assert_eq!(
            told(state.of_model(path, 0, "c", "cc").map(drop)),
            "part.json: its model 1 is a (aa), and here it is c (cc)"
        );
    }
}
