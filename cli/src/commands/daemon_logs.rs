//! `llamactl daemon logs`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::Hint;
use llamactl_protocol::daemon::DaemonStatus;
use llamactl_protocol::{Failure, Kind, WirePath, place};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::time::sleep;

/// Lines shown at a terminal when nothing says how many.
const TERMINAL_LINES: usize = 50;
/// How often a followed file is looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// Show the daemon's log
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon logs",
    "llamactl daemon logs -f",
    "llamactl daemon logs -n 200";
    "0 done, 3 it keeps no log file, 6 daemon unreachable, 130 interrupted"
))]
pub(crate) struct Logs {
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Begin this many lines before the end
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
}

/// Shows the log.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Logs) -> Outcome {
    let log = match reach.daemon(Autostart::Never).await {
        Ok(daemon) => daemon.call(&DaemonStatus {}).await?.log,
        // After a crash its log is what one wants to see.
        Err(unreachable) => {
            let path = place::state_dir().map(|dir| dir.join("log").join("llamactld.log"));
            let Some(path) = path.ok().filter(|path| path.is_file()) else {
                return Err(unreachable.into());
            };
            output.aside("no daemon answers; this is the log of the last one");
            Some(WirePath(path))
        }
    };
    let Some(path) = log else {
        return Err(Failure::new(
            Kind::FileNotFound,
            "the daemon runs in the foreground and keeps no log file",
        )
        .hint(Hint::run(
            "its log is on its terminal, or in the journal",
            ["journalctl", "-u", "llamactld"],
        ))
        .into());
    };
    let lines = args.lines.or(output.at_terminal().then_some(TERMINAL_LINES));
    let mut log = Tail::open(path.as_path()).map_err(|error| unreadable(path.as_path(), &error))?;
    if let Some(lines) = lines {
        log.skip_to_last(lines).map_err(|error| unreadable(path.as_path(), &error))?;
    }
    let copy = async {
        loop {
            print_all(output, &mut log)?;
            if !args.follow {
                if let Some(rest) = log.rest() {
                    print(output, rest)?;
                }
                return output.flush();
            }
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        outcome = copy => outcome,
        _ = ctrl_c() => Err(Quit::Told(Kind::Interrupted.exit_status())),
    }
}

/// Prints the whole lines that are there.
fn print_all(output: &mut Output, log: &mut Tail<'_>) -> Outcome {
    while let Some(line) = log.line().map_err(|error| unreadable(log.path, &error))? {
        print(output, line)?;
    }
    output.flush()
}

fn print(output: &mut Output, line: String) -> Outcome {
    if output.json {
        return output.json_unflushed(&serde_json::json!({ "text": line }));
    }
    output.line_unflushed(line)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::FileNotFound,
        _ => Kind::IoFailed,
    };
    Failure::new(kind, format!("the daemon's log {} cannot be read: {error}", path.display()))
}

/// A file that grows, and may be replaced by a new one.
struct Tail<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// A line whose end is not written yet.
    begun: Vec<u8>,
}

impl<'a> Tail<'a> {
    fn open(path: &'a Path) -> io::Result<Self> {
        Ok(Tail { path, file: BufReader::new(File::open(path)?), begun: Vec::new() })
    }

    /// Goes to where the last `lines` lines begin.
    fn skip_to_last(&mut self, lines: usize) -> io::Result<()> {
        const BLOCK: u64 = 64 * 1024;
        let mut at = self.file.get_ref().metadata()?.len();
        let mut ends = 0;
        let mut block = Vec::new();
        while at > 0 {
            let from = at.saturating_sub(BLOCK);
            self.file.seek(SeekFrom::Start(from))?;
            block.clear();
            (&mut self.file).take(at - from).read_to_end(&mut block)?;
            for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                ends += 1;
                // The first line end met is that of the last line itself.
                if ends > lines {
                    let start =
                        from.saturating_add(u64::try_from(index).unwrap_or(0)).saturating_add(1);
                    self.file.seek(SeekFrom::Start(start))?;
                    return Ok(());
                }
            }
            at = from;
        }
        self.file.rewind()
    }

    /// The next whole line, if there is one.
    fn line(&mut self) -> io::Result<Option<String>> {
        if self.file.read_until(b'\n', &mut self.begun)? == 0 && self.was_replaced() {
            self.file = BufReader::new(File::open(self.path)?);
            self.file.read_until(b'\n', &mut self.begun)?;
        }
        if self.begun.pop_if(|last| *last == b'\n').is_none() {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&self.begun).into_owned();
        self.begun.clear();
        Ok(Some(line))
    }

    /// A last line without an end.
    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// Whether another file has taken the path, or this one was cut.
    fn was_replaced(&mut self) -> bool {
        let position = self.file.stream_position();
        match (self.path.metadata(), self.file.get_ref().metadata(), position) {
            (Ok(there), Ok(ours), Ok(position)) => {
                there.ino() != ours.ino() || there.dev() != ours.dev() || ours.len() < position
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use std::io::Write as _;

    fn lines(tail: &mut Tail<'_>) -> Vec<String> {
        std::iter::from_fn(|| tail.line().unwrap()).collect()
    }

    #[test]
    fn the_last_lines_then_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        for n in 0..20_000 {
            writeln!(file, "line {n}").unwrap();
        }
        let mut tail = Tail::open(&path).unwrap();
        tail.skip_to_last(2).unwrap();
        assert_eq!(lines(&mut tail), ["line 19998", "line 19999"]);
        write!(file, "half").unwrap();
        assert!(lines(&mut tail).is_empty());
        writeln!(file, " a line").unwrap();
        assert_eq!(lines(&mut tail), ["half a line"]);
        // A new file under the old name is read from its beginning.
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        std::fs::write(&path, "new\nlast").unwrap();
        assert_eq!(lines(&mut tail), ["new"]);
        assert_eq!(tail.rest().as_deref(), Some("last"));
    }

    #[test]
    fn fewer_lines_than_asked_for_are_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a\nb\n").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        tail.skip_to_last(7).unwrap();
        assert_eq!(lines(&mut tail), ["a", "b"]);
        tail.skip_to_last(0).unwrap();
        assert!(lines(&mut tail).is_empty());
    }

    #[test]
    fn what_the_daemon_wrote_is_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines = "2026-01-31T12:00:00Z  INFO ready version=\"0.2.0\" pid=700\n\
             2026-01-31T12:00:01Z  WARN \u{1b}[31ma name with a colour\n";
        std::fs::write(&path, lines).unwrap();
        assert_screen("daemon-logs", |output| print_all(output, &mut Tail::open(&path).unwrap()));
    }
}
