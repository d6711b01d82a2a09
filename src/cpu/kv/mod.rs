//! The KV cache of a sequence: keys and values in pages of a pool.

mod cache;
mod page;
mod pool;
mod spec;

pub use cache::KvCache;
pub(super) use page::TileBuffer;
pub(super) use pool::{Limit, Pages};
pub use pool::{OutOfPages, PagePool};
pub use spec::{CacheType, KvSpec, KvType};
