//! A change of settings against everything it must agree with.

use super::change::{Checked, check};
use super::files::{check_files, named_in};
use super::{Layers, Models, RUNTIME, accepted, build_of};
use crate::runtime;
use crate::store::registry::NamedRuntime;
use llamactl_protocol::model::SettingsChange;
use llamactl_protocol::options::rules::EXTRA_ARGS;
use llamactl_protocol::options::{Setting, Settings, find, find_known, rules, successors};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::Value;

impl Models {
    /// Checks a change that somebody asks for of a model's own settings, which are `before` now:
    /// each by the catalogue and by the build the model will run on, then all together with the
    /// defaults below them. A build is asked only where the catalogue cannot judge, because asking
    /// one may take long, and it may be gone.
    ///
    /// # Errors
    /// The first setting that is refused, or settings that contradict each other;
    /// [`llamactl_protocol::Kind::RuntimeNotFound`] when the build that must be asked is not there.
    pub async fn validate(
        &self,
        change: &SettingsChange,
        before: &Settings,
    ) -> Result<Checked, Failure> {
        rules::check_given(&change.set)?;
        let (defaults, runtimes) = self.registry.ground().await?;
        self.validate_over(defaults.settings, &runtimes, change, before).await
    }

    /// The same failure, with the runtime whose build has the option that this one lacks.
    async fn elsewhere(&self, runtimes: &[NamedRuntime], failure: Failure) -> Failure {
        let details = failure.details.as_ref();
        let key = details.and_then(|details| details.get("key")).and_then(Value::as_str);
        let (Kind::UnknownOption, Some(key)) = (failure.kind, key) else { return failure };
        let flag = key.trim_start_matches('-').replace('_', "-");
        match runtime::with_option(&self.registry, runtimes, &flag).await {
            None => failure,
            Some(name) => {
                let change = ["llamactl", "model", "set", "NAME", &format!("runtime={name}")];
                let there = Hint::run(format!("the runtime {name} has it"), change);
                Failure { hints: [there].into_iter().chain(failure.hints.0).collect(), ..failure }
            }
        }
    }

    /// The same, over `defaults`, of settings whose secrets may be stored ones; `runtimes` are all that
    /// have a name.
    pub(super) async fn validate_over(
        &self,
        defaults: Settings,
        runtimes: &[NamedRuntime],
        change: &SettingsChange,
        before: &Settings,
    ) -> Result<Checked, Failure> {
        match self.checked_over(defaults, runtimes, change, before).await {
            Err(failure) => Err(self.elsewhere(runtimes, failure).await),
            checked => checked,
        }
    }

    async fn checked_over(
        &self,
        defaults: Settings,
        runtimes: &[NamedRuntime],
        change: &SettingsChange,
        before: &Settings,
    ) -> Result<Checked, Failure> {
        let (mut checked, build, note) = match check(change, None) {
            Ok(checked) if !needs_build(&checked, before) => (checked, None, None),
            _ => {
                let naming = runtime_after(change, before, &defaults);
                let (build, note) = build_of(&self.registry, runtimes, &naming).await?;
                (check(change, build.as_ref())?, build, note)
            }
        };
        // What is not set may be taken back, but not what nobody knows.
        for key in checked.unset.iter().filter(|key| !before.contains_key(*key)) {
            if build.is_some() && matches!(find_known(key, build.as_ref()), Ok(None)) {
                find(key, build.as_ref())?;
            }
        }
        let layers = Layers { defaults, model: checked.applied_to(before), run: Settings::new() };
        layers.check()?;
        if let Some(build) = &build {
            accepted(build, &checked.set)?;
            checked.notes.extend(successors::note(&checked.set, build));
            // On another build, what was set before must be right too.
            if checked.set.contains_key(RUNTIME) {
                accepted(build, &layers.effective())?;
            }
        }
        let files = named_in(&checked.set, build.as_ref());
        if !files.is_empty() {
            let missing = tokio::task::spawn_blocking(move || check_files(&files));
            let missing =
                missing.await.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
            checked.notes.extend(missing?);
        }
        checked.notes.extend(note.filter(|_| !checked.set.is_empty()));
        Ok(checked)
    }
}

/// Whether a build must be asked about a change: it sets what a build alone can judge, or takes back
/// something under a name that the catalogue does not know.
fn needs_build(checked: &Checked, before: &Settings) -> bool {
    !checked.set.keys().all(|key| needs_no_build(key))
        || checked
            .unset
            .iter()
            .any(|key| !before.contains_key(key) && !matches!(find_known(key, None), Ok(Some(_))))
}

/// Whether a setting is llamactl's own business: no llama-server is told of it, and it does not say
/// which llama-server that is.
#[must_use]
pub fn needs_no_build(key: &str) -> bool {
    let is_ours = |setting: Setting<'_>| {
        setting.is_own() && setting.key != RUNTIME && setting.key != EXTRA_ARGS
    };
    matches!(find_known(key, None), Ok(Some(setting)) if is_ours(setting))
}

/// The settings that name the runtime after a change: only that key matters.
fn runtime_after(change: &SettingsChange, before: &Settings, defaults: &Settings) -> Settings {
    let own = || before.get(RUNTIME).filter(|_| !change.unset.iter().any(|key| key.0 == RUNTIME));
    let value: Option<&Value> =
        change.set.get(RUNTIME).or_else(own).or_else(|| defaults.get(RUNTIME));
    value.map(|value| (RUNTIME.to_owned(), value.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_build_is_asked_only_about_what_it_alone_can_judge() {
        let needs = |set: Value, unset: &[&str]| {
            let checked = Checked {
                set: serde_json::from_value(set).unwrap(),
                unset: unset.iter().map(|key| (*key).to_owned()).collect(),
                ..Checked::default()
            };
            needs_build(&checked, &[("gone-from-builds".to_owned(), json!(1))].into())
        };
        for ours in [
            json!({}),
            json!({ "autostart": false, "restart": "never", "restart-limit": 3 }),
            json!({ "load-stall-timeout": 1, "hang-timeout": 1, "drain-timeout": 1 }),
            json!({ "host": "127.0.0.1", "port": "auto", "env.A": "1" }),
        ] {
            assert!(!needs(ours.clone(), &[]), "{ours}");
        }
        assert!(!needs(json!({}), &["ctx-size", "runtime", "gone-from-builds", "env.A"]));
        for builds in [
            json!({ "autostart": true, "ctx-size": 1 }),
            json!({ "api-key": "generate" }),
            json!({ "runtime": "b1" }),
            json!({ "extra-args": ["-c", "1"] }),
        ] {
            assert!(needs(builds.clone(), &[]), "{builds}");
        }
        assert!(needs(json!({}), &["a-name-of-the-build"]));
    }
}
