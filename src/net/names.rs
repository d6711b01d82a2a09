//! Parses names of models to fetch: a repository of Hugging Face, or a model of a registry with Ollama's protocol.

use super::error::Error;
use super::settings::Settings;
use crate::stores::{OLLAMA_NAMESPACE, OLLAMA_TAG, split_tag, without_hub};

/// The source of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A repository of Hugging Face.
    Hub(HubName),
    /// A model of a registry.
    Registry(RegistryName),
}

/// `ORG/REPOSITORY[/FILE][:TAG]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HubName {
    pub(super) repository: String,
    /// A file's path in it.
    pub(super) file: Option<String>,
    /// A type, or a part of a file's name.
    pub(super) tag: Option<String>,
    /// A branch, a tag or a commit.
    pub(super) revision: Option<String>,
}

/// `[HOST/][NAMESPACE/]MODEL[:TAG]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegistryName {
    /// Its URL, `https://HOST`; `None` for Ollama's own.
    pub(super) server: Option<String>,
    pub(super) namespace: String,
    pub(super) model: String,
    pub(super) tag: String,
}

/// Hosts of Ollama's own registry.
const OLLAMA: [&str; 4] = ["https://ollama.com/", "ollama.com/", "https://registry.ollama.ai/", "registry.ollama.ai/"];

impl Source {
    /// Parses `name`; Hugging Face is at `endpoint`.
    pub(super) fn parse(name: &str, endpoint: &str) -> Result<Self, Error> {
        let failed = |problem| Error::Name { name: name.to_owned(), problem };
        let at_endpoint = || name.strip_prefix(endpoint).and_then(|rest| rest.strip_prefix('/'));
        if let Some(rest) = without_hub(name).or_else(at_endpoint) {
            return HubName::parse(rest).map(Self::Hub).map_err(failed);
        }
        if let Some(rest) = OLLAMA.iter().find_map(|host| name.strip_prefix(host)) {
            return RegistryName::parse(None, rest).map(Self::Registry).map_err(failed);
        }
        if let Some((scheme, rest)) = name.split_once("://") {
            let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let is_registry = matches!(scheme, "http" | "https") && !rest.ends_with(".gguf");
            if !is_registry {
                return Err(failed("neither a repository nor a model of a registry"));
            }
            return RegistryName::parse(Some(format!("{scheme}://{host}")), rest).map(Self::Registry).map_err(failed);
        }
        let parts: Vec<&str> = name.split('/').collect();
        match parts[..] {
            [_] => RegistryName::parse(None, name).map(Self::Registry).map_err(failed),
            [host, _, _] if host.contains(['.', ':']) => {
                let rest = &name[host.len() + 1..];
                RegistryName::parse(Some(format!("https://{host}")), rest).map(Self::Registry).map_err(failed)
            }
            _ => HubName::parse(name).map(Self::Hub).map_err(failed),
        }
    }
}

impl Settings {
    /// Whether a name is that of a repository of Hugging Face, or of a model of Ollama's registry: of no other server.
    #[must_use]
    pub fn is_of_usual_server(&self, name: &str) -> bool {
        match Source::parse(name, &self.endpoint) {
            Ok(Source::Hub(_)) => true,
            Ok(Source::Registry(model)) => model.server.is_none(),
            Err(_) => false,
        }
    }
}

impl HubName {
    fn parse(name: &str) -> Result<Self, &'static str> {
        let (path, tag) = split_tag(name.trim_end_matches('/'));
        let tag = tag.filter(|tag| *tag != OLLAMA_TAG).map(str::to_owned);
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.splitn(3, '/');
        let (organization, repository) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !is_name(organization) || !is_name(repository) {
            return Err("not the name of a repository (ORG/NAME)");
        }
        let mut named = Self { repository: format!("{organization}/{repository}"), tag, ..Self::default() };
        let Some(rest) = parts.next() else { return Ok(named) };
        // As in the URL of a page: resolve/main/FILE, blob/main/FILE, tree/main.
        let mut words = rest.splitn(3, '/');
        let file = match (words.next(), words.next(), words.next()) {
            (Some("resolve" | "blob" | "tree"), Some(revision), file) => {
                named.revision = Some(revision.to_owned());
                file
            }
            _ => Some(rest),
        };
        named.file = file.map(str::to_owned);
        if named.file.as_deref().is_some_and(|file| !is_safe_path(file))
            || named.revision.as_deref().is_some_and(|revision| !is_revision(revision))
        {
            return Err("not the path of a file");
        }
        Ok(named)
    }
}

impl RegistryName {
    fn parse(server: Option<String>, name: &str) -> Result<Self, &'static str> {
        let (path, tag) = split_tag(name);
        let (namespace, model) = path.rsplit_once('/').unwrap_or((OLLAMA_NAMESPACE, path));
        let tag = tag.unwrap_or(OLLAMA_TAG);
        let is_part = |text: &str| {
            text.len() <= 80
                && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let host_is_fine = server.as_deref().is_none_or(|server| super::url::Origin::of(server).is_ok());
        if ![namespace, model, tag].into_iter().all(is_part) || !host_is_fine {
            return Err("not the name of a model ([NAMESPACE/]MODEL[:TAG]) or of a repository (ORG/NAME[:TYPE])");
        }
        Ok(Self { server, namespace: namespace.into(), model: model.into(), tag: tag.into() })
    }
}

/// Whether a text is one of the two parts of a repository's name.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 96
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
        // These would be ambiguous in the names of folders.
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether a text may be a branch, a tag or a commit.
pub(super) fn is_revision(text: &str) -> bool {
    is_safe_path(text) && text.len() <= 200 && !text.contains(char::is_whitespace)
}

/// Whether a path stays within its folder and is valid on this file system.
pub(super) fn is_safe_path(path: &str) -> bool {
    path.len() <= 1000
        && path.split('/').count() <= 16
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 250)
        && !path.contains(['\\', ':'])
        && !path.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{HubName, RegistryName, Source, is_safe_path};

    fn hub(repository: &str, file: Option<&str>, tag: Option<&str>) -> Source {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Source::Hub(HubName { repository: repository.into(), file: text(file), tag: text(tag), revision: None })
    }

    fn registry(server: Option<&str>, namespace: &str, model: &str, tag: &str) -> Source {
        Source::Registry(RegistryName {
            server: server.map(str::to_owned),
            namespace: namespace.into(),
            model: model.into(),
            tag: tag.into(),
        })
    }

    #[test]
    fn names_mean_repositories_or_models() {
        let of = |name| Source::parse(name, "https://huggingface.co").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(of("org/repo"), hub("org/repo", None, None));
        assert_eq!(of("org/repo:Q4_K_M"), hub("org/repo", None, Some("Q4_K_M")));
        assert_eq!(of("hf.co/org/repo:latest"), hub("org/repo", None, None));
        assert_eq!(of("https://huggingface.co/org/repo/"), hub("org/repo", None, None));
        assert_eq!(of("org/repo/sub/a-Q8_0.gguf"), hub("org/repo", Some("sub/a-Q8_0.gguf"), None));
        let Source::Hub(page) = of("https://huggingface.co/org/repo/blob/main/a.gguf?download=true") else { panic!() };
        assert_eq!((page.file.as_deref(), page.revision.as_deref()), (Some("a.gguf"), Some("main")));
        assert_eq!(of("llama3.1:8b"), registry(None, "library", "llama3.1", "8b"));
        assert_eq!(of("llama3.1"), registry(None, "library", "llama3.1", "latest"));
        assert_eq!(of("ollama.com/me/mine"), registry(None, "me", "mine", "latest"));
        assert_eq!(of("ollama.com/library/x:1b"), registry(None, "library", "x", "1b"));
        assert_eq!(of("reg.example/ns/m:t"), registry(Some("https://reg.example"), "ns", "m", "t"));
        assert_eq!(of("http://127.0.0.1:9/ns/m:t"), registry(Some("http://127.0.0.1:9"), "ns", "m", "t"));
        let mirror = Source::parse("http://localhost:8/org/repo:Q8_0", "http://localhost:8").expect("a mirror");
        assert_eq!(mirror, hub("org/repo", None, Some("Q8_0")));
        for bad in [
            "",
            "/",
            "org/",
            "../x",
            "a/../b",
            "a--b/c",
            "org/.x",
            "hf.co/x",
            "file:///etc/passwd",
            "a b",
            "a:b:c/d",
            "https://host/x/y.gguf",
            "org/repo/../../x",
            "-x",
            "http://user@host/ns/m",
        ] {
            assert!(Source::parse(bad, "https://huggingface.co").is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_stay_in_their_folder() {
        assert!(is_safe_path("a") && is_safe_path("a/b c/d.gguf"));
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\nb", "C:/a", "a\0b"] {
            assert!(!is_safe_path(bad), "{bad:?}");
        }
    }
}
