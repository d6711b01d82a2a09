//! Replaces `machine.rs` in a build without the feature `constrain`: every constraint is refused with an error.

use serde_json::Value as Json;

use crate::engine::Error;
use crate::tokenizer::Tokenizer;

/// Not available in this build.
pub(super) enum Machine {}

/// Not available in this build.
#[derive(Clone)]
pub(super) enum Compiled {}

/// Not available in this build.
pub(super) enum State {}

impl Machine {
    pub(super) fn new(_: &Tokenizer) -> Result<Self, Error> {
        Err(Error::Constraint { message: "this program is built without constraints".to_owned() })
    }

    pub(super) fn token(&self, _: &str) -> Option<u32> {
        match *self {}
    }

    pub(super) fn lark(&self, _: &str) -> Result<Compiled, Error> {
        match *self {}
    }

    pub(super) fn regex(&self, _: &str) -> Result<Compiled, Error> {
        match *self {}
    }

    pub(super) fn json_schema(&self, _: &Json) -> Result<Compiled, Error> {
        match *self {}
    }
}

impl Compiled {
    pub(super) fn is_same(&self, _: &Self) -> bool {
        match *self {}
    }

    pub(super) fn fresh(&self) -> Self {
        match *self {}
    }

    pub(super) fn start(&self) -> State {
        match *self {}
    }
}

impl State {
    pub(super) fn mask(&mut self, _: &mut [f32], _: &[u32]) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn allows(&mut self, _: u32) -> Result<bool, Error> {
        match *self {}
    }

    pub(super) fn accept(&mut self, _: u32) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn accept_text(&mut self, _: &[u8]) -> Result<bool, Error> {
        match *self {}
    }

    pub(super) fn is_over(&self) -> bool {
        match *self {}
    }
}
