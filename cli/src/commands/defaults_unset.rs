//! `llamactl defaults unset key…`

use super::defaults_set::tell;
use crate::args::more;
use crate::complete::setting_keys;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::defaults::DefaultsSet;
use llamactl_protocol::model::SettingsChange;

/// Reset settings for all models
///
/// llama-server's own default holds again, where a model does not say otherwise.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl defaults unset ctx-size";
    "0 done, 4 changed by somebody else, 5 no such setting, 6 daemon unreachable"
))]
pub(crate) struct Unset {
    /// Keys of settings
    #[arg(required = true, value_name = "KEY", add = setting_keys())]
    keys: Vec<String>,
    /// Change only if the defaults are still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Takes defaults back.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Unset) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let change = SettingsChange {
        unset: args.keys.into(),
        if_revision: args.if_revision,
        ..SettingsChange::default()
    };
    let changed = daemon.call(&DefaultsSet { change }).await?;
    tell(output, &changed)
}
