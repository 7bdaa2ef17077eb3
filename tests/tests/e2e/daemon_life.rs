//! The daemon's own life: what it is configured to do, how it is replaced, and what it survives.

use llamactl_protocol::environment::DEVICE_VARIABLES;
use llamactl_tests::processes::Process;
use llamactl_tests::{DEADLINE, Home, Rpc, TestModel, artifacts, eventually};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NO_ARGUMENTS: [&str; 0] = [];

#[test]
fn a_configuration_is_read_shown_and_checked() {
    let home = Home::without_llama_server();
    let file = home.path().join(".config/llamactl/llamactld.toml");
    // None is no fault.
    let said = home.cli(["daemon", "check-config"]).ok().stdout();
    assert!(said.contains("the defaults hold") && said.contains("max_loading = 2"), "{said}");

    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "max_running = 3\nstrays = \"stop\"\n").unwrap();
    let checked = home.cli(["daemon", "check-config", "--json"]).ok().json();
    let expected = json!({ "path": file, "max_running": 3, "max_loading": 2,
        "on_daemon_exit": "keep", "strays": "stop", "metrics": { "history_bytes": 256 << 20 } });
    assert_eq!(checked, expected);
    let _daemon = home.daemon();
    assert_eq!(home.cli(["daemon", "status", "--json"]).ok().json()["config"], expected);
    let shown = home.cli(["daemon", "status"]).ok().stdout();
    assert!(shown.contains("max_running=3") && shown.contains("llamactld.toml"), "{shown}");
}

#[test]
fn a_wrong_configuration_keeps_the_daemon_from_starting_and_says_where() {
    let home = Home::without_llama_server();
    let file = home.path().join("mine.toml");
    fs::write(&file, "max_loading = 1\nmax_runing = 3\n").unwrap();
    let at = format!("{}:2", file.display());
    let file = file.to_str().unwrap();
    for run in [
        home.llamactld(["--config", file]),
        home.llamactld(["--config", file, "--check-config"]),
        home.llamactld(NO_ARGUMENTS).env("LLAMACTL_CONFIG", file),
        home.llamactl(["daemon", "check-config", "--config", file]),
    ] {
        let said = run.run().code(5).stderr();
        assert!(said.contains(&at) && said.contains("did you mean max_running?"), "{said}");
    }
    let failure = home.llamactl(["daemon", "start"]).env("LLAMACTL_CONFIG", file).run().code(6);
    assert!(failure.stderr().contains(&at), "{}", failure.stderr());
    assert!(home.daemon_pids().is_empty());
    // What was named must be there.
    home.llamactld(["--config", "/nonexistent/x.toml"]).run().code(5);
}

/// The number of the daemon's life that answers.
fn started_at(home: &Home) -> i64 {
    home.call("daemon.hello", json!({}))["started_at_ms"].as_i64().unwrap()
}

/// Waits until another life of the daemon answers than the one that started then.
fn until_another_life(home: &Home, before: i64) {
    eventually(DEADLINE, "another life of the daemon answers", || {
        let answer = Rpc::try_connect(&home.socket())
            .ok()
            .and_then(|mut rpc| rpc.try_call("daemon.hello", json!({})).ok());
        answer.is_some_and(|hello| hello["started_at_ms"].as_i64() != Some(before))
    });
}

/// Calls the daemon on connections of their own until told to stop; what went wrong, and how many
/// calls were answered.
fn keep_calling(socket: &Path, over: &AtomicBool) -> (Vec<String>, usize) {
    let (mut problems, mut answered) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let asked = Rpc::try_connect(socket).and_then(|mut rpc| {
            rpc.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\n")?;
            Ok(rpc.line_within(DEADLINE).flatten().is_some())
        });
        match asked {
            Ok(true) => answered += 1,
            Ok(false) => problems.push("closed without an answer".to_owned()),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (problems, answered)
}

/// Lets a server write long answers, piece by piece, until told to stop. When each began and
/// ended; panics when one is cut.
fn keep_streaming(socket: &str, over: &AtomicBool) -> Vec<(Instant, Instant)> {
    let body = json!({ "prompt": "a", "n_predict": 400, "ignore_eos": true, "stream": true });
    let body = body.to_string();
    let mut answers = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "POST /completion HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"stop\":true"), "cut: {answer}");
        answers.push((began, Instant::now()));
    }
    answers
}

#[test]
fn a_restart_in_place_cuts_nothing_and_keeps_everything() {
    let home = Home::new();
    let path = home.model(TestModel::Tiny);
    let daemon = home.daemon();
    home.call("model.add", json!({ "path": path, "name": "m" }));
    let _ = home.cli(["start", "m"]).ok();
    let before = home.call("server.show", json!({ "model": "m" }));
    let socket = before["endpoint"]["socket"].as_str().unwrap().to_owned();
    let control = home.socket();
    let over = AtomicBool::new(false);
    let (restarts, streams, calls) = thread::scope(|scope| {
        let streams = scope.spawn(|| keep_streaming(&socket, &over));
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| keep_calling(&control, &over))).collect();
        // Also when something below is not as it should be: the threads are waited for.
        let ends = EndsOnDrop(&over);
        let restarts: Vec<_> = (0..3)
            .map(|_| {
                let life = started_at(&home);
                let mut states = home.follow("server.follow", json!({ "model": "m" }));
                states.until_state("ready");
                let began = Instant::now();
                let said = home.cli(["daemon", "restart"]).ok().stdout();
                assert!(said.contains(&daemon.pid().to_string()), "{said}");
                assert!(said.contains("its server runs on"), "{said}");
                assert_ne!(started_at(&home), life);
                assert_eq!(states.to_end().last().unwrap()["kind"], "end");
                (began, Instant::now())
            })
            .collect();
        drop(ends);
        let calls: Vec<_> = calls.into_iter().map(|calls| calls.join().unwrap()).collect();
        (restarts, streams.join().unwrap(), calls)
    });
    for (problems, answered) in calls {
        assert!(problems.is_empty() && answered > 0, "{answered} calls went well: {problems:?}");
    }
    let spans = |(from, to): (Instant, Instant)| {
        restarts.iter().any(|(begun, done)| from < *done && *begun < to)
    };
    assert!(streams.iter().any(|stream| spans(*stream)), "no answer was written meanwhile");

    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(after["run"]["id"], before["run"]["id"]);
    assert_eq!(after["run"]["pid"], before["run"]["pid"]);
    assert_eq!(after["run"]["ready_at_ms"], before["run"]["ready_at_ms"]);
    let servers = home.llama_servers();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].parent(), Some(daemon.pid()), "it is its child still");
    // What one program left to the next is nothing that a server gets to see.
    assert!(!servers[0].mentions(b"inherit"));
    let events = home.call("event.list", json!({ "limit": 1000 }));
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().collect();
    let count = |kind: &str| kinds.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((count("daemon.restarted"), count("daemon.started")), (3, 4));
    let _ = home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty(), "an adopted child can be stopped");
    assert!(home.cli(["daemon", "restart", "--json"]).ok().json()["started_at_ms"].is_i64());
}

/// Ends what goes on until it is over.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The device and inode of a file.
fn identity(path: impl AsRef<Path>) -> (u64, u64) {
    let file = fs::metadata(path).unwrap();
    (file.dev(), file.ino())
}

/// Puts a file in another's place in one step.
fn replace(path: &Path, with: impl FnOnce(&Path)) {
    let next = path.with_extension("new");
    with(&next);
    fs::set_permissions(&next, Permissions::from_mode(0o755)).unwrap();
    fs::rename(next, path).unwrap();
}

#[test]
fn the_program_that_lies_there_now_takes_over_and_a_broken_one_does_not() {
    let home = Home::with_fake_llama_server();
    let program = home.path().join("llamactld");
    let install = |path: &Path| {
        fs::copy(artifacts::llamactld(), path).unwrap();
    };
    replace(&program, install);
    let daemon = home.daemon_by(home.program(&program, NO_ARGUMENTS));
    home.fake_model("m", &json!({}));
    let _ = home.cli(["start", "m"]).ok();
    let run = home.call("server.show", json!({ "model": "m" }))["run"]["id"].clone();
    let executable = format!("/proc/{}/exe", daemon.pid());
    let old = identity(&executable);

    let life = started_at(&home);
    replace(&program, |path| {
        fs::write(path, "#!/bin/sh\necho no such library >&2; exit 1\n").unwrap();
    });
    let refused = home.cli(["daemon", "restart"]).code(1).stderr();
    assert!(refused.contains("no such library") && refused.contains("goes on"), "{refused}");
    fs::remove_file(&program).unwrap();
    let refused = home.cli(["daemon", "restart"]).code(1).stderr();
    assert!(refused.contains("it is not there"), "{refused}");
    daemon.signal(Signal::HUP);
    eventually(DEADLINE, "the refusal is in the log", || daemon.stderr().contains("SIGHUP"));
    replace(&program, install);
    let config = home.path().join(".config/llamactl/llamactld.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "strays = 7\n").unwrap();
    let refused = home.cli(["daemon", "restart"]).code(5).stderr();
    assert!(refused.contains("llamactld.toml:1: strays cannot be 7"), "{refused}");
    assert_eq!(started_at(&home), life, "the old one went on through all of that");
    assert_eq!(identity(&executable), old);

    fs::write(&config, "max_running = 9\n").unwrap();
    let _ = home.cli(["daemon", "restart"]).ok();
    assert_eq!(identity(&executable), identity(&program));
    assert_ne!(identity(&executable), old);
    let status = home.call("daemon.status", json!({}));
    assert_eq!(
        (&status["pid"], &status["config"]["max_running"]),
        (&json!(daemon.pid()), &json!(9))
    );
    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(after["run"]["id"], run);
}

#[test]
fn a_daemon_in_the_background_restarts_in_place_too() {
    let home = Home::without_llama_server();
    let _ = home.cli(["daemon", "start"]).ok();
    let before = home.call("daemon.status", json!({}));
    for _ in 0..2 {
        let _ = home.cli(["daemon", "restart"]).ok();
    }
    let after = home.call("daemon.status", json!({}));
    assert_eq!((&after["pid"], &after["log"]), (&before["pid"], &before["log"]));
    eventually(DEADLINE, "its log tells of three lives", || {
        let log = fs::read_to_string(after["log"].as_str().unwrap()).unwrap();
        log.matches("ready").count() == 3
    });
    let descriptors = fs::read_dir(format!("/proc/{}/fd", after["pid"])).unwrap().count();
    let _ = home.cli(["daemon", "restart"]).ok();
    let now = fs::read_dir(format!("/proc/{}/fd", after["pid"])).unwrap().count();
    assert!(now <= descriptors + 2, "{now} descriptors are open, {descriptors} were");
    let _ = home.cli(["daemon", "stop"]).ok();
    assert!(!home.socket().exists());
    // Where none runs, one is started.
    let _ = home.cli(["daemon", "restart"]).ok();
    assert_eq!(home.daemon_pids().len(), 1);
}

#[test]
fn a_made_up_inheritance_is_refused() {
    let home = Home::without_llama_server();
    home.llamactld(["--inherit=3,4,5,1,2,no"]).run().code(1);
    home.llamactld(["--inherit=nonsense"]).run().code(2);
}

#[test]
fn a_hangup_reads_the_configuration_and_a_mistake_in_it_changes_nothing() {
    let home = Home::without_llama_server();
    home.configure("max_running = 3\n");
    let daemon = home.daemon();
    let limit = || home.call("daemon.status", json!({}))["config"]["max_running"].clone();
    home.configure("\nmax_runing = 4\n");
    let life = started_at(&home);
    daemon.signal(Signal::HUP);
    let refused = "llamactld.toml:2: there is no key max_runing";
    eventually(DEADLINE, "the refusal is in the log", || daemon.stderr().contains(refused));
    assert_eq!((started_at(&home), limit()), (life, json!(3)));
    home.configure("max_running = 4\n");
    daemon.signal(Signal::HUP);
    until_another_life(&home, life);
    assert_eq!(limit(), json!(4));
}

#[test]
fn a_hangup_replaces_a_daemon_without_a_terminal_and_stops_one_with() {
    let home = Home::without_llama_server();
    let mut daemon = home.daemon();
    let life = started_at(&home);
    daemon.signal(Signal::HUP);
    until_another_life(&home, life);
    // Also at moments when it is being replaced already.
    for _ in 0..40 {
        daemon.signal(Signal::HUP);
        thread::sleep(Duration::from_millis(5));
    }
    eventually(DEADLINE, "the daemon answers", || answers(&home, daemon.pid()));
    // The last one may still be at work; a stop is the stronger order.
    let _ = home.cli(["daemon", "restart"]).ok();
    assert!(daemon.terminate().success());

    let (_screen, terminal) = llamactl_tests::terminal::open(80);
    let mut command = home.llamactld(NO_ARGUMENTS).command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    eventually(DEADLINE, "the daemon answers", || {
        Rpc::try_connect(&home.socket())
            .is_ok_and(|mut rpc| rpc.try_call("daemon.ping", json!({})).is_ok())
    });
    Process::open(child.id()).unwrap().signal(Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn of_ten_daemons_at_once_one_wins_and_the_others_name_it() {
    let home = Home::without_llama_server();
    fs::create_dir_all(home.run_dir()).unwrap();
    for dir in home.run_dir().ancestors().take_while(|dir| *dir != home.path()) {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    }
    let mut bystander = home.program("/bin/sleep", ["1000"]).command().spawn().unwrap();
    for round in 0..5 {
        // What a daemon before may have left: its socket, and a pid that is another's by now.
        let pid = if round % 2 == 0 { 1 } else { bystander.id() };
        let mut lock = home.socket().into_os_string();
        lock.push(".lock");
        fs::write(lock, format!("{pid}\n")).unwrap();
        drop(UnixListener::bind(home.socket()).unwrap());

        let mut children: Vec<_> = (0..10)
            .map(|_| {
                let mut command = home.llamactld(NO_ARGUMENTS).command();
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let mut losers = Vec::new();
        eventually(DEADLINE, "nine of ten give way", || {
            let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
            let gone = children.iter_mut().position(ended);
            losers.extend(gone.map(|index| children.remove(index)));
            losers.len() == 9
        });
        let mut winner = children.remove(0);
        for loser in losers {
            let output = loser.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(said.contains(&format!("pid {}", winner.id())), "{} won: {said}", winner.id());
        }
        eventually(DEADLINE, "the winner answers", || {
            Rpc::try_connect(&home.socket()).is_ok_and(|mut rpc| {
                let status = rpc.try_call("daemon.status", json!({}));
                status.is_ok_and(|status| status["pid"] == winner.id())
            })
        });
        Process::open(winner.id()).unwrap().signal(Signal::TERM);
        assert_eq!(winner.wait().unwrap().code(), Some(0));
        assert!(bystander.try_wait().unwrap().is_none(), "an unrelated process was ended");
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn one_state_directory_has_one_daemon_wherever_it_listens() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let elsewhere = home.path().join("other/d.sock");
    let second = home.llamactld(["--socket", elsewhere.to_str().unwrap()]).run().code(4);
    assert!(second.stderr().contains(&daemon.pid().to_string()), "{}", second.stderr());
    assert_eq!(fs::read_dir(elsewhere.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_daemon_that_is_stopped_leaves_nothing_beside_a_socket_that_was_named() {
    let home = Home::without_llama_server();
    let directory = home.path().join("named");
    let socket = directory.join("d.sock");
    let ask =
        |words: [&str; 2]| home.cli(["--socket", socket.to_str().unwrap(), words[0], words[1]]);
    for _ in 0..2 {
        ask(["daemon", "start"]).ok();
        assert!(socket.exists());
        ask(["daemon", "stop"]).ok();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}

fn answers(home: &Home, pid: u32) -> bool {
    // Who waits in the queue of a socket that is bound again is cut off.
    let line = Rpc::try_connect(&home.socket()).and_then(|mut rpc| {
        rpc.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n")?;
        Ok(rpc.line_within(DEADLINE).flatten())
    });
    let status = line.ok().flatten().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    status.is_some_and(|status| status["result"]["pid"] == pid)
}

#[test]
fn a_socket_that_is_removed_or_replaced_is_bound_again() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let mut connected = home.connect();
    let mut lock = home.socket().into_os_string();
    lock.push(".lock");
    for disturb in [
        (&|| fs::remove_file(home.socket()).unwrap()) as &dyn Fn(),
        &|| fs::rename(home.socket(), home.run_dir().join("away")).unwrap(),
        &|| {
            fs::remove_file(home.socket()).unwrap();
            fs::remove_file(&lock).unwrap();
        },
        &|| {
            // A dead socket is put in its place.
            let dead = home.run_dir().join("dead");
            drop(UnixListener::bind(&dead).unwrap());
            fs::rename(dead, home.socket()).unwrap();
        },
    ] {
        disturb();
        eventually(DEADLINE, "the daemon answers again", || answers(&home, daemon.pid()));
        eventually(DEADLINE, "the lock is there", || Path::new(&lock).exists());
        home.llamactld(NO_ARGUMENTS).run().code(4);
        assert_eq!(connected.call("daemon.ping", json!({ "n": 1 }))["n"], 1, "it was not cut");
    }
    let mode = fs::metadata(home.socket()).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o600);

    // What somebody else listens on is left alone, and said.
    let foreign = home.run_dir().join("foreign");
    let listener = UnixListener::bind(&foreign).unwrap();
    fs::rename(&foreign, home.socket()).unwrap();
    let theirs = identity(home.socket());
    eventually(DEADLINE, "the log says so", || daemon.stderr().contains("another program"));
    assert_eq!(identity(home.socket()), theirs);
    drop(listener);
    eventually(DEADLINE, "it is ours again", || answers(&home, daemon.pid()));
    // And what was renewed is what is handed on.
    let life = started_at(&home);
    let _ = home.cli(["daemon", "restart"]).ok();
    assert!(started_at(&home) != life && answers(&home, daemon.pid()));
}

#[test]
fn a_run_directory_that_is_wiped_is_made_again() {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", &json!({}));
    for _ in 0..3 {
        // What is made again between the deletion of the files and of the directory is no fault.
        eventually(DEADLINE, "the directory is gone", || {
            fs::remove_dir_all(home.run_dir()).is_ok()
        });
        eventually(DEADLINE, "the daemon answers again", || answers(&home, daemon.pid()));
        home.llamactld(NO_ARGUMENTS).run().code(4);
    }
    eventually(DEADLINE, "all is there", || home.run_dir().join("servers").is_dir());
    for dir in [home.run_dir(), home.run_dir().join("servers")] {
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700, "{}", dir.display());
    }
    let _ = home.cli(["start", "m"]).ok();
    let _ = home.cli(["stop", "m"]).ok();
}

#[test]
fn a_daemon_that_stands_still_ends_itself_and_the_next_takes_over() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let _ = home.cli(["start", "m"]).ok();
    let run = home.call("server.show", json!({ "model": "m" }))["run"]["id"].clone();
    daemon.kill();

    let blocked = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "executor=block");
    let said = blocked.env("LLAMACTL_TEST_WATCHDOG_MS", "600").run().code(70).stderr();
    assert!(said.contains("stands still"), "{said}");
    assert_eq!(home.llama_servers().len(), 1);

    daemon.start_again();
    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(after["run"]["id"], run);
}

#[test]
fn a_daemon_that_was_suspended_is_not_taken_for_one_that_stands_still() {
    let home = Home::without_llama_server().env("LLAMACTL_TEST_WATCHDOG_MS", "1500");
    let daemon = home.daemon();
    let life = started_at(&home);
    daemon.signal(Signal::STOP);
    // Nothing tells of time that passes while nothing happens.
    thread::sleep(Duration::from_millis(2500));
    daemon.signal(Signal::CONT);
    assert_eq!(started_at(&home), life);
}

#[test]
fn the_service_manager_hears_that_the_daemon_is_ready_alive_and_stopping() {
    let home = Home::without_llama_server();
    let path = home.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let command = home.llamactld(NO_ARGUMENTS).env("NOTIFY_SOCKET", &path);
    let mut daemon = home.daemon_by(command.env("WATCHDOG_USEC", "200000"));
    let hear = |wanted: &str| loop {
        let mut said = [0; 64];
        let length = manager.recv(&mut said).unwrap();
        if &said[..length] == wanted.as_bytes() {
            return;
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    daemon.signal(Signal::TERM);
    hear("STOPPING=1");
    assert!(daemon.wait().success());
}

#[test]
fn every_device_variable_of_the_client_reaches_the_daemon_it_starts() {
    let mut home = Home::without_llama_server().with_autostart();
    for name in DEVICE_VARIABLES {
        home = home.env(name, format!("of {name}"));
    }
    let _ = home.cli(["model", "list"]).ok();
    let daemon = Process::open(home.daemon_pids()[0]).unwrap();
    for name in DEVICE_VARIABLES {
        assert_eq!(daemon.variable(name), Some(format!("of {name}")), "{name}");
    }
}

#[test]
fn a_log_that_hangs_neither_stops_the_daemon_nor_is_forgotten() {
    let home = Home::without_llama_server().env("LLAMACTL_TEST_WATCHDOG_MS", "600");
    let log = home.state_dir().join("log/llamactld.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::set_permissions(home.state_dir(), Permissions::from_mode(0o700)).unwrap();
    mkfifoat(CWD, &log, Mode::RUSR | Mode::WUSR).unwrap();
    let open = rustix::fs::open(&log, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty());
    let mut pipe = File::from(open.unwrap());
    let _ = home.cli(["daemon", "start"]).ok();
    let life = started_at(&home);
    // Nothing goes into the pipe any more; and this many lines do not fit into the queue.
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    let mut rpc = home.connect();
    for _ in 0..2000 {
        let _ = rpc.call("daemon.hello", json!({ "protocol": 99 }));
    }
    let hung = Instant::now();
    eventually(DEADLINE, "the watchdog has had its time twice", || {
        assert_eq!(started_at(&home), life);
        hung.elapsed() > Duration::from_millis(1200)
    });
    let mut said = Vec::new();
    eventually(DEADLINE, "what is missing is said", || {
        let mut some = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut some) {
            said.extend_from_slice(&some[..length]);
        }
        String::from_utf8_lossy(&said).contains("lines are missing here")
    });
    let _ = home.cli(["daemon", "stop"]).ok();
}

#[test]
fn a_program_that_cannot_open_the_registry_does_not_take_over() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let life = started_at(&home);
    let registry = rusqlite::Connection::open(home.state_dir().join("registry.db")).unwrap();
    let version: u32 = registry.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    // As if a newer program had been here, which is what the program of now must see in time.
    registry.pragma_update(None, "user_version", 9999).unwrap();
    let refused = home.cli(["daemon", "restart"]).code(1).stderr();
    assert!(refused.contains("9999") && refused.contains("goes on"), "{refused}");
    assert!(started_at(&home) == life && answers(&home, daemon.pid()));
    registry.pragma_update(None, "user_version", version).unwrap();
    let files = |home: &Home| -> Vec<_> {
        fs::read_dir(home.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = files(&home);
    let _ = home.cli(["daemon", "restart"]).ok();
    assert_ne!(started_at(&home), life);
    let mut left = files(&home);
    left.retain(|file| !before.contains(file));
    assert!(left.is_empty(), "the trial left {left:?}");
}

#[test]
fn a_program_from_before_registries_were_tried_out_does_not_take_over() {
    let home = Home::without_llama_server();
    let program = home.path().join("llamactld");
    replace(&program, |path| assert!(fs::copy(artifacts::llamactld(), path).is_ok()));
    let daemon = home.daemon_by(home.program(&program, NO_ARGUMENTS));
    let life = started_at(&home);
    let older = format!(
        "#!/bin/sh\ncase $1 in --check-state) echo \"error: unexpected argument\" >&2; exit 2;; esac\n\
         exec {} \"$@\"\n",
        artifacts::llamactld().display()
    );
    replace(&program, |path| fs::write(path, older).unwrap());
    let refused = home.cli(["daemon", "restart"]).code(1).stderr();
    assert!(refused.contains("older") && refused.contains("to go back"), "{refused}");
    assert!(started_at(&home) == life && answers(&home, daemon.pid()));
}
