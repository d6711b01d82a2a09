//! Tables: with borders on a terminal, in plain aligned columns elsewhere, so that `grep` and `awk` can read them.

use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// Side on which the cells of a column line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of text under named columns.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) const fn new(columns: [(&'static str, Align); COLUMNS]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes the table to standard output, as fits it.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if io::stdout().is_terminal() { self.write_bordered(out) } else { self.write_plain(out) }
    }

    fn write_bordered(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.columns.map(|(name, _)| name));
        for row in &self.rows {
            table.add_row(row);
        }
        for (column, (_, align)) in table.column_iter_mut().zip(&self.columns) {
            if *align == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{table}")
    }

    /// Writes the table without borders.
    pub(crate) fn write_plain(&self, out: &mut impl Write) -> io::Result<()> {
        let header = self.columns.map(|(name, _)| name.to_owned());
        let mut widths = [0; COLUMNS];
        for row in std::iter::once(&header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            let mut owed = 0;
            for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(widths) {
                let gap = width - cell.chars().count();
                let (before, after) = if *align == Align::Right { (gap, 0) } else { (0, gap) };
                // What comes after a cell is owed until another one follows: lines end with text.
                if !cell.is_empty() {
                    line.extend(std::iter::repeat_n(' ', owed + before));
                    line.push_str(cell);
                    owed = after + 2;
                } else {
                    owed += gap + 2;
                }
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn plain_columns_line_up() {
        let mut table = Table::new([("name", Align::Left), ("bytes", Align::Right), ("x", Align::Left)]);
        table.row(["a".into(), "1".into(), "häl".into()]);
        table.row(["longer".into(), "123456".into(), String::new()]);
        let mut out = Vec::new();
        table.write_plain(&mut out).expect("memory");
        assert_eq!(String::from_utf8_lossy(&out), "name     bytes  x\na            1  häl\nlonger  123456\n");
    }
}
