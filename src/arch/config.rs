//! A checkpoint's `config.json`, as transformers 4 and 5 write it, and the metadata keys that it becomes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::class_defaults::ClassDefaults;
use super::{Error, keys};
use crate::gguf::{Array, Metadata, Value, keys as gguf_keys};
use crate::network::{Activation, Pooling};

/// Names that frameworks have for one setting are tried in turn.
type Names<'a> = &'a [&'a str];

const LAYER_TYPES: &str = "layer_types";
const SLIDING: &str = "sliding_attention";
/// The share of a head that is rotated.
const SHARE: &str = "partial_rotary_factor";
const TIED: &str = "tie_word_embeddings";

/// GELU with the error function, as [`keys::HIDDEN_ACTIVATION`] calls it.
pub(super) const GELU: &str = "gelu";
/// GELU with the hyperbolic tangent.
pub(super) const GELU_TANH: &str = "gelu_pytorch_tanh";

const HEAD_NAMES: Names<'static> = &["num_attention_heads", "n_head", "n_heads"];

/// Counts and the names of the settings that they come from.
static COUNTS: [(&str, Names<'static>); 5] = [
    (keys::CONTEXT_LENGTH, &["max_position_embeddings", "n_ctx", "n_positions", "max_length", "model_max_length"]),
    (keys::EMBEDDING_LENGTH, &["hidden_size", "n_embd", "dim"]),
    (keys::FEED_FORWARD_LENGTH, &["dense_intermediate_size", "intermediate_size", "n_inner", "hidden_dim"]),
    (keys::HEAD_COUNT, HEAD_NAMES),
    (keys::HEAD_COUNT_KV, &["num_key_value_heads", "n_kv_heads"]),
];

/// Floats and the names of the settings that they come from.
static FLOATS: [(&str, Names<'static>); 2] = [
    (keys::LAYER_NORM_RMS_EPSILON, &["rms_norm_eps", "norm_eps"]),
    (keys::LAYER_NORM_EPSILON, &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"]),
];

/// Counts of experts and the names of the settings that they come from.
static EXPERTS: [(&str, Names<'static>); 4] = [
    (keys::EXPERT_COUNT, &["num_local_experts", "num_experts", "n_routed_experts"]),
    (keys::EXPERT_USED_COUNT, &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"]),
    (keys::EXPERT_GROUP_COUNT, &["n_group"]),
    (keys::EXPERT_GROUP_USED_COUNT, &["topk_group"]),
];

/// The hidden length of an expert and the names of the settings that it comes from.
static EXPERT_LENGTH: (&str, Names<'static>) =
    (keys::EXPERT_FEED_FORWARD_LENGTH, &["moe_intermediate_size", "expert_intermediate_size"]);

/// Names of the setting that counts the blocks.
pub(crate) const BLOCK_NAMES: Names<'static> = &["num_hidden_layers", "n_layers", "n_layer", "num_layers"];

/// The keys that one setting each becomes in every family, with the names that frameworks have for it.
pub(crate) fn settings_of_keys() -> impl Iterator<Item = &'static (&'static str, Names<'static>)> {
    COUNTS.iter().chain(&FLOATS).chain(&EXPERTS).chain([&EXPERT_LENGTH])
}

/// Where a model of several parts has the settings of its text part.
const TEXT_PARTS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// A linear map behind the pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseModule {
    /// Features that it takes.
    pub input: usize,
    /// Features that it gives.
    pub output: usize,
}
/// Objects within the settings, whose own are settings by the name of both: `attn_config.clip_qkv`.
const OBJECTS: [&str; 2] = ["attn_config", "ffn_config"];

/// The settings of a model: `text_config` laid over the root, and what its class gives for all that neither says.
/// Which of them have been read is kept account of.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Map<String, Json>,
    /// Names of the settings that `config.json` leaves out, and that are what the class gives.
    assumed: BTreeSet<String>,
    rope: Map<String, Json>,
    assumed_rotary: BTreeSet<String>,
    class: String,
    /// Blocks behind these that predict further tokens and go into the file; none where they are left out by wish.
    predicting: Option<usize>,
    pooling: Option<Pooling>,
    dense: Vec<DenseModule>,
    read_dense: Cell<bool>,
    read: RefCell<BTreeSet<String>>,
    read_rotary: RefCell<BTreeSet<String>>,
    /// The first setting that was of another kind than it was read as, and that kind.
    misread: RefCell<Option<(String, &'static str)>>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When it is no object or names no class.
    pub fn new(json: Json) -> Result<Self, Error> {
        let Json::Object(mut settings) = json else { return Err(Error::NoClass) };
        let class = settings.get("architectures").and_then(|classes| classes.get(0)).and_then(Json::as_str);
        let class = class.ok_or(Error::NoClass)?.to_owned();
        let bidirectional = settings.get("use_bidirectional_attention") == Some(&Json::Bool(true));
        let class = super::with_output(&class, bidirectional).unwrap_or(class);
        for nested in TEXT_PARTS {
            if let Some(Json::Object(mut text)) = settings.get(nested).cloned() {
                // Where both say it, and differ, the tensors decide.
                if settings.get(TIED).is_some_and(|tied| text.get(TIED).is_some_and(|own| own != tied)) {
                    text.insert(TIED.into(), Json::Null);
                }
                settings.extend(text);
            }
        }
        for object in OBJECTS {
            if let Some(Json::Object(inner)) = settings.get(object).cloned() {
                settings.remove(object);
                settings.extend(inner.into_iter().map(|(name, value)| (format!("{object}.{name}"), value)));
            }
        }
        let text = settings.get("model_type").and_then(Json::as_str);
        let class = text.and_then(|text| super::of_model_type(&class, text)).map_or(class.clone(), str::to_owned);
        let given = settings.clone();
        let defaults = ClassDefaults::of(settings.get("model_type").and_then(Json::as_str), &class);
        if let Some(defaults) = defaults {
            defaults.complete(&mut settings);
        }
        let assumed = settings.keys().filter(|name| !given.contains_key(*name)).cloned().collect();
        let mut config = Self {
            settings,
            assumed,
            rope: Map::new(),
            assumed_rotary: BTreeSet::new(),
            class,
            predicting: Some(0),
            pooling: None,
            dense: Vec::new(),
            read_dense: Cell::new(false),
            read: RefCell::default(),
            read_rotary: RefCell::default(),
            misread: RefCell::default(),
        };
        (config.rope, config.assumed_rotary) = config.rope_settings(defaults);
        Ok(config)
    }

    /// The rotary embedding's settings, with what the class gives; the names of those that it adds to what is given.
    fn rope_settings(&self, defaults: Option<ClassDefaults>) -> (Map<String, Json>, BTreeSet<String>) {
        let first = |names: Names<'_>| names.iter().find_map(|name| self.peek(name));
        let found = first(&["rope_parameters", "rope_scaling"]).and_then(Json::as_object);
        let mut rope = found.cloned().unwrap_or_default();
        if !rope.contains_key("full_attention") && !rope.contains_key("sliding_attention") {
            self.mirror_rope(&mut rope);
        }
        let given = full_attention(&rope).clone();
        if let Some(defaults) = defaults {
            defaults.complete_rope(found.is_some(), &mut rope, &self.settings);
        }
        let names = full_attention(&rope).keys();
        let assumed = names.filter(|name| found.is_some() && !given.contains_key(*name)).cloned().collect();
        (rope, assumed)
    }

    /// Brings the rotary settings of transformers 4 to the place where 5 has them.
    fn mirror_rope(&self, rope: &mut Map<String, Json>) {
        let first = |names: Names<'_>| names.iter().find_map(|name| self.peek(name));
        let mut mirror = |name: &str, value: Option<Json>| {
            if let (false, Some(value)) = (rope.contains_key(name), value) {
                rope.insert(name.to_owned(), value);
            }
        };
        let local = first(&["local_rope_theta", "swa_rope_theta", "rope_local_base_freq"]);
        mirror("sliding_attention", local.map(|theta| serde_json::json!({ "rope_theta": theta })));
        mirror(
            "rope_theta",
            first(&["global_rope_theta", "rope_theta", "rotary_emb_base", "attn_config.rope_theta"]).cloned(),
        );
        mirror("partial_rotary_factor", first(&["partial_rotary_factor", "rotary_pct", "rope_pct"]).cloned());
        mirror("original_max_position_embeddings", self.peek("original_max_position_embeddings").cloned());
        let ty = rope.get("type").cloned();
        if let (false, Some(ty)) = (rope.contains_key("rope_type"), ty) {
            rope.insert("rope_type".into(), ty);
        }
    }

    /// Name of the class: the first of `architectures`; of a bare model the one with an output matrix.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Whether they are of a model of images or sound besides text: by its class, or by settings of several parts.
    #[must_use]
    pub fn has_other_parts(&self) -> bool {
        let parts = TEXT_PARTS.into_iter().chain(["vision_config", "audio_config"]);
        self.class.ends_with("ForConditionalGeneration") || parts.into_iter().any(|part| self.peek(part).is_some())
    }

    /// The setting `name`, unless it is missing or null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.read.borrow_mut().insert(name.to_owned());
        self.peek(name)
    }

    /// As [`Self::get`], of no account.
    pub(super) fn peek(&self, name: &str) -> Option<&Json> {
        self.settings.get(name).filter(|value| !value.is_null())
    }

    /// Whether `config.json` has the setting `name` itself.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.peek(name).is_some() && !self.assumed.contains(name)
    }

    /// Whether the setting `name` has been read.
    pub(super) fn has_read(&self, name: &str) -> bool {
        self.read.borrow().contains(name)
    }

    /// The settings that are there and have been read, those of the rotary embedding as `rope_parameters.NAME`.
    #[must_use]
    pub fn names_read(&self) -> Vec<String> {
        let names = self.names().filter(|name| self.has_read(name)).map(str::to_owned);
        let rotary = self.rope().keys().filter(|name| self.has_read_rotary(name));
        names.chain(rotary.map(|name| format!("rope_parameters.{name}"))).collect()
    }

    /// Whether the rotary setting `name` has been read.
    pub(super) fn has_read_rotary(&self, name: &str) -> bool {
        self.read_rotary.borrow().contains(name)
    }

    /// Names of all settings of `config.json` that are not null.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let given = self.settings.iter().filter(|(name, value)| !value.is_null() && !self.assumed.contains(*name));
        given.map(|(name, _)| name.as_str())
    }

    /// Settings that `config.json` leaves out and that have been read, with what the class gives for them.
    #[must_use]
    pub fn assumed_and_read(&self) -> Vec<(&str, &Json)> {
        let read = self.assumed.iter().filter(|name| self.has_read(name));
        let read = read.filter_map(|name| Some((name.as_str(), self.peek(name)?)));
        let rotary = self.assumed_rotary.iter().filter(|name| self.has_read_rotary(name));
        let rotary = rotary.filter_map(|name| Some((name.as_str(), self.rope().get(name)?)));
        // Some classes leave it out too, and take an equal share of the embedding.
        let head_dim = "head_dim";
        let shared = (self.has_read(head_dim) && self.peek(head_dim).is_none()).then_some((head_dim, &Json::Null));
        read.chain(rotary).chain(shared).collect()
    }

    /// A rotary setting of full attention.
    #[must_use]
    pub fn rotary(&self, name: &str) -> Option<&Json> {
        self.read_rotary.borrow_mut().insert(name.to_owned());
        self.rope().get(name).filter(|value| !value.is_null())
    }

    /// The first of these settings that is there.
    #[must_use]
    pub fn find(&self, names: Names<'_>) -> Option<&Json> {
        self.find_named(names).map(|(_, value)| value)
    }

    fn find_named<'a>(&self, names: Names<'a>) -> Option<(&'a str, &Json)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// A count, when one of these settings is there.
    ///
    /// # Errors
    /// When it is no count.
    pub fn count(&self, names: Names<'_>) -> Result<Option<usize>, Error> {
        let Some((name, value)) = self.find_named(names) else { return Ok(None) };
        let count = value.as_u64().filter(|&n| n <= u64::from(u32::MAX)).and_then(|n| usize::try_from(n).ok());
        count.map(Some).ok_or_else(|| bad(name, value, "a count"))
    }

    /// A count for each block, when one of these settings is a list.
    ///
    /// # Errors
    /// When it is no list of counts, one for each block.
    fn count_of_each(&self, names: Names<'_>) -> Result<Option<Vec<i32>>, Error> {
        let Some((name, value @ Json::Array(list))) = self.find_named(names) else { return Ok(None) };
        let counts = list.iter().map(|n| n.as_u64().and_then(|n| i32::try_from(n).ok())).collect::<Option<Vec<i32>>>();
        let counts = counts.filter(|counts| Ok(counts.len()) == self.block_count().map_err(drop));
        counts.map(Some).ok_or_else(|| bad(name, value, "a count for each block"))
    }

    /// A count that must be there.
    ///
    /// # Errors
    /// When it is missing or no count.
    pub fn required_count(&self, names: Names<'_>) -> Result<usize, Error> {
        self.count(names)?.ok_or_else(|| Error::MissingSetting { name: names.join(" or ") })
    }

    /// A number, when one of these settings is there.
    ///
    /// # Errors
    /// When it is no number.
    pub fn number(&self, names: Names<'_>) -> Result<Option<f64>, Error> {
        let Some((name, value)) = self.find_named(names) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| bad(name, value, "a number"))
    }

    /// A number, or one of a list of numbers; 1 where there is none.
    ///
    /// # Errors
    /// When it is no number, or not so small that single precision holds it.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounded to single precision, in which the reference multiplies"
    )]
    pub fn multiplier(&self, name: &str, item: usize) -> Result<f32, Error> {
        let Some(value) = self.get(name) else { return Ok(1.0) };
        let number = if value.is_array() { value.get(item) } else { Some(value) };
        let number = number.and_then(Json::as_f64).map(|number| number as f32).filter(|number| number.is_finite());
        number.ok_or_else(|| bad(name, value, "a number, or a list of as many as there are parts"))
    }

    /// A boolean, or false.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A boolean, or `default`.
    #[must_use]
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| self.of_kind(name, value.as_bool(), "true or false").unwrap_or(default))
    }

    /// What a setting was read as, where it is of that kind; else [`Self::check_kinds`] says so later.
    fn of_kind<T>(&self, name: &str, value: Option<T>, kind: &'static str) -> Option<T> {
        if value.is_none() {
            self.misread.borrow_mut().get_or_insert_with(|| (name.to_owned(), kind));
        }
        value
    }

    /// An error for the first setting that was of another kind than it was read as.
    ///
    /// # Errors
    /// That one.
    pub fn check_kinds(&self) -> Result<(), Error> {
        self.misread.borrow().as_ref().map_or(Ok(()), |(name, kind)| Err(self.bad(name, kind)))
    }

    /// A string, when the setting is there and one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| self.of_kind(name, value.as_str(), "a text"))
    }

    /// Whether the embedding is the output matrix too, where the checkpoint says it.
    #[must_use]
    pub fn tied(&self) -> Option<bool> {
        self.get(TIED).and_then(|value| self.of_kind(TIED, value.as_bool(), "true or false"))
    }

    /// Number of blocks.
    ///
    /// # Errors
    /// When it is missing or unreasonable.
    pub fn block_count(&self) -> Result<usize, Error> {
        let count = self.required_count(BLOCK_NAMES)?;
        match count {
            1..=4096 => Ok(count),
            _ => Err(bad(BLOCK_NAMES[0], &Json::from(count), "1 to 4096")),
        }
    }

    /// Says how many blocks behind the model's own predict further tokens and go into the file; none where they are left
    /// out by wish.
    pub fn set_predicting_blocks(&mut self, count: Option<usize>) {
        self.predicting = count;
    }

    /// What [`Self::set_predicting_blocks`] said; 0 where it said nothing.
    #[must_use]
    pub fn predicting_blocks(&self) -> Option<usize> {
        self.predicting
    }

    /// Says how the checkpoint's folder makes embeddings of hidden states.
    pub fn set_pooling(&mut self, pooling: Option<Pooling>) {
        self.pooling = pooling;
    }

    /// Says which linear maps the checkpoint's folder has behind the pooling.
    pub fn set_dense(&mut self, dense: Vec<DenseModule>) {
        self.dense = dense;
    }

    /// What [`Self::set_dense`] said.
    #[must_use]
    pub fn dense(&self) -> &[DenseModule] {
        self.read_dense.set(true);
        &self.dense
    }

    /// Whether [`Self::dense`] has been asked for.
    #[must_use]
    pub fn has_read_dense(&self) -> bool {
        self.read_dense.get()
    }

    /// What [`Self::set_pooling`] said.
    #[must_use]
    pub fn pooling(&self) -> Option<Pooling> {
        self.pooling
    }

    /// Length of a head: `head_dim`, or an equal share of the embedding.
    ///
    /// # Errors
    /// When what it follows from is missing.
    pub fn head_length(&self) -> Result<usize, Error> {
        if let Some(length) = self.count(&["head_dim"])? {
            return Ok(length);
        }
        let heads = self.required_count(HEAD_NAMES)?;
        let embedding = self.required_count(&["hidden_size", "n_embd"])?;
        embedding.checked_div(heads).ok_or_else(|| bad("num_attention_heads", &Json::from(0), "more than 0"))
    }

    /// Length of a head's rotated part; `default` is the share of the head where no setting says it.
    ///
    /// # Errors
    /// When that share is not within the head, or what the head's length follows from is missing.
    pub fn rotary_length(&self, default: f64) -> Result<usize, Error> {
        self.share_of_head(self.rope_number(SHARE).unwrap_or(default))
    }

    /// As [`Self::rotary_length`], where attention slides, if rotary settings of its own are there.
    ///
    /// # Errors
    /// As [`Self::rotary_length`], and when the share is no number.
    pub fn sliding_rotary_length(&self, default: f64) -> Result<Option<usize>, Error> {
        if !self.has_sliding_rope() {
            return Ok(None);
        }
        let share = self.sliding_rotary(SHARE).map_or(Some(default), Json::as_f64);
        let share = share.ok_or_else(|| self.bad(SHARE, "a number, where attention slides"))?;
        self.share_of_head(share).map(Some)
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length below 2^32"
    )]
    fn share_of_head(&self, share: f64) -> Result<usize, Error> {
        if !(0.0..=1.0).contains(&share) {
            return Err(self.bad(SHARE, "0 to 1"));
        }
        Ok((share * self.head_length()? as f64) as usize)
    }

    /// For each block whether its attention slides: what the checkpoint says, else all but every `period`-th.
    ///
    /// # Errors
    /// When it says it in a way that is not known.
    pub fn sliding_blocks(&self, period: usize) -> Result<Vec<bool>, Error> {
        let blocks = self.block_count()?;
        if let Some(types) = self.layer_types() {
            if types.len() != blocks || types.iter().any(|ty| !matches!(*ty, "sliding_attention" | "full_attention")) {
                return Err(self.bad("layer_types", "sliding_attention or full_attention for each block"));
            }
            return Ok(types.into_iter().map(|ty| ty == "sliding_attention").collect());
        }
        let name = "sliding_window_pattern";
        match self.get(name) {
            Some(Json::String(letters)) if !letters.is_empty() => {
                Ok(letters.bytes().cycle().take(blocks).map(|letter| letter == b'L').collect())
            }
            value => match value.map_or(Some(period as u64), Json::as_u64) {
                Some(period @ 1..) => Ok((1..=blocks as u64).map(|i| !i.is_multiple_of(period)).collect()),
                _ => Err(self.bad(name, "a count or a word of L and G")),
            },
        }
    }

    /// How many dense blocks stand before those with experts: what the kinds of feed-forward parts say, or else
    /// `first_k_dense_replace`.
    ///
    /// # Errors
    /// When dense blocks stand behind others, or it is no count.
    pub fn leading_dense_blocks(&self) -> Result<Option<usize>, Error> {
        let (name, first) = ("mlp_layer_types", self.count(&["first_k_dense_replace"])?);
        let Some(types) = self.get(name) else { return Ok(first) };
        let kinds = types.as_array().map_or(&[][..], Vec::as_slice);
        let dense = kinds.iter().take_while(|kind| *kind == "dense").count();
        if kinds.len() != self.block_count()? || kinds[dense..].iter().any(|kind| kind != "sparse") {
            return Err(self.bad(name, "dense or sparse for each block, dense ones first"));
        }
        Ok(Some(dense))
    }

    /// A count that a list has for each block, where all are the same; or that is a number.
    ///
    /// # Errors
    /// When it is missing, no count, or not the same for all.
    pub fn one_count(&self, name: &str) -> Result<usize, Error> {
        let Some(Json::Array(counts)) = self.get(name) else { return self.required_count(&[name]) };
        let blocks = self.block_count()?;
        let first = counts.first().and_then(Json::as_u64).filter(|&n| n <= u64::from(u32::MAX));
        let count = first.filter(|_| counts.iter().all(|count| *count == counts[0]) && counts.len() == blocks);
        let count = count.and_then(|n| usize::try_from(n).ok());
        count.ok_or_else(|| self.bad(name, "the same count for each block"))
    }

    /// Refuses a setting that is there and is not `expected`.
    ///
    /// # Errors
    /// When it is another.
    pub fn expect(&self, name: &str, expected: &Json, described: &'static str) -> Result<(), Error> {
        match self.get(name) {
            Some(value) if value != expected => Err(bad(name, value, described)),
            _ => Ok(()),
        }
    }

    /// As [`Self::expect`], for a number of the rotary settings.
    ///
    /// # Errors
    /// When it is another.
    pub fn expect_rotary(&self, name: &str, expected: f64) -> Result<(), Error> {
        match self.rope_number(name) {
            Some(number) if number != expected => Err(self.bad(name, "what the other rotary settings say")),
            _ => Ok(()),
        }
    }

    /// An error that says what stands at the setting `name` and what may stand there.
    #[must_use]
    pub fn bad(&self, name: &str, expected: &'static str) -> Error {
        let found = self.peek(name).or_else(|| self.rope().get(name)).unwrap_or(&Json::Null);
        bad(name, found, expected)
    }

    /// As [`Self::bad`], of a value that stands elsewhere.
    pub(super) fn unfit(&self, name: &str, found: &Json, expected: &'static str) -> Error {
        bad(name, found, expected)
    }

    /// What each block is (`full_attention`, `sliding_attention` ...), where the checkpoint says it.
    #[must_use]
    pub fn layer_types(&self) -> Option<Vec<&str>> {
        let types = self.get(LAYER_TYPES)?;
        let texts = types.as_array().and_then(|types| types.iter().map(Json::as_str).collect());
        self.of_kind(LAYER_TYPES, texts, "a list of texts")
    }

    /// The rotary settings of full attention.
    pub(super) fn rope(&self) -> &Map<String, Json> {
        full_attention(&self.rope)
    }

    /// The rotary settings of sliding attention, where they differ.
    pub(super) fn sliding_rope(&self) -> Option<&Map<String, Json>> {
        self.rope.get(SLIDING).and_then(Json::as_object)
    }

    /// Whether sliding attention has rotary settings of its own.
    #[must_use]
    pub fn has_sliding_rope(&self) -> bool {
        self.sliding_rope().is_some()
    }

    /// A rotary setting of sliding attention.
    #[must_use]
    pub fn sliding_rotary(&self, name: &str) -> Option<&Json> {
        self.read_rotary.borrow_mut().insert(format!("{SLIDING}.{name}"));
        self.sliding_rope()?.get(name).filter(|value| !value.is_null())
    }

    /// Whether the rotary setting `name` of sliding attention has been read.
    pub(super) fn has_read_sliding(&self, name: &str) -> bool {
        self.read_rotary.borrow().contains(&format!("{SLIDING}.{name}"))
    }

    /// A number of the rotary settings.
    #[must_use]
    pub fn rope_number(&self, name: &str) -> Option<f64> {
        self.rotary(name).and_then(|value| self.of_kind(name, value.as_f64(), "a number"))
    }

    /// Numbers of the rotary settings, where the setting is a list of nothing else.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
    pub fn rope_list(&self, name: &str) -> Option<Vec<f32>> {
        self.rotary(name)?.as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
    }

    /// How the rotary embedding is scaled; `default` where it is not.
    #[must_use]
    pub fn rope_type(&self) -> &str {
        let name = "rope_type";
        self.rotary(name).and_then(|value| self.of_kind(name, value.as_str(), "a text")).unwrap_or("default")
    }
}

/// The rotary settings of full attention, where kinds of layers have their own.
fn full_attention(rope: &Map<String, Json>) -> &Map<String, Json> {
    rope.get("full_attention").and_then(Json::as_object).unwrap_or(rope)
}

fn bad(name: &str, value: &Json, expected: &'static str) -> Error {
    let mut found = value.to_string();
    if let Some((at, _)) = found.char_indices().nth(40) {
        found.truncate(at);
    }
    Error::BadSetting { name: name.to_owned(), found, expected }
}

/// Collects the metadata of a checkpoint, in the order in which it will stand in the file.
#[derive(Clone, Debug)]
pub struct Keys {
    architecture: String,
    metadata: Metadata,
    ahead: Metadata,
    file_type: u32,
}

impl Keys {
    /// Continues `metadata` with the keys of `architecture`.
    #[must_use]
    pub fn new(architecture: &str, metadata: Metadata, file_type: u32) -> Self {
        Self { architecture: architecture.to_owned(), metadata, ahead: Metadata::new(), file_type }
    }

    /// What has been collected, but for what stands ahead.
    #[must_use]
    pub fn finish(self) -> Metadata {
        self.metadata
    }

    /// Keys that stand ahead of all general ones.
    #[must_use]
    pub fn ahead(&self) -> &Metadata {
        &self.ahead
    }

    fn set(&mut self, key: &str, value: Value) {
        self.metadata.set(self.full(key), value);
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A float ahead of all general keys, where the reference writes what it learns while it makes tensors.
    #[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
    pub fn float_ahead(&mut self, key: &str, value: f64) {
        self.ahead.set(self.full(key), Value::F32(value as f32));
    }

    /// A count.
    pub fn count(&mut self, key: &str, value: usize) {
        self.set(key, Value::U32(u32::try_from(value).unwrap_or(u32::MAX)));
    }

    /// A float.
    #[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
    pub fn float(&mut self, key: &str, value: f64) {
        self.set(key, Value::F32(value as f32));
    }

    /// A boolean.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.set(key, Value::Bool(value));
    }

    /// A string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.set(key, Value::String(value.to_owned()));
    }

    /// Calls a key by another name, in its place, unless there is one of that name; nothing where it is not there.
    pub fn rename(&mut self, key: &str, to: &str) {
        let (key, to) = (self.full(key), self.full(to));
        let there = self.metadata.get(&to).is_some();
        let kept = self.metadata.iter().filter(|(name, _)| !there || *name != key);
        let renamed = kept.map(|(name, value)| {
            let name = if name == key { to.clone() } else { name.to_owned() };
            (name, value.clone())
        });
        self.metadata = renamed.collect();
    }

    /// A float for each block.
    #[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
    pub fn floats(&mut self, key: &str, values: impl IntoIterator<Item = f64>) {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        self.set(key, Value::Array(Array::from(&values[..])));
    }

    /// A list of strings.
    pub fn texts<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.set(key, Value::Array(Array::strings(values.iter().map(|text| text.as_ref().as_bytes()))));
    }

    /// The chat template of this `name`, where the reference says it ahead of the tokenizer's keys.
    pub fn chat_template(&mut self, name: &str, template: &str) {
        self.metadata.set(format!("{}.{name}", gguf_keys::TOKENIZER_CHAT_TEMPLATE), template);
        self.metadata.set(gguf_keys::TOKENIZER_CHAT_TEMPLATES, Value::Array(Array::strings([name])));
    }

    /// A boolean for each block.
    pub fn flags(&mut self, key: &str, values: impl IntoIterator<Item = bool>) {
        self.set(key, Value::Array(Array::bools(values)));
    }

    /// A signed integer for each block.
    pub fn integers(&mut self, key: &str, values: impl IntoIterator<Item = i32>) {
        let values: Vec<i32> = values.into_iter().collect();
        self.set(key, Value::Array(Array::from(&values[..])));
    }

    /// Whether texts begin with a token of their own, where the reference says it ahead of the tokenizer's keys.
    pub fn adds_bos(&mut self, adds: bool) {
        self.metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(adds));
    }

    /// What most tensors are stored as.
    pub fn file_type(&mut self) {
        self.metadata.set("general.file_type", Value::U32(self.file_type));
    }

    /// The keys that every family takes from `config` in the same way.
    ///
    /// # Errors
    /// When a setting is of a wrong kind.
    pub fn shared(&mut self, config: &Config) -> Result<(), Error> {
        self.count(keys::BLOCK_COUNT, config.block_count()? + config.predicting.unwrap_or(0));
        for (key, names) in COUNTS {
            let each = if key == keys::FEED_FORWARD_LENGTH { config.count_of_each(names)? } else { None };
            if let Some(lengths) = each {
                self.integers(key, lengths);
            } else if let Some(count) = config.count(names)? {
                self.count(key, count);
            }
        }
        self.rope_scaling(config)?;
        for (key, names) in FLOATS {
            if let Some(number) = config.number(names)? {
                self.float(key, number);
            }
        }
        self.experts(config)?;
        if let Some(length) = config.count(&["head_dim"])? {
            self.count(keys::KEY_LENGTH, length);
            self.count(keys::VALUE_LENGTH, length);
        }
        self.file_type();
        Ok(())
    }

    /// These keys in this order, for the families whose files have an order of their own.
    ///
    /// # Errors
    /// When the setting that one comes from is missing or of a wrong kind.
    ///
    /// # Panics
    /// When it is not known which setting a key comes from.
    pub fn these(&mut self, config: &Config, wanted: &[&str]) -> Result<(), Error> {
        for &key in wanted {
            let names = COUNTS.iter().find(|(known, _)| *known == key).map(|(_, names)| *names);
            match (key, names) {
                (keys::BLOCK_COUNT, _) => self.count(key, config.block_count()?),
                (keys::KEY_LENGTH | keys::VALUE_LENGTH, _) => self.count(key, config.head_length()?),
                (keys::ROPE_DIMENSION_COUNT, _) => self.count(key, config.rotary_length(1.0)?),
                (keys::VOCAB_SIZE, _) => self.count(key, config.required_count(&["vocab_size"])?),
                (keys::HEAD_COUNT_KV, Some(names)) => {
                    let heads = config.count(names)?.map_or_else(|| config.required_count(HEAD_NAMES), Ok)?;
                    self.count(key, heads);
                }
                (_, Some(names)) => self.count(key, config.required_count(names)?),
                (_, None) => {
                    let known = FLOATS.iter().find(|(known, _)| *known == key);
                    let (_, names) = known.unwrap_or_else(|| panic!("{key}: no setting is known"));
                    let number = config.number(names)?;
                    self.float(key, number.ok_or_else(|| Error::MissingSetting { name: names.join(" or ") })?);
                }
            }
        }
        Ok(())
    }

    /// The form of GELU that one of these settings names, where it is not the family's own.
    ///
    /// # Errors
    /// When it names another function.
    pub fn unusual_gelu(&mut self, config: &Config, name: &str, own: Activation) -> Result<(), Error> {
        let found = match config.text(name) {
            None => own,
            Some("gelu" | "gelu_python") => Activation::GeluErf,
            Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" | "gelu_python_tanh") => {
                Activation::GeluTanh
            }
            Some(_) => return Err(config.bad(name, "a form of gelu")),
        };
        if found != own {
            self.text(keys::HIDDEN_ACTIVATION, if found == Activation::GeluErf { GELU } else { GELU_TANH });
        }
        Ok(())
    }

    /// The rotary base, where it is not the one that everybody assumes.
    pub fn unusual_rope_base(&mut self, config: &Config) {
        if let Some(theta) = config.rope_number("rope_theta").filter(|&theta| theta != 10_000.0) {
            self.float(keys::ROPE_FREQ_BASE, theta);
        }
    }

    /// How embeddings are made of hidden states, where the checkpoint says it, and what a classifier would take.
    ///
    /// # Errors
    /// When the classifier's is another than the first token's or the mean.
    pub fn pooling(&mut self, config: &Config) -> Result<(), Error> {
        let number = |pooling: Pooling| match pooling {
            Pooling::None => 0,
            Pooling::Mean => 1,
            Pooling::Cls => 2,
            Pooling::Last => 3,
            Pooling::Rank => 4,
        };
        if let Some(pooling) = config.pooling {
            self.count(keys::POOLING_TYPE, number(pooling));
        }
        let name = "classifier_pooling";
        match config.text(name) {
            None => {}
            Some("cls") => self.count(keys::CLASSIFIER_POOLING_TYPE, number(Pooling::Cls)),
            Some("mean") => self.count(keys::CLASSIFIER_POOLING_TYPE, number(Pooling::Mean)),
            // EuroBERT's own, of a head that bare models have not; no file can say it.
            Some("late") if !config.class().ends_with("ForSequenceClassification") => {}
            Some(_) => return Err(config.bad(name, "cls or mean")),
        }
        Ok(())
    }

    /// The labels that a classifier scores, where the class has one: those of the settings, or as many as it has by
    /// default.
    ///
    /// # Errors
    /// When they are no texts.
    pub fn labels(&mut self, config: &Config) -> Result<(), Error> {
        if !config.class().ends_with("ForSequenceClassification") {
            return Ok(());
        }
        let named = match config.get("id2label") {
            None => None,
            Some(Json::Object(labels)) => {
                let read = |(id, label): (&String, &Json)| Some((id.parse::<u64>().ok()?, label.as_str()?.to_owned()));
                let labels: Option<Vec<_>> = labels.iter().map(read).collect();
                Some(labels.ok_or_else(|| config.bad("id2label", "texts by their numbers"))?)
            }
            Some(_) => return Err(config.bad("id2label", "texts by their numbers")),
        };
        let mut labels = match named.filter(|labels| !labels.is_empty()) {
            Some(labels) => labels,
            None => {
                (0..config.count(&["num_labels"])?.unwrap_or(2) as u64).map(|i| (i, format!("LABEL_{i}"))).collect()
            }
        };
        labels.sort();
        let texts: Vec<String> = labels.into_iter().map(|(_, label)| label).collect();
        self.texts(keys::CLASSIFIER_OUTPUT_LABELS, &texts);
        Ok(())
    }

    /// The sliding window, where there is one.
    ///
    /// # Errors
    /// When it is no count.
    pub fn sliding_window(&mut self, config: &Config) -> Result<(), Error> {
        if let Some(window) = config.count(&["sliding_window"])? {
            self.count(keys::SLIDING_WINDOW, window);
        }
        Ok(())
    }

    /// Which blocks slide, where these are not all but every `period`-th, as everybody assumes.
    ///
    /// # Errors
    /// When the checkpoint says it in a way that is not known.
    pub fn unusual_pattern(&mut self, config: &Config, period: usize) -> Result<(), Error> {
        let pattern = config.sliding_blocks(period)?;
        if pattern.iter().enumerate().any(|(i, &slides)| slides == (i + 1).is_multiple_of(period)) {
            self.flags(keys::SLIDING_WINDOW_PATTERN, pattern);
        }
        Ok(())
    }

    /// Hidden lengths of experts and of what all tokens share, where the checkpoint says them.
    ///
    /// # Errors
    /// When a setting is of a wrong kind.
    pub fn expert_lengths(&mut self, config: &Config) -> Result<(), Error> {
        if let Some(length) = config.count(&["moe_intermediate_size"])? {
            self.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
        }
        if let Some(length) = config.count(&["shared_expert_intermediate_size"])? {
            self.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length);
        }
        Ok(())
    }

    fn rope_scaling(&mut self, config: &Config) -> Result<(), Error> {
        let number = |name: &str| config.rope_number(name);
        // All kinds of scaling divide by it.
        if let (Some(factor), Some(found)) = (number("factor"), config.rotary("factor"))
            && factor <= 0.0
        {
            return Err(config.unfit("rope_scaling.factor", found, "more than 0"));
        }
        match config.rope_type() {
            "linear" => {
                let factor = number("factor").ok_or_else(|| config.bad("factor", "a number"))?;
                self.text(keys::ROPE_SCALING_TYPE, "linear");
                self.float(keys::ROPE_SCALING_FACTOR, factor);
            }
            "yarn" => {
                let factor = number("factor").ok_or_else(|| config.bad("factor", "a number"))?;
                self.text(keys::ROPE_SCALING_TYPE, "yarn");
                self.float(keys::ROPE_SCALING_FACTOR, factor);
                let name = "original_max_position_embeddings";
                if let Some(length) = config.rotary(name) {
                    let count = length.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
                    let count = count.ok_or_else(|| config.unfit(name, length, "a count of positions"))?;
                    self.count(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, count as usize);
                }
                let optional = [
                    (keys::ROPE_SCALING_YARN_EXT_FACTOR, number("extrapolation_factor")),
                    (keys::ROPE_SCALING_YARN_ATTN_FACTOR, number("attention_factor").or(number("attn_factor"))),
                    (keys::ROPE_SCALING_YARN_BETA_FAST, number("beta_fast")),
                    (keys::ROPE_SCALING_YARN_BETA_SLOW, number("beta_slow")),
                ];
                for (key, value) in optional {
                    if let Some(value) = value {
                        self.float(key, value);
                    }
                }
            }
            // Its factors are tensors.
            "longrope" | "su" => self.text(keys::ROPE_SCALING_TYPE, "longrope"),
            _ => {}
        }
        if let Some(sections) = config.rotary("mrope_section").and_then(Json::as_array) {
            let sections = sections.iter().map(|n| n.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0));
            self.integers(keys::ROPE_DIMENSION_SECTIONS, sections.chain([0; 4]).take(4));
        }
        if let Some(theta) = number("rope_theta") {
            self.float(keys::ROPE_FREQ_BASE, theta);
        }
        let sliding = config.sliding_rope().and_then(|rope| rope.get("rope_theta"));
        if let Some(theta) = sliding.and_then(Json::as_f64) {
            self.float(keys::ROPE_FREQ_BASE_SWA, theta);
        }
        Ok(())
    }

    fn experts(&mut self, config: &Config) -> Result<(), Error> {
        for (key, names) in EXPERTS {
            if let Some(count) = config.count(names)? {
                self.count(key, count);
            }
        }
        let names =
            ["score_function", "scoring_func", "score_func", "moe_router_activation", "moe_router_activation_func"];
        match config.find(&names).map(|value| (value, value.as_str())) {
            None => {}
            Some((_, Some("softmax"))) => self.count(keys::EXPERT_GATING_FUNC, 1),
            Some((_, Some("sigmoid"))) => self.count(keys::EXPERT_GATING_FUNC, 2),
            Some((value, _)) => return Err(bad(names[0], value, "softmax or sigmoid")),
        }
        Ok(())
    }
}

/// An error of the metadata that a `config.json` became, by the setting where that is the whole matter: a key that is
/// missing is a setting that is missing.
#[must_use]
pub fn by_setting(error: Error) -> Error {
    let Error::MissingKey { key } = &error else { return error };
    let key = key.split_once('.').map_or("", |(_, key)| key);
    match settings_of_keys().find(|(known, _)| *known == key) {
        Some((_, names)) => Error::MissingSetting { name: names.join(" or ") },
        None => error,
    }
}
