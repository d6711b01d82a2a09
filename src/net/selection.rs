//! Selects files of a repository.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::hub::{HubFile, Repository};
use super::names::HubName;
use crate::inspect::Needs;
use crate::stores::{choose, is_model_name, quant_of, shards};

/// A model of a repository: one file, or all of a split one.
#[derive(Clone, Debug)]
pub(super) struct Model<'a> {
    pub(super) files: Vec<&'a HubFile>,
    /// The type in its name.
    pub(super) quant: Option<String>,
}

impl Model<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Approximate bytes of memory that it needs, by its size alone.
    pub(super) fn needs_bytes(&self) -> u64 {
        Needs::of_size(self.bytes()).total()
    }

    /// The first file's path in the repository.
    pub(super) fn path(&self) -> &str {
        self.files.first().map_or("", |file| &file.path)
    }

    /// What distinguishes it from others of the repository: the type, or the file's name.
    pub(super) fn tag(&self) -> &str {
        self.quant.as_deref().unwrap_or_else(|| file_name(self.path()))
    }
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Why a file was chosen among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was named, or is the only one.
    Named,
    /// It has a default type (Q4_K_M, Q8_0), or is the first file.
    Usual,
    /// The default type does not fit this machine's memory; this is the largest that does.
    Fits,
    /// None fits this machine's memory; this is the smallest.
    Smallest,
}

/// All models of a repository, in the order of its listing, without incomplete split models.
pub(super) fn models(repository: &Repository) -> Vec<Model<'_>> {
    let is_first = |file: &&HubFile| is_model_name(file_name(&file.path));
    repository.files.iter().filter(is_first).filter_map(|first| whole(repository, first)).collect()
}

fn whole<'a>(repository: &'a Repository, first: &HubFile) -> Option<Model<'a>> {
    let of = |path: PathBuf| repository.files.iter().find(|file| Path::new(&file.path) == path);
    let files: Option<Vec<&HubFile>> = shards(Path::new(&first.path)).into_iter().map(of).collect();
    Some(Model { files: files?, quant: quant_of(Path::new(&first.path)) })
}

/// The model for a name; if the name has no type, one that fits `room` bytes of memory, if that is known.
pub(super) fn model<'a>(
    repository: &'a Repository,
    name: &HubName,
    room: Option<u64>,
) -> Result<(Model<'a>, Choice), Error> {
    let all = models(repository);
    if all.is_empty() {
        let is_checkpoint = repository.files.iter().any(|file| file.path.ends_with(".safetensors"));
        let hint = if is_checkpoint { ", but a checkpoint in safetensors, which can be converted" } else { "" };
        return Err(Error::NoModel { name: repository.name.clone(), hint });
    }
    let paths: Vec<PathBuf> = all.iter().map(|model| model.path().into()).collect();
    let at = |path: &PathBuf| all.iter().find(|model| Path::new(model.path()) == path).cloned();
    let named = |tag: &str| choose(&paths, Some(tag)).as_ref().and_then(at);
    let wanted = name.file.as_deref().or(name.tag.as_deref());
    let Some(wanted) = wanted else {
        let usual = choose(&paths, None).as_ref().and_then(at).unwrap_or_else(|| all[0].clone());
        let choice = if all.len() == 1 { Choice::Named } else { Choice::Usual };
        return Ok(room.filter(|_| all.len() > 1).map_or((usual.clone(), choice), |room| fitting(&all, usual, room)));
    };
    let exact = all.iter().find(|model| model.files.iter().any(|file| file.path == wanted)).cloned();
    let found = exact.or_else(|| name.file.is_none().then(|| named(wanted)).flatten());
    let found = found.ok_or_else(|| Error::NoFile {
        name: format!("{}:{wanted}", repository.name),
        found: all.iter().map(|model| model.tag().to_owned()).collect(),
    })?;
    Ok((found, Choice::Named))
}

/// The default model if it fits, else the largest that does.
fn fitting<'a>(all: &[Model<'a>], usual: Model<'a>, room: u64) -> (Model<'a>, Choice) {
    if usual.needs_bytes() <= room {
        return (usual, Choice::Usual);
    }
    let fits = all.iter().filter(|model| model.needs_bytes() <= room).max_by_key(|model| model.bytes());
    match fits.or_else(|| all.iter().min_by_key(|model| model.bytes())) {
        Some(model) if fits.is_some() => (model.clone(), Choice::Fits),
        Some(model) => (model.clone(), Choice::Smallest),
        None => (usual, Choice::Usual),
    }
}

/// The projector for a model: in its folder or above, with the nearest number of bits.
pub(super) fn projector<'a>(repository: &'a Repository, model: &Model<'_>) -> Option<&'a HubFile> {
    let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let of_model = folder(model.path());
    let wanted = bits(model.quant.as_deref());
    let is_projector = |file: &&HubFile| {
        let name = file_name(&file.path).to_lowercase();
        name.contains("mmproj") && name.ends_with(".gguf") && of_model.starts_with(&folder(&file.path))
    };
    repository.files.iter().filter(is_projector).min_by_key(|file| {
        let distance = bits(quant_of(Path::new(&file.path)).as_deref()).abs_diff(wanted);
        (usize::MAX - folder(&file.path).len(), distance)
    })
}

/// The bits of a type by its name: 4 of `Q4_K_M`, 16 of `BF16`.
fn bits(quant: Option<&str>) -> u32 {
    let digits: Option<String> =
        quant.map(|quant| quant.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(16)
}

/// The files of a checkpoint that conversion reads.
pub(super) fn checkpoint(repository: &Repository) -> Result<Vec<&HubFile>, Error> {
    let is_safetensors = |file: &&HubFile| file.path.ends_with(".safetensors") && !file.path.contains('/');
    let weights: Vec<&HubFile> = repository.files.iter().filter(is_safetensors).collect();
    // The same weights in Mistral's own layout.
    let is_own = |file: &HubFile| file.path.starts_with("consolidated");
    let others = weights.iter().any(|file| !is_own(file));
    if weights.is_empty() {
        let hint = if models(repository).is_empty() {
            ", nor safetensors"
        } else {
            " are wanted, and no safetensors are there"
        };
        return Err(Error::NoModel { name: repository.name.clone(), hint });
    }
    const SMALL: [&str; 10] = [
        "config.json",
        "generation_config.json",
        "tokenizer",
        "vocab",
        "merges.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template",
        "README.md",
        "modules.json",
    ];
    const FOLDERS: [&str; 2] = ["1_Pooling/config.json", "2_Normalize/config.json"];
    let is_wanted = |file: &&HubFile| {
        let path = file.path.as_str();
        let is_weight = path.ends_with(".safetensors") && !path.contains('/') && !(others && is_own(file));
        let is_index = path.ends_with(".safetensors.index.json") && !path.contains('/') && !(others && is_own(file));
        let is_small = !path.contains('/') && SMALL.iter().any(|name| path.starts_with(name));
        is_weight || is_index || is_small || FOLDERS.contains(&path)
    };
    Ok(repository.files.iter().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::{Choice, checkpoint, model, projector};
    use crate::net::checksum::Checksum;
    use crate::net::hub::{HubFile, Repository};
    use crate::net::names::HubName;

    fn repository(files: &[(&str, u64)]) -> Repository {
        let file = |&(path, bytes): &(&str, u64)| HubFile {
            path: path.to_owned(),
            bytes,
            checksum: Checksum::git(&"0".repeat(40)).expect("digits"),
        };
        Repository {
            name: "org/repo".into(),
            commit: "0".repeat(40),
            files: files.iter().map(file).collect(),
            parameters: None,
            architecture: None,
        }
    }

    fn taken(repository: &Repository, tag: Option<&str>, room: Option<u64>) -> (String, Choice) {
        let name = HubName { tag: tag.map(str::to_owned), ..HubName::default() };
        match model(repository, &name, room) {
            Ok((model, choice)) => (model.path().to_owned(), choice),
            Err(error) => (error.to_string(), Choice::Named),
        }
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn types_are_found_and_chosen() {
        let made = repository(&[
            ("README.md", 1),
            ("m-BF16/m-BF16-00001-of-00002.gguf", 8 * GIB),
            ("m-BF16/m-BF16-00002-of-00002.gguf", 8 * GIB),
            ("m-Q2_K.gguf", 2 * GIB),
            ("m-Q4_K_M.gguf", 4 * GIB),
            ("m-Q8_0.gguf", 8 * GIB),
            ("mmproj-m-F16.gguf", 1),
            ("m-Q6_K-00001-of-00002.gguf", 1),
        ]);
        let of = |tag, room| taken(&made, tag, room);
        assert_eq!(of(None, None), ("m-Q4_K_M.gguf".into(), Choice::Usual));
        assert_eq!(of(None, Some(64 * GIB)), ("m-Q4_K_M.gguf".into(), Choice::Usual));
        assert_eq!(of(None, Some(4 * GIB)), ("m-Q2_K.gguf".into(), Choice::Fits));
        assert_eq!(of(None, Some(GIB)), ("m-Q2_K.gguf".into(), Choice::Smallest));
        assert_eq!(of(Some("bf16"), Some(GIB)), ("m-BF16/m-BF16-00001-of-00002.gguf".into(), Choice::Named));
        assert_eq!(of(Some("m-Q8_0.gguf"), None), ("m-Q8_0.gguf".into(), Choice::Named));
        let none = of(Some("Q6_K"), None).0;
        assert_eq!(none, "org/repo:Q6_K: no file of this name or type; there is BF16, Q2_K, Q4_K_M, Q8_0");
        let name = HubName { tag: Some("BF16".into()), ..HubName::default() };
        assert_eq!(model(&made, &name, None).expect("there").0.files.len(), 2);
    }

    #[test]
    fn projectors_are_those_of_the_nearest_bits() {
        let made = repository(&[
            ("m-Q4_K_M.gguf", 1),
            ("mmproj-F32.gguf", 1),
            ("mmproj-F16.gguf", 1),
            ("mmproj-Q8_0.gguf", 1),
            ("other/mmproj-Q4_0.gguf", 1),
        ]);
        let (found, _) = model(&made, &HubName::default(), None).expect("there");
        assert_eq!(projector(&made, &found).map(|file| file.path.as_str()), Some("mmproj-Q8_0.gguf"));
    }

    #[test]
    fn checkpoints_are_what_conversion_reads() {
        let made = repository(&[
            (".gitattributes", 1),
            ("README.md", 1),
            ("config.json", 1),
            ("consolidated.safetensors", 9),
            ("model-00001-of-00001.safetensors", 9),
            ("model.safetensors.index.json", 1),
            ("original/params.json", 1),
            ("pytorch_model.bin", 9),
            ("tokenizer.json", 1),
            ("tokenizer_config.json", 1),
            ("onnx/model.safetensors", 9),
        ]);
        let paths: Vec<&str> = checkpoint(&made).expect("one").iter().map(|file| file.path.as_str()).collect();
        let expected = [
            "README.md",
            "config.json",
            "model-00001-of-00001.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(paths, expected);
        assert!(checkpoint(&repository(&[("a.gguf", 1)])).is_err());
        let text = taken(&repository(&[("model.safetensors", 1)]), None, None).0;
        assert_eq!(text, "org/repo: no GGUF files, but a checkpoint in safetensors, which can be converted");
    }
}
