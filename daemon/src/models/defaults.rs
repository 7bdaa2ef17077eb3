//! Changing the settings for all models.

use super::retry::Attempts;
use super::secrets::NewSecrets;
use super::{Layers, Models, Outcome};
use llamactl_protocol::defaults::Defaults;
use llamactl_protocol::model::{Difference, Model, SettingsChange};
use llamactl_protocol::options::{Settings, rules};
use llamactl_protocol::{Actor, Failure, Kind};

/// Models that are checked in one go.
const PAGE: u32 = 500;

impl Models {
    /// Changes the defaults for all models, all or none.
    ///
    /// # Errors
    /// As [`Models::change`]; defaults that make a model's settings contradict themselves.
    pub async fn change_defaults(
        &self,
        change: &SettingsChange,
        by: Actor,
    ) -> Result<Outcome<Defaults>, Failure> {
        rules::check_given(&change.set)?;
        let mut attempts = Attempts::at(change.if_revision, &self.line);
        loop {
            let (before, runtimes) = self.registry.ground().await?;
            let checked =
                self.validate_over(Settings::new(), &runtimes, change, &before.settings).await?;
            if checked.path.is_some() {
                return Err(Failure::new(
                    Kind::InvalidValue,
                    "each model has a file of its own: path cannot be a default",
                ));
            }
            checked.set.iter().try_for_each(|(key, value)| rules::check_default(key, value))?;
            self.check_all_with(&checked.applied_to(&before.settings)).await?;
            if !attempts.may_commit().await {
                continue;
            }
            let mut secrets = NewSecrets::of(&self.registry);
            let set = secrets.put_away(checked.set, &before.settings).await?;
            let seen = Some(change.if_revision.unwrap_or(before.revision));
            let changed = self.registry.change_defaults(set, checked.unset, seen, by.clone()).await;
            match secrets.settle(changed, |_| true).await {
                Err(error) if attempts.another(&error).await => {}
                Err(error) => return Err(error.into()),
                Ok((now, changed)) => {
                    let changes = Difference::between(&before.settings, &now.settings);
                    return Ok(Outcome { now, changed, changes, notes: checked.notes });
                }
            }
        }
    }

    async fn check_all_with(&self, defaults: &Settings) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.registry.models(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            page.iter().try_for_each(|model| check_with_defaults(defaults, model))?;
        }
    }
}

/// Refuses defaults that make a model's settings contradict themselves.
///
/// # Errors
/// As [`Layers::check`], naming the model.
pub fn check_with_defaults(defaults: &Settings, model: &Model) -> Result<(), Failure> {
    let (defaults, own) = (defaults.clone(), model.settings.clone());
    let layers = Layers { defaults, model: own, run: Settings::new() };
    layers.check().map_err(|failure| Failure {
        message: format!("with the model {}: {}", model.name, failure.message),
        ..failure
    })
}
