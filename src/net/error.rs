//! What goes wrong between this machine and a server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::files::{FileError, OutputError};
use crate::printable::{printable, printable_path};

/// Why something cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is no address of a server, or one that must not be followed.
    #[error("{}: {problem}", printable(url).limit(200))]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name that leads to no repository.
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
    /// No connection, or none that lasts.
    #[error("cannot reach {}: {}", printable(host).limit(200), printable(reason).limit(300))]
    Unreachable {
        /// The server.
        host: String,
        /// What the system or the protocol says.
        reason: String,
        /// Whether another try may help.
        lasting: bool,
    },
    /// A connection that broke while an answer came.
    #[error("{}: the connection broke: {}", printable(url).limit(200), printable(reason).limit(300))]
    Broken {
        /// The address.
        url: String,
        /// What the system or the protocol says.
        reason: String,
    },
    /// An answer other than success.
    #[error("{}: the server answers {status}{}", printable(url).limit(200), said_by(said))]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// `X-Error-Code`, by which Hugging Face tells the reason.
        code: Option<String>,
        /// The server's message.
        said: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// More redirections than any server needs.
    #[error("{}: redirected too often", printable(url).limit(200))]
    Redirects {
        /// The first address.
        url: String,
    },
    /// An answer that makes no sense.
    #[error("{}: {problem}", printable(url).limit(200))]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An answer of more bytes than anything of its kind.
    #[error("{}: more than {limit} bytes", printable(url).limit(200))]
    TooLarge {
        /// The address.
        url: String,
        /// The most bytes.
        limit: u64,
    },
    /// There is nothing of this name.
    #[error("{}: no such {what} at {}{}", printable(name).limit(200), printable(host).limit(200), hint)]
    Missing {
        /// The name.
        name: String,
        /// What was looked for.
        what: &'static str,
        /// The server.
        host: String,
        /// What may help.
        hint: &'static str,
    },
    /// A repository whose terms must be accepted first.
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
        /// What may help.
        hint: &'static str,
    },
    /// No file of a repository is meant.
    #[error("{}: no file of this name or type; there is {}", printable(name).limit(200), listed(found))]
    NoFile {
        /// The name.
        name: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A repository that is of no use here.
    #[error("{}: no GGUF files{}", printable(name).limit(200), hint)]
    NoModel {
        /// The repository.
        name: String,
        /// What may help.
        hint: &'static str,
    },
    /// The bytes that came are not those that were asked for.
    #[error(
        "{}: the bytes that came are not the file's: their checksum is {found}, that of the file {expected}",
        printable(name).limit(200)
    )]
    Checksum {
        /// The file.
        name: String,
        /// The checksum that the server has named.
        expected: String,
        /// That of the bytes.
        found: String,
    },
    /// Nothing may be fetched, and it is not on this machine.
    #[error("{}: not on this machine, and nothing is fetched offline", printable(name).limit(200))]
    Offline {
        /// The name.
        name: String,
    },
    /// There is nowhere to put it.
    #[error("no folder for models: neither HOME nor {variable} is set")]
    NoFolder {
        /// The variable that would name one.
        variable: &'static str,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk refuses.
    #[error("{}: {source}", printable_path(path))]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The caller has had enough.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// Whether the same request may succeed a little later.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { lasting, .. } => !*lasting,
            Self::Broken { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// How long the server asks to wait.
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
