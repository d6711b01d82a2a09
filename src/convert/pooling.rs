//! How a checkpoint of sentence-transformers makes embeddings of hidden states: `modules.json` and the folder of its
//! pooling module; the linear maps behind it. Qwen's rerankers are recognized by their names.

use serde_json::Value as Json;

use super::{Error, Folder};
use crate::arch::{self, DenseModule};
use crate::network::Pooling;

/// The modes that GGUF files can express: the settings that select them, and their names in newer folders.
const MODES: [(&str, &str, Pooling); 3] = [
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    ("pooling_mode_cls_token", "cls", Pooling::Cls),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
];

/// The list of a checkpoint's modules.
const MODULES: &str = "modules.json";

/// Part of the names of Qwen's rerankers, which are checkpoints of the class of their chat models.
const RERANKER: &str = "qwen3-reranker";

/// The pooling that `folder`, with a model of this `class`, says, if it does.
///
/// # Errors
/// When a file cannot be read, or says a pooling that no file can express.
pub(super) fn pooling(folder: &Folder, class: &str) -> Result<Option<Pooling>, Error> {
    if class == "Qwen3ForCausalLM" {
        let card = folder.text("README.md")?.unwrap_or_default().to_lowercase();
        if folder.name().to_lowercase().contains(RERANKER) || card.contains(&format!("# {RERANKER}")) {
            return Ok(Some(Pooling::Rank));
        }
    }
    let modules = folder.json(MODULES)?.unwrap_or_default();
    let mut modules = modules.as_array().into_iter().flatten();
    let module = modules.find(|module| is(module, "Pooling"));
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

/// Whether a module is of a type that ends so.
fn is(module: &Json, ending: &str) -> bool {
    module["type"].as_str().is_some_and(|name| name.ends_with(ending))
}

/// The folders of linear maps behind the pooling, and the features that these take and give.
///
/// # Errors
/// When a file cannot be read, or a map has a bias or a function behind it, for which files have no place.
pub(super) fn dense(folder: &Folder) -> Result<Vec<(String, DenseModule)>, Error> {
    let modules = folder.json(MODULES)?.unwrap_or_default();
    let mut found = Vec::new();
    for module in modules.as_array().into_iter().flatten().filter(|module| is(module, "Dense")) {
        let path = module["path"].as_str().unwrap_or_default().to_owned();
        let name = format!("{path}/config.json");
        let config = folder.json(&name)?.ok_or_else(|| Error::MissingFile { path: folder.path(&name) })?;
        let bad = |setting: &str, expected| Error::Architecture {
            path: folder.path(&path),
            source: arch::Error::BadSetting { name: setting.to_owned(), found: config[setting].to_string(), expected },
        };
        let count = |setting: &str| {
            let count = config[setting].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
            count.ok_or_else(|| bad(setting, "a count"))
        };
        if config["bias"] == true {
            return Err(bad("bias", "false"));
        }
        let function = &config["activation_function"];
        if !function.is_null() && !function.as_str().is_some_and(|name| name.ends_with(".Identity")) {
            return Err(bad("activation_function", "torch.nn.modules.linear.Identity"));
        }
        let module = DenseModule { input: count("in_features")?, output: count("out_features")? };
        found.push((path, module));
    }
    Ok(found)
}
