//! From the death of a ready server to the next one's first act, beside the least that a
//! supervisor can do: wait for the process, make it again.
//!
//! Both run the real llama-server by way of the same script, whose first act is to write into a
//! FIFO that is read here. They take turns, so that what else the machine does falls on both.

use crate::Times;
use llama_http::Target;
use llamactl_tests::http::Endpoint;
use llamactl_tests::processes::Process;
use llamactl_tests::{DEADLINE, Home, Rpc, Stream, TestModel, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub(super) const TRIES: usize = 40;

/// What was measured.
pub(super) struct Figures {
    /// Until a killed process is gone: part of the others, and nobody's to shorten.
    pub(super) dying: Times,
    pub(super) floor: Times,
    pub(super) respawn: Times,
}

pub(super) fn measure() -> Figures {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let signs = Signs::new(&home.path().join("signs"));
    let path = home.wrapped_model("m", TestModel::Tiny, &json!({}), &signs.shell());
    let mut bare = Bare::start(&home, path, &signs);
    let mut supervised = Supervised::of(&home);
    // The first of each reads what the others find in memory.
    bare.killed(&signs);
    supervised.killed(&signs);
    let (mut dying, mut floor, mut respawn) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let (died, began) = bare.killed(&signs);
        dying.push(died);
        floor.push(began);
        respawn.push(supervised.killed(&signs));
    }
    bare.end();
    supervised.rpc.call("server.stop", json!({ "model": "m" }));
    supervised.states.until_state("stopped");
    let of = |all| Times::of(all, 99);
    Figures { dying: of(dying), floor: of(floor), respawn: of(respawn) }
}

/// Where each process writes as its first act.
struct Signs {
    path: PathBuf,
    fifo: File,
}

impl Signs {
    fn new(path: &Path) -> Signs {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // For writing too: neither side then waits for the other to open it.
        let fifo = File::options().read(true).write(true).open(path).unwrap();
        Signs { path: path.to_owned(), fifo }
    }

    /// Writes a sign.
    fn shell(&self) -> String {
        format!("echo >'{}'", self.path.display())
    }

    fn wait(&self) {
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        let mut polled = [PollFd::new(&self.fifo, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&timeout)).unwrap(), 1, "no process began");
        (&self.fifo).read_exact(&mut [0]).unwrap();
    }
}

/// A server without a supervisor.
struct Bare<'a> {
    home: &'a Home,
    model: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Bare<'_> {
    fn start<'a>(home: &'a Home, model: PathBuf, signs: &Signs) -> Bare<'a> {
        let socket = home.path().join("bare.sock");
        let child = spawn(home, &model, &socket);
        signs.wait();
        Bare { home, model, socket, child }
    }

    /// Waits until it is ready, kills it and makes it again: when it was gone, and when the next
    /// one began.
    fn killed(&mut self, signs: &Signs) -> (Duration, Duration) {
        let endpoint = Endpoint(Target::Socket(self.socket.clone()));
        eventually(DEADLINE, "the bare server is ready", || {
            endpoint.get("/health").is_ok_and(|answer| answer.status == 200)
        });
        // llama-server never does; the daemon does it in the time that is measured.
        fs::remove_file(&self.socket).unwrap();
        let process = Process::open(self.child.id()).unwrap();
        let start = Instant::now();
        process.signal(Signal::KILL);
        self.child.wait().unwrap();
        let died = start.elapsed();
        self.child = spawn(self.home, &self.model, &self.socket);
        signs.wait();
        (died, start.elapsed())
    }

    fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn spawn(home: &Home, model: &Path, socket: &Path) -> Child {
    let arguments = ["--model".as_ref(), model.as_os_str(), "--host".as_ref(), socket.as_os_str()];
    let log = File::create(home.path().join("bare.log")).unwrap();
    let mut command = home.program(home.wrapper(), arguments).command();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.process_group(0).spawn().unwrap()
}

/// The same under the daemon.
struct Supervised {
    rpc: Rpc,
    states: Stream,
}

impl Supervised {
    fn of(home: &Home) -> Supervised {
        let states = home.follow("server.follow", json!({ "model": "m" }));
        Supervised { rpc: home.connect(), states }
    }

    /// Starts it, kills it when it is ready, and lets the daemon start it again. By a stop and a
    /// start of its own, because policy waits from the second failure in a row on.
    fn killed(&mut self, signs: &Signs) -> Duration {
        self.rpc.call("server.stop", json!({ "model": "m" }));
        self.states.until_state("stopped");
        self.rpc.call("server.start", json!({ "model": "m" }));
        signs.wait();
        let server = self.states.until_state("ready");
        let pid = server["run"]["pid"].as_u64().unwrap();
        let process = Process::open(u32::try_from(pid).unwrap()).unwrap();
        let start = Instant::now();
        process.signal(Signal::KILL);
        signs.wait();
        let took = start.elapsed();
        self.states.item_where(|it| it["state"] == "ready" && it["run"]["pid"] != pid);
        took
    }
}
