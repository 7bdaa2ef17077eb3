//! The socket: who may connect, where it lies, and what may be in its way.

use llamactl_tests::user::{NOBODY, act_as, act_as_member};
use llamactl_tests::{Home, Rpc, need};
use serde_json::json;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_user_cannot_connect() {
    need!("root");
    let home = Home::new();
    let _daemon = home.daemon();
    assert_eq!((mode(&home.run_dir()), mode(&home.socket())), (0o700, 0o600));
    let refused = act_as(NOBODY, || Rpc::try_connect(&home.socket())).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn another_user_is_refused_even_where_the_files_let_it_in() {
    need!("root");
    let home = Home::new();
    let _daemon = home.daemon();
    for dir in home.run_dir().ancestors().take_while(|dir| *dir != home.path()) {
        set_mode(dir, 0o755);
    }
    set_mode(&home.socket(), 0o666);
    let refusal = act_as(NOBODY, || {
        let mut rpc = Rpc::connect(&home.socket());
        // Nothing was sent: who it is decides, not what it says.
        let refusal = rpc.refusal();
        assert_eq!(rpc.line(), None);
        refusal
    });
    assert_eq!((refusal.kind.as_str(), refusal.code), ("peer_refused", 1903));
}

#[test]
fn a_member_of_the_group_by_its_process_alone_is_admitted_and_nobody_else() {
    need!("root");
    let home = Home::new();
    let groups = fs::read_to_string("/etc/group").unwrap();
    // Any group that is neither root's nor the user's own: no file names the user as a member.
    let (name, gid) = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
        })
        .find(|(_, gid)| ![0, NOBODY].contains(gid))
        .unwrap();
    let (state_dir, socket) = (home.state_dir(), home.socket());
    let command = home
        .llamactld(["--system", "--group", name.as_str()])
        .env("LLAMACTL_STATE_DIR", &state_dir)
        .env("LLAMACTL_SOCKET", &socket);
    let _daemon = home.daemon_by(command);
    // Beyond the state directory the daemon's own modes decide: 0660 in 0750, both of the group.
    for dir in state_dir.ancestors().take_while(|dir| *dir != home.path()) {
        set_mode(dir, 0o711);
    }
    assert_eq!((mode(&home.run_dir()), mode(&socket)), (0o750, 0o660));
    let access = act_as_member(NOBODY, &[gid], || {
        Rpc::connect(&socket).call("daemon.hello", json!({}))["access"].clone()
    });
    assert_eq!(access, "operate");
    let refused = act_as_member(NOBODY, &[gid + 1], || Rpc::try_connect(&socket));
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::PermissionDenied);
    // Nor does it help that the files let it in.
    set_mode(&home.run_dir(), 0o755);
    set_mode(&socket, 0o666);
    let refusal = act_as_member(NOBODY, &[gid + 1], || Rpc::connect(&socket).refusal());
    assert_eq!(refusal.kind, "peer_refused");
}

#[test]
fn the_state_is_the_owners_alone() {
    let home = Home::new();
    let _daemon = home.daemon();
    assert_eq!(mode(&home.state_dir()) & 0o077, 0, "{:o}", mode(&home.state_dir()));
    let database = home.state_dir().join("registry.db");
    assert_eq!(mode(&database) & 0o077, 0, "{:o}", mode(&database));
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let home = Home::new();
    let open = home.path().join("open");
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    let socket = open.join("llamactld.sock");
    let daemon = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_SOCKET", &socket).run();
    assert!(!daemon.status.success());
    let said = daemon.stderr();
    assert!(said.contains(open.to_str().unwrap()) && said.contains("write"), "{said}");
    assert!(!socket.exists());
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_with_the_limit() {
    let home = Home::new();
    let dir = home.path().join("d".repeat(100));
    fs::create_dir(&dir).unwrap();
    set_mode(&dir, 0o700);
    let socket = dir.join("llamactld.sock");
    let daemon = home.llamactld(NO_ARGUMENTS).env("LLAMACTL_SOCKET", &socket).run();
    assert!(!daemon.status.success());
    assert!(daemon.stderr().contains("107"), "{}", daemon.stderr());

    let client = home.llamactl(["--json", "model", "list"]).env("LLAMACTL_SOCKET", &socket).run();
    assert!(client.code(6).failure()["message"].is_string());
}

#[test]
fn home_and_path_are_environment_enough() {
    let home = Home::new();
    let _daemon = home.daemon();
    // Nothing but HOME and PATH: a cron job, sudo, a container.
    let output = home.llamactl(["daemon", "status", "--json"]);
    let output = output.env_remove("LLAMACTL_NO_AUTOSTART").env_remove("LLAMACTL_LLAMA_SERVER");
    let status = output.run().ok().json();
    assert_eq!(status["socket"], json!(home.socket()));
}

#[test]
fn the_runtime_directory_of_the_session_plays_no_part() {
    let home = Home::new().env("XDG_RUNTIME_DIR", "/tmp");
    let runtime_dir = home.path().join("session");
    fs::create_dir(&runtime_dir).unwrap();
    set_mode(&runtime_dir, 0o700);
    let home = home.env("XDG_RUNTIME_DIR", &runtime_dir);
    let daemon = home.daemon();
    // The session ends; the daemon lives on.
    fs::remove_dir_all(&runtime_dir).unwrap();
    for other in [runtime_dir.as_path(), Path::new("/nonexistent"), Path::new("relative")] {
        let status = home.llamactl(["daemon", "status", "--json"]).env("XDG_RUNTIME_DIR", other);
        assert_eq!(status.run().ok().json()["pid"], daemon.pid());
    }
    let status = home.llamactl(["daemon", "status", "--json"]).env_remove("XDG_RUNTIME_DIR");
    assert_eq!(status.run().ok().json()["pid"], daemon.pid());
}

#[test]
fn a_socket_nobody_listens_on_is_taken_over() {
    let home = Home::new();
    let mut daemon = home.daemon();
    daemon.kill();
    assert!(home.socket().exists(), "a killed daemon leaves its socket");
    daemon.start_again();
    assert_eq!(home.call("daemon.ping", json!({ "n": 7 }))["n"], 7);
}

#[test]
fn a_clean_stop_leaves_no_socket() {
    let home = Home::new();
    let mut daemon = home.daemon();
    assert!(daemon.terminate().success());
    assert!(!home.socket().exists());
}

#[test]
fn a_second_daemon_gives_way_to_the_first() {
    let home = Home::new();
    let daemon = home.daemon();
    let second = home.llamactld(NO_ARGUMENTS).run().code(4);
    assert!(second.stderr().contains(&daemon.pid().to_string()), "{}", second.stderr());
    assert_eq!(home.call("daemon.status", json!({}))["pid"], daemon.pid());
}

#[test]
fn another_programs_socket_is_left_alone() {
    let home = Home::new();
    fs::create_dir_all(home.run_dir()).unwrap();
    set_mode(&home.run_dir(), 0o700);
    let foreign = UnixListener::bind(home.socket()).unwrap();
    let daemon = home.llamactld(NO_ARGUMENTS).run();
    assert!(!daemon.status.success());
    let said = daemon.stderr();
    assert!(said.contains(home.socket().to_str().unwrap()), "{said}");
    // It still is the foreign program that is connected to.
    let _client = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    foreign.set_nonblocking(true).unwrap();
    while foreign.accept().is_ok() {}
    drop(foreign);
}

#[test]
fn a_file_where_the_socket_should_be_is_kept() {
    let home = Home::new();
    fs::create_dir_all(home.run_dir()).unwrap();
    set_mode(&home.run_dir(), 0o700);
    fs::write(home.socket(), "precious").unwrap();
    let daemon = home.llamactld(NO_ARGUMENTS).run();
    assert!(!daemon.status.success());
    assert!(daemon.stderr().contains(home.socket().to_str().unwrap()), "{}", daemon.stderr());
    assert_eq!(fs::read_to_string(home.socket()).unwrap(), "precious");
}

#[test]
fn where_no_daemon_answers_every_path_tried_is_named() {
    let home = Home::new();
    let failure = home.cli(["--json", "model", "list"]).code(6).failure();
    assert_eq!(failure["kind"], "daemon_unreachable");
    let said = failure.to_string();
    assert!(said.contains(home.socket().to_str().unwrap()), "{said}");

    let elsewhere = home.path().join("elsewhere.sock");
    let failure = home.llamactl([OsString::from("--socket"), elsewhere.clone().into()]);
    let failure = failure.args(["--json", "model", "list"]).run().code(6).failure().to_string();
    assert!(failure.contains(elsewhere.to_str().unwrap()), "{failure}");
    assert!(!failure.contains(home.socket().to_str().unwrap()), "{failure}");
}

const NO_ARGUMENTS: [&str; 0] = [];
