//! A request for the handler of its route.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use serde_json::{Map, Value as Json};

use super::failure::Failure;
use super::manager::Manager;
use super::offers::Models;
use super::stored::Responses;

/// An authorized request with its complete body.
pub(super) struct Call {
    pub(super) models: Arc<Models>,
    /// The routes as an OpenAPI document.
    pub(super) document: &'static str,
    /// Those that later requests go on from.
    pub(super) responses: Arc<Responses>,
    /// The rest of the path, for routes that end with `/*`.
    pub(super) rest: String,
    /// The part of the address behind the `?`.
    pub(super) query: String,
    pub(super) body: Bytes,
    /// The body of a route that reads it piece by piece.
    pub(super) upload: Option<Incoming>,
    /// What changes models; `None` where clients may not.
    pub(super) manager: Option<Arc<Manager>>,
    /// A report of a comparison, for browsers.
    pub(super) report: Option<Bytes>,
    /// A salt from the API key: requests with other keys share no cache with it.
    pub(super) salt: u64,
    /// Whether answers to chats have their prompt.
    pub(super) verbose: bool,
    /// The folder for files of slots.
    pub(super) slot_files: Option<Arc<PathBuf>>,
}

impl Call {
    pub(super) fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// The body as a JSON object, whatever its content type.
    pub(super) fn object(&self) -> Result<Map<String, Json>, Failure> {
        match serde_json::from_slice(&self.body) {
            Ok(Json::Object(map)) => Ok(map),
            Ok(_) => Err(Failure::invalid("the body must be a JSON object")),
            Err(_) if self.body.is_empty() => Err(Failure::invalid("missing request body")),
            Err(error) => Err(Failure::invalid(format!(
                "the body is not valid JSON: line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }
}
