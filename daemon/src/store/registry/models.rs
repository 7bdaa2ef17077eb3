//! Models: their file, names, settings and revisions.

use super::bounds::check_settings;
use super::events::NewEvent;
use super::library::FileStamp;
use super::{Registry, Result, StoreError, events, library, names, revisions};
use crate::clock::now_ms;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::{Difference, Model, ModelFile};
use llamactl_protocol::options::{self, Settings};
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, Row, params};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A model as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRecord {
    /// What everyone sees of it.
    pub model: Model,
    /// Its chat template, at most as much of it as was kept.
    pub chat_template: Option<String>,
}

/// A model's file, and what its header says.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// The file; of a split model the first part.
    pub path: WirePath,
    /// What its header says.
    pub file: ModelFile,
    /// Which files its parts were when the header was read.
    pub seen: Vec<FileStamp>,
    /// Its chat template.
    pub chat_template: Option<String>,
}

/// A model about to be stored.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// Its name, already checked.
    pub name: String,
    /// The model's file and what its header says.
    pub file: NewFile,
    /// Settings, already checked.
    pub settings: Settings,
}

/// A change to a model's settings and file.
#[derive(Clone, Debug, Default)]
pub struct ModelChange {
    /// Values to set, already checked.
    pub set: Settings,
    /// Keys to take back.
    pub unset: Vec<String>,
    /// The file the model has from now on; `None` leaves it the one it has.
    pub file: Option<NewFile>,
    /// What it is, in a few words, where its parts do not say it.
    pub what: Option<String>,
}

impl Registry {
    /// Stores a new model.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`].
    pub async fn add_model(&self, new: NewModel, by: Actor) -> Result<Model> {
        self.write(move |tx| insert(tx, &new, &[], &by, &format!("added from {}", new.file.path)))
            .await
    }

    /// The model a name, alias or id means.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`].
    pub async fn model(&self, reference: &str) -> Result<Model> {
        Ok(self.model_record(reference).await?.model)
    }

    /// The same with its chat template.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`].
    pub async fn model_record(&self, reference: &str) -> Result<ModelRecord> {
        let reference = reference.to_owned();
        self.read(move |connection| {
            let id = names::resolve(connection, &reference)?;
            get(connection, id)?.ok_or(StoreError::ModelNotFound(reference))
        })
        .await
    }

    /// The model of an id; `None` when it is gone.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn model_by_id(&self, id: i64) -> Result<Option<Model>> {
        self.read(move |connection| Ok(get(connection, id)?.map(|record| record.model))).await
    }

    /// Models by name behind `after`, at most `limit`.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn models(&self, after: Option<String>, limit: u32) -> Result<Vec<Model>> {
        self.read(move |connection| page(connection, after.as_deref().unwrap_or_default(), limit))
            .await
    }

    /// How many models there are.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn count_models(&self) -> Result<u64> {
        self.read(|connection| {
            // What has no name is no model yet.
            let count = "SELECT count(*) FROM model_names WHERE is_alias = 0";
            Ok(connection.query_row(count, [], |row| row.get(0))?)
        })
        .await
    }

    /// The first free one of `name-2`, `name-3`, ….
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn free_name(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.read(move |connection| names::free_variant(connection, &name)).await
    }

    /// Changes a model's settings and file, all or none. `false` beside the model when it was like
    /// this already.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`], [`StoreError::RevisionConflict`].
    pub async fn change_model(
        &self,
        reference: &str,
        change: ModelChange,
        if_revision: Option<i64>,
        by: Actor,
    ) -> Result<(Model, bool)> {
        let reference = reference.to_owned();
        self.write(move |tx| {
            let before = lookup(tx, &reference)?;
            if let Some(expected) = if_revision
                && expected != before.revision
            {
                return Err(StoreError::RevisionConflict {
                    of: format!("the model {}", before.name),
                    expected,
                    found: before.revision,
                });
            }
            apply(tx, before, &change, &by)
        })
        .await
    }

    /// Gives a model another name.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`], [`StoreError::NameTaken`].
    pub async fn rename_model(
        &self,
        reference: &str,
        to: String,
        by: Actor,
    ) -> Result<(Model, bool)> {
        let reference = reference.to_owned();
        self.write(move |tx| {
            let before = lookup(tx, &reference)?;
            if before.name == to {
                return Ok((before, false));
            }
            // Taking over one of its own aliases is no clash.
            tx.execute(
                "DELETE FROM model_names WHERE model_id = ?1 AND (is_alias = 0 OR name = ?2)",
                params![before.id, to],
            )?;
            names::take(tx, &to, before.id, false)?;
            let what = format!("renamed from {}", before.name);
            let model = finish_change(tx, before.id, now_ms(), &by, &what)?;
            let message = format!("{} is now called {to}", before.name);
            events::append(tx, &NewEvent::of_model(EventKind::ModelRenamed, &model, &by, message))?;
            Ok((model, true))
        })
        .await
    }

    /// Adds and removes aliases, all or none. Adding one it has, or removing one it has not,
    /// changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`], [`StoreError::NameTaken`].
    pub async fn change_aliases(
        &self,
        reference: &str,
        add: Vec<String>,
        remove: Vec<String>,
        by: Actor,
    ) -> Result<(Model, bool)> {
        let reference = reference.to_owned();
        self.write(move |tx| {
            let before = lookup(tx, &reference)?;
            for alias in &remove {
                tx.execute(
                    "DELETE FROM model_names WHERE model_id = ?1 AND name = ?2 AND is_alias = 1",
                    params![before.id, alias],
                )?;
            }
            for alias in &add {
                if !before.aliases.contains(alias) || remove.contains(alias) {
                    names::take(tx, alias, before.id, true)?;
                }
            }
            let aliases = aliases_of(tx, before.id)?;
            if aliases == before.aliases {
                return Ok((before, false));
            }
            let what = format!("aliases: {}", aliases.join(", "));
            let model = finish_change(tx, before.id, now_ms(), &by, &what)?;
            let message = match model.aliases.as_slice() {
                [] => format!("{} has no aliases now", model.name),
                aliases => format!("the aliases of {} are now {}", model.name, aliases.join(", ")),
            };
            events::append(tx, &NewEvent::of_model(EventKind::ModelAliased, &model, &by, message))?;
            Ok((model, true))
        })
        .await
    }

    /// Stores a second profile, settings included, aliases not: of the same file, or of another.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`], [`StoreError::NameTaken`].
    pub async fn copy_model(
        &self,
        reference: &str,
        to: String,
        file: Option<NewFile>,
        by: Actor,
    ) -> Result<Model> {
        let reference = reference.to_owned();
        self.write(move |tx| {
            let id = names::resolve(tx, &reference)?;
            let from = get(tx, id)?.ok_or_else(|| StoreError::ModelNotFound(reference.clone()))?;
            let seen = library::stamps_of(tx, id)?;
            let file = file.clone().unwrap_or_else(|| NewFile {
                path: from.model.path.clone(),
                file: from.model.file.clone(),
                seen: seen.unwrap_or_default(),
                chat_template: from.chat_template.clone(),
            });
            let new = NewModel { name: to.clone(), file, settings: from.model.settings };
            insert(tx, &new, &[], &by, &format!("copied from {}", from.model.name))
        })
        .await
    }

    /// Takes a model out, with its names, settings, revisions and what is desired of it. Its runs and events stay.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`].
    pub async fn remove_model(&self, id: i64, by: Actor) -> Result<Model> {
        self.write(move |tx| {
            let model =
                get(tx, id)?.ok_or_else(|| StoreError::ModelNotFound(id.to_string()))?.model;
            tx.execute("DELETE FROM models WHERE id = ?1", [id])?;
            let message = format!("{} was removed; its file stays at {}", model.name, model.path);
            events::append(tx, &NewEvent::of_model(EventKind::ModelRemoved, &model, &by, message))?;
            Ok(model)
        })
        .await
    }
}

/// A model of a row with its name, its aliases and its settings.
fn read_model(row: &Row<'_>) -> Result<Model> {
    let mut aliases: Vec<String> = json(row, "aliases")?;
    aliases.sort_unstable();
    Ok(Model {
        id: row.get("id")?,
        name: row.get("name")?,
        aliases,
        path: WirePath::from_bytes(row.get("path")?),
        file: json(row, "file")?,
        file_state: None,
        settings: json(row, "settings")?,
        revision: row.get("revision")?,
        added_at_ms: row.get("added_at_ms")?,
        changed_at_ms: row.get("changed_at_ms")?,
    })
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(serde_json::from_str(text)?)
}

pub(super) fn get(connection: &Connection, id: i64) -> Result<Option<ModelRecord>> {
    let mut statement = connection.prepare_cached(
        "SELECT models.*, own.name,
                (SELECT json_group_array(name) FROM model_names
                 WHERE model_id = models.id AND is_alias = 1) AS aliases,
                (SELECT json_group_object(key, json(value)) FROM model_settings
                 WHERE model_id = models.id) AS settings
         FROM models
         JOIN model_names AS own ON own.model_id = models.id AND own.is_alias = 0
         WHERE models.id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(ModelRecord { model: read_model(row)?, chat_template: row.get("chat_template")? }))
}

/// Models by name behind `after`, at most `limit`.
pub(super) fn page(connection: &Connection, after: &str, limit: u32) -> Result<Vec<Model>> {
    // Templates are long, and lie on pages of their own.
    let mut statement = connection.prepare_cached(
        "SELECT models.id, models.path, models.file, models.revision, models.added_at_ms,
                models.changed_at_ms, own.name,
                (SELECT json_group_array(name) FROM model_names
                 WHERE model_id = models.id AND is_alias = 1) AS aliases,
                (SELECT json_group_object(key, json(value)) FROM model_settings
                 WHERE model_id = models.id) AS settings
         FROM model_names AS own
         JOIN models ON models.id = own.model_id
         WHERE own.is_alias = 0 AND own.name > ?1 ORDER BY own.name LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after, limit])?;
    let mut models = Vec::new();
    while let Some(row) = rows.next()? {
        models.push(read_model(row)?);
    }
    Ok(models)
}

/// The same without their aliases and settings: they are shown to have none.
pub(super) fn bare_page(connection: &Connection, after: &str, limit: u32) -> Result<Vec<Model>> {
    let mut statement = connection.prepare_cached(
        "SELECT models.id, models.path, models.file, models.revision, models.added_at_ms,
                models.changed_at_ms, own.name, '[]' AS aliases, '{}' AS settings
         FROM model_names AS own
         JOIN models ON models.id = own.model_id
         WHERE own.is_alias = 0 AND own.name > ?1 ORDER BY own.name LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after, limit])?;
    let mut models = Vec::new();
    while let Some(row) = rows.next()? {
        models.push(read_model(row)?);
    }
    Ok(models)
}

pub(super) fn lookup(connection: &Connection, reference: &str) -> Result<Model> {
    let id = names::resolve(connection, reference)?;
    get(connection, id)?
        .map(|record| record.model)
        .ok_or_else(|| StoreError::ModelNotFound(reference.to_owned()))
}

fn aliases_of(connection: &Connection, id: i64) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT name FROM model_names WHERE model_id = ?1 AND is_alias = 1 ORDER BY name",
    )?;
    let aliases = statement.query_map([id], |row| row.get(0))?;
    Ok(aliases.collect::<Result<_, _>>()?)
}

pub(super) fn settings_of(connection: &Connection, id: i64) -> Result<Settings> {
    let mut statement =
        connection.prepare_cached("SELECT key, value FROM model_settings WHERE model_id = ?1")?;
    let mut rows = statement.query([id])?;
    let mut settings = Settings::new();
    while let Some(row) = rows.next()? {
        let value: String = row.get(1)?;
        settings.insert(row.get(0)?, serde_json::from_str(&value)?);
    }
    Ok(settings)
}

fn put_settings<'s>(
    connection: &Connection,
    id: i64,
    set: impl Iterator<Item = (&'s String, &'s Value)>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO model_settings (model_id, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value",
    )?;
    for (key, value) in set {
        statement.execute(params![id, key, value.to_string()])?;
    }
    Ok(())
}

/// Stores a model with its aliases; `what` says where it comes from.
pub(super) fn insert(
    tx: &Connection,
    new: &NewModel,
    aliases: &[String],
    by: &Actor,
    what: &str,
) -> Result<Model> {
    let model = put_nameless(tx, new, aliases, by, what)?;
    name_it(tx, model.id, &new.name, aliases, by, what)?;
    Ok(model)
}

/// Stores all of a model but its names: nobody finds it before [`name_it`].
pub(super) fn put_nameless(
    tx: &Connection,
    new: &NewModel,
    aliases: &[String],
    by: &Actor,
    what: &str,
) -> Result<Model> {
    check_settings(&Settings::new(), &new.settings)?;
    let at_ms = now_ms();
    tx.prepare_cached(
        "INSERT INTO models
             (path, file, chat_template, seen, revision, added_at_ms, changed_at_ms)
         VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)",
    )?
    .execute(params![
        new.file.path.as_bytes(),
        serde_json::to_string(&new.file.file)?,
        new.file.chat_template,
        FileStamp::to_column(&new.file.seen)?,
        at_ms
    ])?;
    let id = tx.last_insert_rowid();
    put_settings(tx, id, new.settings.iter())?;
    let mut aliases = aliases.to_vec();
    aliases.sort_unstable();
    let model = Model {
        id,
        name: new.name.clone(),
        aliases,
        path: new.file.path.clone(),
        file: new.file.file.clone(),
        file_state: None,
        settings: new.settings.clone(),
        revision: 1,
        added_at_ms: at_ms,
        changed_at_ms: at_ms,
    };
    revisions::put(tx, &model, by, what)?;
    Ok(model)
}

/// Gives a model that was stored without them its names: from here on it is there for everybody.
pub(super) fn name_it(
    tx: &Connection,
    id: i64,
    name: &str,
    aliases: &[String],
    by: &Actor,
    what: &str,
) -> Result<()> {
    names::take(tx, name, id, false)?;
    for alias in aliases {
        names::take(tx, alias, id, true)?;
    }
    let event = NewEvent {
        model: Some((id, name.to_owned())),
        ..NewEvent::of_daemon(EventKind::ModelAdded, by, format!("{name} was {what}"))
    };
    events::append(tx, &event)
}

/// Removes what was stored without a name.
pub(super) fn remove_nameless(tx: &Connection, ids: &[i64]) -> Result<()> {
    let mut remove = tx.prepare_cached(
        "DELETE FROM models WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM model_names WHERE model_id = ?1)",
    )?;
    for id in ids {
        remove.execute([id])?;
    }
    Ok(())
}

/// Removes all that an import which was cut off left without a name; how much that was.
pub(super) fn remove_all_nameless(connection: &Connection) -> Result<usize> {
    let remove = "DELETE FROM models
         WHERE NOT EXISTS (SELECT 1 FROM model_names WHERE model_id = models.id)";
    Ok(connection.execute(remove, [])?)
}

/// Changes settings and file; `false` beside the model when it was like this already.
pub(super) fn apply(
    tx: &Connection,
    before: Model,
    change: &ModelChange,
    by: &Actor,
) -> Result<(Model, bool)> {
    let ModelChange { set, unset, file, what } = change;
    for key in unset {
        tx.prepare_cached("DELETE FROM model_settings WHERE model_id = ?1 AND key = ?2")?
            .execute(params![before.id, key])?;
    }
    let differs = |(key, value): &(&String, &Value)| before.settings.get(*key) != Some(value);
    put_settings(tx, before.id, set.iter().filter(differs))?;
    let after = settings_of(tx, before.id)?;
    check_settings(&before.settings, &after)?;
    let other_file = file.as_ref().filter(|new| new.path != before.path || new.file != before.file);
    let mut parts = Vec::new();
    if let Some(new) = other_file {
        tx.prepare_cached(
            "UPDATE models SET path = ?2, file = ?3, chat_template = ?4, seen = ?5 WHERE id = ?1",
        )?
        .execute(params![
            before.id,
            new.path.as_bytes(),
            serde_json::to_string(&new.file)?,
            new.chat_template,
            FileStamp::to_column(&new.seen)?
        ])?;
        parts.push(match new.path == before.path {
            true => "its file was read anew".to_owned(),
            false => format!("path={}", new.path),
        });
    }
    if after != before.settings {
        parts.push(describe_change(&before.settings, &after));
    }
    if parts.is_empty() {
        return Ok((before, false));
    }
    let parts = parts.join(", ");
    let what = what.as_ref().map_or(parts.clone(), |what| format!("{what}: {parts}"));
    let model = finish_change(tx, before.id, now_ms(), by, &what)?;
    let message = format!("{}: {what}", model.name);
    events::append(tx, &NewEvent::of_model(EventKind::ModelSet, &model, by, message))?;
    Ok((model, true))
}

/// Counts the change and keeps the model as it is now under the new revision; `what` says in a
/// line what changed.
pub(super) fn finish_change(
    connection: &Connection,
    id: i64,
    at_ms: i64,
    by: &Actor,
    what: &str,
) -> Result<Model> {
    connection
        .prepare_cached(
            "UPDATE models SET revision = revision + 1, changed_at_ms = ?2 WHERE id = ?1",
        )?
        .execute(params![id, at_ms])?;
    let model =
        get(connection, id)?.ok_or_else(|| StoreError::ModelNotFound(id.to_string()))?.model;
    revisions::put(connection, &model, by, what)?;
    Ok(model)
}

/// What was set and what was reset, in a line without secrets.
pub(super) fn describe_change(before: &Settings, after: &Settings) -> String {
    let parts: Vec<String> = Difference::between(before, after)
        .iter()
        .map(|it| options::change(&it.key, it.from.as_ref(), it.to.as_ref()))
        .collect();
    let more = parts.len().saturating_sub(DESCRIBED);
    let shown = parts.get(..parts.len() - more).unwrap_or_default().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// How many settings are told one by one.
const DESCRIBED: usize = 50;
