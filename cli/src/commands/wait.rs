//! `llamactl wait NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::time::parse_duration;
use crate::view::ready_line;
use crate::waiting::{Deadline, Goal, until};
use clap::Args;
use std::time::Duration;

/// Wait until a server is ready, stopped or failed
///
/// Waiting for `ready` ends at once, with 8, when the server has failed or is stopped and nobody
/// wants it to run. `--timeout 0` only asks.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl wait qwen3 && curl http://127.0.0.1:8101/v1/models",
    "llamactl wait qwen3 --for stopped --timeout 1m",
    "llamactl wait qwen3 --timeout 0 || echo not ready";
    "0 it is so  3 no such model  6 daemon unreachable  7 timed out  8 it cannot become so  130 interrupted"
))]
pub(crate) struct Wait {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE", default_value = "ready")]
    goal: Goal,
    /// Wait at most this long: 30s, 5m, 1h30m; 0 only asks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Waits for a server.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Wait) -> Outcome {
    let deadline = Deadline::after(args.timeout);
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let server = until(output, &daemon, &args.name, args.goal, None, deadline).await?;
    if output.json {
        output.json(&server)
    } else if output.quiet {
        output.names([&server.model])
    } else if args.goal == Goal::Ready {
        output.line(ready_line(&server))
    } else {
        output.line(format!("{} {}", server.model, server.state.as_str()))
    }
}
