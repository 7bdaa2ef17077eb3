//! `llamactl logs NAME…`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Tally};
use crate::follow::{Halt, conclude, halt, missed, unless_halted};
use crate::output::Output;
use crate::output::sanitize::one_line;
use crate::output::styled::{BOLD, CYCLE, DIM, RED, Style, Styled, YELLOW};
use crate::output::time::{Clock, parse_moment};
use crate::output::units;
use crate::resume::{Feed, News};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use llamactl_protocol::log::{
    LogClear, LogFollow, LogFrame, LogLevel, LogLine, LogNote, LogStream,
};
use llamactl_protocol::stream::Item;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::pin;

/// Lines shown at a terminal when nothing says how many.
const TERMINAL_LINES: u32 = 50;

/// Show the logs of servers
///
/// At a terminal the last 50 lines, in a pipe all that is kept. The run shown is the last one, and
/// where that was begun because the one before it crashed, the end of that one comes first. Lines of
/// several models are in order of time, each after its model's name. With -f new lines follow, also
/// those of later runs; following outlasts the daemon.
#[derive(Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = more!(
        "llamactl logs qwen3 -f",
        "llamactl logs qwen3 gemma3 -n 200",
        "llamactl logs qwen3 --since 10m --level warning",
        "llamactl logs qwen3 --grep 'out of (memory|space)'",
        "llamactl logs qwen3 --json | jq -r '.data.at_ms, .data.text'",
        "llamactl logs clear qwen3";
        "0 done, 3 no such model or run, 5 no regular expression\n, 6 daemon unreachable, or stopped with daemon stop, 130 interrupted"
    )
)]
pub(crate) struct Logs {
    /// Models, by name or alias
    #[arg(value_name = "NAME", required = true, add = model_names())]
    names: Vec<String>,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Only the last N of the lines asked for, of each model
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<u32>,
    /// Begin at this time: 10m (ago), 2026-01-31 12:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<i64>,
    /// End at this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment, conflicts_with = "follow")]
    until: Option<i64>,
    /// Only lines of this level or a graver one, and those that name none
    #[arg(long, value_parser = PossibleValuesParser::new(LEVELS.map(|(word, _)| word)).map(level))]
    level: Option<LogLevel>,
    /// Only lines in which this regular expression is found
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// The server's standard output instead of its log
    #[arg(long)]
    stdout: bool,
    /// Only this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

/// `llamactl logs …`
#[derive(Subcommand, Debug)]
enum What {
    /// Delete what the servers of models wrote
    #[command(after_help = more!(
        "llamactl logs clear qwen3";
        "0 done, 3 no such model, 6 daemon unreachable"
    ))]
    Clear {
        /// Models, by name or alias
        #[arg(value_name = "NAME", required = true, add = model_names())]
        names: Vec<String>,
    },
}

const LEVELS: [(&str, LogLevel); 4] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warning", LogLevel::Warning),
    ("error", LogLevel::Error),
];

fn level(word: String) -> LogLevel {
    let found = LEVELS.iter().find(|(known, _)| *known == word);
    found.map_or(LogLevel::Debug, |(_, level)| *level)
}

/// Shows logs, or clears them.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Logs) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if let Some(What::Clear { names }) = args.what {
        return clear(output, &daemon, names).await;
    }
    let is_filtered = args.since.or(args.until).is_some();
    let default = output.at_terminal() && !output.json && !is_filtered;
    let mut names = args.names;
    let mut seen = Vec::new();
    names.retain(|name| {
        let is_new = !seen.contains(name);
        seen.push(name.clone());
        is_new
    });
    let asked = names.iter().map(|name| LogFollow {
        model: name.clone().into(),
        run_id: args.run.clone().map(Into::into),
        stream: args.stdout.then_some(LogStream::Stdout),
        lines: args.lines.or(default.then_some(TERMINAL_LINES)),
        since_ms: args.since,
        until_ms: args.until,
        level: args.level,
        grep: args.grep.clone().map(Into::into),
        after: None,
        follow: Some(args.follow),
    });
    let mut asked: Vec<LogFollow> = asked.collect();
    let screen = Screen::new(names, Clock::local());
    let mut halt = pin!(halt());
    if !args.follow || screen.is_several() {
        screen.what_there_is(output, &daemon, &mut asked, &mut halt).await?;
    }
    if !args.follow {
        return output.flush();
    }
    let mut feeds = Vec::new();
    for (index, asked) in asked.into_iter().enumerate() {
        let feed = Feed::open(&daemon, LogFollow { follow: Some(true), ..asked }).await?;
        feeds.push(feed.into_stream().map(move |news| (index, news)));
    }
    // The streams have their own connections; an idle one beside them would be in the way.
    drop(daemon);
    let mut feeds = select_all(feeds);
    let mut first_told = None;
    while let Some((index, news)) = unless_halted(output, feeds.next(), &mut halt).await? {
        let news = news?;
        // All of them lose the same daemon: it is said once.
        let item = match news {
            News::Item(_, item) => item,
            other if *first_told.get_or_insert(index) == index => {
                other.told(output);
                continue;
            }
            _ => continue,
        };
        screen.item(output, index, item)?;
    }
    output.flush()
}

async fn clear(output: &mut Output, daemon: &Daemon, names: Vec<String>) -> Outcome {
    let mut tally = Tally::default();
    for model in names {
        let cleared = daemon.call(&LogClear { model: model.into() }).await.map_err(Into::into);
        let Some(cleared) = tally.take(output, cleared)? else { continue };
        if output.json {
            output.json(&cleared)?;
        } else if output.quiet {
            output.names([&cleared.model])?;
        } else {
            let freed = units::bytes(cleared.freed_bytes);
            output.line(format!("cleared the logs of {}: {freed} freed", cleared.model))?;
        }
    }
    tally.end()
}

/// Where lines go, and how the models in them are told apart.
struct Screen {
    names: Vec<String>,
    width: usize,
    clock: Clock,
}

/// What is printed of one model next, with the time it belongs to.
struct Entry {
    order_ms: i64,
    item: Item<LogFrame>,
}

/// What there is of one model's log.
struct Source {
    feed: Feed<LogFollow>,
    entries: VecDeque<Entry>,
    order_ms: i64,
    is_over: bool,
}

impl Screen {
    fn new(names: Vec<String>, clock: Clock) -> Self {
        let width = names.iter().map(|name| one_line(name).chars().count()).max().unwrap_or(0);
        Screen { names, width, clock }
    }

    fn is_several(&self) -> bool {
        self.names.len() > 1
    }

    /// Prints what is in the logs, in order of time. What is asked for is then what follows.
    async fn what_there_is(
        &self,
        output: &mut Output,
        daemon: &Daemon,
        asked: &mut [LogFollow],
        mut halt: impl Future<Output = Halt> + Unpin,
    ) -> Outcome {
        let mut sources = Vec::new();
        for asked in &*asked {
            let params = LogFollow { follow: Some(false), ..asked.clone() };
            let feed = Feed::open(daemon, params).await?;
            let (entries, is_over) = (VecDeque::new(), false);
            sources.push(Source { feed, entries, order_ms: i64::MIN, is_over });
        }
        loop {
            for source in &mut sources {
                while source.entries.is_empty() && !source.is_over {
                    let news = unless_halted(output, source.feed.next(), &mut halt).await??;
                    if let Some((_, item)) = news.told(output) {
                        source.take(item, self.is_several());
                    }
                }
            }
            let next = sources
                .iter()
                .enumerate()
                .filter_map(|(index, source)| Some((source.entries.front()?.order_ms, index)));
            let Some((_, index)) = next.min() else { break };
            if let Some(entry) = sources.get_mut(index).and_then(|it| it.entries.pop_front()) {
                self.item(output, index, entry.item)?;
            }
        }
        for (asked, source) in asked.iter_mut().zip(sources) {
            let read = source.feed.into_params();
            (asked.after, asked.lines) = (read.after, None);
        }
        Ok(())
    }

    fn item(&self, output: &mut Output, index: usize, item: Item<LogFrame>) -> Outcome {
        let name = self.names.get(index).map_or("", String::as_str);
        if output.json {
            return self.json(output, name, item);
        }
        match item {
            Item::Snapshot { data, .. } | Item::Change { data, .. } => {
                if let Some(note) = &data.note {
                    self.note(output, name, &data, note)?;
                }
                data.lines.iter().try_for_each(|line| {
                    let text = self.prefix(index).append(styled(line, output.at_terminal()));
                    output.line_unflushed(text)
                })
            }
            Item::Missed { data, .. } => {
                output.flush()?;
                output.aside(missed(data));
                Ok(())
            }
            Item::End { data, .. } => {
                output.flush()?;
                conclude(data)
            }
        }
    }

    fn prefix(&self, index: usize) -> Styled {
        match self.names.get(index).filter(|_| self.is_several()) {
            Some(name) => {
                let style = CYCLE.get(index % CYCLE.len()).copied().unwrap_or_default();
                let name = one_line(name);
                let width = self.width;
                Styled::new().with(style, format!("{name:<width$} │ "))
            }
            None => Styled::new(),
        }
    }

    fn note(&self, output: &mut Output, name: &str, at: &LogFrame, note: &LogNote) -> Outcome {
        let short = |run: &str| run.chars().take(8).collect::<String>();
        let text = match note {
            LogNote::Began { before, ended_at_ms, cause } => {
                if output.at_terminal() {
                    let when =
                        ended_at_ms.map(|at_ms| format!(" ended {}", self.clock.time(at_ms)));
                    let why = cause.as_ref().map(|cause| format!(" ({cause})"));
                    let (before, run) = (short(before), short(&at.run_id));
                    let (when, why) = (when.unwrap_or_default(), why.unwrap_or_default());
                    let rule = format!("── {name}: run {before}{when}{why}, run {run} began ──");
                    return output.line_unflushed(Styled::new().with(BOLD, one_line(&rule)));
                }
                return Ok(());
            }
            LogNote::Deleted => {
                "its log file was deleted; what the server writes is shown while it runs, and is \
                 lost then"
                    .to_owned()
            }
            LogNote::Moved { path } => {
                format!("its log file was moved, and the server writes to {path}")
            }
            LogNote::Gone => {
                format!("the log of run {} is gone: its file was deleted", short(&at.run_id))
            }
        };
        output.flush()?;
        output.warning(format!("{name}: {text}"));
        Ok(())
    }

    /// An item for each line, in the shape that the items of other streams have.
    fn json(&self, output: &mut Output, name: &str, item: Item<LogFrame>) -> Outcome {
        let kind = match &item {
            Item::Snapshot { .. } => "snapshot",
            Item::Change { .. } => "change",
            Item::Missed { .. } => "missed",
            Item::End { .. } => "end",
        };
        let at_ms = item.at_ms();
        let cursor = item.cursor().map(str::to_owned);
        let mut print = |cursor: Option<String>, data: Value| {
            let item = json!({ "kind": kind, "at_ms": at_ms, "cursor": cursor, "data": data });
            output.json_unflushed(&item)
        };
        match item {
            Item::Snapshot { data, .. } | Item::Change { data, .. } => {
                let of = |mut value: Value| {
                    if let Some(object) = value.as_object_mut() {
                        object.insert("model".to_owned(), name.into());
                        object.insert("run_id".to_owned(), data.run_id.as_str().into());
                        object.insert("stream".to_owned(), data.stream.as_str().into());
                    }
                    value
                };
                if let Some(note) = &data.note {
                    print(cursor, of(json!({ "note": note })))?;
                }
                data.lines.iter().try_for_each(|line| {
                    let value = serde_json::to_value(line).unwrap_or_default();
                    print(Some(data.cursor_behind(line)), of(value))
                })
            }
            Item::Missed { data, .. } => print(cursor, json!(data)),
            Item::End { data, .. } => {
                if !self.is_several() {
                    print(cursor, json!(data))?;
                }
                output.flush()?;
                conclude(data)
            }
        }
    }
}

impl Source {
    /// Takes an item: line by line where lines of several models are to be put in order.
    fn take(&mut self, item: Item<LogFrame>, line_by_line: bool) {
        let (at_ms, cursor) = (item.at_ms(), item.cursor().map(str::to_owned));
        match item {
            Item::Snapshot { data, .. } if line_by_line && data.note.is_none() => {
                for line in data.lines {
                    self.order_ms = line.at_ms.unwrap_or(self.order_ms).max(self.order_ms);
                    let (run_id, stream) = (data.run_id.clone(), data.stream);
                    let frame = LogFrame { run_id, stream, note: None, lines: vec![line] };
                    let item = Item::Snapshot { at_ms, cursor: cursor.clone(), data: frame };
                    self.entries.push_back(Entry { order_ms: self.order_ms, item });
                }
            }
            item => {
                self.is_over = matches!(item, Item::End { .. });
                self.entries.push_back(Entry { order_ms: self.order_ms, item });
            }
        }
    }
}

/// A line, painted by how grave llama-server says it is: for people what it says, else as it was
/// written.
pub(crate) fn styled(line: &LogLine, for_people: bool) -> Styled {
    let style = match line.level {
        Some(LogLevel::Error) => RED,
        Some(LogLevel::Warning) => YELLOW,
        Some(LogLevel::Debug) => DIM,
        Some(LogLevel::Info) | None => Style::new(),
    };
    let said = line.message.as_ref().filter(|_| for_people);
    Styled::new().with(style, said.unwrap_or(&line.text).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::{NOW_MS, assert_lines, assert_screen};
    use llamactl_protocol::stream::{End, EndReason, Missed};
    use llamactl_protocol::{Failure, Kind};

    fn line(at_ms: i64, level: Option<LogLevel>, text: &str) -> LogLine {
        let text = text.to_owned();
        LogLine { at_ms: Some(at_ms), level, text, end: 100, ..LogLine::default() }
    }

    fn item(run: &str, note: Option<LogNote>, lines: Vec<LogLine>) -> Item<LogFrame> {
        let data = LogFrame { run_id: run.into(), stream: LogStream::Stderr, note, lines };
        Item::Snapshot { at_ms: NOW_MS, cursor: Some("c".into()), data }
    }

    fn items() -> Vec<(usize, Item<LogFrame>)> {
        let jsonl =
            LogLine { message: Some("loading model".into()), ..line(7, None, "{\"msg\":…") };
        let crashed = LogNote::Began {
            before: "01a2245e-0000-7000-8000-000000000000".into(),
            ended_at_ms: Some(NOW_MS),
            cause: Some("killed".into()),
        };
        let moved = LogNote::Moved { path: "/var/log/old.log".into() };
        let error = line(3, Some(LogLevel::Error), "0.00.873.502 E srv: \u{1b}[31mbad\u{1b}[0m");
        let missed = Missed { items: None, bytes: Some(4096) };
        vec![
            (0, item("01a2245e", None, vec![line(1, Some(LogLevel::Info), "I one"), error])),
            (1, item("01a22461", None, vec![jsonl])),
            (0, item("01a22460", Some(crashed), vec![])),
            (1, item("01a22461", Some(LogNote::Deleted), vec![])),
            (1, item("01a22461", Some(moved), vec![])),
            (1, item("01a22461", Some(LogNote::Gone), vec![])),
            (1, Item::Missed { at_ms: NOW_MS, cursor: None, data: missed }),
        ]
    }

    #[test]
    fn the_logs_of_two() {
        let names = || vec!["qwen3".to_owned(), "tiny \u{1b}[31m".to_owned()];
        assert_lines("logs-two", |output| {
            let screen = Screen::new(names(), Clock::utc());
            items().into_iter().try_for_each(|(index, item)| screen.item(output, index, item))
        });
    }

    #[test]
    fn lines_as_they_were_written() {
        let lines = vec![
            line(1, Some(LogLevel::Info), "0.00.882.024 I srv  llama_server: model loaded"),
            line(
                2,
                Some(LogLevel::Error),
                "0.00.882.025 E srv  \u{1b}]0;a title\u{7} out of memory",
            ),
            line(3, None, &"a long line ".repeat(10)),
        ];
        let missed = Missed { items: None, bytes: Some(12_288) };
        assert_lines("logs", |output| {
            let screen = Screen::new(vec!["qwen3".to_owned()], Clock::utc());
            screen.item(output, 0, Item::Missed { at_ms: NOW_MS, cursor: None, data: missed })?;
            screen.item(output, 0, item("01a2245e", None, lines.clone()))
        });
    }

    #[test]
    fn the_log_of_one_as_json() {
        assert_lines("logs-json", |output| {
            output.json = true;
            let screen = Screen::new(vec!["qwen3".to_owned()], Clock::utc());
            let end = End { reason: EndReason::Done, failure: None };
            let end = (0, Item::End { at_ms: NOW_MS, cursor: Some("c".into()), data: end });
            let items = items().into_iter().chain([end]);
            items.into_iter().try_for_each(|(_, item)| screen.item(output, 0, item))
        });
    }

    #[test]
    fn an_expression_that_is_none() {
        let failure = || Failure::new(Kind::InvalidValue, "\"(\" is no regular expression");
        assert_screen("logs-no-regex", |output| scene::told(output, failure()));
        assert_eq!(LEVELS.map(|(word, _)| level(word.to_owned())), LEVELS.map(|(_, it)| it));
    }
}
