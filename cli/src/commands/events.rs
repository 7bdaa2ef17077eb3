//! `llamactl events`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::follow;
use crate::output::Output;
use crate::output::sanitize::one_line;
use crate::output::styled::{BOLD, DIM, Styled};
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::time::{Clock, parse_moment};
use crate::pages;
use clap::Args;
use llamactl_protocol::event::{Event, EventFollow, EventList};

/// Show what happened and why
///
/// Oldest first. Events are numbered without gaps; --after goes on where an earlier look ended.
/// With -f new events follow: without --since or --after, from now on.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl events --since 1h",
    "llamactl events --model qwen3",
    "llamactl events -f --json | jq -c .data";
    "0 done  3 no such model  6 daemon unreachable  130 interrupted"
))]
pub(crate) struct Events {
    /// Go on with new events as they come
    #[arg(long, short)]
    follow: bool,
    /// Only events since this time: 10m (ago), 2026-01-31 12:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<i64>,
    /// Only events behind this number
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// Only events of this model, by name or alias
    #[arg(long, value_name = "NAME", add = model_names())]
    model: Option<String>,
}

/// Shows events.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Events) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let clock = Clock::local();
    if args.follow {
        let params = EventFollow { after: args.after, since_ms: args.since, model: args.model };
        let mut stream = daemon.follow(&params).await?;
        drop(daemon);
        return follow::to_stdout(output, &mut stream, |output, event| {
            output.line_unflushed(line(&event, &clock))
        })
        .await;
    }
    let mut query =
        Some(EventList { after: args.after, since_ms: args.since, model: args.model, limit: None });
    let mut table = table();
    while let Some(events) = pages::events(&daemon, &mut query).await? {
        if output.json {
            output.json_lines(&events)?;
        } else if output.quiet {
            output.names(events.iter().map(|event| event.seq.to_string()))?;
        } else {
            events.iter().for_each(|event| row(&mut table, event, &clock));
        }
    }
    output.table(&table)
}

fn table() -> Table {
    Table::new([
        Column("SEQ", Align::Right),
        Column("TIME", Align::Left),
        Column("EVENT", Align::Left),
        Column("MODEL", Align::Left),
        Column("BY", Align::Left),
        Column("MESSAGE", Align::Left),
    ])
}

fn row(table: &mut Table, event: &Event, clock: &Clock) {
    table.row([
        Cell::from(event.seq.to_string()),
        Cell::styled(DIM, clock.full(event.at_ms)),
        Cell::from(&event.kind),
        known(event.model.as_ref()),
        Cell::from(&event.by),
        Cell::from(&event.message),
    ]);
}

/// An event on a line of its own, for following.
fn line(event: &Event, clock: &Clock) -> Styled {
    Styled::new()
        .with(DIM, format!("{:>5}  {}  ", event.seq, clock.full(event.at_ms)))
        .with(BOLD, format!("{:<18}", one_line(&event.kind)))
        .plain(format!("  {}", one_line(&event.message)))
        .with(DIM, format!("  ({})", one_line(&event.by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            seq: 7,
            at_ms: i64::MAX,
            kind: "server.ready".into(),
            model_id: Some(1),
            model: Some("m".into()),
            run_id: None,
            by: "policy".into(),
            message: "ready\nafter 2 s".into(),
            details: None,
        };
        let clock = Clock::local();
        assert_eq!(
            line(&event, &clock).render(false, false),
            "    7  -  server.ready        ready after 2 s  (policy)"
        );
        let mut table = table();
        row(&mut table, &event, &clock);
        assert!(table.render(false, None).ends_with("policy  ready after 2 s\n"));
    }
}
