//! Settings for all models.

use super::bounds::check_settings;
use super::events::NewEvent;
use super::models::describe_change;
use super::{Registry, Result, StoreError, events};
use crate::clock::now_ms;
use llamactl_protocol::Actor;
use llamactl_protocol::defaults::Defaults;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::options::Settings;
use rusqlite::{Connection, OptionalExtension as _, params};

/// So many revisions of the defaults are kept.
const KEEP: i64 = 1_000;

impl Registry {
    /// The settings for all models.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn defaults(&self) -> Result<Defaults> {
        self.read(get).await
    }

    /// Changes the settings for all models, all or none: values to set, keys to take back. `false`
    /// beside them when they were like this already.
    ///
    /// # Errors
    /// [`StoreError::RevisionConflict`].
    pub async fn change_defaults(
        &self,
        set: Settings,
        unset: Vec<String>,
        if_revision: Option<i64>,
        by: Actor,
    ) -> Result<(Defaults, bool)> {
        self.write(move |tx| {
            let before = get(tx)?;
            if let Some(expected) = if_revision
                && expected != before.revision
            {
                return Err(StoreError::RevisionConflict {
                    of: "the defaults for all models".to_owned(),
                    expected,
                    found: before.revision,
                });
            }
            let mut after = before.settings.clone();
            after.retain(|key, _| !unset.contains(key));
            after.extend(set.clone());
            replace(tx, before, after, &by)
        })
        .await
    }
}

/// Makes the defaults these, as a revision of their own.
pub(super) fn replace(
    tx: &Connection,
    before: Defaults,
    after: Settings,
    by: &Actor,
) -> Result<(Defaults, bool)> {
    if after == before.settings {
        return Ok((before, false));
    }
    check_settings(&before.settings, &after)?;
    let (revision, at_ms) = (before.revision + 1, now_ms());
    let what = describe_change(&before.settings, &after);
    tx.execute("DELETE FROM defaults", [])?;
    let mut insert = tx.prepare_cached("INSERT INTO defaults (key, value) VALUES (?1, ?2)")?;
    for (key, value) in &after {
        insert.execute(params![key, value.to_string()])?;
    }
    tx.execute(
        "INSERT INTO default_revisions (revision, at_ms, by, what, settings)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![revision, at_ms, by.to_text(), what, serde_json::to_string(&after)?],
    )?;
    tx.execute("DELETE FROM default_revisions WHERE revision <= ?1", [revision - KEEP])?;
    let event =
        NewEvent::of_daemon(EventKind::DefaultsSet, by, format!("defaults for all models: {what}"));
    events::append(tx, &event)?;
    Ok((Defaults { settings: after, revision, changed_at_ms: Some(at_ms) }, true))
}

/// The defaults as they are.
pub(super) fn get(connection: &Connection) -> Result<Defaults> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM defaults")?;
    let mut rows = statement.query([])?;
    let mut settings = Settings::new();
    while let Some(row) = rows.next()? {
        let value: String = row.get(1)?;
        settings.insert(row.get(0)?, serde_json::from_str(&value)?);
    }
    let last = connection
        .prepare_cached(
            "SELECT revision, at_ms FROM default_revisions
             WHERE revision = (SELECT max(revision) FROM default_revisions)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (revision, changed_at_ms) = last.unzip();
    Ok(Defaults { settings, revision: revision.unwrap_or(0), changed_at_ms })
}
