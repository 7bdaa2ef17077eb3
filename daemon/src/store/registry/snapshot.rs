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

/// A model as it is now, and what its run was started with.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModel {
    /// The model.
    pub model: Model,
    /// The settings that held for the model when the run began, the defaults for all models among
    /// them; `None` without a run.
    pub started_with: Option<Settings>,
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
            let mut settings_of =
                connection.prepare_cached("SELECT settings FROM runs WHERE id = ?1")?;
            let mut served = Vec::new();
            for (id, run) in servers {
                let Some(record) = models::get(connection, id)? else { continue };
                let text: Option<String> =
                    settings_of.query_row([&run], |row| row.get(0)).optional()?;
                let started_with = text.map(|text| serde_json::from_str(&text)).transpose()?;
                served.push(ServedModel { model: record.model, started_with });
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
            Ok(Some(StoredServer {
                model: record.model,
                defaults: defaults::get(connection)?.settings,
                desired: desired::get(connection, model_id)?,
                last_run: runs::last(connection, model_id)?,
            }))
        })
        .await
    }
}

fn layers(connection: &Connection, id: i64) -> Result<Option<ModelLayers>> {
    let Some(record) = models::get(connection, id)? else { return Ok(None) };
    let (defaults, runtimes) = (defaults::get(connection)?, named_runtimes::all(connection)?);
    Ok(Some(ModelLayers { record, defaults, runtimes }))
}
