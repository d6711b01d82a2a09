//! Limits on the sizes in a file: far above what models need, and far below what would exhaust memory.

/// Keys in one file. Models have about 30.
pub const MAX_KEYS: u64 = 1 << 16;

/// Tensors in one file. The largest models have some thousands.
pub const MAX_TENSORS: u64 = 1 << 18;

/// Bytes of a key.
pub const MAX_KEY_BYTES: u64 = 65_535;

/// Bytes of a tensor's name: llama.cpp keeps names in 64 bytes with a final zero.
pub const MAX_NAME_BYTES: u64 = 63;

/// Dimensions of a tensor.
pub const MAX_DIMS: u32 = 4;

/// Bytes of a string value. Chat templates have some thousands.
pub const MAX_STRING_BYTES: u64 = 16 << 20;

/// Bytes of everything before the tensor data. A vocabulary of 256 k tokens takes 16 MB.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;

/// Arrays inside arrays.
pub const MAX_ARRAY_DEPTH: u32 = 8;

/// Alignment of tensor data in bytes.
pub const MAX_ALIGNMENT: u32 = 1 << 20;

/// Shards of one model.
pub const MAX_SHARDS: u64 = 1 << 12;
