//! Searches Hugging Face for repositories of GGUF files, and lists the models of one.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::error::Error;
use super::hub::{self, Repository};
use super::hub_cache::Cache;
use super::names::Source;
use super::part::is_there;
use super::selection;
use super::settings::Settings;
use super::url::escaped_value;

/// Largest answer to a search, in bytes.
const MOST_JSON: u64 = 16 << 20;

/// A repository that a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// `ORG/NAME`.
    pub name: String,
    /// Downloads in the last month.
    pub downloads: u64,
    /// Number of likes.
    pub likes: u64,
    /// Parameters of its models, if the server reports them.
    pub parameters: Option<u64>,
    /// Their architecture, if the server reports it.
    pub architecture: Option<String>,
    /// Whether terms must be accepted first.
    pub is_gated: bool,
    /// Time of the last change, as reported by the server.
    pub changed: Option<String>,
}

/// The models of a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Offers {
    /// `ORG/NAME`.
    pub repository: String,
    /// Parameters of its models, if the server reports them.
    pub parameters: Option<u64>,
    /// Their architecture, if the server reports it.
    pub architecture: Option<String>,
    /// The models, in the order of the repository's listing.
    pub models: Vec<Offered>,
}

/// A model of a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// The name by which it is fetched.
    pub name: String,
    /// The type in its file's name.
    pub quant: Option<String>,
    /// The (first) file's path in the repository.
    pub path: String,
    /// Number of its files.
    pub files: usize,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bits per parameter, if the server reports their number.
    pub bits_per_weight: Option<f64>,
    /// Whether it is on this machine, in the cache of Hugging Face.
    pub is_here: bool,
    /// The address of its first file.
    pub(super) url: String,
    /// Its first file, if it is here.
    pub(super) blob: Option<PathBuf>,
}

/// Repositories of GGUF files whose names contain `text` (all, if it is empty), the most downloaded first.
///
/// # Errors
/// When the server refuses, or the program is offline.
pub fn search(settings: &Settings, text: &str, limit: u16) -> Result<Vec<SearchHit>, Error> {
    if settings.is_offline {
        return Err(Error::Offline { name: text.to_owned() });
    }
    let url = search_url(&settings.endpoint, text, limit);
    let (json, _) =
        settings.client.json(&url, MOST_JSON, "application/json").map_err(|e| hub::explain(settings, text, e))?;
    let list = json.as_array().ok_or_else(|| Error::Answer {
        url: super::url::without_query(&url).to_owned(),
        problem: "the answer is no list of repositories".to_owned(),
    })?;
    Ok(list.iter().filter_map(found).take(limit.into()).collect())
}

fn search_url(endpoint: &str, text: &str, limit: u16) -> String {
    let text = escaped_value(text);
    // `expand[]`: the brackets of the endpoint, which an address of IPv6 has, are none of these.
    let fields = ["downloads", "likes", "gated", "lastModified", "gguf"].map(|field| format!("&expand%5B%5D={field}"));
    let fields = fields.concat();
    format!("{endpoint}/api/models?search={text}&filter=gguf&sort=downloads&direction=-1&limit={limit}{fields}")
}

fn found(json: &Json) -> Option<SearchHit> {
    let name = json["id"].as_str().or_else(|| json["modelId"].as_str())?;
    Some(SearchHit {
        name: name.to_owned(),
        downloads: json["downloads"].as_u64().unwrap_or(0),
        likes: json["likes"].as_u64().unwrap_or(0),
        parameters: json["gguf"]["total"].as_u64(),
        architecture: json["gguf"]["architecture"].as_str().map(str::to_owned),
        is_gated: !matches!(json["gated"], Json::Null | Json::Bool(false)),
        changed: json["lastModified"].as_str().map(str::to_owned),
    })
}

/// The models of a repository.
///
/// # Errors
/// When there is no such repository, the server refuses, or the program is offline.
pub fn offers(settings: &Settings, name: &str) -> Result<Offers, Error> {
    if settings.is_offline {
        return Err(Error::Offline { name: name.to_owned() });
    }
    let Source::Hub(hub) = Source::parse(name, &settings.endpoint)? else {
        return Err(Error::Name { name: name.to_owned(), problem: "not the name of a repository (ORG/NAME)" });
    };
    let repository = Repository::ask(settings, &hub.repository, hub.revision.as_deref().unwrap_or("main"))?;
    let cache = settings.roots.hugging_face.as_ref().map(|root| Cache::new(root, &repository.name));
    let offered = |model: &selection::Model<'_>| {
        let bytes = model.bytes();
        let is_here = |file: &&hub::HubFile| {
            cache.as_ref().is_some_and(|cache| is_there(&cache.blob(&file.checksum), file.bytes))
        };
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let bits_per_weight = repository.parameters.filter(|&n| n > 0).map(|n| bytes as f64 * 8.0 / n as f64);
        Offered {
            name: format!("{}:{}", repository.name, model.tag()),
            quant: model.quant.clone(),
            path: model.path().to_owned(),
            files: model.files.len(),
            bytes,
            bits_per_weight,
            is_here: model.files.iter().all(is_here),
            url: repository.url(settings, model.path()),
            blob: model
                .files
                .first()
                .copied()
                .filter(|file| is_here(file))
                .zip(cache.as_ref())
                .map(|(file, cache)| cache.blob(&file.checksum)),
        }
    };
    Ok(Offers {
        models: selection::models(&repository).iter().map(offered).collect(),
        repository: repository.name.clone(),
        parameters: repository.parameters,
        architecture: repository.architecture.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::url::Origin;
    use super::search_url;

    #[test]
    fn searches_are_asked_of_the_endpoint() {
        for endpoint in ["https://huggingface.co", "http://[::1]:8080", "http://[fe80::1]"] {
            let url = search_url(endpoint, "a [b]", 3);
            assert_eq!(Origin::of(&url).expect("an address"), Origin::of(endpoint).expect("an address"));
            let query = url.strip_prefix(endpoint).expect("the endpoint comes first");
            assert!(query.starts_with("/api/models?search=a%20%5Bb%5D&") && !query.contains(['[', ']']), "{url}");
            assert!(query.ends_with("&limit=3&expand%5B%5D=downloads&expand%5B%5D=likes&expand%5B%5D=gated&expand%5B%5D=lastModified&expand%5B%5D=gguf"), "{url}");
        }
    }
}
