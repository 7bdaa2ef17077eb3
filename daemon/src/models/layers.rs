//! The layers a model's settings lie in.

use crate::store::registry::Registry;
use llamactl_protocol::Failure;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers, rules};

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
