//! The integration tests: one module per subject.

/// The published vocabularies (needs `GGUF_SHARED`).
mod vocabularies;
