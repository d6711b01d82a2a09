//! The types of tensors in a mix, by llama.cpp's rules (`llama-quant.cpp`).

use super::FileType;
use crate::TensorType;
use crate::gguf::layer_of;

/// The facts about a model that the rules use.
#[derive(Clone, Debug)]
pub(super) struct ModelFacts {
    pub(super) architecture: String,
    /// All layers, MTP layers included.
    pub(super) layers: usize,
    pub(super) experts: usize,
    /// Query heads per key-value head in the first layer; 0 if it has no attention.
    pub(super) heads_per_kv: usize,
    /// Whether the rules for the largest Llama (80 layers) apply.
    pub(super) seventy_billion: bool,
    /// Whether there is an importance matrix.
    pub(super) has_importance: bool,
    /// Whether there is an output matrix of its own.
    pub(super) has_output: bool,
    /// Tensors of [`Category::Value`], `attn_qkv` and `attn_kv_b`.
    pub(super) values: usize,
}

/// The category of a tensor in the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Output,
    Embedding,
    /// Values, or queries, keys and values in one.
    Value,
    Key,
    Query,
    AttentionOutput,
    Up,
    Gate,
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
            ("attn_q.weight", Self::Query),
            ("attn_output.weight", Self::AttentionOutput),
            ("ffn_up", Self::Up),
            ("ffn_gate", Self::Gate),
            ("ffn_down", Self::Down),
        ];
        parts.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |&(_, category)| category)
    }
}

/// Applies the rules to one tensor after the other; some rules count earlier tensors.
pub(super) struct Mix {
    file_type: FileType,
    facts: ModelFacts,
    values: usize,
    ups: usize,
    gates: usize,
    downs: usize,
}

/// Whether layer `i` of `n` gets more bits: the first and last eighth, and every third in between.
fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

type Rule = Option<(TensorType, &'static str)>;

impl Mix {
    pub(super) fn new(file_type: FileType, facts: ModelFacts) -> Self {
        Self { file_type, facts, values: 0, ups: 0, gates: 0, downs: 0 }
    }

    /// The type of the next tensor, of this shape, and the rule that says so (none for the default).
    pub(super) fn next(&mut self, name: &str, shape: &[u64]) -> (TensorType, Option<&'static str>) {
        let default = self.file_type.default_type();
        let category = Category::of(name);
        let cols = shape.first().copied().unwrap_or(1);
        let rule = match category {
            Category::Output => self.output(cols),
            Category::Embedding if !self.facts.has_output => self.output(cols),
            _ if self.file_type == FileType::MXFP4_MOE => {
                let experts = shape.get(2).is_some_and(|&experts| experts > 1);
                if experts { None } else { Some((TensorType::Q8_0, "not of experts")) }
            }
            Category::Embedding => self.embedding(),
            _ if self.is_below_three_bits() => self.below_three_bits(category),
            Category::Value => self.value(),
            Category::Key if self.facts.experts == 8 => Some((TensorType::Q8_0, "keys of eight experts")),
            Category::Key | Category::Query => match self.file_type {
                FileType::IQ3_XS => Some((TensorType::IQ3_XXS, "queries and keys")),
                FileType::IQ3_XXS => Some((TensorType::IQ2_S, "queries and keys")),
                _ => None,
            },
            Category::AttentionOutput => self.attention_output(),
            Category::Down => self.down(name),
            Category::Gate | Category::Up => self.gate_or_up(category, name),
            Category::Other => None,
        };
        rule.map_or((default, None), |(ty, why)| (ty, Some(why)))
    }

    /// Whether there is an output matrix of its own.
    pub(super) fn has_output(&self) -> bool {
        self.facts.has_output
    }

    /// Layers of the model.
    pub(super) fn layers(&self) -> usize {
        self.facts.layers
    }

    fn is_falcon(&self) -> bool {
        self.facts.architecture == "falcon"
    }

    /// The IQ1 and IQ2 mixes, which have rules of their own.
    fn is_below_three_bits(&self) -> bool {
        use FileType as F;
        matches!(self.file_type, F::IQ1_S | F::IQ1_M | F::IQ2_XXS | F::IQ2_XS | F::IQ2_S | F::IQ2_M)
    }

    fn output(&self, cols: u64) -> Rule {
        let default = self.file_type.default_type();
        let block = default.block_len() as u64;
        let ty = if self.file_type == FileType::MXFP4_MOE || self.is_falcon() || !cols.is_multiple_of(block) {
            TensorType::Q8_0
        } else if self.is_below_three_bits() || self.file_type == FileType::IQ3_XXS {
            TensorType::Q5_K
        } else if default == TensorType::Q8_0 {
            return None;
        } else {
            TensorType::Q6_K
        };
        Some((ty, "output"))
    }

    /// The rule for a token embedding that is not the output matrix.
    fn embedding(&self) -> Rule {
        use FileType as F;
        let ty = match self.file_type {
            F::IQ2_XXS | F::IQ2_XS | F::IQ1_S | F::IQ1_M => TensorType::Q2_K,
            F::IQ2_S | F::IQ2_M | F::IQ3_XXS => TensorType::IQ3_S,
            F::TQ1_0 | F::TQ2_0 | F::Q2_0 => TensorType::Q4_K,
            _ => return None,
        };
        Some((ty, "token embedding"))
    }

    fn below_three_bits(&mut self, category: Category) -> Rule {
        use FileType as F;
        use TensorType as T;
        let two_and_a_half = matches!(self.file_type, F::IQ2_S | F::IQ2_M);
        let better = if two_and_a_half { T::IQ3_S } else { T::Q2_K };
        let facts = &self.facts;
        match category {
            Category::Value => {
                let many = facts.heads_per_kv >= 4 || facts.experts >= 4;
                Some((if many { T::Q4_K } else { better }, "values"))
            }
            Category::Key if facts.experts == 8 => Some((T::Q4_K, "keys of eight experts")),
            Category::Down => {
                let i = self.downs;
                self.downs += 1;
                (i < facts.layers / 8).then_some((better, "ffn_down"))
            }
            Category::AttentionOutput => {
                let ty = match self.file_type {
                    _ if facts.experts == 8 => T::Q5_K,
                    F::IQ1_S | F::IQ1_M => T::IQ2_XXS,
                    _ if two_and_a_half => T::IQ3_S,
                    _ => return None,
                };
                Some((ty, "attention output"))
            }
            _ => None,
        }
    }

    fn value(&mut self) -> Rule {
        use FileType as F;
        use TensorType as T;
        let i = self.values;
        self.values += 1;
        let facts = &self.facts;
        let shared = facts.heads_per_kv >= 4;
        let mut rule = match self.file_type {
            F::Q2_K => Some(if shared { T::Q4_K } else { T::Q3_K }),
            F::Q2_K_S | F::IQ3_XXS | F::IQ3_XS | F::IQ3_S if shared => Some(T::Q4_K),
            F::IQ3_XXS if !facts.has_importance => Some(T::IQ3_S),
            F::IQ3_M => Some(T::Q4_K),
            F::Q3_K_M => Some(if i < 2 { T::Q5_K } else { T::Q4_K }),
            F::Q3_K_L => Some(T::Q5_K),
            F::IQ4_NL | F::IQ4_XS if shared => Some(T::Q5_K),
            F::Q4_K_M | F::Q5_K_M if more_bits(i, facts.values) => Some(T::Q6_K),
            F::Q4_K_S if i < 4 => Some(T::Q5_K),
            _ => None,
        };
        let now = rule.unwrap_or(self.file_type.default_type());
        if facts.seventy_billion && matches!(now, T::Q3_K | T::Q4_K) {
            // Eight heads share a value head, so that more bits cost little.
            rule = Some(T::Q5_K);
        }
        if facts.experts == 8 {
            return Some((T::Q8_0, "values of eight experts"));
        }
        rule.map(|ty| (ty, "values"))
    }

    fn attention_output(&self) -> Rule {
        use FileType as F;
        use TensorType as T;
        let ty = match self.file_type {
            F::Q3_K_L if self.is_falcon() => T::Q4_K,
            _ if self.is_falcon() => return None,
            F::Q2_K
            | F::Q3_K_S
            | F::Q3_K_M
            | F::Q4_K_S
            | F::Q4_K_M
            | F::IQ3_XXS
            | F::IQ3_XS
            | F::IQ3_S
            | F::IQ3_M
            | F::IQ4_NL
            | F::IQ4_XS
                if self.facts.experts == 8 =>
            {
                T::Q5_K
            }
            _ if self.facts.experts == 8 => return None,
            F::Q2_K => T::Q3_K,
            F::IQ3_XXS => T::IQ3_S,
            F::Q3_K_M | F::IQ3_M => T::Q4_K,
            F::Q3_K_L => T::Q5_K,
            _ => return None,
        };
        Some((ty, "attention output"))
    }

    /// The layer of a tensor, after `seen` tensors of the same kind.
    fn layer(&self, name: &str, seen: usize) -> usize {
        // Experts are not in order of blocks: there the name counts.
        if self.facts.experts > 1 { layer_of(name).unwrap_or(0) } else { seen }
    }

    fn down(&mut self, name: &str) -> Rule {
        use FileType as F;
        use TensorType as T;
        let n = self.facts.layers;
        let i = self.layer(name, self.downs);
        self.downs += 1;
        let (falcon, first_eighth) = (self.is_falcon(), i < n / 8);
        let (eight_experts, has_importance) = (self.facts.experts == 8, self.facts.has_importance);
        let ty = match self.file_type {
            F::Q2_K => T::Q3_K,
            F::Q2_K_S if first_eighth => T::Q4_K,
            F::IQ3_XXS if !has_importance => {
                if first_eighth {
                    T::Q4_K
                } else {
                    T::Q3_K
                }
            }
            F::Q3_K_M if i < n / 16 => T::Q5_K,
            F::Q3_K_M if falcon && !more_bits(i, n) => T::Q3_K,
            F::Q3_K_M => T::Q4_K,
            F::IQ3_M if first_eighth || eight_experts && more_bits(i, n) => T::Q4_K,
            F::Q3_K_L => {
                if falcon {
                    T::Q4_K
                } else {
                    T::Q5_K
                }
            }
            F::Q4_K_S if !falcon && first_eighth => T::Q5_K,
            F::Q4_K_M if falcon && i < n / 16 => T::Q6_K,
            F::Q4_K_M if falcon && more_bits(i, n) => T::Q5_K,
            F::Q4_K_M if falcon => return None,
            F::Q4_K_M | F::Q5_K_M if more_bits(i, n) => T::Q6_K,
            F::IQ4_NL | F::IQ4_XS if first_eighth && !has_importance => T::Q5_K,
            // Only with importance, as in llama-quantize.
            F::Q4_0 if first_eighth && has_importance => T::Q4_1,
            F::Q5_0 if first_eighth && has_importance => T::Q5_1,
            _ => return None,
        };
        Some((ty, "ffn_down"))
    }

    fn gate_or_up(&mut self, category: Category, name: &str) -> Rule {
        let gate = category == Category::Gate;
        let i = self.layer(name, if gate { self.gates } else { self.ups });
        *(if gate { &mut self.gates } else { &mut self.ups }) += 1;
        let n = self.facts.layers;
        let middle = (n / 8..7 * n / 8).contains(&i);
        (self.file_type == FileType::IQ3_XS && middle).then_some((TensorType::IQ3_XXS, "ffn_gate and ffn_up"))
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
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S | T::IQ4_XS => T::IQ4_NL,
        T::Q2_0 | T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
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
    fn layers_with_more_bits() {
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
