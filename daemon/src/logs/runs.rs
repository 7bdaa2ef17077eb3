//! The lines of a model's runs, one run after the other.
//!
//! ```text
//!   open(run, where to begin) ─▶ Tail ── lines, what was missed ──▶ next().await
//!                                 ╰─ the run has ended ─▶ Runs::after ─▶ Tail of the next …
//! ```
//!
//! A slow reader slows only itself: the files are the queue, and what was freed before it was read
//! is said. Which runs there are, and whether one still writes, is asked of [`Runs`].

use crate::logs::file::{RunLog, Stream};
use crate::logs::index::TimeIndex;
use crate::logs::split::RawLine;
use crate::logs::tail::{Chunk, Start, Tail, TailError};
use crate::logs::watch::Watcher;
use std::collections::VecDeque;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// The runs of one model.
pub trait Runs: Send {
    /// Where the log of a run is; `None` for what is no run's id.
    fn log_of(&self, run: &str) -> Option<RunLog>;

    /// Whether the run may still write.
    fn is_live(&self, run: &str) -> bool;

    /// The run that followed this one, or the first there is; `None` while there is none.
    fn after(&mut self, run: Option<&str>) -> impl Future<Output = Option<String>> + Send;

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
        format!("{}:{}:{}", self.run, self.stream.as_str(), self.offset)
    }
}

/// What the logs of a model say.
#[derive(Debug)]
pub enum Said {
    /// A line of one of the runs.
    Line {
        /// Where to go on behind it, and the run that wrote it.
        cursor: Cursor,
        /// The line itself.
        line: RawLine,
        /// It was written after the log was opened.
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
    /// Tells the tail that nothing more will be written.
    ended: watch::Sender<bool>,
}

/// A reader of the logs of a model.
pub struct RunLines<R> {
    runs: R,
    watcher: Watcher,
    stream: Stream,
    /// Go on as more is written, and with the runs that follow.
    follow: bool,
    only_one_run: bool,
    /// The log that was to be read is gone, and that is still to be said.
    missed: bool,
    reading: Option<Reading>,
    done_with: Option<String>,
    queue: VecDeque<RawLine>,
}

impl<R: Runs> RunLines<R> {
    /// A reader that has opened no run yet. With `follow` it waits for what is written; without
    /// `only_one_run` it then goes on with the runs that follow.
    pub fn new(
        runs: R,
        watcher: Watcher,
        stream: Stream,
        follow: bool,
        only_one_run: bool,
    ) -> Self {
        RunLines {
            runs,
            watcher,
            stream,
            follow,
            only_one_run,
            missed: false,
            reading: None,
            done_with: None,
            queue: VecDeque::new(),
        }
    }

    /// Goes on in this run.
    ///
    /// # Errors
    /// See [`TailError`]; then nothing has changed.
    pub async fn open(&mut self, run: &str, start: Start) -> Result<(), TailError> {
        let log = self.runs.log_of(run).ok_or_else(|| TailError::NotFound(run.into()))?;
        // "Ended" reads what is there and stops: just what is wanted without following.
        let (ended, run_ended) = watch::channel(!self.follow || !self.runs.is_live(run));
        let tail = Tail::open(&log.path(self.stream), start, run_ended, &self.watcher).await?;
        let cursor = Cursor { run: run.to_owned(), stream: self.stream, offset: tail.offset() };
        self.reading = Some(Reading { cursor, tail, ended });
        Ok(())
    }

    /// Says that the log of this run is missing, and goes on behind it.
    pub fn skip(&mut self, run: String) {
        self.missed = true;
        self.done_with = Some(run);
    }

    /// What the logs say next, as soon as they do. May be dropped and called again.
    pub async fn next(&mut self) -> Said {
        if std::mem::take(&mut self.missed) {
            return Said::Missed { cursor: None, bytes: None };
        }
        loop {
            let Some(reading) = &mut self.reading else {
                let is_done = self.only_one_run && self.done_with.is_some();
                if !self.follow || is_done {
                    return Said::Done(None);
                }
                if !self.open_next().await && !self.runs.changed().await {
                    return Said::Done(None);
                }
                continue;
            };
            if let Some(line) = self.queue.pop_front() {
                reading.cursor.offset = line.end_offset;
                let is_new = line.end_offset > reading.tail.length_when_opened();
                return Said::Line { cursor: reading.cursor.clone(), line, is_new };
            }
            let chunk = tokio::select! {
                chunk = reading.tail.next() => chunk,
                goes_on = self.runs.changed(), if !*reading.ended.borrow() => {
                    if !goes_on || !self.runs.is_live(&reading.cursor.run) {
                        reading.ended.send_replace(true);
                    }
                    continue;
                }
            };
            let cursor = reading.cursor.clone();
            match chunk {
                Ok(Some(Chunk::Lines(lines))) => self.queue.extend(lines),
                Ok(Some(Chunk::Missed { bytes })) => {
                    return Said::Missed { cursor: Some(cursor), bytes };
                }
                Ok(None) => {
                    self.reading = None;
                    self.done_with = Some(cursor.run.clone());
                    if !self.follow || self.only_one_run {
                        return Said::Done(Some(cursor));
                    }
                }
                Err(error) => return Said::Failed(Some(cursor), error),
            }
        }
    }

    /// Opens the model's next run, when there is one.
    async fn open_next(&mut self) -> bool {
        match self.runs.after(self.done_with.as_deref()).await {
            // Where its files are not there yet, the next change tells.
            Some(run) => self.open(&run, Start::Floor).await.is_ok(),
            None => false,
        }
    }
}

/// Where the lines since a time begin, as near as is known; only stderr has an index of times.
pub async fn since(log: &RunLog, stream: Stream, since_ms: i64) -> Start {
    if stream == Stream::Stdout {
        return Start::Floor;
    }
    let path = log.times_path();
    let index = spawn_blocking(move || TimeIndex::read(&path)).await;
    let offset = index.ok().and_then(Result::ok).and_then(|index| index.offset_at(since_ms));
    offset.map_or(Start::Floor, Start::LineAt)
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

    impl Runs for TwoRuns {
        fn log_of(&self, run: &str) -> Option<RunLog> {
            RunLog::new(&self.directory, run).ok()
        }

        fn is_live(&self, run: &str) -> bool {
            ["a", "b"].get(self.count.borrow().wrapping_sub(1)) == Some(&run)
        }

        async fn after(&mut self, run: Option<&str>) -> Option<String> {
            let count = *self.count.borrow_and_update();
            let runs = &["a", "b"][..count.min(2)];
            let at = run.map_or(0, |run| runs.iter().position(|it| *it == run).unwrap() + 1);
            runs.get(at).map(|run| (*run).to_owned())
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
        fs::write(runs.log_of(run).unwrap().path(Stream::Stderr), text).unwrap();
    }

    async fn next<R: Runs>(lines: &mut RunLines<R>) -> String {
        let said = tokio::time::timeout(Duration::from_secs(20), lines.next()).await.unwrap();
        let place = |cursor: Option<Cursor>| cursor.map_or("-".to_owned(), |it| it.to_text());
        match said {
            Said::Line { cursor, line, is_new } => {
                let text = String::from_utf8(line.bytes).unwrap();
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
        let mut lines = RunLines::new(runs, Watcher::polling(), Stream::Stderr, true, false);
        lines.open("a", Start::Offset(4)).await.unwrap();
        assert_eq!(next(&mut lines).await, "two old a:stderr:8");
        assert!(
            tokio::time::timeout(Duration::from_millis(50), lines.next()).await.is_err(),
            "the run is live: there may be more"
        );
        count.send(2).unwrap();
        assert_eq!(next(&mut lines).await, "three old b:stderr:6");
        drop(count);
        assert_eq!(next(&mut lines).await, "done -");
    }

    #[tokio::test]
    async fn one_run_alone_or_what_is_there_ends_with_where_to_go_on() {
        let (_directory, count, runs) = runs();
        write(&runs, "a", "one\n");
        count.send(2).unwrap();
        let mut lines = RunLines::new(runs, Watcher::polling(), Stream::Stderr, true, true);
        lines.open("a", Start::Floor).await.unwrap();
        assert_eq!(next(&mut lines).await, "one old a:stderr:4");
        assert_eq!(next(&mut lines).await, "done a:stderr:4");
        assert_eq!(next(&mut lines).await, "done -");
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_said_and_the_next_run_is_read() {
        let (_directory, count, runs) = runs();
        write(&runs, "b", "three\n");
        count.send(2).unwrap();
        let mut lines = RunLines::new(runs, Watcher::polling(), Stream::Stderr, true, false);
        let error = lines.open("a", Start::Offset(4)).await.unwrap_err();
        assert!(matches!(error, TailError::NotFound(_)));
        lines.skip("a".to_owned());
        assert_eq!(next(&mut lines).await, "missed -");
        assert_eq!(next(&mut lines).await, "three old b:stderr:6");
    }

    #[tokio::test]
    async fn what_is_written_after_the_opening_is_new() {
        let (_directory, _count, runs) = runs();
        write(&runs, "a", "one\n");
        let path = runs.log_of("a").unwrap().path(Stream::Stderr);
        let mut lines = RunLines::new(runs, Watcher::polling(), Stream::Stderr, true, false);
        lines.open("a", Start::Floor).await.unwrap();
        assert_eq!(next(&mut lines).await, "one old a:stderr:4");
        fs::write(path, "one\ntwo\n").unwrap();
        assert_eq!(next(&mut lines).await, "two new a:stderr:8");
    }
}
