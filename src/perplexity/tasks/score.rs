//! Answers, and the score of a run: the share of right answers, and how far it can be trusted.

/// The quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.959_963_984_54;

/// The answer to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The task's place in the file, from 1.
    pub place: usize,
    /// The mean log-probability of the scored tokens of each choice, in nats.
    pub scores: Vec<f64>,
    /// The choice, from 0.
    pub chosen: usize,
    /// Whether it is right.
    pub correct: bool,
}

/// The score of tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Tasks.
    pub tasks: usize,
    /// Tasks whose answer is right.
    pub correct: usize,
    /// The share of right answers.
    pub accuracy: f64,
    /// Its standard error.
    pub stderr: f64,
    /// Wilson's interval of 95 %.
    pub interval: (f64, f64),
    /// What answers at random would get: tasks to choices.
    pub chance: f64,
}

impl TaskScore {
    /// The score of some answers; without any, all shares are NaN.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn of(answers: &[Answer]) -> Self {
        let correct = answers.iter().filter(|answer| answer.correct).count();
        let choices: usize = answers.iter().map(|answer| answer.scores.len()).sum();
        let n = answers.len() as f64;
        let accuracy = correct as f64 / n;
        let stderr = (accuracy * (1.0 - accuracy) / (n - 1.0).max(1.0)).sqrt();
        let z = Z * Z / n;
        let half = z * (n * (4.0 * accuracy * (1.0 - accuracy) + z)).sqrt() / (2.0 * Z);
        let bound = |half: f64| (accuracy + z / 2.0 + half) / (1.0 + z);
        Self {
            tasks: answers.len(),
            correct,
            accuracy,
            stderr,
            interval: (bound(-half), bound(half)),
            chance: n / choices as f64,
        }
    }
}

/// The index of the first greatest score.
pub(super) fn first_greatest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{TaskScore, first_greatest};
    use crate::perplexity::tasks::Answer;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn a_score_has_llama_perplexitys_figures() {
        // Its lines for 8 of 20 right: `40.00000000% [21.8807%, 61.3418%]`, and `45.0000 +/- 11.4133` for 9 of 20.
        let answers = |right: usize| -> Vec<Answer> {
            (0..20).map(|i| Answer { place: i, scores: vec![0.0; 4], chosen: 0, correct: i < right }).collect()
        };
        let score = TaskScore::of(&answers(8));
        assert!(close(score.accuracy, 0.4) && close(score.chance, 0.25));
        assert!(close(score.interval.0, 0.218_807) && close(score.interval.1, 0.613_418), "{score:?}");
        assert!(close(TaskScore::of(&answers(9)).stderr, 0.114_133));
        let one = TaskScore::of(&answers(20)[..1]);
        assert!(one.stderr == 0.0 && one.interval.1 > 0.999);
        assert!(TaskScore::of(&[]).accuracy.is_nan());
    }

    #[test]
    fn the_first_of_equal_scores_is_chosen() {
        assert_eq!(first_greatest(&[-2.0, -1.0, -1.0]), 1);
        assert_eq!(first_greatest(&[]), 0);
    }
}
