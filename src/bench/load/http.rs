//! A small HTTP/1.1 client: one connection per request, with streamed answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value as Json;

/// Time-out for a silent server.
const PATIENCE: Duration = Duration::from_secs(600);
/// Maximum bytes of a header line, and of an event.
const MOST: u64 = 16 << 20;

/// Errors of requests.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is not valid.
    #[error("{url}: must be like http://127.0.0.1:8080 (TLS is not supported)")]
    Url {
        /// What was given.
        url: String,
    },
    /// The connection failed or was closed.
    #[error("{host}: {error}")]
    Io {
        /// The server.
        host: String,
        /// The OS error.
        error: io::Error,
    },
    /// The answer is not valid HTTP or JSON.
    #[error("{host}: the answer is not valid: {what}")]
    Invalid {
        /// The server.
        host: String,
        /// What is wrong.
        what: String,
    },
    /// The status is an error.
    #[error("{path}: status {status}: {message}")]
    Status {
        /// The route.
        path: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        message: String,
    },
    /// The server reported an error within the stream.
    #[error("the server says: {0}")]
    InStream(String),
    /// The stream has no text.
    #[error("the stream has no text")]
    Nothing,
    /// The server has no models.
    #[error("the server lists no model")]
    NoModel,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    address: String,
    base: String,
    key: Option<String>,
}

impl Server {
    /// A server by its URL (`http://host:port`, optionally with a path before `/v1`), and its API key.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(url: &str, key: Option<String>) -> Result<Self, Error> {
        let wrong = || Error::Url { url: url.to_owned() };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@');
        if host.is_empty() || !is_plain(rest) || !key.as_deref().is_none_or(is_plain) {
            return Err(wrong());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let base = base.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Ok(Self { host: host.to_owned(), address, base, key })
    }

    /// The answer to a GET of this path.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn get(&self, path: &str) -> Result<Json, Error> {
        let mut answer = self.send("GET", path, "")?;
        let mut text = String::new();
        let limit = &mut (&mut answer as &mut dyn BufRead).take(MOST);
        limit.read_to_string(&mut text).map_err(|error| self.io(error))?;
        serde_json::from_str(&text).map_err(|error| self.invalid(error.to_string()))
    }

    /// Posts `body`, and calls `take` with each event of the stream.
    pub(super) fn stream(&self, path: &str, body: &Json, take: &mut dyn FnMut(&Json)) -> Result<(), Error> {
        let mut answer = self.send("POST", path, &body.to_string())?;
        let mut line = String::new();
        loop {
            line.clear();
            let limit = &mut (&mut answer as &mut dyn BufRead).take(MOST);
            if limit.read_line(&mut line).map_err(|error| self.io(error))? == 0 {
                return Ok(());
            }
            let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim_start) else { continue };
            if data == "[DONE]" {
                return Ok(());
            }
            take(&serde_json::from_str(data).map_err(|error| self.invalid(error.to_string()))?);
        }
    }

    fn io(&self, error: io::Error) -> Error {
        Error::Io { host: self.host.clone(), error }
    }

    fn invalid(&self, what: String) -> Error {
        Error::Invalid { host: self.host.clone(), what }
    }

    /// Sends a request, and reads the head of its answer.
    fn send(&self, method: &str, path: &str, body: &str) -> Result<BufReader<Body>, Error> {
        let (path, key) = (format!("{}{path}", self.base), self.key.as_deref());
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{key}Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let connect = || {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            Ok(BufReader::new(stream))
        };
        let mut stream = connect().map_err(|error| self.io(error))?;
        let mut read_line = || {
            let mut line = String::new();
            (&mut stream).take(MOST).read_line(&mut line).map_err(|error| self.io(error))?;
            Ok(line.trim_end().to_owned())
        };
        let first = read_line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or_else(|| self.invalid(format!("{:?}", first.chars().take(80).collect::<String>())))?;
        let mut is_chunked = false;
        loop {
            let line = read_line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let left = if is_chunked { Remaining::Chunk(0) } else { Remaining::All };
        let mut body = BufReader::new(Body { stream, left });
        if status != 200 {
            let mut text = Vec::new();
            // The message has what was received.
            let _ = (&mut body).take(2000).read_to_end(&mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            let json: Json = serde_json::from_str(&text).unwrap_or_default();
            let message = json["error"]["message"].as_str().map_or(text, str::to_owned);
            return Err(Error::Status { path, status, message });
        }
        Ok(body)
    }
}

/// How much of a body remains to be read.
enum Remaining {
    /// Everything up to the end of the connection.
    All,
    /// Bytes of a chunk.
    Chunk(u64),
    Nothing,
}

/// A body, put together from its chunks.
struct Body {
    stream: BufReader<TcpStream>,
    left: Remaining,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.left {
            Remaining::All => return self.stream.read(buffer),
            Remaining::Nothing => return Ok(0),
            Remaining::Chunk(0) => {
                let size = self.next_chunk()?;
                if size == 0 {
                    self.left = Remaining::Nothing;
                    return Ok(0);
                }
                size
            }
            Remaining::Chunk(left) => left,
        };
        let count = (&mut self.stream).take(left).read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = Remaining::Chunk(left - count as u64);
        Ok(count)
    }
}

impl Body {
    /// The size of the next chunk; the line end of the last one comes before it.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        for _ in 0..2 {
            line.clear();
            (&mut self.stream).take(MOST).read_line(&mut line)?;
            if !line.trim().is_empty() {
                break;
            }
        }
        let digits = line.trim().split(';').next().unwrap_or_default();
        u64::from_str_radix(digits, 16).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the size of a chunk"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gives a single answer.
    fn serving(answer: &'static str) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/base/v1/", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") && !seen.ends_with(b"}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                seen.push(byte[0]);
            }
            assert!(String::from_utf8_lossy(&seen).contains(" /base/v1/"));
            stream.write_all(answer.as_bytes()).expect("sent");
        });
        Server::new(&url, Some("key".to_owned())).expect("a URL")
    }

    #[test]
    fn streams_are_put_together_from_chunks() {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            9\r\ndata: {\"a\r\n15\r\n\":1}\n\n: ping\n\ndata: {\r\n4\r\n}\n\n\n\r\n0\r\n\r\n";
        let mut seen = Vec::new();
        let result = serving(answer).stream("/v1/x", &serde_json::json!({}), &mut |event| seen.push(event.clone()));
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(seen, [serde_json::json!({ "a": 1 }), serde_json::json!({})]);
    }

    #[test]
    fn failures_have_messages() {
        let message = |answer| serving(answer).get("/v1/models").expect_err("no answer").to_string();
        let refused = message("HTTP/1.1 404 Not Found\r\n\r\n{\"error\":{\"message\":\"no model\"}}");
        assert_eq!(refused, "/base/v1/models: status 404: no model");
        assert!(message("SSH-2.0\r\n\r\n").contains("the answer is not valid"));
        assert!(message("HTTP/1.1 200 OK\r\n\r\n<html>").contains("the answer is not valid"));
        assert!(message("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}").contains("end of file"));
        for url in ["https://a", "a:80", "http://", "http://a b"] {
            assert!(Server::new(url, None).is_err(), "{url}");
        }
        assert_eq!(
            Server::new("http://a/v1", None).map(|server| (server.address, server.base)).ok(),
            Some(("a:80".into(), String::new()))
        );
    }
}
