//! A family as data: for those that need no state of their own.

use super::settings::Setting;
use super::{Architecture, Config, Error, Hparams, Keys, TensorRule, TokenKey};
use crate::network::{ModelSpec, Tensors};

/// Name, classes, and the functions of a family's folder.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) classes: &'static [&'static str],
    pub(super) keys: fn(&Config, &mut Keys) -> Result<(), Error>,
    pub(super) settings: &'static [Setting],
    pub(super) token_keys: fn(&Config) -> Vec<TokenKey>,
    pub(super) tensors: fn(&Hparams) -> Result<Vec<TensorRule>, Error>,
    pub(super) spec: fn(&Hparams, &dyn Tensors) -> Result<ModelSpec, Error>,
}

impl Family {
    /// A family with the keys that all share, and nothing special about its tokens.
    pub(super) const fn new(
        name: &'static str,
        classes: &'static [&'static str],
        tensors: fn(&Hparams) -> Result<Vec<TensorRule>, Error>,
        spec: fn(&Hparams, &dyn Tensors) -> Result<ModelSpec, Error>,
    ) -> Self {
        Self { name, classes, keys: shared, settings: &[], token_keys: |_| Vec::new(), tensors, spec }
    }
}

fn shared(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)
}

impl Architecture for Family {
    fn name(&self) -> &'static str {
        self.name
    }

    fn classes(&self) -> &'static [&'static str] {
        self.classes
    }

    fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        (self.keys)(config, keys)
    }

    fn settings(&self) -> &'static [Setting] {
        self.settings
    }

    fn token_keys(&self, config: &Config) -> Vec<TokenKey> {
        (self.token_keys)(config)
    }

    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        (self.tensors)(hparams)
    }

    fn decoder(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        (self.spec)(hparams, weights)
    }
}
