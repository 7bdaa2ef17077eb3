//! What changed of models, defaults and runtimes, for whoever must know.
//!
//! ```text
//!   registry ── last_event ──▶ Feed: behind its cursor? ─▶ one read: what changed, as it is now
//! ```
//!
//! A feed is a place in the registry's numbered events, so none is missed, and one that is slow only
//! reads later and gets the latest. Its cursor outlives the daemon.

use crate::store::registry::{Changes, Registry, StoreError};
use tokio::sync::watch;

/// Follows the changes of a registry.
#[derive(Debug)]
pub struct Feed {
    registry: Registry,
    last_event: watch::Receiver<i64>,
    cursor: Option<i64>,
}

impl Feed {
    /// Follows what changes from now on.
    #[must_use]
    pub fn from_now(registry: &Registry) -> Feed {
        let mut last_event = registry.last_event();
        let now = *last_event.borrow_and_update();
        Feed { registry: registry.clone(), last_event, cursor: Some(now) }
    }

    /// Goes on behind the [`Changes::cursor`] of an earlier feed; without one it begins with
    /// everything.
    #[must_use]
    pub fn behind(registry: &Registry, cursor: Option<i64>) -> Feed {
        Feed { registry: registry.clone(), last_event: registry.last_event(), cursor }
    }

    /// Waits until something changed, and tells what and how it is now. Cancel safe.
    ///
    /// # Errors
    /// What the registry reports. The next call tries again, at once.
    pub async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            let last = *self.last_event.borrow_and_update();
            if self.cursor.is_none_or(|cursor| cursor != last) {
                let changes = self.registry.changes(self.cursor).await?;
                self.cursor = Some(changes.cursor);
                if !changes.is_empty() {
                    return Ok(changes);
                }
            } else if self.last_event.changed().await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::NewEvent;
    use llamactl_protocol::Actor;
    use llamactl_protocol::event::EventKind;
    use llamactl_protocol::options::Settings;
    use serde_json::json;

    fn set(value: i64) -> Settings {
        Settings::from([("ctx-size".to_owned(), json!(value))])
    }

    #[tokio::test]
    async fn a_slow_follower_gets_the_latest_and_a_later_one_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let change = |value| registry.change_defaults(set(value), vec![], None, Actor::Policy);
        change(1).await.unwrap();
        let mut feed = Feed::from_now(&registry);
        change(2).await.unwrap();
        change(3).await.unwrap();
        let changes = feed.next().await.unwrap();
        assert_eq!(changes.defaults.unwrap().settings, set(3));
        assert!(!changes.is_whole && changes.models.is_empty() && changes.runtimes.is_none());
        // What changes no model wakes nobody.
        let event = NewEvent::of_daemon(EventKind::DaemonStarted, &Actor::Policy, "x".to_owned());
        registry.append_event(event).await.unwrap();
        let waiting = feed.next();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        change(4).await.unwrap();
        assert_eq!(waiting.await.unwrap().defaults.unwrap().revision, 4);

        let mut later = Feed::behind(&registry, Some(changes.cursor));
        assert_eq!(later.next().await.unwrap().defaults.unwrap().settings, set(4));
        let whole = Feed::behind(&registry, None).next().await.unwrap();
        assert!(whole.is_whole && whole.defaults.is_some() && whole.runtimes.is_some());
    }
}
