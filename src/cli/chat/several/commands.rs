//! What can be typed in a chat with several models besides messages: `/vote`, and those of the commands of one chat that make sense
//! for all of them.

use anyhow::{Context as _, bail};

use super::{Group, letter};
use crate::chat::commands::{self, Command, Next};
use crate::chat::scores::Vote;

/// The commands of one chat that all models get.
const FOR_ALL: &[&str] = &["system", "set", "think", "tokens"];
/// Those that the group has its own of.
const OWN: &[&str] = &["help", "retry", "undo", "clear", "exit"];
const VOTE: &str = "vote";

/// Names of all commands here.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(VOTE).chain(OWN.iter().chain(FOR_ALL).copied())
}

/// Runs a command, or passes a message on.
pub(super) fn run(line: &str, group: &mut Group) -> Next {
    let said = |text: &str| Next::Say(text.to_owned());
    let Some(command) = line.trim().strip_prefix('/') else { return said(line) };
    if command.starts_with('/') {
        return said(command);
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    if name == VOTE {
        return outcome(vote(group, rest.trim()));
    }
    // What only looks like a command is a message.
    let Some(command) = Command::named(name) else { return said(line) };
    match command.name {
        "help" => Next::Tell(help(group.members.len())),
        "retry" => retry(group),
        "undo" => undo(group),
        "clear" => {
            group.members.iter_mut().for_each(|member| {
                member.state.chat.clear();
                member.answered = false;
            });
            group.message = None;
            group.hide();
            let again = if group.blind { "; the models are in another order, and hidden again" } else { "" };
            Next::Tell(format!("the conversations are forgotten{again}"))
        }
        "exit" => Next::Quit,
        name if FOR_ALL.contains(&name) => for_all(group, line),
        name => Next::Tell(format!("/{name} is for a chat with one model")),
    }
}

fn outcome(result: anyhow::Result<String>) -> Next {
    Next::Tell(result.unwrap_or_else(|error| format!("{error:#}")))
}

fn help(models: usize) -> String {
    let mut list =
        commands::help_line(VOTE, &choices(models), "say whose answer is the best; gguf chat --scores sums it up");
    list.extend(OWN.iter().chain(FOR_ALL).filter_map(|name| Some(Command::named(name)?.line())));
    list + "A line that ends in \\ goes on; // begins a message with /."
}

/// What can be voted for, as help and errors say it.
pub(super) fn choices(models: usize) -> String {
    let numbers: Vec<String> = (1..=models).map(|n| n.to_string()).collect();
    format!("{}|tie", numbers.join("|"))
}

/// Keeps a vote, and tells the names that were hidden.
fn vote(group: &mut Group, choice: &str) -> anyhow::Result<String> {
    let Some(message) = group.message.clone() else { bail!("nothing has been answered yet") };
    if group.voted {
        bail!("this vote is in already: ask something, or /retry");
    }
    if let Some(i) = group.members.iter().position(|member| !member.answered) {
        bail!("{} has not answered: /retry", group.label(i));
    }
    let wanted = || format!("vote {choice}: must be {}", choices(group.members.len()));
    let winner = match choice.to_ascii_lowercase().as_str() {
        "tie" | "=" => None,
        choice => {
            let by_letter = || choice.chars().next().filter(|_| choice.len() == 1);
            let is_meant = |i: &usize| {
                choice == (i + 1).to_string() || by_letter().is_some_and(|c| c.eq_ignore_ascii_case(&letter(*i)))
            };
            Some((0..group.members.len()).find(is_meant).with_context(wanted)?)
        }
    };
    let models = group.members.iter().map(|member| member.state.name.clone()).collect();
    let vote = Vote { models, winner };
    vote.keep(&message, group.hidden)?;
    group.voted = true;
    let who = winner.map_or_else(|| "a tie".to_owned(), |winner| format!("for {}", group.label(winner)));
    if !std::mem::take(&mut group.hidden) {
        return Ok(format!("your vote is kept: {who}"));
    }
    Ok(format!("your vote is kept: {who}; {}", group.revealed()))
}

/// Takes the last message and its answers back, and returns the message.
fn take_back(group: &mut Group) -> Option<String> {
    let last = group.message.take();
    let mut message = last.clone();
    for member in &mut group.members {
        // Where it failed, or was not asked, the message is not in the conversation.
        if last.is_none() || member.answered {
            member.answered = false;
            message = member.state.chat.take_back().or(message);
        }
    }
    message
}

fn retry(group: &mut Group) -> Next {
    take_back(group).map_or_else(|| Next::Tell("nothing has been said".to_owned()), Next::Say)
}

fn undo(group: &mut Group) -> Next {
    Next::Tell(match take_back(group) {
        Some(message) => format!("taken back: {}", commands::start_of(&message)),
        None => "nothing has been said".to_owned(),
    })
}

/// Runs a command on each conversation. What all say the same is said once.
fn for_all(group: &mut Group, line: &str) -> Next {
    let tell = |next: Next| if let Next::Tell(text) = next { text } else { String::new() };
    let texts: Vec<String> =
        group.members.iter_mut().map(|member| tell(commands::run(line, &mut member.state))).collect();
    if texts.windows(2).all(|pair| pair[0] == pair[1]) {
        return Next::Tell(texts.into_iter().next().unwrap_or_default());
    }
    let one = |(i, text): (usize, &String)| format!("{}: {text}", group.label(i));
    Next::Tell(texts.iter().enumerate().map(one).collect::<Vec<_>>().join("\n"))
}
