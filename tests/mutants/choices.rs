//! Choices, and what is changed by them: bytes, numbers, texts, JSON, values of metadata.

use gguf_toolkit::gguf::{Array, Value};
use serde_json::{Value as Json, json};

/// Numbers that hurt.
const NUMBERS: [u64; 14] = [0, 1, 2, 3, 5, 7, 33, 64, 100, 255, 4097, u32::MAX as u64, 1 << 40, u64::MAX];

/// A source of choices: given bytes, and behind them a small generator of numbers. The same bytes make the same choices.
pub(crate) struct Choices<'b> {
    bytes: &'b [u8],
    state: u64,
}

impl<'b> Choices<'b> {
    /// Those of a generator, whose seed is not zero.
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self { bytes: &[], state: seed }
    }

    /// Those of a fuzzer's bytes. What is chosen behind their end depends on the first eight of them.
    pub(crate) fn of_bytes(bytes: &'b [u8]) -> Self {
        let (seed, rest) = bytes.split_at(bytes.len().min(8));
        let seed =
            seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        Self { bytes: rest, state: seed | 1 }
    }

    /// The generator's next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let width = if limit <= 1 << 8 { 1 } else { 4 };
        let number = match self.bytes.split_at_checked(width) {
            Some((taken, rest)) => {
                self.bytes = rest;
                taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            None => self.next(),
        };
        usize::try_from(number % limit as u64).expect("small")
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Changes some bytes: bits, bytes, or eight of them at once to a number that hurts.
    pub(crate) fn damage(&mut self, bytes: &mut [u8]) {
        const NUMBERS: [u64; 9] = [0, 1, 0xff, u32::MAX as u64, 1 << 31, 1 << 32, 1 << 62, i64::MAX as u64, u64::MAX];
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next().to_le_bytes()[0],
                _ => {
                    let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                    let n = number.len().min(bytes.len() - at);
                    bytes[at..at + n].copy_from_slice(&number[..n]);
                }
            }
        }
    }

    /// A number that hurts, or one near `near`.
    pub(crate) fn number(&mut self, near: u64) -> u64 {
        match self.below(3) {
            0 => near.wrapping_add(self.below(5) as u64).wrapping_sub(2),
            1 => near.saturating_mul(self.below(4) as u64) / (1 + self.below(4) as u64),
            _ => *self.pick(&NUMBERS),
        }
    }

    /// Another value, mostly of the same type.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any number will do")]
    pub(crate) fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::Bool(v) => Value::Bool(!v),
            Value::String(text) => Value::String(self.text(text)),
            Value::F32(v) => {
                let others = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, v * 2.0, -v, v / 3.0];
                Value::F32(*self.pick(&others))
            }
            Value::Array(array) => self.array(array),
            number => {
                let near = number.as_u64().unwrap_or(0);
                let number = self.number(near);
                match self.below(4) {
                    0 => Value::U64(number),
                    1 => Value::I32(number as i32),
                    _ => Value::U32(number as u32),
                }
            }
        }
    }

    fn array(&mut self, array: &Array) -> Value {
        let mut values: Vec<Value> = array.iter().collect();
        if values.is_empty() || self.below(8) == 0 {
            return Value::Array(Array::from(&[][..] as &[i32]));
        }
        for _ in 0..=self.below(2) {
            let at = self.below(values.len());
            match self.below(4) {
                0 if values.len() > 1 => drop(values.remove(at)),
                1 => values.insert(at, values[at].clone()),
                2 => values[at] = self.value(&values[at].clone()),
                _ => {
                    let other = self.below(values.len());
                    values.swap(at, other);
                }
            }
        }
        // Of one type again.
        Value::Array(match &values[0] {
            Value::String(_) => Array::strings(values.iter().filter_map(Value::as_str)),
            Value::Bool(_) => Array::bools(values.iter().filter_map(Value::as_bool)),
            Value::F32(_) => {
                #[allow(clippy::cast_possible_truncation, reason = "these were single")]
                let numbers: Vec<f32> = values.iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
                Array::from(&numbers[..])
            }
            _ => {
                let numbers: Vec<i32> =
                    values.iter().filter_map(Value::as_i64).map(|v| i32::try_from(v).unwrap_or(i32::MAX)).collect();
                Array::from(&numbers[..])
            }
        })
    }

    /// Another text: damaged, cut, doubled, or with a piece of it elsewhere.
    pub(crate) fn text(&mut self, text: &str) -> String {
        const PIECES: [&str; 12] =
            ["", "\u{0}", "\u{1b}[2J", "\u{202e}", "é", "▁", "{{", "%}", "\"", "<0x41>", "\n", "𝔘"];
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.below(chars.len() + 1);
        match self.below(5) {
            0 => chars.truncate(at),
            1 => chars.extend_from_within(..at.min(1000)),
            2 if !chars.is_empty() => {
                let from = self.below(chars.len());
                let to = (from + self.below(40)).min(chars.len());
                let piece: Vec<char> = chars[from..to].to_vec();
                chars.splice(at..at, piece);
            }
            3 if at < chars.len() => drop(chars.remove(at)),
            _ => drop(chars.splice(at..at, self.pick(&PIECES).chars())),
        }
        chars.into_iter().collect()
    }

    /// Changes one or two places of a JSON value.
    pub(crate) fn json(&mut self, value: &mut Json) {
        for _ in 0..=self.below(2) {
            let mut node = &mut *value;
            loop {
                let stay = self.below(4) == 0;
                let goes_on = match &*node {
                    Json::Object(map) => !map.is_empty() && !stay,
                    Json::Array(list) => !list.is_empty() && !stay,
                    _ => false,
                };
                if !goes_on {
                    *node = self.other(node);
                    break;
                }
                node = match node {
                    Json::Object(map) => {
                        let key = map.keys().nth(self.below(map.len())).expect("there").clone();
                        if self.below(12) == 0 {
                            map.remove(&key);
                            break;
                        }
                        map.get_mut(&key).expect("there")
                    }
                    Json::Array(list) => {
                        let at = self.below(list.len());
                        &mut list[at]
                    }
                    _ => break,
                };
            }
        }
    }

    fn other(&mut self, value: &Json) -> Json {
        let number = value.as_u64().unwrap_or(3);
        match self.below(12) {
            0 => Json::Null,
            1 => json!(-1),
            2 => json!(1e308),
            3 => json!([]),
            4 => json!({}),
            5 => json!(true),
            6 => (0..50).fold(json!(1), |inside, _| json!([inside])),
            7 => json!(self.text(value.as_str().unwrap_or("text"))),
            8 => json!({ "type": "Sequence", "model": [value] }),
            9 => json!([value, value]),
            _ => json!(self.number(number)),
        }
    }
}
