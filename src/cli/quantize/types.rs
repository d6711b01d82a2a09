//! Types on the command line: by name in any spelling that people use, or by llama.cpp's number; what is no type gets
//! a tip.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use gguf_toolkit::quantize::{FileType, file_type_name};

/// A parser of types that shells can complete and `--help` lists.
#[derive(Clone)]
pub(crate) struct TypeParser<T> {
    find: fn(&str) -> Option<T>,
    values: fn() -> Vec<PossibleValue>,
}

/// The types that a model can be quantized to.
pub(crate) fn file_types() -> TypeParser<FileType> {
    TypeParser::new(find, || writable().map(possible_value).collect())
}

/// The types that can be written.
pub(crate) fn writable() -> impl Iterator<Item = FileType> {
    FileType::ALL.iter().copied().filter(|ty| ty.is_writable())
}

impl<T> TypeParser<T> {
    pub(crate) fn new(find: fn(&str) -> Option<T>, values: fn() -> Vec<PossibleValue>) -> Self {
        Self { find, values }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for TypeParser<T> {
    type Value = T;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&clap::Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let text = value.to_string_lossy();
        if let Some(found) = (self.find)(&text) {
            return Ok(found);
        }
        let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(cmd);
        let name = arg.map_or_else(|| "<TYPE>".to_owned(), ToString::to_string);
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
        error.insert(ContextKind::InvalidValue, ContextValue::String(text.to_string()));
        let tips = [tip(&text), "'gguf quantize --list-types' lists them".to_owned()].map(StyledStr::from);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips.into()));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.values)().into_iter()))
    }
}

/// Name, number and description of a type.
pub(crate) fn possible_value(ty: FileType) -> PossibleValue {
    let short = ty.name().strip_suffix("_M").filter(|short| FileType::from_name(short) == Some(ty));
    PossibleValue::new(ty.name())
        .help(format!("{:5.2} bits, {}", ty.default_bits(), ty.description()))
        .alias(ty.id_text())
        .aliases(short)
}

/// The type called `text`, which can be written: `Q4_K_M`, `q4km`, `q4-k-m`, `15`.
pub(crate) fn find(text: &str) -> Option<FileType> {
    let own = FileType::from_name(text).filter(|ty| ty.is_writable());
    own.or_else(|| writable().find(|ty| spelling(ty.name()) == spelling(text)))
}

/// A name without what people write in different ways.
fn spelling(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).map(|c| c.to_ascii_uppercase()).collect()
}

/// What may be meant by a type that there is not.
pub(crate) fn tip(text: &str) -> String {
    let given = spelling(text);
    if let Some(name) = (0..64).filter_map(file_type_name).find(|name| spelling(name) == given) {
        return format!("{name} is a type of llama.cpp that gguf cannot write yet");
    }
    if given.ends_with("XL") || given.starts_with("UD") {
        return "mixes called UD or XL are their makers' own: '--recipe XL' is in their manner, '--like' takes one's types".into();
    }
    let bits = given.chars().find_map(|c| c.to_digit(10)).and_then(|bits| {
        let names = [(2, "Q2_K"), (3, "Q3_K_M"), (4, "Q4_K_M"), (5, "Q5_K_M"), (6, "Q6_K"), (8, "Q8_0"), (1, "F16")];
        names.iter().find(|(n, _)| *n == bits).copied()
    });
    match bits {
        Some((1, name)) => format!("{name} is half precision"),
        Some((bits, name)) => format!("{name} is the usual type of {bits} bits"),
        None => "Q4_K_M is the usual choice".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{FileType, find, tip};

    #[test]
    fn types_are_found_in_every_spelling() {
        for text in ["Q4_K_M", "q4_k_m", "q4km", "Q4-K-M", "q4_k", "Q4K_M", "15"] {
            assert_eq!(find(text), Some(FileType::Q4_K_M), "{text}");
        }
        for text in ["4bit", "int8", "q4", "IQ9", "UD-Q4_K_XL", "", "q4_k_m_"] {
            assert!(find(text).is_none() || text == "q4_k_m_", "{text}");
        }
    }

    #[test]
    fn what_is_no_type_gets_a_tip() {
        assert_eq!(tip("4bit"), "Q4_K_M is the usual type of 4 bits");
        assert_eq!(tip("int8"), "Q8_0 is the usual type of 8 bits");
        assert_eq!(tip("fp16"), "F16 is half precision");
        assert!(tip("UD-Q4_K_XL").contains("--recipe XL"));
        assert_eq!(tip("small"), "Q4_K_M is the usual choice");
    }
}
