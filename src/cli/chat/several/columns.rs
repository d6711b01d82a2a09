//! Answers side by side on the whole screen. Keys are read and the screen is drawn here; what stands on it comes from [`frame`].

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{Clear, ClearType, size};
use crossterm::{cursor, queue};

use super::ask::{Event, Flow};
use super::frame::{self, Column, Kind, PROMPT, Row, Status, Style, Surroundings};
use super::line::Line;
use super::{Group, commands};
use crate::chat::commands::Next;
use crate::interrupt::Catching;
use crate::terminal::FullScreen;

/// Time between two drawings while answers come.
const BETWEEN_FRAMES: Duration = Duration::from_millis(33);
/// How long a key is waited for before something else is looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a key has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// Stop the answers that are under way.
    Stop,
    Quit,
}

/// The screen, and what is on it.
struct Screen {
    columns: Vec<Column>,
    line: Line,
    /// Lines that are typed while answers come.
    typed: VecDeque<String>,
    notice: String,
    chosen: usize,
    /// What is drawn already.
    drawn: Vec<Row>,
    size: (u16, u16),
    last_frame: Instant,
    changed: bool,
}

/// A conversation until the user ends it.
pub(super) fn talk(group: &mut Group) -> anyhow::Result<ExitCode> {
    let mut screen = Screen::new(group);
    // A signal that ends the program gives the screen back first.
    let catching = Catching::new();
    let full = FullScreen::enter()?;
    let code = screen.run(group, &|| catching.interrupted());
    drop(full);
    code
}

impl Screen {
    fn new(group: &mut Group) -> Self {
        let mut columns: Vec<Column> = group.members.iter().map(|_| Column::default()).collect();
        for (member, column) in group.members.iter_mut().zip(&mut columns) {
            member.state.chat.take_notes().iter().for_each(|note| column.add(Kind::Remark, &note.to_string()));
        }
        Self {
            columns,
            line: Line::new(),
            typed: VecDeque::new(),
            notice: String::new(),
            chosen: 0,
            drawn: Vec::new(),
            size: size().unwrap_or((80, 24)),
            last_frame: Instant::now(),
            changed: true,
        }
    }

    fn run(&mut self, group: &mut Group, ended: &dyn Fn() -> bool) -> anyhow::Result<ExitCode> {
        loop {
            if ended() {
                return Ok(ExitCode::from(130));
            }
            if let Some(line) = self.typed.pop_front() {
                if line.trim().is_empty() {
                    continue;
                }
                match self.command(&line, group) {
                    Next::Quit => return Ok(ExitCode::SUCCESS),
                    Next::Tell(text) => self.notice = text,
                    Next::Say(message) => {
                        if self.ask(&message, group, ended)? {
                            return Ok(ExitCode::SUCCESS);
                        }
                    }
                }
                self.changed = true;
                continue;
            }
            self.draw(&group.look())?;
            match self.read(PATIENCE)? {
                Wish::Quit => return Ok(ExitCode::SUCCESS),
                Wish::Stop => {
                    self.line.clear();
                    "Ctrl-D or /exit ends".clone_into(&mut self.notice);
                }
                Wish::Nothing => {}
            }
        }
    }

    /// Runs a line; columns forget what the conversations forget.
    fn command(&mut self, line: &str, group: &mut Group) -> Next {
        self.notice.clear();
        let before = group.messages();
        let next = commands::run(line, group);
        if matches!(line.split_whitespace().next(), Some("/clear" | "/new")) {
            self.columns.iter_mut().for_each(Column::clear);
        } else if group.messages() < before {
            self.columns.iter_mut().for_each(Column::take_back);
        }
        next
    }

    /// Lets all models answer. Returns whether the user wants to end.
    fn ask(&mut self, message: &str, group: &mut Group, ended: &dyn Fn() -> bool) -> anyhow::Result<bool> {
        for column in &mut self.columns {
            column.add(Kind::Message, message);
            column.status = Status::Waiting;
            column.follow();
        }
        self.changed = true;
        let (look, mut quit, mut failed) = (group.look(), false, None);
        group.ask(message, &mut |event| {
            if let Some((i, event)) = event {
                self.columns[i].take(event);
                self.changed = true;
            }
            if self.last_frame.elapsed() < BETWEEN_FRAMES {
                return Flow::GoOn;
            }
            let wish = self.draw(&look).and_then(|()| self.read(Duration::ZERO));
            match wish {
                Ok(Wish::Nothing) if !ended() => Flow::GoOn,
                Ok(Wish::Stop) => Flow::StopRunning,
                Ok(_) => {
                    quit = true;
                    Flow::StopAll
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    Flow::StopAll
                }
            }
        });
        failed.map_or(Ok(quit), |error| Err(error.into()))
    }

    /// Takes all keys that are there, or waits for one.
    fn read(&mut self, patience: Duration) -> io::Result<Wish> {
        let mut patience = patience;
        while event::poll(patience)? {
            patience = Duration::ZERO;
            self.changed = true;
            match event::read()? {
                Input::Key(key) if key.kind != KeyEventKind::Release => match self.key(key) {
                    Wish::Nothing => {}
                    wish => return Ok(wish),
                },
                Input::Paste(text) => self.line.insert(&text),
                Input::Resize(width, height) => {
                    self.size = (width, height);
                    self.drawn.clear();
                }
                _ => {}
            }
        }
        Ok(Wish::Nothing)
    }

    fn key(&mut self, key: KeyEvent) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let count = self.columns.len();
        let column = &mut self.columns[self.chosen];
        match key.code {
            KeyCode::Char('c') if control => return Wish::Stop,
            KeyCode::Char('d') if control && self.line.is_empty() => return Wish::Quit,
            KeyCode::Char('l') if control => self.drawn.clear(),
            KeyCode::Tab => self.chosen = (self.chosen + 1) % count,
            KeyCode::BackTab => self.chosen = (self.chosen + count - 1) % count,
            KeyCode::PageUp => column.scroll_pages(1),
            KeyCode::PageDown => column.scroll_pages(-1),
            KeyCode::Up if control => column.scroll(1),
            KeyCode::Down if control => column.scroll(-1),
            KeyCode::Home if control => column.scroll(isize::MAX),
            KeyCode::End if control => column.follow(),
            KeyCode::Esc => self.notice.clear(),
            KeyCode::Enter if !key.modifiers.contains(KeyModifiers::ALT) => self.typed.extend(self.line.take()),
            _ => drop(self.line.key(key)),
        }
        Wish::Nothing
    }

    /// Draws the rows that have changed.
    fn draw(&mut self, look: &Look) -> io::Result<()> {
        self.last_frame = Instant::now();
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let (width, height) = (usize::from(self.size.0), usize::from(self.size.1));
        let (typed, cursor_at) = self.line.shown(width.saturating_sub(PROMPT.len() + 1));
        let help = format!(
            "Tab: column  PgUp/PgDn: scroll  Ctrl-C: stop  /vote {}  /help  Ctrl-D: end",
            commands::choices(self.columns.len())
        );
        let around = Surroundings {
            names: &look.names,
            hidden: look.hidden,
            chosen: self.chosen,
            notice: &self.notice,
            typed: &typed,
            help: &help,
        };
        let (rows, line) = frame::rows(&mut self.columns, &around, width, height);
        let mut out = io::stdout().lock();
        if self.drawn.is_empty() {
            queue!(out, Clear(ClearType::All))?;
        }
        queue!(out, cursor::Hide)?;
        for (y, row) in (0u16..).zip(&rows) {
            if self.drawn.get(usize::from(y)) == Some(row) {
                continue;
            }
            queue!(out, cursor::MoveTo(0, y))?;
            for (style, text) in row {
                let attribute = match style {
                    Style::Plain => None,
                    Style::Dim => Some(Attribute::Dim),
                    Style::Bold => Some(Attribute::Bold),
                    Style::Chosen => Some(Attribute::Reverse),
                };
                if let Some(attribute) = attribute {
                    queue!(out, SetAttribute(attribute))?;
                }
                queue!(out, Print(text))?;
                if attribute.is_some() {
                    queue!(out, SetAttribute(Attribute::Reset))?;
                }
            }
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        let x = u16::try_from(PROMPT.len() + cursor_at).unwrap_or(u16::MAX);
        let y = u16::try_from(line).unwrap_or(u16::MAX);
        queue!(out, cursor::MoveTo(x, y.min(self.size.1.saturating_sub(1))), cursor::Show)?;
        out.flush()?;
        self.drawn = rows;
        Ok(())
    }
}

/// What of a group stands above the columns.
struct Look {
    names: Vec<String>,
    hidden: bool,
}

impl Group {
    /// Messages of all conversations.
    fn messages(&self) -> usize {
        self.members.iter().map(|member| member.state.chat.messages().len()).sum()
    }

    fn look(&self) -> Look {
        Look { names: (0..self.members.len()).map(|i| self.label(i)).collect(), hidden: self.hidden }
    }
}

impl Column {
    /// Takes what comes from its model.
    fn take(&mut self, event: Event) {
        let tokens = if let Status::Answering(tokens) = self.status { tokens } else { 0 };
        match event {
            Event::Begun => self.status = Status::Reading(0, 0),
            Event::Reading(done, total) => self.status = Status::Reading(done, total),
            Event::Text(text) => {
                self.add(Kind::Answer, &text);
                self.status = Status::Answering(tokens + 1);
            }
            Event::Thinking(text) => {
                self.add(Kind::Thinking, &text);
                self.status = Status::Answering(tokens + 1);
            }
            Event::Note(text) => self.add(Kind::Remark, &text),
            Event::Ended(Ok(figures)) => {
                if let Some(why) = figures.cut {
                    self.add(Kind::Remark, why);
                }
                self.status = Status::Done(figures);
            }
            Event::Ended(Err(error)) => {
                self.add(Kind::Remark, &error);
                self.status = Status::Failed;
            }
        }
    }
}
