//! A model's settings one by one: the value, where it comes from, what is in force.

use crate::api::app::App;
use crate::llama::ReportedSettings;
use crate::models::{self, Layers};
use crate::store::registry::NamedRuntime;
use llamactl_protocol::Failure;
use llamactl_protocol::model::{ResolvedSetting, SettingSource};
use llamactl_protocol::options::layers::{Layer, differences, origin};
use llamactl_protocol::options::{
    Build, Group, POLICY, Setting, Settings, catalogue, find, secret,
};
use llamactl_protocol::server::Server;
use serde_json::Value;

/// The settings of a model that lie on these layers: with a group all of it, else those that anybody set or the running
/// server reports.
pub(super) async fn resolve(
    app: &App,
    model_id: i64,
    layers: Layers,
    runtimes: &[NamedRuntime],
    server: &Server,
    group: Option<Group>,
) -> Result<Vec<ResolvedSetting>, Failure> {
    let build = models::build_of(&app.registry, runtimes, &layers.standing()).await;
    let (build, _) = build.unwrap_or_default();
    let run = app.registry.last_run(model_id).await?.filter(|run| run.ended_at_ms.is_none());
    let reported = app.supervisor.reported(model_id).await.unwrap_or_default();
    let started = run.as_ref().map(|run| {
        let with = Layers {
            defaults: run.settings.clone(),
            run: run.overrides.clone(),
            ..Layers::default()
        };
        with.effective()
    });
    let mut pending =
        run.as_ref().map_or_else(Vec::new, |run| differences(&run.settings, &layers.standing()));
    // What holds from the moment it is set waits for no restart.
    pending.retain(|key| !POLICY.contains(&key.as_str()));
    let facts =
        Facts { layers, build, started, overrides: server.overrides.clone(), reported, pending };
    Ok(facts.all(group))
}

/// What is known, to be told of each setting.
struct Facts {
    layers: Layers,
    build: Option<Build>,
    /// What the running server was started with.
    started: Option<Settings>,
    /// What was set for its run alone.
    overrides: Settings,
    reported: ReportedSettings,
    pending: Vec<String>,
}

impl Facts {
    fn all(&self, group: Option<Group>) -> Vec<ResolvedSetting> {
        let known = catalogue().filter(|setting| setting.refused.is_empty());
        let mut settings: Vec<Setting<'_>> = known.copied().collect();
        let only_build =
            self.build.iter().flat_map(Build::options).filter(|option| !option.removed);
        settings.extend(only_build.map(|option| option.inferred()).filter(|setting| {
            // What the catalogue knows, by any of its names, it tells better.
            find(setting.key, self.build.as_ref()).is_ok_and(|found| found.inferred)
        }));
        let variables = [&self.layers.defaults, &self.layers.model, &self.overrides];
        let mut keys: Vec<&String> = variables.into_iter().flat_map(|layer| layer.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        // Variables, and options that no build has any more.
        let unlisted = keys.into_iter().filter(|key| settings.iter().all(|it| it.key != *key));
        let unlisted: Vec<&String> = unlisted.collect();
        settings.extend(unlisted.iter().filter_map(|key| find(key, self.build.as_ref()).ok()));
        settings
            .iter()
            .filter(|setting| group.is_none_or(|group| setting.group == group))
            .map(|setting| self.one(setting))
            .filter(|one| {
                group.is_some()
                    || one.source != SettingSource::LlamaServer
                    || one.in_force.is_some()
            })
            .collect()
    }

    fn one(&self, setting: &Setting<'_>) -> ResolvedSetting {
        let Layers { defaults, model, .. } = &self.layers;
        let origin = origin(setting.key, &self.overrides, model, defaults);
        let shown = |value: &Value| match secret::is_secret(value) {
            true => secret::shown(),
            false => value.clone(),
        };
        // What llama-server reports is the truth; what it was started with is the next best.
        let started = self.started.as_ref().and_then(|started| started.get(setting.key));
        let in_force = match self.started.as_ref() {
            Some(_) if POLICY.contains(&setting.key) => origin.map(|(_, value)| shown(value)),
            _ => self.reported.get(setting).or_else(|| started.map(shown)),
        };
        // Where it listens llamactl decides, so llama-server's default says nothing there.
        let of_build = self.build.as_ref().filter(|_| !setting.is_own()).and_then(|build| {
            setting.long_flags().find_map(|flag| build.option(flag)?.default.clone())
        });
        let default = of_build.or_else(|| Some(setting.default.to_owned()));
        ResolvedSetting {
            key: setting.key.to_owned(),
            group: setting.group.as_str().to_owned(),
            value: origin.map(|(_, value)| shown(value)),
            source: match origin.map(|(layer, _)| layer) {
                Some(Layer::Run) => SettingSource::Run,
                Some(Layer::Model) => SettingSource::Model,
                Some(Layer::Defaults) => SettingSource::Defaults,
                None => SettingSource::LlamaServer,
            },
            default: default.filter(|default| !default.is_empty()),
            in_force,
            pending: self.pending.iter().any(|key| key == setting.key),
            inferred: setting.inferred,
        }
    }
}
