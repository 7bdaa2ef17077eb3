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

/// Lists servers.
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
    let (servers, sample) =
        tokio::join!(pages::servers(&daemon, args.all), daemon.call(&MetricsSample {}));
    let (servers, sample) = (servers?, sample.ok());
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
    use crate::view::tests::server;
    use llamactl_protocol::metrics::{Host, LlamaSample, ProcessSample, ServerSample};
    use llamactl_protocol::warning::{Warning, WarningCode};

    #[test]
    fn a_row_says_what_is_known_and_no_more() {
        let mut failed = server("b", State::Failed);
        failed.model_id = 2;
        failed.cause.as_mut().unwrap().message = "the file ends early".into();
        let sample = Sample {
            seq: 1,
            at_ms: 0,
            host: Host::default(),
            gpus: None,
            servers: vec![ServerSample {
                model_id: 1,
                model: "a".into(),
                run_id: "r".into(),
                state: State::Ready,
                process: ProcessSample {
                    memory_anonymous_bytes: Some(1 << 30),
                    gpu_memory_bytes: Some(2 << 30),
                    ..ProcessSample::default()
                },
                llama: Some(LlamaSample {
                    slots: Some(4),
                    slots_busy: Some(1),
                    generated_tokens_per_second: Some(42.05),
                    ..LlamaSample::default()
                }),
            }],
            daemon: ProcessSample::default(),
        };
        let mut again = server("c", State::Backoff);
        (again.model_id, again.restarts, again.restart_at_ms) = (3, 2, Some(1_203_000));
        again.cause.as_mut().unwrap().message = "it was killed".into();
        let servers = [server("a", State::Ready), failed, again];
        assert_eq!(
            table(&servers, Some(&sample), 1_200_000, false).render(false, None),
            "NAME  STATE              UP  RESTARTS  ENDPOINT                  DEVICE        CTX  SLOTS  TOK/S      MEM   PID  CAUSE\n\
             a     ready          3m 20s         0  http://127.0.0.1:8101/v1  gpu 2.0 GiB  4096    1/4   42.0  1.0 GiB  4711  -\n\
             b     failed         3m 20s         0  -                         -               -      -      -        -     -  the file ends early\n\
             c     backoff 3.0 s  3m 20s         2  -                         -               -      -      -        -     -  it was killed\n"
        );
        let narrow = table(&servers, Some(&sample), 1_200_000, true).render(false, None);
        assert!(narrow.contains("  127.0.0.1:8101  gpu 2.0 GiB  "), "{narrow}");
    }

    #[test]
    fn what_runs_on_the_cpu_against_its_wish_is_said() {
        let mut server = server("a", State::Ready);
        let message = "on the CPU, although a GPU was asked for";
        server.warnings = vec![Warning::new(WarningCode::OnCpu, message)];
        server.device = Some("cpu".into());
        let text = table(&[server], None, 1_200_000, false).render(false, None);
        assert!(text.contains("  cpu  ") && text.contains(message), "{text}");
    }
}
