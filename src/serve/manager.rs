//! What a server changes models with, where clients may.

use std::sync::Arc;

use super::offers::Offer;
use crate::stores::{BlobStore, Fetched, Located};

/// Offers a model that was found; or returns the reason why it cannot.
pub type MakeOffer = Box<dyn Fn(&Located) -> Result<Offer, String> + Send + Sync>;

/// What changes models.
pub struct Manager {
    /// The store that models are made in.
    pub store: BlobStore,
    /// Offers a model that was found.
    pub offer: MakeOffer,
    /// Servers from which models are fetched.
    #[cfg(feature = "net")]
    pub settings: crate::net::Settings,
    /// Threads whose speed is measured for badges.
    pub pool: Arc<crate::kernels::Pool>,
}

impl Manager {
    /// The store, in which what other programs have made stays.
    pub(super) fn store(&self) -> BlobStore {
        self.store.clone().protecting(Fetched::from_environment())
    }
}
