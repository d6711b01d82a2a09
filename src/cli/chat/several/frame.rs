//! What stands on the screen: the columns with their names, figures and texts, and below them the line of what is typed. Plain data
//! in, rows of cells out; nothing here knows a terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::ask::Figures;
use crate::chat::wrapping;
use crate::table::{cut_at_the_end, cut_in_the_middle};

/// How a piece of a row looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Dim,
    Bold,
    /// The column that keys scroll.
    Chosen,
}

/// A row: pieces side by side.
pub(super) type Row = Vec<(Style, String)>;

/// What a text of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Thinking,
    Answer,
    Remark,
}

/// A text of a column.
struct Entry {
    kind: Kind,
    text: String,
    /// The lines of the text in so many columns.
    lines: Option<(usize, Vec<String>)>,
}

/// Where a model is with its answer.
#[derive(Clone, Debug, Default)]
pub(super) enum Status {
    #[default]
    Idle,
    Waiting,
    Reading(usize, usize),
    /// So many tokens so far.
    Answering(usize),
    Done(Figures),
    Failed,
}

/// A model's column.
#[derive(Default)]
pub(super) struct Column {
    pub(super) status: Status,
    entries: Vec<Entry>,
    /// Lines below what is shown; 0 follows the answer.
    below: usize,
    /// Lines of the whole text, and of the place for it, when it was last shown.
    seen: (usize, usize),
}

impl Column {
    /// Adds a text; a piece of what came last continues it.
    pub(super) fn add(&mut self, kind: Kind, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.entries.last_mut().filter(|entry| entry.kind == kind && kind != Kind::Remark) {
            Some(entry) => {
                entry.text.push_str(text);
                entry.lines = None;
            }
            None => self.entries.push(Entry { kind, text: text.to_owned(), lines: None }),
        }
    }

    /// Forgets all texts.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets the last message and what came after it.
    pub(super) fn take_back(&mut self) {
        if let Some(at) = self.entries.iter().rposition(|entry| entry.kind == Kind::Message) {
            self.entries.truncate(at);
        }
        self.status = Status::Idle;
        self.below = 0;
    }

    /// Scrolls by pages up (positive) or down.
    pub(super) fn scroll_pages(&mut self, pages: isize) {
        let page = isize::try_from(self.seen.1.saturating_sub(1).max(1)).unwrap_or(1);
        self.scroll(pages * page);
    }

    /// Scrolls by lines up (positive) or down.
    pub(super) fn scroll(&mut self, lines: isize) {
        let (all, room) = self.seen;
        self.below = self.below.saturating_add_signed(lines).min(all.saturating_sub(room));
    }

    /// Shows the end of the text, and what comes.
    pub(super) fn follow(&mut self) {
        self.below = 0;
    }

    /// The lines that have room, from the top.
    fn shown(&mut self, width: usize, height: usize) -> Vec<(Style, String)> {
        let mut all: Vec<(Style, &String)> = Vec::new();
        let empty = String::new();
        for entry in &mut self.entries {
            if entry.lines.as_ref().is_none_or(|(wrapped, _)| *wrapped != width) {
                let text = match entry.kind {
                    Kind::Message => format!("> {}", entry.text),
                    Kind::Remark => format!("({})", entry.text),
                    Kind::Thinking | Kind::Answer => entry.text.trim().to_owned(),
                };
                entry.lines = Some((width, wrapping::lines(&text, width)));
            }
        }
        for entry in &self.entries {
            let style = match entry.kind {
                Kind::Message => Style::Bold,
                Kind::Thinking | Kind::Remark => Style::Dim,
                Kind::Answer => Style::Plain,
            };
            if !all.is_empty() {
                all.push((Style::Plain, &empty));
            }
            all.extend(entry.lines.iter().flat_map(|(_, lines)| lines).map(|line| (style, line)));
        }
        // Who has scrolled up stays at the same lines while more come.
        let grown = all.len().saturating_sub(self.seen.0);
        if self.below > 0 {
            self.below += grown;
        }
        self.below = self.below.min(all.len().saturating_sub(height));
        self.seen = (all.len(), height);
        let end = all.len() - self.below;
        all[end.saturating_sub(height)..end].iter().map(|(style, line)| (*style, (*line).clone())).collect()
    }

    /// Its figures in at most `width` columns: what matters least goes first.
    fn figures(&self, width: usize, hidden: bool) -> String {
        let parts = match &self.status {
            Status::Idle => return String::new(),
            Status::Waiting => return "waits".to_owned(),
            Status::Failed => return "failed".to_owned(),
            Status::Reading(done, total) => return format!("reading {done} of {total}"),
            Status::Answering(tokens) => return counted(*tokens),
            // How fast a model is would tell which one it is.
            Status::Done(figures) if hidden => return counted(figures.tokens),
            Status::Done(figures) => parts(figures),
        };
        let mut shown = parts[0].clone();
        for part in &parts[1..] {
            let longer = format!("{shown}, {part}");
            if longer.width() <= width {
                shown = longer;
            }
        }
        shown
    }

    /// Where the column is scrolled to, if not at its end.
    fn place(&self) -> String {
        if self.below == 0 { String::new() } else { format!("↓{}", self.below) }
    }
}

/// The figures of an answer as texts, the most important first.
pub(super) fn parts(figures: &Figures) -> [String; 3] {
    let first = figures
        .first
        .map_or_else(|| "no token".to_owned(), |first| format!("first after {:.2} s", first.as_secs_f64()));
    [format!("{:.1} tokens/s", figures.tokens_per_second()), counted(figures.tokens), first]
}

fn counted(tokens: usize) -> String {
    if tokens == 1 { "1 token".to_owned() } else { format!("{tokens} tokens") }
}

/// What a frame is made of besides the columns.
pub(super) struct Surroundings<'a> {
    /// Names of the columns.
    pub(super) names: &'a [String],
    /// Names, and with them speeds, are hidden.
    pub(super) hidden: bool,
    /// The column that keys scroll.
    pub(super) chosen: usize,
    /// What a command has said.
    pub(super) notice: &'a str,
    /// The text of the line, cut to its room.
    pub(super) typed: &'a str,
    pub(super) help: &'a str,
}

/// The prompt of the line.
pub(super) const PROMPT: &str = "> ";
/// Rows of names, figures, two rules, the line and the help.
const AROUND: usize = 6;

/// The rows of a screen of `width` and `height`, and the row of the line.
pub(super) fn rows(
    columns: &mut [Column],
    around: &Surroundings<'_>,
    width: usize,
    height: usize,
) -> (Vec<Row>, usize) {
    let count = columns.len();
    let gaps = 3 * (count - 1);
    let inner = width.saturating_sub(gaps) / count;
    // The first columns take what is left over.
    let extra = width.saturating_sub(gaps) - inner * count;
    let widths: Vec<usize> = (0..count).map(|i| (inner + usize::from(i < extra)).max(1)).collect();
    let mut notice = if around.notice.is_empty() { Vec::new() } else { wrapping::lines(around.notice, width) };
    let room = height.saturating_sub(AROUND);
    // What was said may take up to two thirds of the room.
    let most = (room * 2 / 3).max(1).min(room);
    if notice.len() > most {
        notice.truncate(most.saturating_sub(1));
        notice.push("...".to_owned());
        notice.truncate(most);
    }
    let body = room - notice.len();
    let mut rows = vec![
        beside(&widths, |i, width| {
            let style = if i == around.chosen { Style::Chosen } else { Style::Bold };
            (style, cut_in_the_middle(&around.names[i], width))
        }),
        beside(&widths, |i, width| {
            let place = columns[i].place();
            let figures = columns[i].figures(width.saturating_sub(place.width() + 1), around.hidden);
            let gap = " ".repeat(width.saturating_sub(figures.width() + place.width()));
            (Style::Dim, format!("{figures}{gap}{place}"))
        }),
        rule(&widths, "┼"),
    ];
    let texts: Vec<Vec<(Style, String)>> =
        columns.iter_mut().zip(&widths).map(|(column, width)| column.shown(*width, body)).collect();
    rows.extend((0..body).map(|row| beside(&widths, |i, _| texts[i].get(row).cloned().unwrap_or_default())));
    rows.push(rule(&widths, "┴"));
    rows.extend(notice.into_iter().map(|line| vec![(Style::Plain, line)]));
    let line = rows.len();
    rows.push(vec![(Style::Bold, PROMPT.to_owned()), (Style::Plain, around.typed.to_owned())]);
    rows.push(vec![(Style::Dim, cut_at_the_end(around.help, width))]);
    rows.truncate(height);
    (rows, line)
}

/// A row with a cell of each column.
fn beside(widths: &[usize], mut cell: impl FnMut(usize, usize) -> (Style, String)) -> Row {
    let mut row = Row::new();
    for (i, &width) in widths.iter().enumerate() {
        if i > 0 {
            row.push((Style::Dim, " │ ".to_owned()));
        }
        let (style, text) = cell(i, width);
        let text = clipped(&text, width);
        let gap = " ".repeat(width.saturating_sub(text.width()));
        row.push((style, text));
        row.push((Style::Plain, gap));
    }
    row
}

fn rule(widths: &[usize], cross: &str) -> Row {
    let parts: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
    vec![(Style::Dim, parts.join(&format!("─{cross}─")))]
}

/// The beginning of a text that has room.
fn clipped(text: &str, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(rows: &[Row]) -> Vec<String> {
        let line = |row: &Row| row.iter().map(|(_, text)| text.as_str()).collect::<String>().trim_end().to_owned();
        rows.iter().map(line).collect()
    }

    fn columns() -> Vec<Column> {
        let mut columns = vec![Column::default(), Column::default()];
        for (column, answer) in columns.iter_mut().zip(["A fox ran. It ran far away.", "Nothing\x1b[2J."]) {
            column.add(Kind::Message, "What?");
            column.add(Kind::Answer, answer);
        }
        let time = Duration::from_secs(2);
        columns[0].status = Status::Done(Figures { first: Some(time), tokens: 12, time, cut: None });
        columns[1].status = Status::Waiting;
        columns
    }

    fn around<'a>(names: &'a [String], notice: &'a str) -> Surroundings<'a> {
        Surroundings { names, hidden: false, chosen: 0, notice, typed: "abc", help: "Ctrl-D ends" }
    }

    #[test]
    fn columns_stand_beside_each_other() {
        let names = ["q4".to_owned(), "q8".to_owned()];
        let (rows, line) = rows(&mut columns(), &around(&names, "said"), 40, 13);
        let expected = [
            "q4                  │ q8",
            "6.0 tokens/s        │ waits",
            "────────────────────┼───────────────────",
            "> What?             │ > What?",
            "                    │",
            "A fox ran. It ran   │ Nothing[2J.",
            "far away.           │",
            "                    │",
            "                    │",
            "────────────────────┴───────────────────",
            "said",
            "> abc",
            "Ctrl-D ends",
        ];
        // The first column is one wider: 37 columns are shared by two.
        assert_eq!(text(&rows), expected);
        assert_eq!(line, 11);
    }

    #[test]
    fn columns_scroll_apart_and_stay_where_they_are() {
        let names = ["q4".to_owned(), "q8".to_owned()];
        let mut columns = columns();
        let first = |columns: &mut [Column]| text(&rows(columns, &around(&names, ""), 25, 9).0)[3..6].to_vec();
        // Eleven columns each: the ends are shown.
        assert_eq!(first(&mut columns), ["A fox ran.  │ > What?", "It ran far  │", "away.       │ Nothing[2J."]);
        columns[0].scroll_pages(1);
        assert_eq!(first(&mut columns), ["> What?     │ > What?", "            │", "A fox ran.  │ Nothing[2J."]);
        columns[0].add(Kind::Answer, " And on and on and on and on.");
        assert_eq!(first(&mut columns)[2], "A fox ran.  │ Nothing[2J.");
        columns[0].scroll(-1);
        assert_eq!(first(&mut columns)[2], "It ran far  │ Nothing[2J.");
        columns[0].follow();
        assert_eq!(first(&mut columns)[2], "on.         │ Nothing[2J.");
    }

    #[test]
    fn figures_that_have_no_room_go_and_hidden_names_hide_speeds() {
        let column = &columns()[0];
        assert_eq!(column.figures(60, false), "6.0 tokens/s, 12 tokens, first after 2.00 s");
        assert_eq!(column.figures(30, false), "6.0 tokens/s, 12 tokens");
        assert_eq!(column.figures(60, true), "12 tokens");
    }

    #[test]
    fn no_screen_is_too_small() {
        let names = ["q4".to_owned(), "q8".to_owned()];
        for width in 1..30 {
            for height in 0..12 {
                let notice = "a text of several lines that somebody has said\nand more";
                let (rows, _) = rows(&mut columns(), &around(&names, notice), width, height);
                assert!(rows.len() <= height);
            }
        }
    }
}
