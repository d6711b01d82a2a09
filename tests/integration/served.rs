//! A running `gguf serve`, and a client of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

/// A running server with the embedded model; it ends with the test.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The names and objects of a stream of named events.
    pub(crate) fn named_events(&self) -> Vec<(String, Json)> {
        let event = |text: &str| {
            let (name, data) = text.strip_prefix("event: ")?.split_once("\ndata: ")?;
            Some((name.to_owned(), serde_json::from_str(data).expect("JSON")))
        };
        self.body.split("\n\n").filter_map(event).collect()
    }

    /// The objects of a stream of events, and whether it ended as OpenAI's do.
    pub(crate) fn events(&self) -> (Vec<Json>, bool) {
        let data = || self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let objects = data().filter(|text| *text != "[DONE]").map(|text| serde_json::from_str(text).expect("JSON"));
        (objects.collect(), data().last() == Some("[DONE]"))
    }

    pub(crate) fn lines(&self) -> Vec<Json> {
        self.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Served {
    pub(crate) fn start(options: &str) -> Self {
        Self::with(Command::new(env!("CARGO_BIN_EXE_gguf")), options)
    }

    /// A server with the environment of `command`.
    pub(crate) fn with(mut command: Command, options: &str) -> Self {
        command.args(["serve", "--port", "0", "-j", "2"]).args(options.split_whitespace());
        command.stdin(Stdio::null());
        Self::spawned(command)
    }

    /// A server that a whole command starts.
    pub(crate) fn spawned(mut command: Command) -> Self {
        command.env_remove("GGUF_API_KEY").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("serving at http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("set");
        stream
    }

    /// A request with further lines in its head.
    pub(crate) fn request(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let host = if head.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("answered");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Answer { status, head, body }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &Json) -> Answer {
        self.request("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    /// Posts, and gives the answer of a request that is in order.
    pub(crate) fn ask(&self, path: &str, body: &Json) -> Json {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// A figure of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let body = self.get("/metrics").body;
        let line = body.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{body}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        text.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    text
}

/// An object with further fields.
pub(crate) fn with(mut body: Json, fields: &Json) -> Json {
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}
