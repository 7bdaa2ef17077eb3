//! `llamactl wait NAME…`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Tally};
use crate::output::Output;
use crate::output::time::parse_duration;
use crate::view::ready_line;
use crate::waiting::{Deadline, Goal, Wanted, until_all};
use clap::Args;
use llamactl_protocol::server::Server;
use std::time::Duration;

/// Wait until servers are ready, idle, stopped or failed
///
/// Idle is ready with no request at work; it takes up to two seconds to know. Waiting for ready or
/// idle ends at once, with 8, when a server has failed, or is stopped and nobody wants it to run;
/// one that will be started again by itself is waited for. --timeout 0 only asks.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl wait qwen3 && curl http://127.0.0.1:8101/v1/models",
    "llamactl wait qwen3 gemma --for ready --timeout 5m",
    "llamactl wait qwen3 --for idle && llamactl restart qwen3",
    "llamactl wait qwen3 --timeout 0 || echo not ready";
    "0 it is so, 3 no such model, 6 daemon unreachable, 7 timed out, 8 it cannot become so, 130 interrupted"
))]
pub(crate) struct Wait {
    /// Models, by name or alias
    #[arg(required = true, value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE", default_value = "ready")]
    goal: Goal,
    /// Wait at most this long: 30s, 5m, 1h30m; 0 only asks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Waits for servers.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Wait) -> Outcome {
    let deadline = Deadline::after(args.timeout);
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let mut tally = Tally::default();
    let goal = args.goal;
    let wanted = args.names.into_iter().map(|model| Wanted { model, goal, request: None });
    let wanted: Vec<Wanted> = wanted.collect();
    until_all(output, &daemon, &wanted, deadline, async |output, place, result| {
        match tally.take_at(output, place, result)? {
            Some(server) => reached(output, goal, &server),
            None => Ok(()),
        }
    })
    .await?;
    tally.end()
}

fn reached(output: &mut Output, goal: Goal, server: &Server) -> Outcome {
    if output.json {
        return output.json(server);
    }
    if output.quiet {
        return output.names([&server.model]);
    }
    match goal {
        Goal::Ready => output.told(ready_line(server)),
        Goal::Idle => output.told(format!("{} is idle", server.model)),
        Goal::Stopped | Goal::Failed => {
            output.told(format!("{} {}", server.model, server.state.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::server::State;

    #[test]
    fn what_was_waited_for_is_so() {
        let goals = [
            (Goal::Ready, State::Ready),
            (Goal::Idle, State::Ready),
            (Goal::Stopped, State::Stopped),
            (Goal::Failed, State::Failed),
        ];
        assert_screen("wait", |output| {
            goals.iter().try_for_each(|&(goal, state)| {
                reached(output, goal, &scene::server("qwen3-8b", state))
            })
        });
    }
}
