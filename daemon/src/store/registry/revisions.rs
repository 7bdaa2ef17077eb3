//! What models were like: a row for each change, whole.

use super::{Registry, Result};
use llamactl_protocol::model::{Model, Revision};
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::BTreeSet;

/// So many revisions of a model are kept.
const KEEP: i64 = 1_000;

impl Registry {
    /// Revisions of a model, newest first, before `before` if it is given.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn revisions(
        &self,
        model_id: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Revision>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM model_revisions WHERE model_id = ?1 AND revision < ?2
                 ORDER BY revision DESC LIMIT ?3",
            )?;
            let mut rows = statement.query(params![model_id, before.unwrap_or(i64::MAX), limit])?;
            let mut revisions = Vec::new();
            while let Some(row) = rows.next()? {
                revisions.push(read(row)?);
            }
            Ok(revisions)
        })
        .await
    }

    /// One revision of a model; `None` when there is no such, or it is too old to be kept.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn revision(&self, model_id: i64, revision: i64) -> Result<Option<Revision>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM model_revisions WHERE model_id = ?1 AND revision = ?2",
            )?;
            statement.query_row([model_id, revision], |row| Ok(read(row))).optional()?.transpose()
        })
        .await
    }

    /// The ids of all secrets that anything refers to.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn used_secrets(&self) -> Result<BTreeSet<String>> {
        self.read(|connection| {
            let mut used = BTreeSet::new();
            for query in [
                "SELECT value FROM model_settings",
                "SELECT settings FROM model_revisions",
                "SELECT value FROM defaults",
                "SELECT settings FROM default_revisions",
                "SELECT environment FROM named_runtimes",
                "SELECT environment FROM runs WHERE ended_at_ms IS NULL",
                "SELECT overrides FROM runs WHERE ended_at_ms IS NULL",
            ] {
                let mut statement = connection.prepare(query)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let text: String = row.get(0)?;
                    collect_secrets(&text, &mut used);
                }
            }
            Ok(used)
        })
        .await
    }
}

/// The ids behind `"secret_ref":"` in a JSON text.
fn collect_secrets(json: &str, used: &mut BTreeSet<String>) {
    for behind in json.split("\"secret_ref\":\"").skip(1) {
        used.extend(behind.split('"').next().map(str::to_owned));
    }
}

/// Keeps a model as it is now under its revision.
pub(super) fn put(connection: &Connection, model: &Model, by: &Actor, what: &str) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO model_revisions
             (model_id, revision, at_ms, by, what, name, aliases, path, settings)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            model.id,
            model.revision,
            model.changed_at_ms,
            by.to_text(),
            what,
            model.name,
            serde_json::to_string(&model.aliases)?,
            model.path.as_bytes(),
            serde_json::to_string(&model.settings)?,
        ])?;
    if model.revision > KEEP {
        connection
            .prepare_cached("DELETE FROM model_revisions WHERE model_id = ?1 AND revision <= ?2")?
            .execute([model.id, model.revision - KEEP])?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Revision> {
    let aliases: String = row.get("aliases")?;
    let settings: String = row.get("settings")?;
    Ok(Revision {
        revision: row.get("revision")?,
        at_ms: row.get("at_ms")?,
        by: Actor::from_text(&row.get::<_, String>("by")?),
        what: row.get("what")?,
        name: row.get("name")?,
        aliases: serde_json::from_str(&aliases)?,
        path: WirePath::from_bytes(row.get("path")?),
        settings: serde_json::from_str(&settings)?,
    })
}
