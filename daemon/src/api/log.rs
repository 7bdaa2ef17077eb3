//! `log.*`

use super::registration::{Caller, Emission, Source};
use crate::api::app::App;
use crate::logs::file::{RunLog, Stream};
use crate::logs::index::TimeIndex;
use crate::logs::line::{Level, Line};
use crate::logs::split::RawLine;
use crate::logs::tail::{Chunk, Start, Tail, TailError};
use crate::logs::watch::Watcher;
use crate::store::registry::Registry;
use crate::supervisor::Supervisor;
use llamactl_protocol::log::{LogFollow, LogLevel, LogLine, LogStream};
use llamactl_protocol::server::Server;
use llamactl_protocol::stream::Missed;
use llamactl_protocol::{Failure, Kind};
use std::collections::VecDeque;
use tokio::sync::watch;

pub(super) async fn follow(app: &App, _: Caller, follow: LogFollow) -> Result<Lines, Failure> {
    let model = app.registry.model(&follow.model).await?;
    let status = app.supervisor.watch(&model).await?;
    let cursor = follow.after.as_deref().map(Cursor::parse).transpose()?;
    let stream = cursor.as_ref().map_or(follow.stream.unwrap_or_default(), |cursor| cursor.stream);
    let asked = follow.run_id.clone().or(cursor.as_ref().map(|cursor| cursor.run.clone()));
    let run = match &asked {
        Some(run) => {
            let found = app.registry.run(run).await?.filter(|found| found.model_id == model.id);
            let found = found.ok_or_else(|| no_run(run))?;
            Some(found.id)
        }
        None => app.registry.last_run(model.id).await?.map(|run| run.id),
    };
    let mut lines = Lines {
        registry: app.registry.clone(),
        model_id: model.id,
        missed: false,
        supervisor: app.supervisor.clone(),
        watcher: app.supervisor.watcher().clone(),
        status,
        stream,
        only_this_run: follow.run_id.is_some(),
        follow: follow.follow.unwrap_or(true),
        reading: None,
        done_with: None,
        queue: VecDeque::new(),
    };
    if let Some(run) = run {
        let log = app.supervisor.log_of(&run)?;
        let start = match (&cursor, follow.since_ms, follow.lines) {
            (Some(cursor), _, _) => Start::Offset(cursor.offset),
            (None, Some(since_ms), _) => since(&log, stream, since_ms),
            (None, None, Some(lines)) => Start::LastLines(lines as usize),
            (None, None, None) => Start::Floor,
        };
        match lines.open(&run, start).await {
            Ok(()) => {}
            // Not written yet, or cleared away. For a run asked for by name that is a refusal; a
            // cursor goes on with what is kept.
            Err(TailError::NotFound(_)) if asked.is_none() => {}
            Err(TailError::NotFound(_)) if follow.run_id.is_none() => {
                lines.missed = true;
                lines.done_with = Some(run);
            }
            Err(TailError::NotFound(_)) => return Err(no_run(&run)),
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(lines)
}

fn no_run(run: &str) -> Failure {
    Failure::new(
        Kind::RunNotFound,
        format!("there is no run {run} of this model, or its log is gone"),
    )
    .hint("the logs of a model's last ten runs are kept")
}

fn unreadable(error: &TailError) -> Failure {
    Failure::new(Kind::IoFailed, error.to_string())
}

/// Where the lines since a time begin, as near as is known; only stderr has an index of times.
fn since(log: &RunLog, stream: LogStream, since_ms: i64) -> Start {
    match stream {
        LogStream::Stderr => TimeIndex::read(&log.times_path())
            .ok()
            .and_then(|index| index.offset_at(since_ms))
            .map_or(Start::Floor, Start::LineAt),
        LogStream::Stdout => Start::Floor,
    }
}

/// `run:stream:offset`
struct Cursor {
    run: String,
    stream: LogStream,
    offset: u64,
}

impl Cursor {
    fn parse(text: &str) -> Result<Cursor, Failure> {
        let parse = || {
            let (run, rest) = text.split_once(':')?;
            let (stream, offset) = rest.split_once(':')?;
            let stream = match stream {
                "stderr" => LogStream::Stderr,
                "stdout" => LogStream::Stdout,
                _ => return None,
            };
            Some(Cursor { run: run.to_owned(), stream, offset: offset.parse().ok()? })
        };
        parse().ok_or_else(|| {
            Failure::new(Kind::InvalidValue, format!("{text:?} is no cursor of a log"))
                .hint("pass a cursor as an item of this stream had it")
        })
    }

    fn text(run: &str, stream: LogStream, offset: u64) -> String {
        format!("{run}:{}:{offset}", stream.as_str())
    }
}

/// The run being read.
struct Reading {
    run: String,
    tail: Tail,
    ended: watch::Sender<bool>,
    /// Lines up to here were there when the stream was opened.
    snapshot_until: u64,
    offset: u64,
}

/// Lines of a model's run, and of those that follow it. A slow reader slows only itself: the file
/// is the queue, and what was freed before it was read is said.
pub(super) struct Lines {
    registry: Registry,
    model_id: i64,
    supervisor: Supervisor,
    watcher: Watcher,
    status: watch::Receiver<Server>,
    stream: LogStream,
    only_this_run: bool,
    follow: bool,
    /// The cursor's log is gone, and that is still to be said.
    missed: bool,
    reading: Option<Reading>,
    done_with: Option<String>,
    queue: VecDeque<RawLine>,
}

impl Lines {
    async fn open(&mut self, run: &str, start: Start) -> Result<(), TailError> {
        let no_log = |_| TailError::NotFound(run.into());
        let log = self.supervisor.log_of(run).map_err(no_log)?;
        let path = log.path(match self.stream {
            LogStream::Stderr => Stream::Stderr,
            LogStream::Stdout => Stream::Stdout,
        });
        let snapshot_until = path.metadata().map_or(0, |facts| facts.len());
        // "Ended" reads what is there and stops: just what is wanted without following.
        let (ended, run_ended) = watch::channel(!self.follow || !is_live(&self.status, run));
        let tail = Tail::open(&path, start, run_ended, &self.watcher).await?;
        let (run, offset) = (run.to_owned(), tail.offset());
        self.reading = Some(Reading { run, tail, ended, snapshot_until, offset });
        Ok(())
    }

    fn cursor(&self) -> Option<String> {
        let reading = self.reading.as_ref()?;
        Some(Cursor::text(&reading.run, self.stream, reading.offset))
    }

    fn emit(&mut self, line: &RawLine) -> Option<Emission<LogLine>> {
        let reading = self.reading.as_mut()?;
        reading.offset = line.end_offset;
        let snapshot = line.end_offset <= reading.snapshot_until;
        let data = log_line(&reading.run, self.stream, line);
        let cursor = self.cursor();
        Some(if snapshot {
            Emission::Snapshot { cursor, data }
        } else {
            Emission::Change { cursor, data }
        })
    }

    /// Moves on to the model's next run, when there is one.
    async fn next_run(&mut self) -> bool {
        self.status.mark_unchanged();
        let next = self.registry.run_after(self.model_id, self.done_with.clone()).await;
        match next {
            // Where its files are not there yet, the next change of state tells.
            Ok(Some(run)) => self.open(&run, Start::Floor).await.is_ok(),
            _ => false,
        }
    }
}

fn is_live(status: &watch::Receiver<Server>, run: &str) -> bool {
    let server = status.borrow();
    server.run.as_ref().is_some_and(|live| live.id == run && live.ended_at_ms.is_none())
}

fn log_line(run: &str, stream: LogStream, line: &RawLine) -> LogLine {
    let level = Line::parse(&line.bytes).level.map(|level| match level {
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warning => LogLevel::Warning,
        Level::Error => LogLevel::Error,
    });
    let text = String::from_utf8_lossy(&line.bytes).into_owned();
    LogLine { run_id: run.to_owned(), stream, level, text, cut: line.cut }
}

impl Source for Lines {
    type Item = LogLine;

    async fn next(&mut self) -> Emission<LogLine> {
        if std::mem::take(&mut self.missed) {
            return Emission::Missed { cursor: None, missed: Missed { items: None, bytes: None } };
        }
        loop {
            if let Some(line) = self.queue.pop_front()
                && let Some(emission) = self.emit(&line)
            {
                return emission;
            }
            let Some(reading) = &mut self.reading else {
                if !self.follow || (self.only_this_run && self.done_with.is_some()) {
                    return Emission::done(None);
                }
                if !self.next_run().await && self.status.changed().await.is_err() {
                    return Emission::done(None);
                }
                continue;
            };
            let chunk = tokio::select! {
                chunk = reading.tail.next() => chunk,
                changed = self.status.changed(), if !*reading.ended.borrow() => {
                    if changed.is_err() || !is_live(&self.status, &reading.run) {
                        reading.ended.send_replace(true);
                    }
                    continue;
                }
            };
            match chunk {
                Ok(Some(Chunk::Lines(lines))) => self.queue.extend(lines),
                Ok(Some(Chunk::Missed { bytes })) => {
                    let missed = Missed { items: None, bytes };
                    return Emission::Missed { cursor: self.cursor(), missed };
                }
                Ok(None) => {
                    let cursor = self.cursor();
                    self.done_with = self.reading.take().map(|reading| reading.run);
                    if !self.follow || self.only_this_run {
                        return Emission::done(cursor);
                    }
                }
                Err(error) => return Emission::failed(self.cursor(), unreadable(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_itself() {
        let text = Cursor::text("0190-a", LogStream::Stderr, 42);
        let cursor = Cursor::parse(&text).unwrap();
        assert_eq!(
            (cursor.run.as_str(), cursor.stream, cursor.offset),
            ("0190-a", LogStream::Stderr, 42)
        );
        assert!(Cursor::parse("nonsense").is_err());
    }
}
