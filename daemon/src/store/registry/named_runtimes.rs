//! Builds that somebody named: a name, a path, variables, and which is the default.

use super::bounds::check_settings;
use super::events::NewEvent;
use super::{Registry, Result, StoreError, defaults, events};
use crate::clock::now_ms;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::options::{Settings, secret};
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;
use std::collections::BTreeMap;

/// The setting by which a model names its runtime.
const KEY: &str = "runtime";

/// A name for the llama-server at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRuntime {
    /// The name by which models choose the runtime.
    pub name: String,
    /// The llama-server as it was named, links not resolved.
    pub path: WirePath,
    /// Variables for its servers, by name; texts, or stored secrets.
    pub environment: BTreeMap<String, Value>,
    /// Whether models use it that name no other.
    pub is_default: bool,
    /// When it was added.
    pub added_at_ms: i64,
    /// Counts its changes.
    pub revision: i64,
}

impl Registry {
    /// All named runtimes, by name.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn named_runtimes(&self) -> Result<Vec<NamedRuntime>> {
        self.read(all).await
    }

    /// The runtime of this name.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn named_runtime(&self, name: &str) -> Result<Option<NamedRuntime>> {
        let name = name.to_owned();
        self.read(move |connection| get(connection, &name)).await
    }

    /// The runtime that was made the default; `None` while it is the one found without being told.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn default_runtime(&self) -> Result<Option<NamedRuntime>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM named_runtimes WHERE is_default = 1")?
                .query_row([], |row| Ok(read_named(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// Stores a name for a path; `None` when the name is taken.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn add_named_runtime(
        &self,
        name: String,
        path: WirePath,
        environment: BTreeMap<String, Value>,
        by: Actor,
    ) -> Result<Option<NamedRuntime>> {
        self.write(move |tx| {
            check_settings(&BTreeMap::new(), &environment)?;
            let added = tx.execute(
                "INSERT INTO named_runtimes (name, path, environment, added_at_ms)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING",
                params![name, path.as_bytes(), serde_json::to_string(&environment)?, now_ms()],
            )?;
            if added == 0 {
                return Ok(None);
            }
            let message = format!("the runtime {name} was added: {path}");
            events::append(tx, &NewEvent::of_daemon(EventKind::RuntimeAdded, &by, message))?;
            get(tx, &name)
        })
        .await
    }

    /// Makes a runtime the default; `None` is the one found without being told. Whether it was
    /// another before.
    ///
    /// # Errors
    /// [`StoreError::RuntimeNotFound`].
    pub async fn use_runtime(&self, name: Option<String>, by: Actor) -> Result<bool> {
        self.write(move |tx| {
            let before: Option<String> = tx
                .prepare_cached("SELECT name FROM named_runtimes WHERE is_default = 1")?
                .query_row([], |row| row.get(0))
                .optional()?;
            if before == name {
                return Ok(false);
            }
            tx.execute("UPDATE named_runtimes SET is_default = 0 WHERE is_default = 1", [])?;
            let message = match &name {
                None => "models use the llama-server that is found without being told".to_owned(),
                Some(name) => {
                    let made = tx.execute(
                        "UPDATE named_runtimes SET is_default = 1 WHERE name = ?1",
                        [name],
                    )?;
                    if made == 0 {
                        return Err(StoreError::RuntimeNotFound(name.clone()));
                    }
                    format!("models use the runtime {name} unless they name another")
                }
            };
            events::append(tx, &NewEvent::of_daemon(EventKind::RuntimeUsed, &by, message))?;
            Ok(true)
        })
        .await
    }

    /// Sets and unsets variables of a runtime; whether anything changed.
    ///
    /// # Errors
    /// [`StoreError::RuntimeNotFound`], [`StoreError::RevisionConflict`].
    pub async fn change_runtime(
        &self,
        name: &str,
        set: BTreeMap<String, Value>,
        unset: Vec<String>,
        if_revision: Option<i64>,
        by: Actor,
    ) -> Result<(NamedRuntime, bool)> {
        let name = name.to_owned();
        self.write(move |tx| {
            let before =
                get(tx, &name)?.ok_or_else(|| StoreError::RuntimeNotFound(name.clone()))?;
            if let Some(expected) = if_revision
                && expected != before.revision
            {
                let (of, found) = (format!("the runtime {name}"), before.revision);
                return Err(StoreError::RevisionConflict { of, expected, found });
            }
            let mut after = before.clone();
            after.environment.retain(|variable, _| !unset.contains(variable));
            after.environment.extend(set.clone());
            if after == before {
                return Ok((before, false));
            }
            check_settings(&before.environment, &after.environment)?;
            after.revision += 1;
            tx.execute(
                "UPDATE named_runtimes SET environment = ?2, revision = ?3 WHERE name = ?1",
                params![name, serde_json::to_string(&after.environment)?, after.revision],
            )?;
            let message = describe(&before, &after);
            events::append(tx, &NewEvent::of_daemon(EventKind::RuntimeChanged, &by, message))?;
            Ok((after, true))
        })
        .await
    }

    /// Takes a runtime out. What runs on it runs on.
    ///
    /// # Errors
    /// [`StoreError::RuntimeNotFound`]; [`StoreError::RuntimeInUse`] while a model, the defaults
    /// or everything that names no other uses it.
    pub async fn remove_runtime(&self, name: &str, by: Actor) -> Result<NamedRuntime> {
        let name = name.to_owned();
        self.write(move |tx| {
            let runtime =
                get(tx, &name)?.ok_or_else(|| StoreError::RuntimeNotFound(name.clone()))?;
            let models = models_that_name(tx, &name)?;
            let in_defaults =
                defaults::get(tx)?.settings.get(KEY) == Some(&Value::from(name.as_str()));
            let users = [
                (!models.is_empty()).then(|| format!("by the models {}", models.join(", "))),
                in_defaults.then(|| "by the defaults for all models".to_owned()),
                runtime.is_default.then(|| "it is the default runtime".to_owned()),
            ];
            let users: Vec<String> = users.into_iter().flatten().collect();
            if !users.is_empty() {
                return Err(StoreError::RuntimeInUse {
                    name: name.clone(),
                    by: users.join("; "),
                    models,
                });
            }
            tx.execute("DELETE FROM named_runtimes WHERE name = ?1", [&name])?;
            let message =
                format!("the runtime {name} was removed; its files stay at {}", runtime.path);
            events::append(tx, &NewEvent::of_daemon(EventKind::RuntimeRemoved, &by, message))?;
            Ok(runtime)
        })
        .await
    }

    /// The defaults for all models, and each model's name and own settings, by name.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn all_settings(&self) -> Result<(Settings, Vec<(String, Settings)>)> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT own.name, model_settings.key, model_settings.value
                 FROM model_names AS own
                 LEFT JOIN model_settings ON model_settings.model_id = own.model_id
                 WHERE own.is_alias = 0 ORDER BY own.name",
            )?;
            let mut rows = statement.query([])?;
            let mut models: Vec<(String, Settings)> = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, key): (String, Option<String>) = (row.get(0)?, row.get(1)?);
                if models.last().is_none_or(|(last, _)| *last != name) {
                    models.push((name, Settings::new()));
                }
                if let (Some(key), Some((_, settings))) = (key, models.last_mut()) {
                    settings.insert(key, serde_json::from_str(&row.get::<_, String>(2)?)?);
                }
            }
            Ok((defaults::get(connection)?.settings, models))
        })
        .await
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<NamedRuntime>> {
    let mut statement = connection.prepare_cached("SELECT * FROM named_runtimes ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut named = Vec::new();
    while let Some(row) = rows.next()? {
        named.push(read_named(row)?);
    }
    Ok(named)
}

fn get(connection: &Connection, name: &str) -> Result<Option<NamedRuntime>> {
    connection
        .prepare_cached("SELECT * FROM named_runtimes WHERE name = ?1")?
        .query_row([name], |row| Ok(read_named(row)))
        .optional()?
        .transpose()
}

fn read_named(row: &Row<'_>) -> Result<NamedRuntime> {
    Ok(NamedRuntime {
        name: row.get("name")?,
        path: WirePath::from_bytes(row.get("path")?),
        environment: serde_json::from_str(&row.get::<_, String>("environment")?)?,
        is_default: row.get("is_default")?,
        added_at_ms: row.get("added_at_ms")?,
        revision: row.get("revision")?,
    })
}

fn models_that_name(connection: &Connection, name: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT own.name FROM model_settings
         JOIN model_names AS own ON own.model_id = model_settings.model_id AND own.is_alias = 0
         WHERE key = ?1 AND value = ?2 ORDER BY own.name",
    )?;
    let names =
        statement.query_map(params![KEY, Value::from(name).to_string()], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn describe(before: &NamedRuntime, after: &NamedRuntime) -> String {
    let shown = secret::masked(&after.environment);
    let set = shown
        .iter()
        .filter(|(name, _)| before.environment.get(*name) != after.environment.get(*name))
        .map(|(name, value)| format!("{name}={}", llamactl_protocol::options::text(value)));
    let unset = before
        .environment
        .keys()
        .filter(|name| !after.environment.contains_key(*name))
        .map(|name| format!("{name} unset"));
    let changes: Vec<String> = set.chain(unset).collect();
    format!("the environment of the runtime {}: {}", after.name, changes.join(", "))
}
