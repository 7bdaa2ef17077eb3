//! `model.follow`: every model as it is, then each that changed.
//!
//! ```text
//!   a place in the feed ─▶ pages of all models by name ─▶ behind that place: what changed, as it is now
//!                                ▲                              │
//!                                ╰── kept no more: missed ◀─────╯
//! ```
//!
//! The place in the feed is older than the first page, so what changes while pages are read is told behind
//! them. Only ids wait for a slow reader: what it gets is the latest.

use super::model::shown;
use super::page;
use super::registration::{Caller, Emission, Source};
use crate::api::app::App;
use crate::library::Library;
use crate::models::Feed;
use crate::store::registry::{Registry, StoreError};
use llamactl_protocol::Failure;
use llamactl_protocol::model::{Model, ModelFollow, ModelNews};
use llamactl_protocol::stream::Missed;
use std::collections::VecDeque;

/// So many models are read at a time.
const AT_ONCE: u32 = 50;

pub(super) async fn follow(app: &App, _: Caller, follow: ModelFollow) -> Result<Models, Failure> {
    let registry = app.registry.clone();
    let now = *registry.last_event().borrow();
    let after = follow.after.as_ref().map(|after| after.parse::<i64>().ok());
    // A number that was not given yet is of another registry.
    let known = after.flatten().filter(|after| (0..=now).contains(after));
    let phase = match known {
        Some(after) => {
            let feed = Box::new(Feed::behind(&registry, Some(after)));
            Phase::Changes { feed, told: after }
        }
        None => Phase::from_the_first(&registry),
    };
    let model_files = app.model_files.clone();
    let is_missed = after.is_some() && known.is_none();
    Ok(Models { registry, model_files, phase, is_missed, changed: VecDeque::new(), cursor: known })
}

/// All models, then what changes.
pub(super) struct Models {
    registry: Registry,
    model_files: Library,
    phase: Phase,
    /// What lies behind the cursor asked for is kept no more, or is another registry's.
    is_missed: bool,
    /// Models that changed and were not told yet.
    changed: VecDeque<i64>,
    /// Everything up to here was told.
    cursor: Option<i64>,
}

enum Phase {
    /// Models by name behind this one; the feed begins before the first of them.
    All { after: String, feed_from: i64 },
    /// `told`: the cursor when all that waits is told.
    Changes { feed: Box<Feed>, told: i64 },
}

impl Phase {
    fn from_the_first(registry: &Registry) -> Phase {
        Phase::All { after: String::new(), feed_from: *registry.last_event().borrow() }
    }
}

impl Models {
    fn cursor(&self) -> Option<String> {
        self.cursor.map(|cursor| cursor.to_string())
    }

    /// The models as they are shown.
    async fn shown(&self, mut models: Vec<Model>) -> Result<Vec<Model>, StoreError> {
        self.model_files.look_at(&mut models).await?;
        Ok(models.into_iter().map(shown).collect())
    }

    async fn try_next(&mut self) -> Result<Emission<ModelNews>, StoreError> {
        loop {
            match &mut self.phase {
                Phase::All { after, feed_from } => {
                    let (after, feed_from) = (after.clone(), *feed_from);
                    let models = self.registry.models(Some(after), AT_ONCE + 1).await?;
                    let (models, more) = page::cut(models, AT_ONCE);
                    let last = models.last().filter(|_| more).map(|model| model.name.clone());
                    let models = self.shown(models).await?;
                    match last {
                        Some(after) => self.phase = Phase::All { after, feed_from },
                        None => {
                            let feed = Box::new(Feed::behind(&self.registry, Some(feed_from)));
                            self.phase = Phase::Changes { feed, told: feed_from };
                            self.cursor = Some(feed_from);
                        }
                    }
                    let data = ModelNews { models, removed: vec![], more };
                    return Ok(Emission::Snapshot { cursor: self.cursor(), data });
                }
                Phase::Changes { told, .. } if !self.changed.is_empty() => {
                    let told = *told;
                    let (mut models, mut removed) = (Vec::new(), Vec::new());
                    let ids: Vec<i64> =
                        self.changed.iter().take(AT_ONCE as usize).copied().collect();
                    for id in &ids {
                        match self.registry.model_by_id(*id).await? {
                            Some(model) => models.push(model),
                            None => removed.push(*id),
                        }
                    }
                    let (models, is_cut) = page::cut(models, AT_ONCE);
                    let models = self.shown(models).await?;
                    let is_told = |id: &i64| {
                        removed.contains(id) || models.iter().any(|model| model.id == *id)
                    };
                    self.changed.retain(|id| !is_told(id));
                    let more = is_cut || !self.changed.is_empty();
                    if !more {
                        self.cursor = Some(told);
                    }
                    let data = ModelNews { models, removed, more };
                    return Ok(Emission::Change { cursor: self.cursor(), data });
                }
                Phase::Changes { feed, told } => {
                    let changes = feed.next().await?;
                    if changes.is_whole {
                        self.phase = Phase::from_the_first(&self.registry);
                        self.cursor = None;
                        return Ok(missed());
                    }
                    *told = changes.cursor;
                    self.changed.extend(changes.models.into_keys());
                }
            }
        }
    }
}

/// Nobody knows how much: all models are told anew.
fn missed() -> Emission<ModelNews> {
    Emission::Missed { cursor: None, missed: Missed { items: None, bytes: None } }
}

impl Source for Models {
    type Item = ModelNews;

    async fn next(&mut self) -> Emission<ModelNews> {
        if std::mem::take(&mut self.is_missed) {
            return missed();
        }
        match self.try_next().await {
            Ok(emission) => emission,
            Err(StoreError::Closed) => Emission::done(self.cursor()),
            Err(error) => Emission::failed(self.cursor(), error.into()),
        }
    }
}
