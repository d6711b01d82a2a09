//! The page that browsers get at `/`: its files are part of the program, and nothing is loaded from elsewhere.
//!
//! HTML, CSS and JavaScript are in the folder beside this file, as plain modules that browsers read as they are: `main.js` is
//! where they begin. Everything else on the server is an API, for which the page is a client like any other.

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};

use super::reply::{Body, set};

/// What the page may do: run and show what comes from this server, and talk to it. No text ever becomes HTML or a script
/// (`require-trusted-types-for`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! file {
    ($name:literal, $kind:expr) => {
        File { path: concat!("/page/", $name), kind: $kind, text: include_str!(concat!("page/", $name)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

static INDEX: File = File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") };

static FILES: &[File] = &[
    file!("icon.svg", "image/svg+xml"),
    file!("base.css", STYLE),
    file!("chat.css", STYLE),
    file!("library.css", STYLE),
    file!("theme.js", SCRIPT),
    file!("main.js", SCRIPT),
    file!("chat.js", SCRIPT),
    file!("composer.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("highlight.js", SCRIPT),
    file!("inline.js", SCRIPT),
    file!("library.js", SCRIPT),
    file!("markdown.js", SCRIPT),
    file!("message.js", SCRIPT),
    file!("models.js", SCRIPT),
    file!("pane.js", SCRIPT),
    file!("probabilities.js", SCRIPT),
    file!("request.js", SCRIPT),
    file!("server.js", SCRIPT),
    file!("settings.js", SCRIPT),
    file!("sidebar.js", SCRIPT),
    file!("store.js", SCRIPT),
    file!("stream.js", SCRIPT),
    file!("transfer.js", SCRIPT),
    file!("tree.js", SCRIPT),
];

impl File {
    /// The file that a request asks for. `/` is the page for browsers alone: other clients know it as Ollama's.
    pub(super) fn wanted(method: &Method, path: &str, headers: &HeaderMap) -> Option<&'static Self> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        if path == INDEX.path {
            return lists(headers, header::ACCEPT).any(|kind| media_type(kind) == "text/html").then_some(&INDEX);
        }
        FILES.iter().find(|file| file.path == path)
    }

    /// The file, or that it has not changed since the client got it.
    pub(super) fn response(&self, headers: &HeaderMap) -> Response<Body> {
        let tag = self.tag();
        let known = |other: &str| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag;
        let is_known = lists(headers, header::IF_NONE_MATCH).any(known);
        let mut response = if is_known {
            let mut response = Response::new(Body::Full(None));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::Full(Some(Bytes::from_static(self.text.as_bytes()))))
        };
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            // Browsers ask each time whether it has changed: a new version of the program is seen at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "Accept"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            set(&mut response, name, value);
        }
        if let Ok(tag) = tag.parse() {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }

    /// Another for another text: FNV-1a.
    fn tag(&self) -> String {
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("\"{:016x}\"", self.text.bytes().fold(0xcbf2_9ce4_8422_2325, add))
    }
}

/// The items of a header that lists them with commas.
fn lists(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(',')).map(str::trim)
}

/// A media type without its parameters.
fn media_type(item: &str) -> &str {
    item.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a value"))])
    }

    #[test]
    fn browsers_get_the_page_and_others_do_not() {
        let wanted = |method: Method, path: &str, accept: &str| {
            File::wanted(&method, path, &headers(header::ACCEPT, accept)).map(|file| file.path)
        };
        for accept in ["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "*/*, text/html;q=0.5"] {
            assert_eq!(wanted(Method::GET, "/", accept), Some("/"), "{accept}");
        }
        for accept in ["*/*", "application/json", "text/plain", "text/htmlx"] {
            assert_eq!(wanted(Method::GET, "/", accept), None, "{accept}");
        }
        assert!(File::wanted(&Method::GET, "/", &HeaderMap::new()).is_none());
        assert_eq!(wanted(Method::HEAD, "/", "text/html"), Some("/"));
        assert_eq!(wanted(Method::POST, "/", "text/html"), None);
        assert_eq!(wanted(Method::GET, "/page/main.js", "*/*"), Some("/page/main.js"));
        assert_eq!(wanted(Method::GET, "/page/../mod.rs", "*/*"), None);
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let file = &INDEX;
        let status = |value: &str| file.response(&headers(header::IF_NONE_MATCH, value)).status().as_u16();
        assert_eq!(file.response(&HeaderMap::new()).status(), 200);
        for value in [file.tag(), format!("W/{}", file.tag()), format!("\"x\", {}", file.tag()), "*".to_owned()] {
            assert_eq!(status(&value), 304, "{value}");
        }
        assert_eq!(status("\"0123456789abcdef\""), 200);
        assert_eq!(status("0123456789abcdef"), 200);
    }

    /// Every file of the folder is served, and each that a file names exists: a module that is not in the table would be a blank page.
    #[test]
    fn the_table_has_what_the_files_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/page");
        let mut there: Vec<String> = fs::read_dir(folder)
            .expect("readable")
            .map(|entry| format!("/page/{}", entry.expect("readable").file_name().to_string_lossy()))
            .filter(|path| path != "/page/index.html")
            .collect();
        let mut served: Vec<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
        for file in FILES {
            for import in file.text.split("from './").skip(1).filter_map(|rest| rest.split('\'').next()) {
                assert!(served.contains(&format!("/page/{import}")), "{}: {import}", file.path);
            }
        }
        for named in INDEX.text.split("=\"/page/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(served.contains(&format!("/page/{named}")), "{named}");
        }
    }

    /// The policy forbids what is inline; nothing becomes HTML, and nothing is fetched from elsewhere.
    #[test]
    fn no_file_has_what_the_policy_forbids() {
        assert!(!POLICY.contains("unsafe"));
        for tag in INDEX.text.split("<script").skip(1) {
            assert!(
                tag.contains("src=\"/page/") && tag.split('>').nth(1).is_some_and(|text| text.starts_with("</script"))
            );
        }
        for word in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://"] {
            assert!(!INDEX.text.contains(word), "{word}");
        }
        for file in FILES {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "@import"]
            {
                assert!(!file.text.contains(word), "{}: {word}", file.path);
            }
            assert!(file.text.lines().count() < 400, "{}", file.path);
        }
    }
}
