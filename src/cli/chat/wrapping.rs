//! Wraps a text that comes in pieces at words, for [`super::screen`] and the columns of several models, and drops what could steer a
//! terminal.

use unicode_width::UnicodeWidthChar;

/// A text that is being wrapped.
pub(super) struct Wrapping {
    /// Columns of a line; `None` for as many as there are.
    width: Option<usize>,
    /// Columns of the line so far.
    column: usize,
    /// A word that has not ended, and its columns.
    word: String,
    word_columns: usize,
}

impl Wrapping {
    pub(super) const fn new(width: Option<usize>) -> Self {
        Self { width, column: 0, word: String::new(), word_columns: 0 }
    }

    /// Adds a piece of text, and writes to `out` what is certain.
    pub(super) fn push(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            match c {
                '\n' => {
                    self.end_word(out);
                    self.column = 0;
                    out.push('\n');
                }
                ' ' | '\t' => {
                    self.end_word(out);
                    self.space(if c == '\t' { "    " } else { " " }, out);
                }
                // The program's own escapes are the only ones.
                c if steers(c) => {}
                c => {
                    // A letter that would not fit the line begins a word of its own.
                    let columns = c.width().unwrap_or(0);
                    if self.width.is_some_and(|width| self.word_columns + columns > width) {
                        self.end_word(out);
                    }
                    self.word.push(c);
                    self.word_columns += columns;
                    // Scripts without spaces may break anywhere.
                    if columns == 2 || self.width.is_some_and(|width| self.word_columns >= width) {
                        self.end_word(out);
                    }
                }
            }
        }
    }

    /// Ends the word, which goes to a line of its own where it does not fit this one.
    pub(super) fn end_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        if self.width.is_some_and(|width| self.column > 0 && self.column + self.word_columns > width) {
            self.column = 0;
            out.push('\n');
        }
        self.column += self.word_columns;
        self.word_columns = 0;
        out.push_str(&std::mem::take(&mut self.word));
    }

    /// Adds a space, unless nothing would fit behind it: the next word begins another line.
    fn space(&mut self, space: &str, out: &mut String) {
        match self.width {
            Some(width) if self.column + space.len() >= width => {
                self.column = if self.column > 0 { width } else { 0 };
            }
            _ => {
                self.column += space.len();
                out.push_str(space);
            }
        }
    }

    /// Notes that the caller begins a line. Returns whether there is anything on the one so far.
    pub(super) fn begin_line(&mut self) -> bool {
        std::mem::take(&mut self.column) > 0
    }
}

/// Whether a character steers a terminal: a control, or one that turns the direction of all that follows.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The lines of a text in so many columns.
pub(super) fn lines(text: &str, width: usize) -> Vec<String> {
    let (mut wrapping, mut out) = (Wrapping::new(Some(width.max(1))), String::new());
    wrapping.push(text, &mut out);
    wrapping.end_word(&mut out);
    out.split('\n').map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_break_at_words_and_keep_their_own_breaks() {
        assert_eq!(
            lines("Once upon a time\n- a fox\n\n  and more", 10),
            ["Once upon", "a time", "- a fox", "", "  and more"]
        );
        assert_eq!(lines("abcdefghijkl mn", 5), ["abcde", "fghij", "kl mn"]);
        assert_eq!(lines("a\tb", 20), ["a    b"]);
    }

    #[test]
    fn wide_characters_break_anywhere_and_escapes_are_dropped() {
        assert_eq!(lines("模型模型模", 5), ["模型", "模型", "模"]);
        assert_eq!(lines("a\x1b[31mred\x07\u{9b}2J\u{202e}", 40), ["a[31mred2J"]);
    }
}
