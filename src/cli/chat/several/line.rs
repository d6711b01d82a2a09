//! The line in which messages are typed below the columns: a cursor, deleting by letters and words, earlier lines.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rustyline::history::{FileHistory, History as _, SearchDirection};
use unicode_width::UnicodeWidthChar as _;

use crate::chat::editor::{HISTORY, history_path};

/// A line that is being typed.
#[derive(Default)]
pub(super) struct Line {
    text: String,
    /// Bytes of the text before the cursor.
    cursor: usize,
    /// Earlier lines, the latest last, and the one that is shown.
    history: Vec<String>,
    at: usize,
    /// What was typed before an earlier line was shown.
    draft: String,
}

impl Line {
    /// An empty line, with the history that chats share.
    pub(super) fn new() -> Self {
        let mut history = FileHistory::new();
        if let Some(path) = history_path() {
            // A history that cannot be read is no reason to stop.
            let _ = history.load(&path);
        }
        let line = |i| Some(history.get(i, SearchDirection::Forward).ok()??.entry.into_owned());
        let history: Vec<String> = (0..history.len()).filter_map(line).collect();
        Self { at: history.len(), history, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the text, and keeps it in the history. A text that ends in a backslash goes on: nothing is taken.
    pub(super) fn take(&mut self) -> Option<String> {
        if self.text.ends_with('\\') && self.cursor == self.text.len() {
            self.text.pop();
            self.cursor = self.text.len();
            self.insert("\n");
            return None;
        }
        let text = std::mem::take(&mut self.text);
        self.cursor = 0;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            keep(&text);
            self.history.push(text.clone());
        }
        self.at = self.history.len();
        Some(text)
    }

    /// Forgets what is typed.
    pub(super) fn clear(&mut self) {
        self.set(String::new());
        self.at = self.history.len();
    }

    /// Puts a text where the cursor is.
    pub(super) fn insert(&mut self, text: &str) {
        let text: String = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    ");
        let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
    }

    fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    /// Takes a key that edits. Returns whether it was one.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let (before, after) = self.text.split_at(self.cursor);
        let left = before.char_indices().next_back().map_or(0, |(at, _)| at);
        let right = self.cursor + after.chars().next().map_or(0, char::len_utf8);
        match key.code {
            KeyCode::Enter if key.modifiers.contains(KeyModifiers::ALT) => self.insert("\n"),
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.text.len(),
            KeyCode::Char('u') if control => drop(self.text.drain(..std::mem::take(&mut self.cursor))),
            KeyCode::Char('k') if control => self.text.truncate(self.cursor),
            KeyCode::Char('w') if control => {
                let word = before.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1);
                let word = (word..=self.cursor).find(|&at| before.is_char_boundary(at)).unwrap_or(0);
                self.text.drain(word..self.cursor);
                self.cursor = word;
            }
            KeyCode::Char(c) if !control => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                self.text.drain(left..self.cursor);
                self.cursor = left;
            }
            KeyCode::Delete => drop(self.text.drain(self.cursor..right)),
            KeyCode::Left => self.cursor = left,
            KeyCode::Right => self.cursor = right,
            KeyCode::Home if !control => self.cursor = 0,
            KeyCode::End if !control => self.cursor = self.text.len(),
            KeyCode::Up if !control => self.earlier(),
            KeyCode::Down if !control => self.later(),
            _ => return false,
        }
        true
    }

    fn earlier(&mut self) {
        if self.at == 0 {
            return;
        }
        if self.at == self.history.len() {
            self.draft = self.text.clone();
        }
        self.at -= 1;
        self.set(self.history[self.at].clone());
    }

    fn later(&mut self) {
        if self.at < self.history.len() {
            self.at += 1;
            let text = self.history.get(self.at).unwrap_or(&self.draft).clone();
            self.set(text);
        }
    }

    /// The part of the text that has room in `width` columns, with the cursor in it, and the column of the cursor.
    pub(super) fn shown(&self, width: usize) -> (String, usize) {
        let columns = |text: &str| text.chars().map(shown).map(|c| c.width().unwrap_or(0)).sum::<usize>();
        let mut start = 0;
        while columns(&self.text[start..self.cursor]) >= width.max(1) {
            start += self.text[start..].chars().next().map_or(1, char::len_utf8);
        }
        let (mut out, mut used) = (String::new(), 0);
        for c in self.text[start..].chars().map(shown) {
            used += c.width().unwrap_or(0);
            if used > width {
                break;
            }
            out.push(c);
        }
        (out, columns(&self.text[start..self.cursor]))
    }
}

/// Adds a line to the history that chats share.
fn keep(text: &str) {
    // A history that cannot be kept is no reason to stop.
    let Some(path) = history_path() else { return };
    let mut history = FileHistory::new();
    let _ = history.set_max_len(HISTORY);
    let _ = history.add(text);
    let _ = path.parent().map(std::fs::create_dir_all);
    let _ = history.append(&path).or_else(|_| history.save(&path));
}

/// A line break as one line can show it.
const fn shown(c: char) -> char {
    if c == '\n' { '⏎' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut Line, code: KeyCode, modifiers: KeyModifiers) {
        assert!(line.key(KeyEvent::new(code, modifiers)));
    }

    fn with(text: &str) -> Line {
        let mut line = Line { history: vec!["one".to_owned(), "two".to_owned()], at: 2, ..Line::default() };
        line.insert(text);
        line
    }

    #[test]
    fn keys_edit_where_the_cursor_is() {
        let none = KeyModifiers::NONE;
        let mut line = with("modèle 模型 b");
        for _ in 0..2 {
            press(&mut line, KeyCode::Left, none);
        }
        press(&mut line, KeyCode::Backspace, none);
        assert_eq!(line.text, "modèle 模 b");
        press(&mut line, KeyCode::Char('w'), KeyModifiers::CONTROL);
        press(&mut line, KeyCode::Delete, none);
        assert_eq!(line.text, "modèle b");
        press(&mut line, KeyCode::Char('k'), KeyModifiers::CONTROL);
        press(&mut line, KeyCode::Home, none);
        press(&mut line, KeyCode::Char('X'), KeyModifiers::SHIFT);
        assert_eq!(line.text, "Xmodèle ");
        press(&mut line, KeyCode::Char('u'), KeyModifiers::CONTROL);
        assert_eq!(line.text, "modèle ");
        assert!(!line.key(KeyEvent::new(KeyCode::Tab, none)));
    }

    #[test]
    fn earlier_lines_come_back_and_so_does_the_draft() {
        let none = KeyModifiers::NONE;
        let mut line = with("draft");
        for expected in ["two", "one", "one"] {
            press(&mut line, KeyCode::Up, none);
            assert_eq!(line.text, expected);
        }
        for expected in ["two", "draft", "draft"] {
            press(&mut line, KeyCode::Down, none);
            assert_eq!(line.text, expected);
        }
    }

    #[test]
    fn what_is_shown_has_the_cursor_in_it() {
        let mut line = with("abcdefghij");
        assert_eq!(line.shown(20), ("abcdefghij".to_owned(), 10));
        assert_eq!(line.shown(5), ("ghij".to_owned(), 4));
        press(&mut line, KeyCode::Home, KeyModifiers::NONE);
        assert_eq!(line.shown(5), ("abcde".to_owned(), 0));
        line.clear();
        line.insert("a\r\n\tb\x1b[31m");
        assert_eq!(line.shown(20).0, "a⏎    b[31m");
    }
}
