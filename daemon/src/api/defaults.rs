//! `defaults.*`

use super::registration::Caller;
use super::running;
use crate::api::app::App;
use crate::models::Outcome;
use llamactl_protocol::Failure;
use llamactl_protocol::defaults::{Defaults, DefaultsChanged, DefaultsSet, DefaultsShow};
use llamactl_protocol::options::{POLICY, secret};

pub(super) async fn show(app: &App, _: Caller, _: DefaultsShow) -> Result<Defaults, Failure> {
    Ok(shown(app.registry.defaults().await?))
}

pub(super) async fn set(
    app: &App,
    caller: Caller,
    set: DefaultsSet,
) -> Result<DefaultsChanged, Failure> {
    let outcome = app.models.change_defaults(&set.change, caller.actor).await?;
    let Outcome { now, changed, changes, notes } = outcome;
    let takes_effect_on_restart = waiting(app).await?;
    Ok(DefaultsChanged { defaults: shown(now), changed, changes, takes_effect_on_restart, notes })
}

/// The models whose running servers have other settings than a restart would give them.
async fn waiting(app: &App) -> Result<Vec<String>, Failure> {
    let served = running::served(app, &app.supervisor.active()).await?;
    let waits = |key: &String| !POLICY.contains(&key.as_str());
    let behind = served.into_values().filter(|served| served.changed.iter().any(waits));
    let mut names: Vec<String> = behind.map(|served| served.name).collect();
    names.sort_unstable();
    Ok(names)
}

fn shown(defaults: Defaults) -> Defaults {
    Defaults { settings: secret::masked(&defaults.settings), ..defaults }
}
