//! The layers a model's settings lie in.

use super::Models;
use crate::store::registry::{Registry, ServedModel, StoreError};
use llamactl_protocol::Failure;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers, rules};
use std::collections::BTreeMap;

/// The settings for all models, a model's own, and those of one run.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// For all models.
    pub defaults: Settings,
    /// The model's own.
    pub model: Settings,
    /// For one run.
    pub run: Settings,
}

impl Layers {
    /// The layers of a model as the registry has them, and of a run as it is given.
    ///
    /// # Errors
    /// What the registry reports.
    pub async fn of(registry: &Registry, model: &Model, run: Settings) -> Result<Layers, Failure> {
        let defaults = registry.defaults().await?.settings;
        Ok(Layers { defaults, model: model.settings.clone(), run })
    }

    /// What holds without the run's own.
    #[must_use]
    pub fn standing(&self) -> Settings {
        layers::effective(&self.defaults, &self.model)
    }

    /// What holds.
    #[must_use]
    pub fn effective(&self) -> Settings {
        layers::over(&self.standing(), &self.run)
    }

    /// Checks what only makes sense together.
    ///
    /// # Errors
    /// As [`rules::check`].
    pub fn check(&self) -> Result<(), Failure> {
        rules::check(&self.effective())
    }
}

/// What a server's task may not have heard of its model yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// What the model is called.
    pub name: String,
    /// The settings that would be others if the server's run began now.
    pub changed: Vec<String>,
}

impl Models {
    /// The models of these servers, each given with its run where it has one, by their ids; models
    /// that are gone are left out.
    ///
    /// # Errors
    /// What the registry reports.
    pub async fn served(
        &self,
        servers: Vec<(i64, Option<String>)>,
    ) -> Result<BTreeMap<i64, Served>, StoreError> {
        let read = |servers| self.read_served(servers);
        let served = self.served.recall(&self.registry, servers, read).await?;
        Ok(served.into_iter().map(|((id, _), served)| (id, served)).collect())
    }

    async fn read_served(
        &self,
        servers: Vec<(i64, Option<String>)>,
    ) -> Result<BTreeMap<(i64, Option<String>), Served>, StoreError> {
        let (defaults, served) = self.registry.served_models(servers).await?;
        let served = served.into_iter().map(|ServedModel { id, run, name, then_and_now }| {
            let changed = then_and_now
                .map(|(then, now)| layers::differences(&then, &layers::effective(&defaults, &now)));
            ((id, run), Served { name, changed: changed.unwrap_or_default() })
        });
        Ok(served.collect())
    }
}
