//! The origin of an output tensor's rows and columns in the source tensor: the steps of a rule, inverted.

use crate::arch::Step;

/// The steps that move elements, last first, with the size that each acts on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    stages: Vec<Stage>,
    /// Rows and columns of the source tensor.
    pub(crate) source_rows: u64,
    pub(crate) source_cols: u64,
    /// Whether the source tensor may have more rows.
    pub(crate) at_least: bool,
    /// Whether the source tensor has the shape of the output.
    pub(crate) same_shape: bool,
    /// Whether it may have fewer rows, and those that are missing are zeros.
    pub(crate) padded: bool,
    /// Whether only the number of its elements counts.
    pub(crate) reshaped: bool,
}

#[derive(Clone, Debug)]
enum Stage {
    /// A step and the number of rows after it.
    Rows(Step, u64),
    /// A step and the number of columns after it.
    Columns(Step, u64),
    /// Rows of a matrix after the swap, and its columns.
    Transpose(u64, u64),
}

impl Layout {
    /// The layout of an output part of `rows` rows of `cols`, which is a stack of matrices of `matrix` rows.
    pub(crate) fn new(steps: &[Step], rows: u64, cols: u64, matrix: u64) -> Self {
        let mut layout = Self { source_rows: rows, source_cols: cols, same_shape: true, ..Self::default() };
        let mut matrix = matrix.max(1);
        for step in steps.iter().rev() {
            match step {
                Step::Add(_) | Step::NegExp | Step::Multiplier { .. } | Step::Scale { .. } => {}
                Step::Reshape => layout.reshaped = true,
                Step::PadRows => layout.padded = true,
                Step::Transpose => {
                    let (rows, cols) = (layout.source_rows, layout.source_cols);
                    layout.stages.push(Stage::Transpose(matrix, cols));
                    layout.source_rows = (rows / matrix).saturating_mul(cols);
                    layout.source_cols = matrix;
                    matrix = cols.max(1);
                    layout.same_shape = false;
                }
                Step::Columns(step) => {
                    layout.stages.push(Stage::Columns((**step).clone(), layout.source_cols));
                    layout.source_cols = before(step, layout.source_cols);
                }
                step => {
                    layout.stages.push(Stage::Rows(step.clone(), layout.source_rows));
                    layout.at_least |= matches!(step, Step::Rows { .. });
                    let rows = before(step, layout.source_rows);
                    matrix = (matrix.saturating_mul(rows) / layout.source_rows.max(1)).max(1);
                    layout.source_rows = rows;
                }
            }
        }
        layout.same_shape &= (layout.source_rows, layout.source_cols) == (rows, cols) && !layout.at_least;
        layout
    }

    /// Whether an output row is a row of the source, with its columns in the same order.
    pub(crate) fn keeps_rows_whole(&self) -> bool {
        self.stages.iter().all(|stage| matches!(stage, Stage::Rows(..)))
    }

    /// Whether any element moves.
    pub(crate) fn moves(&self) -> bool {
        !self.stages.is_empty()
    }

    /// Whether columns become rows.
    pub(crate) fn transposes(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Transpose(..)))
    }

    /// Row and column in the source of an element of the output.
    pub(crate) fn source(&self, mut row: u64, mut col: u64) -> (u64, u64) {
        for stage in &self.stages {
            match stage {
                Stage::Rows(step, total) => row = source(step, row, *total),
                Stage::Columns(step, total) => col = source(step, col, *total),
                Stage::Transpose(matrix, cols) => (row, col) = (row / matrix * cols + col, row % matrix),
            }
        }
        (row, col)
    }
}

/// Number of rows before a step, if there are `rows` after it.
fn before(step: &Step, rows: u64) -> u64 {
    match step {
        Step::Rows { start, count } => (start + count) as u64,
        Step::RowsOfEach { of, ranges } => {
            let kept: usize = ranges.iter().map(ExactSizeIterator::len).sum();
            rows / (kept as u64).max(1) * *of as u64
        }
        Step::EverySecond { .. } => rows.saturating_mul(2),
        _ => rows,
    }
}

/// The row that becomes `row` of the `total` rows after a step.
fn source(step: &Step, row: u64, total: u64) -> u64 {
    match step {
        Step::InterleaveHalves { heads } => {
            let head = (total / *heads as u64).max(1);
            let within = row % head;
            row - within + within / 2 + within % 2 * (head / 2)
        }
        Step::Rows { start, .. } => *start as u64 + row,
        Step::RowsOfEach { of, ranges } => {
            let kept: usize = ranges.iter().map(ExactSizeIterator::len).sum();
            let groups = total / (kept as u64).max(1);
            let mut row = row;
            for range in ranges {
                let len = range.len() as u64;
                if row < groups * len {
                    return row / len * *of as u64 + range.start as u64 + row % len;
                }
                row -= groups * len;
            }
            row
        }
        Step::EverySecond { start } => *start as u64 + 2 * row,
        Step::Interleave { start, groups, each, len } => {
            let (start, groups, each, len) = (*start as u64, *groups as u64, *each as u64, *len as u64);
            let Some(offset) = row.checked_sub(start) else { return row };
            let (piece, within) = (offset / len.max(1), offset % len.max(1));
            let (turn, group) = (piece / groups.max(1), piece % groups.max(1));
            start + (group * each + turn) * len + within
        }
        _ => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(step: Step, total: u64) -> Vec<u64> {
        let layout = Layout::new(&[step], total, 1, total);
        (0..total).map(|row| layout.source(row, 0).0).collect()
    }

    #[test]
    fn steps_find_their_rows() {
        assert_eq!(rows(Step::InterleaveHalves { heads: 2 }, 8), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(rows(Step::Rows { start: 3, count: 2 }, 2), [3, 4]);
        assert_eq!(rows(Step::EverySecond { start: 1 }, 3), [1, 3, 5]);
        assert_eq!(rows(Step::RowsOfEach { of: 5, ranges: vec![0..1, 3..5] }, 6), [0, 5, 3, 4, 8, 9]);
        assert_eq!(rows(Step::Interleave { start: 1, groups: 2, each: 3, len: 1 }, 7), [0, 1, 4, 2, 5, 3, 6]);
        assert_eq!(rows(Step::Interleave { start: 0, groups: 2, each: 2, len: 2 }, 8), [0, 1, 4, 5, 2, 3, 6, 7]);
    }

    #[test]
    fn sources_have_the_shape_that_steps_undo() {
        let shape = |steps: &[Step], rows, cols, matrix| {
            let layout = Layout::new(steps, rows, cols, matrix);
            (layout.source_rows, layout.source_cols, layout.at_least, layout.same_shape)
        };
        assert_eq!(shape(&[], 6, 4, 6), (6, 4, false, true));
        assert_eq!(shape(&[Step::Rows { start: 6, count: 6 }], 6, 4, 6), (12, 4, true, false));
        // Two matrices of 3 rows of 5, from two of 5 rows of 6.
        let steps = [Step::Transpose, Step::EverySecond { start: 1 }];
        assert_eq!(shape(&steps, 6, 5, 3), (10, 6, false, false));
        let layout = Layout::new(&steps, 6, 5, 3);
        assert_eq!(layout.source(4, 2), (5 + 2, 3));
        // Two heads of 2 rows and 3 others; each turned.
        let steps = [Step::RowsOfEach { of: 5, ranges: vec![0..2, 0..0] }, Step::Transpose];
        assert_eq!(shape(&steps, 8, 2, 4), (10, 4, false, false));
        assert_eq!(Layout::new(&steps, 8, 2, 4).source(5, 1), (6, 1));
        let columns = [Step::Columns(Box::new(Step::EverySecond { start: 0 }))];
        assert_eq!(shape(&columns, 2, 3, 2), (2, 6, false, false));
    }
}
