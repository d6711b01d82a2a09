//! A fast path for the words of the commonest pre-tokenizers in ASCII text.
//!
//! Each function returns the length of the word at an offset, or `None` if that depends on a character outside ASCII or on a
//! rare rule; the pattern is used then.

/// Pre-tokenizers with a fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsciiWords {
    /// GPT-2's.
    Gpt2,
    /// Llama 3's and Qwen's: numbers of limited length, one character before letters, line ends after punctuation.
    Llama {
        /// Maximum digits of a number.
        digits: usize,
    },
}

/// Classes of ASCII bytes; other bytes have no class.
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 4;
const LINE_END: u8 = 8;
const SIGN: u8 = 16;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'\r' | b'\n' => SPACE | LINE_END,
            b' ' | b'\t' | 0x0b | 0x0c => SPACE,
            _ => SIGN,
        };
        byte += 1;
    }
    table
}

fn is(bytes: &[u8], at: usize, class: u8) -> bool {
    bytes.get(at).is_some_and(|&byte| CLASSES[usize::from(byte)] & class != 0)
}

/// The end of the run of `class` at `at`; `None` if a character outside ASCII could belong to it.
fn run(bytes: &[u8], at: usize, class: u8) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|&byte| CLASSES[usize::from(byte)] & class == 0).unwrap_or(rest.len());
    rest.get(len).is_none_or(u8::is_ascii).then_some(at + len)
}

/// Length of a contraction (`'s`, `'ll` ...) at `at`, in lower case or in any case. `None` before a character outside ASCII.
fn contraction(bytes: &[u8], at: usize, any_case: bool) -> Option<usize> {
    let Some(&first) = bytes.get(at + 1) else { return Some(0) };
    if !first.is_ascii() {
        return None;
    }
    let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
    Some(match (fold(first), bytes.get(at + 2).map(|&byte| fold(byte))) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => 3,
        _ => 0,
    })
}

impl AsciiWords {
    /// Length of the word at `at`, if the fast path can tell.
    pub(super) fn len_at(self, bytes: &[u8], at: usize) -> Option<usize> {
        let end = match self {
            Self::Gpt2 => gpt2(bytes, at),
            Self::Llama { digits } => llama(bytes, at, digits),
        };
        end.map(|end| end - at).filter(|&len| len > 0)
    }
}

fn gpt2(bytes: &[u8], at: usize) -> Option<usize> {
    let byte = *bytes.get(at)?;
    if byte == b'\'' {
        let len = contraction(bytes, at, false)?;
        if len > 0 {
            return Some(at + len);
        }
    }
    let start = at + usize::from(byte == b' ');
    match bytes.get(start).map(|&byte| CLASSES[usize::from(byte)]) {
        Some(class @ (LETTER | DIGIT | SIGN)) => run(bytes, start, class),
        Some(0) => None,
        _ => {
            let end = run(bytes, at, SPACE)?;
            // The last space belongs to the next word; alone it is no match.
            if end == bytes.len() { Some(end) } else { Some(end - 1).filter(|&end| end > at) }
        }
    }
}

fn llama(bytes: &[u8], at: usize, digits: usize) -> Option<usize> {
    let byte = *bytes.get(at)?;
    let class = CLASSES[usize::from(byte)];
    if byte == b'\'' {
        let len = contraction(bytes, at, true)?;
        if len > 0 {
            return Some(at + len);
        }
    }
    if class == LETTER {
        return run(bytes, at, LETTER);
    }
    if class == DIGIT {
        let end = bytes.iter().skip(at).take(digits).take_while(|byte| byte.is_ascii_digit()).count() + at;
        let open = end - at < digits && bytes.get(end).is_some_and(|byte| !byte.is_ascii());
        return (!open).then_some(end);
    }
    if class == 0 || bytes.get(at + 1).is_some_and(|byte| !byte.is_ascii()) {
        return None;
    }
    if class & LINE_END == 0 && is(bytes, at + 1, LETTER) {
        return run(bytes, at + 1, LETTER);
    }
    let start = at + usize::from(byte == b' ');
    if is(bytes, start, SIGN) {
        let end = run(bytes, start, SIGN)?;
        let line_ends = bytes[end..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        return Some(end + line_ends);
    }
    let end = run(bytes, at, SPACE)?;
    if let Some(last) = bytes[at..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        return Some(at + last + 1);
    }
    // The last space belongs to the next word, unless it is the only one.
    Some(if end == bytes.len() || end == at + 1 { end } else { end - 1 })
}
