//! `POST /slots/{id}?action=save|restore|erase`: the states of slots, in files of one folder.

use std::io::ErrorKind;
use std::time::Instant;

use serde_json::{Map, json};

use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::reply::Reply;
use super::settings::salted;
use crate::engine::{Error, SessionFileError, SlotError};
use crate::files::OutputError;

/// Maximum bytes of a file's name.
const MOST_NAME: usize = 255;
/// Names that are devices on Windows, whatever follows a point.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// `POST /slots/{id}`.
pub(super) async fn act(call: Call) -> Result<Reply, Failure> {
    let Some(folder) = call.slot_files.clone() else {
        return Err(Failure::not_done("this server keeps no states of slots: start it with --slot-save-path"));
    };
    let slot: usize = call.rest.parse().map_err(|_| Failure::field("id_slot", "must be a number"))?;
    let body = if call.body.is_empty() { Map::new() } else { call.object()? };
    let fields = Fields(&body);
    let file = match action(&call.query)? {
        Action::Erase => None,
        action => {
            let name = fields.text("filename")?.ok_or_else(|| Failure::field("filename", "is needed"))?;
            if !is_file_name(name) {
                return Err(Failure::field("filename", "must be the name of a file, without a folder"));
            }
            Some((action, name.to_owned(), folder.join(name)))
        }
    };
    let model = match fields.text("model")? {
        Some(_) => call.models().wanted(fields).await?,
        None => call.models().get(&call.models().first()?.0, None).await?,
    };
    let salt = salted(call.salt, fields.text("cache_salt")?);
    let work = move || {
        let Some((action, name, path)) = file else {
            let erased = model.batcher().erase_slot(slot, salt).map_err(failure)?;
            return Ok(Reply::Json(json!({ "id_slot": slot, "n_erased": erased })));
        };
        let start = Instant::now();
        let saves = action == Action::Save;
        let done = if saves {
            model.batcher().save_slot(slot, salt, &path)
        } else {
            model.batcher().restore_slot(slot, salt, &path)
        };
        let done = done.map_err(failure)?;
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        Ok(Reply::Json(if saves {
            json!({ "id_slot": slot, "filename": name, "n_saved": done.tokens, "n_written": done.bytes,
                    "timings": { "save_ms": ms } })
        } else {
            json!({ "id_slot": slot, "filename": name, "n_restored": done.tokens, "n_read": done.bytes,
                    "timings": { "restore_ms": ms } })
        }))
    };
    blocking(work).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Save,
    Restore,
    Erase,
}

fn action(query: &str) -> Result<Action, Failure> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("action="));
    match values.next() {
        Some("save") => Ok(Action::Save),
        Some("restore") => Ok(Action::Restore),
        Some("erase") => Ok(Action::Erase),
        _ => Err(Failure::field("action", "must be save, restore or erase")),
    }
}

/// Whether a name is that of a file in its folder, on every system: llama-server's rules, without names of devices.
fn is_file_name(name: &str) -> bool {
    let may_be = |c: char| {
        !c.is_control()
            && !matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
            // A full stop and slashes of other scripts, which some file systems take for the usual ones.
            && !matches!(c, '\u{ff0e}' | '\u{2215}' | '\u{2216}' | '\u{fffd}' | '\u{feff}')
    };
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let is_port =
        |port: &str| stem.strip_prefix(port).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    !name.is_empty()
        && name.len() <= MOST_NAME
        && name.chars().all(may_be)
        && !name.starts_with(' ')
        && !name.ends_with([' ', '.'])
        && !name.contains("..")
        && !DEVICES.contains(&stem.as_str())
        && !is_port("com")
        && !is_port("lpt")
}

/// An error without the path of the file, which is not for clients.
fn failure(error: SlotError) -> Failure {
    let file = match error {
        SlotError::File(error) => error,
        SlotError::Engine(error @ Error::NoSlot { .. }) => return Failure::field("id_slot", error),
        SlotError::Engine(error) => return error.into(),
        error => return Failure::invalid(error.to_string()),
    };
    let about_file = |message: String| Failure::field("filename", message);
    match file {
        SessionFileError::Open { source, .. } if source.kind() == ErrorKind::NotFound => {
            Failure::not_found("there is no file of this name")
        }
        SessionFileError::Output(OutputError::NotRegular { .. }) => about_file("is no regular file".to_owned()),
        SessionFileError::Output(
            OutputError::NoRoom { source, .. } | OutputError::Write { source, .. } | OutputError::Create { source, .. },
        ) if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            Failure::no_room()
        }
        SessionFileError::Output(_) => Failure::server("the file cannot be written"),
        SessionFileError::Open { .. } => Failure::server("the file cannot be read"),
        SessionFileError::Model(_) => Failure::server("the model cannot be told from others"),
        SessionFileError::NoMemory { source, .. } => Failure::unavailable(source.to_string()),
        SessionFileError::NotASession { problem, .. } => about_file(format!("is {problem}")),
        SessionFileError::Damaged { problem, .. } => about_file(format!("is damaged: {problem}")),
        SessionFileError::OtherModel { .. } => about_file("is of another model".to_owned()),
        SessionFileError::OtherSetting { name, found, expected, .. } => {
            about_file(format!("is of {name} {found}, and this model has {expected}"))
        }
        SessionFileError::TooLong { tokens, context_length, .. } => {
            about_file(format!("has {tokens} tokens, which a context of {context_length} does not hold"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["slot1.bin", "a b.bin", ".hidden", "größe", "x.y.z", "console", "com10", "a-_b"] {
            assert!(is_file_name(name), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "c:x",
            "a..b",
            "x.",
            "x ",
            " x",
            "a\nb",
            "a\0b",
            "a\u{7f}",
            "a\u{85}",
            "\u{ff0e}\u{ff0e}",
            "a\u{2215}b",
            "a\u{2216}b",
            "\u{feff}a",
            "\u{fffd}",
            "NUL",
            "con.bin",
            "Aux .x",
            "com1",
            "lpt9.txt",
            "a|b",
            "a?b",
            "a*",
            "\"a",
            "<a>",
            &long,
        ] {
            assert!(!is_file_name(name), "{name:?}");
        }
    }

    #[test]
    fn the_action_is_in_the_query() {
        assert_eq!(action("action=save"), Ok(Action::Save));
        assert_eq!(action("x=1&action=erase"), Ok(Action::Erase));
        for query in ["", "action=", "action=delete", "reaction=save"] {
            assert!(action(query).is_err(), "{query}");
        }
    }
}
