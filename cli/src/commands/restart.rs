//! `llamactl restart NAME…`

use super::start::{Patience, bring_up};
use super::stop::running;
use crate::args::more;
use crate::complete::{assignments, model_names};
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::settings;
use clap::Args;
use llamactl_protocol::event::EventList;
use llamactl_protocol::server::ServerRestart;
use std::ffi::OsString;

/// Restart servers with their current settings
///
/// One that is stopped is started. Waits until each is ready, and says how many requests were cut.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model set qwen3 ctx-size=16384 && llamactl restart qwen3",
    "llamactl restart --all";
    "0 ready, 3 no such model, 6 daemon unreachable, 7 timed out, 8 a server failed, 130 interrupted"
))]
pub(crate) struct Restart {
    /// Models, by name or alias
    #[arg(required_unless_present = "all", value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// All that run
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// A setting for the new run only, over the model's own; may be repeated
    #[arg(long, value_name = "KEY=VALUE", add = assignments())]
    set: Vec<OsString>,
    #[command(flatten)]
    patience: Patience,
}

/// Asks for every restart first and waits then, so that they go on side by side.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Restart) -> Outcome {
    let deadline = args.patience.deadline();
    let set = settings::parse(&args.set)?;
    let daemon = reach.daemon(Autostart::Always).await?;
    let names = if args.all { running(&daemon).await? } else { args.names };
    let stopped_after = last_event(&daemon).await;
    let mut tally = Tally::default();
    let mut accepted = Vec::new();
    for model in names {
        let restart = ServerRestart { model: model.into(), set: set.clone().into() };
        let answer = daemon.call(&restart).await.map_err(Quit::from);
        accepted.extend(tally.take(output, answer)?);
    }
    bring_up(output, &daemon, accepted, &args.patience, deadline, stopped_after, &mut tally)
        .await?;
    tally.end()
}

/// The number of the last event: what comes behind it is of the restart that follows. `None` where
/// it cannot be had, which is no reason not to restart.
pub(crate) async fn last_event(daemon: &Daemon) -> Option<i64> {
    let last = EventList { after: Some(i64::MAX), limit: Some(1), ..EventList::default() };
    daemon.call(&last).await.ok().map(|page| page.last)
}

#[cfg(test)]
mod tests {
    use super::super::scene;
    use super::super::start::{told_stop, up};
    use crate::output::screen::assert_screen;
    use llamactl_protocol::server::State;

    #[test]
    fn what_the_stop_took_comes_before_the_start() {
        let server = scene::server("qwen3-8b", State::Ready);
        let cause = scene::server("qwen3-8b", State::Stopped).cause;
        assert_screen("restart", |output| {
            told_stop(output, &server.model, cause.as_ref())?;
            told_stop(output, &server.model, None)?;
            up(output, &server, true, false)
        });
    }
}
