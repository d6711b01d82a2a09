//! Servers from which models are fetched, and folders for them.

use std::ffi::OsString;
use std::path::PathBuf;

use super::client::{Client, ClientOptions};
use super::error::Error;
use super::url::Origin;
use crate::files::read_whole;
use crate::printable::printable;
use crate::stores::Roots;

const HUB: &str = "https://huggingface.co";
const REGISTRY: &str = "https://registry.ollama.ai";
/// Bytes of a file with a token that are read.
const MOST_TOKEN: u64 = 4096;

/// Servers, a client for them, and folders for fetched models.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) client: Client,
    /// Hugging Face, or a mirror (`HF_ENDPOINT`), without a trailing slash.
    pub(super) endpoint: String,
    /// Ollama's registry, or a mirror (`GGUF_OLLAMA_REGISTRY`).
    pub(super) registry: String,
    pub(super) roots: Roots,
    /// Whether the program is offline.
    pub(super) is_offline: bool,
}

impl Settings {
    /// The settings of the environment: `HF_ENDPOINT`, `HF_TOKEN` (or the file that `hf auth login` writes), `HF_HUB_OFFLINE`,
    /// `HF_HOME`, `HF_HUB_CACHE`, `OLLAMA_MODELS`, `GGUF_OLLAMA_REGISTRY`, `SSL_CERT_FILE`, and proxies.
    ///
    /// # Errors
    /// When one of them is not valid.
    pub fn from_environment(options: ClientOptions) -> Result<Self, Error> {
        Self::from_variables(options, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// As [`Self::from_environment`], with `get` in place of the environment (except for the client).
    ///
    /// # Errors
    /// When one of them is not valid.
    pub fn from_variables(options: ClientOptions, get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let address = |name: &str, usual: &str| -> Result<String, Error> {
            let url = text(name).unwrap_or_else(|| usual.to_owned());
            let url = url.trim().trim_end_matches('/').to_owned();
            let problem = || format!("{name} ({}): no address of a server (https://...)", printable(&url).limit(200));
            Origin::of(&url).map_err(|_| Error::Setup { problem: problem() })?;
            Ok(url)
        };
        let endpoint = address("HF_ENDPOINT", HUB)?;
        let registry = address("GGUF_OLLAMA_REGISTRY", REGISTRY)?;
        let roots = Roots::from_variables(get);
        let mut client = Client::new(options)?;
        let hides_token = text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            let path = get("HF_TOKEN_PATH").map(PathBuf::from);
            let path = path.or_else(|| roots.hugging_face_home.as_ref().map(|home| home.join("token")))?;
            let bytes = if hides_token { None } else { read_whole(&path, MOST_TOKEN).ok() };
            String::from_utf8(bytes?).ok()
        });
        if let Some(token) = token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
            client = client.with_token(&endpoint, token)?;
        }
        let is_offline = text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value));
        Ok(Self { client, endpoint, registry, roots, is_offline })
    }

    /// The same settings, but offline.
    #[must_use]
    pub const fn offline(mut self) -> Self {
        self.is_offline = true;
        self
    }

    /// Whether the program is offline.
    #[must_use]
    pub const fn is_offline(&self) -> bool {
        self.is_offline
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}
