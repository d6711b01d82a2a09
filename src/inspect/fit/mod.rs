//! Whether a model fits into this machine's memory, and how fast it would run: estimated from its header and a short
//! measurement of the machine, before any weight is read. Used by `gguf inspect --fit` and the first screen.

mod speed;

pub use speed::Machine;

use super::NotUsable;
use crate::cpu::{KvType, SequenceOptions};
use crate::formats;
use crate::gguf::Reader;
use crate::model::Outline;
use crate::network::{FeedForward, LayerSpec, Mixer};

/// Tokens of a forward pass, as sessions split prompts.
const BATCH: usize = 512;
/// Bytes of the program without a model: code, stacks, tables.
const PROGRAM: u64 = 12 << 20;
/// Bytes per token of the vocabulary in the tables of the tokenizer.
const TOKEN: u64 = 200;
/// Bytes of a thread's buffers for decoded weights.
const THREAD: u64 = 1 << 20;
/// One over the share of the available memory that should remain free.
const SPARE: u64 = 10;

/// The needs of a model on this machine.
pub struct Fit {
    outline: Outline,
}

/// Bytes that a model needs with a full context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Tensors that are used, mapped or copied.
    pub weights: u64,
    /// Keys, values and recurrent states of one sequence.
    pub cache: u64,
    /// Intermediate results of a forward pass.
    pub buffers: u64,
    /// The program and the tokenizer.
    pub program: u64,
}

impl Needs {
    /// A rule for a file of which nothing but its size is known: an eighth of it for the cache, and 256 MiB for buffers.
    #[must_use]
    pub const fn of_size(file_bytes: u64) -> Self {
        Self { weights: file_bytes, cache: file_bytes / 8, buffers: 256 << 20, program: 0 }
    }

    /// The sum of all.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.weights, self.cache, self.buffers, self.program].into_iter().fold(0, u64::saturating_add)
    }

    /// Whether the sum fits into `available` bytes.
    #[must_use]
    pub fn verdict(&self, available: u64) -> Verdict {
        match self.total() {
            total if total <= available - available.div_ceil(SPARE) => Verdict::Fits,
            total if total <= available => Verdict::Tight,
            _ => Verdict::DoesNotFit,
        }
    }
}

/// Whether a model fits into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Fits,
    /// It fits, but less than a tenth of the available memory remains.
    Tight,
    /// It does not fit: weights would be read from the disk again and again, or memory would run out.
    DoesNotFit,
}

impl Verdict {
    /// `fits`, `tight` or `won't fit`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Tight => "tight",
            Self::DoesNotFit => "won't fit",
        }
    }
}

impl Fit {
    /// Reads the header of a model.
    ///
    /// # Errors
    /// When the model cannot be run here.
    pub fn of(reader: &Reader) -> Result<Self, NotUsable> {
        if let Some(tensor) = reader.unknown_tensors().first() {
            return Err(NotUsable::UnknownType { name: tensor.name.clone(), type_id: tensor.type_id });
        }
        let outline = Outline::of(reader)?;
        if let Some(tensor) = outline.tensors().find(|tensor| formats::codec(tensor.ty).is_none()) {
            return Err(NotUsable::Type(tensor.ty.name()));
        }
        Ok(Self { outline })
    }

    /// The context length that the model was trained on.
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.outline.hparams().context_length
    }

    /// The needs of a session with one sequence of `context` tokens, on `threads` threads.
    #[must_use]
    pub fn needs(&self, context: usize, kv_type: KvType, threads: usize) -> Needs {
        let sequence = self.outline.sequence(SequenceOptions { kv_type, context_length: context });
        let cache = sequence.bytes_after(context);
        // Keys and values of a batch that sliding windows drop afterwards.
        let passing = sequence.bytes_at(context).saturating_sub(cache);
        Needs {
            weights: self.outline.weight_bytes(),
            cache: cache as u64,
            buffers: passing as u64 + self.buffers(context.min(BATCH), threads),
            program: PROGRAM + self.outline.spec().vocab_size as u64 * TOKEN,
        }
    }

    /// The needs of the same model with weights of other types, by the sizes of both files.
    #[must_use]
    pub fn needs_of_size(&self, context: usize, kv_type: KvType, threads: usize, (own, other): (u64, u64)) -> Needs {
        let needs = self.needs(context, kv_type, threads);
        Needs { weights: other.saturating_sub(own.saturating_sub(needs.weights)), ..needs }
    }

    /// Bytes of the buffers of a forward pass of `rows` rows: the residual stream, input and output of a part, the widest mixer and
    /// the widest feed-forward part, each as floats and quantized, and the logits of a row.
    fn buffers(&self, rows: usize, threads: usize) -> u64 {
        let spec = self.outline.spec();
        let cols = spec.embedding_length;
        let lengths = &self.outline.hparams().feed_forward_length;
        let widest = |of: &dyn Fn(usize, &LayerSpec) -> usize| {
            spec.layers.iter().enumerate().map(|(i, layer)| of(i, layer)).max().unwrap_or(0)
        };
        let mixer = widest(&|_, layer| mixer_width(&layer.mixer, cols));
        let feed_forward = widest(&|i, layer| match &layer.feed_forward {
            FeedForward::None => 0,
            FeedForward::Dense(_) => 2 * lengths.get(i).copied().unwrap_or(0),
            FeedForward::Experts(experts) => self.experts_width(experts.used, cols),
            FeedForward::DenseAndExperts(_, experts) => {
                2 * lengths.get(i).copied().unwrap_or(0) + self.experts_width(experts.used, cols)
            }
        });
        let inputs = spec.layer_inputs.map_or(0, |inputs| inputs.length * spec.layers.len());
        let streams = spec.altup.map_or(1, |altup| altup.streams);
        let elements = rows.saturating_mul((3 + streams) * cols + mixer + feed_forward + inputs);
        // Floats of four bytes, and about one byte more where they are quantized for a product.
        5 * elements as u64 + 8 * spec.vocab_size as u64 + threads as u64 * THREAD
    }

    /// Elements of the buffers for the experts of a token.
    fn experts_width(&self, used: usize, cols: usize) -> usize {
        let h = self.outline.hparams();
        let length = h.count_or(crate::arch::keys::EXPERT_FEED_FORWARD_LENGTH, 0).unwrap_or(0);
        used.saturating_mul(2 * length + cols)
    }
}

/// Elements that a mixer takes for a position: queries, keys, values, and what it makes of them.
fn mixer_width(mixer: &Mixer, cols: usize) -> usize {
    match mixer {
        Mixer::None => 0,
        Mixer::Attention(m) => {
            let gate = if m.output_gate { m.heads * m.v_dim } else { 0 };
            m.heads * (m.k_dim + m.v_dim) + m.kv_heads * (m.k_dim + m.v_dim) + gate
        }
        Mixer::Latent(m) => m.heads * (m.key_length() + m.kv_rank + m.plain_dim + m.v_dim),
        Mixer::DeltaNet(m) => 2 * (2 * m.key_heads * m.k_dim + m.heads * m.v_dim) + 2 * m.heads * m.v_dim,
        Mixer::Mamba2(m) => 2 * (2 * m.groups * m.k_dim + m.heads * m.v_dim) + 2 * m.heads * m.v_dim,
        Mixer::KimiDelta(m) => 9 * m.heads * m.dim,
        Mixer::Mamba1(m) => 6 * m.channels + m.rank + 2 * m.state,
        Mixer::ShortConv(_) => 3 * cols,
        Mixer::AttentionAndMamba2(attention, mamba) => {
            mixer_width(&Mixer::Attention(attention.clone()), cols).max(mixer_width(&Mixer::Mamba2(*mamba), cols))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Needs, Verdict};

    #[test]
    fn verdicts_leave_a_tenth_for_others() {
        let needs = Needs { weights: 70, cache: 10, buffers: 5, program: 5 };
        assert_eq!(needs.total(), 90);
        let verdicts = [1000, 100, 99, 90, 89, 0].map(|available| needs.verdict(available));
        use Verdict::{DoesNotFit, Fits, Tight};
        assert_eq!(verdicts, [Fits, Fits, Tight, Tight, DoesNotFit, DoesNotFit]);
    }
}
