//! A connection through ssh: its command line, and the first lines from the other side.
//!
//! ```text
//!   ssh … -- machine "sh -c …"
//!     stdout: what the shell there prints ─▶ skipped
//!             "llamactl-there: found"     ─▶ the machine was reached and has a llamactl
//!             {"version":…}               ─▶ it reached its daemon, or says why not
//!             from here on the daemon's own bytes, both ways
//! ```
//!
//! How ssh ended tells little: with 255 its own failures, a far shell that was killed and a far program
//! that ends so. How far it came is told by the lines that arrived.

use super::Host;
use super::hops::{Came, Ended};
use crate::connection::Stream;
use llamactl_protocol::{Failure, Hint, Kind, WirePath, place};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, join,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// So much of what a shell prints by itself is skipped, in bytes; and so much of stderr is kept.
pub(super) const MAX_SKIPPED: usize = 64 << 10;
/// How long a shell may take that nobody can be asked about at a terminal.
const LIMIT: Duration = Duration::from_secs(120);
/// How long the rest of stderr is waited for when ssh has ended.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// The longest path of a socket that ssh makes, in bytes: while it makes it, it has 17 more.
const MAX_CONTROL_PATH: usize = 104 - 17;

const FOUND: &[u8] = b"llamactl-there: found";
const ABSENT: &[u8] = b"llamactl-there: none";
/// Run by a shell of the other side: its first argument is where llamactl is, if that is known.
const SCRIPT: &str = "p=$1; shift; [ -n \"$p\" ] || p=$(command -v llamactl) || p=$HOME/.local/bin/llamactl; \
     m=found; [ -x \"$p\" ] || m=none; printf \"\\nllamactl-there: $m\\n\"; \
     printf \"\\nllamactl-there: $m\\n\" >&2; [ $m = found ] || exit 127; exec \"$p\" \"$@\"";

/// What `llamactl connect --stdio` says before it passes anything on.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// Its version.
    pub(crate) version: String,
    /// The daemon's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<WirePath>,
    /// The process of a daemon that was started for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_pid: Option<u32>,
    /// Why nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
    /// The daemon was stopped on purpose.
    #[serde(default)]
    pub(crate) was_stopped: bool,
}

/// Runs llamactl there with these arguments and connects to what it connects to.
///
/// # Errors
/// [`Kind::DaemonUnreachable`], with how far it came; what llamactl there says.
pub(crate) async fn open<A: AsRef<OsStr>>(
    host: &Host,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(Stream, Greeting), Failure> {
    let mut ssh = Ssh::spawn(host, arguments)?;
    let greeted = async {
        let came = ssh.reach().await;
        if came != Came::Found {
            return Err(came);
        }
        let mut line = Vec::new();
        let mut from = (&mut ssh.stdout).take(u64::try_from(MAX_SKIPPED).unwrap_or(u64::MAX));
        let read = from.read_until(b'\n', &mut line).await;
        read.ok().and_then(|_| serde_json::from_slice::<Greeting>(&line).ok()).ok_or(came)
    };
    let greeted = match io::stdin().is_terminal() {
        true => Ok(greeted.await),
        false => timeout(LIMIT, greeted).await,
    };
    let greeting = match greeted {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(came)) => return Err(ssh.failure(host, came).await),
        Err(_) => return Err(ssh.failure(host, Came::Slow).await),
    };
    match &greeting.failure {
        Some(failure) => Err(from_there(host, failure.clone(), greeting.was_stopped)),
        None => Ok((Box::new(join(ssh.stdout, ssh.stdin)), greeting)),
    }
}

/// A failure in the words of llamactl there.
fn from_there(host: &Host, failure: Failure, was_stopped: bool) -> Failure {
    let message = format!("{}: {}", host.name, failure.message);
    let mut details = failure
        .details
        .filter(serde_json::Value::is_object)
        .unwrap_or_else(|| serde_json::json!({}));
    details["host"] = host.name.clone().into();
    details["was_stopped"] = was_stopped.into();
    Failure { message, details: Some(details), ..failure }
}

/// Whether a failure says that the daemon there was stopped on purpose.
pub(crate) fn was_stopped(failure: &Failure) -> bool {
    failure.details.as_ref().is_some_and(|details| details["was_stopped"] == true)
}

/// An ssh that runs.
pub(super) struct Ssh {
    pub(super) child: Child,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: BufReader<ChildStdout>,
    pub(super) stderr: BufReader<ChildStderr>,
    /// What the shell there printed by itself.
    skipped: Vec<u8>,
}

impl Ssh {
    /// Begins to run llamactl there.
    ///
    /// # Errors
    /// [`Kind::DaemonUnreachable`]: there is no ssh here.
    pub(super) fn spawn<A: AsRef<OsStr>>(
        host: &Host,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Ssh, Failure> {
        let mut command = Command::new("ssh");
        command.args(options(host)).arg("--").arg(&host.machine).arg(remote_line(host, arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: io::Error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "there is no program ssh on this machine".to_owned(),
                _ => format!("ssh cannot be run on this machine: {error}"),
            };
            Failure::new(Kind::DaemonUnreachable, why)
                .hint(Hint::to("it comes with the package openssh-client, or openssh"))
        };
        let mut child = command.spawn().map_err(failed)?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                let (stdout, stderr) = (BufReader::new(stdout), BufReader::new(stderr));
                Ok(Ssh { child, stdin, stdout, stderr, skipped: Vec::new() })
            }
            _ => Err(failed(io::Error::other("its pipes are missing"))),
        }
    }

    /// Waits for the word of the other side that it found llamactl.
    pub(super) async fn reach(&mut self) -> Came {
        skip_to_mark(&mut self.stdout, &mut self.skipped).await
    }

    /// Why no more came than `came`. Ends it, where it has not ended.
    pub(super) async fn failure(mut self, host: &Host, came: Came) -> Failure {
        if matches!(came, Came::TooMuch | Came::Slow) {
            // It may have ended meanwhile.
            let _ = self.child.start_kill();
        }
        drop(self.stdin);
        let mut said = Vec::new();
        let limit = u64::try_from(MAX_SKIPPED).unwrap_or(u64::MAX);
        // A master that older versions of ssh leave behind keeps its stderr.
        let _ = timeout(REST_LIMIT, self.stderr.take(limit).read_to_end(&mut said)).await;
        let status = match timeout(REST_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => status.code(),
            _ => None,
        };
        let (printed, said) =
            (String::from_utf8_lossy(&self.skipped), String::from_utf8_lossy(&said));
        Ended { came, status, printed: &printed, said: &said }.failure(host)
    }
}

/// Reads up to the line of the other side that says whether it has a llamactl, and keeps what stands
/// before it.
pub(super) async fn skip_to_mark(
    from: &mut (impl AsyncBufRead + Unpin),
    skipped: &mut Vec<u8>,
) -> Came {
    loop {
        let left = MAX_SKIPPED.saturating_sub(skipped.len());
        let mut line = Vec::new();
        let mut bounded = (&mut *from).take(u64::try_from(left).unwrap_or(0));
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) if left == 0 => return Came::TooMuch,
            Err(_) | Ok(0) => return Came::Nothing,
            Ok(_) => {}
        }
        match line.trim_ascii() {
            FOUND => return Came::Found,
            ABSENT => return Came::Absent,
            _ => skipped.extend_from_slice(&line),
        }
    }
}

/// What ssh is told before the machine's name.
fn options(host: &Host) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["-T", "-e", "none"].map(OsString::from).to_vec();
    let mut option = |text: &str| words.extend([OsString::from("-o"), OsString::from(text)]);
    option("ConnectTimeout=10");
    option("ServerAliveInterval=15");
    // What the user's configuration adds for shells would be in the way.
    option("ClearAllForwardings=yes");
    option("RemoteCommand=none");
    if host.is_hurried {
        // Where no master listens nothing else is tried.
        option("ProxyCommand=false");
        option("ControlMaster=no");
    }
    if host.is_hurried || !io::stdin().is_terminal() {
        option("BatchMode=yes");
    }
    if !host.shares_own
        && let Some(control) = control_path()
    {
        option("ControlMaster=auto");
        option("ControlPersist=60");
        let mut path = OsString::from("ControlPath=");
        path.push(control);
        words.extend([OsString::from("-o"), path]);
    }
    words.extend(host.user.iter().flat_map(|user| ["-l".into(), user.into()]));
    words.extend(host.port.iter().flat_map(|port| ["-p".into(), port.to_string().into()]));
    words
}

/// Where connections to one machine meet: in a directory that is ours alone. `None` where there is no
/// such place, or its path is too long: each connection is then made anew.
fn control_path() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| dir.is_absolute() && dir.is_dir());
    let dir = match runtime {
        Some(dir) => dir.join("llamactl/ssh"),
        None => place::run_dir(&place::state_dir().ok()?).join("ssh"),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let facts = fs::symlink_metadata(&dir).ok()?;
    let is_ours = facts.is_dir()
        && facts.uid() == rustix::process::geteuid().as_raw()
        && facts.mode() & 0o077 == 0;
    // ssh puts forty letters in the place of %C, and reads any other % as the beginning of the like.
    let bytes = dir.as_os_str().as_bytes();
    let fits = bytes.len() + 1 + 40 <= MAX_CONTROL_PATH && !bytes.contains(&b'%');
    (is_ours && fits).then(|| dir.join("%C"))
}

/// The line for the shell there, whichever it is. llamactl there is not to go on to a third machine that
/// its environment names.
fn remote_line<A: AsRef<OsStr>>(host: &Host, arguments: impl IntoIterator<Item = A>) -> OsString {
    let program = host.llamactl.as_deref().unwrap_or(Path::new("")).as_os_str().to_owned();
    let words = ["sh".into(), "-c".into(), SCRIPT.into(), "sh".into(), program, "--host=".into()];
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
    let quoted: Vec<Vec<u8>> = words.into_iter().chain(arguments).map(quoted).collect();
    OsString::from_vec(quoted.join(&b' '))
}

/// A word in quotes that sh, zsh and fish read alike.
fn quoted(word: OsString) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.into_vec() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// Copies what comes, until it ends.
///
/// # Errors
/// Nobody takes it.
pub(super) async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl io::Write,
) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Some(piece) = piece.get(..length) else { break };
        to.write_all(piece)?;
        to.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn skipped(text: &[u8]) -> (Came, usize) {
        let (mut skipped, mut from) = (Vec::new(), text);
        let came = skip_to_mark(&mut from, &mut skipped).await;
        (came, skipped.len())
    }

    #[tokio::test]
    async fn what_a_shell_prints_is_skipped_up_to_a_bound() {
        assert_eq!(
            skipped(b"Welcome\nto box\nllamactl-there: found\nrest").await,
            (Came::Found, 15)
        );
        assert_eq!(skipped(b"no line end\r\nllamactl-there: none\r\n").await.0, Came::Absent);
        assert_eq!(skipped(b"Welcome\n").await, (Came::Nothing, 8));
        let (came, kept) = skipped(&b"y\n".repeat(MAX_SKIPPED)).await;
        assert_eq!((came, kept), (Came::TooMuch, MAX_SKIPPED));
    }

    #[test]
    fn words_reach_the_other_side_as_they_are() {
        let host = Host::parse("ssh://box").unwrap();
        let words = ["a b", "it's", "$(x)", "", "`y`", "\\n"];
        let line = remote_line(&host, words).into_string().unwrap();
        // What runs there is `sh -c SCRIPT sh "" --host= words`: here a script that prints its words.
        let line = line.replace(
            &format!("'{}'", SCRIPT.replace('\'', "'\\''")),
            "'shift 2; printf \"%s\\n\" \"$@\"'",
        );
        let ran = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
        assert_eq!(
            String::from_utf8(ran.stdout).unwrap(),
            words.map(|word| format!("{word}\n")).concat()
        );
    }

    #[test]
    fn ssh_is_told_of_user_and_port_and_no_option_can_be_slipped_in() {
        let host = Host { shares_own: true, ..Host::parse("ssh://ana@box:2222").unwrap() };
        let words = options(&host);
        let at = |word: &str| words.iter().position(|known| known == word).unwrap();
        assert_eq!((&words[at("-l") + 1], &words[at("-p") + 1]), (&"ana".into(), &"2222".into()));
        assert!(
            !words.iter().any(|word| word.to_string_lossy().starts_with("Control")),
            "{words:?}"
        );
    }
}
