//! Runs: one life of a llama-server each, written before the process is made.

use super::events::NewEvent;
use super::{FileStamp, RECORD, Registry, Result, events};
use crate::clock::now_ms;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::{Demand, Endpoint};
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A file that was handed to the process of a run, and which it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The setting that names it; `path` for the model's own.
    pub key: String,
    /// Where it was.
    pub path: WirePath,
    /// Which file lay there.
    pub stamp: FileStamp,
}

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The run's id, a UUID that later ones sort behind.
    pub id: String,
    /// The id of the run's model.
    pub model_id: i64,
    /// The model's name at the time.
    pub model: String,
    /// The revision of the settings it was started with.
    pub revision: i64,
    /// The settings it was started with, the defaults for all models below the model's own.
    pub settings: Settings,
    /// What was set for this run alone, over those.
    pub overrides: Settings,
    /// The llama-server build.
    pub runtime_id: i64,
    /// The command line.
    pub argv: Vec<WirePath>,
    /// The variables set beside those inherited; secrets by reference.
    pub environment: Settings,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Who asked for it.
    pub started_by: Actor,
    /// What demanded it; `None` for runs of versions that did not write it.
    pub demand: Option<Demand>,
    /// When it was written, just before the spawn.
    pub started_at_ms: i64,
    /// The process; `None` until it was made.
    pub pid: Option<u32>,
    /// When the process was made, in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// The boot that pid and ticks belong to.
    pub boot_id: Option<String>,
    /// When it was first ready.
    pub ready_at_ms: Option<i64>,
    /// How long loading took.
    pub load_ms: Option<u64>,
    /// When it ended; `None` while it runs.
    pub ended_at_ms: Option<i64>,
    /// Why it ended.
    pub cause: Option<Cause>,
    /// Failures in a row: before it while it runs, up to its end then.
    pub failures: u32,
    /// Restarts by policy since somebody last asked for a start.
    pub restarts: u32,
    /// When policy will start the model again; `None`: it will not.
    pub restart_at_ms: Option<i64>,
    /// What the process executed when it was ready.
    pub executable: Option<WirePath>,
    /// The files it was started with; none for runs of versions that did not write them.
    pub files: Vec<RunFile>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// When the run ended, in Unix milliseconds.
    pub at_ms: i64,
    /// Why, with exit code or signal.
    pub cause: Cause,
    /// Failures in a row up to this end.
    pub failures: u32,
    /// Restarts by policy since somebody last asked for a start, what follows included.
    pub restarts: u32,
    /// When policy will start it again; `None`: it will not.
    pub restart_at_ms: Option<i64>,
}

impl Registry {
    /// Writes a run that is about to be made. A refusal of the model's last start is over with it, a
    /// request for a new process fulfilled; of the model's earlier runs those long over are forgotten.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn add_run(&self, run: RunRecord, event: NewEvent) -> Result<()> {
        let is_policy = run.started_by == Actor::Policy;
        let words = run.argv.len() + run.environment.len() + run.files.len() * 2;
        let bytes = RECORD + event.bytes() + words * 64;
        let add = move |tx: &Connection| {
            tx.execute(
                "INSERT INTO runs (id, model_id, model, revision, settings, runtime_id, argv,
                                   environment, endpoint, wanted_by, started_at_ms,
                                   overrides, restarts, failures, demand, files)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                params![
                    run.id,
                    run.model_id,
                    run.model,
                    run.revision,
                    serde_json::to_string(&run.settings)?,
                    run.runtime_id,
                    serde_json::to_string(&run.argv)?,
                    serde_json::to_string(&run.environment)?,
                    serde_json::to_string(&run.endpoint)?,
                    run.started_by.to_text(),
                    run.started_at_ms,
                    serde_json::to_string(&run.overrides)?,
                    run.restarts,
                    run.failures,
                    run.demand.map(Demand::as_str),
                    serde_json::to_string(&run.files)?,
                ],
            )?;
            tx.execute(
                "UPDATE desired SET restart_requested = 0, refusal = NULL WHERE model_id = ?1",
                params![run.model_id],
            )?;
            forget_old(tx, run.model_id)?;
            events::append(tx, &event)
        };
        // What ran before runs again, written or not.
        match is_policy {
            true => self.write_surely(bytes, add).await,
            false => self.write(add).await,
        }
    }

    /// Writes which process a run is.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn put_process(
        &self,
        run: String,
        pid: u32,
        start_ticks: Option<u64>,
        boot_id: Option<String>,
    ) -> Result<()> {
        self.write_surely(RECORD, move |tx| {
            tx.execute(
                "UPDATE runs SET pid = ?2, start_ticks = ?3, boot_id = ?4 WHERE id = ?1",
                params![run, pid, start_ticks, boot_id],
            )?;
            Ok(())
        })
        .await
    }

    /// Writes that a run is ready.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn put_ready(
        &self,
        run: String,
        at_ms: i64,
        load_ms: u64,
        executable: Option<WirePath>,
        event: NewEvent,
    ) -> Result<()> {
        self.write_surely(RECORD + event.bytes(), move |tx| {
            let executable = executable.as_ref().map(WirePath::as_bytes);
            tx.execute(
                "UPDATE runs SET ready_at_ms = ?2, load_ms = ?3, executable = ?4
                 WHERE id = ?1 AND ready_at_ms IS NULL",
                params![run, at_ms, load_ms, executable],
            )?;
            events::append(tx, &event)
        })
        .await
    }

    /// Writes how a run ended.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn put_end(&self, run: String, end: RunEnd, event: NewEvent) -> Result<()> {
        self.write_surely(RECORD + event.bytes(), move |tx| {
            tx.execute(
                "UPDATE runs SET ended_at_ms = ?2, exit_code = ?3, signal = ?4, cause = ?5,
                                 failures = ?6, restart_at_ms = ?7, restarts = ?8
                 WHERE id = ?1 AND ended_at_ms IS NULL",
                params![
                    run,
                    end.at_ms,
                    end.cause.exit_code,
                    end.cause.signal,
                    serde_json::to_string(&end.cause)?,
                    end.failures,
                    end.restart_at_ms,
                    end.restarts,
                ],
            )?;
            events::append(tx, &event)
        })
        .await
    }

    /// Takes back what was written of a run's end: its process is there after all.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn reopen_run(
        &self,
        run: String,
        pid: u32,
        start_ticks: u64,
        boot_id: Option<String>,
        event: NewEvent,
    ) -> Result<()> {
        self.write_surely(RECORD + event.bytes(), move |tx| {
            tx.execute(
                "UPDATE runs SET ended_at_ms = NULL, exit_code = NULL, signal = NULL, cause = NULL,
                                 restart_at_ms = NULL, pid = ?2, start_ticks = ?3, boot_id = ?4
                 WHERE id = ?1",
                params![run, pid, start_ticks, boot_id],
            )?;
            events::append(tx, &event)
        })
        .await
    }

    /// The runs that have no end yet.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn open_runs(&self) -> Result<Vec<RunRecord>> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT * FROM runs WHERE ended_at_ms IS NULL ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut runs = Vec::new();
            while let Some(row) = rows.next()? {
                runs.push(read_run(row)?);
            }
            Ok(runs)
        })
        .await
    }

    /// A run by its id.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn run(&self, id: &str) -> Result<Option<RunRecord>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
            statement.query_row([id], |row| Ok(read_run(row))).optional()?.transpose()
        })
        .await
    }

    /// The last run of a model.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn last_run(&self, model_id: i64) -> Result<Option<RunRecord>> {
        self.read(move |connection| last(connection, model_id)).await
    }

    /// The run of a model that follows another; without another, the last one.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn run_after(&self, model_id: i64, after: Option<String>) -> Result<Option<String>> {
        self.read(move |connection| {
            let Some(after) = after else {
                return Ok(connection
                    .prepare_cached(
                        "SELECT id FROM runs WHERE model_id = ?1
                         ORDER BY started_at_ms DESC, id DESC LIMIT 1",
                    )?
                    .query_row([model_id], |row| row.get(0))
                    .optional()?);
            };
            // Ids are UUIDs of version 7: they ascend with time.
            Ok(connection
                .prepare_cached(
                    "SELECT id FROM runs WHERE model_id = ?1 AND id > ?2 ORDER BY id LIMIT 1",
                )?
                .query_row(params![model_id, after], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// The endpoint of each model's last run.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn last_endpoints(&self) -> Result<Vec<(i64, Endpoint)>> {
        self.read(last_endpoints).await
    }

    /// The endpoint of a model's run before this one.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn endpoint_before(&self, model_id: i64, run: String) -> Result<Option<Endpoint>> {
        self.read(move |connection| {
            // Ids are UUIDs of version 7: they ascend with time.
            let mut statement = connection.prepare_cached(
                "SELECT endpoint FROM runs WHERE model_id = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1",
            )?;
            let text = statement.query_row(params![model_id, run], |row| row.get::<_, String>(0));
            Ok(text.optional()?.map(|text| serde_json::from_str(&text)).transpose()?)
        })
        .await
    }

    /// The ids of a model's runs, newest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn runs_of(&self, model_id: i64, limit: u32) -> Result<Vec<String>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id FROM runs WHERE model_id = ?1 ORDER BY started_at_ms DESC, id DESC LIMIT ?2",
            )?;
            let ids = statement.query_map(params![model_id, limit], |row| row.get(0))?;
            Ok(ids.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }
}

/// So many ended runs of a model are kept, the newest.
const KEEP: u32 = 50;
/// No more than these are looked at for being forgotten when a run is added.
const FORGET_AT_ONCE: u32 = 50;
/// How long a run is kept of which nobody saw how it ended: its process may turn up.
const MAY_LIVE_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Forgets runs of a model that are long over: none without an end, nor one whose process may be
/// there after all.
fn forget_old(connection: &Connection, model_id: i64) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM runs
             WHERE id IN (SELECT id FROM runs WHERE model_id = ?1
                          ORDER BY started_at_ms DESC, id DESC LIMIT ?3 OFFSET ?2)
               AND ended_at_ms IS NOT NULL
               AND (ended_at_ms < ?4
                    OR json_extract(cause, '$.code') NOT IN ('ended_unwatched', 'never_made'))",
        )?
        .execute(params![model_id, KEEP, FORGET_AT_ONCE, now_ms() - MAY_LIVE_MS])?;
    Ok(())
}

/// The endpoint of each model's last run.
pub(super) fn last_endpoints(connection: &Connection) -> Result<Vec<(i64, Endpoint)>> {
    // One look into the index for each model, however many runs there were.
    let mut statement = connection.prepare_cached(
        "SELECT id, (SELECT endpoint FROM runs WHERE model_id = models.id
                     ORDER BY started_at_ms DESC, id DESC LIMIT 1) AS last
         FROM models WHERE last IS NOT NULL",
    )?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
        .collect::<std::result::Result<Vec<(i64, String)>, _>>()?;
    rows.into_iter().map(|(id, text)| Ok((id, serde_json::from_str(&text)?))).collect()
}

/// The last run of a model.
pub(super) fn last(connection: &Connection, model_id: i64) -> Result<Option<RunRecord>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM runs WHERE model_id = ?1 ORDER BY started_at_ms DESC, id DESC LIMIT 1",
    )?;
    statement.query_row([model_id], |row| Ok(read_run(row))).optional()?.transpose()
}

fn read_run(row: &Row<'_>) -> Result<RunRecord> {
    let demand: Option<String> = row.get("demand")?;
    Ok(RunRecord {
        id: row.get("id")?,
        model_id: row.get("model_id")?,
        model: row.get("model")?,
        revision: row.get("revision")?,
        settings: readable(row, "settings")?,
        overrides: readable(row, "overrides")?,
        runtime_id: row.get("runtime_id")?,
        argv: readable(row, "argv")?,
        environment: readable(row, "environment")?,
        endpoint: readable(row, "endpoint")?,
        started_by: Actor::from_text(&row.get::<_, String>("wanted_by")?),
        demand: demand.as_deref().and_then(Demand::from_word),
        started_at_ms: row.get("started_at_ms")?,
        pid: row.get("pid")?,
        start_ticks: row.get("start_ticks")?,
        boot_id: row.get("boot_id")?,
        ready_at_ms: row.get("ready_at_ms")?,
        load_ms: row.get("load_ms")?,
        ended_at_ms: row.get("ended_at_ms")?,
        cause: readable(row, "cause")?,
        failures: row.get("failures")?,
        restarts: row.get("restarts")?,
        restart_at_ms: row.get("restart_at_ms")?,
        executable: row.get::<_, Option<Vec<u8>>>("executable")?.map(WirePath::from_bytes),
        files: readable(row, "files")?,
    })
}

/// A JSON column. One that cannot be read any more is as if nothing had been written there: a
/// damaged run must not keep the daemon from starting, nor its model from being dealt with.
pub(super) fn readable<T: DeserializeOwned + Default>(row: &Row<'_>, column: &str) -> Result<T> {
    let text: Option<String> = row.get(column)?;
    Ok(text.map_or_else(T::default, |text| {
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::error!(column, %error, "the record of a run is damaged");
            T::default()
        })
    }))
}
