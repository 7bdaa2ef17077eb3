//! `llamactl stop NAME…`

use super::start::Patience;
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::pages;
use crate::waiting::{Goal, Request, until};
use clap::Args;
use llamactl_protocol::Failure;
use llamactl_protocol::server::{Accepted, Server, ServerStop};

/// Stop models' servers and wait until they have ended
///
/// Stopping one that is stopped is done already. With -q the names of those that were running are
/// printed, so that `llamactl start` can bring them back.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl stop qwen3",
    "llamactl stop --all -q > was; xargs llamactl start < was",
    "llamactl stop qwen3 --no-wait";
    "0 stopped  3 no such model  6 daemon unreachable  7 timed out  8 it does not end  130 interrupted"
))]
pub(crate) struct Stop {
    /// Models, by name or alias
    #[arg(required_unless_present = "all", value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// All that run
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Stops servers.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Stop) -> Outcome {
    let deadline = args.patience.deadline();
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let names = if args.all { running(&daemon).await? } else { args.names };
    if names.is_empty() {
        output.aside("no server runs");
    }
    let mut tally = Tally::default();
    let mut accepted = Vec::new();
    for model in names {
        let answer = daemon.call(&ServerStop { model }).await.map_err(Quit::from);
        accepted.extend(tally.take(output, answer)?);
    }
    for accepted in accepted {
        if !args.patience.waits() {
            down(output, &accepted, &accepted.server, "stopping")?;
            continue;
        }
        let request = Request::of(&accepted);
        let model = &accepted.server.model;
        let result = if accepted.server.state.is_settled_down() {
            Ok(accepted.server.clone())
        } else {
            until(output, &daemon, model, Goal::Stopped, Some(&request), deadline).await
        };
        if let Some(server) = tally.take(output, result)? {
            down(output, &accepted, &server, "stopped")?;
        }
    }
    tally.end()
}

/// The models whose servers run or are about to.
pub(crate) async fn running(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let servers = pages::servers(daemon, false).await?;
    Ok(servers
        .into_iter()
        .filter(|server| !server.state.is_settled_down())
        .map(|server| server.model)
        .collect())
}

fn down(output: &mut Output, accepted: &Accepted, server: &Server, word: &str) -> Outcome {
    if output.json {
        output.json(server)
    } else if output.quiet {
        output.names(accepted.changed.then_some(&server.model))
    } else if !accepted.changed && accepted.server.state.is_settled_down() {
        output.line(format!("{} is stopped already", server.model))
    } else {
        output.line(format!("{} {word}", server.model))?;
        let killed = server.cause.as_ref().filter(|cause| cause.signal == Some(9));
        killed.into_iter().for_each(|cause| output.warning(&cause.message));
        Ok(())
    }
}
