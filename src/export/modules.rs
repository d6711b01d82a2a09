//! What stands behind a model of embeddings in the form of sentence-transformers: the pooling, linear maps, normalization.

use serde_json::{Value as Json, json};

use super::source::Source;
use crate::arch::keys;
use crate::network::Pooling;

/// The end of the names of folders with linear maps.
const DENSE: &str = "_Dense";

/// The folder of a linear map that a tensor, or the file of one, belongs to.
pub(super) fn folder(name: &str) -> Option<&str> {
    let end = name.find(DENSE)? + DENSE.len();
    name.get(end..).filter(|rest| rest.starts_with(['.', '/'])).map(|_| &name[..end])
}

/// The name of a tensor in its file.
pub(super) fn name(name: &str) -> &str {
    folder(name).map_or(name, |folder| &name[folder.len() + 1..])
}

/// The files that say how hidden states become embeddings, if the model says it.
pub(super) fn files(source: &Source<'_>) -> Vec<(String, Json)> {
    let mode = match source.spec.pooling {
        Some(Pooling::Mean) => "mean_tokens",
        Some(Pooling::Cls) => "cls_token",
        Some(Pooling::Last) => "lasttoken",
        _ => return Vec::new(),
    };
    let module = |number: usize, path: &str, kind: &str| json!({ "idx": number, "name": number.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let h = &source.header.hparams;
    let length = h.embedding_length;
    let on = |name: &str| name == mode;
    let mut pooling = json!({ "word_embedding_dimension": length });
    for name in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"] {
        pooling[format!("pooling_mode_{name}")] = on(name).into();
    }
    let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    let mut files = vec![("1_Pooling/config.json".to_owned(), pooling)];
    let wide = h.count_or(keys::DENSE_2_FEAT_OUT, 0).unwrap_or(0);
    let maps = [(2, length, wide), (3, wide, length)];
    for (number, from, to) in maps.into_iter().filter(|_| wide > 0) {
        let path = format!("{number}{DENSE}");
        modules.push(module(number, &path, "Dense"));
        let config = json!({
            "in_features": from, "out_features": to, "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity",
        });
        files.push((format!("{path}/config.json"), config));
    }
    modules.push(module(modules.len(), "", "Normalize"));
    files.push(("modules.json".to_owned(), modules.into()));
    files
}
