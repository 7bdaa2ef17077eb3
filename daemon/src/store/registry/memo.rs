//! What was read, kept until something is written.
//!
//! ```text
//!   asked as of event N ─▶ kept as of N ─▶ the answer of before, at once
//!                     ╰──▶ not kept ─────▶ one read ─▶ kept as of N
//! ```
//!
//! A change's event is told after its commit and before its answer. So whoever was answered asks as of
//! that event or a later one, and is never told what was before it. Only what is written with an event,
//! or never changes, may be kept so.

use super::{Registry, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The most that is kept at a time.
const KEEP: usize = 256;

/// What was read by its keys, that there was nothing among it. Clones share it.
pub struct Memo<K, V>(Arc<Mutex<Kept<K, V>>>);

struct Kept<K, V> {
    as_of: i64,
    values: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Memo(Arc::new(Mutex::new(Kept { as_of: 0, values: BTreeMap::new() })))
    }
}

impl<K, V> Clone for Memo<K, V> {
    fn clone(&self) -> Self {
        Memo(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Memo<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

impl<K: Clone + Ord, V: Clone> Memo<K, V> {
    /// What there is of these keys: as it was read last if nothing was written since, or else as `read`
    /// finds it.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn recall<R>(
        &self,
        registry: &Registry,
        keys: Vec<K>,
        read: impl FnOnce(Vec<K>) -> R,
    ) -> Result<BTreeMap<K, V>>
    where
        R: Future<Output = Result<BTreeMap<K, V>>>,
    {
        // Before it is read: what is written meanwhile makes it old.
        let as_of = *registry.last_event.borrow();
        if let Some(kept) = self.kept(as_of, &keys) {
            return Ok(kept);
        }
        let found = read(keys.clone()).await?;
        self.keep(as_of, keys, &found);
        Ok(found)
    }

    fn kept(&self, as_of: i64, keys: &[K]) -> Option<BTreeMap<K, V>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_of != as_of {
            return None;
        }
        let mut found = BTreeMap::new();
        for key in keys {
            if let Some(value) = kept.values.get(key)? {
                found.insert(key.clone(), value.clone());
            }
        }
        Some(found)
    }

    fn keep(&self, as_of: i64, keys: Vec<K>, found: &BTreeMap<K, V>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() > KEEP || kept.as_of > as_of {
            return;
        }
        if kept.as_of < as_of || kept.values.len() + keys.len() > KEEP {
            *kept = Kept { as_of, values: BTreeMap::new() };
        }
        for key in keys {
            let value = found.get(&key).cloned();
            kept.values.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::Actor;
    use llamactl_protocol::options::Settings;
    use serde_json::json;
    use std::cell::Cell;

    #[tokio::test]
    async fn what_was_read_is_not_read_again_until_something_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let (memo, reads) = (Memo::default(), Cell::new(0));
        let recall = async |keys: &[i64]| {
            let read = |keys: Vec<i64>| {
                reads.set(reads.get() + 1);
                let even = keys.into_iter().filter(|key| key % 2 == 0);
                let found: BTreeMap<i64, i32> = even.map(|key| (key, reads.get())).collect();
                std::future::ready(Ok(found))
            };
            memo.recall(&registry, keys.to_vec(), read).await.unwrap()
        };
        assert_eq!(recall(&[1, 2]).await, BTreeMap::from([(2, 1)]));
        assert_eq!(recall(&[2]).await, BTreeMap::from([(2, 1)]));
        assert_eq!(recall(&[1]).await, BTreeMap::new(), "that there is nothing is kept too");
        assert_eq!(recall(&[2, 4]).await, BTreeMap::from([(2, 2), (4, 2)]));
        assert_eq!(reads.get(), 2);

        let set = Settings::from([("ctx-size".to_owned(), json!(1))]);
        registry.change_defaults(set, vec![], None, Actor::Policy).await.unwrap();
        assert_eq!(recall(&[2]).await, BTreeMap::from([(2, 3)]));
        assert_eq!(recall(&[4]).await, BTreeMap::from([(4, 4)]), "all of it is old");

        let many: Vec<i64> = (0..).take(KEEP + 1).collect();
        for reads_before in 4..6 {
            recall(&many).await;
            assert_eq!(reads.get(), reads_before + 1, "so much is not kept");
        }
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_told_to_who_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let memo = Memo::default();
        let revision = async || Ok(BTreeMap::from([(1, registry.defaults().await?.revision)]));
        let changed_meanwhile = async |_| {
            let read = revision().await;
            let set = Settings::from([("ctx-size".to_owned(), json!(1))]);
            registry.change_defaults(set, vec![], None, Actor::Policy).await?;
            read
        };
        let before = memo.recall(&registry, vec![1], changed_meanwhile).await.unwrap();
        let after = memo.recall(&registry, vec![1], async |_| revision().await).await.unwrap();
        assert_eq!(after[&1], before[&1] + 1);
    }
}
