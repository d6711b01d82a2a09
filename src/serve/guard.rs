//! Access control: no web pages of other sites, and no requests without a key if keys are set.
//!
//! A page of another site can reach a server on loopback in two ways: by a request from its own origin, which browsers send in
//! `Origin`, and by a host name that resolves to 127.0.0.1 (DNS rebinding), which is in `Host`. Both are refused.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName};

use super::failure::Failure;

/// Origins of desktop programs and extensions.
const PROGRAMS: &[&str] = &["app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"];

/// Access settings of a server.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// API keys, one of which requests must have; empty for no check.
    pub keys: Vec<String>,
    /// Host names of this machine besides `localhost`.
    pub hosts: Vec<String>,
    /// Origins (`https://chat.example.org`) whose pages have access; `localhost` for those of this machine, `*` for all.
    pub origins: Vec<String>,
}

impl Access {
    /// Checks the `Host` of a request to a listener at `address`.
    pub(super) fn check_host(&self, headers: &HeaderMap, address: SocketAddr) -> Result<(), Failure> {
        match text(headers, &header::HOST) {
            Some(host) if !self.knows_host(name_of(host), address.ip()) => {
                Err(Failure::forbidden("this Host is not served (--allow-host names further ones)"))
            }
            _ => Ok(()),
        }
    }

    /// Checks a request to a listener at `address`. Returns the number of its key, from 1, or 0 if none is needed.
    pub(super) fn check(&self, headers: &HeaderMap, address: SocketAddr, is_open: bool) -> Result<u64, Failure> {
        self.check_host(headers, address)?;
        let host = text(headers, &header::HOST);
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            if !self.knows_origin(origin, host) {
                return Err(Failure::forbidden("pages of this Origin may not ask (--allow-origin names further ones)"));
            }
        }
        if self.keys.is_empty() || is_open {
            return Ok(0);
        }
        let bearer = text(headers, &header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let given = bearer.or_else(|| text(headers, &HeaderName::from_static("x-api-key"))).unwrap_or_default();
        // All keys are compared, in constant time.
        let found =
            (1..).zip(&self.keys).filter(|(_, key)| same(key.as_bytes(), given.as_bytes())).map(|(n, _)| n).last();
        found.ok_or_else(Failure::key)
    }

    /// Whether a page of `origin` may read the answers (CORS): only configured origins.
    pub(super) fn may_read(&self, origin: &str) -> bool {
        let place = || origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_here = || place().is_some_and(|place| is_local(&name_of(place).to_ascii_lowercase()));
        let is_known = |known: &String| match known.as_str() {
            "*" => true,
            "localhost" => is_here(),
            _ => known.eq_ignore_ascii_case(origin),
        };
        self.origins.iter().any(is_known)
    }

    /// Whether pages of all origins have access.
    pub(super) fn all_may_read(&self) -> bool {
        self.origins.iter().any(|known| known == "*")
    }

    fn knows_host(&self, name: &str, listener: IpAddr) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if self.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name)) || is_local(&name) {
            return true;
        }
        // Beyond loopback, the key protects the server; without one, at least foreign host names are refused.
        !listener.is_loopback() && (!self.keys.is_empty() || name.parse::<IpAddr>().is_ok())
    }

    fn knows_origin(&self, origin: &str, host: Option<&str>) -> bool {
        if self.may_read(origin) || PROGRAMS.iter().any(|scheme| origin.starts_with(scheme)) {
            return true;
        }
        let Some(place) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
            return false;
        };
        // The server's own page, or a page of this machine.
        host.is_some_and(|host| host.eq_ignore_ascii_case(place)) || is_local(&name_of(place).to_ascii_lowercase())
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// A host without its port, an IPv6 address without brackets.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, address: &str, headers: &[(&'static str, &str)]) -> Result<u64, u16> {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().expect("a value"));
        let headers: HeaderMap = headers.iter().map(pair).collect();
        access.check(&headers, address.parse().expect("an address"), false).map_err(|failure| failure.status)
    }

    #[test]
    fn strangers_names_and_origins_are_refused() {
        let access = Access::default();
        let (local, any) = ("127.0.0.1:8080", "0.0.0.0:8080");
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "a.localhost", "LOCALHOST."] {
            assert_eq!(check(&access, local, &[("host", host)]), Ok(0), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8080", "192.168.1.7", "localhost.evil.example", ""] {
            assert_eq!(check(&access, local, &[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(check(&access, any, &[("host", "192.168.1.7:8080")]), Ok(0));
        assert_eq!(check(&access, any, &[("host", "evil.example")]), Err(403));
        for origin in ["http://localhost:3000", "https://127.0.0.1", "app://obsidian.md", "http://[::1]:5173"] {
            assert_eq!(check(&access, local, &[("host", "localhost"), ("origin", origin)]), Ok(0), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "ftp://localhost", "\u{e9}"] {
            assert_eq!(check(&access, local, &[("host", "localhost"), ("origin", origin)]), Err(403), "{origin}");
        }
        let named = Access { hosts: vec!["box".into()], origins: vec!["https://chat.example".into()], ..access };
        assert_eq!(check(&named, local, &[("host", "box:8080"), ("origin", "https://chat.example")]), Ok(0));
    }

    #[test]
    fn pages_of_named_origins_may_read() {
        let named = |origin: &str| Access { origins: vec![origin.to_owned()], ..Access::default() };
        let (here, all) = (named("localhost"), named("*"));
        for origin in ["http://localhost", "https://localhost:8080", "http://127.0.0.1:3000", "http://[::1]:3000"] {
            assert!(here.may_read(origin) && all.may_read(origin), "{origin}");
        }
        for origin in ["http://evil.com", "http://notlocalhost", "http://localhost.evil.com", "localhost", "null"] {
            assert!(!here.may_read(origin) && all.may_read(origin) && !Access::default().may_read(origin), "{origin}");
        }
        assert!(all.all_may_read() && !here.all_may_read());
    }

    #[test]
    fn keys_are_asked_for() {
        let access = Access { keys: vec!["first".into(), "second".into()], ..Access::default() };
        let check = |headers: &[(&'static str, &str)]| check(&access, "0.0.0.0:80", headers);
        assert_eq!(check(&[("authorization", "Bearer first")]), Ok(1));
        assert_eq!(check(&[("authorization", "bearer second"), ("host", "box.example")]), Ok(2));
        assert_eq!(check(&[("x-api-key", "second")]), Ok(2));
        for wrong in ["Bearer third", "Bearer", "first", "Bearer firs", "Basic first"] {
            assert_eq!(check(&[("authorization", wrong)]), Err(401), "{wrong}");
        }
        assert_eq!(check(&[]), Err(401));
    }
}
