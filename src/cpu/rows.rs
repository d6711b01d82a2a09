//! Parallel operations on the rows of a buffer.

use std::sync::Mutex;

use crate::kernels::{List, Pool, Scratch};

/// Minimum elements of a task: less work is not worth handing to another thread.
const MIN_TASK_ELEMENTS: usize = 1 << 13;

/// A copy of `x`, each of its rows of `cols` elements passed through `f`.
pub(super) fn copy_rows(pool: &Pool, x: &[f32], cols: usize, f: impl Fn(&mut [f32]) + Sync) -> Scratch {
    let mut out = Scratch::new(x.len());
    for_rows(pool, &mut out, cols, |i, row| {
        row.copy_from_slice(&x[i * cols..(i + 1) * cols]);
        f(row);
    });
    out
}

/// Calls `f(row, values)` for each row of `cols` elements of `data`.
pub(super) fn for_rows(pool: &Pool, data: &mut [f32], cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = data.len() / cols;
    let rows_per_task = MIN_TASK_ELEMENTS.div_ceil(cols).max(rows.div_ceil(pool.threads() * 4)).max(1);
    if rows <= rows_per_task {
        data.chunks_exact_mut(cols).enumerate().for_each(|(row, values)| f(row, values));
        return;
    }
    let tasks: List<_> = data.chunks_mut(rows_per_task * cols).map(Mutex::new).collect();
    pool.run(tasks.len(), &|task| {
        // Each task locks its own chunk once, so no thread ever waits.
        let mut chunk = tasks[task].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (i, values) in chunk.chunks_exact_mut(cols).enumerate() {
            f(task * rows_per_task + i, values);
        }
    });
}

/// Drops all rows but these (ascending), of `cols` elements.
pub(super) fn keep_rows<T: Copy>(data: &mut Vec<T>, cols: usize, rows: &[u32]) {
    move_rows(data, cols, rows);
    data.truncate(rows.len() * cols);
}

/// Moves these rows (ascending), of `cols` elements, to the front.
pub(super) fn move_rows<T: Copy>(data: &mut [T], cols: usize, rows: &[u32]) {
    for (to, from) in rows.iter().map(|&row| row as usize).enumerate() {
        data.copy_within(from * cols..(from + 1) * cols, to * cols);
    }
}
