//! The socket's node, in directories of all kinds.

use super::*;
use llamactl_protocol::Failure;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn user(directory: &Path) -> Place {
    Place::User(directory.join("run/llamactld.sock"))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn refused(place: &Place) -> SocketError {
    bind(place).expect_err("it should be refused")
}

#[test]
fn a_user_socket_is_closed_to_others() {
    let home = scratch();
    let place = user(home.path());
    let bound = bind(&place).unwrap();
    assert_eq!(mode(place.path()), 0o600);
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    let lock = home.path().join("run/llamactld.sock.lock");
    assert_eq!(mode(&lock), 0o600);
    assert_eq!(fs::read_to_string(&lock).unwrap().trim(), std::process::id().to_string());
    UnixStream::connect(place.path()).unwrap();
    assert!(bound.guard.is_in_place());
    bound.guard.release().unwrap();
    assert!(!place.path().exists() && !lock.exists(), "nothing stays");
    drop(bind(&place).unwrap());
    assert!(lock.exists(), "who did not release it left it");
    bind(&place).unwrap();
}

#[test]
fn of_daemons_that_come_and_go_one_at_a_time_has_the_socket() {
    let home = scratch();
    let place = user(home.path());
    let holders = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut turns = 0;
                while turns < 50 {
                    let Ok(bound) = bind(&place) else { continue };
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    assert!(bound.guard.is_whole());
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                    bound.guard.release().unwrap();
                    turns += 1;
                }
            });
        }
    });
    assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 0);
}

#[test]
fn a_refused_socket_leaves_no_lock_and_a_neighbour_is_not_taken_for_one() {
    let home = scratch();
    let path = home.path().join("Cargo");
    let place = Place::Given(path.clone());
    fs::write(&path, "a file").unwrap();
    assert!(matches!(refused(&place), SocketError::NotASocket(_)));
    let neighbour = home.path().join("Cargo.lock");
    assert!(!neighbour.exists());
    fs::remove_file(&path).unwrap();
    fs::write(&neighbour, "version = 4\n").unwrap();
    let why = refused(&place).to_string();
    assert!(why.contains("Cargo.lock is in the way"), "{why}");
    assert_eq!(fs::read_to_string(neighbour).unwrap(), "version = 4\n");
}

#[test]
fn a_lock_that_is_being_signed_is_one_all_the_time() {
    let dir = scratch();
    let path = dir.path().join("s.lock");
    let mut signed = File::create_new(&path).unwrap();
    let mut found = File::open(&path).unwrap();
    let signer = thread::spawn(move || (0..20_000).try_for_each(|_| sign(&mut signed)));
    while !signer.is_finished() {
        assert!(is_a_lock(&mut found));
    }
    signer.join().unwrap().unwrap();
}

#[test]
fn a_system_socket_is_its_groups() {
    let root = scratch();
    let gid = rustix::process::getegid().as_raw();
    let place = Place::System { path: root.path().join("llamactl/llamactld.sock"), gid };
    let directory = place.path().parent().unwrap();
    drop(bind(&place).unwrap());
    assert_eq!((mode(place.path()), mode(directory)), (0o660, 0o750));
    let other = Place::System { path: place.path().to_owned(), gid: gid + 1 };
    assert!(matches!(refused(&other), SocketError::OtherGroup { .. }));
    for open in [0o770, 0o755] {
        chmod(directory, open);
        assert!(matches!(refused(&place), SocketError::OpenDirectory { .. }), "{open:o}");
    }
}

#[test]
fn one_of_ten_gets_the_lock_and_the_others_its_pid() {
    let home = scratch();
    let place = Arc::new(user(home.path()));
    let start = Arc::new(Barrier::new(10));
    let attempts: Vec<_> = (0..10)
        .map(|_| {
            let (place, start) = (Arc::clone(&place), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                let outcome = bind(&place);
                start.wait(); // the winner holds it until all have tried
                outcome
            })
        })
        .collect();
    let outcomes: Vec<_> = attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect();
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(SocketError::AlreadyRunning { .. })))
        .count();
    assert_eq!((won, lost), (1, 9), "{outcomes:?}");

    let Err(late) = bind(&place) else { panic!("the lock is held") };
    let failure = Failure::from(late);
    assert!(failure.message.contains(&format!("pid {}", std::process::id())), "{failure:?}");
}

#[test]
fn a_stale_node_is_taken_over_and_a_live_one_is_not() {
    let home = scratch();
    let place = user(home.path());
    let Bound { listener, guard } = bind(&place).unwrap();
    drop((listener, guard)); // as after a SIGKILL: the node is left
    assert!(place.path().exists());
    drop(bind(&place).unwrap());

    fs::remove_file(place.path()).unwrap();
    let _foreign = UnixListener::bind(place.path()).unwrap();
    let Err(SocketError::OtherProgram { pid, .. }) = bind(&place) else { panic!("it is alive") };
    assert_eq!(pid, Some(std::process::id()));
    assert!(place.path().exists());
}

#[test]
fn a_full_backlog_counts_as_alive() {
    let home = scratch();
    let place = user(home.path());
    drop(bind(&place).unwrap());
    fs::remove_file(place.path()).unwrap();
    let flags = SocketFlags::CLOEXEC;
    let busy =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    rustix::net::bind(&busy, &SocketAddrUnix::new(place.path()).unwrap()).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let _waiting = UnixStream::connect(place.path()).unwrap();
    assert!(matches!(refused(&place), SocketError::OtherProgram { pid: None, .. }));
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let home = scratch();
    let place = user(home.path());
    drop(bind(&place).unwrap());
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "mine").unwrap();
    assert!(matches!(refused(&place), SocketError::NotASocket(_)));
    assert_eq!(fs::read_to_string(place.path()).unwrap(), "mine");
}

#[test]
fn paths_that_cannot_be_are_refused_before_anything_is_made() {
    let home = scratch();
    let long = Place::User(home.path().join("x".repeat(100)).join("s"));
    let SocketError::PathTooLong { bytes, .. } = refused(&long) else { panic!() };
    assert!(bytes > MAX_SOCKET_PATH_BYTES);
    assert!(Failure::from(refused(&long)).message.contains("107"));
    let relative = Place::Given("run/llamactld.sock".into());
    assert!(matches!(refused(&relative), SocketError::NotAbsolute(_)));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_path_of_107_bytes_works() {
    let home = scratch();
    let used = home.path().as_os_str().len() + "/run/".len();
    let path = home.path().join("run").join("s".repeat(MAX_SOCKET_PATH_BYTES - used));
    bind(&Place::User(path.clone())).unwrap();
    UnixStream::connect(&path).unwrap_err(); // its listener is gone, its node is not
    assert!(path.exists());
}

#[test]
fn directories_others_reach_into_are_refused() {
    let home = scratch();
    let run = home.path().join("run");
    fs::create_dir(&run).unwrap();
    for open in [0o777, 0o1777, 0o755, 0o710] {
        chmod(&run, open);
        let failure = Failure::from(refused(&user(home.path())));
        assert!(failure.hints.0[0].argv[..2] == ["chmod", "700"], "{open:o}");
    }
    let given = Place::Given(run.join("x.sock"));
    for open in [0o777, 0o770] {
        chmod(&run, open);
        assert!(matches!(refused(&given), SocketError::OpenDirectory { .. }), "{open:o}");
    }
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_given_socket_may_lie_beside_others_things() {
    for open in [0o1777, 0o755] {
        let shared = scratch();
        chmod(shared.path(), open);
        let place = Place::Given(shared.path().join("x.sock"));
        let bound = bind(&place).unwrap();
        assert_eq!(mode(place.path()), 0o600, "{open:o}");
        UnixStream::connect(place.path()).unwrap();
        assert!(bound.guard.is_in_place());
        let names: Vec<_> = fs::read_dir(shared.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2, "socket and lock only: {names:?}");
    }
}

#[test]
fn links_and_files_are_not_directories() {
    let home = scratch();
    fs::create_dir(home.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.path().join("run")).unwrap();
    assert!(matches!(refused(&user(home.path())), SocketError::SymbolicLink(_)));
    fs::write(home.path().join("file"), "").unwrap();
    let inside = Place::User(home.path().join("file/x.sock"));
    assert!(matches!(refused(&inside), SocketError::NotADirectory(_)));
}

#[test]
fn a_lock_file_must_be_a_file() {
    let home = scratch();
    let place = user(home.path());
    drop(bind(&place).unwrap());
    let lock = home.path().join("run/llamactld.sock.lock");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &lock).unwrap();
    assert!(matches!(refused(&place), SocketError::Io { .. }));
    fs::remove_file(&lock).unwrap();
    UnixListener::bind(home.path().join("run/other")).unwrap();
    fs::rename(home.path().join("run/other"), &lock).unwrap();
    assert!(bind(&place).is_err());
    fs::remove_file(&lock).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &lock,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(matches!(refused(&place), SocketError::NotAFile(_)));
}

#[test]
fn only_our_own_node_is_removed() {
    let home = scratch();
    let place = user(home.path());
    let Bound { listener: _listener, guard } = bind(&place).unwrap();
    fs::remove_file(place.path()).unwrap();
    let _other = UnixListener::bind(place.path()).unwrap();
    assert!(!guard.is_in_place());
    guard.release().unwrap();
    assert!(place.path().exists());
}
