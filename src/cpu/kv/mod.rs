//! What attention remembers of a sequence: keys and values in pages.

mod cache;
mod page;
mod spec;

pub use cache::KvCache;
pub(super) use page::TileBuffer;
pub use spec::{KvSpec, KvType};
