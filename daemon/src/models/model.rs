//! Adding, changing, renaming and copying models.

use super::retry::Attempts;
use super::secrets::NewSecrets;
use super::{Models, Outcome, file};
use crate::store::registry::{ModelChange, ModelLayers, NewFile, NewModel, StoreError};
use llamactl_protocol::model::{
    Model, ModelAdd, ModelAlias, ModelCopy, ModelRename, ModelRollback, Revision, SettingsChange,
};
use llamactl_protocol::options::{Settings, rules};
use llamactl_protocol::{Actor, Failure, Hint, Kind, WirePath, name};
use serde_json::json;

impl Models {
    /// Adds the model of a file. One that is there already under this name is left as it is.
    ///
    /// # Errors
    /// A setting that is refused, a file that is no model; [`Kind::NameTaken`] by another file.
    pub async fn add(&self, add: ModelAdd, by: Actor) -> Result<Outcome<Model>, Failure> {
        let change = SettingsChange { set: add.settings, ..SettingsChange::default() };
        let checked = self.validate(&change, &Settings::new()).await?;
        if checked.path.is_some() {
            return Err(Failure::new(Kind::InvalidValue, "the model's file is given already"));
        }
        let file = file::read(add.path).await?;
        let name = match add.name {
            Some(name) => name::check(name.0)?,
            None => default_name(&file)?,
        };
        let mut notes = checked.notes;
        if let Some(mmproj) = &file.file.mmproj {
            notes.push(format!("a projector lies beside it: {mmproj}"));
        }
        let path = file.path.clone();
        let mut secrets = NewSecrets::of(&self.registry);
        let settings = secrets.put_away(checked.set.clone(), &Settings::new()).await?;
        let added = self.registry.add_model(NewModel { name, file, settings }, by).await;
        match secrets.settle(added, |_| true).await {
            Ok(now) => Ok(Outcome { now, changed: true, changes: vec![], notes }),
            Err(StoreError::NameTaken { name, by }) => {
                let now = self.registry.model(&name).await?;
                if now.name != name || !same_file(now.path.clone(), path).await {
                    return Err(self.name_taken(&name, &by).await);
                }
                let mut given = checked.set.iter();
                let is_same = given.all(|(key, value)| now.settings.get(key) == Some(value));
                let left = || {
                    format!(
                        "its settings were left as they are; llamactl model set {name} changes them"
                    )
                };
                let notes = (!is_same).then(left).into_iter().collect();
                Ok(Outcome { now, changed: false, changes: vec![], notes })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a model that a scan found, with settings that were [validated](Models::validate), unless
    /// its file is registered already: that model then comes out, beside `false`.
    ///
    /// # Errors
    /// What the disk or the registry refuses.
    pub async fn add_found(&self, found: NewModel, by: Actor) -> Result<(Model, bool), Failure> {
        let mut secrets = NewSecrets::of(&self.registry);
        let settings = secrets.put_away(found.settings, &Settings::new()).await?;
        let added = self.registry.add_found_model(NewModel { settings, ..found }, by).await;
        Ok(secrets.settle(added, |(_, added)| *added).await?)
    }

    /// Changes settings and, where `path` is among them, the file. `what` says what the change is,
    /// where its parts do not.
    ///
    /// # Errors
    /// As [`Models::validate`]; [`Kind::RevisionConflict`] when the model is at another revision
    /// than the caller saw, or others changed it over and over meanwhile.
    pub async fn change(
        &self,
        reference: &str,
        change: &SettingsChange,
        what: Option<String>,
        by: Actor,
    ) -> Result<Outcome<Model>, Failure> {
        rules::check_given(&change.set)?;
        self.apply(reference, change, what, by).await
    }

    async fn apply(
        &self,
        reference: &str,
        change: &SettingsChange,
        what: Option<String>,
        by: Actor,
    ) -> Result<Outcome<Model>, Failure> {
        let mut attempts = Attempts::at(change.if_revision, &self.line);
        loop {
            // Some settings only make sense together, so the whole is checked before it is written;
            // the revision makes sure that it is this whole.
            let ModelLayers { record, defaults, runtimes } =
                self.registry.model_layers(reference).await?;
            let (before, defaults) = (record.model, defaults.settings);
            let checked = self.validate_over(defaults, &runtimes, change, &before.settings).await;
            let checked = checked.map_err(|failure| failure.of_model(&before.name))?;
            let file = read_given(checked.path).await?;
            if !attempts.may_commit().await {
                continue;
            }
            let mut secrets = NewSecrets::of(&self.registry);
            let set = secrets.put_away(checked.set, &before.settings).await?;
            let stored = ModelChange { set, unset: checked.unset, file, what: what.clone() };
            let seen = change.if_revision.unwrap_or(before.revision);
            let changed =
                self.registry.change_model(reference, stored, Some(seen), by.clone()).await;
            match secrets.settle(changed, |_| true).await {
                Err(error) if attempts.another(&error).await => {}
                Err(error @ StoreError::RevisionConflict { expected, found, .. }) => {
                    let name = &before.name;
                    let diff = ["llamactl", "model", "diff", name, &expected.to_string()];
                    let hints = Hint::run("see what changed", diff).into();
                    let mut failure = Failure { hints, ..error.into() };
                    if let Ok(Some(last)) = self.registry.revision(before.id, found).await {
                        let by = last.by.user();
                        failure.message = format!(
                            "{name} was changed by {by}: it is at revision {found}, not {expected}"
                        );
                    }
                    return Err(failure);
                }
                Err(error) => return Err(error.into()),
                Ok((now, changed)) => {
                    let changes = before.differences(&now);
                    return Ok(Outcome { now, changed, changes, notes: checked.notes });
                }
            }
        }
    }

    /// Brings settings and file of an earlier revision back, as a new one.
    ///
    /// # Errors
    /// [`Kind::RevisionNotFound`]; as [`Models::change`].
    pub async fn roll_back(
        &self,
        rollback: ModelRollback,
        by: Actor,
    ) -> Result<Outcome<Model>, Failure> {
        let model = self.registry.model(&rollback.model).await?;
        let to = rollback.to.unwrap_or(model.revision - 1);
        let then = self.revision(&model, to).await?;
        let gone = model.settings.keys().filter(|key| !then.settings.contains_key(*key));
        let unset = gone.cloned().collect();
        let mut set = then.settings;
        set.retain(|key, value| model.settings.get(key) != Some(value));
        if then.path != model.path {
            set.insert("path".to_owned(), json!(then.path));
        }
        let back = SettingsChange {
            set: set.into(),
            unset,
            // What was looked at is what is changed.
            if_revision: Some(rollback.if_revision.unwrap_or(model.revision)),
            ..SettingsChange::default()
        };
        self.apply(&rollback.model, &back, Some(format!("back to revision {to}")), by).await
    }

    /// What a model was like at a revision. Secrets are by reference.
    ///
    /// # Errors
    /// [`Kind::RevisionNotFound`].
    pub async fn revision(&self, model: &Model, number: i64) -> Result<Revision, Failure> {
        self.registry.revision(model.id, number).await?.ok_or_else(|| {
            Failure::new(
                Kind::RevisionNotFound,
                format!("{} has no revision {number}; it is at {}", model.name, model.revision),
            )
            .hint(Hint::run("see which there are", ["llamactl", "model", "history", &model.name]))
        })
    }

    /// Gives a model another name.
    ///
    /// # Errors
    /// [`Kind::InvalidName`], [`Kind::NameTaken`], [`Kind::ModelNotFound`].
    pub async fn rename(&self, rename: ModelRename, by: Actor) -> Result<Outcome<Model>, Failure> {
        let to = name::check(rename.to.0)?;
        let (now, changed) = self.registry.rename_model(&rename.model, to, by).await?;
        Ok(Outcome { now, changed, changes: vec![], notes: vec![] })
    }

    /// Adds and removes aliases, all or none.
    ///
    /// # Errors
    /// [`Kind::InvalidName`], [`Kind::NameTaken`]; [`Kind::ModelNotFound`] also for the removal of
    /// an alias that the model has not.
    pub async fn alias(&self, alias: ModelAlias, by: Actor) -> Result<Outcome<Model>, Failure> {
        let add = alias
            .add
            .0
            .into_iter()
            .map(|name| name::check(name.0))
            .collect::<Result<Vec<_>, _>>()?;
        let model = self.registry.model(&alias.model).await?;
        if let Some(other) = alias.remove.iter().find(|name| !model.aliases.contains(&name.0)) {
            let message = format!("{other} is no alias of {}", model.name);
            return Err(Failure::new(Kind::ModelNotFound, message)
                .details(json!({ "aliases": model.aliases })));
        }
        let (now, changed) =
            self.registry.change_aliases(&alias.model, add, alias.remove.into(), by).await?;
        Ok(Outcome { now, changed, changes: vec![], notes: vec![] })
    }

    /// Makes a second profile, settings included: of the same file, or of another.
    ///
    /// # Errors
    /// [`Kind::InvalidName`], [`Kind::NameTaken`], [`Kind::ModelNotFound`]; a file that is no model.
    pub async fn copy(&self, copy: ModelCopy, by: Actor) -> Result<Model, Failure> {
        let to = name::check(copy.to.0)?;
        // Nothing is read from a disk for a model that is not there.
        self.registry.model(&copy.model).await?;
        let file = read_given(copy.path).await?;
        Ok(self.registry.copy_model(&copy.model, to, file, by).await?)
    }

    async fn name_taken(&self, name: &str, by: &str) -> Failure {
        let message = if name == by {
            format!("there is a model {name} already, of another file")
        } else {
            format!("{name} is an alias of the model {by}")
        };
        let failure = Failure::new(Kind::NameTaken, message);
        match self.registry.free_name(name).await {
            Ok(Some(free)) => failure
                .hint(format!("give another name: --name {free}"))
                .details(json!({ "name": name, "taken_by": by, "free": free })),
            _ => failure,
        }
    }
}

async fn read_given(path: Option<WirePath>) -> Result<Option<NewFile>, Failure> {
    match path {
        Some(path) => file::read(path).await.map(Some),
        None => Ok(None),
    }
}

fn default_name(new: &NewFile) -> Result<String, Failure> {
    let names = file::names_of(new.path.as_path(), &new.file);
    names.into_iter().next().ok_or_else(|| {
        Failure::new(Kind::InvalidName, format!("no name can be made of {}", new.path))
            .hint("give one with --name")
    })
}

/// Whether two paths lead to one file, links resolved. A path that leads nowhere is only itself.
async fn same_file(a: WirePath, b: WirePath) -> bool {
    if a == b {
        return true;
    }
    let compare = move || match (a.as_path().canonicalize(), b.as_path().canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    tokio::task::spawn_blocking(compare).await.unwrap_or(false)
}
