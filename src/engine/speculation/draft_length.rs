//! Decides how long drafts are: a token is drafted if it is expected to raise the number of tokens per second.
//!
//! Two things are measured for that: how long a pass takes by its number of rows ([`PassTimes`]), and how often drafted tokens
//! are accepted by their confidence ([`AcceptanceRates`]).

use super::{CONFIDENCES, Confidence};

/// The time that one more row takes, as a share of a pass with one row, until passes of different lengths have been measured.
const DEFAULT_SLOPE: f64 = 0.05;
/// The weight of earlier measurements is multiplied by this with each new one.
const DECAY: f64 = 0.98;
/// The share of first tokens of drafts that is expected to be accepted before anything has been measured.
const DEFAULT_FIRST: f64 = 0.6;

/// How long passes take by their number of rows: a straight line fitted to recent passes (least squares). The fields are
/// decaying sums over the passes.
#[derive(Clone, Debug, Default)]
pub(super) struct PassTimes {
    weight: f64,
    rows: f64,
    rows2: f64,
    seconds: f64,
    rows_seconds: f64,
}

impl PassTimes {
    #[allow(clippy::cast_precision_loss, reason = "hundreds of rows")]
    pub(super) fn learn(&mut self, rows: usize, seconds: f64) {
        let rows = rows as f64;
        for sum in [&mut self.weight, &mut self.rows, &mut self.rows2, &mut self.seconds, &mut self.rows_seconds] {
            *sum *= DECAY;
        }
        self.weight += 1.0;
        self.rows += rows;
        self.rows2 += rows * rows;
        self.seconds += seconds;
        self.rows_seconds += rows * seconds;
    }

    /// Whether any pass has been measured.
    fn is_known(&self) -> bool {
        self.weight > 0.0
    }

    /// Expected seconds of a pass with `rows` rows. Before any measurement, a pass with one row counts as one second.
    #[allow(clippy::cast_precision_loss, reason = "hundreds of rows")]
    fn seconds(&self, rows: usize) -> f64 {
        let rows = rows as f64;
        if !self.is_known() {
            return 1.0 + (rows - 1.0) * DEFAULT_SLOPE;
        }
        let (mean_rows, mean) = (self.rows / self.weight, (self.seconds / self.weight).max(1e-9));
        // Sums of the deviations from the means. The default slope takes part as one measurement three rows from the mean.
        let (squares, products) =
            (self.rows2 - self.rows * mean_rows, self.rows_seconds - self.rows * self.seconds / self.weight);
        let default = mean * DEFAULT_SLOPE / (1.0 + (mean_rows - 1.0) * DEFAULT_SLOPE);
        let slope = ((products + default * 9.0) / (squares.max(0.0) + 9.0)).clamp(default * 0.1, mean);
        (mean + (rows - mean_rows) * slope).max(mean * 0.1)
    }
}

/// How often drafted tokens are accepted.
#[derive(Clone, Debug)]
pub(super) struct AcceptanceRates {
    defaults: [f64; CONFIDENCES],
    /// By confidence.
    rates: [f64; CONFIDENCES],
    /// Over all confidences: for a token that has not been drafted yet.
    any: f64,
}

impl AcceptanceRates {
    pub(super) fn new(default_rate: impl Fn(Confidence) -> f64) -> Self {
        let defaults = std::array::from_fn(default_rate);
        Self { defaults, rates: defaults, any: DEFAULT_FIRST }
    }

    /// The probability that tokens of these confidences are all accepted.
    pub(super) fn probability(&self, confidences: &[Confidence]) -> f64 {
        confidences.iter().map(|&confidence| self.rates[confidence]).product()
    }

    /// Learns that the first `accepted` tokens were accepted and, if `rejected`, that the next one was not.
    pub(super) fn learn(&mut self, confidences: &[Confidence], accepted: usize, rejected: bool) {
        let judged = if rejected { accepted + 1 } else { accepted };
        for (i, &confidence) in confidences.iter().enumerate().take(judged) {
            let was_accepted = f64::from(u8::from(i < accepted));
            self.rates[confidence] += (was_accepted - self.rates[confidence]) / 16.0;
            self.any += (was_accepted - self.any) / 16.0;
        }
    }

    /// Moves the rate of a confidence, or with `None` the rate of any token, a little towards its default.
    pub(super) fn drift(&mut self, confidence: Option<Confidence>) {
        match confidence {
            Some(confidence) => {
                self.rates[confidence] += (self.defaults[confidence] - self.rates[confidence]) / 64.0;
            }
            None => self.any += (DEFAULT_FIRST - self.any) / 64.0,
        }
    }
}

/// The expected result of the next pass.
#[derive(Clone)]
pub(super) struct Forecast<'t> {
    pass_times: &'t PassTimes,
    rows: usize,
    /// Expected number of tokens that the pass yields.
    tokens: f64,
    /// Seconds of drafting.
    drafting: f64,
}

impl<'t> Forecast<'t> {
    /// A pass with `rows` rows without drafts, which yields one token for each of `texts` texts.
    #[allow(clippy::cast_precision_loss, reason = "hundreds of texts")]
    pub(super) fn new(pass_times: &'t PassTimes, rows: usize, texts: usize) -> Self {
        Self { pass_times, rows, tokens: texts as f64, drafting: 0.0 }
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens / (self.pass_times.seconds(self.rows) + self.drafting)
    }

    /// Adds one more token to a draft if that is expected to raise the tokens per second, and returns whether it was added.
    /// Drafting the token takes `seconds`; those before it are accepted with this `probability`.
    pub(super) fn add_if_worth(&mut self, probability: f64, rates: &AcceptanceRates, seconds: f64) -> bool {
        let with = Self {
            rows: self.rows + 1,
            tokens: self.tokens + probability * rates.any,
            drafting: self.drafting + seconds,
            ..self.clone()
        };
        let is_worth = self.pass_times.is_known() && with.tokens_per_second() > self.tokens_per_second();
        if is_worth {
            *self = with;
        }
        is_worth
    }

    /// Adds as many of a draft's tokens as give the most tokens per second, but at least `min_tokens`. Returns their number.
    pub(super) fn add_best(&mut self, rates: &AcceptanceRates, confidences: &[Confidence], min_tokens: usize) -> usize {
        let mut best = (0, self.clone());
        let (mut with, mut probability) = (self.clone(), 1.0);
        for (i, &confidence) in confidences.iter().enumerate() {
            probability *= rates.rates[confidence];
            with.rows += 1;
            with.tokens += probability;
            if i < min_tokens || with.tokens_per_second() > best.1.tokens_per_second() {
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

    /// Passes of these numbers of rows on a machine on which a pass takes 100 seconds and `row` more for each row.
    fn times(row: f64, rows: &[usize]) -> PassTimes {
        let mut times = PassTimes::default();
        for _ in 0..50 {
            for &rows in rows {
                times.learn(rows, 100.0 + row * rows as f64);
            }
        }
        times
    }

    #[test]
    fn times_are_a_line_through_what_was_measured() {
        let measured = times(3.0, &[1, 5, 9]);
        for rows in [1, 4, 16] {
            let expected = 100.0 + 3.0 * rows as f64;
            assert!((measured.seconds(rows) / expected - 1.0).abs() < 0.02, "{rows}: {}", measured.seconds(rows));
        }
        // With one number of rows alone, the slope is the default.
        let measured = times(3.0, &[1]);
        assert!((measured.seconds(1) - 103.0).abs() < 1e-6);
        assert!((measured.seconds(11) / 103.0 - 1.0 - 10.0 * DEFAULT_SLOPE).abs() < 1e-6);
        assert!((PassTimes::default().seconds(1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn drafts_are_long_where_rows_are_cheap_and_tokens_accepted() {
        let length = |row: f64, rate: f64| {
            let times = times(row, &[1, 5, 9]);
            Forecast::new(&times, 1, 1).add_best(&AcceptanceRates::new(|_| rate), &[3; 16], 0)
        };
        assert_eq!(length(1.0, 0.95), 16);
        assert!((2..8).contains(&length(5.0, 0.6)), "{}", length(5.0, 0.6));
        assert_eq!(length(20.0, 0.05), 0);
        assert!(length(5.0, 0.8) > length(20.0, 0.8));
        let times = times(5.0, &[1, 5, 9]);
        assert_eq!(Forecast::new(&times, 1, 1).add_best(&AcceptanceRates::new(|_| 0.0), &[0; 8], 3), 3);
    }

    #[test]
    fn rates_follow_what_happens_and_drift_back() {
        let mut rates = AcceptanceRates::new(|_| 0.5);
        (0..100).for_each(|_| rates.learn(&[1, 2, 3], 1, true));
        assert!(rates.rates[1] > 0.95 && rates.rates[2] < 0.05 && rates.rates[3] == 0.5, "{rates:?}");
        // If the text ended before the next token was compared, nothing is learned of that.
        let before = rates.rates[2];
        rates.learn(&[1, 2], 1, false);
        assert_eq!(rates.rates[2], before);
        (0..500).for_each(|_| rates.drift(Some(2)));
        assert!(rates.rates[2] > 0.45);
    }
}
