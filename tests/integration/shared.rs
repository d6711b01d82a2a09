//! Files that tests read: committed ones under `testdata/`, and large or foreign ones that are not ours to commit.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A committed file or folder.
pub(crate) fn testdata(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The package of the fuzz targets lies below the root.
    let root = package.ancestors().find(|folder| folder.join("testdata").is_dir()).expect("the repository's root");
    root.join("testdata").join(name)
}

/// A file or folder of the directory that `GGUF_SHARED` names.
pub(crate) fn shared(name: &str) -> PathBuf {
    let root = std::env::var_os("GGUF_SHARED").expect("GGUF_SHARED names no directory");
    let path = Path::new(&root).join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// SHA-256 as lower-case hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
