//! Lets all models answer a message, one after another or at the same time, each on a thread of its own, and passes on what comes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use gguf_toolkit::engine::{Answer, ChatEvent, Error, Stop};

use super::{Group, Member};

/// How often who shows the answers is called, whatever comes.
const TICK: Duration = Duration::from_millis(20);

/// What happens while a model answers.
#[derive(Debug)]
pub(super) enum Event {
    /// It is its turn.
    Begun,
    /// So many of so many tokens of its prompt have been read.
    Reading(usize, usize),
    /// Text of its thinking; every token has one, perhaps without text.
    Thinking(String),
    /// Text of its answer; every token has one, perhaps without text.
    Text(String),
    /// A remark for the user.
    Note(String),
    /// It has answered, or cannot.
    Ended(Result<Figures, String>),
}

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// From the message to the first token.
    pub(super) first: Option<Duration>,
    pub(super) tokens: usize,
    /// The time of all tokens after the prompt.
    pub(super) time: Duration,
    /// Why it ended before the model was done.
    pub(super) cut: Option<&'static str>,
}

impl Figures {
    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    pub(super) fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// What becomes of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    /// Those that are under way end; the other models take their turns.
    StopRunning,
    /// All end, and no other model takes its turn.
    StopAll,
}

impl Group {
    /// Says `message` to all models. `show` gets what comes with the number of its model, and is called without an event several
    /// times a second.
    pub(super) fn ask(&mut self, message: &str, show: &mut dyn FnMut(Option<(usize, Event)>) -> Flow) {
        self.message = Some(message.to_owned());
        self.voted = false;
        let parallel = self.parallel;
        let stops: Vec<AtomicBool> = self.members.iter().map(|_| AtomicBool::new(false)).collect();
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            let mut waiting: VecDeque<(usize, &mut Member)> = self.members.iter_mut().enumerate().collect();
            let mut running = Vec::new();
            loop {
                while running.is_empty() || parallel {
                    let Some((i, member)) = waiting.pop_front() else { break };
                    let (send, stop) = (send.clone(), &stops[i]);
                    let thread = scope.spawn(move || {
                        // Nobody listens any more where the terminal has gone.
                        member.answer(message, stop, &mut |event| drop(send.send((i, event))));
                    });
                    running.push((i, thread));
                }
                if running.is_empty() {
                    return;
                }
                let event = match receive.recv_timeout(TICK) {
                    Ok(event) => Some(event),
                    // A thread that has ended without saying so has panicked: the scope passes that on.
                    Err(RecvTimeoutError::Timeout) if running.iter().any(|(_, thread)| thread.is_finished()) => return,
                    Err(_) => None,
                };
                if let Some((ended, Event::Ended(_))) = &event {
                    running.retain(|(i, _)| i != ended);
                }
                let flow = show(event);
                if flow != Flow::GoOn {
                    running.iter().for_each(|(i, _)| stops[*i].store(true, Ordering::Relaxed));
                }
                if flow == Flow::StopAll {
                    waiting.drain(..).for_each(|(_, member)| member.answered = false);
                }
            }
        });
    }
}

impl Member {
    /// Answers, and tells everything, the end last.
    fn answer(&mut self, message: &str, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) {
        tell(Event::Begun);
        self.answered = false;
        let (start, mut first) = (Instant::now(), None);
        let answer = self.state.chat.say(message, &mut |event| {
            if matches!(event, ChatEvent::Text(_) | ChatEvent::Thinking(_)) {
                first.get_or_insert_with(|| start.elapsed());
            }
            match event {
                ChatEvent::Reading { done, total } => tell(Event::Reading(done, total)),
                ChatEvent::Text(text) => tell(Event::Text(text.to_owned())),
                ChatEvent::Thinking(text) => tell(Event::Thinking(text.to_owned())),
                ChatEvent::Note(note) => tell(Event::Note(note.to_string())),
                // Tools are not given to several models.
                _ => {}
            }
            !stop.load(Ordering::Relaxed)
        });
        self.answered = answer.is_ok();
        tell(Event::Ended(match answer {
            Ok(answer) => Ok(figures(&answer, first)),
            Err(error @ Error::ContextFull { .. }) => {
                Err(format!("{error} (--context N sets a larger one, /clear forgets the conversation)"))
            }
            Err(error) => Err(error.to_string()),
        }));
    }
}

fn figures(answer: &Answer, first: Option<Duration>) -> Figures {
    let cut = match answer.stop {
        Stop::Context => Some("the context is full"),
        Stop::Length => Some("the most tokens of an answer are reached"),
        Stop::Caller => Some("stopped"),
        _ => None,
    };
    Figures { first, tokens: answer.tokens.len(), time: answer.answer_time, cut }
}
