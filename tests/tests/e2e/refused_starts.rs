//! A start that ends before there is a process is a failure like any other: the server is `failed`,
//! its cause is kept and told, and an event says so. The exit status is the one of what is wrong.

use llamactl_tests::{Build, Home, artifacts};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What is wrong, how `llamactl start` ends then, and what the sentence says.
struct Refusal {
    status: i32,
    says: &'static str,
}

impl Refusal {
    /// `m`, with these settings, is refused in the same way at boot and when somebody asks, stays
    /// failed under the next daemon, and starts once what is wrong is mended. `spoil` happens while
    /// no daemon runs.
    fn holds(&self, home: &Home, settings: &[&str], spoil: impl FnOnce(), mend: impl FnOnce()) {
        let mut daemon = home.daemon();
        home.fake_model("m", &json!({}));
        home.cli(["model", "set", "m", "autostart=on"].iter().chain(settings)).ok();
        assert!(daemon.terminate().success());
        spoil();
        daemon.start_again();
        home.follow("server.follow", json!({ "model": "m" })).until_state("failed");
        self.is_told(home);

        let said = home.cli(["start", "m"]).code(self.status).stderr();
        assert!(said.contains(self.says), "{said}");
        self.is_told(home);

        // One that starts nothing at boot knows it from what is written.
        daemon.kill();
        let _daemon = home.daemon_by(home.llamactld(["--started-by-client"]));
        self.is_told(home);

        mend();
        home.cli(["start", "m"]).ok();
        assert_eq!(home.call("server.show", json!({ "model": "m" }))["state"], "ready");
        home.cli(["stop", "m"]).ok();
    }

    /// The server of `m` has failed, and everybody who asks is told why.
    fn is_told(&self, home: &Home) {
        let failed = home.call("server.show", json!({ "model": "m" }));
        assert_eq!(failed["state"], "failed", "{failed}");
        let cause = failed["cause"]["message"].as_str().unwrap_or_default();
        assert!(cause.contains(self.says), "the cause: {failed}");

        let listed = home.cli(["ps", "--all", "--json"]).ok().json_lines();
        let row = listed.iter().find(|it| it["model"] == "m").unwrap();
        assert_eq!((&row["state"], &row["cause"]), (&failed["state"], &failed["cause"]));
        let shown = home.cli(["ps", "--all"]).ok().stdout();
        let row = shown.lines().find(|line| line.starts_with("m ")).unwrap();
        assert!(row.contains("failed") && row.contains(self.says), "{shown}");
        let why = home.cli(["why", "m"]).ok().stdout();
        assert!(why.contains("failed") && why.contains(self.says), "{why}");

        let events = home.call("event.list", json!({ "model": "m", "kinds": ["server.failed"] }));
        let told = |event: &Value| event["message"].as_str().unwrap().contains(self.says);
        assert!(events["items"].as_array().unwrap().iter().any(told), "{events}");
    }
}

/// A home whose llama-server can be taken away, broken, or kept from answering.
fn home_with_build() -> (Home, Build) {
    let home = Home::without_llama_server();
    let build = Build::new(&home, "build");
    let home = home.env("LLAMACTL_LLAMA_SERVER", build.path());
    (home, build)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_build_that_is_gone() {
    let (home, build) = home_with_build();
    let away = build.path().with_file_name("away");
    Refusal { status: 3, says: "does not exist" }.holds(
        &home,
        &[],
        || fs::rename(build.path(), &away).unwrap(),
        || fs::rename(&away, build.path()).unwrap(),
    );
}

#[test]
fn a_build_that_was_named_and_is_gone() {
    let home = Home::with_fake_llama_server();
    let build = Build::new(&home, "build");
    let daemon = home.daemon();
    home.cli(["runtime", "add", build.path().to_str().unwrap(), "--name", "b1"]).ok();
    drop(daemon);
    let away = build.path().with_file_name("away");
    Refusal { status: 3, says: "the runtime b1 is gone" }.holds(
        &home,
        &["runtime=b1"],
        || fs::rename(build.path(), &away).unwrap(),
        || fs::rename(&away, build.path()).unwrap(),
    );
}

#[test]
fn a_model_file_that_a_pipe_took_the_place_of() {
    let home = Home::with_fake_llama_server();
    let file = home.path().join("models/m.gguf");
    let away = home.path().join("away.gguf");
    Refusal { status: 5, says: "m.gguf is a named pipe, not a file" }.holds(
        &home,
        &[],
        || {
            fs::rename(&file, &away).unwrap();
            mkfifoat(CWD, &file, Mode::RUSR).unwrap();
        },
        || fs::rename(&away, &file).unwrap(),
    );
}

#[test]
fn a_file_of_a_setting_that_a_pipe_took_the_place_of() {
    let home = Home::with_fake_llama_server();
    let file = home.path().join("projector");
    fs::write(&file, "").unwrap();
    let setting = format!("mmproj={}", file.display());
    Refusal { status: 5, says: "projector: it is a named pipe, not a file" }.holds(
        &home,
        &[setting.as_str()],
        || {
            fs::remove_file(&file).unwrap();
            mkfifoat(CWD, &file, Mode::RUSR).unwrap();
        },
        || {
            fs::remove_file(&file).unwrap();
            fs::write(&file, "").unwrap();
        },
    );
}

/// Nobody asks for the start that follows a crash.
#[test]
fn a_restart_gives_llama_server_no_pipe() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let file = home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let mut states = home.follow("server.follow", json!({ "model": "m" }));
    fs::rename(&file, home.path().join("away.gguf")).unwrap();
    mkfifoat(CWD, &file, Mode::RUSR).unwrap();
    home.llama_servers()[0].signal(rustix::process::Signal::KILL);
    let failed = states.until_state("failed");
    assert_eq!(failed["cause"]["code"], "not_a_file", "{failed}");
    assert!(home.llama_servers().is_empty());
}

#[test]
fn a_build_that_may_not_be_executed() {
    let (home, build) = home_with_build();
    Refusal { status: 3, says: "may not be executed" }.holds(
        &home,
        &[],
        || mode(build.path(), 0o644),
        || mode(build.path(), 0o755),
    );
}

#[test]
fn a_build_that_never_answers() {
    let (home, build) = home_with_build();
    let spoil = || {
        build.renew(&home);
        build.shut();
    };
    Refusal { status: 5, says: "did not answer --help" }.holds(&home, &[], spoil, || build.open());
}

#[test]
fn no_llama_server_at_all() {
    let home = Home::without_llama_server();
    let build = home.path().join("llama-server");
    let home = home.env("LLAMACTL_LLAMA_SERVER", &build);
    let provide = || std::os::unix::fs::symlink(artifacts::fake_llama_server(), &build).unwrap();
    Refusal { status: 3, says: "does not exist" }.holds(&home, &[], || {}, provide);
}

#[test]
fn a_host_that_is_none_of_this_machine() {
    let home = Home::with_fake_llama_server();
    // An address for documents: nobody has it.
    let settings = ["host=192.0.2.1", "port=auto", "api-key=generate"];
    let mend = || drop(home.cli(["model", "set", "m", "host=127.0.0.1"]).ok());
    let says = "nothing can listen on 192.0.2.1";
    Refusal { status: 8, says }.holds(&home, &settings, || {}, mend);
}

#[test]
fn no_free_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let home = Home::with_fake_llama_server().env("LLAMACTL_PORTS", format!("{port}-{port}"));
    Refusal { status: 8, says: "is free" }.holds(&home, &["port=auto"], || {}, || drop(taken));
}

/// What the others are like: this one was always told as a failure.
#[test]
fn a_port_that_another_program_has() {
    let home = Home::with_fake_llama_server();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port={}", taken.local_addr().unwrap().port());
    let refusal = Refusal { status: 8, says: "another program listens on" };
    refusal.holds(&home, &[&port], || {}, || drop(taken));
}

#[test]
fn more_than_may_run() {
    let home = Home::with_fake_llama_server();
    home.configure("max_running = 1\n");
    let daemon = home.daemon();
    // At boot it goes first: of two files of one size the one that was added first.
    home.fake_model("first", &json!({}));
    home.cli(["model", "set", "first", "autostart=on"]).ok();
    drop(daemon);
    let mend = || {
        let mut states = home.follow("server.follow", json!({ "model": "first" }));
        states.until_state("ready");
        assert_eq!(home.llama_servers().len(), 1);
        home.cli(["stop", "first"]).ok();
    };
    let refusal = Refusal { status: 4, says: "first runs, and max_running allows one" };
    refusal.holds(&home, &[], || {}, mend);
}

#[test]
fn a_restart_of_one_that_does_not_run_fails_like_a_start() {
    let home = Home::without_llama_server();
    let home = home.env("LLAMACTL_LLAMA_SERVER", "/nowhere/llama-server");
    let _daemon = home.daemon();
    home.fake_model("m", &json!({}));
    let said = home.cli(["restart", "m"]).code(3).stderr();
    assert!(said.contains("does not exist"), "{said}");
    Refusal { status: 3, says: "does not exist" }.is_told(&home);
    // Who only wants to know whether it runs is told at once.
    home.cli(["wait", "m", "--for", "ready"]).code(8);
}
