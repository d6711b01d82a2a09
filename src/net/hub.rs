//! The API of Hugging Face: what a repository holds, and what its refusals mean.

use serde_json::Value as Json;

use super::checksum::{Checksum, is_hex};
use super::error::Error;
use super::names::{is_revision, is_safe_path};
use super::settings::Settings;
use super::url::{escaped_path, host};

/// Largest page of a listing, in bytes.
const MOST_JSON: u64 = 32 << 20;
/// Maximum pages of a listing, each of a thousand files.
const MOST_PAGES: usize = 100;
/// Largest file, in bytes.
const MOST_BYTES: u64 = 1 << 50;

/// A repository at a commit.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    /// `ORG/NAME`, as the server spells it.
    pub(super) name: String,
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    pub(super) files: Vec<HubFile>,
    /// Parameters of its models, where the server knows.
    pub(super) parameters: Option<u64>,
    pub(super) architecture: Option<String>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubFile {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

impl Repository {
    /// Requests the files of a repository at a branch, a tag or a commit.
    pub(super) fn ask(settings: &Settings, name: &str, revision: &str) -> Result<Self, Error> {
        if !is_revision(revision) {
            return Err(Error::Name { name: revision.to_owned(), problem: "no name of a branch, a tag or a commit" });
        }
        let explained = |error| explain(settings, name, error);
        let api = format!("{}/api/models/{name}", settings.endpoint);
        let url = format!("{api}/revision/{}", escaped_path(revision).replace('/', "%2F"));
        let (about, _) = settings.client.json(&url, MOST_JSON, "application/json").map_err(explained)?;
        let nonsense = |problem: &str| Error::Answer { url: url.clone(), problem: problem.to_owned() };
        let commit = about["sha"].as_str().filter(|sha| is_hex(sha, 40));
        let commit = commit.ok_or_else(|| nonsense("the answer names no commit"))?.to_owned();
        // A renamed repository also answers to its old name.
        let id = about["id"].as_str().filter(|id| id.eq_ignore_ascii_case(name)).unwrap_or(name).to_owned();
        let mut files = Vec::new();
        let mut page = Some(format!("{api}/tree/{commit}?recursive=true"));
        for _ in 0..MOST_PAGES {
            let Some(url) = page else { break };
            let (json, headers) = settings.client.json(&url, MOST_JSON, "application/json").map_err(explained)?;
            let entries = json.as_array().ok_or_else(|| nonsense("the answer lists no files"))?;
            files.extend(entries.iter().filter_map(file));
            let link = headers.get("link").and_then(|link| link.to_str().ok());
            page = link.and_then(next_page).map(|next| super::url::joined(&url, next)).transpose()?;
        }
        let parameters = about["gguf"]["total"].as_u64();
        let architecture = about["gguf"]["architecture"].as_str().map(str::to_owned);
        Ok(Self { name: id, commit, files, parameters, architecture })
    }

    /// The address of a file.
    pub(super) fn url(&self, settings: &Settings, path: &str) -> String {
        format!("{}/{}/resolve/{}/{}", settings.endpoint, self.name, self.commit, escaped_path(path))
    }
}

/// A file of a listing; `None` for folders, and for names that cannot be files here.
fn file(entry: &Json) -> Option<HubFile> {
    let path = entry["path"].as_str().filter(|path| is_safe_path(path))?;
    if entry["type"].as_str() != Some("file") {
        return None;
    }
    let (checksum, bytes) = match &entry["lfs"] {
        Json::Object(lfs) => (Checksum::sha256(lfs.get("oid")?.as_str()?)?, lfs.get("size")?.as_u64()?),
        _ => (Checksum::git(entry["oid"].as_str()?)?, entry["size"].as_u64()?),
    };
    (bytes <= MOST_BYTES).then(|| HubFile { path: path.to_owned(), bytes, checksum })
}

/// The URL of `Link: <URL>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0)
}

/// Interprets an error of Hugging Face.
pub(super) fn explain(settings: &Settings, name: &str, error: Error) -> Error {
    let Error::Status { status, code, .. } = &error else { return error };
    let (host, name) = (host(&settings.endpoint), name.to_owned());
    let missing = |what, hint| Error::Missing { name: name.clone(), what, host: host.clone(), hint };
    let has_token = settings.client.has_token();
    let private = if has_token {
        " (or it is private, and the token is not one that may see it)"
    } else {
        " (or it is private: then HF_TOKEN must be set)"
    };
    match (status, code.as_deref()) {
        (_, Some("GatedRepo")) => Error::Gated { page: format!("{}/{name}", settings.endpoint), name },
        (_, Some("RevisionNotFound")) => missing("branch, tag or commit of this repository", ""),
        (_, Some("EntryNotFound")) => missing("file in this repository", ""),
        (_, Some("RepoNotFound")) | (404 | 410, _) => missing("repository", private),
        (401, _) if has_token => Error::Denied { name, host, status: 401, hint: ": the token (HF_TOKEN) is not taken" },
        (401, _) => missing("repository", private),
        (403, _) => Error::Denied { name, host, status: 403, hint: "" },
        (451, _) => Error::Denied { name, host, status: 451, hint: ": the repository is disabled" },
        (429, _) => {
            let hint = if has_token {
                ": too many requests; later they are taken again"
            } else {
                ": too many requests; with a token (HF_TOKEN) more are taken"
            };
            Error::Denied { name, host, status: 429, hint }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{file, next_page};
    use serde_json::json;

    #[test]
    fn files_of_listings_are_checked() {
        let oid = "0123456789abcdef0123456789abcdef01234567";
        let sha = "0123456789abcdef".repeat(4);
        let small = file(&json!({"type": "file", "path": "a/b", "size": 5, "oid": oid})).expect("a file");
        assert_eq!((small.bytes, small.checksum.digits()), (5, oid));
        let large = json!({"type": "file", "path": "a", "size": 134, "oid": oid, "lfs": {"oid": sha, "size": 9}});
        let large = file(&large).expect("a file");
        assert_eq!((large.bytes, large.checksum.digits()), (9, sha.as_str()));
        for bad in [
            json!({"type": "directory", "path": "a", "size": 0, "oid": oid}),
            json!({"type": "file", "path": "../a", "size": 5, "oid": oid}),
            json!({"type": "file", "path": "/etc/a", "size": 5, "oid": oid}),
            json!({"type": "file", "path": "a", "size": -5, "oid": oid}),
            json!({"type": "file", "path": "a", "size": 5, "oid": "../../../etc/passwd"}),
            json!({"type": "file", "path": "a", "size": 5, "oid": oid, "lfs": {"oid": oid, "size": 5}}),
            json!({"type": "file", "path": "a", "size": u64::MAX, "oid": oid}),
            json!([]),
        ] {
            assert_eq!(file(&bad), None, "{bad}");
        }
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(next_page("<https://a/b?c=d>; rel=\"next\""), Some("https://a/b?c=d"));
        assert_eq!(next_page("<https://a>; rel=\"prev\", </n>; rel=\"next\""), Some("/n"));
        assert_eq!(next_page("<https://a>; rel=\"prev\""), None);
    }
}
