//! A model's hyper-parameters, read from GGUF metadata and checked before anything is allocated.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, keys};
use crate::gguf::{self, Array, Metadata, Value};

/// Upper bound of any single dimension or count: far above every model, far below any overflow.
const MAX_DIMENSION: u64 = 1 << 27;
/// Upper bound of the number of blocks.
const MAX_BLOCKS: u64 = 4096;

/// Hyper-parameters that most families share, and access to all others.
#[derive(Clone, Debug)]
pub struct Hparams {
    /// `general.architecture`.
    pub architecture: String,
    /// Number of blocks (layers) of the model itself: NextN prediction layers are not counted.
    pub block_count: usize,
    /// Number of blocks behind these that predict further tokens.
    pub next_n: usize,
    /// Length of the residual stream.
    pub embedding_length: usize,
    /// Number of tokens of the vocabulary.
    pub vocab_size: usize,
    /// Positions the model was trained on.
    pub context_length: usize,
    /// Hidden length of each block's dense feed-forward part.
    pub feed_forward_length: Vec<usize>,
    /// Query heads of each block.
    pub head_count: Vec<usize>,
    /// Key-value heads of each block (0: no attention there).
    pub head_count_kv: Vec<usize>,
    /// Length of a key (and query) head.
    pub key_length: usize,
    /// Length of a value head.
    pub value_length: usize,
    metadata: Metadata,
    /// The architecture's keys that were asked for.
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl Hparams {
    /// Reads the shared keys of `metadata`.
    ///
    /// # Errors
    /// When a needed key is missing, or one has a wrong type or an impossible value.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let architecture = match metadata.get("general.architecture") {
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(bad("general.architecture".into(), other, "a string")),
            None => return Err(Error::NoArchitecture),
        };
        if metadata.get(gguf::keys::GENERAL_TYPE).and_then(Value::as_str) == Some(gguf::keys::ADAPTER) {
            return Err(Error::Adapter { architecture });
        }
        // Else an unknown one would be said to lack keys that it may never have.
        super::by_name(&architecture)?;
        let mut hparams = Self {
            architecture,
            block_count: 0,
            next_n: 0,
            embedding_length: 0,
            vocab_size: 0,
            context_length: 0,
            feed_forward_length: Vec::new(),
            head_count: Vec::new(),
            head_count_kv: Vec::new(),
            key_length: 0,
            value_length: 0,
            metadata: metadata.clone(),
            read: Arc::default(),
        };
        hparams.read_shared()?;
        Ok(hparams)
    }

    fn read_shared(&mut self) -> Result<(), Error> {
        let blocks = self.positive(keys::BLOCK_COUNT)?;
        let next_n = self.count_or(keys::NEXTN_PREDICT_LAYERS, 0)?;
        if blocks as u64 > MAX_BLOCKS || next_n >= blocks {
            return Err(self.bad_key(keys::BLOCK_COUNT, "1 to 4096, more than nextn_predict_layers"));
        }
        (self.block_count, self.next_n) = (blocks - next_n, next_n);
        self.embedding_length = self.positive(keys::EMBEDDING_LENGTH)?;
        self.context_length = self.positive(keys::CONTEXT_LENGTH)?;
        // Where there are tokens, they count; but what stands there is no number, or none.
        self.count_or(keys::VOCAB_SIZE, 0)?;
        self.vocab_size = match self.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) if !tokens.is_empty() && tokens.len() as u64 <= MAX_DIMENSION => tokens.len(),
            Some(other) => return Err(bad("tokenizer.ggml.tokens".into(), other, "an array of tokens")),
            None => self.positive(keys::VOCAB_SIZE)?,
        };
        self.feed_forward_length = self.per_block_or(keys::FEED_FORWARD_LENGTH, Some(0))?;
        // Files of models that are all recurrence may leave it out.
        let no_heads = self.has(keys::SSM_INNER_SIZE).then_some(0);
        self.head_count = self.per_block_or(keys::HEAD_COUNT, no_heads)?;
        self.head_count_kv = if self.has(keys::HEAD_COUNT_KV) {
            self.per_block_or(keys::HEAD_COUNT_KV, None)?
        } else {
            self.head_count.clone()
        };
        for (&heads, &kv) in self.head_count.iter().zip(&self.head_count_kv) {
            if kv > 0 && (heads == 0 || !heads.is_multiple_of(kv)) {
                return Err(self.bad_key(keys::HEAD_COUNT_KV, "a divisor of attention.head_count"));
            }
        }
        // Of the first layer that has heads: there may be more of them in others, of the same length.
        let heads = self.head_count.iter().copied().find(|&heads| heads > 0).unwrap_or(0);
        let head_length = self.embedding_length.checked_div(heads).unwrap_or(0);
        self.key_length = self.count_or(keys::KEY_LENGTH, head_length)?;
        self.value_length = self.count_or(keys::VALUE_LENGTH, head_length)?;
        // Looked at here, not where experts are put together, so that conversion looks at it too.
        let experts = self.count_or(keys::EXPERT_COUNT, 0)?;
        if experts > 0 && self.count_or(keys::EXPERT_USED_COUNT, 1)? > experts {
            return Err(self.bad_key(keys::EXPERT_USED_COUNT, "at most expert_count"));
        }
        for key in [keys::LAYER_NORM_RMS_EPSILON, keys::LAYER_NORM_EPSILON] {
            if !(0.0..1.0).contains(&self.f32_or(key, 0.0)?) {
                return Err(self.bad_key(key, "at least 0 and less than 1"));
            }
        }
        Ok(())
    }

    /// The metadata that these were read from.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether the architecture's `key` is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of the architecture's `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        self.metadata.get(&self.full(key))
    }

    /// The architecture's keys that nothing has asked for yet, by their full names; once a model is put together, those
    /// that it does not depend on.
    ///
    /// # Errors
    /// When one of them changes what other families compute: this one would pass over it.
    pub fn unread(&self) -> Result<Vec<String>, Error> {
        let prefix = format!("{}.", self.architecture);
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.metadata.iter().filter_map(|(name, value)| Some((name, name.strip_prefix(&prefix)?, value)));
        let unread: Vec<_> = own.filter(|(_, key, _)| !read.contains(*key)).collect();
        for (name, key, value) in &unread {
            if let Some((_, neutral)) = keys::COMPUTED.iter().find(|(computed, _)| computed == key)
                && !neutral.holds(value)
            {
                let architecture = self.architecture.clone();
                return Err(Error::UnreadKey { key: (*name).to_owned(), found: describe(value), architecture });
            }
        }
        Ok(unread.into_iter().map(|(name, ..)| name.to_owned()).collect())
    }

    /// A count or length from 0 to 2^27.
    ///
    /// # Errors
    /// When the key is missing or no such number.
    pub fn count(&self, key: &str) -> Result<usize, Error> {
        let value = self.get(key).ok_or_else(|| Error::MissingKey { key: self.full(key) })?;
        self.checked_count(key, value)
    }

    /// As [`Self::count`], or `default` when the key is missing.
    ///
    /// # Errors
    /// When the key is there and no such number.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        if self.has(key) { self.count(key) } else { Ok(default) }
    }

    /// As [`Self::count`], and not zero.
    ///
    /// # Errors
    /// When the key is missing, or no such number.
    pub fn positive(&self, key: &str) -> Result<usize, Error> {
        match self.count(key)? {
            0 => Err(self.bad_key(key, "more than 0")),
            n => Ok(n),
        }
    }

    /// A finite float.
    ///
    /// # Errors
    /// When the key is missing or no such number.
    pub fn f32(&self, key: &str) -> Result<f32, Error> {
        let value = self.get(key).ok_or_else(|| Error::MissingKey { key: self.full(key) })?;
        #[allow(clippy::cast_possible_truncation, reason = "rounded to the precision of the engine")]
        let number = value.as_f64().map(|v| v as f32).filter(|v| v.is_finite());
        number.ok_or_else(|| bad(self.full(key), value, "a finite float"))
    }

    /// As [`Self::f32`], or `default` when the key is missing.
    ///
    /// # Errors
    /// When the key is there and no such number.
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32, Error> {
        if self.has(key) { self.f32(key) } else { Ok(default) }
    }

    /// As [`Self::f32_or`], and more than zero.
    ///
    /// # Errors
    /// When the key is there and no such number.
    pub fn positive_f32_or(&self, key: &str, default: f32) -> Result<f32, Error> {
        match self.f32_or(key, default)? {
            number if number > 0.0 => Ok(number),
            _ => Err(self.bad_key(key, "more than 0")),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// When the key is missing or no boolean.
    pub fn bool(&self, key: &str) -> Result<bool, Error> {
        if self.has(key) { self.bool_or(key, false) } else { Err(Error::MissingKey { key: self.full(key) }) }
    }

    /// A boolean, or `default` when the key is missing.
    ///
    /// # Errors
    /// When the key is there and no boolean.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| bad(self.full(key), value, "a boolean")),
        }
    }

    /// A string, when the key is there.
    ///
    /// # Errors
    /// When the key is there and no string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| bad(self.full(key), value, "a string")),
        }
    }

    /// A count for each block, from one number or an array of one each; `default` when the key is missing.
    ///
    /// # Errors
    /// When the key is missing without default, or its numbers or their count are wrong.
    pub fn per_block_or(&self, key: &str, default: Option<usize>) -> Result<Vec<usize>, Error> {
        match (self.get(key), default) {
            (Some(Value::Array(array)), _) => self
                .block_array(key, array)?
                .take(self.block_count)
                .map(|value| self.checked_count(key, &value))
                .collect(),
            (None, Some(default)) => Ok(vec![default; self.block_count]),
            _ => Ok(vec![self.count(key)?; self.block_count]),
        }
    }

    /// Hidden length of an expert: where the file does not say it, the experts of a token share the length of the dense
    /// part, as in files of early 2024.
    ///
    /// # Errors
    /// When a key is missing, or no such number.
    pub fn expert_length(&self) -> Result<usize, Error> {
        match self.count_or(keys::EXPERT_FEED_FORWARD_LENGTH, 0)? {
            0 => match self.feed_forward_length[0] / self.positive(keys::EXPERT_USED_COUNT)? {
                0 => Err(Error::MissingKey { key: self.full(keys::EXPERT_FEED_FORWARD_LENGTH) }),
                length => Ok(length),
            },
            length => Ok(length),
        }
    }

    /// Hidden length of the experts that all tokens share: that of a dense part where the file does not say it.
    ///
    /// # Errors
    /// When the key is there and no such number.
    pub fn shared_expert_length(&self) -> Result<usize, Error> {
        match self.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)? {
            0 if self.feed_forward_length[0] == 0 => {
                Err(Error::MissingKey { key: self.full(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH) })
            }
            0 => Ok(self.feed_forward_length[0]),
            length => Ok(length),
        }
    }

    /// A number for each block, at a key without the architecture's prefix: one for all, or an array of one each.
    ///
    /// # Errors
    /// When the key is missing, or holds no finite numbers or too few.
    pub fn layer_numbers(&self, name: &str) -> Result<Vec<f32>, Error> {
        let value = self.metadata.get(name).ok_or_else(|| Error::MissingKey { key: name.to_owned() })?;
        #[allow(clippy::cast_possible_truncation, reason = "rounded to the precision of the engine")]
        let number = |value: &Value| value.as_f64().map(|v| v as f32).filter(|v| v.is_finite());
        let numbers: Option<Vec<f32>> = match value {
            Value::Array(array) => array.iter().take(self.block_count).map(|value| number(&value)).collect(),
            value => number(value).map(|number| vec![number; self.block_count]),
        };
        let numbers = numbers.filter(|numbers| numbers.len() == self.block_count);
        numbers.ok_or_else(|| bad(name.to_owned(), value, "a finite float for each layer"))
    }

    /// A boolean for each block, when the key is there.
    ///
    /// # Errors
    /// When the key is there and no array of a boolean a block.
    pub fn bools_per_block(&self, key: &str) -> Result<Option<Vec<bool>>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Value::Array(array) = value else { return Err(bad(self.full(key), value, "an array")) };
        self.block_array(key, array)?
            .take(self.block_count)
            // Some files have numbers for booleans.
            .map(|item| item.as_bool().or_else(|| item.as_u64().map(|n| n != 0)))
            .map(|item| item.ok_or_else(|| self.bad_key(key, "booleans")))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// All blocks of a file, those that predict further tokens included; each with the number of the block whose lengths
    /// it has.
    pub fn all_blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let last = self.block_count - 1;
        (0..self.block_count + self.next_n).map(move |block| (block, block.min(last)))
    }

    /// An error that says what stands at the architecture's `key` and what may stand there.
    #[must_use]
    pub fn bad_key(&self, key: &str, expected: &'static str) -> Error {
        let found = self.get(key).map_or_else(|| "missing".into(), describe);
        Error::BadKey { key: self.full(key), found, expected }
    }

    fn block_array<'a>(&self, key: &str, array: &'a Array) -> Result<impl Iterator<Item = Value> + 'a, Error> {
        if array.len() < self.block_count {
            return Err(self.bad_key(key, "an element for each block"));
        }
        Ok(array.iter())
    }

    fn checked_count(&self, key: &str, value: &Value) -> Result<usize, Error> {
        value
            .as_u64()
            .filter(|&n| n <= MAX_DIMENSION)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| bad(self.full(key), value, "an integer from 0 to 134217728"))
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }
}

fn bad(key: String, found: &Value, expected: &'static str) -> Error {
    Error::BadKey { key, found: describe(found), expected }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("an array of {} {}", array.len(), array.element_type().name()),
        Value::String(_) => "a string".into(),
        Value::Bool(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        integer => integer.as_i64().map_or_else(|| "an integer out of range".into(), |v| v.to_string()),
    }
}
