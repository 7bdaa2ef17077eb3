//! What one answer shows of several tables, read at one moment: a model's settings are never paired
//! with the defaults, the runtime or the run of another.

use super::models::{self, ModelRecord};
use super::{
    DesiredRecord, NamedRuntime, Registry, Result, RunRecord, StoreError, defaults, desired,
    named_runtimes, names, runs,
};
use llamactl_protocol::defaults::Defaults;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::Settings;
use rusqlite::{Connection, OptionalExtension as _};

/// A model and all that decides with which settings, and on what, it would start.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelLayers {
    /// The model, with its chat template.
    pub record: ModelRecord,
    /// The settings for all models.
    pub defaults: Defaults,
    /// The named runtimes, by name: the settings or the default name one of them, or none.
    pub runtimes: Vec<NamedRuntime>,
}

/// A model and what is written of its server.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredServer {
    /// The model as the registry has it.
    pub model: Model,
    /// The settings for all models.
    pub defaults: Settings,
    /// What is wanted of its server; `None` when nobody ever said.
    pub desired: Option<DesiredRecord>,
    /// Its last run; `None` before the first.
    pub last_run: Option<RunRecord>,
}

/// What a model is called now, and its settings now and then.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModel {
    /// The model's id.
    pub id: i64,
    /// The run it was given with.
    pub run: Option<String>,
    /// Its name.
    pub name: String,
    /// The settings that held for the model when its run began, the defaults for all models among
    /// them, and its own of now; `None` without a run.
    pub then_and_now: Option<(Settings, Settings)>,
}

impl Registry {
    /// The defaults for all models, and the models of these servers, each given with its run where
    /// it has one; models that are gone are left out.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn served_models(
        &self,
        servers: Vec<(i64, Option<String>)>,
    ) -> Result<(Settings, Vec<ServedModel>)> {
        self.read(move |connection| {
            let mut name_of = connection.prepare_cached(
                "SELECT name FROM model_names WHERE model_id = ?1 AND is_alias = 0",
            )?;
            let mut settings_of =
                connection.prepare_cached("SELECT settings FROM runs WHERE id = ?1")?;
            let mut served = Vec::new();
            for (id, run) in servers {
                let name = name_of.query_row([id], |row| row.get(0)).optional()?;
                let Some(name) = name else { continue };
                let then: Option<String> = match &run {
                    Some(run) => settings_of.query_row([run], |row| row.get(0)).optional()?,
                    None => None,
                };
                let then_and_now = match then {
                    Some(then) => {
                        Some((serde_json::from_str(&then)?, models::settings_of(connection, id)?))
                    }
                    None => None,
                };
                served.push(ServedModel { id, run, name, then_and_now });
            }
            Ok((defaults::get(connection)?.settings, served))
        })
        .await
    }

    /// The model a name, alias or id means, with the layers its settings lie on.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`].
    pub async fn model_layers(&self, reference: &str) -> Result<ModelLayers> {
        let reference = reference.to_owned();
        self.read(move |connection| {
            let id = names::resolve(connection, &reference)?;
            layers(connection, id)?.ok_or(StoreError::ModelNotFound(reference))
        })
        .await
    }

    /// The model of an id, with the layers its settings lie on; `None` when it is gone.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn layers_by_id(&self, id: i64) -> Result<Option<ModelLayers>> {
        self.read(move |connection| layers(connection, id)).await
    }

    /// What lies below every model: the settings for all of them, and the named runtimes.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn ground(&self) -> Result<(Defaults, Vec<NamedRuntime>)> {
        self.read(|connection| Ok((defaults::get(connection)?, named_runtimes::all(connection)?)))
            .await
    }

    /// What is written of a model's server; `None` when the model is gone.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn stored_server(&self, model_id: i64) -> Result<Option<StoredServer>> {
        self.read(move |connection| {
            let Some(record) = models::get(connection, model_id)? else { return Ok(None) };
            let defaults = defaults::get(connection)?.settings;
            Ok(Some(stored(connection, record.model, defaults)?))
        })
        .await
    }

    /// What is written of the servers of the models by name behind `after`, at most `limit`. Aliases and
    /// settings of models and defaults are left out where the last run is over: nothing that is shown
    /// of such a server depends on them.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn stored_servers(&self, after: String, limit: u32) -> Result<Vec<StoredServer>> {
        self.read(move |connection| {
            let mut servers = Vec::new();
            for model in models::bare_page(connection, &after, limit)? {
                let mut server = stored(connection, model, Settings::new())?;
                if server.last_run.as_ref().is_some_and(|run| run.ended_at_ms.is_none())
                    && let Some(record) = models::get(connection, server.model.id)?
                {
                    server.model = record.model;
                    server.defaults = defaults::get(connection)?.settings;
                }
                servers.push(server);
            }
            Ok(servers)
        })
        .await
    }
}

fn stored(connection: &Connection, model: Model, defaults: Settings) -> Result<StoredServer> {
    Ok(StoredServer {
        desired: desired::get(connection, model.id)?,
        last_run: runs::last(connection, model.id)?,
        model,
        defaults,
    })
}

fn layers(connection: &Connection, id: i64) -> Result<Option<ModelLayers>> {
    let Some(record) = models::get(connection, id)? else { return Ok(None) };
    let (defaults, runtimes) = (defaults::get(connection)?, named_runtimes::all(connection)?);
    Ok(Some(ModelLayers { record, defaults, runtimes }))
}
