//! Options of quantizing, with the names of `llama-quantize`.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;

use super::{Error, FileType, Importance, Like, Recipe};
use crate::TensorType;
use crate::files::read_whole;
use crate::gguf::Value;

/// Options of a quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mix.
    pub file_type: FileType,
    /// Whether all tensors get the mix's default type.
    pub pure: bool,
    /// Whether the output matrix keeps its type.
    pub leave_output_tensor: bool,
    /// Type of the output matrix.
    pub output_tensor_type: Option<TensorType>,
    /// Type of the token embedding.
    pub token_embedding_type: Option<TensorType>,
    /// Types of the tensors whose names match a pattern; the first match counts.
    pub tensor_types: Vec<TensorPattern>,
    /// A model whose types are used, tensor by tensor; the mix is for tensors that it does not have.
    pub like: Option<Arc<Like>>,
    /// Types of some tensors; the mix is for the others.
    pub recipe: Option<Arc<Recipe>>,
    /// Whether quantized tensors may be quantized again.
    pub allow_requantize: bool,
    /// Whether rows that do not fill blocks are an error, instead of getting another type.
    pub no_fallback: bool,
    /// Keys to set.
    pub override_kv: Vec<(String, Value)>,
    /// The importance of each tensor's columns.
    pub importance: Option<Arc<Importance>>,
    /// Layers to leave out, by number.
    pub prune_layers: Vec<usize>,
    /// Whether the output has the same files as the model, with the same tensors in each.
    pub keep_split: bool,
    /// Whether tensors keep their types, whatever the mix says; for conversions to plain numbers.
    pub copy: bool,
}

impl Options {
    /// The options of a mix, without others.
    #[must_use]
    pub fn new(file_type: FileType) -> Self {
        Self {
            file_type,
            pure: false,
            leave_output_tensor: false,
            output_tensor_type: None,
            token_embedding_type: None,
            tensor_types: Vec::new(),
            like: None,
            recipe: None,
            allow_requantize: false,
            no_fallback: false,
            override_kv: Vec::new(),
            importance: None,
            prune_layers: Vec::new(),
            keep_split: false,
            copy: false,
        }
    }
}

/// Maximum bytes of a list of patterns.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// A type for the tensors whose names a pattern matches.
#[derive(Clone, Debug)]
pub struct TensorPattern {
    pattern: Regex,
    ty: TensorType,
}

impl TensorPattern {
    /// A pattern, converted to lower case as llama-quantize does.
    ///
    /// # Errors
    /// When it is not a regular expression.
    pub fn new(pattern: &str, ty: TensorType) -> Result<Self, Error> {
        let problem = |e: regex::Error| Error::Pattern {
            pattern: pattern.to_owned(),
            problem: e.to_string().lines().last().unwrap_or_default().to_owned(),
        };
        Ok(Self { pattern: Regex::new(&pattern.to_lowercase()).map_err(problem)?, ty })
    }

    /// A pattern and its type, `REGEX=TYPE`.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let problem = |problem: &str| Error::Pattern { pattern: text.to_owned(), problem: problem.to_owned() };
        let (pattern, ty) = text.split_once('=').ok_or_else(|| problem("not of the form REGEX=TYPE"))?;
        if pattern.is_empty() {
            return Err(problem("no name before the ="));
        }
        let ty = TensorType::from_name(ty).ok_or_else(|| problem("no such tensor type after the ="))?;
        Self::new(pattern, ty)
    }

    /// The patterns of a file, separated by spaces or lines.
    ///
    /// # Errors
    /// When the file cannot be read, or one is not of the form of [`parse`](Self::parse).
    pub fn parse_file(path: &Path) -> Result<Vec<Self>, Error> {
        let bytes = read_whole(path, MAX_LIST_BYTES);
        let bytes = bytes.map_err(crate::gguf::Error::from)?;
        String::from_utf8_lossy(&bytes).split_whitespace().map(Self::parse).collect()
    }

    /// The regular expression, in lower case.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Whether a tensor's name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }

    pub(super) fn ty(&self) -> TensorType {
        self.ty
    }
}

/// Maximum bytes of a key in llama-quantize. (It has the same limit for texts, which is not applied here: the format has
/// none, and templates are longer.)
const MAX_KEY_BYTES: usize = 127;

/// A key and its value, `KEY=int:1`, `KEY=float:0.5`, `KEY=bool:true` or `KEY=str:text`. As with llama-quantize whole
/// numbers become `UINT32`, others `FLOAT32`.
///
/// # Errors
/// When it is not of that form, or the value cannot be stored.
pub fn parse_override(text: &str) -> Result<(String, Value), Error> {
    let problem = |problem| Error::Override { text: text.to_owned(), problem };
    let (key, value) = text.split_once('=').ok_or_else(|| problem("not of the form KEY=TYPE:VALUE"))?;
    let (ty, value) = value.split_once(':').ok_or_else(|| problem("not of the form KEY=TYPE:VALUE"))?;
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(problem("a key has 1 to 127 bytes"));
    }
    let value = match ty {
        "int" => Value::U32(value.parse().map_err(|_| problem("an int is a whole number from 0 to 4294967295"))?),
        "float" => match value.parse::<f32>() {
            Ok(number) if number.is_finite() => Value::F32(number),
            _ => return Err(problem("no finite number after float:")),
        },
        "bool" => Value::Bool(value.parse().map_err(|_| problem("a bool is true or false"))?),
        "str" => Value::String(value.to_owned()),
        _ => return Err(problem("the type is int, float, bool or str")),
    };
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::{TensorPattern, parse_override};
    use crate::TensorType;
    use crate::gguf::Value;

    #[test]
    fn patterns_have_a_type() {
        let pattern = TensorPattern::parse(r"BLK\.[0-3]\.ffn_down=q6_k").expect("valid");
        assert_eq!(pattern.ty(), TensorType::Q6_K);
        assert!(pattern.matches("blk.2.ffn_down.weight") && !pattern.matches("blk.4.ffn_down.weight"));
        for bad in ["attn_v", "=q8_0", "attn_v=q9_0", "attn_v=", "(=q8_0"] {
            assert!(TensorPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overrides_have_types() {
        let value = |text| {
            parse_override(text).map(|(key, value)| {
                assert_eq!(key, "a.b");
                value
            })
        };
        assert_eq!(value("a.b=int:7").expect("valid"), Value::U32(7));
        assert_eq!(value("a.b=float:-1e-5").expect("valid"), Value::F32(-1e-5));
        assert_eq!(value("a.b=bool:false").expect("valid"), Value::Bool(false));
        assert_eq!(value("a.b=str:x=y:z").expect("valid"), Value::String("x=y:z".into()));
        assert_eq!(value("a.b=str:").expect("valid"), Value::String(String::new()));
        let long = "x".repeat(70_000);
        assert_eq!(value(&format!("a.b=str:{long}")).expect("valid"), Value::String(long.clone()));
        let long = format!("{long}=int:1");
        for bad in
            ["a.b", "a.b=7", "a.b=int:-1", "a.b=int:4294967296", "a.b=float:nan", "a.b=bool:1", "a.b=u8:1", &long]
        {
            assert!(parse_override(bad).is_err(), "{bad}");
        }
        assert!(parse_override("=int:1").is_err());
    }
}
