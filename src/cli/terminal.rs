//! What standard output is: a terminal or not, how wide, and whether it may get borders and colours.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
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
    io::stdout().is_terminal() && !no_color && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Whether keys can be read one by one, and the cursor moved: a program may take the whole screen.
pub(crate) fn can_be_steered() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb()
}

/// Whether the program has the whole screen.
static FULL: AtomicBool = AtomicBool::new(false);

/// While it lives, the program has the whole screen, and keys come one by one.
pub(crate) struct FullScreen(());

impl FullScreen {
    /// Takes the screen; what was on it comes back afterwards.
    ///
    /// # Errors
    /// When the terminal does not allow it.
    pub(crate) fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        FULL.store(true, Ordering::SeqCst);
        let screen = Self(());
        execute!(io::stdout(), EnterAlternateScreen)?;
        // Pastes are distinguished from keys where the terminal can do that.
        let _ = execute!(io::stdout(), EnableBracketedPaste);
        Ok(screen)
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave_full_screen();
    }
}

/// Gives the screen back, if the program has it: at the end, and before it says why it ends.
pub(crate) fn leave_full_screen() {
    if FULL.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}
