//! The default names of outputs.

use std::path::{Path, PathBuf};

use super::FileType;

/// The file name for `model` quantized to `mix`, without folder: `llama-F16.gguf` becomes `llama-Q4_K_M.gguf`.
/// A type and a shard number in the name of the model are removed.
#[must_use]
pub fn output_name(model: &Path, mix: &str) -> PathBuf {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let stem = without_shard(name.strip_suffix(".gguf").unwrap_or(&name));
    PathBuf::from(format!("{}-{mix}.gguf", without_type(stem)))
}

/// The name of `model` without folder and number of a shard: `llama-F16-00001-of-00003.gguf` becomes `llama-F16.gguf`.
#[must_use]
pub fn plain_name(model: &Path) -> PathBuf {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{}.gguf", without_shard(name.strip_suffix(".gguf").unwrap_or(&name))))
}

/// Without `-00001-of-00003`.
fn without_shard(stem: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let parts = stem.rsplit_once("-of-").and_then(|(rest, count)| Some((rest.rsplit_once('-')?, count)));
    match parts {
        Some(((stem, no), count)) if digits(no) && digits(count) && !stem.is_empty() => stem,
        _ => stem,
    }
}

/// Without `-F16`, `.f16` and the like.
fn without_type(stem: &str) -> &str {
    let ends_so = |ty: &FileType| {
        let at = stem.len().checked_sub(ty.name().len() + 1).filter(|&at| at > 0 && stem.is_char_boundary(at))?;
        let suffix = &stem[at..];
        let named = suffix.starts_with(['-', '.', '_']) && suffix[1..].eq_ignore_ascii_case(ty.name());
        named.then_some(&stem[..at])
    };
    FileType::ALL.iter().filter_map(ends_so).min_by_key(|stem| stem.len()).unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::output_name;

    #[test]
    fn types_and_shards_give_way() {
        let name = |model: &str| output_name(Path::new(model), "Q4_K_M").to_string_lossy().into_owned();
        assert_eq!(name("/models/llama-F16.gguf"), "llama-Q4_K_M.gguf");
        assert_eq!(name("llama.bf16.gguf"), "llama-Q4_K_M.gguf");
        assert_eq!(name("llama_q5_k_s.gguf"), "llama-Q4_K_M.gguf");
        assert_eq!(name("llama-BF16-00002-of-00003.gguf"), "llama-Q4_K_M.gguf");
        assert_eq!(name("llama-0002-of-0003.gguf"), "llama-0002-of-0003-Q4_K_M.gguf");
        assert_eq!(name("f16.gguf"), "f16-Q4_K_M.gguf");
        assert_eq!(name("modellf16"), "modellf16-Q4_K_M.gguf");
        assert_eq!(name("größe-f16.gguf"), "größe-Q4_K_M.gguf");
        assert_eq!(name("-F16.gguf"), "-F16-Q4_K_M.gguf");
    }
}
