//! What can be wrong with a model's description.

use crate::TensorType;
use crate::printable::printable;

/// Why a model's metadata or tensors cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `general.architecture`.
    #[error("key general.architecture is missing")]
    NoArchitecture,
    /// An architecture that is not in the table.
    #[error("architecture {} is not known ({}`gguf convert --list` lists those that are)", printable(name).limit(80), near(*nearest))]
    UnknownArchitecture {
        /// The name found.
        name: String,
        /// The known name that is most alike, where one is.
        nearest: Option<&'static str>,
    },
    /// An architecture that is known and not run.
    #[error("models of the architecture {name} are not run yet: {missing} would have to be built")]
    MissingArchitecture {
        /// The name found.
        name: String,
        /// What they need.
        missing: &'static str,
    },
    /// A class that is known and not converted.
    #[error("checkpoints of the class {name} are not converted yet: {missing} would have to be built")]
    MissingClass {
        /// The class found.
        name: String,
        /// What they need.
        missing: &'static str,
    },
    /// The file of an adapter.
    #[error("an adapter, which changes a model of the architecture {}, and no model itself", printable(architecture).limit(80))]
    Adapter {
        /// What it changes.
        architecture: String,
    },
    /// A `config.json` that names no class.
    #[error("config.json: architectures names no class")]
    NoClass,
    /// A class that no family converts.
    #[error("class {} is not known ({}`gguf convert --list` lists those that are)", printable(name).limit(80), near(*nearest))]
    UnknownClass {
        /// The name found.
        name: String,
        /// The known name that is most alike, where one is.
        nearest: Option<&'static str>,
    },
    /// A setting of `config.json` that the family needs.
    #[error("config.json: {name} is missing")]
    MissingSetting {
        /// Its names.
        name: String,
    },
    /// A setting of the wrong kind or outside its range.
    #[error("config.json: {name}: {found}, expected {expected}")]
    BadSetting {
        /// Its name.
        name: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A tensor that does not fit the network.
    #[error(transparent)]
    Network(#[from] crate::network::Error),
    /// A key that the architecture needs.
    #[error("key {} is missing", printable(key).limit(80))]
    MissingKey {
        /// Full name of the key.
        key: String,
    },
    /// A key of the wrong type or outside its range.
    #[error("key {}: {found}, expected {expected}", printable(key).limit(80))]
    BadKey {
        /// Full name of the key.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A key that changes what other architectures compute, and that this one does not know.
    #[error("key {}: {found}: the architecture {} does not compute with it", printable(key).limit(80), printable(architecture).limit(80))]
    UnreadKey {
        /// Full name of the key.
        key: String,
        /// What stands there.
        found: String,
        /// `general.architecture`.
        architecture: String,
    },
    /// A tensor that the architecture needs.
    #[error("tensor {} is missing", printable(name).limit(80))]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture has no place for.
    #[error("tensor {}: the architecture {} has no such tensor", printable(name).limit(80), printable(architecture).limit(80))]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// `general.architecture`.
        architecture: String,
    },
    /// A tensor whose shape does not agree with the metadata.
    #[error("tensor {}: shape {found:?}, expected {expected:?}", printable(name).limit(80))]
    BadShape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<u64>,
        /// Shape that the metadata asks for.
        expected: Vec<u64>,
    },
    /// A factor by which no frequency can be divided.
    #[error("tensor {}: {found}, expected factors greater than 0", printable(name).limit(80))]
    BadRopeFactor {
        /// The tensor.
        name: String,
        /// The factor.
        found: f32,
    },
    /// A tensor of a type that cannot be computed with.
    #[error("tensor {}: type {ty} cannot be run", printable(name).limit(80))]
    BadType {
        /// Its name.
        name: String,
        /// Its type.
        ty: TensorType,
    },
}

/// The name that was meant, if there is one.
fn near(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("nearest: {name}; "))
}
