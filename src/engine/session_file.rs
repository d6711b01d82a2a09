//! Sessions in files: tokens, the state of the model after them, and a note of the caller. A file is valid for one model. Chats
//! keep theirs with [`Session::save`], a [`Batcher`](super::Batcher) those of its slots.
//!
//! A file has a header (magic, version, the model's fingerprint and name, cache types, context length), the note, the tokens,
//! the state (see [`Sequence::save`](crate::cpu::Sequence::save)) and the XXH64 of all of this. Numbers are little-endian.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash64;

use super::Session;
use crate::cpu::{KvType, OutOfPages, SavedError, Sequence};
use crate::files::{OutputError, OutputFile, Overwrite};
use crate::model::Model;
use crate::printable::{printable, printable_path};

const MAGIC: &[u8; 8] = b"gguf-kv\0";
/// To be increased whenever the layout of pages changes, because they are written as they are in memory.
const VERSION: u32 = 1;
/// Maximum bytes of a text in the header.
const MOST_TEXT: u64 = 1 << 16;

/// The reason why a session cannot be written to a file or read from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionFileError {
    /// The file cannot be opened.
    #[error("{}: {source}", printable_path(path))]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The model's fingerprint cannot be computed.
    #[error(transparent)]
    Model(#[from] crate::gguf::Error),
    /// The file is not a session, or has another version.
    #[error("{}: {problem}", printable_path(path))]
    NotASession {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The session belongs to another model.
    #[error("{}: a session of {}, and this is {}", printable_path(path), printable(found), printable(expected))]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The file's model.
        found: String,
        /// This session's model.
        expected: String,
    },
    /// The session has another setting.
    #[error("{}: a session with {name} {found}, and this one has {expected}", printable_path(path))]
    OtherSetting {
        /// The file.
        path: PathBuf,
        /// The name of the setting.
        name: &'static str,
        /// The file's value.
        found: String,
        /// This session's value.
        expected: String,
    },
    /// The session has more tokens than the context length.
    #[error(
        "{}: a session of {tokens} tokens, which a context of {context_length} does not hold",
        printable_path(path)
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its tokens.
        tokens: u64,
        /// The context length of this session.
        context_length: usize,
    },
    /// There is no memory for the state.
    #[error("{}: {source}", printable_path(path))]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// What is used of the caches' memory.
        source: OutOfPages,
    },
    /// The file is truncated or changed.
    #[error("{}: damaged: {problem}", printable_path(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Passes bytes on and hashes them.
struct Hashing<T> {
    inner: T,
    hash: XxHash64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: XxHash64::with_seed(0) }
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.write(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.hash.write(&bytes[..n]);
        Ok(n)
    }
}

/// The model's name for messages.
fn name(model: &Model) -> String {
    let text = |key: &str| model.metadata().get(key).and_then(|value| value.as_str()).map(str::to_owned);
    text("general.name").or_else(|| text("general.architecture")).unwrap_or_else(|| "a model without a name".to_owned())
}

/// What a file of a state is valid for.
#[derive(Clone, Copy)]
pub(super) struct StateOf<'m> {
    pub(super) model: &'m Model,
    pub(super) kv_type: KvType,
    pub(super) context_length: usize,
}

/// What a file of a state has besides the state.
pub(super) struct Stored {
    pub(super) note: Vec<u8>,
    pub(super) tokens: Vec<u32>,
    /// Bytes of the file.
    pub(super) bytes: u64,
}

impl Session {
    fn state_of(&self) -> StateOf<'_> {
        StateOf { model: self.model(), kv_type: self.kv_type(), context_length: self.context_length() }
    }

    /// Writes the session to `path`, completely or not at all, and replaces a file that is there. [`Self::restore`] returns `note`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, note: &[u8]) -> Result<(), SessionFileError> {
        self.state_of().write(path, note, self.tokens(), self.sequence()).map(drop)
    }

    /// Reads the session that [`Self::save`] has written to `path`, in place of this one, and returns its note. After an error
    /// the session is empty.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or belongs to another model, version, context length or cache type.
    pub fn restore(&mut self, path: &Path) -> Result<Vec<u8>, SessionFileError> {
        self.clear();
        let empty = self.sequence().clone();
        let mut sequence = std::mem::replace(self.sequence_mut(), empty);
        let read = self.state_of().read(path, &mut sequence, &mut |_, _| {});
        *self.sequence_mut() = sequence;
        let stored = read?;
        self.set_tokens(stored.tokens);
        Ok(stored.note)
    }
}

impl StateOf<'_> {
    /// Writes the state `sequence` after `tokens` to `path`, completely or not at all, and replaces a file that is there. Returns the
    /// size of the file in bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(
        &self,
        path: &Path,
        note: &[u8],
        tokens: &[u32],
        sequence: &Sequence,
    ) -> Result<u64, SessionFileError> {
        let fingerprint = self.model.fingerprint()?;
        let file = OutputFile::create(path, Overwrite::Replace { inputs: &[] }, 0)?;
        let failed = |source| SessionFileError::Output(OutputError::Write { path: path.into(), source });
        let mut out = Hashing::new(file);
        let mut write = || {
            out.write_all(MAGIC)?;
            out.write_all(&VERSION.to_le_bytes())?;
            out.write_all(&fingerprint)?;
            put(&mut out, name(self.model).as_bytes())?;
            put(&mut out, self.kv_type.to_string().as_bytes())?;
            out.write_all(&(self.context_length as u64).to_le_bytes())?;
            put(&mut out, note)?;
            out.write_all(&(tokens.len() as u64).to_le_bytes())?;
            for token in tokens {
                out.write_all(&token.to_le_bytes())?;
            }
            sequence.save(&mut out)?;
            let hash = out.hash.finish();
            out.inner.write_all(&hash.to_le_bytes())
        };
        write().map_err(failed)?;
        Ok(out.inner.commit()?)
    }

    /// Reads what [`Self::write`] has written to `path` into `sequence`. `prepare` is called with the empty sequence and the number of
    /// tokens before their state is read. After an error the sequence is empty.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or belongs to another model, version, context length or cache type, and when there
    /// is no memory for the state.
    pub(super) fn read(
        &self,
        path: &Path,
        sequence: &mut Sequence,
        prepare: &mut dyn FnMut(&Sequence, usize),
    ) -> Result<Stored, SessionFileError> {
        sequence.truncate(0);
        let open = |source| SessionFileError::Open { path: path.into(), source };
        let file = File::open(path).map_err(open)?;
        let bytes = file.metadata().map_err(open)?.len();
        let mut input = Input { path, bytes, from: Hashing::new(BufReader::with_capacity(1 << 18, file)) };
        self.check_head(&mut input)?;
        let note = input.text("the note", bytes)?;
        let tokens = self.read_tokens(&mut input)?;
        prepare(sequence, tokens.len());
        sequence.restore(tokens.len(), &mut input.from).map_err(|error| match error {
            SavedError::OutOfPages(source) => SessionFileError::NoMemory { path: path.into(), source },
            error => input.damaged(&error),
        })?;
        let hash = input.from.hash.finish();
        let whole = input.number("the checksum").and_then(|found| {
            if found != hash {
                return Err(input.damaged(&"the checksum is another"));
            }
            match input.from.read(&mut [0]) {
                Ok(0) => Ok(()),
                _ => Err(input.damaged(&"bytes follow its end")),
            }
        });
        if let Err(error) = whole {
            sequence.truncate(0);
            return Err(error);
        }
        Ok(Stored { note, tokens, bytes })
    }

    /// Reads the header and checks that it is of this model and its settings.
    fn check_head(&self, input: &mut Input<'_>) -> Result<(), SessionFileError> {
        let path = input.path;
        let mut magic = [0; MAGIC.len()];
        let is_session = input.from.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !is_session {
            return Err(SessionFileError::NotASession { path: path.into(), problem: "no session".into() });
        }
        let mut version = [0; 4];
        input.fill("the version", &mut version)?;
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            let problem = format!("a session of version {version}, where this program has version {VERSION}");
            return Err(SessionFileError::NotASession { path: path.into(), problem });
        }
        let mut found = [0; 32];
        input.fill("the fingerprint", &mut found)?;
        let model = input.text("the model's name", MOST_TEXT)?;
        if found != self.model.fingerprint()? {
            let (found, mut expected) = (String::from_utf8_lossy(&model).into_owned(), name(self.model));
            if found == expected {
                expected.push_str(" with other tensors, metadata or adapters");
            }
            return Err(SessionFileError::OtherModel { path: path.into(), found, expected });
        }
        let other = |name, found: String, expected: String| {
            Err(SessionFileError::OtherSetting { path: path.into(), name, found, expected })
        };
        let found = String::from_utf8_lossy(&input.text("the types of the cache", MOST_TEXT)?).into_owned();
        if KvType::parse(&found) != Some(self.kv_type) {
            return other("a cache of type", found, self.kv_type.to_string());
        }
        let context = usize::try_from(input.number("the context")?).unwrap_or(usize::MAX);
        if self.model.decoder().differ_by_context(context, self.context_length) {
            return other("a context of", context.to_string(), self.context_length.to_string());
        }
        Ok(())
    }

    fn read_tokens(&self, input: &mut Input<'_>) -> Result<Vec<u32>, SessionFileError> {
        let count = input.number("the number of tokens")?;
        let most = self.context_length;
        let count = usize::try_from(count).ok().filter(|&count| count <= most).ok_or_else(|| {
            SessionFileError::TooLong { path: input.path.into(), tokens: count, context_length: most }
        })?;
        let vocab = self.model.decoder().vocab_size();
        let mut tokens = Vec::new();
        for _ in 0..count {
            let mut token = [0; 4];
            input.fill("the tokens", &mut token)?;
            let token = u32::from_le_bytes(token);
            if token as usize >= vocab {
                return Err(input.damaged(&format_args!("token {token}, where the model has {vocab}")));
            }
            tokens.push(token);
        }
        Ok(tokens)
    }
}

/// Writes the length of a text, and the text.
fn put(out: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text)
}

/// A file that is read.
struct Input<'a> {
    path: &'a Path,
    bytes: u64,
    from: Hashing<BufReader<File>>,
}

impl Input<'_> {
    fn damaged(&self, problem: &dyn std::fmt::Display) -> SessionFileError {
        SessionFileError::Damaged { path: self.path.into(), problem: problem.to_string() }
    }

    fn fill(&mut self, what: &str, to: &mut [u8]) -> Result<(), SessionFileError> {
        self.from.read_exact(to).map_err(|error| self.damaged(&format_args!("{what}: {error}")))
    }

    fn number(&mut self, what: &str) -> Result<u64, SessionFileError> {
        let mut bytes = [0; 8];
        self.fill(what, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A text of at most `most` bytes.
    fn text(&mut self, what: &str, most: u64) -> Result<Vec<u8>, SessionFileError> {
        let len = self.number(what)?;
        if len > most.min(self.bytes) {
            return Err(self.damaged(&format_args!("{what} has {len} bytes")));
        }
        let mut text = vec![0; usize::try_from(len).unwrap_or(0)];
        self.fill(what, &mut text)?;
        Ok(text)
    }
}
