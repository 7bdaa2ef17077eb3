//! `llamactl ps`

use super::ps_follow;
use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::now_ms;
use crate::output::units;
use crate::pages;
use crate::view::{
    Standing, device, endpoint, loading, sample_of, short_endpoint, since_ms, state_cell, trouble,
    worst_first,
};
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::prose::counted;
use llamactl_protocol::server::{OtherServer, Server, State};

/// List servers: state, endpoint, memory, speed
///
/// Shows the servers that run, are about to, or failed, the worst first; --all also models that are
/// stopped. FOR is how long a server has been in its state, MEM the memory of its own. With -f it
/// goes on, also past a restart of the daemon.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl ps",
    "llamactl ps --all",
    "llamactl ps -f",
    "llamactl ps --json | jq -r 'select(.state == \"ready\") | .endpoint.url // empty'";
    "0 done, 6 daemon unreachable, 130 interrupted"
))]
pub(crate) struct Ps {
    /// Also models whose servers are stopped
    #[arg(long, short)]
    all: bool,
    /// Go on with changes as they come: the table is drawn again; in a pipe a line for each
    #[arg(long, short)]
    follow: bool,
}

/// Prints the servers, for people with what was measured of them.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Ps) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let mut list = pages::servers(&daemon, args.all).await?;
    if args.follow {
        output.remarks(None, &list.warnings);
        return Box::pin(ps_follow::run(output, daemon, list.servers, args.all)).await;
    }
    if output.json {
        return output.json_lines(&list.servers);
    }
    if output.quiet {
        return output.names(list.servers.iter().map(|server| &server.model));
    }
    worst_first(&mut list.servers);
    output.remarks(None, &list.warnings);
    let sample = list.sample_or_asked(&daemon).await;
    show(output, &list.servers, sample.as_ref(), now_ms())?;
    if output.at_terminal() {
        if list.servers.is_empty() {
            let models = pages::models(&daemon).await?.len() as u64;
            output.note(nothing_listed(models, args.all));
        }
        tell_of_others(output, &list.others);
    }
    Ok(())
}

fn show(output: &mut Output, servers: &[Server], sample: Option<&Sample>, now_ms: i64) -> Outcome {
    output.table(&table(servers, sample, now_ms, output.at_terminal()))?;
    let worst = servers.first().filter(|server| Standing::of(server).is_trouble());
    if let Some(server) = worst.filter(|_| output.at_terminal()) {
        let why = ["llamactl", "why", &server.model];
        output.hint(&Hint::run("what happened and what to do", why));
    }
    Ok(())
}

/// So many llama-servers of others are named.
const OTHERS: usize = 3;

/// What else runs on this machine.
fn tell_of_others(output: &Output, others: &[OtherServer]) {
    let told = others.iter().take(OTHERS).map(|other| {
        format!("pid {} ({})", other.pid, output.look.tidy(&other.program.to_string()))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => {}
        1 => output.note(format!("a llama-server runs that llamactl did not start: {told}")),
        n => {
            let more = if n > OTHERS { ", …" } else { "" };
            output.note(format!("{n} llama-servers run that llamactl did not start: {told}{more}"));
        }
    }
}

/// That there is nothing to list, and what would change that.
pub(super) fn nothing_listed(models: u64, all: bool) -> String {
    match (models, all) {
        (0, _) => "no models yet: llamactl model add FILE, or llamactl model scan".to_owned(),
        (_, true) => "no server is known".to_owned(),
        (n, false) => {
            let models = counted(n, "model");
            format!("no server is running ({models}): llamactl ps --all")
        }
    }
}

/// The table of servers, beside what was measured of them; `short` leaves out what only a pipe
/// needs.
pub(crate) fn table(
    servers: &[Server],
    sample: Option<&Sample>,
    now_ms: i64,
    short: bool,
) -> Table {
    let mut table = Table::new([
        Column::name("NAME"),
        Column::word("STATE", 0),
        Column::word("FOR", 0),
        Column::word("ENDPOINT", 0),
        Column::word("DEVICE", 3),
        Column::number("CTX", 5),
        Column::number("SLOTS", 1),
        Column::number("TOK/S", 2),
        Column::number("MEM", 4),
        Column::number("RESTARTS", 6).unless_all("0"),
        Column::number("PID", 7),
    ])
    .with_remarks("CAUSE");
    let loading = loading(servers);
    let gpus = sample.and_then(|sample| sample.gpus.as_deref());
    for server in servers {
        let runs = !server.state.is_settled_down() && server.state != State::Backoff;
        let measured = sample_of(sample, server).filter(|_| runs);
        let llama = measured.and_then(|sample| sample.llama.as_ref());
        let in_force = server.in_force.as_ref();
        let run = server.run.as_ref().filter(|_| runs);
        let slots = in_force.and_then(|in_force| in_force.slots);
        let slots = llama.and_then(|llama| llama.slots).or(slots).map(|slots| {
            let busy = llama.and_then(|llama| llama.slots_busy).map(|busy| busy.to_string());
            format!("{}/{slots}", busy.as_deref().unwrap_or(units::UNKNOWN))
        });
        let speed = llama.and_then(|llama| llama.generated_tokens_per_second);
        let process = measured.map(|sample| &sample.process);
        let memory = process.and_then(|process| process.memory_anonymous_bytes);
        let at = if short { short_endpoint(server) } else { endpoint(server) };
        let cells = [
            Cell::from(&server.model),
            state_cell(server, now_ms),
            Cell::from(units::between(since_ms(server), now_ms)),
            known(at.filter(|_| runs && server.state != State::Queued)),
            known(device(server, process, gpus).filter(|_| runs)),
            known(in_force.filter(|_| runs).and_then(|f| f.context_tokens).map(|n| n.to_string())),
            known(slots.filter(|_| runs)),
            known(speed.map(units::rate)),
            known(memory.map(units::bytes)),
            Cell::from(server.restarts.to_string()),
            known(run.and_then(|run| run.pid).map(|pid| pid.to_string())),
        ];
        table.row_with(cells, trouble(server, &loading, now_ms));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_screen};

    #[test]
    fn servers_in_every_state_a_person_meets() {
        assert_screen("ps", |output| {
            let mut servers = scene::servers();
            worst_first(&mut servers);
            show(output, &servers, Some(&scene::sample()), NOW_MS)
        });
    }

    #[test]
    fn all_is_well() {
        assert_screen("ps-well", |output| {
            show(output, &scene::well(), Some(&scene::sample()), NOW_MS)
        });
    }

    #[test]
    fn nothing_to_list() {
        assert_screen("ps-empty", |output| {
            [(0, false), (12, false), (1, false)].iter().for_each(|&(models, all)| {
                output.note(nothing_listed(models, all));
            });
            tell_of_others(output, &scene::others());
            Ok(())
        });
    }

    #[test]
    fn without_a_sample_what_it_would_say_is_unknown() {
        let servers = [scene::server("m", State::Ready)];
        assert_screen("ps-unmeasured", |output| {
            output.table(&table(&servers, None, NOW_MS, output.at_terminal()))
        });
    }
}
