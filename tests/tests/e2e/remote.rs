//! Another machine, by a real sshd.

use llamactl_tests::processes::Process;
use llamactl_tests::{
    DEADLINE, Daemon, Home, Output, Remote, TestModel, artifacts, eventually, need,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// A far home with a daemon, a fake llama-server and the model `m`, which talks slowly.
fn with_model() -> (Remote, Daemon) {
    let remote = Remote::new(Home::with_fake_llama_server());
    let daemon = remote.far.daemon();
    remote.far.fake_model("m", &json!({}));
    (remote, daemon)
}

/// What each command of `docs/remote.md` is run with, and with what on its stdin; `y` is a file of the
/// other machine, `FAKE` its llama-server.
fn lines(command: &str) -> Vec<(&'static str, &'static str)> {
    let plain = |line| vec![(line, "")];
    match command {
        "start" => plain("start m"),
        "stop" => plain("stop m"),
        "restart" => plain("restart m --set temp=0.5"),
        "wait" => plain("wait m"),
        "why" => plain("why m"),
        "ps" => plain("ps"),
        "status" => plain("status m"),
        "logs" => vec![("logs m -n 1", ""), ("logs clear m", "")],
        // A screen is no pipe's: see below.
        "top" => vec![],
        "run" => plain("run m Hello"),
        "model add" => plain("model add FILE --name y ctx-size=512"),
        "model scan" => vec![("model scan DIR --no-caches", ""), ("model scan --list-dirs", "")],
        "model verify" => plain("model verify m"),
        "model list" => plain("model list"),
        "model show" => plain("model show m"),
        "model set" => plain("model set m api-key=- temp=0.5"),
        "model unset" => plain("model unset m temp"),
        "model edit" => plain("model edit m"),
        "model args" => plain("model args m"),
        "model history" => plain("model history m"),
        "model diff" => plain("model diff m"),
        "model rollback" => plain("model rollback m"),
        "model key" => plain("model key m"),
        "model rename" => plain("model rename y z"),
        "model copy" => plain("model copy z y --path FILE"),
        "model alias" => plain("model alias y w"),
        "model export" => plain("model export m"),
        "model import" => vec![("model import - --find DIR", "[models.i]\npath = \"/i.gguf\"\n")],
        "model remove" => plain("model remove y z i"),
        "defaults set" => plain("defaults set temp=0.7"),
        "defaults unset" => plain("defaults unset temp"),
        "defaults show" => plain("defaults show"),
        "runtime add" => plain("runtime add FAKE --name r"),
        "runtime list" => plain("runtime list"),
        "runtime show" => plain("runtime show r"),
        "runtime use" => plain("runtime use r"),
        "runtime set" => plain("runtime set r env.A=1"),
        "runtime unset" => plain("runtime unset r env.A"),
        "runtime remove" => vec![("runtime use system", ""), ("runtime remove r", "")],
        "runtime refresh" => plain("runtime refresh"),
        "gpus" => plain("gpus"),
        "metrics" => plain("metrics"),
        "events" => plain("events"),
        "daemon start" => plain("daemon start"),
        "daemon stop" => vec![("daemon stop", ""), ("daemon start", "")],
        "daemon restart" => plain("daemon restart"),
        "daemon status" => plain("daemon status"),
        "daemon logs" => plain("daemon logs -n 1"),
        "daemon backup" => plain("daemon backup DIR/copy.db"),
        "daemon restore" => {
            vec![("daemon stop", ""), ("daemon restore DIR/copy.db", ""), ("daemon start", "")]
        }
        "version" => plain("version"),
        "doctor" => plain("doctor"),
        "daemon report" => vec![("daemon report", ""), ("daemon report -o DIR/report.txt", "")],
        "rpc" => plain("rpc daemon.ping"),
        "help" => plain("help remote"),
        "daemon check-config" => plain("daemon check-config"),
        "daemon install" => plain("daemon install"),
        "daemon uninstall" => plain("daemon uninstall"),
        "connect" => plain("connect --stdio"),
        "completions" => plain("completions bash"),
        new => panic!("say what {new} is to be run with"),
    }
}

#[test]
fn every_command_does_what_its_row_of_the_table_says() {
    need!("sshd", "ssh");
    let remote = Remote::new(Home::with_fake_llama_server());
    let file = remote.far.own_model(TestModel::Tiny, "y.gguf");
    let dir = file.parent().unwrap().display().to_string();
    let words = |line: &str| -> Vec<String> {
        let fake = artifacts::fake_llama_server();
        let word = |word: &str| match word {
            "FILE" => file.display().to_string(),
            "FAKE" => fake.display().to_string(),
            word => word.replace("DIR", &dir),
        };
        line.split(' ').map(word).collect()
    };
    let run = |line: &str, stdin: &str| -> Output {
        // What asks a person asks nobody here; an editor leaves the text as it is.
        let stdin = if line.contains("=-") { "s3cret" } else { stdin };
        remote.llamactl(words(line)).stdin(stdin).env("EDITOR", "true").run()
    };
    let _ = run("daemon start", "").ok();
    remote.far.fake_model("m", &json!({}));
    // Nothing is asked of a daemon of this machine, which there is none of.
    assert!(!remote.near.socket().exists());

    let page = fs::read_to_string(artifacts::checkout().join("docs/remote.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        let (command, runs) = (row[1], row[2]);
        for (line, stdin) in lines(command) {
            if command == "stop" {
                let _ = run("start m", "").ok();
            }
            let output = run(line, stdin);
            if runs == "refused" {
                let output = output.code(2);
                let there = format!("run it there: ssh -t box llamactl {line}");
                assert!(output.stderr().contains(&there), "{line}: {}", output.stderr());
            } else if command == "doctor" {
                // Other things may be wrong with a machine.
                assert!(matches!(output.status.code(), Some(0 | 1)), "{}", output.stderr());
            } else {
                let _ = output.ok();
            }
            if command == "wait" || command == "stop" {
                let _ = run("start m", "").ok();
            }
        }
    }
    let _ = remote.llamactl(["top"]).talk_at_terminal(80, &[("m ", "q")]).ok();
    assert!(
        !remote.near.socket().exists() && !remote.near.state_dir().join("registry.db").exists()
    );
    // The near side left no words of its own in the history of the far one but what was done.
    let events = run("--json events", "").ok();
    assert!(events.stdout().contains("llamactl model rename y z"), "{}", events.stdout());
    assert!(!events.stdout().contains("--host") && !events.stdout().contains("Hello"));
}

#[test]
fn files_are_on_the_side_that_the_page_says() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    // Relative paths are nobody's; the shell turns `~` into a home of this side, or leaves it.
    for line in [
        "model add x.gguf",
        "model add ~/x.gguf",
        "model scan models",
        "model scan --forget models",
        "model copy m n --path ./x.gguf",
        "model set m mmproj=x.gguf",
        "model import --find models --command llama-server",
        "runtime add bin/llama-server",
        "daemon backup copy.db",
    ] {
        let refused = remote.llamactl(["--json"]).args(line.split(' ')).run().code(5);
        assert!(
            refused.stderr().contains("on ssh://box begins with a slash"),
            "{line}: {}",
            refused.stderr()
        );
    }
    for line in ["daemon restore copy.db", "daemon report -o report.txt"] {
        let refused = remote.llamactl(line.split(' ')).run().code(2);
        assert!(refused.stderr().contains("begins with a slash"), "{line}: {}", refused.stderr());
    }
    // A file of that name here is not meant: it is looked for there.
    fs::write(remote.near.path().join("here.gguf"), "").unwrap();
    let here = remote.near.path().join("here.gguf").display().to_string();
    fs::remove_file(&here).unwrap();
    assert_eq!(
        remote.llamactl(["--json", "model", "add", &here]).run().code(3).failure_kind(),
        "file_not_found"
    );

    // A secret is read here, and so is what is imported; the rest of it is there.
    fs::write(remote.near.path().join("key"), "s3cret\n").unwrap();
    let _ = remote.llamactl(["model", "set", "m", "api-key=@key"]).run().ok();
    assert_eq!(remote.llamactl(["model", "key", "m"]).run().ok().stdout(), "s3cret\n");
    let file = remote.far.own_model(TestModel::Tiny, "i.gguf");
    let export = format!("[models.i]\npath = \"{}\"\n", file.display());
    fs::write(remote.near.path().join("models.toml"), export).unwrap();
    let _ = remote.llamactl(["model", "import", "models.toml"]).run().ok();
    let exported = remote.llamactl(["model", "export", "i"]).run().ok();
    assert!(exported.stdout().contains(&file.display().to_string()), "{}", exported.stdout());
    // What the daemon would have to read itself is not there.
    fs::write(remote.near.path().join("long"), "x".repeat(600 << 10)).unwrap();
    let refused = remote.llamactl(["model", "import", "long"]).run().code(5);
    assert!(
        refused.stderr().contains("ssh -t box llamactl model import FILE"),
        "{}",
        refused.stderr()
    );

    // The shell completes files of this side, where they are meant, and no others.
    let offered = |line: &str| {
        let words = ["--", "llamactl", "--host", "ssh://box"].into_iter().chain(line.split(' '));
        let asked = remote.near.llamactl(words).env("LLAMACTL_COMPLETE", "bash");
        asked.run().ok().stdout()
    };
    assert!(!offered("model add /").contains("files"), "{}", offered("model add /"));
    assert!(offered("model import ").contains("files"), "{}", offered("model import "));
    eventually(DEADLINE, "names come in the time that a shell has", || {
        offered("model show ").starts_with("i\t")
    });
}

#[test]
fn names_of_machines_come_from_the_configuration_and_what_is_typed_goes_first() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    let config = remote.near.path().join(".config/llamactl/llamactl.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    // By a place of its own, at an address with everything in it.
    let far = remote.far.path().display().to_string();
    fs::create_dir(remote.far.path().join("opt")).unwrap();
    fs::rename(remote.far.path().join("bin/llamactl"), remote.far.path().join("opt/llamactl"))
        .unwrap();
    let socket = remote.far.socket().display().to_string();
    let address = format!("ssh://127.0.0.1:{}{socket}", remote.port());
    let text = format!(
        "[hosts.there]\naddress = \"{address}\"\nllamactl = \"{far}/opt/llamactl\"\nshare_connections = false\n"
    );
    fs::write(&config, text).unwrap();
    let ps = |variables: &[(&str, &str)], words: &[&str]| {
        let command = remote.near.llamactl(words).args(["-q", "model", "list"]);
        variables.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    };
    let nobody = "/nonexistent/x.sock";
    assert_eq!(ps(&[], &["--host", "there"]).ok().stdout(), "m\n");
    assert_eq!(
        ps(&[("LLAMACTL_HOST", "there"), ("LLAMACTL_SOCKET", nobody)], &[]).ok().stdout(),
        "m\n"
    );
    let typed = ps(&[("LLAMACTL_HOST", "nowhere")], &["--socket", &socket]).ok();
    assert_eq!(typed.stdout(), "m\n");
    let here = ps(&[("LLAMACTL_HOST", "there")], &["--host="]).code(6);
    assert!(here.stderr().contains("no daemon answers"), "{}", here.stderr());
    assert_eq!(
        ps(&[], &["--json", "--host", "there", "--socket", nobody]).code(2).failure_kind(),
        "usage"
    );
    let unknown = remote.near.llamactl(["--host", "thare", "ps"]).run().code(5);
    assert!(unknown.stderr().contains("it knows there"), "{}", unknown.stderr());
    assert!(
        ps(&[], &["--host", "ssh://-oProxyCommand=x"])
            .code(5)
            .stderr()
            .contains("no name of a machine")
    );
    // Nothing shares a connection where that is said.
    assert!(!remote.near.run_dir().join("ssh").exists());
}

/// The far side of a connection.
fn is_bridge(process: &Process) -> bool {
    process.command.iter().any(|word| word == "connect") && process.name() == "llamactl"
}

/// The failure of a command that only looks, and its hop.
fn failure(remote: &Remote, host: &str) -> (Value, String) {
    let failed = remote.near.llamactl(["--json", "--host", host, "ps"]).run().code(6);
    let failure = failed.failure();
    assert_eq!(failure["kind"], "daemon_unreachable");
    let hop = failure["details"]["hop"].as_str().unwrap_or_default().to_owned();
    (failure, hop)
}

#[test]
fn a_failure_says_how_far_it_came() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    let told = |host: &str| {
        let (failure, hop) = failure(&remote, host);
        (
            hop,
            failure["message"].as_str().unwrap().to_owned(),
            failure["details"]["evidence"].to_string(),
        )
    };
    assert_eq!(told("ssh://nosuch.invalid").0, "name");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let refused = told(&format!("ssh://127.0.0.1:{port}"));
    assert_eq!(
        (refused.0.as_str(), refused.1.as_str()),
        ("network", "nobody takes ssh connections at 127.0.0.1")
    );
    assert_eq!(told(&format!("ssh://localhost:{}", remote.port())).0, "host_key");
    assert_eq!(told("ssh://nobody@box").0, "login");

    // A shell that talks is heard out, and one that is killed is not taken for ssh.
    remote.bashrc("echo Welcome; echo to box >&2; printf 'no line end'");
    assert_eq!(remote.llamactl(["-q", "model", "list"]).run().ok().stdout(), "m\n");
    remote.bashrc("echo Welcome; kill -9 $$");
    let killed = told("ssh://box");
    assert_eq!(killed.0, "shell");
    assert!(killed.1.contains("was ended") && killed.2.contains("Welcome"), "{killed:?}");
    remote.bashrc("echo This account is locked; exit 1");
    let locked = told("ssh://box");
    assert!(locked.1.contains("ended with status 1") && locked.2.contains("locked"), "{locked:?}");
    remote.bashrc("yes noise");
    assert!(told("ssh://box").1.contains("more than 64 KiB"));
    remote.bashrc("");

    // llamactl there: of an older version, dying, in the other place, and not at all.
    remote.script(
        &remote.far,
        "llamactl",
        "echo \"error: there is no command connect\" >&2; exit 2",
    );
    let older = told("ssh://box");
    assert_eq!(older.0, "llamactl");
    assert!(
        older.1.contains("cannot be asked from elsewhere") && older.2.contains("no command"),
        "{older:?}"
    );
    remote.script(&remote.far, "llamactl", "kill -9 $$");
    assert!(told("ssh://box").1.contains("was ended, or the connection"));
    fs::remove_file(remote.far.path().join("bin/llamactl")).unwrap();
    let absent = told("ssh://box");
    assert!(absent.0 == "llamactl" && absent.1.contains("no llamactl on ssh://box"), "{absent:?}");
    let local = remote.far.path().join(".local/bin");
    fs::create_dir_all(&local).unwrap();
    symlink(artifacts::llamactl(), local.join("llamactl")).unwrap();
    assert_eq!(remote.llamactl(["-q", "model", "list"]).run().ok().stdout(), "m\n");

    // No ssh here.
    let none = remote.llamactl(["ps"]).env("PATH", "/nonexistent").run().code(6);
    assert!(none.stderr().contains("no program ssh on this machine"), "{}", none.stderr());
}

#[test]
fn the_far_sides_rules_say_whether_a_daemon_is_started() {
    need!("sshd", "ssh");
    let remote = Remote::new(Home::with_fake_llama_server().with_autostart());
    // The near side's own wish holds there too.
    let kept = remote.llamactl(["ps"]).run().code(6);
    assert!(kept.stderr().contains("ssh://box: no daemon answers"), "{}", kept.stderr());
    assert!(kept.stderr().contains("llamactl --host ssh://box daemon start"), "{}", kept.stderr());
    let may = |words: &[&str]| remote.llamactl(words).env_remove("LLAMACTL_NO_AUTOSTART").run();
    let _ = may(&["daemon", "status"]).code(6);
    let started = may(&["ps"]).ok();
    assert!(
        started.stderr().contains("note: started the daemon (llamactld, pid"),
        "{}",
        started.stderr()
    );
    assert_eq!(remote.far.daemon_pids().len(), 1);
    // Stopped on purpose: what follows ends, as it does on one machine.
    let mut events = remote.llamactl(["--json", "events", "-f", "--after", "0"]).spawn();
    let _ = events.line().unwrap();
    let _ = may(&["daemon", "stop"]).ok();
    let _ = events.finish().code(6);
    assert!(may(&["ps"]).code(6).stderr().contains("ssh://box: the daemon was stopped"));
    let _ = may(&["defaults", "set", "temp=1"]).ok();
    assert_eq!((remote.far.daemon_pids().len(), remote.near.daemon_pids().len()), (1, 0));
}

#[test]
fn an_answer_comes_through_while_it_is_written_and_outlives_the_far_daemon() {
    need!("sshd", "ssh");
    let (remote, mut daemon) = with_model();
    let path = remote.far.path().join("models/m.gguf");
    remote.far.fake_behaviour(&path, &json!({ "tokens_per_second": 30.0, "tokens": 40 }));
    let mut answer = remote.llamactl(["--json", "run", "m", "Hello"]).spawn();
    let _ = answer.line().unwrap();
    daemon.kill();
    let answer = answer.finish().ok();
    assert!(answer.lines().len() > 40, "{}", answer.stdout());
    daemon.start_again();
}

#[test]
fn streams_go_on_behind_a_connection_that_was_cut() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    let path = remote.far.path().join("models/m.gguf");
    remote.far.fake_behaviour(&path, &json!({ "stderr": ["hello"] }));
    let mut events = remote.llamactl(["--json", "events", "-f", "--after", "0"]).spawn();
    let _ = events.line_where(|line| line.contains("model.added"));
    let _ = remote.llamactl(["start", "m"]).run().ok();
    let ready = |line: &str| line.contains("server.ready");
    let _ = events.line_where(ready);
    remote.cut();
    // What happens meanwhile is not left out, and nothing is told twice.
    let _ = remote.far.cli(["model", "copy", "m", "n"]).ok();
    let next = events.line_where(|line| line.contains("\"model."));
    assert!(next.contains("model.added") && next.contains("\"n\""), "{next}");
    events.signal(Signal::INT);
    let _ = events.finish().code(130);

    let known = remote.far.cli(["logs", "m"]).ok().lines();
    let mut logs = remote.llamactl(["logs", "m", "-f"]).spawn();
    for _ in &known {
        let _ = logs.line().unwrap();
    }
    remote.cut();
    let _ = remote.far.cli(["restart", "m"]).ok();
    let _ = logs.line().unwrap();
    logs.signal(Signal::INT);
    let _ = logs.finish().code(130);
}

#[test]
fn nothing_runs_on_when_the_near_side_is_gone() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    let bridges = || remote.far.processes().iter().filter(|it| is_bridge(it)).count();
    let mut follower = remote.llamactl(["--json", "events", "-f", "--after", "0"]).spawn();
    let _ = follower.line().unwrap();
    assert!(bridges() > 0);
    // A stream that has nothing more to say: nobody notices by writing.
    follower.signal(Signal::KILL);
    eventually(DEADLINE, "the far side has ended", || bridges() == 0);
    drop(follower);
    // A reader that has had enough.
    let line = "llamactl --host ssh://box --json events -f --after 0 | head -n 1";
    let path = format!(
        "{}/bin:{}:/usr/bin:/bin",
        remote.near.path().display(),
        artifacts::llamactl().parent().unwrap().display()
    );
    let _ = remote.near.program("/usr/bin/env", ["bash", "-c", line]).env("PATH", path).run().ok();
    eventually(DEADLINE, "the far side has ended", || bridges() == 0);
}

#[test]
fn the_end_of_the_input_is_passed_on_and_the_answer_still_comes() {
    need!("sshd", "ssh");
    let (remote, _daemon) = with_model();
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\"}\n";
    let answered =
        remote.ssh(["-T", "box", "llamactl", "connect", "--stdio"]).stdin(call).run().ok();
    let lines = answered.json_lines();
    assert!(lines[0]["socket"].is_string() && lines[0].get("failure").is_none(), "{}", lines[0]);
    assert!(lines[1]["result"]["at_ms"].is_i64(), "{}", lines[1]);
    let _ = remote.far.cli(["start", "m"]).ok();
    let get = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let words = ["-T", "box", "llamactl", "connect", "--stdio", "--server", "m"];
    let answered = remote.ssh(words).stdin(get).run().ok();
    assert!(answered.stdout().contains("HTTP/1.1 200"), "{}", answered.stdout());
    let stopped =
        remote.ssh(["-T", "box", "llamactl", "connect", "--stdio", "--server", "x"]).run().code(3);
    assert_eq!(stopped.json()["failure"]["kind"], "model_not_found");
}
