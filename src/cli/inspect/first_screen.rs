//! The first screen of `gguf inspect`: what a person wants to know of a model, in at most 24 lines of 80 columns.

use std::io::{self, Write};

use gguf_toolkit::gguf::Reader;
use gguf_toolkit::inspect::{Ability, Role, Summary};
use gguf_toolkit::printable::{printable, printable_path};

use super::fit;
use crate::table::{cut_at_the_end, cut_in_the_middle, wrapped};
use crate::{terminal, units};

/// Columns of the names of lines.
const LABEL: usize = 16;
/// Columns where the terminal does not say how many it has.
const USUAL_WIDTH: usize = 80;
/// Kinds of mixed matrices that are listed.
const MAX_GROUPS: usize = 6;
/// Lines that one fact, or the roles of one kind, may take.
const MAX_LINES: usize = 2;

/// Writes the first screen of one model; `more` tells of the options that show the rest.
pub(super) fn write(out: &mut impl Write, reader: &Reader, more: bool) -> io::Result<()> {
    let width = terminal::width().unwrap_or(USUAL_WIDTH).max(LABEL + 20);
    let summary = Summary::new(reader);
    let name = summary.name.as_deref().map(|name| printable(name).to_string());
    let path = printable_path(reader.path()).to_string();
    writeln!(out, "{}", cut_at_the_end(name.as_ref().unwrap_or(&path), width))?;
    // A program gets the whole path.
    let shown = if terminal::width().is_some() { cut_in_the_middle(&path, width - LABEL) } else { path };
    writeln!(out, "  {:<14}{shown}", "file")?;
    for (label, text) in facts(&summary, reader) {
        write_wrapped(out, label, &text, width, MAX_LINES)?;
    }
    write_mix(out, &summary.mix, width)?;
    if let Some(text) = fit::line(reader) {
        write_wrapped(out, "memory", &text, width, MAX_LINES)?;
    }
    let (label, text) = usable(&summary);
    write_wrapped(out, label, &text, width, 3)?;
    if more {
        let options =
            "--fit, --metadata, --tensors [REGEX], --template, --vocab [REGEX], --values TENSOR, --full, --json";
        write_wrapped(out, "more", options, width, 3)?;
    }
    Ok(())
}

/// One line a fact; what the file does not say is left out.
fn facts(summary: &Summary, reader: &Reader) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let bits = summary.bits_per_weight().map_or_else(String::new, |bits| format!(", {bits:.2} bits per weight"));
    let files = if reader.shards().len() > 1 { format!(" in {} files", reader.shards().len()) } else { String::new() };
    let size = units::bytes(summary.file_bytes);
    facts.push(("size", format!("{size}{files}{bits}, GGUF version {}", reader.version())));
    let architecture = summary.architecture.as_deref().unwrap_or("none named");
    facts.push(("architecture", printable(architecture).limit(40).to_string()));
    if summary.parameters > 0 {
        let mut text = units::count(summary.parameters);
        if let Some((all, used)) = summary.experts {
            let active = units::count(summary.active_parameters);
            text.push_str(&format!(", {active} active ({used} of {all} experts)"));
        }
        facts.push(("parameters", text));
    }
    if let Some(context) = summary.context_length {
        let window = summary.sliding_window.map_or_else(String::new, |n| format!(", windows of {n}"));
        facts.push(("context", format!("{context} tokens{window}")));
    }
    if let Some(layers) = summary.layers {
        let of = summary.embedding_length.map_or_else(String::new, |n| format!(" of width {n}"));
        let hidden = summary.feed_forward_length.map_or_else(String::new, |n| format!(", feed-forward {}", range(n)));
        facts.push(("layers", format!("{layers}{of}{hidden}")));
    }
    if let Some(heads) = summary.heads {
        let of = summary.head_length.map_or_else(String::new, |n| format!(" of {n}"));
        let kv = summary.kv_heads.map_or_else(String::new, |n| format!(", {} for keys and values", range(n)));
        facts.push(("attention", format!("{} heads{of}{kv}", range(heads))));
    }
    if let Some(vocabulary) = &summary.vocabulary {
        let model = vocabulary.model.as_deref().map_or_else(String::new, |m| format!(", {}", printable(m).limit(20)));
        let pre = vocabulary.pre.as_deref().map_or_else(String::new, |pre| format!(" ({})", printable(pre).limit(30)));
        facts.push(("vocabulary", format!("{} tokens{model}{pre}", vocabulary.tokens)));
    }
    facts.push(("chat template", template(summary)));
    if let Some(license) = &summary.license {
        facts.push(("license", printable(license).limit(60).to_string()));
    }
    if let Some(claim) = claim(summary) {
        facts.push(("type", claim));
    }
    facts
}

/// `8`, or `4 to 8` where layers differ.
fn range((least, most): (u64, u64)) -> String {
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}

fn template(summary: &Summary) -> String {
    let Some(features) = summary.template else { return "none".into() };
    let named = [(features.system, "system messages"), (features.tools, "tools"), (features.thinking, "thinking")];
    let list = |wanted: bool| {
        let names: Vec<&str> = named.iter().filter(|(has, _)| *has == wanted).map(|(_, name)| *name).collect();
        names.join(", ")
    };
    match (list(true), list(false)) {
        (has, lacks) if has.is_empty() => format!("yes, without {lacks}"),
        (has, lacks) if lacks.is_empty() => format!("yes, with {has}"),
        (has, lacks) => format!("yes, with {has}; without {lacks}"),
    }
}

/// What the file says that it is, and where its weights say otherwise.
fn claim(summary: &Summary) -> Option<String> {
    let id = summary.file_type?;
    let name = summary.file_type_name().map_or_else(|| format!("number {id}, which is not known"), str::to_owned);
    let but = summary.contradiction().map_or_else(String::new, |ty| format!(" by its own word, but mostly {ty}"));
    Some(format!("{name}{but}"))
}

/// Which matrices are of which type: those of the same types in one line.
fn write_mix(out: &mut impl Write, mix: &[Role], width: usize) -> io::Result<()> {
    let mut groups: Vec<(String, usize, Vec<String>)> = Vec::new();
    for role in mix {
        let types: Vec<String> = match &role.types[..] {
            [(ty, _)] => vec![ty.to_string()],
            types => types.iter().map(|(ty, count)| format!("{ty} x{count}")).collect(),
        };
        let (types, name) = (types.join(", "), printable(&role.name).limit(40).to_string());
        let count: usize = role.types.iter().map(|(_, count)| count).sum();
        match groups.iter_mut().find(|(other, ..)| *other == types) {
            Some((_, matrices, names)) => {
                *matrices += count;
                names.push(name);
            }
            None => groups.push((types, count, vec![name])),
        }
    }
    groups.sort_by_key(|(_, matrices, _)| std::cmp::Reverse(*matrices));
    for (i, (types, _, names)) in groups.iter().take(MAX_GROUPS).enumerate() {
        let label = if i == 0 { "matrices" } else { "" };
        write_wrapped(out, label, &format!("{types}: {}", names.join(", ")), width, MAX_LINES)?;
    }
    match groups.len().saturating_sub(MAX_GROUPS) {
        0 => Ok(()),
        more => writeln!(out, "  {:<14}and {more} more kinds (--tensors shows them)", ""),
    }
}

fn usable(summary: &Summary) -> (&'static str, String) {
    match &summary.usable {
        Err(why) => ("cannot run", why.clone()),
        Ok(abilities) => {
            let text = |ability: &Ability| match ability {
                Ability::Chat => "gguf chat",
                Ability::Complete => "logits, perplexity, bench",
                Ability::Tokenize => "gguf tokenize, detokenize (a vocabulary without weights)",
            };
            let mut texts: Vec<&str> = abilities.iter().map(text).collect();
            if abilities == &[Ability::Complete] {
                texts.insert(0, "gguf chat (continues the text, for lack of a template)");
            }
            ("runs with", texts.join(", "))
        }
    }
}

/// Writes a text over at most `most` lines, broken at blanks.
fn write_wrapped(out: &mut impl Write, label: &str, text: &str, width: usize, most: usize) -> io::Result<()> {
    let room = width - LABEL;
    let mut lines = wrapped(text, room);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = cut_at_the_end(&format!("{last} ..."), room);
        }
    }
    for (i, line) in lines.iter().enumerate() {
        writeln!(out, "  {:<14}{}", if i == 0 { label } else { "" }, cut_at_the_end(line, room))?;
    }
    Ok(())
}
