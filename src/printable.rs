//! Makes text from files safe to print: characters that could control a terminal or forge a line of a log are escaped.
//!
//! Everything that is printed from a model file (names, values, paths, errors of templates) is escaped here.

use std::fmt::{self, Write as _};
use std::path::Path;

/// Text whose [`Display`](fmt::Display) form is one line of printable characters.
///
/// Control and format characters (also the bidirectional ones), line separators and unassigned code points appear as
/// `\n` or `\u{1b}`, bytes that are not UTF-8 as `\xff`. Letters of all scripts are unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a> {
    bytes: &'a [u8],
    max_chars: usize,
}

/// Makes `text` safe to print.
#[must_use]
pub fn printable<T: AsRef<[u8]> + ?Sized>(text: &T) -> Printable<'_> {
    Printable { bytes: text.as_ref(), max_chars: usize::MAX }
}

/// Makes a path safe to print.
#[must_use]
pub fn printable_path(path: &Path) -> Printable<'_> {
    printable(path.as_os_str().as_encoded_bytes())
}

impl Printable<'_> {
    /// Cuts the text after `max_chars` characters, and shows the cut as `...`.
    #[must_use]
    pub const fn limit(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.max_chars;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_str("...");
                }
                left -= 1;
                write_char(f, c)?;
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_str("...");
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    if is_printable(c) { f.write_char(c) } else { write!(f, "{}", c.escape_debug()) }
}

fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Combining marks are escaped only at the start of a string, so a letter is put before.
    let mut buffer = *b"a\0\0\0\0";
    let (_, rest) = buffer.split_at_mut(1);
    let len = 1 + c.encode_utf8(rest).len();
    str::from_utf8(&buffer[..len]).is_ok_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn terminals_cannot_be_steered() {
        assert_eq!(printable("a\x1b[31m\nerror: x").to_string(), "a\\u{1b}[31m\\nerror: x");
        assert_eq!(printable("\u{202e}gnp.exe\u{2028}\u{7f}").to_string(), "\\u{202e}gnp.exe\\u{2028}\\u{7f}");
        assert_eq!(printable(&b"ok\xff\xc3"[..]).to_string(), "ok\\xff\\xc3");
    }

    #[test]
    fn letters_stay() {
        for text in ["häl\\lo \"x\"", "▁Ünï", "नमस्ते", "日本語", "👩‍🚀".split('\u{200d}').next().unwrap_or("")]
        {
            assert_eq!(printable(text).to_string(), text);
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable("abcdef").limit(3).to_string(), "abc...");
        assert_eq!(printable("abc").limit(3).to_string(), "abc");
    }
}
