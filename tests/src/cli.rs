//! Running a program to its end, or line by line, under a deadline.

use crate::DEADLINE;
use crate::processes::Process;
use crate::terminal;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A program and how to run it.
#[derive(Clone, Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Invocation {
    pub(crate) fn new<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        directory: &Path,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Invocation {
        Invocation {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect(),
            directory: directory.to_owned(),
            environment: environment.clone(),
            stdin: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// The same with further arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, more: impl IntoIterator<Item = A>) -> Invocation {
        self.arguments.extend(more.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Invocation {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// The same without a variable in its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Invocation {
        self.environment.remove(name.as_ref());
        self
    }

    /// The same with something to read on its stdin, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Invocation {
        self.stdin = bytes.into();
        self
    }

    /// The same with another time to run before the test fails.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Invocation {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it has not ended in time; it is killed then.
    #[must_use = "say how it should have ended: .ok() or .code(n)"]
    pub fn run(self) -> Output {
        let end = Instant::now() + self.deadline;
        self.spawn().finish_by(end)
    }

    /// Starts it, to be read line by line.
    #[must_use]
    pub fn spawn(self) -> Follower {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let bytes = self.stdin.clone();
        let feeder = thread::spawn(move || {
            // A program need not read what it is given.
            let _ = stdin.write_all(&bytes);
        });
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        let reader = thread::spawn(move || read_lines(stdout, |line| sender.send(line).is_ok()));
        Follower {
            name: self.name(),
            deadline: self.deadline,
            child,
            lines,
            read: Vec::new(),
            threads: vec![feeder, reader],
            stderr: Some(thread::spawn(move || read_all(stderr))),
        }
    }

    /// Runs it to its end at a terminal of this many columns; what the terminal was sent, stdout
    /// and stderr together.
    ///
    /// # Panics
    /// When it has not ended in time; it is killed then.
    #[must_use = "say how it should have ended: .ok() or .code(n)"]
    pub fn run_at_terminal(self, columns: u16) -> Output {
        self.talk_at_terminal(columns, &[])
    }

    /// The same, with somebody at the keys: each time the first text of a pair has appeared since the
    /// last, the second is typed.
    ///
    /// # Panics
    /// When it has not ended in time; it is killed then.
    #[must_use = "say how it should have ended: .ok() or .code(n)"]
    pub fn talk_at_terminal(self, columns: u16, dialogue: &[(&str, &str)]) -> Output {
        let (mut screen, end) = terminal::open(columns);
        let mut command = self.command();
        command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        command.stdin(end.try_clone().unwrap()).stdout(end.try_clone().unwrap()).stderr(end);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        drop(command); // or its copies of the terminal's end would keep the screen open
        let mut keys = screen.try_clone().unwrap();
        let lines = dialogue.iter().map(|(heard, typed)| (heard.to_string(), typed.to_string()));
        let mut lines = lines.collect::<Vec<_>>().into_iter().peekable();
        let reader = thread::spawn(move || {
            let (mut shown, mut seen, mut piece) = (Vec::new(), 0, [0; 4096]);
            // A terminal whose last program has ended gives an error instead of an end.
            while let Ok(length) = screen.read(&mut piece) {
                shown.extend_from_slice(&piece[..length]);
                while let Some((heard, typed)) = lines.peek() {
                    let news = &shown[seen..];
                    let at = news.windows(heard.len()).position(|it| it == heard.as_bytes());
                    let Some(at) = at.filter(|_| length > 0) else { break };
                    keys.write_all(typed.as_bytes()).unwrap();
                    seen += at + heard.len();
                    lines.next();
                }
                if length == 0 {
                    break;
                }
            }
            shown
        });
        let (status, killed) = wait_until(&mut child, Instant::now() + self.deadline);
        let shown = reader.join().unwrap();
        Output { name: self.name(), status, stdout: shown, stderr: Vec::new() }.unless(killed)
    }

    /// As a command of the standard library.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.directory);
        command.env_clear().envs(&self.environment);
        command
    }

    fn name(&self) -> String {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        let arguments = self.arguments.iter().map(|argument| argument.to_string_lossy());
        std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

/// A program that is running. Dropping it kills it.
pub struct Follower {
    name: String,
    deadline: Duration,
    child: Child,
    lines: Receiver<Vec<u8>>,
    read: Vec<u8>,
    threads: Vec<JoinHandle<()>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Follower {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its stdout, without its end; `None` when it has closed its stdout.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(self.deadline) {
            Ok(line) => {
                self.read.extend_from_slice(&line);
                Some(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{}: no line in {:?}", self.name, self.deadline)
            }
        }
    }

    /// The next line of its stdout, as JSON.
    ///
    /// # Panics
    /// When none comes in time, or it is not JSON.
    pub fn json_line(&mut self) -> Value {
        let line = self.line().unwrap_or_else(|| panic!("{} closed its stdout", self.name));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {line}: {error}", self.name))
    }

    /// Reads lines until one fulfils `condition`, and gives that one.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn line_where(&mut self, mut condition: impl FnMut(&str) -> bool) -> String {
        loop {
            match self.line() {
                Some(line) if condition(&line) => return line,
                Some(_) => {}
                None => panic!("{} closed its stdout before the line awaited", self.name),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = Process::open(self.pid()) {
            process.signal(signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time; it is killed then.
    #[must_use = "say how it should have ended: .ok() or .code(n)"]
    pub fn finish(self) -> Output {
        let end = Instant::now() + self.deadline;
        self.finish_by(end)
    }

    fn finish_by(mut self, end: Instant) -> Output {
        let (status, killed) = wait_until(&mut self.child, end);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let mut stdout = std::mem::take(&mut self.read);
        stdout.extend(self.lines.try_iter().flatten());
        let stderr = self.stderr.take().expect("finished once").join().unwrap();
        Output { name: self.name.clone(), status, stdout, stderr }.unless(killed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Nothing to do where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Output {
    name: String,
    /// How it ended.
    pub status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn unless(self, killed: bool) -> Output {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert!(!killed, "{} did not end in time\nstdout: {stdout}\nstderr: {stderr}", self.name);
        self
    }

    /// The same, having checked that it ended well.
    ///
    /// # Panics
    /// When it did not.
    pub fn ok(self) -> Output {
        self.code(0)
    }

    /// The same, having checked its exit status.
    ///
    /// # Panics
    /// When it is another, or it was ended by a signal.
    pub fn code(self, expected: i32) -> Output {
        let signal = self.status.signal();
        assert!(
            self.status.code() == Some(expected),
            "{}: expected exit status {expected}, got {:?} (signal {signal:?})\nstdout: {}\nstderr: {}",
            self.name,
            self.status.code(),
            self.stdout(),
            self.stderr(),
        );
        self
    }

    /// What it wrote to stdout, as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it wrote to stdout, byte for byte.
    #[must_use]
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// What it wrote to stderr, as text.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The lines of its stdout.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.stdout().lines().map(str::to_owned).collect()
    }

    /// The lines of its stdout, each as JSON.
    ///
    /// # Panics
    /// When one is not JSON.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {line}: {error}", self.name))
        };
        self.stdout().lines().map(parse).collect()
    }

    /// The only line of its stdout, as JSON.
    ///
    /// # Panics
    /// When there is not exactly one line, or it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "{}: {}", self.name, self.stdout());
        lines.remove(0)
    }

    /// The failure that `--json` prints to stderr: what is under `error`.
    ///
    /// # Panics
    /// When the last line of stderr is no such thing.
    #[must_use]
    pub fn failure(&self) -> Value {
        let stderr = self.stderr();
        let line = stderr.lines().last().unwrap_or_default();
        let mut object: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}: {stderr}: {error}", self.name));
        let failure = object["error"].take();
        assert!(failure["kind"].is_string() && failure["message"].is_string(), "{stderr}");
        failure
    }

    /// The kind of that failure.
    ///
    /// # Panics
    /// As [`Output::failure`].
    #[must_use]
    pub fn failure_kind(&self) -> String {
        self.failure()["kind"].as_str().unwrap_or_default().to_owned()
    }
}

/// Waits for its end and kills it when `end` comes first: then the flag is true.
fn wait_until(child: &mut Child, end: Instant) -> (ExitStatus, bool) {
    let left = end.saturating_duration_since(Instant::now());
    // Without a living process there is nothing to wait for.
    let ended = Process::open(child.id()).is_none_or(|process| process.wait(left));
    if !ended {
        child.kill().unwrap();
    }
    (child.wait().unwrap(), !ended)
}

fn read_lines(mut from: impl std::io::BufRead, mut to: impl FnMut(Vec<u8>) -> bool) {
    loop {
        let mut line = Vec::new();
        match from.read_until(b'\n', &mut line) {
            Ok(read) if read > 0 && to(line) => {}
            _ => return,
        }
    }
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A terminal whose last program has ended gives an error instead of an end.
    let _ = from.read_to_end(&mut bytes);
    bytes
}
