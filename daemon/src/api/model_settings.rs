//! `model.set`, `model.args`, `model.key`: a model's settings and what comes of them.

use super::model::{answer, shown};
use super::registration::Caller;
use crate::api::app::App;
use crate::models::{self, Layers};
use llamactl_protocol::model::{Changed, CommandLine, Key, ModelArgs, ModelKey, ModelSet};
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Failure, Hint, Kind};

pub(super) async fn set(app: &App, caller: Caller, set: ModelSet) -> Result<Changed, Failure> {
    answer(app, app.models.change(&set.model, &set.change, None, caller.actor).await?).await
}

pub(super) async fn args(app: &App, _: Caller, args: ModelArgs) -> Result<CommandLine, Failure> {
    let model = app.registry.model(&args.model).await?;
    app.supervisor.command_line(&model).await
}

pub(super) async fn key(app: &App, _: Caller, key: ModelKey) -> Result<Key, Failure> {
    let model = app.registry.model(&key.model).await?;
    let settings = Layers::of(&app.registry, &model, Settings::new()).await?.effective();
    let secrets = app.registry.secrets().clone();
    let read = tokio::task::spawn_blocking(move || models::key_of(&secrets, &settings)).await;
    let read = read.map_err(|_| Failure::new(Kind::Internal, "reading the key failed"))??;
    let name = shown(model).name;
    read.map(|key| Key { key }).ok_or_else(|| {
        Failure::new(Kind::KeyNotSet, format!("{name} asks its clients for no key"))
            .hint(Hint::run("make one", ["llamactl", "model", "set", &name, "api-key=generate"]))
    })
}
