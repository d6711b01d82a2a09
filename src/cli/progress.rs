//! What goes to standard error beside errors: remarks, and progress bars, which are shown on a terminal and silent elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Says whether remarks and progress are dropped.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether remarks and progress are dropped.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a line to standard error, if that can be.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A bar over bytes: done, rate, time left.
pub(crate) fn bytes(total: u64, what: &str) -> ProgressBar {
    bar(total, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}").with_message(what.to_owned())
}

/// A bar over steps, with a message before and one after it.
pub(crate) fn steps(total: u64, what: &str) -> ProgressBar {
    bar(total, "{prefix} {wide_bar} {pos}/{len} {msg} {eta}").with_prefix(what.to_owned())
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let is_shown = io::stderr().is_terminal() && !is_quiet();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}
