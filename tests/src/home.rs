//! A home of its own for one test.
//!
//! ```text
//!   /tmp/lc-XXXXXX/                          HOME
//!     models/                                model files, linked from the shared ones
//!     llamactld.stderr                       what the daemon said
//!     .local/state/llamactl/run/llamactld.sock
//! ```
//!
//! The path is short because a Unix socket's may not be long, and random so that every process
//! that belongs to the home can be told by it. Commands run in an environment built from nothing.
//! When the home is dropped it stops its daemon, and fails the test if any process or listening
//! socket is left behind.

use crate::cli::{Invocation, Output};
use crate::daemon::Daemon;
use crate::processes::{self, Process};
use crate::rpc::{Rpc, Stream};
use crate::{TestModel, artifacts, llama, skip};
use llamactl_protocol::{Failure, Method};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, thread};

/// How long a process that was told to stop may take. The daemon stops its servers first.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What went wrong outside the test's own assertions; said when the home is dropped.
pub(crate) type Problems = Arc<Mutex<Vec<String>>>;

/// A home: a directory and an environment, for one daemon and its clients.
pub struct Home {
    directory: Option<tempfile::TempDir>,
    path: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    problems: Problems,
}

/// Ports for one home alone, below those the system hands out: daemons that look for a free one at
/// the same moment would find the same.
fn own_ports() -> String {
    const EACH: u16 = 32;
    static HOMES: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + HOMES.fetch_add(1, Ordering::Relaxed) % 350 * EACH;
    format!("{first}-{}", first + EACH - 1)
}

impl Home {
    /// A home whose daemon runs the real llama-server.
    #[must_use]
    pub fn new() -> Home {
        Home::without_llama_server().env("LLAMACTL_LLAMA_SERVER", llama::real())
    }

    /// A home whose daemon runs the fake llama-server. How it behaves is written beside the model:
    /// see [`Home::fake_behaviour`].
    #[must_use]
    pub fn with_fake_llama_server() -> Home {
        Home::without_llama_server().env("LLAMACTL_LLAMA_SERVER", artifacts::fake_llama_server())
    }

    /// A home that says nothing about where a llama-server is.
    #[must_use]
    pub fn without_llama_server() -> Home {
        let directory = tempfile::Builder::new().prefix("lc-").tempdir_in("/tmp").unwrap();
        // Open to all, as homes often are: what refuses other users must be the daemon's own.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().canonicalize().unwrap();
        let home = Home {
            directory: Some(directory),
            environment: BTreeMap::new(),
            problems: Problems::default(),
            path,
        };
        let path = home.path.clone();
        // Not the machine's own: a test must not find a daemon that really runs there.
        let system_socket = path.join("system.sock");
        home.env("HOME", path)
            .env("PATH", skip::PATH)
            .env("LLAMACTL_PORTS", own_ports())
            .env("LLAMACTL_NO_AUTOSTART", "1")
            .env("LLAMACTL_SYSTEM_SOCKET", system_socket)
    }

    /// A home with the tiny model registered as `tiny`, and its daemon.
    #[must_use]
    pub fn with_tiny() -> (Home, Daemon) {
        let home = Home::new();
        let daemon = home.daemon();
        let path = home.model(TestModel::Tiny);
        home.cli(["model", "add", &path.display().to_string()]).ok();
        (home, daemon)
    }

    /// The same with a variable in the environment of everything that is run from now on.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Home {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// The same, but clients may start the daemon when none runs.
    #[must_use]
    pub fn with_autostart(mut self) -> Home {
        self.environment.remove(OsStr::new("LLAMACTL_NO_AUTOSTART"));
        self
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the daemon's configuration; the home's daemon reads it at its next start.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, text: &str) {
        let path = self.path.join(".config/llamactl/llamactld.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Where the daemon keeps its databases and logs.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.path.join(".local/state/llamactl")
    }

    /// Where the sockets lie.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        llamactl_protocol::place::run_dir(&self.state_dir())
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        llamactl_protocol::place::socket_in(&self.state_dir())
    }

    /// Any program with any arguments, in this home's environment and directory.
    pub fn program<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Invocation {
        Invocation::new(program.as_ref(), arguments, &self.path, &self.environment)
    }

    /// `llamactl` with these arguments, not yet run.
    pub fn llamactl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Invocation {
        self.program(artifacts::llamactl(), arguments)
    }

    /// `llamactld` with these arguments, not yet run: for starts that are meant to be refused.
    pub fn llamactld<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Invocation {
        self.program(artifacts::llamactld(), arguments)
    }

    /// Runs `llamactl` with these arguments to its end.
    #[must_use = "say how it should have ended: .ok() or .code(n)"]
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.llamactl(arguments).run()
    }

    /// Starts a daemon in the foreground and waits until it takes connections.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        self.daemon_by(self.llamactld(std::iter::empty::<&str>()))
    }

    /// The same, started as said: another executable, other arguments, more environment.
    #[must_use]
    pub fn daemon_by(&self, command: Invocation) -> Daemon {
        Daemon::start(command, self.socket(), self.path.join("llamactld.stderr"), &self.problems)
    }

    /// The numbers of the `llamactld` processes that belong to this home.
    #[must_use]
    pub fn daemon_pids(&self) -> Vec<u32> {
        self.processes().iter().filter(|it| is_daemon(it)).map(|it| it.pid).collect()
    }

    /// The llama-server processes, real or fake, that belong to this home.
    #[must_use]
    pub fn llama_servers(&self) -> Vec<Process> {
        let mut processes = self.processes();
        processes.retain(|it| it.name().ends_with("llama-server"));
        processes
    }

    /// Every living process that belongs to this home.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        processes::of_home(&self.path)
    }

    /// A connection to the daemon.
    ///
    /// # Panics
    /// When none listens.
    #[must_use]
    pub fn connect(&self) -> Rpc {
        Rpc::connect(&self.socket())
    }

    /// One call on a connection of its own; the result.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.connect().call(method, params)
    }

    /// A stream on a connection of its own.
    ///
    /// # Panics
    /// When the daemon refuses.
    #[must_use]
    pub fn follow(&self, method: &str, params: Value) -> Stream {
        self.connect().follow(method, params)
    }

    /// One typed call by the protocol's own client.
    ///
    /// # Errors
    /// The daemon's failure.
    pub fn ask<M: Method>(&self, params: &M) -> Result<M::Output, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::UnixStream::connect(self.socket()).await.unwrap();
            Ok(llamactl_protocol::client::connect(stream).call(params).await?)
        })
    }

    /// A test model as `models/NAME` in this home; for a split one, the first part. The bytes are
    /// shared with every other test: use [`Home::own_model`] for a file that will be changed.
    #[must_use]
    pub fn model(&self, model: TestModel) -> PathBuf {
        model.link_into(&self.models_dir())
    }

    /// A copy of a test model that the test may do anything to, as `models/FILE_NAME`.
    #[must_use]
    pub fn own_model(&self, model: TestModel, file_name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.models_dir().join(file_name.as_ref());
        fs::copy(model.shared(), &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// A model file for the fake llama-server, registered as `name`, that will behave as said: see
    /// the fake's documentation.
    ///
    /// # Panics
    /// When the daemon refuses the model.
    pub fn fake_model(&self, name: &str, behaviour: &Value) -> PathBuf {
        let path = self.own_model(TestModel::Tiny, format!("{name}.gguf"));
        self.fake_behaviour(&path, behaviour);
        self.call("model.add", serde_json::json!({ "path": path, "name": name }));
        path
    }

    /// Says how the fake llama-server behaves from now on with the model at `path`.
    pub fn fake_behaviour(&self, path: &Path, behaviour: &Value) {
        fs::write(llama::fake_script(path), behaviour.to_string()).unwrap();
    }

    fn models_dir(&self) -> PathBuf {
        let dir = self.path.join("models");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Stops what still runs, and says what should not have been there.
    fn clear(&self) -> Vec<String> {
        let mut problems = std::mem::take(&mut *self.problems.lock().unwrap());
        // A daemon that a client started: nobody waits for it but us.
        for daemon in self.processes().iter().filter(|it| is_daemon(it)) {
            daemon.signal(Signal::TERM);
            if !daemon.wait(STOP_DEADLINE) {
                problems.push(format!("daemon {} did not end on SIGTERM", daemon.pid));
            }
        }
        for process in self.processes() {
            // Something that was ending anyway, a client that lost its daemon say, may finish.
            if !process.wait(Duration::from_secs(2)) {
                let command = process.command.join(" ");
                problems.push(format!("process {} was left: {command}", process.pid));
                process.signal(Signal::KILL);
                let _ = process.wait(STOP_DEADLINE);
            }
        }
        for socket in processes::listening_sockets(&self.path) {
            problems.push(format!("somebody still listens on {}", socket.display()));
        }
        problems
    }
}

impl Default for Home {
    fn default() -> Self {
        Home::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let problems = self.clear();
        let failed = thread::panicking() || !problems.is_empty();
        if failed {
            let said = fs::read(self.path.join("llamactld.stderr")).unwrap_or_default();
            eprintln!("--- the daemon said:\n{}---", String::from_utf8_lossy(&said));
        }
        if failed && env::var_os("LLAMACTL_TEST_KEEP").is_some() {
            let kept = self.directory.take().map(tempfile::TempDir::keep);
            eprintln!("the home is kept: {kept:?}");
        }
        if thread::panicking() {
            eprintln!("left when the test failed: {problems:?}");
        } else {
            assert!(problems.is_empty(), "the test left something behind: {problems:#?}");
        }
    }
}

fn is_daemon(process: &Process) -> bool {
    process.name() == "llamactld"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::eventually;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::Stdio;

    #[test]
    fn a_process_left_behind_is_ended_and_fails_the_test() {
        let home = Home::without_llama_server();
        let mut left = home.program("/bin/sleep", ["1000"]).command();
        let mut left = left.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The kernel lets the parent go on before the environment of the new program can be read.
        eventually(STOP_DEADLINE, "the process is seen", || {
            home.processes().iter().map(|it| it.pid).eq([left.id()])
        });
        let path = home.path().to_owned();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(home))).is_err());
        assert!(!left.wait().unwrap().success());
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_somebody_listens_on_fails_the_test() {
        let home = Home::without_llama_server();
        let listener = std::os::unix::net::UnixListener::bind(home.path().join("x.sock")).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(home))).is_err());
        drop(listener);
        // One that nobody listens on is only a file.
        let home = Home::without_llama_server();
        drop(std::os::unix::net::UnixListener::bind(home.path().join("x.sock")).unwrap());
    }

    #[test]
    fn a_command_sees_the_homes_environment_and_no_other() {
        let home = Home::without_llama_server().env("EXTRA", "1").env("LLAMACTL_PORTS", "1-2");
        let mut seen = home.program("/usr/bin/env", NO_ARGUMENTS).run().ok().lines();
        seen.sort();
        let home_line = format!("HOME={}", home.path().display());
        let path_line = format!("PATH={}", skip::PATH);
        let system = format!("LLAMACTL_SYSTEM_SOCKET={}/system.sock", home.path().display());
        let (quiet, ports) = ("LLAMACTL_NO_AUTOSTART=1", "LLAMACTL_PORTS=1-2");
        assert_eq!(seen, ["EXTRA=1", &home_line, quiet, ports, &system, &path_line]);
    }

    #[test]
    #[should_panic(expected = "did not end in time")]
    fn a_program_that_does_not_end_is_killed() {
        let home = Home::without_llama_server();
        let slow = home.program("/bin/sleep", ["1000"]).deadline(Duration::from_millis(50));
        let _ = slow.run();
    }

    const NO_ARGUMENTS: [&str; 0] = [];
}
