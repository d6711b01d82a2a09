//! Ctrl-C: ends the program, or only an answer while one is under way, or nothing while another program has the terminal.

use std::sync::atomic::{AtomicBool, Ordering};

static CATCHING: AtomicBool = AtomicBool::new(false);
static IGNORING: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// While it lives, Ctrl-C is only noted; a second one ends the program after all.
pub(crate) struct Catching(());

impl Catching {
    pub(crate) fn new() -> Self {
        INTERRUPTED.store(false, Ordering::SeqCst);
        CATCHING.store(true, Ordering::SeqCst);
        Self(())
    }

    /// Whether Ctrl-C has come.
    pub(crate) fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

impl Drop for Catching {
    fn drop(&mut self) {
        CATCHING.store(false, Ordering::SeqCst);
    }
}

/// While it lives, Ctrl-C is not for this program.
pub(crate) struct Ignoring(());

impl Ignoring {
    pub(crate) fn new() -> Self {
        IGNORING.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Ignoring {
    fn drop(&mut self) {
        IGNORING.store(false, Ordering::SeqCst);
    }
}

/// Notes a Ctrl-C. Returns whether somebody has caught it.
pub(crate) fn note() -> bool {
    IGNORING.load(Ordering::SeqCst) || CATCHING.load(Ordering::SeqCst) && !INTERRUPTED.swap(true, Ordering::SeqCst)
}
