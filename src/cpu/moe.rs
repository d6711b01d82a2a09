//! A mixture of experts: a router picks a few experts for each token, and each expert's weights are read once per batch for
//! all tokens that picked it.

use std::cmp::Ordering;

use super::ffn::Ffn;
use super::linear::{GatedProjection, Projection};
use super::rows::for_rows;
use super::{Linear, Run, Weights};
use crate::kernels::{Activations, List, Scratch, Store, vector};
use crate::network::{Dense, Error, Experts, Gate, Gating, Groups, Tensors};

/// Lower bound on the sum of a token's weights, which prevents a division by zero.
const MIN_WEIGHT_SUM: f32 = 1.0 / 16384.0;

/// The experts of a layer, their router and the part that all tokens share.
pub(super) struct Moe {
    spec: Experts,
    router: Linear,
    /// Bias of the scores that is used for choosing experts, but not for their weights.
    choice_bias: Option<Vec<f32>>,
    experts: Vec<Expert>,
    shared: Option<Shared>,
}

struct Expert {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    /// Factor of the output.
    scale: f32,
}

struct Shared {
    ffn: Ffn,
    /// One logit for each token, whose sigmoid scales the shared expert.
    gate: Option<Linear>,
}

/// The tokens of each expert: pairs sorted by expert, then by token.
struct Routing {
    /// Token of each pair.
    tokens: Scratch<u32>,
    /// First pair of each expert, and the end.
    starts: List<usize>,
    /// For each token its pairs in the order of choice, with the factors of their outputs: `[tokens, used]`.
    chosen: List<(usize, f32)>,
    /// Factor of each pair's input, where weights are such.
    input_weights: Scratch,
}

impl Moe {
    pub(super) fn load(w: &Weights, layer: &str, embedding: usize, spec: &Experts) -> Result<Self, Error> {
        let n = spec.count;
        let experts = experts(w, layer, embedding, spec)?;
        let shared = if w.has(&format!("{layer}ffn_down_shexp.weight")) {
            let matrix = |part: &str| w.get(&format!("{layer}ffn_{part}_shexp.weight"));
            let is_joint = matrix("gate").is_none()
                && matrix("up").zip(matrix("down")).is_some_and(|(up, down)| up.rows() == 2 * down.cols());
            let gate = if is_joint { Gate::InUp } else { spec.gate };
            let dense = Dense { activation: spec.activation, gate };
            Some(Shared {
                ffn: Ffn::load(w, &format!("{layer}ffn_"), "_shexp", embedding, dense)?,
                gate: Linear::load_optional(w, &format!("{layer}ffn_gate_inp_shexp"), 1, embedding)?,
            })
        } else {
            None
        };
        Ok(Self {
            spec: spec.clone(),
            router: Linear::load(w, &format!("{layer}ffn_gate_inp"), n, embedding)?,
            choice_bias: choice_bias(w, layer, n)?,
            experts,
            shared,
        })
    }

    /// Sets `out`, `[tokens, embedding]`, from `x`, `[tokens, embedding]`.
    pub(super) fn apply(&self, run: Run<'_>, x: &Activations<'_>, tokens: usize, out: &mut [f32]) {
        let mut logits = self.logits(run, x, tokens);
        self.apply_routed(run, x, &mut logits, out);
        if let Some(shared) = &self.shared {
            shared.add(run, x, tokens, out);
        }
        if self.spec.output_scale != 1.0 {
            out.iter_mut().for_each(|v| *v *= self.spec.output_scale);
        }
    }

    /// Router logits, `[tokens, experts]`, from `x`, `[tokens, embedding]`.
    pub(super) fn logits(&self, run: Run<'_>, x: &Activations<'_>, tokens: usize) -> Scratch {
        let mut logits = Scratch::new(tokens * self.spec.count);
        self.router.apply(run, x, Store::Set, &mut logits);
        logits
    }

    /// As [`Self::apply`], for given router logits `[tokens, experts]` and without the shared part.
    pub(super) fn apply_routed(&self, run: Run<'_>, x: &Activations<'_>, logits: &mut [f32], out: &mut [f32]) {
        let mut routing = self.route(logits);
        let pairs: List<u32> = (0..).take(routing.tokens.len()).collect();
        let hidden = if self.spec.weighted_input {
            let weighted = Self::weighted_inputs(x, &routing);
            // Each pair has an input of its own.
            routing.tokens.copy_from_slice(&pairs);
            self.hidden(run, &Activations::new(&weighted, x.cols()), &routing)
        } else {
            self.hidden(run, x, &routing)
        };
        let embedding = self.experts[0].down.rows();
        let mut results = Scratch::new(routing.tokens.len() * embedding);
        let inputs = Activations::new(&hidden, self.experts[0].up.rows());
        let mut products = List::new();
        let mut rest = &mut *results;
        for (e, expert) in self.experts.iter().enumerate() {
            let range = routing.starts[e]..routing.starts[e + 1];
            let (own, others) = rest.split_at_mut(range.len() * embedding);
            rest = others;
            if !range.is_empty() {
                products.push(Projection { tokens: Some(&pairs[range]), ..expert.down.projection(Store::Set, own) });
            }
        }
        run.project(&inputs, &mut products);
        drop(products);
        let used = self.spec.used;
        for_rows(run.pool, out, embedding, |token, row| {
            row.fill(0.0);
            for &(pair, weight) in &routing.chosen[token * used..(token + 1) * used] {
                vector::add_scaled(row, &results[pair * embedding..(pair + 1) * embedding], weight);
            }
        });
    }

    /// The input of each pair, `[pairs, embedding]`, multiplied by the weight of its expert.
    fn weighted_inputs(x: &Activations<'_>, routing: &Routing) -> Scratch {
        let cols = x.cols();
        let mut inputs = Scratch::zeros(routing.tokens.len() * cols);
        let pairs = routing.tokens.iter().zip(routing.input_weights.iter());
        for (row, (&token, &weight)) in inputs.chunks_exact_mut(cols).zip(pairs) {
            vector::add_scaled(row, x.row(token as usize), weight);
        }
        inputs
    }

    /// `act(gate(x)) * up(x)` of each pair, or `act(up(x))` without gates: `[pairs, hidden]`.
    fn hidden(&self, run: Run<'_>, x: &Activations<'_>, routing: &Routing) -> Scratch {
        let cols = self.experts[0].up.rows();
        let mut hidden = Scratch::new(routing.tokens.len() * cols);
        let mut rest = &mut *hidden;
        let (mut gated, mut plain) = (List::new(), List::new());
        for (e, expert) in self.experts.iter().enumerate() {
            let tokens = &routing.tokens[routing.starts[e]..routing.starts[e + 1]];
            let (own, others) = rest.split_at_mut(tokens.len() * cols);
            rest = others;
            if tokens.is_empty() {
                continue;
            }
            if let Some(gate) = &expert.gate {
                let product = gate.gated(&expert.up, self.spec.activation, own);
                gated.push(GatedProjection { tokens: Some(tokens), ..product });
            } else {
                plain.push(Projection { tokens: Some(tokens), ..expert.up.projection(Store::Set, own) });
            }
        }
        if self.spec.gate == Gate::None {
            run.project(x, &mut plain);
        } else {
            run.project_gated(x, &mut gated);
        }
        drop((gated, plain));
        if self.spec.gate == Gate::None {
            for_rows(run.pool, &mut hidden, cols, |_, row| self.spec.activation.apply(row));
        }
        hidden
    }

    fn route(&self, logits: &mut [f32]) -> Routing {
        let (count, used) = (self.spec.count, self.spec.used);
        let tokens = logits.len() / count;
        let mut picks = List::with_capacity(tokens * used);
        for row in logits.chunks_exact_mut(count) {
            self.choose(row, &mut picks);
        }
        let mut starts: List<usize> = std::iter::repeat_n(0, count + 1).collect();
        for &(expert, _) in picks.iter() {
            starts[expert + 1] += 1;
        }
        for e in 0..count {
            starts[e + 1] += starts[e];
        }
        let mut next: List<usize> = starts.iter().copied().collect();
        let mut by_expert = Scratch::new(picks.len());
        let mut chosen = List::with_capacity(picks.len());
        let mut input_weights = Scratch::new(if self.spec.weighted_input { picks.len() } else { 0 });
        for (i, &(expert, weight)) in picks.iter().enumerate() {
            let pair = next[expert];
            next[expert] += 1;
            by_expert[pair] = u32::try_from(i / used).unwrap_or(u32::MAX);
            let scale = self.experts[expert].scale;
            if self.spec.weighted_input {
                input_weights[pair] = weight;
                chosen.push((pair, scale));
            } else {
                chosen.push((pair, weight * scale));
            }
        }
        Routing { tokens: by_expert, starts, chosen, input_weights }
    }

    /// Appends one token's experts and weights, best first; `logits` become probabilities.
    fn choose(&self, logits: &mut [f32], picks: &mut List<(usize, f32)>) {
        let spec = &self.spec;
        match spec.gating {
            Gating::Softmax => vector::softmax(logits),
            Gating::Sigmoid => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Gating::SoftmaxOfChosen => {}
            Gating::SparseMixer { jitter } => {
                let mixed = sparse_mixer(logits, spec.used, jitter);
                picks.extend(mixed.into_iter().map(|(e, weight)| (e, weight * spec.weight_scale)));
                return;
            }
        }
        let mut scores = Scratch::copy_of(logits);
        if let Some(bias) = &self.choice_bias {
            vector::add(&mut scores, bias);
        }
        if let Some(groups) = spec.groups.filter(|g| g.count > 1) {
            keep_best_groups(&mut scores, groups);
        }
        let mut all: List<usize> = (0..spec.count).collect();
        let mut order = &mut *all;
        let by_score =
            |&a: &usize, &b: &usize| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b));
        if spec.used < spec.count {
            order.select_nth_unstable_by(spec.used - 1, by_score);
            order = &mut order[..spec.used];
        }
        order.sort_unstable_by(by_score);
        let mut weights: List<f32> = order.iter().map(|&e| logits[e]).collect();
        if spec.gating == Gating::SoftmaxOfChosen {
            vector::softmax(&mut weights);
        }
        if spec.normalize {
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum.max(MIN_WEIGHT_SUM));
        }
        picks.extend(order.iter().copied().zip(weights.iter().map(|w| w * spec.weight_scale)));
    }
}

/// The best expert, then the best of those that are left, and so on. Each is weighed by a softmax over those that were left
/// whose logits are close to its own.
fn sparse_mixer(logits: &[f32], used: usize, jitter: f32) -> List<(usize, f32)> {
    let mut order: List<usize> = (0..logits.len()).collect();
    let mut left = &mut *order;
    let mut chosen = List::with_capacity(used);
    while chosen.len() < used && !left.is_empty() {
        let at = (1..left.len()).fold(0, |a, b| if logits[left[b]] > logits[left[a]] { b } else { a });
        let best = logits[left[at]];
        let is_far = |e: usize| (best - logits[e]) / logits[e].abs().max(best) > 2.0 * jitter;
        let sum: f32 = left.iter().filter(|&&e| !is_far(e)).map(|&e| (logits[e] - best).exp()).sum();
        chosen.push((left[at], 1.0 / sum));
        // The others stay in their order.
        left[..=at].rotate_right(1);
        left = &mut left[1..];
    }
    chosen
}

/// What is added to experts' scores for the choice alone; some files lack the end of its name.
fn choice_bias(w: &Weights, layer: &str, n: usize) -> Result<Option<Vec<f32>>, Error> {
    let name = format!("{layer}exp_probs_b");
    match w.vector(&format!("{name}.bias"), n)? {
        None => w.vector(&name, n),
        bias => Ok(bias),
    }
}

/// The experts of a layer: all of them in a tensor for each part (or for gate and up together), or, in files of early
/// 2024, a tensor for each part of each expert.
fn experts(w: &Weights, layer: &str, embedding: usize, spec: &Experts) -> Result<Vec<Expert>, Error> {
    let n = spec.count;
    let name = |part: &str| format!("{layer}ffn_{part}_exps");
    if w.has(&format!("{layer}ffn_down.0.weight")) {
        let expert = |e: usize| {
            let down = format!("{layer}ffn_down.{e}");
            let weight = format!("{down}.weight");
            let hidden = w.get(&weight).ok_or(Error::MissingTensor { name: weight })?.cols();
            Ok(Expert {
                gate: Some(Linear::load(w, &format!("{layer}ffn_gate.{e}"), hidden, embedding)?),
                up: Linear::load(w, &format!("{layer}ffn_up.{e}"), hidden, embedding)?,
                down: Linear::load(w, &down, embedding, hidden)?,
                scale: 1.0,
            })
        };
        return (0..n).map(expert).collect();
    }
    let down = format!("{}.weight", name("down"));
    let hidden = w.get(&down).ok_or(Error::MissingTensor { name: down })?.cols();
    let down = Linear::load(w, &name("down"), n * embedding, hidden)?;
    let (gate, up, stride, up_at) = if w.has(&format!("{}.weight", name("gate_up"))) {
        let both = Linear::load(w, &name("gate_up"), n * 2 * hidden, embedding)?;
        (Some(both.clone()), both, 2 * hidden, hidden)
    } else {
        let gate = match spec.gate {
            Gate::None => None,
            _ => Some(Linear::load(w, &name("gate"), n * hidden, embedding)?),
        };
        (gate, Linear::load(w, &name("up"), n * hidden, embedding)?, hidden, 0)
    };
    let scales = w.vector(&format!("{}.scale", name("down")), n)?;
    let experts = (0..n).map(|e| Expert {
        gate: gate.as_ref().map(|gate| gate.stacked(e, stride).rows_of(0..hidden)),
        up: up.stacked(e, stride).rows_of(up_at..up_at + hidden),
        down: down.stacked(e, embedding),
        scale: scales.as_ref().map_or(1.0, |s| s[e]),
    });
    Ok(experts.collect())
}

impl Shared {
    fn add(&self, run: Run<'_>, x: &Activations<'_>, tokens: usize, out: &mut [f32]) {
        let Some(gate) = &self.gate else { return self.ffn.apply(run, x, tokens, Store::Add, out) };
        let mut gates = Scratch::new(tokens);
        gate.apply(run, x, Store::Set, &mut gates);
        let mut own = Scratch::new(out.len());
        self.ffn.apply(run, x, tokens, Store::Set, &mut own);
        let cols = out.len() / tokens;
        for_rows(run.pool, out, cols, |token, row| {
            let weight = 1.0 / (1.0 + (-gates[token]).exp());
            vector::add_scaled(row, &own[token * cols..(token + 1) * cols], weight);
        });
    }
}

/// Excludes the experts outside of the best groups. The score of a group is the sum of the scores of its best experts.
fn keep_best_groups(scores: &mut [f32], groups: Groups) {
    let len = scores.len() / groups.count;
    let mut ranked: List<(f32, usize)> = scores
        .chunks_exact(len)
        .enumerate()
        .map(|(g, group)| {
            let mut group = Scratch::copy_of(group);
            group.sort_unstable_by(|a, b| b.partial_cmp(a).unwrap_or(Ordering::Equal));
            (group.iter().take(groups.best).sum(), g)
        })
        .collect();
    ranked.sort_unstable_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)));
    for &(_, g) in &ranked[groups.used.min(groups.count)..] {
        scores[g * len..(g + 1) * len].fill(f32::NEG_INFINITY);
    }
}
