//! Chooses a type for each tensor so that all fit a size and the total loss is as small as possible.
//!
//! The useful choices of a tensor lie on the lower convex hull of its costs and losses. Starting from the cheapest
//! choices, the steps along all hulls are taken in the order of gain per byte. The remaining bytes go to the
//! single change that gains most, as long as there is one.

/// A possible choice for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) cost: u64,
    pub(super) loss: f64,
}

/// A step along the hull of a tensor.
struct Step {
    tensor: usize,
    to: usize,
    cost: u64,
    gain: f64,
}

/// The index of the choice for each tensor. If not even the cheapest choices fit `room`, these are returned.
pub(super) fn allocate(tensors: &[Vec<Choice>], room: u64) -> Vec<usize> {
    let hulls: Vec<Vec<usize>> = tensors.iter().map(|choices| hull(choices)).collect();
    let mut chosen: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let cheapest: u64 = chosen.iter().zip(tensors).map(|(&at, choices)| choices[at].cost).sum();
    let mut left = room.saturating_sub(cheapest);
    let mut steps = Vec::new();
    for (tensor, hull) in hulls.iter().enumerate() {
        for pair in hull.windows(2) {
            let (from, to) = (tensors[tensor][pair[0]], tensors[tensor][pair[1]]);
            steps.push(Step { tensor, to: pair[1], cost: to.cost - from.cost, gain: from.loss - to.loss });
        }
    }
    // Steps of one tensor stay in order, because along a hull each gains less per byte than the one before.
    steps.sort_by(|a, b| (b.gain * a.cost as f64).total_cmp(&(a.gain * b.cost as f64)));
    for step in &steps {
        if step.cost > left {
            break;
        }
        chosen[step.tensor] = step.to;
        left -= step.cost;
    }
    while let Some((tensor, to, cost)) = best_change(tensors, &chosen, left) {
        chosen[tensor] = to;
        left = left + cost.0 - cost.1;
    }
    chosen
}

/// The single change with the largest gain among those that fit: the tensor, its new choice, the costs before and after.
fn best_change(tensors: &[Vec<Choice>], chosen: &[usize], left: u64) -> Option<(usize, usize, (u64, u64))> {
    let mut best = None;
    let mut most = 0.0;
    for (tensor, choices) in tensors.iter().enumerate() {
        let now = choices[chosen[tensor]];
        for (to, choice) in choices.iter().enumerate() {
            let gain = now.loss - choice.loss;
            if choice.cost <= now.cost + left && gain > most {
                (best, most) = (Some((tensor, to, (now.cost, choice.cost))), gain);
            }
        }
    }
    best
}

/// The choices on the lower hull, from the cheapest on: each has a smaller loss than the one before, and gains less per byte.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| {
        (choices[a].cost, choices[a].loss).partial_cmp(&(choices[b].cost, choices[b].loss)).unwrap_or(a.cmp(&b))
    });
    let mut hull: Vec<usize> = Vec::new();
    for at in order {
        let new = choices[at];
        if hull.last().is_some_and(|&last| new.loss >= choices[last].loss) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            let (before, last) = (choices[before], choices[last]);
            let (first, second) = (before.loss - last.loss, before.loss - new.loss);
            if first * (new.cost - before.cost) as f64 > second * (last.cost - before.cost) as f64 {
                break;
            }
            hull.pop();
        }
        hull.push(at);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::{Choice, allocate, hull};

    fn choices(all: &[(u64, f64)]) -> Vec<Choice> {
        all.iter().map(|&(cost, loss)| Choice { cost, loss }).collect()
    }

    #[test]
    fn what_loses_more_at_a_higher_cost_is_not_on_the_hull() {
        assert_eq!(hull(&choices(&[(4, 1.0), (1, 8.0), (3, 5.0), (2, 9.0), (8, 0.5), (2, 4.0)])), [1, 5, 0, 4]);
        assert_eq!(hull(&choices(&[(3, 1.0), (3, 1.0)])), [0]);
    }

    /// The least loss of all choices that fit.
    fn best(tensors: &[Vec<Choice>], room: u64) -> f64 {
        let Some((first, rest)) = tensors.split_first() else { return 0.0 };
        let fitting = first.iter().filter(|choice| choice.cost <= room);
        fitting.map(|choice| choice.loss + best(rest, room - choice.cost)).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn nearly_the_best_choice_is_found_in_every_room() {
        let tensors: Vec<Vec<Choice>> = (0..6u32)
            .map(|tensor| {
                let scale = f64::from(tensor * 7 % 5 + 1);
                choices(&[(2, scale), (3, scale / 2.5), (5, scale / 7.0), (6, scale / 6.0), (9, scale / 60.0)])
            })
            .collect();
        for room in 12..60 {
            let chosen = allocate(&tensors, room);
            let sum = |value: fn(&Choice) -> f64| -> f64 {
                chosen.iter().zip(&tensors).map(|(&at, of)| value(&of[at])).sum()
            };
            assert!(sum(|choice| choice.cost as f64) <= room as f64, "{room}");
            let (found, best) = (sum(|choice| choice.loss), best(&tensors, room));
            assert!(found <= best * 1.35 + 1e-9, "{room}: {found}, the best is {best}");
        }
        assert_eq!(allocate(&tensors, 0), [0; 6], "the cheapest where nothing fits");
    }
}
