//! What the disk does to the registry: it may only be read, is full, fails, or loses its power.

use llamactl_tests::faulty_disk::{Call, Change, FaultyDisk, PowerLoss};
use llamactl_tests::mount::Mount;
use llamactl_tests::user::{NOBODY, act_as};
use llamactl_tests::{DEADLINE, Home, Output, eventually, need};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NO_ARGUMENTS: [&str; 0] = [];

fn registry(home: &Home) -> PathBuf {
    home.state_dir().join("registry.db")
}

/// Two models, of which `runs` has a server whose daemon was killed.
fn with_a_server(home: &Home) {
    let mut daemon = home.daemon();
    home.fake_model("runs", &json!({}));
    home.fake_model("stands", &json!({}));
    home.cli(["start", "runs"]).ok();
    daemon.kill();
    // Whether it had made the copy of the day by then is chance: the next one has to.
    let _ = fs::remove_dir_all(home.state_dir().join("copies"));
}

/// What can be done where nothing can be written, by what `ask` runs. Whether a stop was recorded all the
/// same.
fn is_controlled_and_told(ask: impl Fn(&[&str]) -> Output, problem: &str, kind: &str) -> bool {
    assert_eq!(ask(&["model", "list", "-q"]).ok().lines(), ["runs", "stands"]);
    let state = || ask(&["--json", "ps", "--all"]).ok().stdout().lines().next().map(str::to_owned);
    let state = || {
        let server: Value = serde_json::from_str(&state().unwrap()).unwrap();
        assert_eq!(server["model"], "runs");
        server["state"].clone()
    };
    eventually(DEADLINE, "its server is taken over", || state() == "ready");
    for refused in
        [&["--json", "model", "set", "stands", "ctx-size=512"][..], &["--json", "start", "stands"]]
    {
        assert_eq!(ask(refused).code(1).failure_kind(), kind, "{refused:?}");
    }
    for command in [&["ps"][..], &["status"], &["daemon", "status"]] {
        let said = ask(command).ok();
        let said = format!("{}{}", said.stdout(), said.stderr());
        assert!(said.contains(problem) && said.contains("changes are refused"), "{said}");
    }
    let stopped = ask(&["--json", "stop", "runs"]).ok().json();
    assert_eq!(state(), "stopped");
    stopped["durable"].as_bool().unwrap()
}

/// What could not be written is written as soon as it can be, by itself.
fn recovers(ask: impl Fn(&[&str]) -> Output) {
    eventually(DEADLINE, "all is written", || {
        let report = ask(&["--json", "daemon", "status"]).ok().json();
        report["registry"]["waiting_records"] == 0 && report["warnings"] == json!([])
    });
    ask(&["model", "set", "stands", "ctx-size=512"]).ok();
}

/// 6: the file's owner may not write to it.
#[test]
fn a_registry_of_a_mode_to_read_only() {
    need!("root", "setpriv", "chown");
    let home = Home::with_fake_llama_server();
    with_a_server(&home);
    home.llama_servers().iter().for_each(|server| server.signal(rustix::process::Signal::KILL));
    let owned = home.program("chown", ["-R", "65534:65534", home.path().to_str().unwrap()]).run();
    let _ = owned.ok();
    let mode = |mode| fs::set_permissions(registry(&home), Permissions::from_mode(mode)).unwrap();
    let ask = |words: &[&str]| act_as(NOBODY, || home.cli(words));
    let binary = llamactl_tests::artifacts::llamactld();
    let options = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let command = home.program("setpriv", options).args([binary]);
    // Its server runs as that user too.
    let mut daemon = home.daemon_by(command);
    ask(&["start", "runs"]).ok();
    daemon.kill();
    mode(0o400);
    daemon.start_again();
    assert!(!is_controlled_and_told(ask, "cannot be written", "registry_unwritable"));
    mode(0o600);
    recovers(ask);
}

/// 6: the file system may only be read.
#[test]
fn a_registry_on_a_disk_to_read_only() {
    need!("root", "mount");
    let home = Home::with_fake_llama_server();
    with_a_server(&home);
    let disk = Mount::read_only(home.state_dir());
    // Sockets lie elsewhere on a machine whose disks may only be read.
    let _run = Mount::read_only(home.run_dir()).and_writable();
    let daemon = home.daemon();
    let ask = |words: &[&str]| home.cli(words);
    assert!(!is_controlled_and_told(ask, "cannot be written", "registry_unwritable"));
    disk.allow_writing();
    recovers(ask);
    drop(daemon);
}

/// 6: the file may not be changed by anybody.
#[test]
fn a_registry_that_is_immutable() {
    need!("root", "chattr");
    let home = Home::with_fake_llama_server();
    let chattr = |what: &str, path: &Path| {
        Command::new("chattr").arg(what).arg(path).status().unwrap().success()
    };
    if !chattr("+i", home.path()) || !chattr("-i", home.path()) {
        return; // A file system that knows no such thing.
    }
    with_a_server(&home);
    assert!(chattr("+i", &registry(&home)));
    let daemon = home.daemon();
    let ask = |words: &[&str]| home.cli(words);
    assert!(!is_controlled_and_told(ask, "cannot be written", "registry_unwritable"));
    assert!(chattr("-i", &registry(&home)));
    recovers(ask);
    drop(daemon);
}

/// 5: on a disk that is large enough to keep room, and on one that is not.
fn the_disk_is_full_at_the_start(megabytes: u32, keeps_room: bool) {
    need!("root", "mount");
    let home = Home::with_fake_llama_server();
    fs::create_dir_all(home.state_dir().parent().unwrap()).unwrap();
    let disk = Mount::small(home.state_dir(), megabytes);
    // There is nothing yet that could be lost or controlled.
    disk.fill();
    let refused = home.llamactld(NO_ARGUMENTS).run().code(1).stderr();
    assert!(
        refused.contains("the disk is full") && refused.contains("free some space"),
        "{refused}"
    );
    disk.free();
    with_a_server(&home);
    if keeps_room {
        // SQLite needs room for it even to read.
        fs::remove_file(beside(&home, "-shm")).unwrap();
    }
    disk.fill();
    let daemon = home.daemon();
    let ask = |words: &[&str]| home.cli(words);
    assert_eq!(is_controlled_and_told(ask, "is full", "disk_full"), keeps_room);
    disk.free();
    recovers(ask);
    drop(daemon);
}

fn beside(home: &Home, behind: &str) -> PathBuf {
    home.state_dir().join(format!("registry.db{behind}"))
}

#[test]
fn a_daemon_starts_on_a_full_disk_with_room_that_was_kept() {
    the_disk_is_full_at_the_start(96, true);
}

#[test]
fn a_daemon_starts_on_a_full_disk_without_room() {
    the_disk_is_full_at_the_start(12, false);
}

fn size(home: &Home) -> Value {
    home.call("model.show", json!({ "model": "stands" }))["settings"]["ctx-size"].take()
}

fn set(home: &Home, size: usize) -> Output {
    home.cli(["--json", "model", "set", "stands", &format!("ctx-size={size}")])
}

/// 11
#[test]
fn a_disk_that_fails_is_told_and_nothing_is_taken_for_written() {
    need!("cc");
    let home = Home::with_fake_llama_server();
    with_a_server(&home);
    let disk = FaultyDisk::of(&home);
    let mut daemon = home.daemon_by(disk.under(home.llamactld(NO_ARGUMENTS)));
    for (number, call) in (1..).zip([Call::Write, Call::Sync, Call::Read]) {
        set(&home, 1000 * number).ok();
        home.cli(["start", "runs"]).ok();
        disk.break_it(call);
        if call == Call::Read {
            // What was read before is known still; nobody dies of what is not.
            let _ = set(&home, 77);
            let _ = home.cli(["ps"]);
            let _ = home.cli(["stop", "runs"]);
        } else {
            // What was refused has not happened, whoever looks.
            set(&home, 77).code(1);
            daemon.kill();
            disk.mend(call);
            daemon.start_again();
            assert_eq!(size(&home), 1000 * number, "{call:?}");
            disk.break_it(call);
            let ask = |words: &[&str]| home.cli(words);
            assert!(!is_controlled_and_told(ask, "cannot be written", "registry_unwritable"));
        }
        disk.mend(call);
        recovers(|words| home.cli(words));
        set(&home, 1000 * number + 1).ok();
        daemon.kill();
        daemon.start_again();
        assert_eq!(size(&home), 1000 * number + 1, "{call:?}");
    }
    home.cli(["stop", "runs"]).ok();
    flushed_anew(&disk.changes());
}

/// What was written before a flush that failed is written again before the next that works: the system may
/// have dropped it, and would say that all is well.
fn flushed_anew(changes: &[(String, Change)]) {
    let log: Vec<&Change> =
        changes.iter().filter(|(name, _)| name == "registry.db-wal").map(|(_, it)| it).collect();
    let failed: Vec<usize> = (0..log.len()).filter(|&at| *log[at] == Change::NotFlushed).collect();
    assert!(!failed.is_empty());
    for at in failed {
        let is_end = |change: &&&Change| matches!(change, Change::Flushed | Change::NotFlushed);
        let offsets = |changes: Vec<&&Change>| -> Vec<usize> {
            let offset = |change: &&Change| match change {
                Change::Written(offset, _) => Some(*offset),
                _ => None,
            };
            changes.into_iter().filter_map(offset).collect()
        };
        let before = offsets(log[..at].iter().rev().take_while(|it| !is_end(it)).collect());
        let after = offsets(log[at + 1..].iter().take_while(|it| !is_end(it)).collect());
        let first = before.iter().min();
        assert!(first.is_none_or(|first| after.contains(first)), "{before:?} {after:?}");
    }
}

/// 3: whatever the disk had got to when the power went, what was answered is there, and the rest whole or
/// not at all.
#[test]
fn a_power_loss_at_any_moment_leaves_what_was_answered() {
    need!("cc");
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("stands", &json!({}));
    daemon.terminate();
    let disk = FaultyDisk::of(&home);
    let files = ["registry.db", "registry.db-wal"];
    let mut loss = PowerLoss::from(&home.state_dir(), &files);
    let mut daemon = home.daemon_by(disk.under(home.llamactld(NO_ARGUMENTS)));
    // What had been asked of the disk when a value was answered.
    let mut answered = vec![];
    for value in 1..=40 {
        home.call("model.set", json!({ "model": "stands", "set": { "ctx-size": 1000 + value } }));
        answered.push((disk.changes().len(), 1000 + value));
        if value % 15 == 0 {
            // A clean stop moves the log into the registry.
            daemon.terminate();
            daemon.start_again();
        }
    }
    daemon.kill();

    let changes = disk.changes();
    let cuts = changes.iter().filter(|(_, it)| matches!(it, Change::Cut(_))).count();
    assert!(changes.len() > 500 && cuts > 0, "{} {cuts}", changes.len());
    let after = tempfile::tempdir().unwrap();
    let last = answered.last().unwrap().1;
    let mut random = fastrand::Rng::with_seed(7);
    for (at, (name, change)) in changes.iter().enumerate() {
        let least = answered.iter().rev().find(|(done, _)| *done <= at).map(|(_, value)| *value);
        for survives in 0..4 {
            loss.leave(after.path(), |length| match survives {
                0 => 0,
                1 => length,
                2 => random.usize(0..2) * length,
                _ => random.usize(0..=length / 512) * 512,
            });
            let found = value_in(after.path(), least.is_some());
            let fits = least
                .is_none_or(|least| found.is_some_and(|found| (least..=last).contains(&found)));
            assert!(fits, "{found:?} where {least:?} was answered, at {at}: {name} {survives}");
        }
        loss.go_on(name, change);
    }
}

/// The value in what a power loss left, all of which must be whole.
fn value_in(dir: &Path, is_there: bool) -> Option<i64> {
    let _ = fs::remove_file(dir.join("registry.db-shm"));
    let left = Connection::open(dir.join("registry.db")).unwrap();
    let well: String = left.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).unwrap();
    assert_eq!(well, "ok");
    let value = "SELECT CAST(value AS INTEGER) FROM model_settings WHERE key = 'ctx-size'";
    let value = left.query_row(value, [], |row| row.get(0));
    assert!(!is_there || value.is_ok(), "{value:?}");
    value.ok()
}

/// 10: killed before any change of the disk: the version before, or this one, and a copy of the former.
#[test]
fn a_migration_that_is_killed_leaves_the_version_before_or_this_one() {
    need!("cc");
    let migrations = migrations();
    let (before, now) = (migrations.len() - 1, migrations.len());
    let schemas = [before, now].map(|version| {
        let clean = Connection::open_in_memory().unwrap();
        migrate(&clean, &migrations[..version]);
        schema(&clean)
    });
    let old = tempfile::tempdir().unwrap();
    let old = old.path().join("registry.db");
    let connection = Connection::open(&old).unwrap();
    migrate(&connection, &migrations[..before]);
    connection
        .execute_batch(
            "INSERT INTO registry VALUES ('id', '5f1b7a52-5d6f-4a27-9a51-0c7c3a2f9a11');
             INSERT INTO library_dirs VALUES (CAST('/models' AS BLOB), 9)",
        )
        .unwrap();
    drop(connection);

    let (mut seen, mut kills) = ([0, 0], 0);
    while seen[1] < 10 {
        kills += 1;
        let home = Home::with_fake_llama_server();
        fs::create_dir_all(home.state_dir()).unwrap();
        fs::copy(&old, registry(&home)).unwrap();
        let killed = FaultyDisk::of(&home).killing_at(home.llamactld(NO_ARGUMENTS), kills).run();
        assert_eq!(killed.status.signal(), Some(9), "{}", killed.stderr());

        let left = Connection::open(registry(&home)).unwrap();
        let is_now = version(&left) == now;
        assert!(is_now || version(&left) == before, "{} after {kills}", version(&left));
        assert_eq!(schema(&left), schemas[usize::from(is_now)], "after {kills}");
        drop(left);
        seen[usize::from(is_now)] += 1;
        let copy = registry(&home).with_extension(format!("db.v{before}"));
        if is_now || copy.exists() {
            let copy = Connection::open(copy).unwrap();
            assert_eq!((version(&copy), schema(&copy)), (before, schemas[0].clone()));
        }
        // And the next daemon goes on from there.
        if kills % 8 == 0 {
            let _daemon = home.daemon();
            let dirs = home.call("library.list", json!({}));
            assert_eq!(dirs["directories"][0]["path"], "/models", "{dirs}");
        }
    }
    assert!(seen[0] > 20, "{seen:?}");
}

/// The statements of each migration there is.
fn migrations() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/registry");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn migrate(connection: &Connection, migrations: &[String]) {
    connection.execute_batch(&migrations.concat()).unwrap();
    connection.pragma_update(None, "user_version", migrations.len()).unwrap();
}

fn version(connection: &Connection) -> usize {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn schema(connection: &Connection) -> Vec<String> {
    let all = "SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name";
    let mut all = connection.prepare(all).unwrap();
    let rows = all.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}
