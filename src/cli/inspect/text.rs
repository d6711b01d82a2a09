//! Models for people.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use gguf_toolkit::TensorType;
use gguf_toolkit::gguf::{Array, ByteOrder, Reader, TensorInfo, UnknownTensor, Value, ValueType, keys};
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::TypeTotal;

use super::Sections;
use crate::table::{Column, Table, wrapped};
use crate::totals::{self, bits_per_weight};
use crate::{terminal, units};

/// Characters of a text, and of all elements of an array together, unless everything is shown.
const MAX_CHARS: usize = 72;

/// Writes the sections of a model.
pub(super) fn write_model(out: &mut impl Write, reader: &Reader, sections: &Sections) -> io::Result<()> {
    write_header(out, reader)?;
    if sections.metadata {
        writeln!(out, "\nMetadata: {} keys", reader.metadata().len())?;
        write_metadata(out, reader, sections.full)?;
    }
    if sections.tensors {
        let matches = |name: &str| sections.pattern.is_match(name);
        let tensors: Vec<&TensorInfo> = reader.tensors().iter().filter(|tensor| matches(&tensor.name)).collect();
        let unknown: Vec<&UnknownTensor> =
            reader.unknown_tensors().iter().filter(|tensor| matches(&tensor.name)).collect();
        let of = if sections.pattern.as_str().is_empty() {
            String::new()
        } else {
            format!(" of {}", reader.tensors().len() + reader.unknown_tensors().len())
        };
        writeln!(out, "\nTensors: {}{of}", tensors.len() + unknown.len())?;
        if !tensors.is_empty() || !unknown.is_empty() {
            write_tensors(out, reader, &tensors, &unknown)?;
        }
        if !tensors.is_empty() {
            writeln!(out, "\nTotals")?;
            write_totals(out, &tensors)?;
        }
    }
    Ok(())
}

/// Says whether the model can be run, and what of its file is not read.
pub(super) fn write_run(out: &mut impl Write, reader: &Reader) -> io::Result<()> {
    writeln!(out, "\nRun")?;
    let model = match Model::from_reader(reader) {
        Ok(model) => model,
        Err(error) => return writeln!(out, "cannot be run: {error}"),
    };
    writeln!(out, "can be run")?;
    model.warnings().iter().try_for_each(|warning| writeln!(out, "{warning}"))?;
    if !model.unread_keys().is_empty() {
        let keys: Vec<String> = model.unread_keys().iter().map(|key| printable(key).to_string()).collect();
        writeln!(out, "keys that nothing is computed with: {}", keys.join(", "))?;
    }
    Ok(())
}

fn write_header(out: &mut impl Write, reader: &Reader) -> io::Result<()> {
    let architecture = reader.metadata().get(keys::GENERAL_ARCHITECTURE).and_then(Value::as_str);
    writeln!(out, "{}", printable_path(reader.path()))?;
    let architecture = printable(architecture.unwrap_or("no architecture")).limit(40);
    let (parameters, bytes) = (units::count(reader.parameters()), reader.file_bytes());
    let bits = bits_per_weight(tensor_bytes(reader), reader.parameters());
    let bits = bits.map_or_else(String::new, |bits| format!(", {bits:.2} bits per weight"));
    let files = if reader.shards().len() > 1 { format!(", {} files", reader.shards().len()) } else { String::new() };
    let size = format!("{} ({bytes} bytes)", units::bytes(bytes));
    let order = if reader.byte_order() == ByteOrder::Big { " (big-endian)" } else { "" };
    let line = format!(
        "GGUF version {}{order}, {architecture}, {parameters} parameters, {size}{bits}{files}",
        reader.version()
    );
    wrapped(&line, terminal::width().unwrap_or(usize::MAX)).iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn write_metadata(out: &mut impl Write, reader: &Reader, full: bool) -> io::Result<()> {
    let whole = |value: &Value| match value {
        Value::String(text) => printable(text).to_string(),
        Value::Array(array) => array_text(array, usize::MAX),
        number => number_text(number),
    };
    let text = |value: &Value| if full { whole(value) } else { short_value(value) };
    let mut table = Table::new([Column::names("key"), Column::left("type").optional(1), Column::texts("value")]);
    for (key, value) in reader.metadata().iter() {
        table.row([printable(key).to_string(), type_text(value), text(value)]);
    }
    // Borders around a text of many lines help nobody.
    if full { table.write_plain(out) } else { table.write(out) }
}

/// A value in one short line.
pub(crate) fn short_value(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).limit(MAX_CHARS).to_string(),
        Value::Array(array) => array_text(array, MAX_CHARS),
        number => number_text(number),
    }
}

fn type_text(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("{}[{}]", array.element_type().name(), array.len()),
        other => other.value_type().name().to_owned(),
    }
}

fn number_text(value: &Value) -> String {
    match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::F32(v) => format!("{v:?}"),
        Value::Bool(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F64(v) => format!("{v:?}"),
        Value::String(v) => printable(v).to_string(),
        Value::Array(v) => array_text(v, usize::MAX),
    }
}

/// As many elements as fit into `max_chars` characters.
fn array_text(array: &Array, max_chars: usize) -> String {
    let mut text = String::from("[");
    let (mut left, mut chars) = (array.len(), 0);
    let mut add = |element: &str| {
        chars += element.chars().count() + 2;
        if chars > max_chars {
            return false;
        }
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(element);
        left -= 1;
        true
    };
    match array.string_bytes() {
        Some(mut strings) => strings.all(|bytes| add(&quoted(bytes))),
        None => array.iter().all(|value| add(&number_text(&value))),
    };
    if left > 0 {
        text.push_str(if text.len() > 1 { ", ..." } else { "..." });
    }
    text.push(']');
    text
}

fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", printable(text).to_string().replace('"', "\\\""))
}

/// A table for each file.
fn write_tensors(
    out: &mut impl Write,
    reader: &Reader,
    tensors: &[&TensorInfo],
    unknown: &[&UnknownTensor],
) -> io::Result<()> {
    for (number, shard) in reader.shards().iter().enumerate() {
        let in_file = tensors.iter().any(|tensor| tensor.shard() == number);
        if !in_file && !unknown.iter().any(|tensor| tensor.shard() == number) {
            continue;
        }
        if reader.shards().len() > 1 {
            writeln!(out, "{}: {} bytes", printable_path(shard.path()), shard.file_bytes())?;
        }
        let mut table = Table::new([
            Column::names("tensor"),
            Column::left("shape").optional(1),
            Column::left("type"),
            Column::right("bytes").optional(2),
            Column::right("offset").optional(3),
        ]);
        for tensor in tensors.iter().filter(|tensor| tensor.shard() == number) {
            table.row([
                printable(&tensor.name).to_string(),
                units::shape(&tensor.shape),
                tensor.ty.to_string(),
                tensor.bytes().to_string(),
                reader.offset_in_file(tensor).to_string(),
            ]);
        }
        for tensor in unknown.iter().filter(|tensor| tensor.shard() == number) {
            table.row([
                printable(&tensor.name).to_string(),
                units::shape(&tensor.shape),
                format!("type {}", tensor.type_id),
                tensor.bytes().to_string(),
                shard.data_start().saturating_add(tensor.offset()).to_string(),
            ]);
        }
        table.write(out)?;
    }
    Ok(())
}

fn write_totals(out: &mut impl Write, tensors: &[&TensorInfo]) -> io::Result<()> {
    let mut types: BTreeMap<TensorType, TypeTotal> = BTreeMap::new();
    for tensor in tensors {
        types.entry(tensor.ty).or_default().add(1, tensor.elements(), tensor.bytes());
    }
    totals::write(out, &types)
}

/// Bytes of all tensors together.
pub(super) fn tensor_bytes(reader: &Reader) -> u64 {
    reader.tensors().iter().map(TensorInfo::bytes).fold(0, u64::saturating_add)
}

/// Writes one value whole. On a terminal, what could steer it is escaped; a program gets texts as they are.
pub(super) fn write_value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    match value {
        Value::String(text) => write_text(out, text.as_bytes()),
        Value::Array(array) if array.element_type() == ValueType::String => {
            array.string_bytes().into_iter().flatten().try_for_each(|text| write_text(out, text))
        }
        Value::Array(array) => array.iter().try_for_each(|value| writeln!(out, "{}", number_text(&value))),
        number => writeln!(out, "{}", number_text(number)),
    }
}

fn write_text(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        out.write_all(text)?;
        return writeln!(out);
    }
    text.split(|&byte| byte == b'\n').try_for_each(|line| writeln!(out, "{}", printable(line)))
}
