//! Progress bars on standard error: shown on a terminal, silent elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes: done, rate, time left.
pub(crate) fn bytes(total: u64, what: &str) -> ProgressBar {
    bar(total, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}").with_message(what.to_owned())
}

/// A bar over steps, with a message before and one after it.
pub(crate) fn steps(total: u64, what: &str) -> ProgressBar {
    bar(total, "{prefix} {wide_bar} {pos}/{len} {msg} {eta}").with_prefix(what.to_owned())
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}
