//! What standard output is: a terminal or not, how wide, and whether it may get borders and colours.

use std::io::{self, IsTerminal};

use terminal_size::{Width, terminal_size_of};

/// Columns of the terminal behind standard output; `None` where there is no terminal, or it does not say (it reports 0
/// columns, as one does that `script` made without a terminal of its own).
pub(crate) fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    terminal_size_of(stdout).map(|(Width(columns), _)| usize::from(columns)).filter(|&columns| columns > 0)
}

/// Whether borders and colours are wanted: on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
pub(crate) fn is_rich() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !no_color && !dumb
}
