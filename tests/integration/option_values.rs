//! Values of options: no number makes a command panic, hang or compute nonsense.

use std::fs;

use super::folder::Folder;
use super::quantize_command::{gguf, storyteller, text};

/// Numbers that are no sizes and no counts, or more than there can be.
const VALUES: [&str; 5] = ["-1", "0", "9223372036854775808", "nan", ""];

/// Commands that run by themselves, with all that makes them short: the command, its models and texts, and options.
const COMMANDS: [(&str, &[&str], &[&str]); 11] = [
    ("bench", &["m.gguf"], &["--prompt=4", "--generate=1", "--repetitions=1"]),
    ("chat", &["m.gguf", "--prompt=hi"], &["--max-tokens=2"]),
    ("compare", &["m.gguf", "m.gguf", "--file=text.txt"], &["--context=16", "--chunks=1"]),
    ("embed", &["m.gguf", "hi"], &[]),
    ("imatrix", &["m.gguf", "--file=text.txt", "--output=i.gguf", "--force"], &["--context=16", "--chunks=1"]),
    ("inspect", &["m.gguf", "--fit"], &["--ctx=16"]),
    ("logits", &["m.gguf", "hi"], &[]),
    ("perplexity", &["m.gguf", "--file=text.txt"], &["--context=16", "--chunks=1"]),
    ("quantize", &["m.gguf", "--type=Q8_0", "--dry-run"], &[]),
    ("split", &["m.gguf", "--output=part", "--dry-run"], &["--max-size=1M"]),
    ("export", &["m.gguf", "exported", "--dry-run"], &[]),
];

/// Names of the options that take a number or a size, as the help lists them.
fn numeric(help: &str) -> Vec<String> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    lines
        .filter_map(|line| {
            let (_, option) = line.split_once("--")?;
            let (name, value) = option.split_once(" <")?;
            let number = ["N>", "N,...>", "X>", "SIZE>"].iter().any(|kind| value.starts_with(kind));
            number.then(|| format!("--{name}"))
        })
        .collect()
}

#[test]
fn no_number_is_too_much_for_an_option() {
    let folder = Folder::new("option-values");
    fs::rename(storyteller(&folder), folder.path("m.gguf")).expect("renamed");
    fs::write(folder.path("text.txt"), "Once upon a time there was a girl who liked to play. ".repeat(6))
        .expect("written");
    let (mut faults, mut options) = (Vec::new(), 0);
    for (command, given, short) in COMMANDS {
        let help = gguf(&[command, "--help"], folder.root());
        for option in numeric(text(&help.stdout)) {
            options += 1;
            let short = short.iter().filter(|given| given.split('=').next() != Some(option.as_str()));
            let base: Vec<&str> = [command].iter().chain(given).chain(short).copied().collect();
            for value in VALUES {
                let whole = format!("{option}={value}");
                let output = gguf(&[&base[..], &[&whole]].concat(), folder.root());
                let (out, err) = (text(&output.stdout), text(&output.stderr));
                let ends = matches!(output.status.code(), Some(0..=2));
                let numbers = out.split_whitespace().all(|word| !["NaN", "inf", "-inf"].contains(&word));
                if !ends || !numbers || err.contains("internal error") {
                    faults.push(format!("{command} {whole}: {:?} {out} {err}", output.status.code()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(options > 50, "{options}");
}
