//! `llamactl ps`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::time::now_ms;
use crate::output::units;
use crate::pages;
use crate::view::{
    device, endpoint, queue_reason, resident_bytes, sample_of, short_endpoint, state_style,
    state_text_at,
};
use clap::Args;
use llamactl_protocol::metrics::{MetricsSample, Sample};
use llamactl_protocol::server::{Server, State};

/// List servers: state, endpoint, memory, speed
///
/// Shows the servers that run, are about to, or failed; --all also models that are stopped. UP is
/// how long a server has been in its state, RESTARTS how often it was started again by itself.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl ps",
    "llamactl ps --all",
    "llamactl ps --json | jq -r 'select(.state == \"ready\") | .endpoint.url'";
    "0 done  6 daemon unreachable"
))]
pub(crate) struct Ps {
    /// Also models whose servers are stopped
    #[arg(long, short)]
    all: bool,
}

/// Prints the servers, for people with what was measured of them.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Ps) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if !output.for_people() {
        let servers = pages::servers(&daemon, args.all).await?;
        return if output.json {
            output.json_lines(&servers)
        } else {
            output.names(servers.iter().map(|server| &server.model))
        };
    }
    let (servers, sample) = tokio::join!(
        pages::servers_and_warnings(&daemon, args.all),
        daemon.call(&MetricsSample {})
    );
    let ((servers, warnings), sample) = (servers?, sample.ok());
    output.warnings(&warnings);
    output.table(&table(&servers, sample.as_ref(), now_ms(), output.terminal))
}

/// The table of servers, beside what was measured of them; `short` leaves the directories of Unix
/// sockets out, for the width of a terminal.
pub(crate) fn table(
    servers: &[Server],
    sample: Option<&Sample>,
    now_ms: i64,
    short: bool,
) -> Table {
    let mut table = Table::new([
        Column("NAME", Align::Left),
        Column("STATE", Align::Left),
        Column("UP", Align::Right),
        Column("RESTARTS", Align::Right),
        Column("ENDPOINT", Align::Left),
        Column("DEVICE", Align::Left),
        Column("CTX", Align::Right),
        Column("SLOTS", Align::Right),
        Column("TOK/S", Align::Right),
        Column("MEM", Align::Right),
        Column("PID", Align::Right),
        Column("CAUSE", Align::Left),
    ]);
    for server in servers {
        let measured = sample_of(sample, server);
        let llama = measured.and_then(|sample| sample.llama.as_ref());
        let in_force = server.in_force.as_ref();
        let runs = !server.state.is_settled_down() && server.state != State::Backoff;
        let run = server.run.as_ref().filter(|_| runs);
        let slots = in_force.and_then(|in_force| in_force.slots);
        let slots = llama.and_then(|llama| llama.slots).or(slots).map(|slots| {
            let busy = llama.and_then(|llama| llama.slots_busy).map(|busy| busy.to_string());
            format!("{}/{slots}", busy.as_deref().unwrap_or(units::UNKNOWN))
        });
        let speed = llama.and_then(|llama| llama.generated_tokens_per_second);
        let memory = measured.and_then(|sample| resident_bytes(&sample.process));
        table.row([
            Cell::from(&server.model),
            Cell::styled(state_style(server.state), state_text_at(server, now_ms)),
            Cell::from(units::between(server.since_ms, now_ms)),
            Cell::from(server.restarts.to_string()),
            known(if short { short_endpoint(server) } else { endpoint(server) }.filter(|_| runs)),
            known(device(server, measured.map(|sample| &sample.process)).filter(|_| runs)),
            known(in_force.filter(|_| runs).and_then(|f| f.context_tokens).map(|n| n.to_string())),
            known(slots.filter(|_| runs)),
            known(speed.map(units::rate)),
            known(memory.map(units::bytes)),
            known(run.and_then(|run| run.pid).map(|pid| pid.to_string())),
            known(cause(server)),
        ]);
    }
    table
}

/// Why a server is in its state, where that is not plain; what to look at where it runs.
fn cause(server: &Server) -> Option<String> {
    let pending = &server.pending;
    let overrides: Vec<&str> = server.overrides.keys().map(String::as_str).collect();
    let remarks = [
        server.warnings.first().map(|worst| worst.message.clone()),
        (!pending.is_empty()).then(|| format!("{}: on restart", pending.join(", "))),
        (!overrides.is_empty()).then(|| format!("{}: this run alone", overrides.join(", "))),
    ];
    let remarks: Vec<String> = remarks.into_iter().flatten().collect();
    let remarks = (!remarks.is_empty()).then(|| remarks.join("; "));
    match server.state {
        State::Ready | State::Sleeping => remarks,
        State::Queued => server.queue.as_ref().map(|queue| queue_reason(queue).to_owned()),
        _ => server.cause.as_ref().map(|cause| cause.message.clone()).or(remarks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn servers_in_every_state_a_person_meets() {
        let (servers, sample) = (scene::servers(), scene::sample());
        assert_screen("ps", |output| {
            output.table(&table(&servers, Some(&sample), NOW_MS, output.terminal))
        });
    }

    #[test]
    fn without_a_sample_what_it_would_say_is_unknown() {
        let servers = [scene::server("m", State::Ready)];
        let text = table(&servers, None, NOW_MS, false).render(false, None);
        assert!(text.contains("    -/4      -    -  4711  -"), "{text}");
    }
}
