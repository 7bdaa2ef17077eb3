//! A daemon that is gone this very moment, and one that is there and does not answer.

use llamactl_tests::processes::Process;
use llamactl_tests::{DEADLINE, Home, terminal};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::thread;

#[test]
fn the_command_in_the_instant_after_the_daemon_was_killed_works() {
    let home = Home::without_llama_server().with_autostart();
    let commands: [(&[&str], i32); 9] = [
        (&["daemon", "start"], 0),
        (&["daemon", "restart"], 0),
        (&["status"], 0),
        (&["model", "list"], 0),
        (&["defaults", "set", "sleep-idle-seconds=60"], 0),
        (&["events"], 0),
        // Where it is asked for, a stream is the first that is asked for.
        (&["logs", "m"], 3),
        // These start none, and find that there is none.
        (&["daemon", "stop"], 0),
        (&["daemon", "status"], 6),
    ];
    for _ in 0..5 {
        for (command, code) in commands {
            let _ = home.cli(["daemon", "start"]).ok();
            let daemon = Process::open(home.daemon_pids()[0]).unwrap();
            daemon.signal(Signal::KILL);
            let said = home.cli(command).code(code).stderr();
            assert!(!said.contains("closed the connection"), "{command:?}: {said}");
            assert!(daemon.wait(DEADLINE));
        }
    }
}

/// What the commands about the daemon say of one that does not answer, each at the same time.
fn all_give_up(home: &Home, pid: u32, hints: &[String]) {
    let waits = format!("waiting for the daemon (pid {pid})");
    let failed = |limit| format!("the daemon (pid {pid}) has not answered for {limit}");
    let gives_up = |verb: &str, code| {
        let command = ["daemon", verb, "--timeout"];
        let said = home.llamactl(command).args(["3s"]).run().code(code).stderr();
        assert!(said.contains(&waits) && said.contains(&failed("3.0s")), "{verb}: {said}");
        assert!(hints.iter().all(|hint| said.contains(hint)), "{verb}: {said}");
        // A script is told the end alone.
        let scripted = home.llamactl(command).args(["1300ms", "--json"]).run().code(code);
        assert_eq!(scripted.stderr().lines().count(), 1, "{}", scripted.stderr());
        assert_eq!(scripted.failure()["message"].as_str().unwrap().find(&failed("1.3s")), Some(0));
        assert_eq!(scripted.failure()["details"]["pid"], pid);
    };
    let gives_up = &gives_up;
    thread::scope(|scope| {
        for (verb, code) in [("stop", 7), ("restart", 7), ("start", 6)] {
            scope.spawn(move || gives_up(verb, code));
        }
    });
}

#[test]
fn a_suspended_daemon_is_waited_for_no_longer_than_was_said() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let pid = daemon.pid();
    daemon.signal(Signal::STOP);
    let hints = [format!("kill -CONT {pid}"), format!("kill -9 {pid}")];
    all_give_up(&home, pid, &hints);
    // The same where it has not even room for another connection.
    let queued = fill_the_queue(&home);
    all_give_up(&home, pid, &hints);
    drop(queued);
    daemon.signal(Signal::CONT);
    // What was given up is not done later either.
    let _ = home.cli(["daemon", "status"]).ok();
}

/// Connections until nobody else may wait to be accepted.
fn fill_the_queue(home: &Home) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(home.socket()).unwrap();
    let mut queued = Vec::new();
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&socket, &address) {
            Ok(()) => queued.push(socket),
            Err(Errno::AGAIN) => return queued,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_daemon_without_descriptors_is_waited_for_no_longer_than_was_said() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    let pid = daemon.pid();
    let process = Pid::from_raw(pid.cast_signed());
    let none = Rlimit { current: Some(3), ..rustix::process::getrlimit(Resource::Nofile) };
    let before = prlimit(process, Resource::Nofile, none).unwrap();
    all_give_up(&home, pid, &[format!("kill -9 {pid}")]);
    prlimit(process, Resource::Nofile, before).unwrap();
    let _ = home.cli(["daemon", "status"]).ok();
}

#[test]
fn a_person_sees_which_daemon_is_waited_for_until_it_answers() {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    let (mut screen, end) = terminal::open(80);
    let mut command = home.llamactl(["model", "list"]).command();
    command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
    command.stdin(end.try_clone().unwrap()).stdout(end.try_clone().unwrap()).stderr(end);
    let mut child = command.spawn().unwrap();
    drop(command); // or its copies of the terminal's end would keep the screen open
    let waits = format!("note: waiting for the daemon (pid {})\r\n", daemon.pid());
    let mut shown = Vec::new();
    while !shown.ends_with(waits.as_bytes()) {
        let mut some = [0; 256];
        let length = screen.read(&mut some).unwrap();
        shown.extend_from_slice(&some[..length]);
    }
    daemon.signal(Signal::CONT);
    assert!(child.wait().unwrap().success());
    let mut rest = Vec::new();
    // A terminal whose last program has ended gives an error instead of an end.
    let _ = screen.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(rest.starts_with("\u{1b}[1F\u{1b}[J"), "nothing of it stays: {rest:?}");
}
