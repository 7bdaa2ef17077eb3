//! Environments that people and machines really have: variables unset, set to nothing or wrong, homes
//! that cannot be written, names that are no text, what the program that starts the daemon left behind.

use llamactl_protocol::place;
use llamactl_tests::user::{NOBODY, act_as};
use llamactl_tests::{DEADLINE, Follower, Home, Invocation, Rpc, TestModel, eventually, need};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Waits until a daemon listens for the state in `state`.
fn listens(state: &Path) {
    let socket = place::socket_in(state);
    eventually(DEADLINE, "the daemon listens", || Rpc::try_connect(&socket).is_ok());
}

/// An invocation in which the variables that say where the state lies are these alone.
fn in_environment(of: Invocation, variables: &[(&str, &OsStr)]) -> Invocation {
    let bare = ["HOME", "XDG_STATE_HOME", place::STATE_DIR_VARIABLE]
        .into_iter()
        .fold(of, Invocation::env_remove);
    variables.iter().fold(bare, |it, (name, value)| it.env(name, value))
}

const NO_ARGUMENTS: [&str; 0] = [];

/// A directory below a home that belongs to nobody, who may write there.
fn of_nobody(home: &Home, name: &str) -> PathBuf {
    let directory = home.path().join(name);
    fs::create_dir_all(&directory).unwrap();
    chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    directory
}

/// 72: where the state lies is said by the environment, to daemon and client alike.
#[test]
fn where_the_state_lies_follows_the_environment() {
    need!("root");
    let home = Home::with_fake_llama_server();
    let (own, xdg) = (of_nobody(&home, "own"), of_nobody(&home, "xdg"));
    let given = of_nobody(&home, "given").join("deep/state");
    let in_home = own.join(".local/state/llamactl");
    let (own, xdg, nothing) = (own.as_os_str(), xdg.as_os_str(), OsStr::new(""));
    let relative = OsStr::new("some/where");
    let expected: [(&[(&str, &OsStr)], PathBuf); 6] = [
        (&[("HOME", own)], in_home.clone()),
        (&[("HOME", own), ("XDG_STATE_HOME", nothing)], in_home.clone()),
        // As the specification of these directories has it.
        (&[("HOME", own), ("XDG_STATE_HOME", relative)], in_home),
        (&[("HOME", own), ("XDG_STATE_HOME", xdg)], Path::new(xdg).join("llamactl")),
        (&[("XDG_STATE_HOME", xdg)], Path::new(xdg).join("llamactl")),
        (
            &[("XDG_STATE_HOME", relative), (place::STATE_DIR_VARIABLE, given.as_os_str())],
            given.clone(),
        ),
    ];
    for (variables, state) in expected {
        let cli = |arguments: &[&str]| {
            let invocation = in_environment(home.llamactl(arguments), variables);
            act_as(NOBODY, || invocation.run())
        };
        let _ = cli(&["daemon", "start"]).ok();
        assert!(place::socket_in(&state).exists(), "{variables:?}");
        let _ = cli(&["status"]).ok();
        let _ = cli(&["daemon", "stop"]).ok();
    }
}

/// Without HOME the list of users says where it is; who is not in it is told, also by a program that is
/// linked statically, which libc would have load libraries to find out.
#[test]
fn a_user_whom_nothing_knows_is_told_that_there_is_no_home() {
    need!("root");
    let home = Home::with_fake_llama_server();
    let invocation = in_environment(home.llamactl(["--no-autostart", "ps"]), &[]);
    let said = act_as(54_321, || invocation.run());
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr().contains("no home directory"), "{said:?}");
}

/// 72: where there is no place for the state, it is said which was tried and why not; another one is
/// never taken instead.
#[test]
fn without_a_place_for_the_state_it_is_said_which_was_tried() {
    need!("root", "mount", "unshare");
    let home = Home::with_fake_llama_server();
    let temporary = of_nobody(&home, "tmp");
    let closed = home.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let nowhere = home.path().join("closed/deep");
    let state_in = |home: &Path| home.join(".local/state/llamactl").display().to_string();
    let refused: [(&[(&str, &OsStr)], String); 6] = [
        // Nobody's home, by the list of users, is a directory that is not there.
        (&[], "/nonexistent".to_owned()),
        (&[("HOME", OsStr::new("some/where"))], "HOME is not an absolute path".to_owned()),
        (&[("HOME", closed.as_os_str())], state_in(&closed)),
        (&[("HOME", nowhere.as_os_str())], state_in(&nowhere)),
        (&[("HOME", file.as_os_str())], state_in(&file)),
        (&[(place::STATE_DIR_VARIABLE, OsStr::new("x"))], place::STATE_DIR_VARIABLE.to_owned()),
    ];
    for (variables, named) in refused {
        let invocation = |of: Invocation| in_environment(of, variables).env("TMPDIR", &temporary);
        let daemon = invocation(home.llamactld(NO_ARGUMENTS));
        let start = invocation(home.llamactl(["daemon", "start"]));
        for said in act_as(NOBODY, || [daemon.run(), start.run()]) {
            assert!(!said.status.success(), "{variables:?}");
            assert!(said.stderr().contains(&named), "{variables:?}: {}", said.stderr());
            assert!(!said.stderr().contains("panicked"), "{}", said.stderr());
        }
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);

    // A file system that nobody writes to, not even root; and one of which nothing is executed.
    let script = r#"mount -t tmpfs -o "$1" tmpfs "$HOME" && shift && exec "$@""#;
    let mounted = |options: &str, of: &[&OsStr]| {
        let words = ["-m", "sh", "-c", script, "sh", options].map(OsStr::new);
        let invocation = home.program("/usr/bin/unshare", [&words[..], of].concat());
        invocation.env("HOME", &closed).run()
    };
    let daemon = llamactl_tests::artifacts::llamactld();
    let said = mounted("ro", &[daemon.as_os_str()]);
    assert!(!said.status.success());
    let said = said.stderr();
    assert!(said.contains(&state_in(&closed)) && said.contains("Read-only"), "{said}");
    let use_it = r#""$0" daemon start && "$0" status && "$0" daemon stop"#;
    let cli = llamactl_tests::artifacts::llamactl();
    let words = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(use_it), cli.as_os_str()];
    let _ = mounted("noexec", &words).ok();
}

/// 72: a build that lies where nothing may be executed is refused before there is a process.
#[test]
fn a_build_where_nothing_may_be_executed_is_refused_by_its_path() {
    need!("root", "mount", "unshare");
    let home = Home::with_fake_llama_server();
    let builds = home.path().join("builds");
    fs::create_dir(&builds).unwrap();
    let script = r#"mount -t tmpfs -o noexec tmpfs "$1" && cp "$2" "$1/llama-server" && exec "$3""#;
    let (fake, daemon) =
        (llamactl_tests::artifacts::fake_llama_server(), llamactl_tests::artifacts::llamactld());
    let words = [OsStr::new("-m"), "sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref()];
    let rest = [builds.as_os_str(), fake.as_os_str(), daemon.as_os_str()];
    let daemon = home
        .program("/usr/bin/unshare", [&words[..], &rest[..]].concat())
        .env("LLAMACTL_LLAMA_SERVER", builds.join("llama-server"))
        .spawn();
    listens(&home.state_dir());
    home.fake_model("m", &json!({}));
    let refused = home.cli(["start", "m"]);
    assert!(!refused.status.success());
    let path = builds.join("llama-server").display().to_string();
    assert!(refused.stderr().contains(&path), "{}", refused.stderr());
    assert!(refused.stderr().contains("may not be executed"), "{}", refused.stderr());
    end(daemon);
}

fn end(daemon: Follower) {
    daemon.signal(Signal::TERM);
    let ended = daemon.finish();
    assert!(ended.status.success(), "{}", ended.stderr());
}

/// 73: a home, a model's file and its directory whose names are no text, in every locale.
#[test]
fn names_that_are_no_text_are_kept_byte_for_byte_in_every_locale() {
    let home = Home::new();
    for (number, locale) in ["C", "POSIX", "de_DE@euro", "xx_YY.nonsense", ""].iter().enumerate() {
        let odd = OsString::from_vec(format!("{number} a\n\t'\"$x\\ ").into_bytes());
        let odd = OsString::from_vec([odd.as_bytes(), b"\xff\xfe"].concat());
        let place = home.path().join(&odd);
        fs::create_dir(&place).unwrap();
        let file = place.join(OsString::from_vec(b"m \n\xc3(\x1b[31m.gguf".to_vec()));
        fs::copy(TestModel::Tiny.shared(), &file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let cli = |arguments: &[&OsStr]| {
            let invocation = home.llamactl(arguments).env("HOME", &place);
            invocation.env("LANG", locale).env("LC_ALL", locale).run()
        };
        let words = |line: &'static str| line.split(' ').map(OsStr::new).collect::<Vec<_>>();
        let add = [words("model add"), vec![file.as_os_str()], words("--name m")].concat();
        let _ = cli(&words("daemon start")).ok();
        let _ = cli(&add).ok();
        let _ = cli(&words("start m")).ok();
        let shown = cli(&words("ps --json")).ok().json();
        let server = &shown;
        let line = fs::read(format!("/proc/{}/cmdline", server["run"]["pid"])).unwrap();
        let mut arguments = line.split(|byte| *byte == 0);
        assert!(arguments.any(|argument| argument == file.as_os_str().as_bytes()), "{locale}");
        for command in
            ["model show m", "model list", "status", "logs m", "why m", "events", "model args m"]
        {
            let shown = cli(&words(command)).ok();
            assert!(!shown.stderr().contains("panicked"), "{command}: {}", shown.stderr());
        }
        // What one says of it another reads.
        let exported = cli(&words("model export m")).ok();
        let page = place.join("page.toml");
        fs::write(&page, exported.stdout_bytes()).unwrap();
        let _ = cli(&words("stop m")).ok();
        let _ = cli(&words("model remove m")).ok();
        let import = [words("model import"), vec![page.as_os_str()]].concat();
        let _ = cli(&import).ok();
        let _ = cli(&words("start m")).ok();
        let shown = cli(&words("ps --json")).ok().json();
        let pid = &shown["run"]["pid"];
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let mut arguments = line.split(|byte| *byte == 0);
        assert!(arguments.any(|argument| argument == file.as_os_str().as_bytes()), "{locale}");
        let _ = cli(&words("daemon stop")).ok();
    }
}

/// 73: a path as long as the system takes, and one that is longer.
#[test]
fn a_path_as_long_as_may_be_works_and_a_longer_one_is_refused_by_its_length() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let mut directory = home.path().to_owned();
    while directory.as_os_str().len() < 3_600 {
        directory.push("d".repeat(200));
    }
    fs::create_dir_all(&directory).unwrap();
    // The fake has names of its own beside it.
    let left = 4_095 - "/.requests".len() - directory.as_os_str().len() - 8;
    let file = directory.join(format!("{}.gguf", "m".repeat(left.min(200) - 5)));
    fs::copy(TestModel::Tiny.shared(), &file).unwrap();
    home.call("model.add", json!({ "path": file, "name": "m" }));
    home.cli(["start", "m"]).ok();
    assert!(home.cli(["model", "show", "m"]).ok().stdout().contains("mmm"));
    home.cli(["logs", "m"]).ok();
    home.cli(["stop", "m"]).ok();
    let longer = format!("{}/{}", directory.display(), "x".repeat(1_000));
    let refused = home.cli(["model", "add", &longer, "--name", "n"]);
    assert!(!refused.status.success());
    assert!(!refused.stderr().contains("panicked"), "{}", refused.stderr());

    let deep = home.path().join("s".repeat(100));
    let refused = home.llamactld(NO_ARGUMENTS).env(place::STATE_DIR_VARIABLE, &deep).run();
    assert!(!refused.status.success());
    assert!(refused.stderr().contains("bytes"), "{}", refused.stderr());
}

/// A signal's bit in a mask of `/proc/PID/status`.
fn has(pid: &Value, mask: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap();
    let mask = u64::from_str_radix(mask.trim_start_matches(':').trim(), 16).unwrap();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// 74: a umask that takes nothing, signals blocked and ignored, files left open.
#[test]
fn what_the_program_that_starts_it_left_behind_reaches_neither_files_nor_servers() {
    need!("root", "env", "bash");
    let home = Home::with_fake_llama_server();
    let left_open = home.path().join("left-open");
    fs::write(&left_open, "").unwrap();
    let daemon = llamactl_tests::artifacts::llamactld();
    let script = format!(
        "umask 000; exec env --block-signal=TERM --block-signal=INT --block-signal=HUP \
         --block-signal=CHLD --block-signal=USR1 --ignore-signal=CHLD --ignore-signal=TERM \
         --ignore-signal=ALRM --ignore-signal=QUIT --ignore-signal=USR2 --ignore-signal=WINCH \
         '{}' 7<'{open}' 9>>'{open}' 200<'{open}'",
        daemon.display(),
        open = left_open.display(),
    );
    let daemon = home.program("/bin/bash", ["-c", &script]).spawn();
    listens(&home.state_dir());
    let path = home.fake_model("m", &json!({}));
    home.call("model.set", json!({ "model": "m", "set": { "env.A": { "secret_text": "s" } } }));
    home.cli(["start", "m"]).ok();
    home.cli(["daemon", "backup", home.path().join("backup.db").to_str().unwrap()]).ok();
    let backup = home.path().join("backup.db");

    // All of it is its owner's alone, by its mode and for another user who tries.
    let state = home.state_dir();
    let kept = [below(&state), vec![state.clone(), backup.clone()]].concat();
    assert!(kept.len() > 10, "{kept:?}");
    for path in &kept {
        let facts = fs::symlink_metadata(path).unwrap();
        let mode = facts.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        assert!(facts.is_dir() || facts.file_type().is_socket() || mode & 0o111 == 0);
    }
    act_as(NOBODY, || {
        for path in &kept {
            assert!(File::open(path).is_err() && fs::read_dir(path).is_err(), "{}", path.display());
        }
    });

    // The server has the signals as they are meant, and no file but its own.
    let server = home.call("server.show", json!({ "model": "m" }));
    let pid = &server["run"]["pid"];
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::CHILD, Signal::USR1] {
        assert!(!has(pid, "SigBlk", signal), "{signal:?} is blocked");
    }
    let all = [Signal::TERM, Signal::CHILD, Signal::ALARM, Signal::QUIT, Signal::USR2];
    for signal in all.into_iter().chain([Signal::WINCH]) {
        assert!(!has(pid, "SigIgn", signal), "{signal:?} is ignored");
    }
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let leads_to = fs::read_link(descriptor.unwrap().path()).unwrap();
        assert_ne!(leads_to, left_open);
    }

    // How a child ended is known although the daemon was to ignore it.
    home.cli(["stop", "m"]).ok();
    home.fake_behaviour(&path, &json!({ "exit": { "code": 3 } }));
    let refused = home.cli(["start", "m"]);
    assert!(!refused.status.success(), "{}", refused.stdout());
    let failed = home.call("server.show", json!({ "model": "m" }));
    assert_eq!(failed["cause"]["exit_code"], 3, "{failed}");
    // A signal to end ends it.
    end(daemon);
}
