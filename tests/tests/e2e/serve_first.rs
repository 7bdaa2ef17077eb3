//! The daemon answers from the moment its socket is there, whatever it still has to find out; and
//! nothing that needs no llama-server waits for one.

use llamactl_tests::{Build, DEADLINE, Daemon, Home, Rpc, TestModel, Tmux, eventually, need};
use serde_json::{Value, json};
use std::fs;
use std::thread;

fn server(home: &Home, model: &str) -> Value {
    home.call("server.show", json!({ "model": model }))
}

/// A home whose llama-server can be kept from answering questions.
fn home_with_build() -> (Home, Build) {
    let home = Home::without_llama_server();
    let build = Build::new(&home, "build");
    let home = home.env("LLAMACTL_LLAMA_SERVER", build.path());
    (home, build)
}

#[test]
fn a_person_is_told_that_a_build_is_asked() {
    need!("tmux", "bash");
    let (home, build) = home_with_build();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({}));
    build.shut();
    let tmux = Tmux::bash(&home, 120, 20);
    tmux.enter("clear; llamactl start m; echo ended");
    let asked = "note: asking llama-server for its version and options, once for each build";
    tmux.until(|screen| screen.contains(asked));
    build.open();
    let screen = tmux.until(|screen| screen.lines().any(|line| line == "ended"));
    assert!(screen.contains("m ready at") && !screen.contains("asking"), "{screen}");
}

#[test]
fn the_daemon_answers_while_a_build_that_is_to_be_started_at_boot_does_not() {
    let (home, build) = home_with_build();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "autostart=on"]).ok();
    assert!(daemon.terminate().success());

    // As after an upgrade of llama.cpp.
    build.renew(&home);
    build.shut();
    daemon.spawn_again();
    eventually(DEADLINE, "the new build is asked", || !build.questions().is_empty());
    let rows = home.cli(["ps", "--all"]);
    let pinged = home.llamactl(["rpc", "daemon.ping"]).run();
    let is_held_back = build.is_asked(&home);
    build.open();
    assert!(rows.ok().stdout().contains('m'));
    pinged.ok();
    assert!(is_held_back, "they were answered only when the build had been given up");
    // It is started all the same.
    home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
}

#[test]
fn a_model_without_any_setting_is_added_without_asking_a_build() {
    let (home, build) = home_with_build();
    build.shut();
    let _daemon = home.daemon();
    let file = home.own_model(TestModel::Tiny, "m.gguf");
    home.llamactl(["model", "add", file.to_str().unwrap()]).deadline(DEADLINE * 2).run().ok();
    assert_eq!(build.questions(), [""; 0]);
}

#[test]
fn settings_of_llamactls_own_can_be_changed_when_the_build_is_gone() {
    let (home, _system) = home_with_build();
    let _daemon = home.daemon();
    let build = Build::new(&home, "b1");
    let executable = build.path().to_str().unwrap();
    home.cli(["runtime", "add", executable, "--name", "b1"]).ok();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "runtime=b1", "autostart=on"]).ok();
    fs::remove_file(build.path()).unwrap();

    home.cli(["model", "set", "m", "autostart=off"]).ok();
    for setting in ["restart=never", "restart-limit=3", "hang-timeout=5", "drain-timeout=1"] {
        home.cli(["model", "set", "m", setting]).ok();
    }
    home.cli(["model", "unset", "m", "restart-limit"]).ok();
    let shown = home.call("model.show", json!({ "model": "m" })).to_string();
    assert!(shown.contains(r#""autostart":false"#), "{shown}");
    // What a build must take is still refused without one.
    home.cli(["model", "set", "m", "ctx-size=512"]).code(3);
    // Another build is the way out.
    home.cli(["model", "unset", "m", "runtime"]).ok();
    home.cli(["start", "m"]).ok();
}

#[test]
fn settings_of_llamactls_own_do_not_wait_for_a_build_that_never_answers() {
    let (home, build) = home_with_build();
    let _daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["model", "set", "m", "autostart=on"]).ok();
    build.renew(&home);
    build.shut();
    home.llamactl(["model", "set", "m", "autostart=off"]).deadline(DEADLINE * 2).run().ok();
    assert_eq!(build.questions(), [""; 0]);
    build.open();
}

/// How many connections ask for the same server at once, and how often each: one user may have 64.
const CONNECTIONS: usize = 50;
const STARTS_OF_EACH: usize = 2;

/// The processes of `m`.
fn processes(home: &Home) -> Vec<u32> {
    let is_of_m = |word: &String| word.ends_with("/m.gguf");
    let servers = home.llama_servers().into_iter();
    servers.filter(|it| it.command.iter().any(is_of_m)).map(|it| it.pid).collect()
}

/// Kills the daemon, and asks the next one for `m` from many connections as soon as it takes them.
/// None may be refused, and the process of before stays the only one.
fn starts_at_once_are_no_second_process(home: &Home, daemon: &mut Daemon) {
    let before = server(home, "m");
    daemon.kill();
    let start = || {
        let mut rpc = None;
        eventually(DEADLINE, "the daemon takes connections", || {
            rpc = Rpc::try_connect(&home.socket()).ok();
            rpc.is_some()
        });
        let mut rpc = rpc.unwrap();
        let calls =
            [(); STARTS_OF_EACH].map(|()| rpc.send("server.start", json!({ "model": "m" })));
        for call in calls {
            rpc.answer(call).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        }
    };
    let most = thread::scope(|scope| {
        let starts: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(start)).collect();
        daemon.spawn_again();
        let mut most = 0;
        while starts.iter().any(|start| !start.is_finished()) {
            most = most.max(processes(home).len());
        }
        most
    });
    daemon.until_it_answers().unwrap();
    let after = home.follow("server.follow", json!({ "model": "m" })).until_state("ready");
    assert_eq!(after["run"]["id"], before["run"]["id"]);
    assert_eq!((most, json!(processes(home))), (1, json!([before["run"]["pid"]])));
}

#[test]
fn a_hundred_starts_in_the_instant_the_socket_answers_make_no_second_process() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    // Others are taken over before it.
    for name in (0..10).map(|number| format!("other{number}")) {
        home.fake_model(&name, &json!({}));
        home.cli(["start", &name]).ok();
    }
    home.fake_model("m", &json!({ "answer_delay_ms": 200 }));
    home.cli(["start", "m"]).ok();
    for _ in 0..3 {
        starts_at_once_are_no_second_process(&home, &mut daemon);
    }
}
