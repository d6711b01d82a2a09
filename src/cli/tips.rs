//! Tips for people who know other tools: what the thing that they typed is called here.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names of commands elsewhere, and what does the same here.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["cli", "ask", "complete", "generate"], "'gguf chat MODEL' chats; with -p it answers once"),
    (&["info", "dump", "view", "meta"], "'gguf inspect MODEL' shows what is in a file"),
    (&["ppl", "eval", "evaluate"], "'gguf perplexity MODEL...' measures how well models predict a text"),
    (&["quant", "quantise", "create"], "'gguf quantize MODEL -t TYPE' makes a model smaller"),
    (&["import", "hf-to-gguf"], "'gguf convert DIR' turns a Hugging Face folder into a GGUF file"),
    (&["encode"], "'gguf tokenize MODEL TEXT' shows the tokens of a text"),
    (&["decode"], "'gguf detokenize MODEL IDS' turns tokens back to text"),
    (&["speed", "llama-bench"], "'gguf bench MODEL' measures how fast a model runs"),
    (
        &["manual", "manpage", "manpages"],
        "'gguf man' prints the manual page, 'gguf man DIR' writes those of all commands",
    ),
    (&["completion"], "'gguf completions SHELL' prints a completion script"),
];

/// Options of other tools, and what does the same here.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["-m", "--model", "--path"], "the model is the first argument: 'gguf COMMAND MODEL'"),
    (
        &[
            "-ngl",
            "--n-gpu-layers",
            "--gpu-layers",
            "-ts",
            "--tensor-split",
            "-sm",
            "--split-mode",
            "-fa",
            "--flash-attn",
        ],
        "there is nothing to set: everything runs on the CPU",
    ),
    (
        &["-b", "-ub", "--batch-size", "--ubatch-size"],
        "'--batch', where a command has it, is the tokens of a forward pass",
    ),
    (&["-ctk", "-ctv", "--cache-type-k", "--cache-type-v"], "'--kv-type f16' sets the type of cached keys and values"),
    (&["--no-mmap"], "'--load load' copies the weights to memory"),
    (&["--nthreads", "--n-threads", "-nt"], "'--threads N' (-j N) sets the threads"),
    (
        &["-hf", "--hf-repo", "-hff", "--hf-file"],
        "'gguf pull ORG/REPO[:TYPE]' fetches a model, and every command takes its name then",
    ),
];

/// Puts in place of clap's tip, which knows similar spellings alone, one that knows what other tools mean.
pub(crate) fn with_tip(mut error: clap::Error) -> clap::Error {
    let (given, table) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, COMMANDS),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, OPTIONS),
        _ => return error,
    };
    let Some(ContextValue::String(given)) = error.get(given).cloned() else { return error };
    // What clap says of values that look like options helps where a text was meant, and misleads elsewhere.
    if !given.contains(char::is_whitespace) {
        error.remove(ContextKind::Suggested);
    }
    let name = given.split('=').next().unwrap_or_default().to_lowercase();
    if let Some((_, tip)) = table.iter().find(|(names, _)| names.contains(&name.as_str())) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from((*tip).to_owned())]));
    }
    error
}
