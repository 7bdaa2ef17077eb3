//! What becomes of a server that breaks, hangs, lies or is interfered with; the real llama-server
//! wherever it can play the part. The numbers are those of the list of faults.

use llama_http::Target;
use llamactl_tests::cgroup::Cgroup;
use llamactl_tests::http::Endpoint;
use llamactl_tests::processes::Process;
use llamactl_tests::{DEADLINE, Daemon, Home, Rpc, Stream, TestModel, eventually, llama, need};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

const NO_ARGUMENTS: [&str; 0] = [];

fn server(home: &Home, model: &str) -> Value {
    home.call("server.show", json!({ "model": model }))
}

fn states(home: &Home, model: &str) -> Stream {
    home.follow("server.follow", json!({ "model": model }))
}

fn start(home: &Home, model: &str) {
    home.call("server.start", json!({ "model": model }));
}

/// A home with a daemon and the real llama-server, and one model `m` with these settings.
fn home_with(model: TestModel, settings: &Value) -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    let path = home.own_model(model, "m.gguf");
    home.call("model.add", json!({ "path": path, "name": "m", "settings": settings }));
    (home, daemon)
}

/// The same with the fake one, which behaves as said.
fn fake_home_with(behaviour: &Value, settings: &Value) -> (Home, Daemon) {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    home.fake_model("m", behaviour);
    home.call("model.set", json!({ "model": "m", "set": settings }));
    (home, daemon)
}

fn events(home: &Home, model: &str) -> Vec<Value> {
    let mut listed = home.call("event.list", json!({ "model": model, "limit": 500 }));
    serde_json::from_value(listed["items"].take()).unwrap()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["kind"] == kind).count()
}

/// Waits for an event of this kind, from the first one on.
fn until_event(home: &Home, model: &str, kind: &str) -> Value {
    let mut stream = home.follow("event.follow", json!({ "model": model, "after": 0 }));
    stream.item_where(|event| event["kind"] == kind)["data"].take()
}

fn process(server: &Value) -> Process {
    let pid = u32::try_from(server["run"]["pid"].as_u64().unwrap()).unwrap();
    Process::open(pid).unwrap_or_else(|| panic!("it has no process: {server}"))
}

fn is_gone(pid: u32) -> bool {
    Process::open(pid).is_none()
}

/// A request for an answer without end, on a thread of its own; the answer, or how it broke off.
fn ask(server: &Value, streams: bool) -> JoinHandle<std::io::Result<u16>> {
    let endpoint = Endpoint::of(server);
    thread::spawn(move || {
        let body = json!({
            "messages": [{ "role": "user", "content": "Go on." }],
            "max_tokens": 1_000_000, "stream": streams,
        });
        endpoint.post("/v1/chat/completions", &body).map(|answer| answer.status)
    })
}

fn until_busy(server: &Value) {
    let endpoint = Endpoint::of(server);
    eventually(DEADLINE, "it is at work", || {
        let slots = endpoint.get("/slots").unwrap().json();
        slots.as_array().unwrap().iter().any(|slot| slot["is_processing"] == true)
    });
}

/// A process that was started by hand, killed and reaped when the test is done with it.
struct ByHand(Child);

impl ByHand {
    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// ---- Stops --------------------------------------------------------------------------------------

/// 25
#[test]
fn one_that_ignores_term_is_killed_and_the_answer_says_so() {
    let (home, _daemon) = fake_home_with(&json!({ "ignore_term": true }), &json!({}));
    home.cli(["start", "m"]).ok();
    home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty());
    let stopped = server(&home, "m");
    assert_eq!(stopped["state"], "stopped");
    let said = stopped["cause"]["message"].as_str().unwrap();
    assert!(said.contains("killed"), "{said}");
    assert_eq!(stopped["cause"]["signal"], 9);
    let caught = fs::read_to_string(llama::fake_signals(&home.path().join("models/m.gguf")));
    assert_eq!(caught.unwrap(), "TERM\nTERM\n", "asked twice before that");
}

#[test]
fn a_stop_while_it_loads_ends_the_load() {
    let (home, _daemon) = fake_home_with(&json!({ "load_ms": 60_000 }), &json!({}));
    start(&home, "m");
    states(&home, "m").until_state("loading");
    home.cli(["stop", "m"]).ok();
    let stopped = server(&home, "m");
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(home.llama_servers().is_empty());
    assert_eq!(count(&events(&home, "m"), "server.starting"), 1);
}

/// A TERM that comes before llama-server looks out for it ends it, one that is lost is repeated.
#[test]
fn a_stop_right_after_the_start_ends_it_however_early_the_signal_comes() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    for _ in 0..5 {
        start(&home, "m");
        home.cli(["stop", "m"]).ok();
        assert_eq!(server(&home, "m")["state"], "stopped");
        assert!(home.llama_servers().is_empty());
        home.cli(["start", "m"]).ok();
        home.cli(["stop", "m"]).ok();
        assert!(home.llama_servers().is_empty());
    }
}

fn a_busy_one_is_stopped(streams: bool) {
    let (home, _daemon) = home_with(TestModel::NeverStop, &json!({ "drain-timeout": 1 }));
    home.cli(["start", "m"]).ok();
    let ready = server(&home, "m");
    let client = ask(&ready, streams);
    until_busy(&ready);
    home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty());
    let stopped = server(&home, "m");
    assert_eq!(stopped["state"], "stopped");
    let said = stopped["cause"]["message"].as_str().unwrap();
    assert!(said.contains("1 request was cut off"), "{said}");
    // It ended with its server, however.
    let _ = client.join().unwrap();
}

#[test]
fn a_stop_with_a_streaming_client_ends_and_says_what_was_cut() {
    a_busy_one_is_stopped(true);
}

#[test]
fn a_stop_with_a_client_that_does_not_stream_ends_and_says_what_was_cut() {
    a_busy_one_is_stopped(false);
}

#[test]
fn a_stop_of_one_that_was_halted_ends_it() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({ "drain-timeout": 1 }));
    home.cli(["start", "m"]).ok();
    process(&server(&home, "m")).signal(Signal::STOP);
    home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty());
    let stopped = server(&home, "m");
    assert_eq!((&stopped["state"], &stopped["cause"]["signal"]), (&json!("stopped"), &json!(9)));
}

/// 26: a frozen process is as deaf as one that a driver holds: not even SIGKILL reaches it.
#[test]
fn one_that_cannot_be_killed_is_called_stuck_until_it_ends() {
    need!("root", "freezer cgroup");
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({ "drain-timeout": 0 }));
    let other = home.own_model(TestModel::Tiny, "other.gguf");
    home.call("model.add", json!({ "path": other, "name": "other" }));
    home.cli(["start", "m"]).ok();
    let frozen = process(&server(&home, "m"));
    let group = Cgroup::freezer().unwrap();
    group.freeze(frozen.pid);
    let mut seen = states(&home, "m");
    home.call("server.stop", json!({ "model": "m" }));
    seen.until_state("stuck");
    // Others are not held up by it, and it has no second process.
    home.cli(["start", "other"]).ok();
    assert_eq!(home.llama_servers().len(), 2);
    group.thaw();
    seen.until_state("stopped");
    assert!(frozen.wait(DEADLINE));
    drop(group);
}

// ---- Processes of processes ---------------------------------------------------------------------

/// 28
#[test]
fn an_end_is_seen_although_a_grandchild_holds_the_output() {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let settings = json!({ "restart": "never" });
    let path = home.wrapped_model(
        "m",
        TestModel::Tiny,
        &settings,
        "sleep 1000 & echo $! > \"$model.child\"",
    );
    home.cli(["start", "m"]).ok();
    let child = fs::read_to_string(format!("{}.child", path.display())).unwrap();
    let child = Process::open(child.trim().parse().unwrap()).expect("the grandchild runs");
    let mut seen = states(&home, "m");
    process(&server(&home, "m")).signal(Signal::KILL);
    let failed = seen.until_state("failed");
    assert_eq!(failed["cause"]["code"], "killed", "{failed}");
    assert!(child.wait(DEADLINE), "what was left of its group is ended");
}

// ---- Loading ------------------------------------------------------------------------------------

/// 30
#[test]
fn a_slow_load_shows_how_far_it_is_and_can_be_stopped() {
    let (home, _daemon) = fake_home_with(&json!({ "load_ms": 20_000 }), &json!({}));
    start(&home, "m");
    let mut seen = states(&home, "m");
    let moving = |server: &Value, over: f64| {
        server["state"] == "loading"
            && server["stage"] == "text_model"
            && server["progress_ratio"].as_f64().is_some_and(|ratio| ratio > over)
    };
    let first = seen.item_where(|server| moving(server, 0.0));
    let ratio = first["data"]["progress_ratio"].as_f64().unwrap();
    seen.item_where(|server| moving(server, ratio));
    let row = home.cli(["ps"]).ok().stdout();
    assert!(row.contains("loading") && row.contains('%'), "{row}");
    home.cli(["stop", "m"]).ok();
    assert!(home.llama_servers().is_empty());
}

/// 30: slow is no fault while it moves.
#[test]
fn a_load_that_moves_outlasts_the_limit_for_one_that_does_not() {
    let (home, _daemon) =
        fake_home_with(&json!({ "load_ms": 4_000 }), &json!({ "load-stall-timeout": 1 }));
    home.cli(["start", "m"]).ok();
    assert_eq!(count(&events(&home, "m"), "server.starting"), 1);
}

// ---- Ports --------------------------------------------------------------------------------------

/// Stops before its llama-server until [`Gate::open`]: what happens between the choice of a port
/// and its use happens then.
struct Gate {
    path: std::path::PathBuf,
}

impl Gate {
    /// Registers `m`, with `behind` to run once the gate is open.
    fn before(home: &Home, settings: &Value, behind: &str) -> Gate {
        let shell =
            format!("[ ! -p \"$model.gate\" ] || cat \"$model.gate\" > /dev/null; {behind}");
        let model = home.wrapped_model("m", TestModel::Tiny, settings, &shell);
        let path = Path::new(&format!("{}.gate", model.display())).to_owned();
        home.program("/usr/bin/mkfifo", [&path]).run().ok();
        Gate { path }
    }

    /// Lets it through, and everybody after it.
    fn open(self) {
        let writer = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        fs::remove_file(&self.path).unwrap();
        drop(writer);
    }
}

/// The port that a server that is being started will listen on.
fn port_of(seen: &mut Stream) -> u16 {
    let chosen =
        seen.item_where(|it| it["state"] == "starting" && it["endpoint"]["url"].is_string());
    let url = chosen["data"]["endpoint"]["url"].as_str().unwrap().to_owned();
    let rest = url.strip_prefix("http://127.0.0.1:").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// 32
#[test]
fn a_stranger_on_the_port_gets_no_key_and_is_not_taken_for_the_server() {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let settings = json!({ "port": "auto", "api-key": "generate", "restart": "never" });
    // It stays for a while, so that it could be taken for the one who answers.
    let gate = Gate::before(&home, &settings, "sleep 3");
    let mut seen = states(&home, "m");
    start(&home, "m");
    let port = port_of(&mut seen);
    let decoy = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let heard = thread::spawn(move || play_server(&decoy));
    gate.open();
    let mut was_ready_on_it = false;
    seen.item_where(|it| {
        let url = it["endpoint"]["url"].as_str().unwrap_or_default();
        was_ready_on_it |= it["state"] == "ready" && url.contains(&port.to_string());
        // With port=auto it may have gone to another one since.
        it["state"] == "failed" || it["state"] == "ready"
    });
    assert!(!was_ready_on_it, "the stranger was taken for it");
    // The last word to the stranger is ours.
    let mut last = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    last.write_all(b"GET /end HTTP/1.1\r\n\r\n").unwrap();
    let heard = heard.join().unwrap();
    let key = home.cli(["model", "key", "m"]).ok().stdout();
    assert!(!key.trim().is_empty());
    assert!(!heard.contains(key.trim()), "{heard}");
    assert!(!heard.to_ascii_lowercase().contains("authorization"), "{heard}");
    home.cli(["stop", "m"]).ok();
}

/// Answers 200 to everything, until it is asked for `/end`; all it was told.
fn play_server(listener: &TcpListener) -> String {
    let mut heard = String::new();
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        for line in BufReader::new(connection.try_clone().unwrap()).lines() {
            let Ok(line) = line else { break };
            if line.starts_with("GET /end") {
                return heard;
            }
            if line.is_empty() {
                break;
            }
            heard.push_str(&line);
            heard.push('\n');
        }
        let _ = connection.write_all(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}",
        );
        let _ = connection.shutdown(Shutdown::Both);
    }
    heard
}

// ---- Taking over --------------------------------------------------------------------------------

/// Changes the record of the last run while no daemon runs.
fn forge(home: &Home, process: &Process) {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let ticks: i64 =
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let registry = rusqlite::Connection::open(home.state_dir().join("registry.db")).unwrap();
    let changed = registry.execute(
        "UPDATE runs SET pid = ?1, start_ticks = ?2 WHERE ended_at_ms IS NULL",
        rusqlite::params![process.pid, ticks],
    );
    assert_eq!(changed.unwrap(), 1);
}

/// 33: the number of a server that died went to somebody else.
#[test]
fn a_stranger_with_the_number_of_a_server_is_neither_taken_over_nor_touched() {
    let (home, mut daemon) = home_with(TestModel::Tiny, &json!({ "restart": "never" }));
    home.cli(["start", "m"]).ok();
    let died = process(&server(&home, "m"));
    daemon.kill();
    died.signal(Signal::KILL);
    assert!(died.wait(DEADLINE));
    let sleeper = ByHand(home.program("/bin/sleep", ["1000"]).command().spawn().unwrap());
    let stranger = Process::open(sleeper.pid()).unwrap();
    forge(&home, &stranger);

    daemon.start_again();
    let mut seen = states(&home, "m");
    let failed = seen.until_state("failed");
    assert_eq!(failed["cause"]["code"], "ended_unwatched", "{failed}");
    home.cli(["start", "m"]).ok();
    assert_ne!(process(&server(&home, "m")).pid, stranger.pid);
    home.cli(["stop", "m"]).ok();
    assert!(stranger.is_alive());
}

/// 31: a server that ends so early that its log loses the line that says why
#[test]
fn a_port_that_was_stolen_is_given_up_for_another_although_the_server_does_not_say_so() {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let once = "[ -e \"$model.ended\" ] || { : > \"$model.ended\"; exit 1; }";
    let gate = Gate::before(&home, &json!({ "port": "auto" }), once);
    let mut seen = states(&home, "m");
    start(&home, "m");
    let port = port_of(&mut seen);
    let _thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
    gate.open();
    let ready = seen.until_state("ready");
    let url = ready["endpoint"]["url"].as_str().unwrap();
    assert!(!url.contains(&format!(":{port}/")), "{url}");
    assert!(until_event(&home, "m", "server.backoff").to_string().contains("bind_failed"));
}

/// The plan of a start that was refused is not the next process's.
#[test]
fn what_a_refused_start_asked_for_reaches_no_other_process() {
    let (home, _daemon) = fake_home_with(&json!({ "stop_ms": 700 }), &json!({}));
    start(&home, "m");
    let mut seen = states(&home, "m");
    let before = seen.until_state("ready");
    home.call("server.restart", json!({ "model": "m" }));
    let refused = home.cli(["start", "m", "--set", "seed=513"]).code(4);
    assert!(refused.stderr().contains("runs already"), "{}", refused.stderr());
    let after =
        seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
    let line = fs::read(format!("/proc/{}/cmdline", after["data"]["run"]["pid"])).unwrap();
    let line = String::from_utf8_lossy(&line);
    assert!(!line.contains("513"), "{line}");
}

/// 34
#[test]
fn the_end_of_one_that_was_taken_over_is_told_as_far_as_it_can_be_known() {
    let (home, mut daemon) = home_with(TestModel::Tiny, &json!({ "restart": "never" }));
    home.cli(["start", "m"]).ok();
    daemon.kill();
    daemon.start_again();
    let mut seen = states(&home, "m");
    let ready = seen.until_state("ready");
    process(&ready).signal(Signal::SEGV);
    let failed = seen.until_state("failed");
    let code = failed["cause"]["code"].as_str().unwrap();
    // By the pidfd, where the kernel has that (6.15).
    assert!(["segfault", "exit_unknown"].contains(&code), "{failed}");
    assert_eq!(failed["cause"]["signal"] == 11, code == "segfault", "{failed}");
    assert_eq!(failed["run"]["id"], ready["run"]["id"]);
}

// ---- Files --------------------------------------------------------------------------------------

fn file_state(home: &Home) -> Value {
    home.call("model.show", json!({ "model": "m" }))["file_state"].clone()
}

/// 35
#[test]
fn a_model_file_that_is_deleted_while_it_runs_is_said_to_be_missing() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    let ready = server(&home, "m");
    fs::remove_file(home.path().join("models/m.gguf")).unwrap();
    let said = Endpoint::of(&ready).chat("Who are you?", 8);
    assert!(said["choices"][0]["message"]["content"].is_string(), "it goes on: {said}");
    assert_eq!(file_state(&home), "missing");
    assert!(home.cli(["model", "show", "m"]).ok().stdout().contains("the file is gone"));
    assert_eq!(server(&home, "m")["run"]["id"], ready["run"]["id"]);
    // It is not given up for one that could not start.
    home.cli(["restart", "m"]).code(3);
    assert_eq!(server(&home, "m")["run"]["id"], ready["run"]["id"]);
    home.cli(["stop", "m"]).ok();
    home.cli(["start", "m"]).code(8);
    let failed = server(&home, "m");
    assert_eq!(failed["state"], "failed");
    assert!(failed["cause"]["message"].as_str().unwrap().contains("m.gguf"), "{failed}");
}

/// 35
#[test]
fn a_model_file_that_is_replaced_while_it_runs_is_said_to_be_changed() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    let ready = server(&home, "m");
    let other = home.own_model(TestModel::Medium, "other.gguf");
    fs::rename(other, home.path().join("models/m.gguf")).unwrap();
    let said = Endpoint::of(&ready).chat("Who are you?", 8);
    assert!(said["choices"][0]["message"]["content"].is_string(), "it goes on: {said}");
    assert_eq!(file_state(&home), "changed");
    assert!(
        home.cli(["model", "show", "m"])
            .ok()
            .stdout()
            .contains("the file changed after it was added")
    );
    assert_eq!(server(&home, "m")["run"]["id"], ready["run"]["id"]);
}

/// A copy of the real llama-server with its libraries, in the home.
fn own_llama_server(home: Home) -> Home {
    let build = home.path().join("build");
    fs::create_dir(&build).unwrap();
    for entry in fs::read_dir(llama::real().parent().unwrap()).unwrap() {
        let from = entry.unwrap().path();
        let to = build.join(from.file_name().unwrap());
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
    }
    home.env("LLAMACTL_LLAMA_SERVER", build.join("llama-server"))
}

/// 39
#[test]
fn a_server_outlives_its_executable_and_is_still_taken_over() {
    let home = own_llama_server(Home::without_llama_server());
    let mut daemon = home.daemon();
    let path = home.model(TestModel::Tiny);
    home.call("model.add", json!({ "path": path, "name": "m" }));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    // Upgraded: another file in its place.
    let executable = home.path().join("build/llama-server");
    fs::copy(llama::real(), home.path().join("build/new")).unwrap();
    fs::rename(home.path().join("build/new"), &executable).unwrap();
    let link = fs::read_link(format!("/proc/{}/exe", before["run"]["pid"])).unwrap();
    assert!(link.to_str().unwrap().ends_with(" (deleted)"), "{link:?}");
    daemon.kill();
    daemon.start_again();
    let after = states(&home, "m").until_state("ready");
    assert_eq!(after["run"]["id"], before["run"]["id"]);
    assert_eq!(Endpoint::of(&after).get("/health").unwrap().status, 200);
    // Removed.
    daemon.kill();
    fs::remove_file(&executable).unwrap();
    daemon.start_again();
    let after = states(&home, "m").until_state("ready");
    assert_eq!(after["run"]["id"], before["run"]["id"]);
    home.cli(["stop", "m"]).ok();
    assert!(!process_is_there(&before), "one whose executable is gone can be stopped");
    let failure = home.cli(["--json", "start", "m"]).failure();
    assert_eq!(failure["kind"], "runtime_not_found", "{failure}");
}

fn process_is_there(server: &Value) -> bool {
    !is_gone(u32::try_from(server["run"]["pid"].as_u64().unwrap()).unwrap())
}

// ---- Several registries -------------------------------------------------------------------------

#[test]
fn two_daemons_with_two_registries_leave_each_others_servers_alone() {
    let homes = [home_with(TestModel::Tiny, &json!({})), home_with(TestModel::Tiny, &json!({}))];
    let mut before = Vec::new();
    for (home, _) in &homes {
        home.cli(["start", "m"]).ok();
        before.push(server(home, "m")["run"].clone());
    }
    let [(one, mut first), (two, mut second)] = homes;
    first.kill();
    second.kill();
    first.start_again();
    second.start_again();
    for (home, before) in [&one, &two].into_iter().zip(&before) {
        let after = states(home, "m").until_state("ready");
        assert_eq!((&after["run"]["id"], &after["run"]["pid"]), (&before["id"], &before["pid"]));
        assert_eq!(count(&events(home, "m"), "server.starting"), 1);
    }
    // Also when one of them stops all it has.
    home_stop(&one, &mut first);
    assert!(one.llama_servers().is_empty());
    assert_eq!(server(&two, "m")["state"], "ready");
    assert_eq!(two.llama_servers().len(), 1);
}

fn home_stop(home: &Home, daemon: &mut Daemon) {
    home.call("daemon.stop", json!({}));
    assert!(daemon.wait().success());
}

// ---- What the policy does ---------------------------------------------------------------------

/// 20
#[test]
fn a_crash_loop_is_slowed_down_and_given_up() {
    let (home, _daemon) = fake_home_with(&json!({ "exit": { "code": 1 } }), &json!({}));
    start(&home, "m");
    let failed = states(&home, "m").until_state("failed");
    let cause = &failed["cause"];
    assert_eq!((&cause["code"], &cause["exit_code"]), (&json!("unknown_error"), &json!(1)));
    assert_eq!(failed["restarts"], 4);
    let events = events(&home, "m");
    assert_eq!(count(&events, "server.starting"), 5);
    assert_eq!(count(&events, "server.failed"), 1);
    // At once, then after 1, 2 and 4 s, give or take a quarter.
    let restarts = events.iter().filter(|event| event["kind"] == "server.backoff");
    let waits = restarts.map(|event| {
        event["details"]["restart_at_ms"].as_i64().unwrap() - event["at_ms"].as_i64().unwrap()
    });
    let waits: Vec<i64> = waits.collect();
    let [at_once, first, second, third] = waits[..] else { panic!("{waits:?}") };
    assert!(at_once <= 0 && (650..=1250).contains(&first), "{waits:?}");
    assert!((1400..=2500).contains(&second) && (2900..=5000).contains(&third), "{waits:?}");
    // Asking again begins anew.
    start(&home, "m");
    let again = states(&home, "m").until_state("failed");
    assert_ne!(again["run"]["id"], failed["run"]["id"]);
    assert_eq!(again["restarts"], 4);
}

/// 21
#[test]
fn a_crash_is_recorded_and_the_server_is_started_again() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    let mut seen = states(&home, "m");
    process(&before).signal(Signal::SEGV);
    let after =
        seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
    assert_eq!(after["data"]["restarts"], 1);
    let recorded = until_event(&home, "m", "server.backoff");
    assert_eq!(recorded["run_id"], before["run"]["id"]);
    assert!(recorded.to_string().contains("segfault"), "{recorded}");
    assert_eq!(home.llama_servers().len(), 1);
}

/// 22
#[test]
fn an_out_of_memory_kill_is_told_and_not_tried_again() {
    need!("root", "memory cgroup");
    let group = Cgroup::memory().unwrap();
    group.limit_memory(24 << 20);
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let into = format!("echo $$ > {}", group.processes().display());
    home.wrapped_model("m", TestModel::Medium, &json!({ "load-mode": "none" }), &into);
    start(&home, "m");
    let failed = states(&home, "m").until_state("failed");
    let cause = &failed["cause"];
    assert_eq!((&cause["code"], &cause["signal"]), (&json!("oom_killed"), &json!(9)), "{cause}");
    assert!(cause["hint"].as_str().unwrap().contains("smaller"), "{cause}");
    assert_eq!(count(&events(&home, "m"), "server.starting"), 1);
}

/// 22: the same signal, but from somebody.
#[test]
fn a_kill_by_somebody_is_no_lack_of_memory() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    process(&before).signal(Signal::KILL);
    let recorded = until_event(&home, "m", "server.backoff");
    let text = recorded.to_string();
    assert!(text.contains("\"killed\"") && !text.contains("oom_killed"), "{text}");
    let mut seen = states(&home, "m");
    seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
}

/// 23
#[test]
fn a_halted_one_is_found_to_hang_and_is_replaced() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({ "hang-timeout": 2 }));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    let halted = process(&before);
    halted.signal(Signal::STOP);
    let hung = until_event(&home, "m", "server.hung");
    assert_eq!(hung["run_id"], before["run"]["id"], "{hung}");
    let mut seen = states(&home, "m");
    seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
    assert!(!halted.is_alive());
    assert_eq!(home.llama_servers().len(), 1);
}

/// 24
#[test]
fn one_that_is_healthy_but_whose_answers_stand_still_hangs() {
    let (home, _daemon) =
        fake_home_with(&json!({ "stall_after_tokens": 3 }), &json!({ "hang-timeout": 2 }));
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    let client = ask(&before, true);
    let hung = until_event(&home, "m", "server.hung");
    assert_eq!(hung["run_id"], before["run"]["id"]);
    // Not for its health, which was good all the time.
    assert!(hung["message"].as_str().unwrap().contains("requests have not moved"), "{hung}");
    let mut seen = states(&home, "m");
    seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
    let _ = client.join().unwrap();
}

/// 24, the other way round: batches of a long prompt take longer than the limit, and use the
/// processor all the time.
#[test]
fn a_long_prompt_on_a_slow_processor_is_no_hang() {
    let settings = json!({ "hang-timeout": 2, "ctx-size": 16384, "parallel": 1, "threads": 1 });
    let (home, _daemon) = home_with(TestModel::Medium, &settings);
    home.cli(["start", "m"]).ok();
    let before = server(&home, "m");
    // However fast the machine is, one of these takes longer than the limit.
    let slow = [100, 200, 400, 800, 1600].into_iter().any(|times| {
        let prompt = format!("{times}. {}", "The server was very happy. ".repeat(times));
        let body = json!({ "messages": [{ "role": "user", "content": prompt }], "max_tokens": 4 });
        let said = Endpoint::of(&before).post("/v1/chat/completions", &body).unwrap();
        assert_eq!(said.status, 200, "{}", said.body);
        said.json()["timings"]["prompt_ms"].as_f64().unwrap() > 2_500.0
    });
    assert!(slow, "no prompt took long enough to show anything");
    assert_eq!(count(&events(&home, "m"), "server.hung"), 0);
    assert_eq!(server(&home, "m")["run"]["id"], before["run"]["id"]);
}

/// 27
#[test]
fn one_that_makes_itself_a_daemon_leaves_no_orphan() {
    let (home, _daemon) =
        fake_home_with(&json!({ "double_fork": true }), &json!({ "restart": "never" }));
    start(&home, "m");
    let mut seen = states(&home, "m");
    seen.item_where(|it| it["state"] == "failed" || it["state"] == "stopped");
    assert_eq!(server(&home, "m")["cause"]["code"], "exited");
    eventually(DEADLINE, "the second process is ended", || home.llama_servers().is_empty());
}

/// 29
#[test]
fn one_that_exits_cleanly_is_started_again_only_where_it_shall_always_run() {
    let clean = json!({ "exit": { "code": 0, "when": "ready", "after_ms": 1 } });
    let (home, _daemon) = fake_home_with(&clean, &json!({}));
    let path = home.fake_model("always", &clean);
    home.call("model.set", json!({ "model": "always", "set": { "restart": "always" } }));
    start(&home, "m");
    start(&home, "always");
    let mut seen = states(&home, "m");
    seen.item_where(|it| {
        (it["state"] == "failed" || it["state"] == "stopped") && it["cause"]["code"] == "exited"
    });
    assert_eq!(count(&events(&home, "m"), "server.starting"), 1);
    let again = until_event(&home, "always", "server.backoff");
    assert!(again.to_string().contains("exited"), "{again}");
    home.fake_behaviour(&path, &json!({}));
    let ready = states(&home, "always")
        .item_where(|it| it["state"] == "ready" && it["restarts"].as_u64() > Some(0));
    assert!(ready["data"]["cause"].is_object());
}

/// 30
#[test]
fn a_load_in_which_nothing_moves_is_ended() {
    let settings = json!({ "load-stall-timeout": 1, "restart": "never" });
    let (home, _daemon) =
        fake_home_with(&json!({ "health": "never", "progress": false }), &settings);
    start(&home, "m");
    let stalled = until_event(&home, "m", "server.stalled");
    assert!(stalled["message"].as_str().unwrap().contains("has not moved"), "{stalled}");
    let failed = states(&home, "m").until_state("failed");
    assert_eq!(failed["cause"]["code"], "stalled", "{failed}");
    assert!(failed["cause"]["commands"].to_string().contains("load-stall-timeout"), "{failed}");
    assert!(home.llama_servers().is_empty());
}

/// 31
#[test]
fn a_port_that_was_stolen_meanwhile_is_given_up_for_another_once() {
    let home = Home::with_wrapped_llama_server();
    let _daemon = home.daemon();
    let gate = Gate::before(&home, &json!({ "port": "auto" }), ":");
    let mut seen = states(&home, "m");
    start(&home, "m");
    let port = port_of(&mut seen);
    let _thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
    gate.open();
    let ready = seen.until_state("ready");
    let url = ready["endpoint"]["url"].as_str().unwrap();
    assert!(!url.contains(&format!(":{port}/")), "{url}");
    assert_eq!(count(&events(&home, "m"), "server.starting"), 2);
    assert!(until_event(&home, "m", "server.backoff").to_string().contains("bind_failed"));
}

/// 34
#[test]
fn one_that_was_taken_over_and_dies_is_started_again() {
    let (home, mut daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    daemon.kill();
    daemon.start_again();
    let mut seen = states(&home, "m");
    let before = seen.until_state("ready");
    process(&before).signal(Signal::KILL);
    seen.item_where(|it| it["state"] == "ready" && it["run"]["id"] != before["run"]["id"]);
    assert_eq!(home.llama_servers().len(), 1);
}

/// 35
#[test]
fn a_replaced_model_file_is_read_anew_at_the_next_start() {
    let (home, _daemon) = home_with(TestModel::Tiny, &json!({}));
    let size = |home: &Home| {
        home.call("model.show", json!({ "model": "m" }))["file"]["size_bytes"].clone()
    };
    let before = size(&home);
    home.cli(["start", "m"]).ok();
    let other = home.own_model(TestModel::Medium, "other.gguf");
    fs::rename(other, home.path().join("models/m.gguf")).unwrap();
    home.cli(["restart", "m"]).ok();
    assert_eq!(file_state(&home), "present");
    assert_ne!(size(&home), before);
}

/// 2
#[test]
fn a_process_made_by_a_daemon_that_died_before_it_wrote_so_is_taken_over() {
    let home = Home::new();
    let doomed = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_FAILPOINTS", "spawned=abort").spawn();
    eventually(DEADLINE, "the daemon listens", || Rpc::try_connect(&home.socket()).is_ok());
    let path = home.model(TestModel::Tiny);
    home.call("model.add", json!({ "path": path, "name": "m" }));
    home.connect().send("server.start", json!({ "model": "m" }));
    let output = doomed.finish();
    assert!(!output.status.success() && output.status.code().is_none(), "{:?}", output.status);
    eventually(DEADLINE, "the process lives on", || home.llama_servers().len() == 1);
    let made = home.llama_servers().remove(0);

    let _daemon = home.daemon();
    let ready = states(&home, "m").until_state("ready");
    assert_eq!(ready["run"]["pid"], made.pid);
    assert_eq!(home.llama_servers().len(), 1);
    assert_eq!(count(&events(&home, "m"), "server.starting"), 1);
}

#[test]
fn no_more_run_than_may_and_the_refusal_names_who_runs() {
    let home = Home::with_fake_llama_server();
    let config = home.path().join("llamactl.toml");
    fs::write(&config, "max_running = 1\n").unwrap();
    let home = home.env("LLAMACTL_CONFIG", config);
    let _daemon = home.daemon();
    home.fake_model("first", &json!({}));
    home.fake_model("second", &json!({}));
    home.cli(["start", "first"]).ok();
    let refused = home.cli(["--json", "start", "second"]).code(4).failure();
    assert_eq!(refused["kind"], "too_many_running");
    assert!(refused.to_string().contains("first"), "{refused}");
    // The one that runs may be asked for again, and makes room when it stops.
    home.cli(["start", "first"]).ok();
    home.cli(["restart", "first"]).ok();
    home.cli(["stop", "first"]).ok();
    home.cli(["start", "second"]).ok();
    assert_eq!(home.llama_servers().len(), 1);
}

/// Starts a llama-server with this marker by hand, as if a daemon had lost it.
fn by_hand(home: &Home, name: &str, marker: &str) -> ByHand {
    let socket = home.path().join(format!("{name}.sock"));
    let model = home.model(TestModel::Tiny);
    let arguments = ["--model", model.to_str().unwrap(), "--host", socket.to_str().unwrap()];
    let libraries = llama::real().parent().unwrap();
    let mut command = home
        .program(llama::real(), arguments)
        .env("LLAMACTL_RUN", marker)
        .env("LD_LIBRARY_PATH", libraries)
        .command();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = ByHand(child.spawn().unwrap());
    let endpoint = Endpoint(Target::Socket(socket));
    eventually(DEADLINE, "it answers", || endpoint.get("/health").is_ok_and(|it| it.status == 200));
    child
}

#[test]
fn a_process_of_this_registry_that_no_record_tells_of_is_ended_and_a_foreign_one_is_not() {
    let (home, mut daemon) = home_with(TestModel::Tiny, &json!({}));
    home.cli(["start", "m"]).ok();
    let marker = process(&server(&home, "m")).variable("LLAMACTL_RUN").unwrap();
    let (registry, run) = marker.split_once('/').unwrap();
    let strange_run = run.chars().rev().collect::<String>();
    daemon.kill();
    let stray = by_hand(&home, "stray", &format!("{registry}/{strange_run}"));
    let foreign = by_hand(&home, "foreign", &format!("{}/{run}", uuid_like(registry)));
    daemon.start_again();
    let stray_process = Process::open(stray.pid());
    assert!(stray_process.is_none_or(|process| process.wait(DEADLINE)), "the stray is ended");
    let mut told = home.follow("event.follow", json!({ "after": 0 }));
    told.item_where(|event| {
        let message = event["message"].as_str().unwrap_or_default();
        event["kind"] == "server.stray" && message.contains(&stray.pid().to_string())
    });
    // The one whose record there is goes on.
    let ready = states(&home, "m").until_state("ready");
    assert!(process_is_there(&ready));
    home_stop(&home, &mut daemon);
    assert!(!is_gone(foreign.pid()), "another registry's is not ours to end");
}

/// Another registry's id.
fn uuid_like(registry: &str) -> String {
    registry
        .chars()
        .map(|digit| {
            if digit == '1' {
                '2'
            } else if digit == '2' {
                '1'
            } else {
                digit
            }
        })
        .rev()
        .collect()
}
