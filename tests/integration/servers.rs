//! Servers on loopback that speak the protocols of Hugging Face and of Ollama's registry, well or badly.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

pub(crate) const COMMIT: &str = "abcdef0123456789abcdef0123456789abcdef01";
/// Files from so many bytes on are named by their SHA-256, as large ones are.
const LARGE: usize = 1000;

/// A request that has come.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for, and the last.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }

    pub(crate) fn is_for_a_file(&self) -> bool {
        self.path.contains("/resolve/") || self.path.contains("/blobs/")
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// A rest after every 64 KiB.
    pub(crate) pause: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, pause: Duration::ZERO }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn json(json: &Json) -> Self {
        Self::new(200, json.to_string())
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new(302, "").with("location", to)
    }
}

/// A server, which ends with the value.
pub(crate) struct Server {
    /// Its address, without a slash at the end.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, is_ended, answer) = (Arc::clone(&requests), Arc::clone(&ended), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_ended.load(Ordering::SeqCst) {
                    break;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { url, requests, ended }
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

/// Answers the requests of a connection until it ends.
fn serve(stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        seen.lock().expect("no panic").push(request.clone());
        let reply = answer(&request);
        let mut head = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        reply.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        let mut written = stream.write_all(head.as_bytes());
        for chunk in reply.body[..end].chunks(64 << 10) {
            written = written.and_then(|()| stream.write_all(chunk));
            thread::sleep(reply.pause);
        }
        if written.is_err() || end < reply.body.len() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request { path, headers })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What git calls a file of these bytes.
pub(crate) fn git_name(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Repositories of Hugging Face: files by `ORG/NAME` and path.
#[derive(Clone, Default)]
pub(crate) struct Hub(BTreeMap<String, BTreeMap<String, Arc<Vec<u8>>>>);

impl Hub {
    pub(crate) fn with(mut self, repository: &str, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.entry(repository.to_owned()).or_default().insert(path.to_owned(), Arc::new(bytes.into()));
        self
    }

    pub(crate) fn start(self) -> Server {
        Server::start(move |request| self.answer(request))
    }

    /// What Hugging Face answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap_or_default();
        let missing = |code: &str| Reply::new(404, "{\"error\":\"not there\"}").with("x-error-code", code);
        if request.path.starts_with("/api/models?") {
            return self.search(request);
        }
        let api = path.strip_prefix("/api/models/");
        let mut words = api.unwrap_or(path.trim_start_matches('/')).splitn(3, '/');
        let name = format!("{}/{}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some(files) = self.0.get(&name) else { return missing("RepoNotFound") };
        let rest = words.next().unwrap_or_default();
        if api.is_some() {
            return if rest.starts_with("tree/") {
                Reply::json(&files.iter().map(|(path, bytes)| entry(path, bytes)).collect())
            } else if rest == "revision/main" || rest == format!("revision/{COMMIT}") {
                Reply::json(&json!({ "id": name, "sha": COMMIT }))
            } else {
                missing("RevisionNotFound")
            };
        }
        let file = rest.strip_prefix("resolve/").and_then(|rest| rest.split_once('/'));
        match file.and_then(|(_, path)| files.get(&path.replace("%20", " "))) {
            Some(bytes) => ranged(request, bytes),
            None => missing("EntryNotFound"),
        }
    }

    fn search(&self, request: &Request) -> Reply {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        let wanted = value("search").unwrap_or_default().to_lowercase();
        let found = self.0.iter().filter(|(name, _)| name.to_lowercase().contains(&wanted));
        Reply::json(&found.map(|(name, _)| json!({ "id": name, "downloads": 12_345, "likes": 6 })).collect())
    }
}

fn entry(path: &str, bytes: &[u8]) -> Json {
    let mut entry = json!({ "type": "file", "path": path, "size": bytes.len(), "oid": git_name(bytes) });
    if bytes.len() >= LARGE {
        entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
    }
    entry
}

/// The bytes that a request asks for.
pub(crate) fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    match request.range() {
        Some((first, last)) if first < bytes.len() => {
            let last = last.min(bytes.len() - 1);
            let range = format!("bytes {first}-{last}/{}", bytes.len());
            Reply::new(206, &bytes[first..=last]).with("content-range", &range)
        }
        Some(_) => Reply::new(416, ""),
        None => Reply::new(200, bytes),
    }
}

/// A registry that speaks Ollama's protocol: the layers of models by `NAMESPACE/MODEL:TAG`.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    manifests: BTreeMap<String, String>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Where blobs are in truth.
    pub(crate) elsewhere: Option<String>,
}

impl Registry {
    /// With a model of these layers (their kinds and bytes).
    pub(crate) fn with(mut self, name: &str, layers: &[(&str, &[u8])]) -> Self {
        let mut listed = Vec::new();
        for (kind, bytes) in layers {
            let media = format!("application/vnd.ollama.image.{kind}");
            listed.push(
                json!({ "mediaType": media, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() }),
            );
            self.blobs.insert(sha256(bytes), bytes.to_vec());
        }
        let config = b"{\"model_format\":\"gguf\"}".to_vec();
        let digest = format!("sha256:{}", sha256(&config));
        let about = json!({ "mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": config.len() });
        self.blobs.insert(sha256(&config), config);
        let manifest = json!({ "schemaVersion": 2, "config": about, "layers": listed });
        self.manifests.insert(name.to_owned(), manifest.to_string());
        self
    }

    pub(crate) fn manifest(&self, name: &str) -> &str {
        &self.manifests[name]
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let missing =
            || Reply::new(404, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}");
        let Some(rest) = request.path.strip_prefix("/v2/") else { return missing() };
        if let Some((name, tag)) = rest.split_once("/manifests/") {
            let manifest = self.manifests.get(&format!("{name}:{tag}"));
            return manifest.map_or_else(missing, |manifest| Reply::new(200, manifest.as_str()));
        }
        let blob = rest.split_once("/blobs/sha256:").and_then(|(_, digest)| self.blobs.get(digest));
        match (&self.elsewhere, blob) {
            (Some(elsewhere), Some(_)) => Reply::redirect(&format!("{elsewhere}{}", request.path)),
            (None, Some(bytes)) => ranged(request, bytes),
            _ => missing(),
        }
    }
}

/// Servers with what the examples of `--help` name: the small model under the names of large ones. The second value is
/// what a shell says so that the program asks them.
pub(crate) fn of_examples(model: &[u8], checkpoint: &std::path::Path) -> ([Server; 2], String) {
    let name = "bartowski/Llama-3.2-1B-Instruct-GGUF";
    let mut hub = Hub::default().with(name, "Llama-3.2-1B-Instruct-Q4_K_M.gguf", model).with(
        name,
        "Llama-3.2-1B-Instruct-Q8_0.gguf",
        model,
    );
    for entry in std::fs::read_dir(checkpoint).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        hub = hub.with("meta-llama/Llama-3.2-1B-Instruct", &file, std::fs::read(&path).expect("read"));
    }
    let registry = Registry::default().with("library/llama3.2:1b", &[("model", model)]);
    let servers = [hub.start(), Server::start(move |request| registry.answer(request))];
    let line = format!(
        "export HF_ENDPOINT={} GGUF_OLLAMA_REGISTRY={}; unset HF_HOME HF_HUB_CACHE OLLAMA_MODELS http_proxy HTTP_PROXY ALL_PROXY",
        servers[0].url, servers[1].url
    );
    (servers, line)
}
