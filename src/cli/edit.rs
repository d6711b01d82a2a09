//! `gguf edit`: changed metadata and names of tensors; the other byte order.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use gguf_toolkit::edit::{Edited, Edits, parse_value};
use gguf_toolkit::gguf::{ByteOrder, Metadata, Reader, Value, keys};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{self, RunOptions, Source as _};
use gguf_toolkit::stores::Store;

use crate::inspect::text::short_value;
use crate::table::{Column, Table};
use crate::{model_args, outputs, progress, units};

/// Changes the metadata of a model, names of its tensors, or its byte order; the weights stay as they are.
///
/// The file is written once more, read back, and put in its place in one step: whatever happens, the old or the new one
/// is there, never a mix of both.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf edit model.gguf --set general.name=\"My model\" -o new.gguf
  gguf edit model.gguf --set llama.context_length=u32:8192 --in-place
  gguf edit model.gguf --set-template chat.jinja --in-place
  gguf edit model.gguf --set-special eos=2 --delete general.name --dry-run
  gguf edit model.gguf --rename general.name=general.title -o new.gguf
  gguf edit model.gguf --byte-order big -o for-s390x.gguf")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Set a key: TYPE is u8 to u64, i8 to i64, f32, f64, bool, str, or one in brackets before a JSON list ([str]:["a"]);
    /// without TYPE it stays what it is; repeatable
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    set: Vec<String>,
    /// Delete a key; repeatable
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
    /// Rename a key; repeatable
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename: Vec<(String, String)>,
    /// Rename a tensor; repeatable
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename_tensor: Vec<(String, String)>,
    /// Set the chat template to the text of a file, - for standard input
    #[arg(long, value_name = "FILE")]
    set_template: Option<PathBuf>,
    /// Set a special token (bos, eos, eot, eom, unk, pad) to the token with this id or text; repeatable
    #[arg(long, value_name = "NAME=TOKEN", value_parser = pair)]
    set_special: Vec<(String, String)>,
    /// Write the numbers of the file with their highest byte first (big: for machines such as s390x) or last (little: for nearly
    /// all others)
    #[arg(long, value_name = "ORDER", value_parser = byte_order)]
    byte_order: Option<ByteOrder>,
    /// File to write
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["in_place", "dry_run"])]
    output: Option<PathBuf>,
    /// Replace the model's own file
    #[arg(long, conflicts_with = "output")]
    in_place: bool,
    /// Replace an existing output
    #[arg(long, short)]
    force: bool,
    /// Show what would change, and write nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("two names with a = between them".into()),
    }
}

fn byte_order(text: &str) -> Result<ByteOrder, String> {
    match text.to_ascii_lowercase().as_str() {
        "little" | "little-endian" | "le" | "native" => Ok(ByteOrder::Little),
        "big" | "big-endian" | "be" => Ok(ByteOrder::Big),
        _ => Err("big or little".into()),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let located = model_args::locate(&args.model)?;
    let reader = Reader::open_in_either_order(&located.path)?;
    let order = args.byte_order.unwrap_or(reader.byte_order());
    let edits = edits(args, &reader)?;
    let name = printable_path(reader.path()).to_string();
    let edited = Edited::new(&reader, &edits, args.in_place).with_context(|| name.clone())?;
    let plan = edited.plan()?;
    show(&reader, edited.metadata(), &edits, order)?;
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let (output, force) = match (&args.output, args.in_place) {
        (Some(output), _) => (output.clone(), args.force),
        (None, _) if located.store != Store::Path => {
            bail!("{name}: stores are only read ({}): -o names a file", located.store.name())
        }
        (None, _) if reader.shards().len() > 1 => bail!("{name}: one of several files: -o names the new ones"),
        (None, _) => (reader.path().to_owned(), true),
    };
    if args.in_place {
        // The one input that may be replaced: that is what was asked for.
        ensure!(plan.shards == 1, "{name}: one of several files");
    } else {
        outputs::check(&output, plan.shards, force)?;
    }
    let bar = progress::bytes(plan.tensor_bytes(), "writing");
    let options = RunOptions { force, byte_order: order, ..RunOptions::default() };
    let outcome = quantize::run(&edited, &plan, &output, &options, &|progress| {
        bar.set_position(progress.done);
        true
    })?;
    bar.finish_and_clear();
    eprintln!("{}: {}", printable_path(&output), units::bytes(outcome.file_bytes));
    Ok(ExitCode::SUCCESS)
}

fn edits(args: &Args, reader: &Reader) -> anyhow::Result<Edits> {
    let metadata = reader.metadata();
    let mut edits = Edits {
        rename: args.rename.clone(),
        delete: args.delete.clone(),
        set: args.set.iter().map(|text| parse_value(text, metadata)).collect::<Result<Vec<_>, _>>()?,
        rename_tensors: args.rename_tensor.clone(),
    };
    edits.set.iter().try_for_each(|(key, value)| model_args::check_setting(key, value))?;
    if let Some(path) = &args.set_template {
        let text = model_args::read_text(path)?;
        edits.set.push((keys::TOKENIZER_CHAT_TEMPLATE.into(), Value::String(text)));
    }
    for (name, token) in &args.set_special {
        edits.set.push((special_key(name)?.into(), Value::U32(token_id(token, metadata)?)));
    }
    let none =
        edits.set.is_empty() && edits.delete.is_empty() && edits.rename.is_empty() && edits.rename_tensors.is_empty();
    if let Some(order) = args.byte_order.filter(|order| none && *order == reader.byte_order()) {
        bail!("{}: is {order} already", printable_path(reader.path()));
    }
    ensure!(
        !none || args.byte_order.is_some(),
        "nothing to change: --set, --delete, --rename, --rename-tensor, --set-template, --set-special, --byte-order"
    );
    Ok(edits)
}

fn special_key(name: &str) -> anyhow::Result<&'static str> {
    Ok(match name {
        "bos" => keys::TOKENIZER_BOS_ID,
        "eos" => keys::TOKENIZER_EOS_ID,
        "eot" => keys::TOKENIZER_EOT_ID,
        "eom" => keys::TOKENIZER_EOM_ID,
        "unk" | "unknown" => keys::TOKENIZER_UNKNOWN_ID,
        "pad" | "padding" => keys::TOKENIZER_PADDING_ID,
        other => bail!("{}: no special token (bos, eos, eot, eom, unk, pad)", printable(other)),
    })
}

/// The token with this id, or with this text.
fn token_id(token: &str, metadata: &Metadata) -> anyhow::Result<u32> {
    let tokens =
        metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).context("the file has no vocabulary")?;
    let id = match token.parse::<usize>() {
        Ok(id) => Some(id).filter(|&id| id < tokens.len()),
        Err(_) => tokens.string_bytes().and_then(|mut texts| texts.position(|text| text == token.as_bytes())),
    };
    let id = id.with_context(|| format!("{}: no such token among {}", printable(token), tokens.len()))?;
    Ok(u32::try_from(id)?)
}

/// Shows every key and tensor that changes.
fn show(reader: &Reader, new: &Metadata, edits: &Edits, order: ByteOrder) -> anyhow::Result<()> {
    let old = reader.metadata();
    let mut table = Table::new([Column::names("what"), Column::texts("old"), Column::texts("new")]);
    let text = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), short_value);
    for (key, value) in old.iter().filter(|(key, value)| new.get(key) != Some(*value)) {
        table.row([printable(key).to_string(), text(Some(value)), text(new.get(key))]);
    }
    for (key, value) in new.iter().filter(|(key, _)| old.get(key).is_none()) {
        table.row([printable(key).to_string(), text(None), text(Some(value))]);
    }
    for (from, to) in &edits.rename_tensors {
        table.row(["tensor".into(), printable(from).to_string(), printable(to).to_string()]);
    }
    if order != reader.byte_order() {
        table.row(["byte order".into(), reader.byte_order().to_string(), order.to_string()]);
    }
    let mut out = std::io::stdout().lock();
    table.write(&mut out)?;
    Ok(out.flush()?)
}
