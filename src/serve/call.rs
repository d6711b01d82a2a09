//! A request on its way to the file of its dialect.

use std::sync::{Arc, LazyLock};

use hyper::body::Bytes;
use serde_json::{Map, Value as Json};

use super::failure::Failure;
use super::offers::Models;
use super::stored::Responses;

/// A request whose sender may ask, and whose body has come.
pub(super) struct Call {
    pub(super) models: Arc<Models>,
    /// The routes as an OpenAPI document.
    pub(super) document: &'static LazyLock<String>,
    /// Those that later requests go on from.
    pub(super) responses: Arc<Responses>,
    /// What follows the path of a route that ends with `/*`.
    pub(super) rest: String,
    pub(super) body: Bytes,
    /// Requests of another key share nothing with it.
    pub(super) salt: u64,
}

impl Call {
    pub(super) fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// The body: a JSON object, whatever its type is called.
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
