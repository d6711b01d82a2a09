//! Errors of requests, in the form of each dialect.

use serde_json::{Value as Json, json};

use crate::engine;

/// The dialect of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's, which llama-server uses as well.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

/// An error of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) message: String,
    /// OpenAI's `type`.
    kind: &'static str,
    code: Option<&'static str>,
    /// The field that is wrong.
    param: Option<Box<str>>,
    /// Seconds after which the client should retry.
    pub(super) retry_after: Option<u32>,
    /// The methods that the route has.
    pub(super) allow: Option<Box<str>>,
    /// Further fields of the error.
    more: Box<[(&'static str, Json)]>,
}

impl Failure {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let (code, param, retry_after, allow, more) = (None, None, None, None, Box::default());
        Self { status, message: message.into(), kind, code, param, retry_after, allow, more }
    }

    /// The request is not valid.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// A field has a wrong value.
    pub(super) fn field(name: &str, must: impl std::fmt::Display) -> Self {
        Self { param: Some(name.into()), ..Self::invalid(format!("{name} {must}")) }
    }

    /// A field requests something that this server does not support.
    pub(super) fn unsupported(name: &str, what: &str) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::field(name, format!("is not supported: {what}")) }
    }

    pub(super) fn model_not_found(name: &str) -> Self {
        let error = Self::new(404, "not_found_error", format!("model '{name}' not found"));
        Self { code: Some("model_not_found"), param: Some("model".into()), ..error }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "not_found_error", message)
    }

    pub(super) fn no_route(path: &str) -> Self {
        Self::new(404, "not_found_error", format!("no such route: {path}"))
    }

    /// The route has these methods alone.
    pub(super) fn method(allowed: String) -> Self {
        let error = Self::new(405, "invalid_request_error", "this route does not have this method");
        Self { allow: Some(allowed.into()), ..error }
    }

    pub(super) fn key() -> Self {
        let error = Self::new(401, "authentication_error", "Invalid API Key");
        Self { code: Some("invalid_api_key"), ..error }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "permission_error", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(413, "invalid_request_error", format!("the body is larger than {limit} bytes"))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(408, "invalid_request_error", "the body has not come in time")
    }

    /// The server does not support this.
    pub(super) fn not_done(message: impl Into<String>) -> Self {
        Self { code: Some("not_supported"), ..Self::new(501, "invalid_request_error", message) }
    }

    /// The request may succeed later.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(5), ..Self::new(503, "server_error", message) }
    }

    /// The disk has no room.
    pub(super) fn no_room() -> Self {
        Self::new(507, "server_error", "the disk has no room for the file")
    }

    /// An internal error of the server.
    pub(super) fn server(message: impl Into<String>) -> Self {
        Self::new(500, "server_error", message)
    }

    /// Anthropic's `type`.
    fn anthropic_kind(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The answer's body in a dialect.
    pub(super) fn body(&self, dialect: Dialect) -> Json {
        match dialect {
            Dialect::Ollama => return json!({ "error": self.message }),
            Dialect::Anthropic => {
                let error = json!({ "type": self.anthropic_kind(), "message": self.message });
                return json!({ "type": "error", "error": error });
            }
            Dialect::OpenAi => {}
        }
        let mut error = json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        });
        self.more.iter().for_each(|(name, value)| error[*name] = value.clone());
        json!({ "error": error })
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let message = error.to_string();
        match error {
            engine::Error::ContextFull { needed, context_length } => Self {
                kind: "exceed_context_size_error",
                code: Some("context_length_exceeded"),
                more: Box::new([("n_prompt_tokens", needed.into()), ("n_ctx", context_length.into())]),
                ..Self::invalid(format!(
                    "the request exceeds the available context size: the prompt has {needed} tokens, the context holds \
                     {context_length}"
                ))
            },
            engine::Error::QueueFull { .. } => Self::unavailable(format!("server busy: {message}")),
            engine::Error::Stopped | engine::Error::NotANumber => Self::server(message),
            _ => Self::invalid(message),
        }
    }
}
