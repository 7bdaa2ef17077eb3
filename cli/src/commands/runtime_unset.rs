//! `llamactl runtime unset NAME env.NAME…`

use super::runtime_set::tell;
use crate::args::more;
use crate::complete::runtime_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::runtime::RuntimeSet;

/// Remove environment variables of a build's servers
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl runtime unset cuda env.CUDA_VISIBLE_DEVICES";
    "0 done, 3 no such runtime, 4 changed by somebody else, 5 not env.NAME, 6 daemon unreachable"
))]
pub(crate) struct Unset {
    /// A runtime
    #[arg(add = runtime_names())]
    name: String,
    /// Keys of variables
    #[arg(required = true, value_name = "env.NAME")]
    keys: Vec<String>,
    /// Change only if the runtime is still at this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<i64>,
}

/// Takes variables back.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Unset) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let params = RuntimeSet {
        name: args.name.into(),
        unset: args.keys.into(),
        if_revision: args.if_revision,
        ..RuntimeSet::default()
    };
    let changed = daemon.call(&params).await?;
    tell(output, &changed)
}
