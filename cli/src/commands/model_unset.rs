//! `llamactl model unset NAME key…`

use super::model_set::tell;
use crate::args::more;
use crate::complete::{model_names, setting_keys};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::model::{ModelSet, SettingsChange};

/// Reset settings to their defaults
///
/// The default for all models holds again, or llama-server's own.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model unset qwen3 ctx-size gpu-layers";
    "0 done, 3 no such model, 4 changed by somebody else, 5 no such setting, 6 daemon unreachable"
))]
pub(crate) struct Unset {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// Keys of settings
    #[arg(required = true, value_name = "KEY", add = setting_keys())]
    keys: Vec<String>,
    /// Change only if the model is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Takes settings back.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Unset) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let change = SettingsChange {
        unset: args.keys.into(),
        if_revision: args.if_revision,
        ..SettingsChange::default()
    };
    let changed = daemon.call(&ModelSet { model: args.name.into(), change }).await?;
    tell(output, &changed)
}
