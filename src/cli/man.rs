//! `gguf man`: manual pages, one for the program and one for each command.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;
use gguf_toolkit::printable::printable_path;

use crate::outputs;

/// Prints the manual page of the program, or writes those of all commands to a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf man | man -l -                          # read it
  gguf man ~/.local/share/man/man1             # then: man gguf, man gguf-quantize")]
pub(crate) struct Args {
    /// Folder for gguf.1, gguf-inspect.1, gguf-quantize.1 ...
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Replace existing pages
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // `gguf help COMMAND` has no page: the commands have.
    let mut program = crate::Cli::command().disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.folder else {
        crate::model_args::print(&String::from_utf8_lossy(&page(program)?))?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder).with_context(|| printable_path(folder).to_string())?;
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    let mut pages = vec![("gguf".to_owned(), page(program.clone())?)];
    for command in commands {
        let name = format!("gguf-{}", command.get_name());
        pages.push((name.clone(), page(command.clone().display_name(name))?));
    }
    let path = |name: &str| folder.join(format!("{name}.1"));
    // All or none.
    pages.iter().try_for_each(|(name, _)| outputs::check(&path(name), 1, args.force))?;
    pages.iter().try_for_each(|(name, text)| outputs::write(&path(name), args.force, text))?;
    eprintln!("{}: {} pages", printable_path(folder), pages.len());
    Ok(ExitCode::SUCCESS)
}

/// The page of the program or of a command.
fn page(command: clap::Command) -> std::io::Result<Vec<u8>> {
    let after = command.get_after_help().map(ToString::to_string);
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).section("1").manual("gguf").source(concat!("gguf ", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if has_subcommands {
        man.render_subcommands_section(&mut out)?;
    }
    if let Some(after) = after {
        out.extend_from_slice(examples(&after).as_bytes());
    }
    Ok(out)
}

/// What follows the options in a help, whose lines stay as they are.
fn examples(after: &str) -> String {
    let (title, text) = match after.strip_prefix("Examples:\n") {
        Some(rest) => ("EXAMPLES", rest),
        None => ("NOTES", after),
    };
    let mut page = format!(".SH {title}\n.nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\\\").replace('-', "\\-").replace('\'', "\\(aq");
        // A line that begins with a dot would be a request.
        page.push_str(if line.starts_with('.') { "\\&" } else { "" });
        page.push_str(&line);
        page.push('\n');
    }
    page + ".fi\n"
}

#[cfg(test)]
mod tests {
    use super::examples;

    #[test]
    fn lines_of_examples_stay_lines() {
        let text = examples("Examples:\n  gguf a --b 'c\\d'\n.x");
        assert_eq!(text, ".SH EXAMPLES\n.nf\n  gguf a \\-\\-b \\(aqc\\\\d\\(aq\n\\&.x\n.fi\n");
        assert!(examples("Commands:\n  /help").starts_with(".SH NOTES\n.nf\nCommands:\n"));
    }
}
