//! URLs: the server of a URL, and targets of redirections.

use ureq::http::Uri;

use super::error::Error;

/// A server, to which a token is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The server of a URL.
    pub(super) fn of(url: &str) -> Result<Self, Error> {
        let failed = |problem| Error::Url { url: without_query(url).to_owned(), problem };
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(failed("an address begins with https:// or http://")),
        };
        let uri: Uri = url.parse().map_err(|_| failed("no address of a server"))?;
        let authority = uri.authority().ok_or_else(|| failed("no address of a server"))?;
        if authority.as_str().contains('@') {
            return Err(failed("names and passwords in addresses are not taken"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(failed("no address of a server"));
        }
        Ok(Self { scheme, host, port: authority.port_u16().unwrap_or(default) })
    }

    /// Whether connections to it are private (HTTPS, or this machine).
    pub(super) fn is_private(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.scheme == "https" || is_loopback
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// The host, with its port unless that is the default.
    pub(super) fn host(&self) -> String {
        let usual = if self.scheme == "https" { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// The host of a URL, for messages.
pub(super) fn host(url: &str) -> String {
    Origin::of(url).map_or_else(|_| without_query(url).to_owned(), |origin| origin.host())
}

/// A URL without its query, which may contain a signature.
pub(super) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// The target of `Location: location` in an answer of `base`.
pub(super) fn joined(base: &str, location: &str) -> Result<String, Error> {
    let location = location.split('#').next().unwrap_or_default();
    let failed = || Error::Url { url: without_query(location).to_owned(), problem: "a redirection that leads nowhere" };
    let (scheme, rest) = base.split_once("://").ok_or_else(failed)?;
    let path = without_query(rest);
    let authority = path.split('/').next().unwrap_or_default();
    let next = if location.contains("://") {
        location.to_owned()
    } else if let Some(other) = location.strip_prefix("//") {
        format!("{scheme}://{other}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() {
        return Err(failed());
    } else {
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        format!("{scheme}://{folder}/{location}")
    };
    let from = Origin::of(base)?;
    if from.is_encrypted() && !Origin::of(&next)?.is_encrypted() {
        let problem = "a redirection from an encrypted connection to one that is not";
        return Err(Error::Url { url: without_query(&next).to_owned(), problem });
    }
    Ok(next)
}

/// A path with all special characters of URLs escaped.
pub(super) fn escaped_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// An escaped value of a query.
pub(super) fn escaped_value(value: &str) -> String {
    escaped_path(value).replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::{Origin, escaped_path, host, joined};

    #[test]
    fn servers_are_told_apart() {
        let of = |url| Origin::of(url).expect("an address");
        assert_eq!(of("https://Host/a?b"), of("https://host:443/c"));
        for other in ["http://host/", "https://host:8443/", "https://host.evil/", "https://xhost/"] {
            assert_ne!(of("https://host/"), of(other), "{other}");
        }
        assert!(of("https://a/").is_private() && of("http://127.0.0.1:5/").is_private());
        assert!(of("http://[::1]:5/").is_private() && of("http://localhost/").is_private());
        assert!(!of("http://127.0.0.1.evil/").is_private() && !of("http://10.0.0.1/").is_private());
        for bad in
            ["", "host", "ftp://host/", "https://", "https://user:secret@host/", "https://host@evil/", "file:///a"]
        {
            assert!(Origin::of(bad).is_err(), "{bad}");
        }
        assert_eq!(host("http://h:81/a?signature"), "h:81");
    }

    #[test]
    fn redirections_lead_where_they_say() {
        let to = |location| joined("https://a:1/b/c?d=/e", location).expect("leads somewhere");
        assert_eq!(to("https://x/y?z"), "https://x/y?z");
        assert_eq!(to("//x/y"), "https://x/y");
        assert_eq!(to("/y"), "https://a:1/y");
        assert_eq!(to("y#f"), "https://a:1/b/y");
        assert!(joined("https://a/b", "http://a/b").is_err(), "less than it was");
        assert_eq!(joined("http://a/b", "https://a/b").expect("more"), "https://a/b");
        assert!(joined("https://a/b", "ftp://a/b").is_err() && joined("https://a/b", "").is_err());
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped_path("a b/c?d#e%.gguf"), "a%20b/c%3Fd%23e%25.gguf");
    }
}
