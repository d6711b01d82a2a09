//! What can be typed in a chat besides messages.

use gguf::engine::SamplerOptions;

use super::conversation::Conversation;
use crate::units;

/// What comes after a line.
pub(super) enum Next {
    /// Ask for the next line.
    Ask,
    /// Say this.
    Say(String),
    /// End.
    Quit,
}

const HELP: &str = "\
/help                 this list
/clear                forget the conversation
/system [TEXT]        show or set the system prompt
/set [NAME VALUE]     show or set temperature, top-k, top-p, min-p, repeat-penalty, seed, max-tokens
/again                answer the last message once more
/undo                 take back the last message and its answer
/stats                tokens and memory of the conversation
/quit                 end (also Ctrl-D)
A line that ends in \\ goes on; \"\"\" begins and ends a message of several lines.";

/// Runs a command, or passes a message on.
pub(super) fn run(line: &str, conversation: &mut Conversation) -> Next {
    let Some(command) = line.trim().strip_prefix('/') else { return Next::Say(line.to_owned()) };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match name {
        "help" | "?" => eprintln!("{HELP}"),
        "quit" | "exit" | "bye" => return Next::Quit,
        "clear" => conversation.clear(),
        "system" if rest.is_empty() => eprintln!("{}", conversation.system.as_deref().unwrap_or("(none)")),
        "system" => conversation.system = Some(rest.to_owned()),
        "again" => match conversation.take_back() {
            Some(message) => return Next::Say(message),
            None => eprintln!("nothing has been said"),
        },
        "undo" => {
            if conversation.take_back().is_none() {
                eprintln!("nothing has been said");
            }
        }
        "stats" => {
            let (tokens, bytes) = conversation.size();
            eprintln!(
                "{} messages, {tokens} of {} tokens, {} of cache",
                conversation.messages.len(),
                conversation.context_length(),
                units::bytes(bytes as u64)
            );
        }
        "set" => set(rest, conversation),
        _ => eprintln!("no such command: /{name} (/help lists them)"),
    }
    Next::Ask
}

fn set(rest: &str, conversation: &mut Conversation) {
    let Some((name, value)) = rest.split_once([' ', '=']) else {
        let s = &conversation.sampling;
        let max = conversation.max_tokens.map_or("none".into(), |n| n.to_string());
        eprintln!(
            "temperature {}  top-k {}  top-p {}  min-p {}  repeat-penalty {}  seed {}  max-tokens {max}",
            s.temperature, s.top_k, s.top_p, s.min_p, s.repeat_penalty, s.seed
        );
        return;
    };
    let value = value.trim();
    if name == "max-tokens" {
        conversation.max_tokens = value.parse().ok();
        return;
    }
    match changed(conversation.sampling.clone(), name, value) {
        Some(sampling) => conversation.set_sampling(sampling),
        None => eprintln!("cannot set {name} to {value}"),
    }
}

fn changed(mut sampling: SamplerOptions, name: &str, value: &str) -> Option<SamplerOptions> {
    match name {
        "temperature" | "temp" => sampling.temperature = value.parse().ok()?,
        "top-k" => sampling.top_k = value.parse().ok()?,
        "top-p" => sampling.top_p = value.parse().ok()?,
        "min-p" => sampling.min_p = value.parse().ok()?,
        "repeat-penalty" => sampling.repeat_penalty = value.parse().ok()?,
        "seed" => sampling.seed = value.parse().ok()?,
        _ => return None,
    }
    Some(sampling)
}
