//! One tensor of an architecture: what it is called, its shape, and how a checkpoint makes it.

use std::ops::Range;

use super::{Config, Error, Hparams, keys};

/// A tensor that a model of the family has.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRule {
    /// Name in the file.
    pub name: String,
    /// Shape in GGUF order: the dimension that is contiguous first.
    pub shape: Vec<usize>,
    /// Whether a model without it is refused.
    pub required: bool,
    /// Whether it stands in the file where the last of its neighbours of this kind does, as tensors do that the reference
    /// makes together.
    pub together: bool,
    /// Whether it is written in the type of most matrices, though tensors of its name are in single precision elsewhere.
    pub in_file_type: bool,
    /// Where conversion takes it from: the first of these that the checkpoint has.
    pub sources: Vec<Source>,
}

/// Where a tensor comes from at conversion.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// From tensors of the checkpoint: several are stacked along a new slowest dimension (experts), then each
    /// step is applied in turn.
    Checkpoint {
        /// Names in the checkpoint, without any multimodal prefix.
        names: Names,
        /// Changes, in order.
        steps: Vec<Step>,
        /// Shape of each of them, the slowest dimension first, where neither the rule's shape nor the steps tell it.
        /// Conversion takes any shape of as many elements; export writes this one.
        shape: Option<Vec<usize>>,
    },
    /// From `config.json` alone: the factors of the rotary frequencies.
    RopeFactors,
}

impl Source {
    /// From these tensors of the checkpoint, as they are.
    const fn new(names: Names) -> Self {
        Self::Checkpoint { names, steps: Vec::new(), shape: None }
    }

    /// Whether rows of heads go from two halves to pairs on the way.
    #[must_use]
    pub fn interleaves(&self) -> bool {
        match self {
            Self::Checkpoint { steps, .. } => steps.iter().any(|step| matches!(step, Step::InterleaveHalves { .. })),
            Self::RopeFactors => false,
        }
    }
}

/// Names of a checkpoint's tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum Names {
    /// One.
    One(String),
    /// Several, that are numbered: each is `before`, its number and `after`.
    Numbered {
        /// What stands before the number.
        before: String,
        /// How many there are.
        count: usize,
        /// What stands after the number.
        after: String,
    },
}

impl Names {
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = String> + '_ {
        let count = if let Self::Numbered { count, .. } = self { *count } else { 1 };
        (0..count).map(move |i| match self {
            Self::One(name) => name.clone(),
            Self::Numbered { before, after, .. } => format!("{before}{i}{after}"),
        })
    }
}

/// A change of a checkpoint's tensor on its way into a file. Rows count along the slowest dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Rows of each head go from two halves to interleaved pairs, as llama's rotary embedding wants them.
    InterleaveHalves {
        /// Heads that the rows make up.
        heads: usize,
    },
    /// Only these rows of a fused tensor.
    Rows {
        /// First row.
        start: usize,
        /// Number of rows.
        count: usize,
    },
    /// Of every `of` rows only some: all that are in the first range, then all in the second, and so on.
    RowsOfEach {
        /// Rows of a group.
        of: usize,
        /// Rows within each group.
        ranges: Vec<Range<usize>>,
    },
    /// Every second row.
    EverySecond {
        /// First row.
        start: usize,
    },
    /// Pieces that lie group by group come in another order: the first piece of every group, then the second of every group.
    Interleave {
        /// Rows before the first piece, which stay where they are.
        start: usize,
        /// Number of groups.
        groups: usize,
        /// Pieces of a group.
        each: usize,
        /// Rows of a piece.
        len: usize,
    },
    /// The step, on columns in place of rows.
    Columns(Box<Step>),
    /// Adds a constant to every element (norms stored as an offset from one).
    Add(f32),
    /// `-exp(x)` of every element (state-space decay).
    NegExp,
    /// Every element of these rows, or of all, times the number of `config.json` that is called so, or that stands at a place of
    /// the list of that name; 1 where there is none.
    Multiplier {
        /// Rows; all where it is `None`.
        rows: Option<Range<usize>>,
        /// Name of the setting.
        setting: &'static str,
        /// Place in the list, where the setting is one.
        item: usize,
    },
    /// As [`Self::Multiplier`], by this number.
    Scale {
        /// Rows; all where it is `None`.
        rows: Option<Range<usize>>,
        /// The number.
        by: f32,
    },
    /// Swaps the last two dimensions.
    Transpose,
    /// The same elements in another shape.
    Reshape,
    /// Rows that are missing at the end are zeros.
    PadRows,
}

impl Step {
    /// Every element times the number of `config.json` that is called so.
    #[must_use]
    pub const fn multiplier(setting: &'static str) -> Self {
        Self::Multiplier { rows: None, setting, item: 0 }
    }

    /// The step with the number of the settings that it names.
    ///
    /// # Errors
    /// When there is something else than a number.
    pub fn resolved(&self, config: &Config) -> Result<Self, Error> {
        match self {
            Self::Multiplier { rows, setting, item } => {
                Ok(Self::Scale { rows: rows.clone(), by: config.multiplier(setting, *item)? })
            }
            step => Ok(step.clone()),
        }
    }

    /// Takes back what the step does to numbers; steps that only move them change none.
    pub fn undo_arithmetic(&self, numbers: &mut [f32]) {
        match self {
            Self::Add(offset) => numbers.iter_mut().for_each(|x| *x -= offset),
            Self::NegExp => numbers.iter_mut().for_each(|x| *x = (-*x).ln()),
            _ => {}
        }
    }
}

impl TensorRule {
    /// A model without it is fine.
    pub fn optional(&mut self) -> &mut Self {
        self.required = false;
        self
    }

    /// It is written in the type of most matrices, whatever its name.
    pub fn in_file_type(&mut self) -> &mut Self {
        self.in_file_type = true;
        self
    }

    /// Adds a step to its making.
    pub fn step(&mut self, step: Step) -> &mut Self {
        if let Some(Source::Checkpoint { steps, .. }) = self.sources.last_mut() {
            steps.push(step);
        }
        self
    }

    /// Adds steps to its making.
    pub fn steps(&mut self, steps: &[Step]) -> &mut Self {
        steps.iter().cloned().fold(self, Self::step)
    }

    /// Other checkpoints hold it as the tensor `name`; steps that follow act on that.
    pub fn or(&mut self, name: impl Into<String>) -> &mut Self {
        self.sources.push(Source::new(Names::One(name.into())));
        self
    }

    /// Checkpoints hold it in this shape, the slowest dimension first.
    pub fn stored_as(&mut self, shape: &[usize]) -> &mut Self {
        if let Some(Source::Checkpoint { shape: stored, .. }) = self.sources.last_mut() {
            *stored = Some(shape.to_vec());
        }
        self
    }
}

/// Collects the rules of a family.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<TensorRule>,
    /// Prefix of the blocks' tensors in a checkpoint, before the number.
    blocks: &'static str,
}

impl Rules {
    /// The embedding, the final norm and the output matrix (optional: it may be the embedding) under their usual
    /// names, and blocks under `model.layers.`.
    #[must_use]
    pub fn new(h: &Hparams) -> Self {
        let mut rules = Self { rules: Vec::new(), blocks: "model.layers." };
        let matrix = [h.embedding_length, h.vocab_size];
        rules.add("token_embd.weight", &matrix, "model.embed_tokens.weight");
        rules.add("output_norm.weight", &[h.embedding_length], "model.norm.weight");
        rules.add("output.weight", &matrix, "lm_head.weight").optional();
        rules
    }

    /// A norm of `len` elements: `name.weight`, and `name.bias`, which may be missing.
    pub fn norm(&mut self, name: &str, len: usize, source: &str) {
        self.add(format!("{name}.weight"), &[len], format!("{source}.weight"));
        self.add(format!("{name}.bias"), &[len], format!("{source}.bias")).optional();
    }

    /// No rules yet; blocks are under the prefix `blocks`.
    #[must_use]
    pub fn with_blocks(blocks: &'static str) -> Self {
        Self { rules: Vec::new(), blocks }
    }

    /// A tensor of one in the checkpoint.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], source: impl Into<String>) -> &mut TensorRule {
        self.add_named(name, shape, Names::One(source.into()))
    }

    /// A tensor of those in the checkpoint that `names` says, stacked.
    pub fn add_named(&mut self, name: impl Into<String>, shape: &[usize], names: Names) -> &mut TensorRule {
        let sources = vec![Source::new(names)];
        self.rules.push(TensorRule {
            name: name.into(),
            shape: shape.to_vec(),
            required: true,
            together: false,
            in_file_type: false,
            sources,
        });
        let last = self.rules.len() - 1;
        &mut self.rules[last]
    }

    /// Factors of the rotary frequencies, made from the configuration; a model may have none.
    pub fn add_rope_factors(&mut self, name: &str, pairs: usize) {
        let sources = vec![Source::RopeFactors];
        self.rules.push(TensorRule {
            name: name.to_owned(),
            shape: vec![pairs],
            required: false,
            together: false,
            in_file_type: false,
            sources,
        });
    }

    /// Adds steps to the making of a tensor that is there already.
    pub fn steps_of(&mut self, name: &str, steps: &[Step]) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.name == name) {
            rule.steps(steps);
        }
    }

    /// Other checkpoints hold a tensor that is there already as the tensor `source`.
    pub fn or_of(&mut self, name: &str, source: &str) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.name == name) {
            rule.or(source);
        }
    }

    /// The tensors of block `index`.
    pub fn block(&mut self, index: usize) -> BlockRules<'_> {
        let source = format!("{}{index}.", self.blocks);
        BlockRules { rules: self, prefix: format!("blk.{index}."), source }
    }

    /// The tensors of block `index`, which a checkpoint has under the prefix `source`.
    pub fn block_from(&mut self, index: usize, source: &str) -> BlockRules<'_> {
        BlockRules { rules: self, prefix: format!("blk.{index}."), source: source.to_owned() }
    }

    /// All rules.
    #[must_use]
    pub fn finish(self) -> Vec<TensorRule> {
        self.rules
    }
}

/// Collects the rules of one block.
pub struct BlockRules<'a> {
    rules: &'a mut Rules,
    prefix: String,
    source: String,
}

impl BlockRules<'_> {
    /// `name.weight`, from `source.weight` of the block.
    pub fn weight(&mut self, name: &str, shape: &[usize], source: &str) -> &mut TensorRule {
        let (name, source) = (format!("{}{name}.weight", self.prefix), format!("{}{source}.weight", self.source));
        self.rules.add(name, shape, source)
    }

    /// A tensor whose names are given in full.
    pub fn tensor(&mut self, name: &str, shape: &[usize], source: &str) -> &mut TensorRule {
        let (name, source) = (format!("{}{name}", self.prefix), format!("{}{source}", self.source));
        self.rules.add(name, shape, source)
    }

    /// A norm of `len` elements: `name.weight`, and `name.bias`, which may be missing.
    pub fn norm(&mut self, name: &str, len: usize, source: &str) {
        let (name, source) = (format!("{}{name}", self.prefix), format!("{}{source}", self.source));
        self.rules.norm(&name, len, &source);
    }

    /// `name.weight`, stacked from `count` tensors `source.N.weight`.
    pub fn stack(&mut self, name: &str, shape: &[usize], count: usize, source: &str) -> &mut TensorRule {
        let before = format!("{}{source}.", self.source);
        let names = Names::Numbered { before, count, after: ".weight".into() };
        self.rules.add_named(format!("{}{name}.weight", self.prefix), shape, names)
    }

    /// `name.weight`, `[cols, rows]`, and `name.bias`, which may be missing; `steps` act on both.
    pub fn linear(&mut self, name: &str, shape: [usize; 2], source: &str, steps: &[Step]) {
        for (part, shape, required) in [("weight", &shape[..], true), ("bias", &shape[1..], false)] {
            let rule = self.tensor(&format!("{name}.{part}"), shape, &format!("{source}.{part}"));
            rule.required = required;
            rule.steps(steps);
        }
    }

    /// A causal convolution of `taps` positions for each channel: `name.weight`, `[taps, channels]`, and `name.bias`, which
    /// may be missing.
    pub fn convolution(&mut self, name: &str, taps: usize, channels: usize, source: &str) {
        self.weight(name, &[taps, channels], source).stored_as(&[channels, 1, taps]);
        self.tensor(&format!("{name}.bias"), &[channels], &format!("{source}.bias")).optional();
    }

    /// Query, key, value and output projection under their usual names. `interleave` where the rotary embedding
    /// turns neighbours.
    pub fn attention(&mut self, h: &Hparams, index: usize, interleave: bool) {
        let (d, heads, kv_heads) = (h.embedding_length, h.head_count[index], h.head_count_kv[index]);
        let steps = |heads: usize| if interleave { vec![Step::InterleaveHalves { heads }] } else { Vec::new() };
        self.linear("attn_q", [d, heads * h.key_length], "self_attn.q_proj", &steps(heads));
        self.linear("attn_k", [d, kv_heads * h.key_length], "self_attn.k_proj", &steps(kv_heads));
        self.linear("attn_v", [d, kv_heads * h.value_length], "self_attn.v_proj", &[]);
        self.linear("attn_output", [heads * h.value_length, d], "self_attn.o_proj", &[]);
    }

    /// Query, key and value projection, which a checkpoint has as rows of the one tensor `source`, one kind behind the other.
    pub fn fused_attention(&mut self, h: &Hparams, index: usize, source: &str, interleave: bool) {
        let (d, heads, kv_heads) = (h.embedding_length, h.head_count[index], h.head_count_kv[index]);
        let mut start = 0;
        for (name, heads, length, turned) in [
            ("attn_q", heads, h.key_length, interleave),
            ("attn_k", kv_heads, h.key_length, interleave),
            ("attn_v", kv_heads, h.value_length, false),
        ] {
            let count = heads * length;
            let mut steps = vec![Step::Rows { start, count }];
            steps.extend(turned.then_some(Step::InterleaveHalves { heads }));
            self.linear(name, [d, count], source, &steps);
            start += count;
        }
    }

    /// Gate, up and down of a dense feed-forward part under their usual names.
    pub fn gated_ffn(&mut self, embedding: usize, hidden: usize, source: &str) {
        self.linear("ffn_gate", [embedding, hidden], &format!("{source}.gate_proj"), &[]);
        self.linear("ffn_up", [embedding, hidden], &format!("{source}.up_proj"), &[]);
        self.linear("ffn_down", [hidden, embedding], &format!("{source}.down_proj"), &[]);
    }

    /// Up and down of a dense feed-forward part without gate.
    pub fn plain_ffn(&mut self, embedding: usize, hidden: usize, up: &str, down: &str) {
        self.linear("ffn_up", [embedding, hidden], up, &[]);
        self.linear("ffn_down", [hidden, embedding], down, &[]);
    }

    /// Gate, up and down of `count` experts, each a tensor of its own in the checkpoint
    /// (`source.N.gate.weight` and so on, with the given names of the three), or all of them in the two tensors
    /// `source.gate_up_proj` and `source.down_proj`, or stacked by MLX in `switch_mlp` beside them.
    pub fn experts(&mut self, embedding: usize, hidden: usize, count: usize, source: &str, names: [&str; 3]) {
        let parts = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
        let prefix = self.source.clone();
        let shapes = [[embedding, hidden], [embedding, hidden], [hidden, embedding]];
        for (i, ((part, name), [cols, rows])) in parts.into_iter().zip(names).zip(shapes).enumerate() {
            let before = format!("{}{source}.", self.source);
            let names = Names::Numbered { before, count, after: format!(".{name}.weight") };
            let fused = format!("{}{source}.{}", self.source, ["gate_up_proj", "gate_up_proj", "down_proj"][i]);
            let rule = self.rules.add_named(format!("{}{part}.weight", self.prefix), &[cols, rows, count], names);
            rule.or(fused);
            if i < 2 {
                let half = i * hidden..(i + 1) * hidden;
                rule.step(Step::RowsOfEach { of: 2 * hidden, ranges: vec![half] });
            }
            // MLX keeps each of the three stacked.
            let part = ["gate_proj", "up_proj", "down_proj"][i];
            let beside = source.strip_suffix("experts").unwrap_or(source);
            rule.or(format!("{prefix}{beside}switch_mlp.{part}.weight"));
        }
    }

    /// Gate and up of `count` experts in one tensor, `gate_up` in the checkpoint, and `down`; both rules are returned.
    pub fn joint_experts(
        &mut self,
        embedding: usize,
        hidden: usize,
        count: usize,
        gate_up: &str,
        down: &str,
    ) -> [&mut TensorRule; 2] {
        self.tensor("ffn_gate_up_exps.weight", &[embedding, 2 * hidden, count], gate_up);
        self.tensor("ffn_down_exps.weight", &[hidden, embedding, count], down);
        let first = self.rules.rules.len() - 2;
        let (both, down) = self.rules.rules[first..].split_at_mut(1);
        [&mut both[0], &mut down[0]]
    }

    /// Adds rules of tensors that a model may lack.
    pub fn optionally(&mut self, add: impl FnOnce(&mut Self)) {
        let first = self.rules.rules.len();
        add(self);
        self.rules.rules[first..].iter_mut().for_each(|rule| rule.required = false);
    }

    /// The router `source.gate` and the experts `source.experts`.
    pub fn routed_experts(&mut self, embedding: usize, hidden: usize, count: usize, source: &str) {
        self.weight("ffn_gate_inp", &[embedding, count], &format!("{source}.gate"));
        let names = ["gate_proj", "up_proj", "down_proj"];
        self.experts(embedding, hidden, count, &format!("{source}.experts"), names);
    }

    /// What DeepSeek's kind has behind its dense blocks: routed experts, whose choice a bias may correct, and `shared`
    /// experts that all tokens pass, all under `mlp`.
    ///
    /// # Errors
    /// When a hyper-parameter is missing or impossible.
    pub fn corrected_experts(&mut self, h: &Hparams, shared: usize) -> Result<(), Error> {
        let (d, hidden) = (h.embedding_length, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
        let experts = h.positive(keys::EXPERT_COUNT)?;
        self.routed_experts(d, hidden, experts, "mlp");
        self.tensor("exp_probs_b.bias", &[experts], "mlp.gate.e_score_correction_bias").optional();
        if shared > 0 {
            self.shared_expert(d, hidden * shared, "mlp.shared_experts");
        }
        Ok(())
    }

    /// `source.shared_expert`, and the gate that weighs it.
    pub fn gated_shared_expert(&mut self, embedding: usize, hidden: usize, source: &str) {
        self.shared_expert(embedding, hidden, &format!("{source}.shared_expert"));
        self.weight("ffn_gate_inp_shexp", &[embedding, 1], &format!("{source}.shared_expert_gate"));
    }

    /// As [`Self::experts`], all of which stand in files where the last of them does.
    pub fn joined_experts(&mut self, embedding: usize, hidden: usize, count: usize, source: &str, names: [&str; 3]) {
        self.experts(embedding, hidden, count, source, names);
        self.rules.rules.iter_mut().rev().take(names.len()).for_each(|rule| rule.together = true);
    }

    /// Gate, up and down of a part that all tokens share, beside experts.
    pub fn shared_expert(&mut self, embedding: usize, hidden: usize, source: &str) {
        self.linear("ffn_gate_shexp", [embedding, hidden], &format!("{source}.gate_proj"), &[]);
        self.linear("ffn_up_shexp", [embedding, hidden], &format!("{source}.up_proj"), &[]);
        self.linear("ffn_down_shexp", [hidden, embedding], &format!("{source}.down_proj"), &[]);
    }

    /// As [`Self::experts`], any of which a checkpoint may lack.
    pub fn optional_experts(&mut self, embedding: usize, hidden: usize, count: usize, source: &str, names: [&str; 3]) {
        self.experts(embedding, hidden, count, source, names);
        self.rules.rules.iter_mut().rev().take(names.len()).for_each(|rule| rule.required = false);
    }

    /// Up and down of `count` experts without gates, each a tensor of its own in the checkpoint, or all stacked in one.
    pub fn plain_experts(&mut self, embedding: usize, hidden: usize, count: usize, source: &str) {
        for (name, part, [cols, rows]) in
            [("ffn_down_exps", "down_proj", [hidden, embedding]), ("ffn_up_exps", "up_proj", [embedding, hidden])]
        {
            let before = format!("{}{source}.", self.source);
            let stacked = format!("{before}{part}");
            let names = Names::Numbered { before, count, after: format!(".{part}.weight") };
            self.rules.add_named(format!("{}{name}.weight", self.prefix), &[cols, rows, count], names).or(stacked);
        }
    }

    /// What joins a block that predicts further tokens to the model: for each tensor its full name in the checkpoint.
    /// `steps` are those of norms.
    pub fn prediction(&mut self, h: &Hparams, name: impl Fn(&str) -> String, steps: &[Step]) {
        let d = h.embedding_length;
        let prefix = format!("{}nextn.", self.prefix);
        let mut add = |part: &str, shape: &[usize]| {
            self.rules.add(format!("{prefix}{part}.weight"), shape, format!("{}.weight", name(part))).optional();
        };
        add("eh_proj", &[2 * d, d]);
        add("embed_tokens", &[d, h.vocab_size]);
        add("shared_head_head", &[d, h.vocab_size]);
        for norm in ["enorm", "hnorm", "shared_head_norm"] {
            let rule = format!("{prefix}{norm}.weight");
            self.rules.add(rule, &[d], format!("{}.weight", name(norm))).optional().steps(steps);
        }
    }

    /// The norms of all query heads together and of all key heads together.
    pub fn whole_norms(&mut self, h: &Hparams, index: usize) {
        self.weight("attn_q_norm", &[h.head_count[index] * h.key_length], "self_attn.q_norm");
        self.weight("attn_k_norm", &[h.head_count_kv[index] * h.key_length], "self_attn.k_norm");
    }

    /// The norms of query and key heads, where a family has them.
    pub fn head_norms(&mut self, h: &Hparams, query: &str, key: &str) {
        self.weight("attn_q_norm", &[h.key_length], query);
        self.weight("attn_k_norm", &[h.key_length], key);
    }
}
