//! A family of models as data.

use super::settings::Setting;
use super::{Config, Error, Hparams, Keys, TensorRule, TokenKey, keys};
use crate::network::{AttentionMixer, Mixer, ModelSpec, Tensors};

/// How many layers of a checkpoint behind the model's own predict further tokens and go into the file.
type PredictingBlocks = fn(&Config, &dyn Fn(&str) -> bool) -> Result<usize, Error>;

/// A number of each layer, which is a key in files and a tensor of one element in checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct LayerNumber {
    /// The key, by its full name.
    pub key: &'static str,
    /// The tensor's name within the layer.
    pub tensor: &'static str,
    /// The tensor's shape: `[1]`, or none.
    pub shape: &'static [usize],
}

/// What a family says about itself: its name, and the functions of its folder. One static a family, a row in
/// [`super::FAMILIES`].
pub struct Family {
    pub(super) name: &'static str,
    pub(super) classes: &'static [&'static str],
    pub(super) when: fn(&Config) -> bool,
    pub(super) keys: fn(&Config, &mut Keys) -> Result<(), Error>,
    pub(super) settings: &'static [Setting],
    pub(super) mlx_adds_to_norms: bool,
    pub(super) layer_numbers: &'static [LayerNumber],
    pub(super) predicting_blocks: PredictingBlocks,
    pub(super) token_keys: fn(&Config) -> Vec<TokenKey>,
    pub(super) own_code: bool,
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
        Self {
            name,
            classes,
            when: |_| true,
            keys: |config, keys| keys.shared(config),
            settings: &[],
            mlx_adds_to_norms: false,
            layer_numbers: &[],
            predicting_blocks: |_, _| Ok(0),
            token_keys: |_| Vec::new(),
            own_code: false,
            tensors,
            spec,
        }
    }

    /// `general.architecture` of its files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Class names in a checkpoint's `config.json` (`architectures`) that this family converts.
    #[must_use]
    pub const fn classes(&self) -> &'static [&'static str] {
        self.classes
    }

    /// Whether it converts a checkpoint with these settings.
    #[must_use]
    pub fn converts(&self, config: &Config) -> bool {
        self.classes.contains(&config.class()) && (self.when)(config)
    }

    /// Adds the family's metadata keys for a checkpoint, in their order.
    ///
    /// # Errors
    /// When a setting is missing or of a wrong kind.
    pub fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        (self.keys)(config, keys)
    }

    /// Settings that the family computes with in one way: the values that say so, as a JSON list.
    #[must_use]
    pub const fn settings(&self) -> &'static [(&'static str, &'static str)] {
        self.settings
    }

    /// Whether MLX adds to the family's norms what rules add, before it saves them.
    #[must_use]
    pub const fn mlx_adds_to_norms(&self) -> bool {
        self.mlx_adds_to_norms
    }

    /// Keys that have a number for each layer, which a checkpoint has as a tensor of one element.
    #[must_use]
    pub const fn layer_numbers(&self) -> &'static [LayerNumber] {
        self.layer_numbers
    }

    /// How many layers of a checkpoint behind the model's own predict further tokens (MTP) and go into the file, where its
    /// tensors are those that `has` knows. The engine does not run them.
    ///
    /// # Errors
    /// When a setting is missing or of a wrong kind.
    pub fn predicting_blocks(&self, config: &Config, has: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
        (self.predicting_blocks)(config, has)
    }

    /// What is special about the tokens of the family's checkpoints.
    #[must_use]
    pub fn token_keys(&self, config: &Config) -> Vec<TokenKey> {
        (self.token_keys)(config)
    }

    /// Whether its checkpoints bring code of their own, which transformers does not have: what a `config.json` leaves out is not
    /// known, and no class is exported.
    #[must_use]
    pub const fn own_code(&self) -> bool {
        self.own_code
    }

    /// Every tensor that a model with these hyper-parameters has, or may have.
    ///
    /// # Errors
    /// When a hyper-parameter that shapes depend on is missing or impossible.
    pub fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        (self.tensors)(hparams)
    }

    /// How a model with these hyper-parameters and tensors is computed.
    ///
    /// # Errors
    /// When a hyper-parameter is missing or impossible.
    pub fn spec(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        let spec = (self.spec)(hparams, weights)?;
        spec.layers.iter().try_for_each(|layer| match &layer.mixer {
            Mixer::Attention(mixer) | Mixer::AttentionAndMamba2(mixer, _) => check_attention(hparams, mixer),
            _ => Ok(()),
        })?;
        Ok(spec)
    }
}

/// Checks the relations between numbers of attention that no tensor's shape shows: the rows of a fused projection are one sum.
fn check_attention(hparams: &Hparams, mixer: &AttentionMixer) -> Result<(), Error> {
    let positive = [
        (mixer.heads, keys::HEAD_COUNT),
        (mixer.kv_heads, keys::HEAD_COUNT_KV),
        (mixer.k_dim, keys::KEY_LENGTH),
        (mixer.v_dim, keys::VALUE_LENGTH),
    ];
    if let Some((_, key)) = positive.into_iter().find(|(number, _)| *number == 0) {
        return Err(hparams.bad_key(key, "more than 0 in layers with attention"));
    }
    if mixer.output_gate && mixer.k_dim != mixer.v_dim {
        return Err(
            hparams.bad_key(keys::VALUE_LENGTH, "the same as attention.key_length, for the gates of the output")
        );
    }
    Ok(())
}
