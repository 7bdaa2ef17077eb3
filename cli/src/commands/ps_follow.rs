//! `llamactl ps -f`: servers as they change.
//!
//! ```text
//!   server.follow ──▶ how each is ─╮
//!                                  ├▶ a terminal: the table, drawn anew
//!   metrics.follow ─▶ a second ────╯  elsewhere:  a line for each change
//! ```

use super::ps::table;
use crate::connection::Daemon;
use crate::exit::Outcome;
use crate::follow::{conclude, halt, unless_halted};
use crate::output::Output;
use crate::output::styled::{DIM, Styled};
use crate::output::time::{Clock, now_ms};
use crate::resume::{Feed, News};
use crate::view::{Standing, endpoint, loading, state_text_at, trouble, worst_first};
use llamactl_protocol::metrics::{Measured, MetricsFollow, Sample};
use llamactl_protocol::server::{Server, ServerFollow, State};
use llamactl_protocol::stream::Item;
use std::collections::BTreeMap;
use std::pin::pin;

/// Follows servers until the person has enough; `servers` are those to begin with.
pub(super) async fn run(
    output: &mut Output,
    daemon: Daemon,
    servers: Vec<Server>,
    all: bool,
) -> Outcome {
    let mut changes = Feed::open(&daemon, ServerFollow::default()).await?;
    let redraws = output.at_terminal() && output.for_people();
    let mut samples = match redraws {
        true => Some(Feed::open(&daemon, MetricsFollow::default()).await?),
        false => None,
    };
    drop(daemon);
    let mut screen = Screen { all, ..Screen::default() };
    screen.begin_with(servers);
    let clock = Clock::local();
    let mut halt = pin!(halt());
    loop {
        if redraws {
            screen.draw(output)?;
        }
        let next = async {
            match &mut samples {
                Some(samples) => tokio::select! {
                    biased;
                    change = changes.next() => change.map(|news| Came::Change(Box::new(news))),
                    sample = samples.next() => sample.map(Came::Sample),
                },
                None => changes.next().await.map(|news| Came::Change(Box::new(news))),
            }
        };
        match unless_halted(output, next, &mut halt).await?? {
            Came::Change(news) => {
                if matches!(*news, News::Resumed { .. }) {
                    // What the new daemon does not tell of does not run any more.
                    screen.begin_with(vec![]);
                }
                let Some((raw, item)) = news.told(output) else { continue };
                if output.json {
                    output.json_unflushed(&raw)?;
                }
                match item {
                    Item::Snapshot { data, .. } | Item::Change { data, .. } => {
                        if !redraws && !output.json {
                            screen.line(output, &data, &clock)?;
                        }
                        screen.take(data);
                    }
                    Item::Missed { .. } => {}
                    Item::End { data, .. } => return conclude(data),
                }
            }
            // That the daemon is away its other stream tells.
            Came::Sample(News::Item(
                _,
                Item::Snapshot { data, .. } | Item::Change { data, .. },
            )) => {
                screen.sample = Measured::into_sample(data).or(screen.sample);
            }
            Came::Sample(_) => {}
        }
    }
}

/// Something that came.
enum Came {
    Change(Box<News<Server>>),
    Sample(News<Measured>),
}

/// What is known, and what of it is shown.
#[derive(Default)]
struct Screen {
    servers: BTreeMap<i64, Server>,
    sample: Option<Sample>,
    /// Also servers that are stopped.
    all: bool,
    /// So many lines of the table stand above the cursor.
    drawn: usize,
}

impl Screen {
    fn begin_with(&mut self, servers: Vec<Server>) {
        self.servers = servers.into_iter().map(|server| (server.model_id, server)).collect();
    }

    fn take(&mut self, server: Server) {
        if server.state == State::Stopped && !self.all {
            self.servers.remove(&server.model_id);
        } else {
            self.servers.insert(server.model_id, server);
        }
    }

    /// Draws the table in the place of the one before.
    fn draw(&mut self, output: &mut Output) -> Outcome {
        let mut servers: Vec<Server> = self.servers.values().cloned().collect();
        worst_first(&mut servers);
        let text = table(&servers, self.sample.as_ref(), now_ms(), true).render(&output.look);
        let text = match text.is_empty() {
            true => "no server is running\n".to_owned(),
            false => text,
        };
        // What is above the top of the screen could not be drawn over.
        let rows = output.look.rows.map_or(usize::MAX, |rows| rows.saturating_sub(1).max(1));
        let lines: Vec<&str> = text.lines().take(rows).collect();
        let up = match self.drawn {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}F\u{1b}[J"),
        };
        self.drawn = lines.len();
        output.bytes(format!("{up}{}\n", lines.join("\n")).as_bytes())
    }

    /// A line for a change: when, which, what, where or why.
    fn line(&self, output: &mut Output, server: &Server, clock: &Clock) -> Outcome {
        if output.quiet {
            return output.line_unflushed(server.model.as_str());
        }
        let now_ms = now_ms();
        let others: Vec<Server> = self.servers.values().cloned().collect();
        let more = trouble(server, &loading(&others), now_ms);
        let more = more.or_else(|| endpoint(server).filter(|_| server.state == State::Ready));
        let more = more.map(|more| format!("  {more}")).unwrap_or_default();
        output.line_unflushed(
            Styled::new()
                .with(DIM, clock.full(now_ms))
                .plain(format!("  {}  ", server.model))
                .with(Standing::of(server).style(), state_text_at(server, now_ms))
                .plain(more),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;

    #[test]
    fn one_that_is_stopped_leaves_unless_all_are_shown() {
        for all in [false, true] {
            let mut screen = Screen { all, ..Screen::default() };
            screen.begin_with(vec![scene::server("m", State::Ready)]);
            screen.take(scene::server("m", State::Stopped));
            assert_eq!(screen.servers.len(), usize::from(all));
        }
    }
}
