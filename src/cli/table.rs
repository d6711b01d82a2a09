//! Tables: with borders on a terminal that has room for them, in plain aligned columns elsewhere, so that `grep` and
//! `awk` can read them. Numbers and names are never broken over two lines: a terminal that is too narrow gets fewer
//! columns.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, presets};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal;

/// Side on which the cells of a column line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Where a text that is too long for its column is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    Middle,
    End,
}

/// A named column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    align: Align,
    cut: Cut,
    /// The column with the highest rank is the first to be left out; 0 stays.
    rank: u8,
}

impl Column {
    /// A column of numbers.
    pub(crate) const fn right(name: &'static str) -> Self {
        Self { name, align: Align::Right, cut: Cut::Never, rank: 0 }
    }

    /// A column of short texts.
    pub(crate) const fn left(name: &'static str) -> Self {
        Self { name, align: Align::Left, cut: Cut::Never, rank: 0 }
    }

    /// A column of names, whose beginnings and ends tell them apart.
    pub(crate) const fn names(name: &'static str) -> Self {
        Self { name, align: Align::Left, cut: Cut::Middle, rank: 0 }
    }

    /// A column of texts, whose beginnings matter.
    pub(crate) const fn texts(name: &'static str) -> Self {
        Self { name, align: Align::Left, cut: Cut::End, rank: 0 }
    }

    /// May be left out; those of higher `rank` first.
    pub(crate) const fn optional(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }
}

/// Rows of text under named columns.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [Column; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

/// Columns that are shown: their numbers and widths.
struct Layout {
    shown: Vec<(usize, usize)>,
    borders: bool,
}

/// Width below which texts are not cut.
const MIN_CUT: usize = 12;

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) const fn new(columns: [Column; COLUMNS]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes the table to standard output, as fits it.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_laid_out(out, &self.layout(terminal::width(), terminal::is_rich()))
    }

    /// Writes all columns without borders, as wide as they are.
    pub(crate) fn write_plain(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_laid_out(out, &self.layout(None, false))
    }

    fn header(&self) -> [String; COLUMNS] {
        self.columns.map(|column| column.name.to_owned())
    }

    /// What of the table is shown in so many columns of a terminal.
    fn layout(&self, room: Option<usize>, rich: bool) -> Layout {
        let header = self.header();
        let width = |i: usize| self.rows.iter().chain([&header]).map(|row| row[i].width()).max().unwrap_or(0);
        let mut shown: Vec<(usize, usize)> = (0..COLUMNS).map(|i| (i, width(i))).collect();
        let Some(room) = room else { return Layout { shown, borders: rich } };
        let total = |shown: &[(usize, usize)], gap: usize| shown.iter().map(|(_, width)| width + gap).sum::<usize>();
        if rich && total(&shown, 3) < room {
            return Layout { shown, borders: true };
        }
        let excess = |shown: &[(usize, usize)]| (total(shown, 2)).saturating_sub(2 + room);
        while excess(&shown) > 0 {
            let optional = shown.iter().enumerate().filter(|(_, (i, _))| self.columns[*i].rank > 0);
            let Some((at, _)) = optional.max_by_key(|(_, (i, _))| self.columns[*i].rank) else { break };
            shown.remove(at);
        }
        // The widest text gives way first.
        while excess(&shown) > 0 {
            let can = |&(i, width): &(usize, usize)| self.columns[i].cut != Cut::Never && width > MIN_CUT;
            let excess = excess(&shown);
            let widest = shown.iter_mut().filter(|column| can(column)).max_by_key(|(_, width)| *width);
            let Some((_, width)) = widest else { break };
            *width = width.saturating_sub(excess).max(MIN_CUT);
        }
        Layout { shown, borders: false }
    }

    fn write_laid_out(&self, out: &mut impl Write, layout: &Layout) -> io::Result<()> {
        let header = self.header();
        if !layout.borders {
            let mut rows = std::iter::once(&header).chain(&self.rows);
            return rows.try_for_each(|row| writeln!(out, "{}", self.plain_line(row, layout)));
        }
        // Cells are cut to their widths already: nothing is left for the library to arrange.
        let mut drawn = comfy_table::Table::new();
        drawn.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        let cells = |row: &[String; COLUMNS]| -> Vec<String> {
            layout.shown.iter().map(|&(i, width)| self.cell(row, i, width)).collect()
        };
        drawn.set_header(cells(&header));
        drawn.add_rows(self.rows.iter().map(cells));
        writeln!(out, "{drawn}")
    }

    fn plain_line(&self, row: &[String; COLUMNS], layout: &Layout) -> String {
        let cells: Vec<String> = layout.shown.iter().map(|&(i, width)| self.cell(row, i, width)).collect();
        // Lines end with text.
        cells.join("  ").trim_end().to_owned()
    }

    /// A cell as wide as its column.
    fn cell(&self, row: &[String; COLUMNS], i: usize, width: usize) -> String {
        let text = match self.columns[i].cut {
            Cut::Never => row[i].clone(),
            Cut::Middle => cut_in_the_middle(&row[i], width),
            Cut::End => cut_at_the_end(&row[i], width),
        };
        let gap = " ".repeat(width.saturating_sub(text.width()));
        if self.columns[i].align == Align::Right { gap + &text } else { text + &gap }
    }
}

/// `text` in at most `width` columns, its middle as `…`.
pub(crate) fn cut_in_the_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let head = taken(text.chars(), room.div_ceil(2));
    let tail = taken(text.chars().rev(), room / 2);
    format!("{head}…{}", tail.chars().rev().collect::<String>())
}

/// `text` in at most `width` columns, its end as `…`.
pub(crate) fn cut_at_the_end(text: &str, width: usize) -> String {
    if text.width() <= width { text.to_owned() } else { taken(text.chars(), width.saturating_sub(1)) + "…" }
}

/// `text` in lines of at most `width` columns, broken at blanks; a longer word is a line of its own.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let used = lines.last().map_or(0, |line| line.width());
        if used > 0 && used + 1 + word.width() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The first characters that have room in `width` columns.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width;
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= left;
        left = left.saturating_sub(columns);
        fits
    };
    chars.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::{Column, Table, cut_in_the_middle, wrapped};

    fn table() -> Table<4> {
        let columns =
            [Column::names("name"), Column::right("bytes"), Column::right("rate").optional(1), Column::left("x")];
        let mut table = Table::new(columns);
        table.row(["a".into(), "1".into(), "10".into(), "häl".into()]);
        table.row(["blk.10.attn_output.weight".into(), "123456".into(), "2".into(), String::new()]);
        table
    }

    fn lines(room: Option<usize>, rich: bool) -> Vec<String> {
        let (table, mut out) = (table(), Vec::new());
        table.write_laid_out(&mut out, &table.layout(room, rich)).expect("memory");
        String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
    }

    #[test]
    fn plain_columns_line_up() {
        let expected = [
            "name                        bytes  rate  x",
            "a                               1    10  häl",
            "blk.10.attn_output.weight  123456     2",
        ];
        assert_eq!(lines(None, false), expected);
        assert_eq!(lines(Some(44), true), expected, "borders have no room");
    }

    #[test]
    fn borders_are_drawn_where_they_have_room() {
        let lines = lines(Some(51), true);
        assert_eq!(lines[1], "│ name                      ┆  bytes ┆ rate ┆ x   │");
        assert!(lines.iter().all(|line| line.chars().count() == 51), "{lines:?}");
    }

    #[test]
    fn narrow_terminals_get_fewer_columns_then_shorter_names() {
        assert_eq!(lines(Some(40), true)[2], "blk.10.attn_output.weight  123456");
        assert_eq!(lines(Some(30), true)[2], "blk.10.a…t.weight  123456");
        // What does not fit at all is whole all the same.
        assert_eq!(lines(Some(1), true)[2], "blk.10…eight  123456");
    }

    #[test]
    fn texts_are_broken_at_blanks() {
        assert_eq!(wrapped("aa bb ccccccc d", 5), ["aa bb", "ccccccc", "d"]);
        assert_eq!(wrapped("aa bb", 80), ["aa bb"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(cut_in_the_middle("模型模型模型", 7), "模…型");
        assert_eq!(cut_in_the_middle("abcdefg", 7), "abcdefg");
        assert_eq!(cut_in_the_middle("abcdefgh", 7), "abc…fgh");
    }
}
