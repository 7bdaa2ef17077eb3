//! The model files a machine has: finding them where they lie, and telling when one that is
//! registered is gone or another.
//!
//! ```text
//!   places, directories ─▶ walk ─▶ group (parts of one model) ─▶ sightings     a thread that blocks
//!                           ╰ huggingface, ollama, lmstudio, llama_cpp: what their layouts mean
//!   sightings ─▶ scan: known header? else read it ─▶ model, or what goes with one (pair)
//!                ─▶ the same file? moved? ─▶ registry, items ─▶ client
//! ```
//!
//! * Nothing is moved, copied or written to.
//! * What lies in a cache was written by others: names, manifests and links are believed only as
//!   far as they can do no harm, and everything is bounded.
//! * What a file is for is what its header says, never its name.
//! * A file is known by what it is on its file system, so it is registered once however many
//!   links lead to it, and its model follows it when it moves. Its header is read once: again only when its size or time has changed.
//! * What cannot be used is said with its reason and keeps nothing else from being found.

mod group;
mod headers;
mod huggingface;
mod llama_cpp;
mod lmstudio;
mod naming;
mod ollama;
mod pair;
pub mod places;
mod scan;
mod sink;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

pub use scan::{Request, Scan};
pub use state::{Became, FileChange, are_surely_unchanged, changed_since};

use crate::models::Models;
use crate::store::registry::Registry;
use llamactl_protocol::library::CacheVariables;
use places::Place;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many lookings at registered files may wait for a slow file system at once.
const LOOKS: usize = 8;

/// A handle to the library. Clones share it.
#[derive(Clone, Debug)]
pub struct Library {
    registry: Registry,
    models: Models,
    caches: Arc<[Place]>,
    looks: Arc<Semaphore>,
}

impl Library {
    /// A library whose models are in `registry` and which looks for more in `caches`.
    #[must_use]
    pub fn new(registry: Registry, caches: Vec<Place>) -> Library {
        let models = Models::new(registry.clone());
        let looks = Arc::new(Semaphore::new(LOOKS));
        Library { registry, models, caches: caches.into(), looks }
    }

    /// The caches other programs may have here, those that `variables` name first; not all need to
    /// be there.
    #[must_use]
    pub fn caches(&self, variables: &CacheVariables) -> Vec<Place> {
        let mut caches = places::caches(|name| variables.get(name));
        let ours = self.caches.iter().filter(|ours| caches.iter().all(|it| it.path != ours.path));
        let ours: Vec<Place> = ours.cloned().collect();
        caches.extend(ours);
        caches
    }
}
