//! How long drafts are: as long as one more row is expected to bring more tokens a second.

use super::{CONFIDENCES, Confidence};

/// What a row more takes, as a share of a pass with one row, before passes with several have been seen.
const USUAL_SLOPE: f64 = 0.05;
/// How much of what was known remains after one more observation.
const MEMORY: f64 = 0.98;

/// How long passes take by their number of rows: a line through the recent ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    weight: f64,
    rows: f64,
    rows2: f64,
    seconds: f64,
    rows_seconds: f64,
}

impl Costs {
    #[allow(clippy::cast_precision_loss, reason = "hundreds of rows")]
    pub(super) fn learn(&mut self, rows: usize, seconds: f64) {
        let rows = rows as f64;
        for sum in [&mut self.weight, &mut self.rows, &mut self.rows2, &mut self.seconds, &mut self.rows_seconds] {
            *sum *= MEMORY;
        }
        self.weight += 1.0;
        self.rows += rows;
        self.rows2 += rows * rows;
        self.seconds += seconds;
        self.rows_seconds += rows * seconds;
    }

    /// Whether any pass has been seen.
    fn is_known(&self) -> bool {
        self.weight > 0.0
    }

    /// Seconds of a pass with so many rows; in passes of one row while none has been seen.
    #[allow(clippy::cast_precision_loss, reason = "hundreds of rows")]
    fn seconds(&self, rows: usize) -> f64 {
        let rows = rows as f64;
        if !self.is_known() {
            return 1.0 + (rows - 1.0) * USUAL_SLOPE;
        }
        let (mean_rows, mean) = (self.rows / self.weight, (self.seconds / self.weight).max(1e-9));
        // Deviations from the means. The usual slope counts as one observation three rows away.
        let (squares, products) =
            (self.rows2 - self.rows * mean_rows, self.rows_seconds - self.rows * self.seconds / self.weight);
        let usual = mean * USUAL_SLOPE / (1.0 + (mean_rows - 1.0) * USUAL_SLOPE);
        let slope = ((products + usual * 9.0) / (squares.max(0.0) + 9.0)).clamp(usual * 0.1, mean);
        (mean + (rows - mean_rows) * slope).max(mean * 0.1)
    }
}

/// How often tokens of each confidence are right.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    usual: [f64; CONFIDENCES],
    rates: [f64; CONFIDENCES],
    /// Of the first token of a draft, whatever its confidence.
    any: f64,
}

impl Odds {
    pub(super) fn new(usual: impl Fn(Confidence) -> f64) -> Self {
        let usual = std::array::from_fn(usual);
        Self { usual, rates: usual, any: 0.6 }
    }

    /// The probability that all of these are right.
    pub(super) fn reach(&self, confidences: &[Confidence]) -> f64 {
        confidences.iter().map(|&confidence| self.rates[confidence]).product()
    }

    /// The first `right` were right, and, where `judged`, the next one was not.
    pub(super) fn learn(&mut self, confidences: &[Confidence], right: usize, judged: bool) {
        let tried = if judged { right + 1 } else { right };
        for (i, &confidence) in confidences.iter().enumerate().take(tried) {
            let was_right = f64::from(u8::from(i < right));
            self.rates[confidence] += (was_right - self.rates[confidence]) / 16.0;
            self.any += (was_right - self.any) / 16.0;
        }
    }

    /// Lets what was not tried become a little more usual: a confidence, or any token.
    pub(super) fn drift(&mut self, confidence: Option<Confidence>) {
        match confidence {
            Some(confidence) => {
                self.rates[confidence] += (self.usual[confidence] - self.rates[confidence]) / 64.0;
            }
            None => self.any += (0.6 - self.any) / 64.0,
        }
    }
}

/// What the next pass is expected to bring.
#[derive(Clone)]
pub(super) struct Forecast<'c> {
    costs: &'c Costs,
    rows: usize,
    tokens: f64,
    /// Seconds of drafting.
    drafting: f64,
}

impl<'c> Forecast<'c> {
    /// A pass with so many rows, each text of which gets one token.
    #[allow(clippy::cast_precision_loss, reason = "hundreds of texts")]
    pub(super) fn new(costs: &'c Costs, rows: usize, texts: usize) -> Self {
        Self { costs, rows, tokens: texts as f64, drafting: 0.0 }
    }

    fn rate(&self) -> f64 {
        self.tokens / (self.costs.seconds(self.rows) + self.drafting)
    }

    /// Whether a further token that takes `seconds` to draft is worth it, when those before it are right with the probability
    /// `reach`. Counts it if so.
    pub(super) fn is_worth(&mut self, reach: f64, odds: &Odds, seconds: f64) -> bool {
        let with = Self {
            rows: self.rows + 1,
            tokens: self.tokens + reach * odds.any,
            drafting: self.drafting + seconds,
            ..self.clone()
        };
        let is_worth = self.costs.is_known() && with.rate() > self.rate();
        if is_worth {
            *self = with;
        }
        is_worth
    }

    /// How many tokens of these confidences bring the most tokens a second, `least` of them in any case. Counts them.
    pub(super) fn best(&mut self, odds: &Odds, confidences: &[Confidence], least: usize) -> usize {
        let mut best = (0, self.clone());
        let (mut with, mut reach) = (self.clone(), 1.0);
        for (i, &confidence) in confidences.iter().enumerate() {
            reach *= odds.rates[confidence];
            with.rows += 1;
            with.tokens += reach;
            if i < least || with.rate() > best.1.rate() {
                best = (i + 1, with.clone());
            }
        }
        *self = best.1;
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs of a machine on which a pass takes 100 and a row `row`, after drafts of these lengths.
    fn costs(row: f64, rows: &[usize]) -> Costs {
        let mut costs = Costs::default();
        for _ in 0..50 {
            for &rows in rows {
                costs.learn(rows, 100.0 + row * rows as f64);
            }
        }
        costs
    }

    #[test]
    fn costs_are_a_line_through_what_was_seen() {
        let costs = costs(3.0, &[1, 5, 9]);
        for rows in [1, 4, 16] {
            let expected = 100.0 + 3.0 * rows as f64;
            assert!((costs.seconds(rows) / expected - 1.0).abs() < 0.02, "{rows}: {}", costs.seconds(rows));
        }
        // Of one number of rows alone, the rest is a guess.
        let costs = self::costs(3.0, &[1]);
        assert!((costs.seconds(1) - 103.0).abs() < 1e-6);
        assert!((costs.seconds(11) / 103.0 - 1.0 - 10.0 * USUAL_SLOPE).abs() < 1e-6);
        assert!((Costs::default().seconds(1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn drafts_are_long_where_rows_are_cheap_and_tokens_right() {
        let length = |row: f64, rate: f64| {
            let costs = costs(row, &[1, 5, 9]);
            Forecast::new(&costs, 1, 1).best(&Odds::new(|_| rate), &[3; 16], 0)
        };
        assert_eq!(length(1.0, 0.95), 16);
        assert!((2..8).contains(&length(5.0, 0.6)), "{}", length(5.0, 0.6));
        assert_eq!(length(20.0, 0.05), 0);
        assert!(length(5.0, 0.8) > length(20.0, 0.8));
        let costs = costs(5.0, &[1, 5, 9]);
        assert_eq!(Forecast::new(&costs, 1, 1).best(&Odds::new(|_| 0.0), &[0; 8], 3), 3);
    }

    #[test]
    fn odds_follow_what_happens_and_come_back() {
        let mut odds = Odds::new(|_| 0.5);
        (0..100).for_each(|_| odds.learn(&[1, 2, 3], 1, true));
        assert!(odds.rates[1] > 0.95 && odds.rates[2] < 0.05 && odds.rates[3] == 0.5, "{odds:?}");
        // A text that ended early says nothing of the next token.
        let before = odds.rates[2];
        odds.learn(&[1, 2], 1, false);
        assert_eq!(odds.rates[2], before);
        (0..500).for_each(|_| odds.drift(Some(2)));
        assert!(odds.rates[2] > 0.45);
    }
}
