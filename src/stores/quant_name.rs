//! Chooses a file of a repository by the name of a type in file names.

use std::path::{Path, PathBuf};

/// Default types in order of preference, as in llama.cpp.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// Splits `org/repo:TAG`.
pub(crate) fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') && !tag.is_empty() => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// The files for `tag`: those with exactly this type in their names, else those whose names contain the text, as in llama.cpp.
/// Without a tag, a default type or else the first file.
pub(crate) fn choose(files: &[PathBuf], tag: Option<&str>) -> Option<PathBuf> {
    let tagged = |tag: &str| {
        let exact = files.iter().find(|file| quant_of(file).is_some_and(|quant| quant.eq_ignore_ascii_case(tag)));
        let named = || files.iter().find(|file| file_name(file).eq_ignore_ascii_case(tag));
        let part = || {
            let tag = tag.to_lowercase();
            files.iter().find(|file| {
                let name = file_name(file).to_lowercase();
                name.contains(&format!("{tag}.")) || name.contains(&format!("{tag}-"))
            })
        };
        exact.or_else(named).or_else(part).cloned()
    };
    match tag {
        // Ollama's default tag.
        Some(tag) if tag != "latest" => tagged(tag),
        _ => USUAL.iter().find_map(|tag| tagged(tag)).or_else(|| files.first().cloned()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The type in a file's name: `Q4_K_M` of `llama-Q4_K_M.gguf`, `UD-Q4_K_XL` of `x-UD-Q4_K_XL-00001-of-00002.gguf`.
pub(crate) fn quant_of(path: &Path) -> Option<String> {
    let name = file_name(path);
    let stem = name.get(..name.len().checked_sub(".gguf".len())?)?;
    let parts: Vec<&str> = stem.split(['-', '.']).collect();
    let at = parts.iter().rposition(|part| is_quant(part))?;
    let own = at > 0 && parts[at - 1].eq_ignore_ascii_case("UD");
    Some(if own { format!("{}-{}", parts[at - 1], parts[at]) } else { parts[at].to_owned() })
}

/// Whether a word is the name of a type: `Q4_K_M`, `iq3_xxs`, `bf16`, `TQ1_0`, `MXFP4`.
fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    if matches!(word.as_str(), "F16" | "F32" | "BF16" | "FP16" | "MXFP4" | "MXFP4_MOE" | "NVFP4") {
        return true;
    }
    let rest = word.strip_prefix("IQ").or_else(|| word.strip_prefix("TQ")).or_else(|| word.strip_prefix('Q'));
    rest.is_some_and(|rest| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|bits| bits.len() == 1 && bits.bytes().all(|b| b.is_ascii_digit()))
            && parts.all(|part| part.len() <= 3 && part.bytes().all(|b| b.is_ascii_alphanumeric()))
    })
}
