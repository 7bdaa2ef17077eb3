//! What is wanted of each server.

use super::{Registry, Result};
use crate::clock::now_ms;
use llamactl_protocol::Actor;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, DesiredState};
use rusqlite::params;

/// A wish as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct WishRecord {
    /// What is wanted, by whom, since when.
    pub desired: Desired,
    /// It is for another process than the one that was there, and that one is not made yet.
    pub renew: bool,
    /// What was set for the runs of this wish alone, over the model's own settings.
    pub overrides: Settings,
}

impl Registry {
    /// Stores what is wanted of a model's server, before anything is done about it.
    ///
    /// # Errors
    /// What SQLite reports; a foreign key violation when the model is gone.
    pub async fn put_wish(
        &self,
        model_id: i64,
        state: DesiredState,
        by: Actor,
        renew: bool,
        overrides: Settings,
    ) -> Result<Desired> {
        self.write(move |tx| {
            let desired = Desired { state, by, at_ms: now_ms() };
            tx.execute(
                "INSERT INTO wishes (model_id, wish, by, at_ms, renew, overrides)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (model_id) DO UPDATE
                 SET wish = excluded.wish, by = excluded.by, at_ms = excluded.at_ms,
                     renew = excluded.renew, overrides = excluded.overrides",
                params![
                    model_id,
                    state.as_str(),
                    desired.by.to_text(),
                    desired.at_ms,
                    renew,
                    serde_json::to_string(&overrides)?,
                ],
            )?;
            Ok(desired)
        })
        .await
    }

    /// What is wanted of a model's server; `None` when nobody ever said.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn wish(&self, model_id: i64) -> Result<Option<WishRecord>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT wish, by, at_ms, renew, overrides FROM wishes WHERE model_id = ?1",
            )?;
            let mut rows = statement.query([model_id])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let state = match row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)? {
                "running" => DesiredState::Running,
                _ => DesiredState::Stopped,
            };
            let by = Actor::from_text(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
            Ok(Some(WishRecord {
                desired: Desired { state, by, at_ms: row.get(2)? },
                renew: row.get(3)?,
                overrides: serde_json::from_str(&row.get::<_, String>(4)?)?,
            }))
        })
        .await
    }

    /// The models whose servers are wanted to run.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn wanted_running(&self) -> Result<Vec<i64>> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT model_id FROM wishes WHERE wish = 'running' ORDER BY 1")?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }
}
