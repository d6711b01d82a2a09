//! What attention remembers of a sequence: keys and values in pages.

mod cache;
mod page;

pub use cache::{KvCache, KvSpec, KvType};
pub(super) use page::TileBuffer;
