//! `llamactl events`

use crate::args::more;
use crate::complete::{event_kinds, model_names};
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::Outcome;
use crate::follow::{conclude, halt, missed, unless_halted};
use crate::output::Output;
use crate::output::sanitize::one_line;
use crate::output::styled::{BOLD, DIM, Styled};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::{Clock, parse_moment};
use crate::pages;
use crate::resume::Feed;
use crate::view::asked_by;
use clap::Args;
use llamactl_protocol::event::{Event, EventFollow, EventKind, EventList};
use llamactl_protocol::options::nearest;
use llamactl_protocol::stream::{Item, Missed};
use llamactl_protocol::{Failure, Hint, Kind};
use std::pin::pin;

/// Show what happened, when, and who asked for it
///
/// Oldest first: the last 100, or all that --since or --after ask for; -n says how many of them.
/// Events are numbered without gaps; --after goes on where an earlier look ended. With -f new events
/// follow: without --since, --after or -n, from the last one on. Following outlasts the daemon: when
/// a new one answers it goes on with the next event.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl events --since 1h",
    "llamactl events --after 0",
    "llamactl events --model qwen3 --kind server.failed",
    "llamactl events -f --kind server",
    "llamactl events -f --json | jq -c .data";
    "0 done, 3 no such model, 5 no such kind, 6 daemon unreachable, or stopped with daemon stop, 130 interrupted"
))]
pub(crate) struct Events {
    /// Go on with new events as they come
    #[arg(long, short)]
    follow: bool,
    /// Only the last N of the events asked for
    #[arg(long = "last", short = 'n', value_name = "N")]
    last: Option<u32>,
    /// Only events since this time: 10m (ago), 2026-01-31 12:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<i64>,
    /// Only events after this number
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// Only events of this model, by name or alias
    #[arg(long, value_name = "NAME", add = model_names())]
    model: Option<String>,
    /// Only events of this kind: server.failed, or server for all of servers; several times for more
    #[arg(long = "kind", value_name = "KIND", add = event_kinds())]
    kinds: Vec<String>,
}

/// Prints what happened as a table, or follows it line by line.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Events) -> Outcome {
    args.kinds.iter().try_for_each(|kind| known_kind(kind))?;
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let clock = Clock::local();
    if args.follow {
        return follow(output, daemon, args, &clock).await;
    }
    let by_default = (args.after.is_none() && args.since.is_none()).then_some(LAST);
    let mut query = Some(args.query());
    let mut screen = Screen::new(&clock);
    if let Some(last) = args.last.or(by_default) {
        let (events, more) = pages::last_events(&daemon, args.query(), last).await?;
        screen.print(output, &events)?;
        screen.end(output)?;
        if more && args.last.is_none() {
            let what = format!("these are the last {last}; see all there are");
            output.hint(&Hint::run(what, args.of_all()));
        }
        return Ok(());
    }
    while let Some(page) = pages::events(&daemon, &mut query).await? {
        if page.missed.is_some() {
            output.aside(missed(Missed { items: page.missed, bytes: None }));
        }
        screen.print(output, &page.items)?;
    }
    screen.end(output)
}

/// Refuses a kind that no event is of, which the daemon would wait for in vain.
fn known_kind(asked: &str) -> Result<(), Failure> {
    let all: Vec<&str> = EventKind::ALL.iter().map(|(_, kind, _)| *kind).collect();
    let stem = asked.trim_end_matches('*').trim_end_matches('.');
    let is_of = |kind: &str| {
        kind.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if all.iter().any(|kind| is_of(kind)) {
        return Ok(());
    }
    let failure = Failure::new(Kind::InvalidValue, format!("there is no kind of event {asked}"));
    Err(match nearest(asked, &all) {
        Some(near) => {
            failure.hint(Hint::run("did you mean", ["llamactl", "events", "--kind", near]))
        }
        None => failure.hint(format!("there are {}", all.join(", "))),
    })
}

/// Events as they are printed: at a terminal under the days they belong to, in a pipe as a table.
struct Screen<'a> {
    clock: &'a Clock,
    table: Table,
    day: Option<String>,
}

impl<'a> Screen<'a> {
    fn new(clock: &'a Clock) -> Self {
        let table = Table::new([
            Column::number("SEQ", 0),
            Column::word("TIME", 0),
            Column::word("EVENT", 0),
            Column::text("MODEL", 0),
            Column::text("BY", 0),
            Column::prose("MESSAGE", 0),
        ]);
        Screen { clock, table, day: None }
    }

    /// Prints these, or puts them into the table.
    fn print(&mut self, output: &mut Output, events: &[Event]) -> Outcome {
        if output.json {
            return output.json_lines(events);
        }
        if output.quiet {
            return output.names(events.iter().map(|event| event.seq.to_string()));
        }
        if output.at_terminal() {
            return events.iter().try_for_each(|event| self.line(output, event));
        }
        events.iter().for_each(|event| self.row(event));
        Ok(())
    }

    /// Prints what was collected.
    fn end(self, output: &mut Output) -> Outcome {
        output.table(&self.table)
    }

    fn row(&mut self, event: &Event) {
        self.table.row([
            Cell::from(event.seq.to_string()),
            Cell::from(self.clock.full(event.at_ms)),
            Cell::from(event.kind.as_str()),
            known(event.model.as_ref()),
            Cell::from(event.by.to_string()),
            Cell::from(&event.message),
        ]);
    }

    /// An event on lines of its own. At a terminal its day stands above the first of it, elsewhere
    /// in each.
    fn line(&mut self, output: &mut Output, event: &Event) -> Outcome {
        let time = match output.at_terminal() {
            true => {
                let day = self.clock.day(event.at_ms);
                if self.day.as_ref() != Some(&day) {
                    output.line_unflushed(Styled::new().with(DIM, format!("── {day} ──")))?;
                    self.day = Some(day);
                }
                self.clock.time(event.at_ms)
            }
            false => self.clock.full(event.at_ms),
        };
        let head = Styled::new()
            .with(DIM, format!("{:>4}  {time}  ", event.seq))
            .with(BOLD, format!("{:<15}  ", one_line(event.kind.as_str())));
        output.entry(head, Styled::from(event.message.as_str()).with(DIM, asked_by(event)))
    }
}

/// So many events are shown where nobody says which.
const LAST: u32 = 100;

impl Events {
    /// The command that prints all of what was asked for.
    fn of_all(&self) -> Vec<String> {
        let mut command = vec!["llamactl", "events", "--after", "0"];
        command.extend(self.model.iter().flat_map(|model| ["--model", model.as_str()]));
        command.extend(self.kinds.iter().flat_map(|kind| ["--kind", kind.as_str()]));
        command.into_iter().map(str::to_owned).collect()
    }

    fn query(&self) -> EventList {
        EventList {
            after: self.after,
            before: None,
            since_ms: self.since,
            model: self.model.clone().map(Into::into),
            kinds: self.kinds.clone().into(),
            limit: None,
        }
    }
}

async fn follow(output: &mut Output, daemon: Daemon, args: Events, clock: &Clock) -> Outcome {
    let first = match args.last {
        Some(last) => {
            pages::last_events(&daemon, args.query(), last).await?.0.first().map(|it| it.seq)
        }
        None => None,
    };
    let mut params = EventFollow {
        after: first.map(|seq| seq - 1).or(args.after),
        since_ms: args.since,
        model: args.model.map(Into::into),
        kinds: args.kinds.into(),
    };
    if params.after.is_none() && params.since_ms.is_none() {
        // So that there is a cursor before the first event comes. The last event there is stands
        // first, as the state now.
        let last = EventList { limit: Some(1), after: Some(i64::MAX), ..EventList::default() };
        params.after = Some((daemon.call(&last).await?.last - 1).max(0));
    }
    let mut feed = Feed::open(&daemon, params).await?;
    drop(daemon);
    let mut halt = pin!(halt());
    let mut screen = Screen::new(clock);
    loop {
        let news = unless_halted(output, feed.next(), &mut halt).await??;
        let Some((raw, item)) = news.told(output) else { continue };
        if output.json {
            output.json_unflushed(&raw)?;
        }
        match item {
            Item::End { data, .. } => {
                output.flush()?;
                return conclude(data);
            }
            _ if output.json => {}
            Item::Missed { data, .. } => output.aside(missed(data)),
            Item::Snapshot { data, .. } | Item::Change { data, .. } if output.quiet => {
                output.line_unflushed(data.seq.to_string())?;
            }
            Item::Snapshot { data, .. } | Item::Change { data, .. } => {
                screen.line(output, &data)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_happened() {
        assert_screen("events", |output| {
            let clock = Clock::utc();
            let mut screen = Screen::new(&clock);
            screen.print(output, &scene::events())?;
            screen.end(output)
        });
    }

    #[test]
    fn what_happens() {
        assert_screen("events-follow", |output| {
            let clock = Clock::utc();
            let mut screen = Screen::new(&clock);
            scene::events().iter().try_for_each(|event| screen.line(output, event))
        });
    }
}
