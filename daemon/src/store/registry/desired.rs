//! What is wanted of each server.

use super::events::NewEvent;
use super::{RECORD, Registry, Result, StoreError, events};
use crate::clock::now_ms;
use llamactl_protocol::Actor;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Desired, DesiredState};
use rusqlite::{Connection, params};

/// What is wanted of a server, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredRecord {
    /// What is wanted, by whom, since when.
    pub desired: Desired,
    /// It is for another process than the one that was there, and that one is not made yet.
    pub restart_requested: bool,
    /// What was set for the runs that were asked for with it alone, over the model's own settings.
    pub overrides: Settings,
    /// Why the last start was refused, where it came to no run and nothing was asked for since.
    pub refusal: Option<Cause>,
}

impl Registry {
    /// Stores what is wanted of a model's server, before anything is done about it.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`] when the model was removed meanwhile.
    pub async fn put_desired(
        &self,
        model_id: i64,
        desired: Desired,
        restart_requested: bool,
        overrides: Settings,
    ) -> Result<()> {
        let is_stop = desired.state == DesiredState::Stopped;
        let put = move |tx: &Connection| {
            tx.execute(
                "INSERT INTO desired (model_id, state, by, at_ms, restart_requested, overrides)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (model_id) DO UPDATE
                 SET state = excluded.state, by = excluded.by, at_ms = excluded.at_ms,
                     restart_requested = excluded.restart_requested,
                     overrides = excluded.overrides, refusal = NULL",
                params![
                    model_id,
                    desired.state.as_str(),
                    desired.by.to_text(),
                    desired.at_ms,
                    restart_requested,
                    serde_json::to_string(&overrides)?,
                ],
            )
            .map_err(|error| of_model(model_id, error))?;
            Ok(())
        };
        // A stop is carried out whatever becomes of this.
        match is_stop {
            true => self.write_surely(RECORD, put).await,
            false => self.write(put).await,
        }
    }

    /// Stores why a start of a model was refused before there was a run, with its event. It stands
    /// until a run is added or something else is asked for. Where nobody had said before what is
    /// wanted of the server, it is wanted to run: that is what was refused.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`] when the model was removed meanwhile.
    pub async fn put_refusal(&self, model_id: i64, cause: Cause, event: NewEvent) -> Result<()> {
        self.write_surely(RECORD + event.bytes(), move |tx| {
            tx.execute(
                "INSERT INTO desired (model_id, state, by, at_ms, refusal)
                 VALUES (?1, 'running', ?2, ?3, ?4)
                 ON CONFLICT (model_id) DO UPDATE SET refusal = excluded.refusal",
                params![model_id, event.by.to_text(), now_ms(), serde_json::to_string(&cause)?],
            )
            .map_err(|error| of_model(model_id, error))?;
            events::append(tx, &event)
        })
        .await
    }

    /// What is wanted of a model's server; `None` when nobody ever said.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn desired(&self, model_id: i64) -> Result<Option<DesiredRecord>> {
        self.read(move |connection| get(connection, model_id)).await
    }

    /// The models whose servers are wanted to run.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn desired_running(&self) -> Result<Vec<i64>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT model_id FROM desired WHERE state = 'running' ORDER BY 1",
            )?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }
}

/// What is wanted of a model's server.
pub(super) fn get(connection: &Connection, model_id: i64) -> Result<Option<DesiredRecord>> {
    let mut statement = connection.prepare_cached("SELECT * FROM desired WHERE model_id = ?1")?;
    let mut rows = statement.query([model_id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let state: String = row.get("state")?;
    let by: String = row.get("by")?;
    let refusal: Option<String> = row.get("refusal")?;
    Ok(Some(DesiredRecord {
        desired: Desired {
            state: match state.as_str() {
                "running" => DesiredState::Running,
                _ => DesiredState::Stopped,
            },
            by: Actor::from_text(&by),
            at_ms: row.get("at_ms")?,
        },
        restart_requested: row.get("restart_requested")?,
        overrides: serde_json::from_str(&row.get::<_, String>("overrides")?)?,
        refusal: refusal.map(|text| serde_json::from_str(&text)).transpose()?,
    }))
}

/// A foreign key that leads nowhere means that the model is gone.
fn of_model(model_id: i64, error: rusqlite::Error) -> StoreError {
    match error.sqlite_extended_error_code() {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => {
            StoreError::ModelNotFound(model_id.to_string())
        }
        _ => error.into(),
    }
}
