//! Adding, choosing, changing and removing named llama-server builds.

use super::retry::Attempts;
use super::secrets::NewSecrets;
use super::{Models, Outcome};
use crate::runtime::{self, SYSTEM};
use crate::store::registry::{NamedRuntime, RuntimeRecord, StoreError};
use llamactl_protocol::environment::LIBRARY_PATH;
use llamactl_protocol::options::{Settings, VARIABLE_PREFIX, rules};
use llamactl_protocol::runtime::{RuntimeAdd, RuntimeSet};
use llamactl_protocol::{Actor, Failure, Hint, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Models {
    /// Names the llama-server at a path, after it was looked at. One that has this name already is
    /// left as it is. The first that can be used becomes the default while there is none.
    ///
    /// # Errors
    /// [`Kind::NameTaken`]; [`Kind::InvalidName`]; what keeps the file from being a runtime; a
    /// variable that may not be set.
    pub async fn add_runtime(
        &self,
        add: RuntimeAdd,
        by: Actor,
    ) -> Result<Outcome<NamedRuntime>, Failure> {
        let asked = add.environment.0;
        let mut secrets = NewSecrets::of(&self.registry);
        let environment = secrets.put_away(variables(asked.clone())?, &Settings::new()).await?;
        let added =
            runtime::add(&self.registry, add.path, add.name.map(Into::into), environment, &by)
                .await;
        let (now, changed) = secrets.settle(added, |(_, added)| *added).await?;
        let mut notes = notes(&asked);
        if !changed && asked.iter().any(|(name, value)| now.environment.get(name) != Some(value)) {
            notes.push(format!(
                "its environment was left as it is; llamactl runtime set {} changes it",
                now.name
            ));
        }
        if changed && self.has_no_default().await? {
            self.registry.use_runtime(Some(now.name.clone()), by).await?;
            notes.push(format!("{} is the default now: no other llama-server was found", now.name));
        }
        Ok(Outcome { now, changed, changes: vec![], notes })
    }

    /// Whether none was chosen and none is found without being told.
    async fn has_no_default(&self) -> Result<bool, Failure> {
        if self.registry.default_runtime().await?.is_some() {
            return Ok(false);
        }
        let found = runtime::resolve(&self.registry, Some(SYSTEM)).await;
        Ok(found.is_err_and(|failure| failure.kind == Kind::RuntimeNotFound))
    }

    /// Makes a runtime the one that models use which name no other; and its build, where there is
    /// one. Whether it was another before.
    ///
    /// # Errors
    /// What keeps it from being used: the way back to the one that is found without being told is
    /// always open.
    pub async fn use_runtime(
        &self,
        name: &str,
        by: Actor,
    ) -> Result<(Option<RuntimeRecord>, bool), Failure> {
        let is_system = name == SYSTEM;
        let record = match runtime::resolve(&self.registry, Some(name)).await {
            Ok(record) => Some(record),
            Err(_) if is_system => None,
            Err(failure) => return Err(failure),
        };
        let named = (!is_system).then(|| name.to_owned());
        Ok((record, self.registry.use_runtime(named, by).await?))
    }

    /// Sets and unsets variables for a runtime's servers, all or none.
    ///
    /// # Errors
    /// [`Kind::RuntimeNotFound`]; a variable that may not be set; [`Kind::RevisionConflict`] when the
    /// runtime is at another revision than the caller saw, or others changed it over and over.
    pub async fn change_runtime(
        &self,
        change: RuntimeSet,
        by: Actor,
    ) -> Result<Outcome<NamedRuntime>, Failure> {
        let RuntimeSet { name, set, unset, if_revision } = change;
        let named = |(key, value): (String, Value)| Ok((variable(&key)?.to_owned(), value));
        let put = variables(set.0.into_iter().map(named).collect::<Result<_, Failure>>()?)?;
        let notes = notes(&put);
        let unset = unset.iter().map(|key| variable(key).map(str::to_owned));
        let unset = unset.collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = unset.iter().find(|name| put.contains_key(*name)) {
            let message = format!("{VARIABLE_PREFIX}{name} cannot be set and unset at once");
            return Err(Failure::new(Kind::InvalidValue, message));
        }
        if *name == *SYSTEM {
            return Err(Failure::new(
                Kind::InvalidValue,
                format!("{SYSTEM} is found without being told, and has no settings"),
            )
            .hint(Hint::run(
                "give its llama-server a name first",
                ["llamactl", "runtime", "add", "PATH", "--name", "NAME"],
            )));
        }
        let mut attempts = Attempts::at(if_revision, &self.line);
        loop {
            if !attempts.may_commit().await {
                continue;
            }
            let before = self.registry.named_runtime(&name).await?;
            let before = before.ok_or_else(|| StoreError::RuntimeNotFound(name.to_string()))?;
            let mut secrets = NewSecrets::of(&self.registry);
            let put = secrets.put_away(put.clone(), &before.environment).await?;
            let seen = Some(if_revision.unwrap_or(before.revision));
            self.try_libraries(&before, &put, &unset, &by).await?;
            let changed =
                self.registry.change_runtime(&name, put, unset.clone(), seen, by.clone()).await;
            match secrets.settle(changed, |_| true).await {
                Err(error) if attempts.another(&error).await => {}
                Err(error) => return Err(error.into()),
                Ok((now, changed)) => return Ok(Outcome { now, changed, changes: vec![], notes }),
            }
        }
    }

    /// Looks at a build anew where its libraries are to be looked for elsewhere: with them it has other
    /// devices, or does not run at all. Taking them back is always possible.
    async fn try_libraries(
        &self,
        before: &NamedRuntime,
        put: &Settings,
        unset: &[String],
        by: &Actor,
    ) -> Result<(), Failure> {
        let mut after = before.clone();
        after.environment.retain(|name, _| !unset.contains(name));
        after.environment.extend(put.clone());
        let libraries = |of: &NamedRuntime| of.environment.get(LIBRARY_PATH).cloned();
        if libraries(&after) == libraries(before) {
            return Ok(());
        }
        match (runtime::look_at(&self.registry, after, by).await, put.contains_key(LIBRARY_PATH)) {
            (Err(failure), true) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Takes a runtime out; its files stay, and what runs on it runs on.
    ///
    /// # Errors
    /// [`Kind::RuntimeNotFound`]; [`Kind::RuntimeInUse`].
    pub async fn remove_runtime(&self, name: &str, by: Actor) -> Result<NamedRuntime, Failure> {
        if name == SYSTEM {
            return Err(Failure::new(
                Kind::InvalidValue,
                format!("{SYSTEM} is found without being told and cannot be removed"),
            )
            .hint(Hint::run("make another the default", ["llamactl", "runtime", "use", "NAME"])));
        }
        self.releasing_secrets(async { Ok(self.registry.remove_runtime(name, by).await?) }).await
    }
}

/// Variables by name, as they are put away.
fn variables(environment: BTreeMap<String, Value>) -> Result<Settings, Failure> {
    rules::check_given(&environment)?;
    runtime::variables(environment)
}

/// What somebody who gives these variables should know.
fn notes(environment: &Settings) -> Vec<String> {
    let variables = environment.iter().map(|(name, value)| (name.as_str(), value));
    rules::notes_on_variables(variables).collect()
}

/// The variable a key means.
fn variable(key: &str) -> Result<&str, Failure> {
    key.strip_prefix(VARIABLE_PREFIX).ok_or_else(|| {
        Failure::new(Kind::UnknownOption, format!("a runtime has no setting {key:?}"))
            .hint("it has variables for its servers: env.NAME=VALUE")
            .details(json!({ "key": key }))
    })
}
