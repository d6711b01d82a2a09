//! Recipes: mixes in text files. A base mix, then rules that give tensors of some layers a type. `docs/recipes.md` describes
//! the format.

mod parse;

use std::path::Path;

use super::{Error, FileType, Source};
use crate::TensorType;
use crate::files::read_whole;
use crate::gguf::{layer_of, part_of};

/// Maximum bytes of a file.
const MAX_BYTES: u64 = 16 << 20;

/// The recipes that are part of this program.
const SHIPPED: &[&str] = &[
    include_str!("shipped/XL.recipe"),
    include_str!("shipped/Q8_0-attention.recipe"),
    include_str!("shipped/edges.recipe"),
    include_str!("shipped/experts.recipe"),
];

/// Types of the same kind, from few bits to many, for steps up and down. The first ladder with a type is used.
const LADDERS: &[&[TensorType]] = {
    use TensorType as T;
    &[
        &[T::Q2_K, T::Q3_K, T::Q4_K, T::Q5_K, T::Q6_K, T::Q8_0, T::F16],
        &[
            T::IQ1_S,
            T::IQ1_M,
            T::IQ2_XXS,
            T::IQ2_XS,
            T::IQ2_S,
            T::IQ3_XXS,
            T::IQ3_S,
            T::IQ4_XS,
            T::Q5_K,
            T::Q6_K,
            T::Q8_0,
        ],
        &[T::Q4_0, T::Q5_0, T::Q8_0, T::F16],
        &[T::Q4_1, T::Q5_1, T::Q8_0, T::F16],
        &[T::TQ1_0, T::TQ2_0, T::Q4_K, T::Q5_K, T::Q6_K, T::Q8_0],
        &[T::IQ4_NL, T::Q5_K, T::Q6_K, T::Q8_0],
        &[T::MXFP4, T::Q5_K, T::Q6_K, T::Q8_0],
    ]
};

/// A mix that a file describes.
#[derive(Clone, Debug)]
pub struct Recipe {
    name: String,
    about: String,
    base: FileType,
    pure: bool,
    rules: Vec<Rule>,
}

/// A rule: which tensors get which type.
#[derive(Clone, Debug)]
struct Rule {
    /// Its line in the file, from 1.
    line: usize,
    tensors: Vec<Selector>,
    /// The layers of the rule; `None` for all tensors, including those outside layers.
    layers: Option<Vec<Span>>,
    ty: RuleType,
}

/// Tensors by name, with `*` for any characters.
#[derive(Clone, Debug)]
struct Selector {
    pattern: String,
    /// Whether it selects the output matrix, which may be the token embedding (tied models).
    is_output: bool,
}

/// Some layers of a model.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// From the first to the last, inclusive.
    Range(usize, usize),
    /// The first fraction of them: numerator and denominator.
    First(usize, usize),
    /// The last fraction of them.
    Last(usize, usize),
    /// Every n-th, from the first on.
    Every(usize),
}

impl Span {
    fn contains(self, layer: usize, layers: usize) -> bool {
        match self {
            Self::Range(from, to) => (from..=to).contains(&layer),
            Self::First(part, of) => layer < layers.saturating_mul(part) / of,
            Self::Last(part, of) => layer >= layers.saturating_mul(of - part) / of,
            Self::Every(step) => layer.is_multiple_of(step),
        }
    }
}

/// The type that a rule gives.
#[derive(Clone, Copy, Debug)]
enum RuleType {
    Type(TensorType),
    /// Steps from the base's type to one with more (or fewer) bits.
    Steps(isize),
    /// The type of the source.
    Keep,
}

impl RuleType {
    fn apply(self, base: TensorType, source: TensorType) -> TensorType {
        match self {
            Self::Type(ty) => ty,
            Self::Keep => source,
            Self::Steps(steps) => {
                let place =
                    |ladder: &&'static [TensorType]| ladder.iter().position(|&ty| ty == base).map(|at| (*ladder, at));
                let Some((ladder, at)) = LADDERS.iter().find_map(place) else { return base };
                ladder[at.saturating_add_signed(steps).min(ladder.len() - 1)]
            }
        }
    }
}

/// What rules need to know of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorQuery<'a> {
    pub(super) name: &'a str,
    /// Layers of the model.
    pub(super) layers: usize,
    /// Whether the model has an output matrix of its own.
    pub(super) has_output: bool,
}

impl Recipe {
    /// Parses the `text` of a recipe; messages name it `path`.
    ///
    /// # Errors
    /// [`Error::Recipe`] with line and column of what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        parse::parse(path, text)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or as [`parse`](Self::parse).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_whole(path, MAX_BYTES);
        let bytes = bytes.map_err(crate::gguf::Error::from)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(path, text),
            Err(e) => {
                let line = bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
                let problem = "is not UTF-8".to_owned();
                Err(Error::Recipe { path: path.to_owned(), line, column: 1, problem })
            }
        }
    }

    /// The recipes that are part of this program.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn shipped() -> Vec<Self> {
        SHIPPED.iter().map(|text| Self::parse(Path::new("shipped"), text).expect("a shipped recipe is valid")).collect()
    }

    /// The shipped recipe with this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::shipped().into_iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name))
    }

    /// Its name: from the file, or the file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A description of one line; may be empty.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The mix of all tensors without a rule.
    #[must_use]
    pub fn base(&self) -> FileType {
        self.base
    }

    /// Whether these tensors all get the base's default type, without the rules of that mix.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        self.pure
    }

    /// Lines of the rules that select none of the tensors of `source`, regardless of layers.
    #[must_use]
    pub fn unused(&self, source: &dyn Source) -> Vec<usize> {
        let has_output = source.tensors().iter().any(|tensor| tensor.name == "output.weight");
        let is_used = |rule: &Rule| source.tensors().iter().any(|tensor| rule.names(&tensor.name, has_output));
        self.rules.iter().filter(|rule| !is_used(rule)).map(|rule| rule.line).collect()
    }

    /// The type of a tensor to which the base mix gives `base`, and the line of the rule; `None` if no rule selects it.
    pub(super) fn choose(
        &self,
        query: TensorQuery<'_>,
        base: TensorType,
        source: TensorType,
    ) -> Option<(TensorType, usize)> {
        let rule = self.rules.iter().find(|rule| rule.is_for(query))?;
        Some((rule.ty.apply(base, source), rule.line))
    }
}

impl Rule {
    fn names(&self, name: &str, has_output: bool) -> bool {
        let short = short_name(name);
        self.tensors.iter().any(|selector| {
            selector.is_output && !has_output && name == "token_embd.weight"
                || matches_glob(&selector.pattern, name)
                || matches_glob(&selector.pattern, short)
        })
    }

    fn is_for(&self, query: TensorQuery<'_>) -> bool {
        let in_layers = |spans: &[Span]| {
            layer_of(query.name).is_some_and(|layer| spans.iter().any(|span| span.contains(layer, query.layers)))
        };
        self.names(query.name, query.has_output) && self.layers.as_deref().is_none_or(in_layers)
    }
}

/// `attn_v` of `blk.3.attn_v.weight`.
fn short_name(name: &str) -> &str {
    let part = part_of(name);
    part.strip_suffix(".weight").unwrap_or(part)
}

/// Whether `text` is `pattern`, in which `*` stands for any characters. Takes time in proportion to the product of both
/// lengths at most.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last star, and how much of the text it matches.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        Recipe::parse(Path::new("my.recipe"), text).expect("valid")
    }

    /// The type of a tensor of 16 layers in Q4_K_M's most usual type, from F16.
    fn ty(recipe: &Recipe, name: &str) -> Option<TensorType> {
        let query = TensorQuery { name, layers: 16, has_output: false };
        recipe.choose(query, TensorType::Q4_K, TensorType::F16).map(|(ty, _)| ty)
    }

    #[test]
    fn shipped_recipes_are_valid_and_found_by_name() {
        for recipe in Recipe::shipped() {
            assert!(!recipe.about().is_empty());
            assert_eq!(Recipe::named(&recipe.name().to_lowercase()).expect("found").name(), recipe.name());
        }
        assert!(Recipe::named("shipped").is_none());
    }

    #[test]
    fn the_first_rule_that_is_for_a_tensor_counts() {
        let recipe = recipe(
            "base: Q4_K_M\n\
             blk.2.attn_v.weight = F16   # one tensor\n\
             attn_v attn_k in 0-2, last 1/8 = Q8_0\n\
             attention = +1\n\
             ffn_* in every 4 = -1\n\
             experts = keep\n\
             output = Q6_K\n",
        );
        use TensorType as T;
        for (name, expected) in [
            ("blk.2.attn_v.weight", Some(T::F16)),
            ("blk.1.attn_k.weight", Some(T::Q8_0)),
            ("blk.3.attn_k.weight", Some(T::Q5_K)),
            ("blk.13.attn_k.weight", Some(T::Q5_K)),
            ("blk.14.attn_k.weight", Some(T::Q8_0)),
            ("blk.4.ffn_up.weight", Some(T::Q3_K)),
            ("blk.5.ffn_up.weight", None),
            ("blk.5.ffn_up_exps.weight", Some(T::F16)),
            ("token_embd.weight", Some(T::Q6_K)),
            ("other.weight", None),
        ] {
            assert_eq!(ty(&recipe, name), expected, "{name}");
        }
        assert_eq!((recipe.base(), recipe.is_pure(), recipe.name()), (FileType::Q4_K_M, false, "my"));
    }

    #[test]
    fn steps_end_at_the_ends() {
        assert_eq!(RuleType::Steps(9).apply(TensorType::Q4_0, TensorType::F32), TensorType::F16);
        assert_eq!(RuleType::Steps(-9).apply(TensorType::IQ4_XS, TensorType::F32), TensorType::IQ1_S);
        assert_eq!(RuleType::Steps(1).apply(TensorType::F32, TensorType::F32), TensorType::F32);
        assert_eq!(RuleType::Steps(0).apply(TensorType::Q4_K, TensorType::F32), TensorType::Q4_K);
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "axbxb", true),
            ("a*b", "axbx", false),
            ("*_exps*", "ffn_up_exps", true),
            ("ab", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(matches_glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
