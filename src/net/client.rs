//! The HTTP client: one request at a time, with time-outs, proxies from the environment, and answers of bounded size. Redirections
//! are followed manually, so that a token is sent only to its own server.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use ureq::http::HeaderMap;
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::error::Error;
use super::url::{Origin, joined, without_query};
use crate::files::read_whole;
use crate::printable::printable_path;

/// Settings of the client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Connections to one server at a time.
    pub connections: usize,
    /// Retries after a failure, as long as no byte is received.
    pub retries: u32,
    /// Pause before the first retry; each further pause is twice as long.
    pub first_pause: Duration,
    /// Time-out for a silent server.
    pub silence: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connections: 4, retries: 7, first_pause: Duration::from_millis(250), silence: Duration::from_secs(30) }
    }
}

/// Maximum pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Maximum pause that a server can request.
const LONGEST_WISH: Duration = Duration::from_secs(60);
const MOST_REDIRECTIONS: usize = 8;
/// Maximum bytes of a server's error message.
const MOST_SAID: u64 = 4096;
/// Bytes of a file of certificates that are read.
const MOST_CERTIFICATES: u64 = 64 << 20;
/// Tries after one that failed where somebody waits for a first word.
pub(super) const QUICK_RETRIES: u32 = 3;

/// A range of bytes of a file.
pub(super) type Range = std::ops::Range<u64>;

/// A client, with the token of one server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    token: Option<Token>,
    options: ClientOptions,
}

#[derive(Clone)]
struct Token {
    origin: Origin,
    header: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a token for {}", self.origin.host())
    }
}

/// An answer whose body has not been read yet.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Body,
    /// The URL that has answered, without secrets.
    pub(super) url: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body's length, if the server reports it.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The first byte and the total of `Content-Range: bytes 0-9/100`; the total may be unknown.
    pub(super) fn content_range(&self) -> Option<(u64, Option<u64>)> {
        let (range, total) = self.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
    }

    /// The body as a stream.
    pub(super) fn into_body(self) -> impl Read {
        self.body.into_reader()
    }

    /// The whole body, of at most `limit` bytes.
    pub(super) fn bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let (url, length) = (self.url.clone(), self.length());
        let mut bytes = Vec::new();
        let read = self.into_body().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| Error::Broken { url: url.clone(), reason: error.to_string() })?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { url, limit });
        }
        match length {
            Some(length) if length != bytes.len() as u64 => {
                let reason = format!("{} of {length} bytes came", bytes.len());
                Err(Error::Broken { url, reason })
            }
            _ => Ok(bytes),
        }
    }
}

impl Client {
    /// A client without a token. `SSL_CERT_FILE` names a file of certificates to trust in place of Mozilla's.
    ///
    /// # Errors
    /// When that file has none.
    pub(super) fn new(options: ClientOptions) -> Result<Self, Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("gguf/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(15)))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(options.silence))
            .timeout_per_read(Some(options.silence))
            .timeout_per_write(Some(options.silence))
            .tls_config(tls(std::env::var_os("SSL_CERT_FILE"))?)
            .build();
        Ok(Self { agent: config.new_agent(), token: None, options })
    }

    /// Adds a token, which is sent only to the server of `endpoint`, and only over private connections.
    ///
    /// # Errors
    /// When `endpoint` is not a URL, or the token has invalid bytes.
    pub(super) fn with_token(mut self, endpoint: &str, token: &str) -> Result<Self, Error> {
        let origin = Origin::of(endpoint)?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Setup { problem: "the token (HF_TOKEN) has characters that no token has".to_owned() });
        }
        self.token = origin.is_private().then(|| Token { origin, header: format!("Bearer {token}") });
        Ok(self)
    }

    /// Settings of the client.
    pub(super) const fn options(&self) -> &ClientOptions {
        &self.options
    }

    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Sends one request, and follows redirections.
    ///
    /// # Errors
    /// Also for every status other than success.
    pub(super) fn get(&self, url: &str, range: Option<&Range>, accept: Option<&str>) -> Result<Answer, Error> {
        let mut at = url.to_owned();
        for _ in 0..MOST_REDIRECTIONS {
            let answer = self.ask(&at, range, accept)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return success(answer);
            }
            let location = answer.header("location").unwrap_or_default().to_owned();
            at = joined(&at, &location)?;
        }
        Err(Error::Redirects { url: without_query(url).to_owned() })
    }

    fn ask(&self, url: &str, range: Option<&Range>, accept: Option<&str>) -> Result<Answer, Error> {
        let origin = Origin::of(url)?;
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if let Some(range) = range {
            request = request.header("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        if let Some(token) = self.token.as_ref().filter(|token| token.origin == origin) {
            request = request.header("authorization", &token.header);
        }
        let response = request.call().map_err(|error| unreachable(&origin.host(), error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, url: without_query(url).to_owned() })
    }

    /// A JSON answer of at most `limit` bytes, with its headers; with retries if they may help.
    pub(super) fn json(&self, url: &str, limit: u64, accept: &str) -> Result<(Json, HeaderMap), Error> {
        let (bytes, headers) = self.small(url, limit, Some(accept))?;
        let json = serde_json::from_slice(&bytes).map_err(|error| Error::Answer {
            url: without_query(url).to_owned(),
            problem: format!("the answer is no JSON: {error}"),
        })?;
        Ok((json, headers))
    }

    /// A whole answer of at most `limit` bytes; with retries if they may help.
    pub(super) fn small(&self, url: &str, limit: u64, accept: Option<&str>) -> Result<(Vec<u8>, HeaderMap), Error> {
        self.retried(QUICK_RETRIES, || {
            let answer = self.get(url, None, accept)?;
            let headers = answer.headers.clone();
            Ok((answer.bytes(limit)?, headers))
        })
    }

    /// Does again what has failed, at most `retries` times or as often as the options say, where that may help.
    pub(super) fn retried<T>(&self, retries: u32, mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut pauses = Pauses::new(&self.options);
        loop {
            match act() {
                Err(error) if error.is_passing() && pauses.count < self.options.retries.min(retries) => {
                    std::thread::sleep(pauses.next(&error));
                }
                other => return other,
            }
        }
    }
}

/// Pauses between tries, each twice as long as the one before.
pub(super) struct Pauses {
    first: Duration,
    pub(super) count: u32,
}

impl Pauses {
    pub(super) const fn new(options: &ClientOptions) -> Self {
        Self { first: options.first_pause, count: 0 }
    }

    /// The pause after `error`: as long as the server asks for, where it does.
    pub(super) fn next(&mut self, error: &Error) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.count.min(16)).min(LONGEST_PAUSE);
        self.count += 1;
        error.retry_after().map_or(doubled, |wish| wish.min(LONGEST_WISH))
    }
}

fn success(answer: Answer) -> Result<Answer, Error> {
    if matches!(answer.status, 200..=299) {
        return Ok(answer);
    }
    let text = |name: &str| answer.header(name).map(str::to_owned);
    let (url, status, code) = (answer.url.clone(), answer.status, text("x-error-code"));
    let retry_after = text("retry-after").and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let message = text("x-error-message");
    let mut bytes = Vec::new();
    // The server's message is optional.
    let _ = answer.into_body().take(MOST_SAID).read_to_end(&mut bytes);
    let said = message.or_else(|| {
        let json: Json = serde_json::from_slice(&bytes).ok()?;
        json["error"].as_str().or_else(|| json["errors"][0]["message"].as_str()).map(str::to_owned)
    });
    Err(Error::Status { url, status, code, said: said.unwrap_or_default(), retry_after })
}

/// The message of the client library, as a sentence.
fn unreachable(host: &str, error: ureq::Error) -> Error {
    let lasting = match &error {
        // Retrying does not help if a certificate is not trusted.
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        ureq::Error::Timeout(_)
        | ureq::Error::Protocol(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::HostNotFound => false,
        _ => true,
    };
    let reason = match error {
        ureq::Error::HostNotFound => "no server of this name is known".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Error::Unreachable { host: host.to_owned(), reason, lasting }
}

fn tls(certificates: Option<OsString>) -> Result<TlsConfig, Error> {
    let Some(path) = certificates.filter(|path| !path.is_empty()) else { return Ok(TlsConfig::default()) };
    let path = PathBuf::from(path);
    let pem = read_whole(&path, MOST_CERTIFICATES);
    let pem = pem.map_err(|error| Error::Setup { problem: format!("SSL_CERT_FILE: {error}") })?;
    let roots: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        let problem = format!("SSL_CERT_FILE: {}: no certificates", printable_path(&path));
        return Err(Error::Setup { problem });
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build())
}
