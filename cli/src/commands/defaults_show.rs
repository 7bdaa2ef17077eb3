//! `llamactl defaults show`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::defaults::DefaultsShow;

/// Show the settings for all models
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl defaults show",
    "llamactl defaults show --json | jq .settings";
    "0 done  6 daemon unreachable"
))]
pub(crate) struct Show {}

/// Shows defaults.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let defaults = daemon.call(&DefaultsShow {}).await?;
    if output.json {
        return output.json(&defaults);
    }
    if output.quiet {
        return output.names(defaults.settings.keys());
    }
    for (key, value) in &defaults.settings {
        output.line_unflushed(assignment(key, value))?;
    }
    output.flush()
}
