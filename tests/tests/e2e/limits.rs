//! What the system does not give: threads, processes, descriptors, memory, a terminal.

use llamactl_tests::cgroup::Cgroup;
use llamactl_tests::user::act_as;
use llamactl_tests::{DEADLINE, Daemon, Home, Invocation, Output, artifacts, eventually, need};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use std::process::Stdio;

/// A user that has no other process: its processes are counted.
const LONELY: u32 = 65531;

/// A daemon with what a piece of shell sets before it.
fn daemon_after(home: &Home, shell: &str) -> Invocation {
    let line = format!("{shell}; exec {}", artifacts::llamactld().display());
    home.program("/bin/bash", ["-c", line.as_str()])
}

/// The same as the lonely user, to whom the home belongs from now on.
fn lonely_daemon_after(home: &Home, shell: &str) -> Invocation {
    let user = format!("{LONELY}:{LONELY}");
    home.program("chown", ["-R", user.as_str(), home.path().to_str().unwrap()]).run().ok();
    let command = daemon_after(home, shell);
    let (reuid, regid) = (format!("--reuid={LONELY}"), format!("--regid={LONELY}"));
    home.program("setpriv", [reuid.as_str(), regid.as_str(), "--clear-groups"])
        .args(["/bin/bash", "-c"])
        .args(command.command().get_args().nth(1))
}

/// Lets the lonely user have so many threads and processes; `None` for as many as before.
fn limit_processes(daemon: &Daemon, most: Option<u64>) {
    let before = getrlimit(Resource::Nproc);
    let process = Pid::from_raw(daemon.pid().cast_signed());
    let limit = Rlimit { current: most.or(before.current), ..before };
    // That user's own may do it, whatever root may here.
    act_as(LONELY, || prlimit(process, Resource::Nproc, limit).unwrap());
}

/// The two that a lonely user's processes are counted for, one after the other.
#[test]
fn too_few_threads_and_processes_are_told_as_that() {
    need!("root", "setpriv", "chown", "bash");
    too_few_threads();
    too_few_processes();
}

fn too_few_threads() {
    for threads in [2, 3, 4, 7, 10] {
        let home = Home::with_fake_llama_server();
        let refused = lonely_daemon_after(&home, &format!("ulimit -u {threads}")).run().code(1);
        let said = refused.stderr();
        assert!(said.contains("no thread could be made") && said.contains("ulimit -u"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// 50
fn too_few_processes() {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon_by(lonely_daemon_after(&home, "true"));
    let ask = |words: &[&str]| -> Output { act_as(LONELY, || home.cli(words)) };
    let model = home.own_model(llamactl_tests::TestModel::Tiny, "m.gguf");
    ask(&["model", "add", model.to_str().unwrap(), "--name", "m"]).ok();
    let state = || {
        let server = ask(&["--json", "ps", "--all"]).ok().json();
        (server["state"].clone(), server["cause"]["code"].clone())
    };

    // Of a build that was never asked what it is.
    limit_processes(&daemon, Some(1));
    let refused = ask(&["--json", "start", "m"]).code(1);
    assert_eq!(refused.failure_kind(), "io_failed");
    let said = refused.stderr();
    assert!(said.contains("no room for another process"), "{said}");
    // Who only looks needs no process.
    assert_eq!(ask(&["model", "list", "-q"]).ok().lines(), ["m"]);
    limit_processes(&daemon, None);
    ask(&["start", "m"]).ok();
    ask(&["stop", "m"]).ok();

    // And of one that was: it is tried again.
    limit_processes(&daemon, Some(1));
    ask(&["start", "m", "--no-wait"]).ok();
    eventually(DEADLINE, "it is told", || state().1 == "no_resources");
    limit_processes(&daemon, None);
    eventually(DEADLINE, "it runs", || state().0 == "ready");
    ask(&["stop", "m"]).ok();
}

/// 49: what goes on goes on, who comes waits.
#[test]
fn a_daemon_without_descriptors_goes_on() {
    need!("bash");
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon_by(daemon_after(&home, "ulimit -n 96"));
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let mut rpc = home.connect();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    let mut samples = home.follow("metrics.follow", json!({}));
    let _ = (states.item(), samples.item());

    let crowd: Vec<_> = (0..60).map(|_| home.connect()).collect();
    assert_eq!(rpc.call("daemon.ping", json!({ "n": 1 }))["n"], 1);
    for _ in 0..3 {
        let _ = samples.item();
    }
    let server = home.llama_servers().remove(0);
    server.signal(Signal::KILL);
    let _ = states.item_where(|it| it["state"] != "ready");
    rpc.call("model.set", json!({ "model": "m", "set": { "ctx-size": 512 } }));

    drop(crowd);
    eventually(DEADLINE, "it runs again", || {
        home.call("server.show", json!({ "model": "m" }))["state"] == "ready"
    });
    assert_eq!(home.call("model.show", json!({ "model": "m" }))["settings"]["ctx-size"], 512);
    drop(daemon);
}

/// 51: in a group of 64 MB, of which a user may take his part, nobody ends the daemon.
#[test]
fn little_memory_is_enough_whatever_clients_do() {
    need!("memory cgroup", "bash");
    let group = Cgroup::memory().unwrap();
    group.limit_memory(64 << 20);
    outlives_a_flood(&format!("echo $$ > {}", group.processes().display()));
}

/// The same where the kernel gives no more, and says so: stacks and what is kept for heaps count too.
#[test]
fn a_small_address_space_is_enough_whatever_clients_do() {
    need!("bash");
    outlives_a_flood("ulimit -v 262144");
}

fn outlives_a_flood(before: &str) {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon_by(daemon_after(&home, before));
    home.fake_model("m", &json!({}));
    let list: Vec<Value> = (0..19_000).map(|number| json!(number)).collect();
    let names: Vec<String> = (0..1000).map(|number| format!("{number:0100}")).collect();
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let mut rpc = home.connect();
            // Who is not read from is refused or waits; nothing of it is a fault.
            rpc.set_write_timeout(std::time::Duration::from_millis(20));
            for (method, params) in [
                ("rpc.discover", json!({})),
                ("model.set", json!({ "model": "m", "set": { "temp": list } })),
                ("model.export", json!({ "models": names })),
            ] {
                for id in 0..5 {
                    let call =
                        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
                    if rpc.send_bytes(format!("{call}\n").as_bytes()).is_err() {
                        break;
                    }
                }
            }
            rpc
        })
        .collect();
    assert_eq!(home.call("daemon.ping", json!({ "n": 1 }))["n"], 1);
    drop(crowd);
    home.cli(["start", "m"]).ok();
    home.cli(["stop", "m"]).ok();
    drop(daemon);
}

/// 71: where a control group has a limit, that is the memory there is.
#[test]
fn the_memory_there_is_is_what_a_control_group_allows() {
    need!("memory cgroup", "bash");
    let home = Home::with_fake_llama_server();
    let group = Cgroup::memory().unwrap();
    group.limit_memory(256 << 20);
    let enter = format!("echo $$ > {}", group.processes().display());
    let daemon = home.daemon_by(daemon_after(&home, &enter));
    let host = home.call("metrics.sample", json!({}))["host"].clone();
    assert_eq!(host["memory_total_bytes"], 256 << 20, "{host}");
    assert_eq!(host["memory_limit_bytes"], 256 << 20, "{host}");
    let available = host["memory_available_bytes"].as_u64().unwrap();
    assert!((1..256 << 20).contains(&available), "{host}");
    drop(daemon);
    drop(group);
}

/// 71: without /proc what it tells is unknown, and no server is started of which nobody could tell.
#[test]
fn without_proc_what_it_tells_is_unknown_and_the_daemon_goes_on() {
    need!("root", "mount", "unshare");
    let home = Home::with_fake_llama_server();
    let line = format!("mount -t tmpfs none /proc && exec {}", artifacts::llamactld().display());
    let _daemon = home.daemon_by(home.program("/usr/bin/unshare", ["-m", "/bin/sh", "-c", &line]));
    let before = home.call("metrics.sample", json!({}))["seq"].as_u64();
    let mut samples = home.follow("metrics.follow", json!({}));
    let sample = samples.item_where(|it| it["seq"].as_u64() > before)["data"].take();
    let host = sample["host"].as_object().unwrap();
    assert!(!host.is_empty() && host.values().all(is_unknown), "{sample}");
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "restart=never"]).ok();
    home.cli(["start", "m"]).code(8);
    let cause = home.call("server.show", json!({ "model": "m" }))["cause"].take();
    assert_eq!(cause["code"], "spawn_failed", "{cause}");
    assert!(cause["message"].as_str().unwrap().contains("/proc"), "{cause}");
}

/// No number, nor any below it.
fn is_unknown(value: &Value) -> bool {
    match value {
        Value::Object(below) => below.values().all(is_unknown),
        Value::Array(below) => below.is_empty(),
        other => other.is_null(),
    }
}

/// 52: without a terminal and without any of the three, and with a reader of its words that has gone.
#[test]
fn a_daemon_needs_nobody_to_talk_to() {
    need!("setsid");
    let home = Home::with_fake_llama_server();
    let binary = artifacts::llamactld();
    let line = format!("exec setsid {} <&- >&- 2>&-", binary.display());
    let daemon = home.daemon_by(home.program("/bin/sh", ["-c", line.as_str()]));
    goes_on(&home);
    for stream in 0..3 {
        let path = format!("/proc/{}/fd/{stream}", daemon.pid());
        assert_eq!(std::fs::read_link(path).unwrap().to_str(), Some("/dev/null"));
    }
    drop(daemon);

    let home = Home::with_fake_llama_server();
    let mut command = home.llamactld([""; 0]).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    eventually(DEADLINE, "it answers", || llamactl_tests::Rpc::try_connect(&home.socket()).is_ok());
    goes_on(&home);
    home.cli(["daemon", "stop"]).ok();
    assert!(child.wait().unwrap().success());
}

fn goes_on(home: &Home) {
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    home.llama_servers()[0].signal(Signal::KILL);
    eventually(DEADLINE, "it was started again", || {
        let server = home.call("server.show", json!({ "model": "m" }));
        server["state"] == "ready" && server["restarts"] == 1
    });
}
