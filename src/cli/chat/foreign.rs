//! Options of llama.cpp that mean something else here, because a dash and several letters are several short options.

/// The option, and what to write here.
const FOREIGN: &[(&str, &str)] = &[
    ("-st", "-p answers once and ends"),
    ("-sys", "the system prompt is --system"),
    ("-sysf", "the system prompt is --system"),
    ("-ngl", "models run on the CPU: leave it out"),
    ("-ctk", "the type of the cache is --kv-type"),
    ("-ctv", "the type of the cache is --kv-type"),
    ("-cnv", "a conversation is what there is: leave it out"),
    ("-no-cnv", "-p answers once and ends"),
    ("-tb", "threads are -j"),
    ("-mli", "several lines go between \"\"\" and \"\"\""),
    ("-fa", "leave it out"),
    ("-md", "the draft model is --draft"),
    ("-hf", "the repository is the first argument, 'gguf pull ORG/REPO[:TYPE]' fetches it"),
    ("-m", "the model is the first argument, without an option"),
];

/// What to say about the first of them among the arguments of `gguf chat`.
pub(crate) fn foreign_option(args: impl Iterator<Item = String>) -> Option<String> {
    let mut args = args;
    if args.next()? != "chat" {
        return None;
    }
    let mut before = String::new();
    for arg in args {
        // The value of an option may be anything.
        let value = matches!(before.as_str(), "-p" | "--prompt" | "-s" | "--system" | "--stop" | "-f" | "--file");
        if arg == "--" {
            return None;
        }
        if let Some((option, advice)) = FOREIGN.iter().find(|(option, _)| !value && *option == arg) {
            return Some(format!("{option} is an option of llama.cpp: {advice}"));
        }
        before = arg;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::foreign_option;

    #[test]
    fn llama_cpp_options_are_told_apart_from_ours() {
        let advice = |line: &str| foreign_option(line.split(' ').map(str::to_owned));
        assert_eq!(advice("chat -st").as_deref(), Some("-st is an option of llama.cpp: -p answers once and ends"));
        assert!(advice("chat m.gguf -ngl 0 -p x").is_some());
        assert_eq!(advice("chat m.gguf -t 0 -n 8 -p -st"), None);
        assert_eq!(advice("quantize -m x"), None);
    }
}
