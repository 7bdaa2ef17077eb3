//! What an export writes down, and what an import puts in: all of it, or nothing.
//!
//! ```text
//!   new models without names, some at a time ─▶ one short transaction: names, changes, events
//!        ╰ nobody finds a model without a name     ╰ refused: what was put down before is removed
//! ```
//!
//! So an import of thousands of models holds nobody up for long, and is seen whole or not at all. What
//! a daemon that was killed put down without a name, the next one removes when it starts.

use super::bounds::check_settings;
use super::events::NewEvent;
use super::models::{ModelChange, NewModel};
use super::{Registry, Result, StoreError, defaults, events, models, names};
use crate::clock::now_ms;
use crate::failpoint;
use llamactl_protocol::defaults::Defaults;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::ops::Range;
use std::sync::Arc;

/// All that can be exported, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Everything {
    /// The defaults for all models.
    pub defaults: Defaults,
    /// Builds that somebody named, by name.
    pub runtimes: Vec<StoredRuntime>,
    /// The models, by name.
    pub models: Vec<Model>,
}

/// A build that somebody named.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRuntime {
    /// The name by which models choose the runtime.
    pub name: String,
    /// The path of the llama-server, absolute.
    pub path: WirePath,
    /// Variables for its servers; secrets by reference.
    pub environment: Settings,
    /// Whether models use it that name no other.
    pub is_default: bool,
}

/// What an import puts in.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// What it is, in a few words: `imported from FILE`.
    pub what: String,
    /// The models that were looked at, by id, and at which revision.
    pub seen: Vec<(i64, i64)>,
    /// The revision of the defaults that were looked at.
    pub defaults_seen: i64,
    /// The runtimes that were looked at.
    pub runtimes_seen: Vec<StoredRuntime>,
    /// The defaults afterwards, if they change.
    pub defaults: Option<Settings>,
    /// Runtimes that are new or become different.
    pub runtimes: Vec<StoredRuntime>,
    /// Models that are new, with their aliases.
    pub added: Vec<(NewModel, Vec<String>)>,
    /// Models that become different.
    pub changed: Vec<ImportedChange>,
}

/// What an import changes of a model.
#[derive(Clone, Debug)]
pub struct ImportedChange {
    /// The model's id.
    pub id: i64,
    /// Its aliases afterwards.
    pub aliases: Vec<String>,
    /// Its settings and file.
    pub change: ModelChange,
}

impl Registry {
    /// All models, defaults and named runtimes.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn everything(&self) -> Result<Everything> {
        self.read(everything).await
    }

    /// Carries out an import, if nothing it was made from has changed since. To be awaited to its end:
    /// what was dropped half way is removed at the next start.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`], [`StoreError::NameTaken`]; nothing is changed then.
    pub async fn import(&self, import: Import, by: Actor) -> Result<()> {
        let import = Arc::new(import);
        let mut nameless = Vec::with_capacity(import.added.len());
        let mut done = Ok(());
        for part in parts(&import.added) {
            let (import, by) = (Arc::clone(&import), by.clone());
            let put = self.write(move |tx| put_nameless(tx, &import, part.clone(), &by));
            match put.await {
                Ok(ids) => nameless.extend(ids),
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
            failpoint::hit("import-part");
        }
        let nameless = Arc::new(nameless);
        if done.is_ok() {
            let ids = Arc::clone(&nameless);
            done = self.write(move |tx| apply(tx, &import, &ids, &by)).await;
        }
        if done.is_err() {
            for some in nameless.chunks(AT_ONCE) {
                let some = some.to_vec();
                if let Err(error) = self.write(move |tx| models::remove_nameless(tx, &some)).await {
                    // Nobody sees them, and the next start tries again.
                    tracing::warn!(%error, "what is left of an import could not be removed");
                    break;
                }
            }
        }
        done
    }
}

/// No more models than this are put down, or removed, in one transaction: some 20 ms.
const AT_ONCE: usize = 100;
/// Nor more of their settings and names.
const ROWS_AT_ONCE: usize = 2_000;

/// Which models are put down together.
fn parts(added: &[(NewModel, Vec<String>)]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for (index, (new, aliases)) in added.iter().enumerate() {
        rows += new.settings.len() + aliases.len();
        match parts.last_mut() {
            Some(part) if part.len() < AT_ONCE && rows <= ROWS_AT_ONCE => part.end = index + 1,
            _ => {
                rows = new.settings.len() + aliases.len();
                parts.push(index..index + 1);
            }
        }
    }
    parts
}

/// Puts some of the new models down, without their names; their ids.
pub(super) fn put_nameless(
    tx: &Connection,
    import: &Import,
    part: Range<usize>,
    by: &Actor,
) -> Result<Vec<i64>> {
    let part = import.added.get(part).unwrap_or_default();
    let put = |(new, aliases): &(NewModel, Vec<String>)| {
        Ok(models::put_nameless(tx, new, aliases, by, &import.what)?.id)
    };
    part.iter().map(put).collect()
}

/// All models, defaults and named runtimes.
pub(super) fn everything(connection: &Connection) -> Result<Everything> {
    let mut statement = connection
        .prepare_cached("SELECT model_id FROM model_names WHERE is_alias = 0 ORDER BY name")?;
    let ids: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let records = ids.into_iter().map(|id| models::get(connection, id));
    let records = records.collect::<Result<Vec<_>>>()?;
    Ok(Everything {
        defaults: defaults::get(connection)?,
        runtimes: runtimes(connection)?,
        models: records.into_iter().flatten().map(|record| record.model).collect(),
    })
}

/// Carries out an import whose new models lie there without names.
fn apply(tx: &Connection, import: &Import, nameless: &[i64], by: &Actor) -> Result<()> {
    let mut revision_of = tx.prepare_cached("SELECT revision FROM models WHERE id = ?1")?;
    for (id, seen) in &import.seen {
        let now: Option<i64> = revision_of.query_row([id], |row| row.get(0)).optional()?;
        if now != Some(*seen) {
            let model = models::get(tx, *id)?.map(|record| record.model.name);
            let what = model.map_or("one of the models".to_owned(), |it| format!("the model {it}"));
            return Err(StoreError::Overtaken(what));
        }
    }
    let defaults_now = defaults::get(tx)?;
    if defaults_now.revision != import.defaults_seen {
        return Err(StoreError::Overtaken("the defaults".to_owned()));
    }
    if runtimes(tx)? != import.runtimes_seen {
        return Err(StoreError::Overtaken("the runtimes".to_owned()));
    }
    for runtime in &import.runtimes {
        put_runtime(tx, runtime, &import.what, by)?;
    }
    if let Some(after) = &import.defaults {
        defaults::replace(tx, defaults_now, after.clone(), by)?;
    }
    // Names that are given up first: another model may take them over.
    let mut befores = Vec::new();
    for changed in &import.changed {
        let before = models::get(tx, changed.id)?
            .ok_or_else(|| StoreError::ModelNotFound(changed.id.to_string()))?
            .model;
        for alias in before.aliases.iter().filter(|alias| !changed.aliases.contains(alias)) {
            tx.execute(
                "DELETE FROM model_names WHERE model_id = ?1 AND name = ?2 AND is_alias = 1",
                params![changed.id, alias],
            )?;
        }
        befores.push(before);
    }
    for ((new, aliases), id) in import.added.iter().zip(nameless) {
        models::name_it(tx, *id, &new.name, aliases, by, &import.what)?;
    }
    for (changed, before) in import.changed.iter().zip(befores) {
        for alias in changed.aliases.iter().filter(|alias| !before.aliases.contains(alias)) {
            names::take(tx, alias, changed.id, true)?;
        }
        let same_aliases = same(&before.aliases, &changed.aliases);
        let change = ModelChange { what: Some(import.what.clone()), ..changed.change.clone() };
        let (_, changed_settings) = models::apply(tx, before, &change, by)?;
        if !changed_settings && !same_aliases {
            let what = format!("{}: aliases: {}", import.what, changed.aliases.join(", "));
            let model = models::finish_change(tx, changed.id, now_ms(), by, &what)?;
            let message = format!("{}: {what}", model.name);
            events::append(tx, &NewEvent::of_model(EventKind::ModelAliased, &model, by, message))?;
        }
    }
    Ok(())
}

/// Whether two lists of aliases are the same: their order means nothing.
fn same(a: &[String], b: &[String]) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    sorted(a) == sorted(b)
}

fn runtimes(connection: &Connection) -> Result<Vec<StoredRuntime>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, path, environment, is_default FROM named_runtimes ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut runtimes = Vec::new();
    while let Some(row) = rows.next()? {
        let environment: String = row.get(2)?;
        runtimes.push(StoredRuntime {
            name: row.get(0)?,
            path: WirePath::from_bytes(row.get(1)?),
            environment: serde_json::from_str(&environment)?,
            is_default: row.get(3)?,
        });
    }
    Ok(runtimes)
}

fn put_runtime(tx: &Connection, runtime: &StoredRuntime, what: &str, by: &Actor) -> Result<()> {
    let count = "SELECT count(*) FROM named_runtimes WHERE name = ?1";
    let is_there: bool = tx.query_row(count, [&runtime.name], |row| row.get(0))?;
    check_settings(&Settings::new(), &runtime.environment)?;
    if runtime.is_default {
        tx.execute("UPDATE named_runtimes SET is_default = 0", [])?;
    }
    tx.execute(
        "INSERT INTO named_runtimes (name, path, environment, is_default, added_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET path = excluded.path,
             environment = excluded.environment, is_default = excluded.is_default,
             revision = named_runtimes.revision + 1",
        params![
            runtime.name,
            runtime.path.as_bytes(),
            serde_json::to_string(&runtime.environment)?,
            runtime.is_default,
            now_ms(),
        ],
    )?;
    let kind = if is_there { EventKind::RuntimeChanged } else { EventKind::RuntimeAdded };
    let message = format!("the runtime {} was {what}", runtime.name);
    events::append(tx, &NewEvent::of_daemon(kind, by, message))?;
    Ok(())
}
