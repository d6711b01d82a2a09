//! The `gguf` command.

fn main() {}
