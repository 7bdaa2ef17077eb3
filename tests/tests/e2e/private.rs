//! What lies in the state directory is its owner's alone, whatever became of its modes.

use llamactl_tests::user::{NOBODY, act_as};
use llamactl_tests::{DEADLINE, Home, eventually, need};
use rustix::process::Signal;
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn modes_are_put_right_at_the_start() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.call("model.set", json!({ "model": "m", "set": { "env.A": { "secret_text": "s" } } }));
    daemon.kill();
    let state_dir = home.state_dir();
    for name in ["secrets", "logs", "registry.db", "registry.db-wal"] {
        set_mode(&state_dir.join(name), 0o777);
    }
    daemon.start_again();
    for (name, right) in
        [("secrets", 0o700), ("logs", 0o700), ("log", 0o700), ("registry.db", 0o600)]
    {
        assert_eq!(mode(&state_dir.join(name)), right, "{name}");
    }
}

#[test]
fn a_directory_of_secrets_that_is_anothers_is_refused() {
    need!("root");
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    assert!(daemon.terminate().success());
    let secrets = home.state_dir().join("secrets");
    chown(&secrets, Some(NOBODY), None).unwrap();
    let refused = home.llamactld(std::iter::empty::<&str>()).run();
    assert!(!refused.status.success());
    let said = refused.stderr();
    assert!(said.contains("secrets belongs to uid 65534"), "{said}");
    chown(&secrets, Some(0), None).unwrap();
    daemon.start_again();
}

#[test]
fn a_state_directory_that_is_opened_is_closed_again() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let state_dir = home.state_dir();
    set_mode(&state_dir, 0o777);
    eventually(DEADLINE, "it is closed again", || mode(&state_dir) == 0o700);
}

#[test]
fn sockets_of_killed_servers_are_gone_with_the_next_daemon() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    for name in ["killed", "kept"] {
        home.fake_model(name, &json!({}));
        home.cli(["start", name]).ok();
    }
    let sockets = || fs::read_dir(home.run_dir().join("servers")).unwrap().count();
    assert_eq!(sockets(), 2);
    home.cli(["model", "set", "killed", "restart=never"]).ok();
    let id = home.call("model.show", json!({ "model": "killed" }))["id"].clone();
    let socket = format!("/m{id}.sock");
    daemon.kill();
    let servers = home.llama_servers();
    let killed = servers.iter().find(|it| it.command.iter().any(|word| word.ends_with(&socket)));
    killed.unwrap().signal(Signal::KILL);
    daemon.start_again();
    eventually(DEADLINE, "its socket is gone", || sockets() == 1);
    assert_eq!(home.call("server.show", json!({ "model": "kept" }))["state"], "ready");
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let home = Home::with_fake_llama_server().env("LLAMACTL_SOCKET", "");
    let _daemon = home.daemon();
    assert!(home.socket().exists());
    home.cli(["model", "list"]).ok();
}

#[test]
fn who_may_not_connect_is_told_who_may() {
    need!("root");
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let ask = |socket: &Path| {
        let asked = home.llamactl(["--socket", socket.to_str().unwrap(), "status"]);
        act_as(NOBODY, || asked.run().code(6).stderr())
    };
    let said = ask(&home.socket());
    assert!(said.contains("only that user may use"), "{said}");
    // As the directory of a daemon that serves a group is.
    let directory = home.path().join("shared");
    fs::create_dir(&directory).unwrap();
    chown(&directory, None, Some(1)).unwrap();
    set_mode(&directory, 0o750);
    let said = ask(&directory.join("llamactld.sock"));
    assert!(said.contains("only members of the group daemon"), "{said}");
}
