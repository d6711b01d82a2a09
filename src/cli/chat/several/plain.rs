//! Answers one after another under headings: where there is no terminal, or none that is wide enough for columns.

use std::collections::VecDeque;
use std::process::ExitCode;

use rustyline::error::ReadlineError;

use super::ask::{Event, Figures, Flow};
use super::{Group, commands, frame};
use crate::chat::commands::Next;
use crate::chat::editor::Messages;
use crate::chat::screen::{Screen, notice, remark};
use crate::interrupt::Catching;
use crate::model_args;

/// One answer of each model.
pub(super) fn once(group: &mut Group, message: &str) -> anyhow::Result<ExitCode> {
    let catching = Catching::new();
    let failed = print_answers(group, message, false, &|| catching.interrupted())?;
    if group.hidden {
        remark(&group.revealed());
    }
    Ok(match (catching.interrupted(), failed) {
        (true, _) => ExitCode::from(130),
        (false, true) => ExitCode::from(2),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// A conversation until the user ends it.
pub(super) fn talk(group: &mut Group) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = (0..group.members.len()).map(|i| group.label(i)).collect();
    notice(&format!("{} - /help for commands, Ctrl-C stops the answers, Ctrl-D ends", names.join(", ")));
    let mut messages = Messages::new(commands::names().collect())?;
    loop {
        for i in 0..group.members.len() {
            let label = group.label(i);
            let notes = group.members[i].state.chat.take_notes();
            notes.iter().for_each(|note| remark(&format!("{label}: {note}")));
        }
        let line = match messages.read("> ") {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => line,
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {
                remark("Ctrl-D or /exit ends");
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        match commands::run(&line, group) {
            Next::Quit => return Ok(ExitCode::SUCCESS),
            Next::Tell(text) => notice(&text),
            Next::Say(message) => {
                print_answers(group, &message, true, &|| messages.interrupted())?;
            }
        }
    }
}

/// Prints the answers in the order of the models. Returns whether one of them has failed.
fn print_answers(
    group: &mut Group,
    message: &str,
    thinking: bool,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<bool> {
    let labels: Vec<String> = (0..group.members.len()).map(|i| group.label(i)).collect();
    let verbose = group.members.iter().any(|member| member.state.verbose) && !group.hidden;
    let mut printer = Printer { labels, at: 0, screen: Screen::new(), thinking, verbose, failed: false };
    // What comes from models whose turn to be printed it is not yet.
    let mut later: Vec<VecDeque<Event>> = printer.labels.iter().map(|_| VecDeque::new()).collect();
    let mut written = Ok(());
    group.ask(message, &mut |event| {
        if let Some((i, event)) = event {
            later[i].push_back(event);
        }
        while let Some(event) = later.get_mut(printer.at).and_then(VecDeque::pop_front) {
            if written.is_ok() {
                written = printer.print(event);
            }
        }
        if written.is_err() || interrupted() { Flow::StopAll } else { Flow::GoOn }
    });
    written?;
    Ok(printer.failed)
}

/// Prints one answer after another.
struct Printer {
    labels: Vec<String>,
    /// The model whose answer is printed.
    at: usize,
    screen: Screen,
    thinking: bool,
    verbose: bool,
    failed: bool,
}

impl Printer {
    fn print(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Begun => {
                let gap = if self.at > 0 { "\n" } else { "" };
                model_args::print(&format!("{gap}=== {} ===\n\n", self.labels[self.at]))?;
                self.screen = Screen::new();
            }
            Event::Reading(done, total) => self.screen.reading(done, total),
            Event::Text(text) => self.screen.answer(&text)?,
            Event::Thinking(text) if self.thinking => self.screen.thought(&text)?,
            Event::Thinking(_) => {}
            Event::Note(text) => self.screen.remark(&text)?,
            Event::Ended(result) => self.end(result)?,
        }
        Ok(())
    }

    fn end(&mut self, result: Result<Figures, String>) -> anyhow::Result<()> {
        self.screen.finish()?;
        match result {
            Ok(figures) => {
                model_args::print("\n")?;
                if let Some(why) = figures.cut {
                    remark(why);
                }
                if self.verbose {
                    notice(&frame::parts(&figures).join(", "));
                }
            }
            Err(error) => {
                self.failed = true;
                notice(&format!("error: {}: {error}", self.labels[self.at]));
            }
        }
        self.at += 1;
        Ok(())
    }
}
