//! The daemon's own log: stderr in the foreground, a bounded file when detached. The journal gets no time,
//! no colour, and the level as it reads it.
//!
//! ```text
//!   any task ── a line ─▶ queue, bounded ─▶ one thread ─▶ stderr or file
//!                 ╰─ full: counted, and said when there is room again
//! ```
//!
//! A write may hang: on a dead network mount, a failing disk, a pipe that nobody reads. Only the
//! thread waits for it, so a log that hangs costs lines and never stops the runtime.

use super::journal;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

/// A full file is kept once under another name, so the two together stay below twice this.
const MAX_BYTES: u64 = 4 << 20;
/// Lines that wait to be written: more than a busy daemon says while a healthy disk is slow.
const MAX_LINES: usize = 1024;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

static QUEUE: Queue = Queue::new();

/// Starts logging. `file` is for a detached daemon.
///
/// # Errors
/// The level is none, the file cannot be opened, or the thread cannot be made.
pub fn start(level: &str, file: Option<&Path>) -> Result<(), String> {
    let level: LevelFilter = level
        .parse()
        .map_err(|_| format!("{level} is no log level: give error, warn, info, debug or trace"))?;
    let to_journal = file.is_none() && is_journal();
    let (log, ansi): (Box<dyn Write + Send>, bool) = match file {
        None => (Box::new(io::stderr()), io::IsTerminal::is_terminal(&io::stderr())),
        Some(path) => {
            let file = BoundedFile::open(path)
                .map_err(|error| format!("cannot log to {}: {error}", path.display()))?;
            (Box::new(file), false)
        }
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || QUEUE.write_to(log, if to_journal { journal::ERROR } else { "" }))
        .map_err(|error| format!("cannot log: {error}"))?;
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    let builder = builder.with_writer(|| &QUEUE).with_ansi(ansi);
    match to_journal {
        true => builder.event_format(journal::Lines).init(),
        false => builder.init(),
    }
    Ok(())
}

/// Whether stderr goes to the journal.
fn is_journal() -> bool {
    let stderr = rustix::fs::fstat(io::stderr()).ok();
    let named = std::env::var("JOURNAL_STREAM").ok();
    stderr.is_some_and(|it| journal::is_named(named.as_deref(), it.st_dev, it.st_ino))
}

/// What stands before the line that says why the daemon ends, where nothing logs it.
#[must_use]
pub fn mark_of_error() -> &'static str {
    if is_journal() { journal::ERROR } else { "" }
}

/// Waits, for half a second at most, until every line so far is written. To be called before the
/// process ends or executes another program.
pub fn flush() {
    QUEUE.flush(LAST_LINES);
}

/// How many lines were dropped because they could not be written as fast.
#[must_use]
pub fn lines_lost() -> u64 {
    QUEUE.waiting().lost
}

/// The lines that wait to be written. Own code because tracing-appender's queue tells nobody what
/// it left out.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Lines that found the queue full since the last ones were taken out.
    left_out: u64,
    /// All that ever did.
    lost: u64,
    /// The thread is at work on lines that it took out.
    writing: bool,
}

impl Queue {
    const fn new() -> Queue {
        let waiting = Waiting { lines: VecDeque::new(), left_out: 0, lost: 0, writing: false };
        Queue { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// Held for moments only, never while something is written.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for ever. Lines that cannot be written are lost: there is nobody to tell.
    /// `mark` stands before what it says itself.
    fn write_to(&self, mut log: impl Write, mark: &str) {
        loop {
            let waiting = self.waiting();
            let empty = |waiting: &mut Waiting| waiting.lines.is_empty();
            let woken = self.changed.wait_while(waiting, empty);
            let mut waiting = woken.unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            let left_out = std::mem::take(&mut waiting.left_out);
            waiting.writing = true;
            drop(waiting);
            for line in lines {
                let _ = log.write_all(&line);
            }
            if left_out > 0 {
                let _ = writeln!(
                    log,
                    "{mark}ERROR {left_out} lines are missing here: this log could not be written"
                );
            }
            self.waiting().writing = false;
            self.changed.notify_all();
        }
    }

    fn flush(&self, limit: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.waiting(), limit, busy));
    }
}

impl Write for &Queue {
    /// Takes a whole line, as tracing hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting();
        if waiting.lines.len() < MAX_LINES {
            waiting.lines.push_back(line.to_owned());
            self.changed.notify_all();
        } else {
            waiting.left_out += 1;
            waiting.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that starts anew when it is full. Own code because the field's crate for this,
/// tracing-appender, rotates by the clock only and bounds nothing.
struct BoundedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl BoundedFile {
    fn open(path: &Path) -> io::Result<BoundedFile> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(BoundedFile { path: path.to_owned(), file, bytes })
    }

    /// Whether the file still lies under its name.
    fn is_there(&self) -> bool {
        let named = fs::metadata(&self.path).map(|it| (it.dev(), it.ino()));
        named.is_ok_and(|named| self.file.metadata().is_ok_and(|it| (it.dev(), it.ino()) == named))
    }
}

impl Write for BoundedFile {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.bytes > MAX_BYTES {
            // Where it cannot be renamed the old file goes on: a log too long is better than none.
            let renamed = fs::rename(&self.path, self.path.with_extension("log.1"));
            if let Ok(fresh) = renamed.and_then(|()| BoundedFile::open(&self.path)) {
                *self = fresh;
            } else {
                self.bytes = 0;
            }
        }
        if !self.is_there()
            && let Ok(fresh) = BoundedFile::open(&self.path)
        {
            // Somebody moved or deleted it.
            *self = fresh;
        }
        let written = self.file.write(text)?;
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;

    #[test]
    fn two_files_are_all_there_ever_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").join("d.log");
        let mut log = BoundedFile::open(&path).unwrap();
        let line = vec![b'x'; 64 << 10];
        for _ in 0..200 {
            log.write_all(&line).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|bytes| *bytes <= MAX_BYTES + line.len() as u64));
    }

    #[test]
    fn a_log_that_blocks_holds_nobody_up_and_what_is_missing_is_said() {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        // A pipe that nobody reads takes 64 KiB and then blocks.
        let (read, write) = io::pipe().unwrap();
        thread::spawn(|| queue.write_to(write, ""));
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let written = 4 * MAX_LINES;
        for _ in 0..written {
            (&mut &*queue).write_all(&line).unwrap();
        }
        queue.flush(Duration::ZERO);

        let (mut lines, mut missing) = (0, 0);
        let mut read = io::BufReader::new(read).lines();
        while lines + missing < written {
            match read.next().unwrap().unwrap().strip_prefix("ERROR ") {
                None => lines += 1,
                Some(said) => missing += said.split(' ').next().unwrap().parse::<usize>().unwrap(),
            }
        }
        assert!(missing > 0 && lines + missing == written, "{lines} and {missing}");
        assert_eq!(queue.waiting().lost, missing as u64);
    }
}
