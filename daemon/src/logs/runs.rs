//! The lines of a model's runs, one run after the other.
//!
//! ```text
//!   open(run, where to begin) ─▶ Tail ── lines, what was missed ──▶ next().await
//!                                 ╰─ the run has ended ─▶ Runs::after ─▶ Tail of the next …
//! ```
//!
//! A slow reader slows only itself: the files are the queue, and what was freed before it was read
//! is said. Which runs there are, and whether one still writes, is asked of [`Runs`].

use crate::logs::file::{RunLog, Stream, Whereabouts};
use crate::logs::filter::{Filter, Passes};
use crate::logs::index::TimeIndex;
use crate::logs::line::Line;
use crate::logs::lines::Lines;
use crate::logs::tail::{self, Chunk, Read, Start, Tail, TailError, blocking};
use crate::logs::watch::Watcher;
use llamactl_protocol::WirePath;
use llamactl_protocol::log::{LogFrame, LogLine, LogNote, LogStream, cursor};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Of the lines that pass a filter, so many of the last can be asked for; more are all of them.
const LAST_MAX_LINES: usize = 100_000;

/// One run, as far as its log is concerned.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Where its files are.
    pub log: RunLog,
    /// The output it writes its log to.
    pub stream: Stream,
    /// When it started: times in its log count from there.
    pub started_at_ms: i64,
    /// Its process, while it lives.
    pub pid: Option<i32>,
    /// What is to be said of the run before it, once that was read.
    pub before: Option<LogNote>,
}

/// The runs of one model.
pub trait Runs: Send {
    /// Whether the run may still write.
    fn is_live(&self, run: &str) -> bool;

    /// The run that followed this one, or the first there is; `None` while there is none.
    fn after(&mut self, run: Option<&str>) -> impl Future<Output = Option<Run>> + Send;

    /// Waits until `is_live` and `after` may have another answer than when `after` was last asked.
    /// False when they never will.
    fn changed(&mut self) -> impl Future<Output = bool> + Send;
}

/// A place in a model's logs, as `run:stream:offset`. It stays valid as long as that run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The run's id.
    pub run: String,
    /// Which of its outputs.
    pub stream: Stream,
    /// The offset behind the last line that was read, in bytes.
    pub offset: u64,
}

impl Cursor {
    /// Reads what [`Cursor::to_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cursor> {
        let (run, rest) = text.split_once(':')?;
        let (stream, offset) = rest.split_once(':')?;
        let stream = Stream::ALL.into_iter().find(|it| it.as_str() == stream)?;
        Some(Cursor { run: run.to_owned(), stream, offset: offset.parse().ok()? })
    }

    /// As clients keep it.
    #[must_use]
    pub fn to_text(&self) -> String {
        cursor(&self.run, self.stream.into(), self.offset)
    }
}

impl std::convert::From<Stream> for LogStream {
    fn from(stream: Stream) -> LogStream {
        match stream {
            Stream::Stderr => LogStream::Stderr,
            Stream::Stdout => LogStream::Stdout,
        }
    }
}

/// Where to begin in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind what was read up to this offset.
    Offset(u64),
    /// So many of the lines asked for before the end.
    Last(u32),
    /// With the first that is kept.
    First,
}

/// What is asked of the logs of a model.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// This output; `None`: the one that a run writes its log to.
    pub stream: Option<Stream>,
    /// Go on as more is written, and with the runs that follow.
    pub follow: bool,
    /// No run but the first that is opened.
    pub only_one_run: bool,
    /// The last run there is; without `follow`, no more is read than up to its end.
    pub last_run: Option<String>,
    /// So many lines of each run up to that one; `None`: all.
    pub lines: Option<u32>,
    /// Only these lines.
    pub filter: Filter,
}

/// What the logs of a model say.
#[derive(Debug)]
pub enum Said {
    /// Lines of one of the runs, or a note.
    Frame {
        /// Where to go on behind it.
        cursor: Cursor,
        /// The lines.
        frame: LogFrame,
        /// They were written after the log was opened.
        is_new: bool,
    },
    /// There was something here that can no longer be read.
    Missed {
        /// Where to go on.
        cursor: Option<Cursor>,
        /// How many bytes, where that is known.
        bytes: Option<u64>,
    },
    /// There is no more, and there will not be.
    Done(Option<Cursor>),
    /// The log cannot be read any further.
    Failed(Option<Cursor>, TailError),
}

/// The run being read.
struct Reading {
    cursor: Cursor,
    tail: Tail,
    started_at_ms: i64,
    /// The time of the last line that said one.
    at_ms: Option<i64>,
    /// What is written from here on is later than what is asked for.
    until_offset: Option<u64>,
    /// Tells the tail that nothing more will be written.
    ended: watch::Sender<bool>,
}

/// A reader of the logs of a model.
pub struct RunLines<R> {
    runs: R,
    watcher: Watcher,
    asked: Asked,
    /// The log that was to be read is gone, and that is still to be said.
    missed: bool,
    notes: VecDeque<(Cursor, LogNote)>,
    reading: Option<Reading>,
    done_with: Option<String>,
    /// What was asked for has been read up to here.
    done: Option<Cursor>,
}

impl<R: Runs> RunLines<R> {
    /// A reader that has opened no run yet.
    pub fn new(runs: R, watcher: Watcher, asked: Asked) -> Self {
        RunLines {
            runs,
            watcher,
            asked,
            missed: false,
            notes: VecDeque::new(),
            reading: None,
            done_with: None,
            done: None,
        }
    }

    /// Goes on in this run.
    ///
    /// # Errors
    /// See [`TailError`]; then nothing has changed.
    pub async fn open(&mut self, run: Run, from: From) -> Result<(), TailError> {
        let stream = self.asked.stream.unwrap_or(run.stream);
        // "Ended" reads what is there and stops: just what is wanted without following.
        let (ended, run_ended) = watch::channel(!self.asked.follow || !self.runs.is_live(&run.id));
        let (id, started_at_ms, before) = (run.id.clone(), run.started_at_ms, run.before.clone());
        let filter = self.asked.filter.clone();
        let found = blocking(move || find(&run, stream, from, &filter)).await?;
        let tail = Tail::of(found.file, found.start, run_ended, &self.watcher).await?;
        let cursor = Cursor { run: id, stream, offset: tail.offset() };
        let moved = match found.whereabouts {
            Whereabouts::Usual => None,
            Whereabouts::Deleted => Some(LogNote::Deleted),
            Whereabouts::Moved(path) => Some(LogNote::Moved { path: WirePath(path) }),
        };
        let before = before.filter(|_| self.done_with.is_some());
        let notes = before.into_iter().chain(moved);
        self.notes.extend(notes.map(|note| (cursor.clone(), note)));
        let (at_ms, until_offset) = (None, found.until_offset);
        self.reading = Some(Reading { cursor, tail, started_at_ms, at_ms, until_offset, ended });
        Ok(())
    }

    /// Says that the log of this run is gone, and goes on behind it. `seen`: part of it was read.
    pub fn skip(&mut self, run: Run, seen: bool) {
        let stream = self.asked.stream.unwrap_or(run.stream);
        self.missed = seen;
        self.notes.push_back((Cursor { run: run.id.clone(), stream, offset: 0 }, LogNote::Gone));
        self.done_with = Some(run.id);
    }

    /// What the logs say next, as soon as they do. May be dropped and called again.
    pub async fn next(&mut self) -> Said {
        if std::mem::take(&mut self.missed) {
            return Said::Missed { cursor: None, bytes: None };
        }
        loop {
            if let Some((cursor, note)) = self.notes.pop_front() {
                let frame = frame(&cursor, Some(note), Vec::new());
                return Said::Frame { cursor, frame, is_new: false };
            }
            if let Some(cursor) = self.done.take() {
                self.reading = None;
                return Said::Done(Some(cursor));
            }
            let Some(reading) = &mut self.reading else {
                let has_read = self.done_with.is_some();
                let is_done = has_read && (self.asked.only_one_run || !self.goes_on());
                if is_done || !self.asked.follow && !has_read {
                    return Said::Done(None);
                }
                if !self.open_next().await && !self.runs.changed().await {
                    return Said::Done(None);
                }
                continue;
            };
            let chunk = tokio::select! {
                chunk = reading.tail.next() => chunk,
                goes_on = self.runs.changed(), if !*reading.ended.borrow() => {
                    if !goes_on || !self.runs.is_live(&reading.cursor.run) {
                        reading.ended.send_replace(true);
                    }
                    continue;
                }
            };
            match chunk {
                Ok(Some(Chunk::Lines(lines))) => {
                    let (asked_for, is_over) = reading.select(&lines, &self.asked.filter);
                    let cursor = reading.cursor.clone();
                    self.done = is_over.then(|| cursor.clone());
                    let Some(first) = asked_for.first() else { continue };
                    let is_new = first.end > reading.tail.length_when_opened();
                    let frame = frame(&cursor, None, asked_for);
                    return Said::Frame { cursor, frame, is_new };
                }
                Ok(Some(Chunk::Missed { bytes })) => {
                    reading.cursor.offset = reading.tail.offset();
                    return Said::Missed { cursor: Some(reading.cursor.clone()), bytes };
                }
                Ok(Some(Chunk::Deleted)) => {
                    self.notes.push_back((reading.cursor.clone(), LogNote::Deleted));
                }
                Ok(None) => {
                    let cursor = reading.cursor.clone();
                    self.reading = None;
                    self.done_with = Some(cursor.run.clone());
                    if self.asked.only_one_run || !self.goes_on() {
                        return Said::Done(Some(cursor));
                    }
                }
                Err(error) => return Said::Failed(Some(reading.cursor.clone()), error),
            }
        }
    }

    /// Whether there is more to read behind the run that was read last.
    fn goes_on(&self) -> bool {
        // Ids are UUIDs of version 7: they ascend with time.
        self.asked.follow || self.asked.last_run.as_ref() > self.done_with.as_ref()
    }

    /// Opens the model's next run, when there is one.
    async fn open_next(&mut self) -> bool {
        let Some(run) = self.runs.after(self.done_with.as_deref()).await else { return false };
        let was_there = self.asked.last_run.as_ref().is_some_and(|last| run.id <= *last);
        let from = self.asked.lines.filter(|_| was_there).map_or(From::First, From::Last);
        match self.open(run.clone(), from).await {
            Ok(()) => true,
            // A later run tells that nothing will come of this one any more.
            Err(error) if error.is_missing() && !self.runs.is_live(&run.id) => {
                self.skip(run, false);
                true
            }
            // Where its files are not there yet, the next change tells.
            Err(_) => false,
        }
    }
}

fn frame(cursor: &Cursor, note: Option<LogNote>, lines: Vec<LogLine>) -> LogFrame {
    LogFrame { run_id: cursor.run.clone(), stream: cursor.stream.into(), note, lines }
}

impl Reading {
    /// Those of the lines that are asked for, and whether what follows is too late for that.
    fn select(&mut self, lines: &Lines, filter: &Filter) -> (Vec<LogLine>, bool) {
        let mut asked_for = Vec::with_capacity(lines.len());
        for (raw, line) in lines.parsed() {
            let at_ms = line.at_ms(self.started_at_ms);
            self.at_ms = at_ms.or(self.at_ms);
            let is_late =
                at_ms.is_none() && self.until_offset.is_some_and(|until| raw.offset >= until);
            match filter.passes(line, self.at_ms) {
                Passes::Beyond => return (asked_for, true),
                _ if is_late => return (asked_for, true),
                Passes::No => {}
                Passes::Yes => asked_for.push(LogLine {
                    at_ms,
                    level: line.level,
                    text: String::from_utf8_lossy(&raw.bytes).into_owned(),
                    message: line.is_json.then(|| line.text.clone()),
                    cut: raw.cut,
                    end: raw.end_offset,
                }),
            }
            self.cursor.offset = raw.end_offset;
        }
        (asked_for, false)
    }
}

/// An open log, and where to begin in it.
struct Found {
    file: Arc<File>,
    whereabouts: Whereabouts,
    start: Start,
    until_offset: Option<u64>,
}

fn find(run: &Run, stream: Stream, from: From, filter: &Filter) -> io::Result<Found> {
    let (file, whereabouts) = run.log.open(stream, run.pid, false)?;
    let index = match stream {
        // Only stderr has an index of times. What its lines say of times counts all the same.
        Stream::Stderr if filter.since_ms.or(filter.until_ms).is_some() => {
            TimeIndex::read(&run.log.times_path()).unwrap_or_default()
        }
        _ => TimeIndex::default(),
    };
    let since = filter.since_ms.and_then(|since_ms| index.offset_at(since_ms));
    let first = since.map_or(Start::Floor, Start::LineAt);
    let start = match from {
        From::Offset(offset) => Start::Offset(offset),
        From::First => first,
        From::Last(lines) if filter.is_empty() => Start::LastLines(lines as usize),
        From::Last(0) => Start::End,
        From::Last(lines) => last_of(&file, first, lines as usize, run.started_at_ms, filter)?,
    };
    let until_offset = filter.until_ms.and_then(|until_ms| index.offset_after(until_ms));
    Ok(Found { file: Arc::new(file), whereabouts, start, until_offset })
}

/// Where the last `lines` lines begin that pass the filter.
fn last_of(
    file: &File,
    first: Start,
    lines: usize,
    started_at_ms: i64,
    filter: &Filter,
) -> io::Result<Start> {
    if lines > LAST_MAX_LINES {
        return Ok(first);
    }
    let mut splitter = tail::begin(file, first)?;
    let (mut at_ms, mut offsets) = (None, VecDeque::new());
    loop {
        let more = match tail::read(file, splitter.end_offset())? {
            Read::Bytes(bytes) => {
                splitter.push(&bytes);
                true
            }
            Read::Freed(resume) | Read::Emptied(resume) => {
                (splitter, at_ms) = (resume, None);
                offsets.clear();
                true
            }
            Read::End { .. } => false,
        };
        let mut read = splitter.take(usize::MAX);
        if !more {
            read.extend(splitter.finish());
        }
        for raw in read {
            let line = Line::parse(&raw.bytes);
            at_ms = line.at_ms(started_at_ms).or(at_ms);
            match filter.passes(&line, at_ms) {
                Passes::Beyond => return Ok(offsets.pop_front().map_or(Start::End, Start::Offset)),
                Passes::No => {}
                Passes::Yes => offsets.push_back(raw.offset),
            }
            if offsets.len() > lines {
                offsets.pop_front();
            }
        }
        if !more {
            return Ok(offsets.pop_front().map_or(Start::End, Start::Offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    /// Runs `a` and `b` of a directory; how many there are, and which is live, is told.
    struct TwoRuns {
        directory: PathBuf,
        /// How many runs there are; the last is live.
        count: watch::Receiver<usize>,
    }

    impl TwoRuns {
        fn log_of(&self, run: &str) -> RunLog {
            RunLog::new(&self.directory, run).unwrap()
        }

        fn run(&self, id: &str) -> Run {
            let before = (id == "b").then(|| LogNote::Began {
                before: "a".into(),
                ended_at_ms: None,
                cause: None,
            });
            let (log, stream) = (self.log_of(id), Stream::Stderr);
            Run { id: id.into(), log, stream, started_at_ms: 1000, pid: None, before }
        }
    }

    impl Runs for TwoRuns {
        fn is_live(&self, run: &str) -> bool {
            ["a", "b"].get(self.count.borrow().wrapping_sub(1)) == Some(&run)
        }

        async fn after(&mut self, run: Option<&str>) -> Option<Run> {
            let count = *self.count.borrow_and_update();
            let runs = &["a", "b"][..count.min(2)];
            let at = run.map_or(0, |run| runs.iter().position(|it| *it == run).unwrap() + 1);
            runs.get(at).map(|run| self.run(run))
        }

        async fn changed(&mut self) -> bool {
            self.count.changed().await.is_ok()
        }
    }

    fn runs() -> (tempfile::TempDir, watch::Sender<usize>, TwoRuns) {
        let directory = tempfile::tempdir().unwrap();
        let (sender, count) = watch::channel(1);
        let runs = TwoRuns { directory: directory.path().to_owned(), count };
        (directory, sender, runs)
    }

    fn write(runs: &TwoRuns, run: &str, text: &str) {
        fs::write(runs.log_of(run).path(Stream::Stderr), text).unwrap();
    }

    fn lines_of(runs: TwoRuns, follow: bool, only_one_run: bool) -> RunLines<TwoRuns> {
        let asked = Asked { follow, only_one_run, ..Asked::default() };
        RunLines::new(runs, Watcher::polling(), asked)
    }

    async fn next<R: Runs>(lines: &mut RunLines<R>) -> String {
        let said = tokio::time::timeout(Duration::from_secs(20), lines.next()).await.unwrap();
        let place = |cursor: Option<Cursor>| cursor.map_or("-".to_owned(), |it| it.to_text());
        match said {
            Said::Frame { cursor, frame, is_new } => {
                let mut texts: Vec<String> = frame.lines.into_iter().map(|it| it.text).collect();
                texts.extend(frame.note.map(|note| match note {
                    LogNote::Began { before, .. } => format!("[behind {before}]"),
                    other => format!("[{other:?}]"),
                }));
                let text = texts.join(",");
                format!("{text} {} {}", if is_new { "new" } else { "old" }, cursor.to_text())
            }
            Said::Missed { cursor, .. } => format!("missed {}", place(cursor)),
            Said::Done(cursor) => format!("done {}", place(cursor)),
            Said::Failed(_, error) => format!("failed {error}"),
        }
    }

    #[test]
    fn a_cursor_leads_back_to_itself() {
        let cursor = Cursor { run: "0190-a".into(), stream: Stream::Stderr, offset: 42 };
        assert_eq!(cursor.to_text(), "0190-a:stderr:42");
        assert_eq!(Cursor::parse("0190-a:stderr:42"), Some(cursor));
        for text in ["nonsense", "a:stderr", "a:stdin:1", "a:stderr:-1", "a:stderr:1:2", ""] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_follower_goes_from_a_run_to_the_next_and_ends_with_the_model() {
        let (_directory, count, runs) = runs();
        write(&runs, "a", "one\ntwo\n");
        write(&runs, "b", "three\n");
        let mut lines = lines_of(runs, true, false);
        lines.open(lines.runs.run("a"), From::Offset(4)).await.unwrap();
        assert_eq!(next(&mut lines).await, "two old a:stderr:8");
        assert!(
            tokio::time::timeout(Duration::from_millis(50), lines.next()).await.is_err(),
            "the run is live: there may be more"
        );
        count.send(2).unwrap();
        assert_eq!(next(&mut lines).await, "[behind a] old b:stderr:0");
        assert_eq!(next(&mut lines).await, "three old b:stderr:6");
        drop(count);
        assert_eq!(next(&mut lines).await, "done -");
    }

    #[tokio::test]
    async fn one_run_alone_or_what_is_there_ends_with_where_to_go_on() {
        let (_directory, count, runs) = runs();
        write(&runs, "a", "one\n");
        count.send(2).unwrap();
        let mut lines = lines_of(runs, true, true);
        lines.open(lines.runs.run("a"), From::First).await.unwrap();
        assert_eq!(next(&mut lines).await, "one old a:stderr:4");
        assert_eq!(next(&mut lines).await, "done a:stderr:4");
        assert_eq!(next(&mut lines).await, "done -");
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_said_and_the_next_run_is_read() {
        let (_directory, count, runs) = runs();
        write(&runs, "b", "three\n");
        count.send(2).unwrap();
        let mut lines = lines_of(runs, true, false);
        let error = lines.open(lines.runs.run("a"), From::Offset(4)).await.unwrap_err();
        assert!(error.is_missing());
        lines.skip(lines.runs.run("a"), true);
        assert_eq!(next(&mut lines).await, "missed -");
        assert_eq!(next(&mut lines).await, "[Gone] old a:stderr:0");
        assert_eq!(next(&mut lines).await, "[behind a] old b:stderr:0");
        assert_eq!(next(&mut lines).await, "three old b:stderr:6");
    }

    #[tokio::test]
    async fn what_is_written_after_the_opening_is_new() {
        let (_directory, _count, runs) = runs();
        write(&runs, "a", "one\n");
        let path = runs.log_of("a").path(Stream::Stderr);
        let mut lines = lines_of(runs, true, false);
        lines.open(lines.runs.run("a"), From::First).await.unwrap();
        assert_eq!(next(&mut lines).await, "one old a:stderr:4");
        fs::write(path, "one\ntwo\n").unwrap();
        assert_eq!(next(&mut lines).await, "two new a:stderr:8");
    }

    #[tokio::test]
    async fn the_last_lines_are_those_of_the_lines_asked_for_and_a_run_that_crashed_comes_first() {
        let (_directory, count, runs) = runs();
        let text = |from: u32| -> String {
            let line = |n| format!("0.00.{n:03}.000 {} {n}\n", if n % 2 == 0 { 'I' } else { 'E' });
            (from..from + 6).map(line).collect()
        };
        write(&runs, "a", &text(0));
        write(&runs, "b", &text(10));
        count.send(2).unwrap();
        let filter = Filter {
            level: Some(llamactl_protocol::log::LogLevel::Error),
            until_ms: Some(1013),
            ..Filter::default()
        };
        let last_run = Some("b".to_owned());
        let asked = Asked { last_run, lines: Some(2), filter, ..Asked::default() };
        let mut lines = RunLines::new(runs, Watcher::polling(), asked);
        lines.open(lines.runs.run("a"), From::Last(2)).await.unwrap();
        assert_eq!(next(&mut lines).await, "0.00.003.000 E 3,0.00.005.000 E 5 old a:stderr:102");
        assert_eq!(next(&mut lines).await, "[behind a] old b:stderr:18");
        assert_eq!(next(&mut lines).await, "0.00.011.000 E 11,0.00.013.000 E 13 old b:stderr:72");
        assert_eq!(next(&mut lines).await, "done b:stderr:72");
    }
}
