//! The pooling of a sentence-transformers checkpoint, from `modules.json` and the folder of its pooling module.

use serde_json::Value as Json;

use super::{Error, Folder};
use crate::arch;
use crate::network::Pooling;

/// The modes that GGUF files can express: the settings that select them, and their names in newer folders.
const MODES: [(&str, &str, Pooling); 3] = [
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    ("pooling_mode_cls_token", "cls", Pooling::Cls),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
];

/// The pooling of `folder`, if it has one.
///
/// # Errors
/// When a file cannot be read, or the pooling cannot be expressed in a GGUF file.
pub(super) fn read(folder: &Folder) -> Result<Option<Pooling>, Error> {
    let modules = folder.json("modules.json")?.unwrap_or_default();
    let mut modules = modules.as_array().into_iter().flatten();
    let module = modules.find(|module| module["type"].as_str().is_some_and(|name| name.ends_with("Pooling")));
    let Some(path) = module.and_then(|module| module["path"].as_str()) else { return Ok(None) };
    let name = format!("{path}/config.json");
    let config = folder.json(&name)?.ok_or_else(|| Error::MissingFile { path: folder.path(&name) })?;
    let on = |setting: &str| config[setting] == true;
    let found = MODES.iter().find(|(setting, ..)| on(setting));
    let named = || MODES.iter().find(|(_, mode, _)| config["pooling_mode"].as_str() == Some(mode));
    if let Some((.., pooling)) = found.or_else(named) {
        return Ok(Some(*pooling));
    }
    let other = config.as_object().into_iter().flatten().find(|(setting, value)| {
        setting.starts_with("pooling_mode") && !matches!(value, Json::Null | Json::Bool(false))
    });
    let (name, value) = other.map_or(("pooling_mode", &Json::Null), |(setting, value)| (setting.as_str(), value));
    let expected = "mean, cls or lasttoken: no file can say another";
    let source = arch::Error::BadSetting { name: name.to_owned(), found: value.to_string(), expected };
    Err(Error::Architecture { path: folder.path(path), source })
}
