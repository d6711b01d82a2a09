//! Which tensor gets which type in a mix: llama.cpp's rules (`llama-quant.cpp`), without importance matrix.

use super::FileType;
use crate::TensorType;

/// What the rules know of a model.
#[derive(Clone, Debug)]
pub(super) struct ModelFacts {
    pub(super) architecture: String,
    /// All blocks, those that predict further tokens included.
    pub(super) blocks: usize,
    pub(super) experts: usize,
    /// Query heads for each key-value head, in the first block; 0 without attention there.
    pub(super) heads_per_kv: usize,
    /// Whether the rules for the largest llama (80 blocks) apply.
    pub(super) seventy_billion: bool,
    /// Whether there is an output matrix of its own.
    pub(super) has_output: bool,
    /// Tensors of [`Category::Value`], `attn_qkv` and `attn_kv_b`.
    pub(super) values: usize,
}

/// What a tensor is to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Output,
    Embedding,
    /// Values, or queries, keys and values in one.
    Value,
    Key,
    AttentionOutput,
    Down,
    Other,
}

impl Category {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "output.weight" => return Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => return Self::Embedding,
            _ => {}
        }
        let parts = [
            ("attn_qkv.weight", Self::Value),
            ("attn_kv_b.weight", Self::Value),
            ("attn_v.weight", Self::Value),
            ("attn_k.weight", Self::Key),
            ("attn_q.weight", Self::Other),
            ("attn_output.weight", Self::AttentionOutput),
            ("ffn_up", Self::Other),
            ("ffn_gate", Self::Other),
            ("ffn_down", Self::Down),
        ];
        parts.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |&(_, category)| category)
    }
}

/// Applies the rules to one tensor after the other: some count those that came before.
pub(super) struct Mix {
    file_type: FileType,
    facts: ModelFacts,
    values: usize,
    downs: usize,
}

/// Whether block `i` of `n` gets more bits: the first and last eighth, and every third between.
fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

impl Mix {
    pub(super) fn new(file_type: FileType, facts: ModelFacts) -> Self {
        Self { file_type, facts, values: 0, downs: 0 }
    }

    /// The type of the next tensor, of rows of `cols` elements, and the rule that says so (none for the default).
    pub(super) fn next(&mut self, name: &str, cols: u64) -> (TensorType, Option<&'static str>) {
        let default = self.file_type.default_type();
        let category = Category::of(name);
        let rule = match category {
            Category::Output => self.output(cols),
            Category::Embedding if !self.facts.has_output => self.output(cols),
            Category::Embedding | Category::Other => None,
            Category::Value => self.value(),
            Category::Key => (self.facts.experts == 8).then_some((TensorType::Q8_0, "keys of eight experts")),
            Category::AttentionOutput => self.attention_output(),
            Category::Down => self.down(name),
        };
        rule.map_or((default, None), |(ty, why)| (ty, Some(why)))
    }

    /// Whether there is an output matrix of its own.
    pub(super) fn has_output(&self) -> bool {
        self.facts.has_output
    }

    fn is_falcon(&self) -> bool {
        self.facts.architecture == "falcon"
    }

    fn output(&self, cols: u64) -> Option<(TensorType, &'static str)> {
        let default = self.file_type.default_type();
        let block = default.block_len() as u64;
        if self.is_falcon() || !cols.is_multiple_of(block) {
            Some((TensorType::Q8_0, "output"))
        } else if default == TensorType::Q8_0 {
            None
        } else {
            Some((TensorType::Q6_K, "output"))
        }
    }

    fn value(&mut self) -> Option<(TensorType, &'static str)> {
        use FileType as F;
        use TensorType as T;
        let i = self.values;
        self.values += 1;
        let facts = &self.facts;
        let mut rule = match self.file_type {
            F::Q2_K => Some(if facts.heads_per_kv >= 4 { T::Q4_K } else { T::Q3_K }),
            F::Q3_K_M => Some(if i < 2 { T::Q5_K } else { T::Q4_K }),
            F::Q3_K_L => Some(T::Q5_K),
            F::Q4_K_M | F::Q5_K_M if more_bits(i, facts.values) => Some(T::Q6_K),
            F::Q4_K_S if i < 4 => Some(T::Q5_K),
            _ => None,
        };
        let now = rule.unwrap_or(self.file_type.default_type());
        if facts.seventy_billion && matches!(now, T::Q3_K | T::Q4_K) {
            // Eight heads share a value: more bits cost little.
            rule = Some(T::Q5_K);
        }
        if facts.experts == 8 {
            return Some((T::Q8_0, "values of eight experts"));
        }
        rule.map(|ty| (ty, "values"))
    }

    fn attention_output(&self) -> Option<(TensorType, &'static str)> {
        use FileType as F;
        use TensorType as T;
        let ty = match self.file_type {
            F::Q3_K_L if self.is_falcon() => T::Q4_K,
            _ if self.is_falcon() => return None,
            F::Q2_K | F::Q3_K_S | F::Q3_K_M | F::Q4_K_S | F::Q4_K_M if self.facts.experts == 8 => T::Q5_K,
            _ if self.facts.experts == 8 => return None,
            F::Q2_K => T::Q3_K,
            F::Q3_K_M => T::Q4_K,
            F::Q3_K_L => T::Q5_K,
            _ => return None,
        };
        Some((ty, "attention output"))
    }

    fn down(&mut self, name: &str) -> Option<(TensorType, &'static str)> {
        use FileType as F;
        use TensorType as T;
        let n = self.facts.blocks;
        // Experts are not in order of blocks: there the name counts.
        let named = || name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
        let i = if self.facts.experts > 1 { named().unwrap_or(0) } else { self.downs };
        self.downs += 1;
        let falcon = self.is_falcon();
        let ty = match self.file_type {
            F::Q2_K => T::Q3_K,
            F::Q3_K_M if i < n / 16 => T::Q5_K,
            F::Q3_K_M if falcon && !more_bits(i, n) => T::Q3_K,
            F::Q3_K_M => T::Q4_K,
            F::Q3_K_L => {
                if falcon {
                    T::Q4_K
                } else {
                    T::Q5_K
                }
            }
            F::Q4_K_S if !falcon && i < n / 8 => T::Q5_K,
            F::Q4_K_M if falcon && i < n / 16 => T::Q6_K,
            F::Q4_K_M if falcon && more_bits(i, n) => T::Q5_K,
            F::Q4_K_M if falcon => return None,
            F::Q4_K_M | F::Q5_K_M if more_bits(i, n) => T::Q6_K,
            _ => return None,
        };
        Some((ty, "ffn_down"))
    }
}

/// The type to take where rows of `cols` elements do not fill blocks of `ty`.
pub(super) fn fallback(ty: TensorType, cols: u64) -> Option<TensorType> {
    use TensorType as T;
    let fits = |ty: T| cols.is_multiple_of(ty.block_len() as u64);
    if fits(ty) {
        return None;
    }
    let smaller = match ty {
        T::Q2_K | T::Q3_K => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        other => other,
    };
    Some(if fits(smaller) { smaller } else { T::F16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_with_more_bits() {
        let of = |n| (0..n).filter(|&i| more_bits(i, n)).collect::<Vec<_>>();
        assert_eq!(of(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31].to_vec());
        assert_eq!(of(28)[..4], [0, 1, 2, 5]);
    }

    #[test]
    fn rows_that_do_not_fill_blocks() {
        assert_eq!(fallback(TensorType::Q4_K, 256), None);
        assert_eq!(fallback(TensorType::Q4_K, 96), Some(TensorType::Q5_0));
        assert_eq!(fallback(TensorType::Q6_K, 96), Some(TensorType::Q8_0));
        assert_eq!(fallback(TensorType::Q4_0, 33), Some(TensorType::F16));
    }
}
