//! Reads the header of a model on a server by range requests.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::{Answer, Client, QUICK_RETRIES};
use super::error::Error;
use super::hub::{self, Repository};
use super::names::Source;
use super::selection;
use super::settings::Settings;
use super::url::{Origin, without_query};
use crate::files::{FileError, Input, ReadAt};
use crate::gguf::{self, Reader};

/// Maximum bytes of a file that are fetched.
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of the first request.
const FIRST_BYTES: u64 = 256 << 10;

/// Errors of reading a model on a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It cannot be fetched.
    #[error(transparent)]
    Net(#[from] Error),
    /// It is not a model.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
}

/// Opens the model at a URL (`https://...`, `hf://ORG/REPO/FILE`, `hf://ORG/REPO[:TYPE]`). Only the header is fetched, at most
/// 64 MiB.
///
/// # Errors
/// When the server refuses, or the file is not a model.
pub fn open_remote(settings: &Settings, address: &str) -> Result<Reader, RemoteError> {
    if settings.is_offline {
        return Err(Error::Offline { name: address.to_owned() }.into());
    }
    let (url, repository) = match Source::parse(address, &settings.endpoint) {
        Ok(Source::Hub(name)) => {
            let revision = name.revision.as_deref().unwrap_or("main");
            let repository = Repository::ask(settings, &name.repository, revision)?;
            let (model, _) = selection::model(&repository, &name, None)?;
            (repository.url(settings, model.path()), Some(repository.name.clone()))
        }
        _ => (address.to_owned(), None),
    };
    let explained = |error| match &repository {
        Some(name) => hub::explain(settings, name, error),
        None => error,
    };
    Ok(open_at(&settings.client, &url, &explained)?.0)
}

/// Opens the model at a URL. The second value is how many bytes were fetched for that.
pub(super) fn open_at(
    client: &Client,
    url: &str,
    explained: &dyn Fn(Error) -> Error,
) -> Result<(Reader, u64), RemoteError> {
    Origin::of(url)?;
    let path = PathBuf::from(without_query(url));
    let query = url.get(without_query(url).len()..).unwrap_or_default().to_owned();
    let fetched = Arc::new(AtomicU64::new(0));
    // Errors of the first file are reported as they are, not as a file that cannot be read.
    let first = RemoteFile::open(client, &path, url, &fetched).map_err(explained)?;
    let first = std::cell::RefCell::new(Some(first));
    let open = |shard: &Path| -> Result<Input, FileError> {
        if let Some(file) = first.borrow_mut().take_if(|file| file.path == shard) {
            return Ok(Input::Elsewhere(Box::new(file)));
        }
        let url = format!("{}{query}", shard.display());
        let file = RemoteFile::open(client, shard, &url, &Arc::default());
        let file =
            file.map_err(|error| FileError::Open { path: shard.into(), source: io::Error::other(error.to_string()) })?;
        Ok(Input::Elsewhere(Box::new(file)))
    };
    let reader = Reader::open_elsewhere(&path, &open)?;
    Ok((reader, fetched.load(Ordering::Relaxed)))
}

/// A file on a server.
#[derive(Debug)]
struct RemoteFile {
    client: Client,
    url: String,
    path: PathBuf,
    size: u64,
    /// Its first bytes.
    head: Vec<u8>,
    fetched: Arc<AtomicU64>,
}

impl RemoteFile {
    fn open(client: &Client, path: &Path, url: &str, fetched: &Arc<AtomicU64>) -> Result<Self, Error> {
        let shown = without_query(url);
        let nonsense = |problem: &str| Error::Answer { url: shown.to_owned(), problem: problem.to_owned() };
        let (head, size) = client.retried(QUICK_RETRIES, || {
            let answer = client.get(url, Some(&(0..FIRST_BYTES)), None)?;
            let size = if answer.status == 206 {
                answer.content_range().filter(|(start, _)| *start == 0).and_then(|(_, total)| total)
            } else {
                // The server sends the whole file; read no more than allowed.
                answer.length().filter(|&length| length <= MOST_BYTES)
            };
            let size = size.ok_or_else(|| nonsense("the server sends no parts of files"))?;
            let wanted = if answer.status == 206 { FIRST_BYTES.min(size) } else { size };
            Ok((read(answer, wanted)?, size))
        })?;
        fetched.fetch_add(head.len() as u64, Ordering::Relaxed);
        let fetched = fetched.clone();
        Ok(Self { client: client.clone(), url: url.to_owned(), path: path.to_owned(), size, head, fetched })
    }

    fn fetch(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let shown = without_query(&self.url);
        let bytes = buffer.len() as u64;
        if self.fetched.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > MOST_BYTES {
            return Err(Error::TooLarge { url: shown.to_owned(), limit: MOST_BYTES });
        }
        let range = offset..offset.saturating_add(bytes);
        let fresh = self.client.retried(QUICK_RETRIES, || {
            let answer = self.client.get(&self.url, Some(&range), None)?;
            if answer.status != 206 || answer.content_range() != Some((offset, Some(self.size))) {
                let problem = "the server sends another part than was asked for, or the file has changed".to_owned();
                return Err(Error::Answer { url: shown.to_owned(), problem });
            }
            read(answer, bytes)
        })?;
        buffer.copy_from_slice(&fresh);
        Ok(())
    }
}

/// The first `bytes` bytes of an answer.
fn read(answer: Answer, bytes: u64) -> Result<Vec<u8>, Error> {
    let url = answer.url.clone();
    let mut found = Vec::new();
    let result = answer.into_body().take(bytes).read_to_end(&mut found);
    let broken = |reason: String| Error::Broken { url: url.clone(), reason };
    result.map_err(|error| broken(error.to_string()))?;
    if found.len() as u64 == bytes { Ok(found) } else { Err(broken(format!("{} of {bytes} bytes came", found.len()))) }
}

impl ReadAt for RemoteFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.head.len());
        let known = buffer.len().min(self.head.len() - start);
        buffer[..known].copy_from_slice(&self.head[start..start + known]);
        if known == buffer.len() {
            return Ok(());
        }
        let (len, offset) = (buffer.len() - known, offset + known as u64);
        self.fetch(&mut buffer[known..], offset).map_err(|error| FileError::Read {
            path: self.path.clone(),
            offset,
            len,
            source: io::Error::other(error.to_string()),
        })
    }
}
