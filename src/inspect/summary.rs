//! An overview of a model from its header alone.

use std::collections::BTreeMap;

use super::{Ability, TemplateFeatures, usable};
use crate::TensorType;
use crate::gguf::{Metadata, Reader, TensorInfo, Value, keys, part_of};
use crate::quantize::{TypeTotal, file_type_name};

/// An overview of a model. What the file does not have is `None`; nothing here is an error.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `general.name`.
    pub name: Option<String>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Parameters used for one token: of the experts, only those that are chosen.
    pub active_parameters: u64,
    /// Experts, and how many of them a token uses.
    pub experts: Option<(u64, u64)>,
    /// Tokens of context that the model was trained on.
    pub context_length: Option<u64>,
    /// Number of layers.
    pub layers: Option<u64>,
    /// Length of the residual stream.
    pub embedding_length: Option<u64>,
    /// Hidden lengths of feed-forward parts: the smallest and the largest.
    pub feed_forward_length: Option<(u64, u64)>,
    /// Attention heads: the smallest and the largest number in layers with attention.
    pub heads: Option<(u64, u64)>,
    /// Key-value heads: the smallest and the largest number in layers with attention.
    pub kv_heads: Option<(u64, u64)>,
    /// Length of a head (of keys).
    pub head_length: Option<u64>,
    /// Positions that a layer with a sliding window sees.
    pub sliding_window: Option<u64>,
    /// The tokens.
    pub vocabulary: Option<Vocabulary>,
    /// Features of the chat template; `None` without one.
    pub template: Option<TemplateFeatures>,
    /// `general.license`.
    pub license: Option<String>,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Number in `general.file_type`.
    pub file_type: Option<u64>,
    /// The types of matrices, by their role in the network, in the order of the file.
    pub mix: Vec<Role>,
    /// Tensors, elements and bytes of each type.
    pub types: BTreeMap<TensorType, TypeTotal>,
    /// What this program can do with the model, or the reason why it cannot run it.
    pub usable: Result<Vec<Ability>, String>,
}

/// A model's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Number of tokens.
    pub tokens: u64,
    /// Kind of tokenizer (`tokenizer.ggml.model`).
    pub model: Option<String>,
    /// Name of the pre-tokenizer.
    pub pre: Option<String>,
}

/// Matrices with the same role in every layer, and their number by type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The tensor's name without layer and suffix: `ffn_down`.
    pub name: String,
    /// Types, those of most matrices first.
    pub types: Vec<(TensorType, usize)>,
}

impl Summary {
    /// Reads the summary of an opened model. No weight is read.
    #[must_use]
    pub fn new(reader: &Reader) -> Self {
        let metadata = reader.metadata();
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let architecture = text(keys::GENERAL_ARCHITECTURE);
        let of = ArchitectureKeys { metadata, architecture: architecture.as_deref().unwrap_or_default() };
        let (heads, kv_heads) = (of.range("attention.head_count"), of.range("attention.head_count_kv"));
        let embedding_length = of.number(keys::EMBEDDING_LENGTH);
        let by_heads = || embedding_length?.checked_div(heads?.1);
        let experts = of.range("expert_count").zip(of.range("expert_used_count"));
        let experts = experts.map(|((_, all), (_, used))| (all, used)).filter(|(all, _)| *all > 0);
        Self {
            name: text(keys::GENERAL_NAME).filter(|name| !name.trim().is_empty()),
            parameters: reader.parameters(),
            active_parameters: active_parameters(reader, experts),
            experts,
            context_length: of.number(keys::CONTEXT_LENGTH),
            layers: of.number(keys::BLOCK_COUNT),
            embedding_length,
            feed_forward_length: of.range("feed_forward_length"),
            heads,
            kv_heads: kv_heads.or(heads),
            head_length: of.number("attention.key_length").or_else(by_heads),
            sliding_window: of.number("attention.sliding_window").filter(|&window| window > 0),
            vocabulary: vocabulary(metadata, &of),
            template: text(keys::TOKENIZER_CHAT_TEMPLATE).map(|source| TemplateFeatures::of(&source)),
            license: text("general.license").or_else(|| text("general.license.name")),
            file_bytes: reader.file_bytes(),
            tensor_bytes: reader.tensors().iter().map(TensorInfo::bytes).fold(0, u64::saturating_add),
            file_type: metadata.get(keys::GENERAL_FILE_TYPE).and_then(Value::as_u64),
            mix: mix(reader),
            types: types(reader),
            usable: usable(reader).map_err(|error| error.to_string()),
            architecture,
        }
    }

    /// Bits of an element on average; `None` for a model without any.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "some digits are shown")]
    pub fn bits_per_weight(&self) -> Option<f64> {
        (self.parameters > 0).then(|| self.tensor_bytes as f64 * 8.0 / self.parameters as f64)
    }

    /// llama.cpp's name of the file type in the metadata; `None` if there is none or it is not known.
    #[must_use]
    pub fn file_type_name(&self) -> Option<&'static str> {
        file_type_name(self.file_type?.try_into().ok()?)
    }

    /// The type of most elements, if it contradicts the file type in the metadata: `Q8_0` in a file that claims `Q4_K_M`.
    #[must_use]
    pub fn contradiction(&self) -> Option<TensorType> {
        let claimed = self.file_type_name()?;
        let (&most, _) = self.types.iter().max_by_key(|(_, count)| count.parameters)?;
        let base = |name: &str| name.trim_end_matches("_MOE").to_owned();
        let agrees = base(claimed) == most.name()
            || base(claimed).starts_with(&format!("{}_", most.name()))
            // These mixes consist mostly of a neighbouring type.
            || matches!((claimed, most), ("Q2_K" | "Q2_K_S", TensorType::Q3_K) | ("IQ3_XS" | "IQ3_M", TensorType::IQ3_S | TensorType::IQ3_XXS) | ("IQ2_M", TensorType::IQ2_S | TensorType::IQ2_XS) | ("IQ2_S", TensorType::IQ2_XS));
        // Other types may dominate if rows do not fill blocks of 256, or if most weights are in a large vocabulary.
        (!agrees && self.tensors_of(most) * 2 > self.matrices()).then_some(most)
    }

    fn tensors_of(&self, ty: TensorType) -> usize {
        self.mix.iter().flat_map(|role| &role.types).filter(|(other, _)| *other == ty).map(|(_, n)| n).sum()
    }

    fn matrices(&self) -> usize {
        self.mix.iter().flat_map(|role| &role.types).map(|(_, n)| n).sum()
    }
}

/// Access to the keys of an architecture, whose values may be numbers or lists with one number for each layer.
struct ArchitectureKeys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl ArchitectureKeys<'_> {
    fn values(&self, key: &str) -> Vec<u64> {
        match self.metadata.get(&keys::of(self.architecture, key)) {
            Some(Value::Array(array)) => array.iter().filter_map(|value| value.as_u64()).collect(),
            Some(value) => value.as_u64().into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// The greatest value.
    fn number(&self, key: &str) -> Option<u64> {
        self.values(key).into_iter().max()
    }

    /// The least value above zero, and the greatest.
    fn range(&self, key: &str) -> Option<(u64, u64)> {
        let values = self.values(key);
        let least = values.iter().copied().filter(|&n| n > 0).min()?;
        Some((least, values.into_iter().max()?))
    }
}

fn vocabulary(metadata: &Metadata, of: &ArchitectureKeys<'_>) -> Option<Vocabulary> {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    let tokens = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).map(|array| array.len() as u64);
    let tokens = tokens.or_else(|| of.number("vocab_size"))?;
    Some(Vocabulary { tokens, model: text(keys::TOKENIZER_MODEL), pre: text(keys::TOKENIZER_PRE) })
}

/// Elements that are used for one token.
fn active_parameters(reader: &Reader, experts: Option<(u64, u64)>) -> u64 {
    let of_a_token = |tensor: &TensorInfo| match experts {
        Some((all, used)) if tensor.name.contains("_exps.") => {
            u64::try_from(u128::from(tensor.elements()) * u128::from(used.min(all)) / u128::from(all)).unwrap_or(0)
        }
        _ => tensor.elements(),
    };
    reader.tensors().iter().map(of_a_token).fold(0, u64::saturating_add)
}

/// `blk.3.ffn_down.weight` as `ffn_down`.
fn role_of(name: &str) -> &str {
    part_of(name.strip_suffix(".weight").unwrap_or(name))
}

fn mix(reader: &Reader) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    let mut places: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    let is_matrix = |tensor: &&TensorInfo| tensor.shape.iter().filter(|&&n| n > 1).count() > 1;
    for tensor in reader.tensors().iter().filter(is_matrix) {
        let name = role_of(&tensor.name);
        let place = *places.entry(name).or_insert_with(|| {
            roles.push(Role { name: name.to_owned(), types: Vec::new() });
            roles.len() - 1
        });
        let types = &mut roles[place].types;
        match types.iter_mut().find(|(ty, _)| *ty == tensor.ty) {
            Some((_, count)) => *count += 1,
            None => types.push((tensor.ty, 1)),
        }
    }
    roles.iter_mut().for_each(|role| role.types.sort_by_key(|(_, count)| std::cmp::Reverse(*count)));
    roles
}

fn types(reader: &Reader) -> BTreeMap<TensorType, TypeTotal> {
    let mut types: BTreeMap<TensorType, TypeTotal> = BTreeMap::new();
    for tensor in reader.tensors() {
        types.entry(tensor.ty).or_default().add(1, tensor.elements(), tensor.bytes());
    }
    types
}

#[cfg(test)]
mod tests {
    use super::{Summary, role_of};
    use crate::TensorType;
    use crate::gguf::{Array, Metadata, Reader, TensorSpec, Writer};

    fn reader(metadata: &Metadata, tensors: &[(&str, &[u64], TensorType)]) -> Reader {
        let spec = |(name, shape, ty): &(&str, &[u64], TensorType)| TensorSpec {
            name: (*name).into(),
            shape: (*shape).into(),
            ty: *ty,
        };
        let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
        let mut writer = Writer::to_sink(Vec::new(), "model", metadata, &specs).expect("valid");
        for spec in &specs {
            let bytes = spec.ty.bytes_for(spec.shape.iter().product()).expect("whole blocks");
            writer.write_tensor(&vec![0; usize::try_from(bytes).expect("small")]).expect("written");
        }
        Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
    }

    #[test]
    fn roles_are_names_without_layer_and_suffix() {
        let names = ["blk.3.ffn_down.weight", "token_embd.weight", "blk.x.a.weight", "v.blk.0.ffn_up.weight"];
        assert_eq!(names.map(role_of), ["ffn_down", "token_embd", "blk.x.a", "v.blk.0.ffn_up"]);
    }

    #[test]
    fn lists_by_layer_and_experts_are_understood() {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "qwen3moe");
        metadata.set("general.file_type", 15u32);
        metadata.set("qwen3moe.attention.head_count", Array::from(&[8, 0, 4][..]));
        metadata.set("qwen3moe.attention.head_count_kv", 2u32);
        metadata.set("qwen3moe.embedding_length", 64u32);
        metadata.set("qwen3moe.expert_count", 8u32);
        metadata.set("qwen3moe.expert_used_count", 2u32);
        metadata.set("tokenizer.ggml.tokens", Array::strings(["a", "b"]));
        let tensors: &[(&str, &[u64], TensorType)] = &[
            ("blk.0.ffn_up_exps.weight", &[32, 2, 8], TensorType::Q8_0),
            ("blk.1.ffn_up_exps.weight", &[32, 2, 8], TensorType::Q8_0),
            ("blk.1.attn_q.weight", &[32, 2], TensorType::F16),
            ("blk.0.norm.weight", &[32], TensorType::F32),
        ];
        let summary = Summary::new(&reader(&metadata, tensors));
        assert_eq!((summary.heads, summary.kv_heads), (Some((4, 8)), Some((2, 2))));
        assert_eq!(summary.head_length, Some(8));
        assert_eq!((summary.parameters, summary.active_parameters), (1120, 1120 - 1024 + 256));
        assert_eq!(summary.vocabulary.as_ref().map(|v| v.tokens), Some(2));
        assert_eq!(summary.mix.len(), 2, "{:?}", summary.mix);
        assert_eq!(summary.mix[0].types, [(TensorType::Q8_0, 2)]);
        assert_eq!(summary.file_type_name(), Some("Q4_K_M"));
        assert_eq!(summary.contradiction(), Some(TensorType::Q8_0));
        assert!(summary.usable.is_err());
    }

    #[test]
    fn nothing_is_known_of_an_empty_file() {
        let summary = Summary::new(&reader(&Metadata::new(), &[]));
        assert_eq!((summary.parameters, summary.bits_per_weight(), summary.contradiction()), (0, None, None));
        assert!(summary.name.is_none() && summary.template.is_none() && summary.mix.is_empty());
    }
}
