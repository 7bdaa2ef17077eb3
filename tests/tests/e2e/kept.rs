//! What was acknowledged stays: files that are deleted or replaced under the daemon, a damaged registry and
//! the way back, a full disk.

use llamactl_tests::mount::Mount;
use llamactl_tests::{DEADLINE, Daemon, Home, eventually, need};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn registry(home: &Home, behind: &str) -> PathBuf {
    home.state_dir().join(format!("registry.db{behind}"))
}

fn set(home: &Home, size: u32) {
    home.cli(["model", "set", "tiny", &format!("ctx-size={size}")]).ok();
}

fn size(home: &Home) -> Value {
    home.call("model.show", json!({ "model": "tiny" }))["settings"]["ctx-size"].take()
}

fn kill_and_start(daemon: &mut Daemon) {
    daemon.kill();
    daemon.start_again();
}

/// 8
#[test]
fn a_registry_that_is_deleted_while_the_daemon_runs_is_put_back() {
    for gone in [&["", "-wal", "-shm"][..], &[""], &["-wal"]] {
        let (home, mut daemon) = Home::with_tiny();
        for behind in gone {
            fs::remove_file(registry(&home, behind)).unwrap();
        }
        set(&home, 1024);
        kill_and_start(&mut daemon);
        assert_eq!(size(&home), 1024, "{gone:?}");
        set(&home, 2048);
        kill_and_start(&mut daemon);
        assert_eq!(size(&home), 2048, "{gone:?}");
    }
}

#[test]
fn a_registry_that_is_deleted_is_put_back_before_anybody_changes_something() {
    let (home, mut daemon) = Home::with_tiny();
    fs::remove_file(registry(&home, "")).unwrap();
    eventually(DEADLINE, "it is there again", || registry(&home, "").exists());
    kill_and_start(&mut daemon);
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
}

#[test]
fn a_file_in_the_place_of_the_registry_is_kept_and_changes_are_refused() {
    let (home, mut daemon) = Home::with_tiny();
    let copy = home.path().join("copy.db");
    home.cli(["daemon", "backup", copy.to_str().unwrap()]).ok();
    home.cli(["daemon", "backup", copy.to_str().unwrap()]).code(5);
    set(&home, 1024);
    fs::rename(&copy, registry(&home, "")).unwrap();
    for _ in 0..2 {
        let refused = home.cli(["--json", "model", "set", "tiny", "ctx-size=512"]).code(1);
        assert_eq!(refused.failure_kind(), "registry_replaced");
    }
    for command in [&["ps"][..], &["status"], &["daemon", "status"]] {
        let said = home.cli(command).ok();
        let said = format!("{}{}", said.stdout(), said.stderr());
        assert!(said.contains("another file lies in the place of the registry"), "{said}");
    }
    home.cli(["daemon", "restore"]).code(4);
    home.cli(["daemon", "restore", "--running"]).ok();
    set(&home, 2048);
    kill_and_start(&mut daemon);
    assert_eq!(size(&home), 2048);
}

/// What another program wrote into the registry's own file is noticed without anybody changing something.
fn written_over(with: impl FnOnce(&Home) -> Vec<u8>) -> (Home, Daemon) {
    let (home, daemon) = Home::with_tiny();
    set(&home, 1024);
    let theirs = with(&home);
    set(&home, 2048);
    fs::write(registry(&home, ""), theirs).unwrap();
    let report = || home.call("daemon.status", json!({}));
    eventually(DEADLINE, "it is noticed", || report()["warnings"] != json!([]));
    let refused = home.cli(["--json", "model", "set", "tiny", "ctx-size=512"]).code(1);
    assert_eq!(refused.failure_kind(), "registry_replaced");
    for command in [&["ps"][..], &["status"], &["daemon", "status"]] {
        let said = home.cli(command).ok();
        let said = format!("{}{}", said.stdout(), said.stderr());
        assert!(said.contains("another program wrote over the registry"), "{said}");
    }
    for way in [&["restore", "--running"][..], &["backup", "copy.db"]] {
        let command = ["--json", "daemon"].iter().chain(way);
        assert_eq!(home.cli(command).code(1).failure_kind(), "registry_replaced");
    }
    (home, daemon)
}

#[test]
fn a_registry_that_is_written_over_is_left_alone_and_can_be_taken() {
    let copy = |home: &Home| {
        let copy = home.path().join("theirs.db");
        home.cli(["daemon", "backup", copy.to_str().unwrap()]).ok();
        fs::read(copy).unwrap()
    };
    let (home, mut daemon) = written_over(copy);
    home.cli(["daemon", "restart"]).ok();
    assert_eq!(size(&home), 1024);
    set(&home, 4096);
    kill_and_start(&mut daemon);
    assert_eq!(size(&home), 4096);
    // By a kill too: what we had written ourselves is not played into theirs.
    let (home, mut daemon) = written_over(copy);
    kill_and_start(&mut daemon);
    assert_eq!(size(&home), 1024);
}

#[test]
fn a_registry_that_is_emptied_is_gone_back_from() {
    let (home, mut daemon) = written_over(|_| vec![]);
    home.cli(["daemon", "restart"]).code(1);
    daemon.terminate();
    assert_eq!(fs::read(registry(&home, "")).unwrap(), b"", "it is not touched");
    home.cli(["daemon", "restore"]).ok();
    daemon.start_again();
    assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
}

#[test]
fn what_another_program_writes_by_way_of_sqlite_is_no_harm() {
    let (home, mut daemon) = Home::with_tiny();
    let other = rusqlite::Connection::open(registry(&home, "")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let checkpoint = || {
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(!checkpoint());
    set(&home, 1024);
    assert!(!checkpoint());
    other.execute_batch("VACUUM").unwrap();
    assert!(!checkpoint());
    set(&home, 2048);
    // As much in the log as there was before, once it was emptied.
    assert!(!checkpoint());
    set(&home, 3072);
    drop(other);
    let _ = home.program("touch", [registry(&home, "")]).run().ok();
    set(&home, 4096);
    kill_and_start(&mut daemon);
    assert_eq!(size(&home), 4096);
}

#[test]
fn the_log_is_moved_into_the_registry_before_it_is_long() {
    let (home, _daemon) = Home::with_tiny();
    let mut rpc = home.connect();
    for number in 0..400 {
        let set = json!({ "ctx-size": 512 + number });
        rpc.call("model.set", json!({ "model": "tiny", "set": set }));
    }
    let bytes = fs::metadata(registry(&home, "-wal")).unwrap().len();
    assert!((1 << 20..8 << 20).contains(&bytes), "{bytes}");
    assert_eq!(home.call("daemon.status", json!({}))["warnings"], json!([]));
}

#[test]
fn what_was_given_is_copied_also_where_there_is_no_model() {
    let home = Home::new();
    let _daemon = home.daemon();
    let copies = home.state_dir().join("copies");
    let count = || fs::read_dir(&copies).map_or(0, Iterator::count);
    assert_eq!(count(), 0, "a registry without anything is not worth the copy of a day");
    home.cli(["defaults", "set", "ctx-size=512"]).ok();
    eventually(DEADLINE, "there is a copy", || count() == 1);
}

/// 7
#[test]
fn a_damaged_registry_is_refused_with_the_way_back_which_works() {
    let (home, mut daemon) = Home::with_tiny();
    set(&home, 1024);
    let copies = home.state_dir().join("copies");
    eventually(DEADLINE, "there is a copy", || {
        fs::read_dir(&copies).is_ok_and(|mut it| {
            it.any(|it| it.unwrap().path().extension().is_some_and(|it| it == "db"))
        })
    });
    for damage in [vec![], vec![b'x'; 9000]] {
        daemon.terminate();
        fs::write(registry(&home, ""), &damage).unwrap();
        let refused = home.llamactld([""; 0]).run().code(1).stderr();
        assert!(
            refused.contains("registry.db") && refused.contains("llamactl daemon restore"),
            "{refused}"
        );
        assert_eq!(fs::read(registry(&home, "")).unwrap(), damage, "it is not touched");
        let restored = home.cli(["daemon", "restore"]).ok().stdout();
        assert!(restored.contains("copies/registry-"), "{restored}");
        daemon.start_again();
        assert_eq!(home.cli(["model", "list", "-q"]).ok().lines(), ["tiny"]);
    }
}

/// 4: on a disk that is large enough to keep room, and on one that is not.
fn a_stop_on_a_full_disk(megabytes: u32, keeps_room: bool) {
    need!("root", "mount");
    let home = Home::with_fake_llama_server();
    fs::create_dir_all(home.state_dir().parent().unwrap()).unwrap();
    let disk = Mount::small(home.state_dir(), megabytes);
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    disk.fill();
    let refused = home.cli(["--json", "model", "set", "m", "ctx-size=512"]).code(1);
    assert_eq!(refused.failure_kind(), "disk_full");
    let stopped = home.cli(["stop", "m"]).ok();
    let warned = stopped.stderr().contains("m: the disk is full and this stop is not recorded");
    assert_eq!(warned, !keeps_room, "{}", stopped.stderr());
    assert!(home.llama_servers().is_empty());
    for command in [&["ps"][..], &["status"], &["daemon", "status"]] {
        let said = home.cli(command).ok();
        let said = format!("{}{}", said.stdout(), said.stderr());
        assert!(said.contains("is full: changes are refused"), "{said}");
    }
    if !keeps_room {
        disk.free();
        eventually(DEADLINE, "all is written", || {
            let report = home.call("daemon.status", json!({}));
            report["registry"]["waiting_records"] == 0 && report["warnings"] == json!([])
        });
    }
    daemon.kill();
    daemon.start_again();
    let server = home.call("server.show", json!({ "model": "m" }));
    assert_eq!(server["state"], "stopped", "{server}");
    let listed = home.call("event.list", json!({ "model": "m", "limit": 500 }));
    let kinds: Vec<_> = listed["items"].as_array().unwrap().iter().map(|it| &it["kind"]).collect();
    assert!(kinds.contains(&&json!("server.stopped")), "{kinds:?}");
    if keeps_room {
        disk.free();
    }
    home.cli(["model", "set", "m", "ctx-size=512"]).ok();
    drop(daemon);
}

#[test]
fn a_stop_on_a_full_disk_has_room_that_was_kept_for_it() {
    a_stop_on_a_full_disk(96, true);
}

#[test]
fn a_stop_on_a_full_disk_without_room_is_said_and_written_when_there_is() {
    a_stop_on_a_full_disk(12, false);
}

/// 12
#[test]
fn a_registry_that_another_program_holds_is_said_to_be() {
    let (home, _daemon) = Home::with_tiny();
    let other = rusqlite::Connection::open(registry(&home, "")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = home.cli(["--json", "model", "set", "tiny", "ctx-size=512"]).code(1);
    assert_eq!(refused.failure_kind(), "registry_busy");
    other.execute_batch("ROLLBACK").unwrap();
    set(&home, 512);
}

#[test]
fn a_stop_goes_on_while_another_program_holds_the_registry_and_is_written_after() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let other = rusqlite::Connection::open(registry(&home, "")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stopped = home.cli(["--json", "stop", "m", "--no-wait"]).ok().json();
    assert_eq!(stopped["durable"], false, "{stopped}");
    eventually(DEADLINE, "it is stopped", || home.llama_servers().is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    eventually(DEADLINE, "it is written", || {
        let server = home.call("server.show", json!({ "model": "m" }));
        let report = home.call("daemon.status", json!({}));
        server["state"] == "stopped" && report["registry"]["waiting_records"] == 0
    });
    kill_and_start(&mut daemon);
    assert_eq!(home.call("server.show", json!({ "model": "m" }))["state"], "stopped");
}
