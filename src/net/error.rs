//! Errors of fetching from servers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::files::{FileError, OutputError};
use crate::printable::{printable, printable_path};

/// An error of fetching.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL that is not valid, or must not be followed.
    #[error("{}: {problem}", printable(url).limit(200))]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name that is not that of a repository.
    #[error("{}: {problem}", printable(name).limit(200))]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The client cannot be set up.
    #[error("{problem}")]
    Setup {
        /// What is wrong.
        problem: String,
    },
    /// The connection failed.
    #[error("cannot reach {}: {}", printable(host).limit(200), printable(reason).limit(300))]
    Unreachable {
        /// The server.
        host: String,
        /// The reason.
        reason: String,
        /// Whether retrying does not help.
        lasting: bool,
    },
    /// The connection broke while an answer was received.
    #[error("{}: the connection broke: {}", printable(url).limit(200), printable(reason).limit(300))]
    Broken {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The status is an error.
    #[error("{}: the server answers {status}{}", printable(url).limit(200), said_by(said))]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// `X-Error-Code`, Hugging Face's reason.
        code: Option<String>,
        /// The server's message.
        said: String,
        /// The time that the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// Too many redirections.
    #[error("{}: redirected too often", printable(url).limit(200))]
    Redirects {
        /// The first URL.
        url: String,
    },
    /// The answer is not valid.
    #[error("{}: {problem}", printable(url).limit(200))]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The answer is too large.
    #[error("{}: more than {limit} bytes", printable(url).limit(200))]
    TooLarge {
        /// The URL.
        url: String,
        /// The maximum bytes.
        limit: u64,
    },
    /// There is nothing with this name.
    #[error("{}: no such {what} at {}{}", printable(name).limit(200), printable(host).limit(200), hint)]
    Missing {
        /// The name.
        name: String,
        /// What was searched for.
        what: &'static str,
        /// The server.
        host: String,
        /// A hint.
        hint: &'static str,
    },
    /// The terms of the repository must be accepted first.
    #[error(
        "{}: its owner asks that terms are accepted first: do so at {}, then set HF_TOKEN to a token of your account",
        printable(name).limit(200),
        printable(page).limit(200)
    )]
    Gated {
        /// The repository.
        name: String,
        /// Where the terms can be accepted.
        page: String,
    },
    /// The server refuses.
    #[error("{}: {} refuses access ({status}){}", printable(name).limit(200), printable(host).limit(200), hint)]
    Denied {
        /// The name.
        name: String,
        /// The server.
        host: String,
        /// The status.
        status: u16,
        /// A hint.
        hint: &'static str,
    },
    /// No file of the repository matches.
    #[error("{}: no file of this name or type; there is {}", printable(name).limit(200), listed(found))]
    NoFile {
        /// The name.
        name: String,
        /// The files that exist.
        found: Vec<String>,
    },
    /// The repository has no model.
    #[error("{}: no GGUF files{}", printable(name).limit(200), hint)]
    NoModel {
        /// The repository.
        name: String,
        /// A hint.
        hint: &'static str,
    },
    /// The checksum of the received bytes is wrong.
    #[error(
        "{}: the bytes that came are not the file's: their checksum is {found}, that of the file {expected}",
        printable(name).limit(200)
    )]
    Checksum {
        /// The file.
        name: String,
        /// The expected checksum.
        expected: String,
        /// The checksum of the received bytes.
        found: String,
    },
    /// The program is offline, and the model is not on this machine.
    #[error("{}: not on this machine, and nothing is fetched offline", printable(name).limit(200))]
    Offline {
        /// The name.
        name: String,
    },
    /// There is no folder for models.
    #[error("no folder for models: neither HOME nor {variable} is set")]
    NoFolder {
        /// The variable that could name one.
        variable: &'static str,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file operation failed.
    #[error("{}: {source}", printable_path(path))]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The caller has stopped the work.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Whether the same request may succeed later.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { lasting, .. } => !*lasting,
            Self::Broken { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// The time that the server asks to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn said_by(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {}", printable(said).limit(300)) }
}

fn listed(found: &[String]) -> String {
    const SHOWN: usize = 24;
    let shown: Vec<String> = found.iter().take(SHOWN).map(|name| printable(name).limit(120).to_string()).collect();
    let more = if found.len() > SHOWN { format!(" and {} more", found.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
