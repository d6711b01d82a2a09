//! A matrix cut into rectangles that several threads write to. Each rectangle is handed out once.

#![allow(unsafe_code, reason = "rectangles of one matrix are written by several threads")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::scratch::List;

/// A matrix, `[rows, cols]`, cut into rectangles of equal size.
pub(crate) struct Grid<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    /// Rows and columns of a rectangle; the last rectangles of a column may have fewer rows.
    piece: (usize, usize),
    /// For each rectangle, row by row, whether it has been handed out.
    taken: List<AtomicBool>,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a grid is a mutable slice whose parts are handed out once.
unsafe impl Send for Grid<'_> {}
// SAFETY: as above; an atomic exchange makes sure that each part is handed out once.
unsafe impl Sync for Grid<'_> {}

impl<'a> Grid<'a> {
    /// Cuts `matrix`, whose rows have `cols` elements, into rectangles of `piece` rows and columns.
    ///
    /// # Panics
    /// When the last row is incomplete, or the columns are not a multiple of those of a rectangle.
    pub(crate) fn new(matrix: &'a mut [f32], cols: usize, piece: (usize, usize)) -> Self {
        assert!(matrix.len().is_multiple_of(cols) && cols.is_multiple_of(piece.1), "{} in {cols}", matrix.len());
        let rows = matrix.len() / cols;
        let pieces = rows.div_ceil(piece.0) * (cols / piece.1);
        let taken = (0..pieces).map(|_| AtomicBool::new(false)).collect();
        Self { start: matrix.as_mut_ptr(), rows, cols, piece, taken, matrix: PhantomData }
    }

    /// The rows of the rectangle in row `down` and column `across` of rectangles.
    ///
    /// # Panics
    /// When there is no such rectangle, or it has already been taken.
    pub(crate) fn take(&self, down: usize, across: usize) -> impl Iterator<Item = &'a mut [f32]> {
        let (height, width) = self.piece;
        let beside = self.cols / width;
        assert!(across < beside && down * height < self.rows, "no rectangle at {down}, {across}");
        assert!(!self.taken[down * beside + across].swap(true, Ordering::Relaxed), "rectangle {down}, {across}, again");
        let (start, cols) = (self.start, self.cols);
        (down * height..((down + 1) * height).min(self.rows)).map(move |row| {
            // SAFETY: inside the matrix, and not shared: this rectangle has been handed out here alone.
            unsafe { std::slice::from_raw_parts_mut(start.add(row * cols + across * width), width) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Grid;

    #[test]
    fn rectangles_are_parts_of_the_matrix() {
        let mut matrix = [0.0; 15];
        let grid = Grid::new(&mut matrix, 3, (2, 1));
        for (down, across, value) in [(0, 1, 1.0), (2, 2, 2.0), (1, 0, 3.0)] {
            grid.take(down, across).for_each(|row| row.fill(value));
        }
        drop(grid);
        let rows = [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 2.0]];
        assert_eq!(matrix.as_chunks::<3>().0, rows);
    }

    #[test]
    #[should_panic(expected = "rectangle 0, 0, again")]
    fn nobody_gets_what_another_has() {
        let mut matrix = [0.0; 4];
        let grid = Grid::new(&mut matrix, 2, (1, 1));
        let first = grid.take(0, 0);
        let second = grid.take(0, 0);
        drop((first, second));
    }
}
