//! In pipelines, and at a terminal: what goes where, and what never gets through.

use llamactl_tests::terminal::foreign_controls;
use llamactl_tests::{Daemon, Home, Invocation, TestModel, artifacts, need};
use serde_json::json;

fn home_with_models(count: usize) -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    let mut rpc = home.connect();
    rpc.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m000" }));
    for number in 1..count {
        rpc.call("model.copy", json!({ "model": "m000", "to": format!("m{number:03}") }));
    }
    (home, daemon)
}

/// A pipeline as a person types it; it fails when any part of it does.
fn pipeline(home: &Home, line: &str) -> Invocation {
    let directory = artifacts::llamactl().parent().unwrap().display().to_string();
    let path = format!("{directory}:{}", llamactl_tests::skip::PATH);
    let line = format!("set -o pipefail; {line}");
    home.program("/usr/bin/env", ["bash", "-c", line.as_str()]).env("PATH", path)
}

#[test]
fn a_closed_pipe_is_success_and_silent() {
    need!("bash", "head");
    let (home, _daemon) = home_with_models(300);
    for line in [
        "llamactl model list | head -n 1",
        "llamactl --json model list | head -n 1",
        "llamactl model show m000 --json | true",
        "llamactl metrics --follow --json | head -n 1",
        "llamactl --help | true",
    ] {
        let output = pipeline(&home, line).run().ok();
        assert_eq!(output.stderr(), "", "{line}");
    }
}

#[test]
fn a_closed_stdout_is_a_failure_as_a_full_disk_is() {
    need!("bash");
    let (home, _daemon) = home_with_models(1);
    for line in [
        "model list",
        "--json model list",
        "-q model list",
        "model show m000 --json",
        "model export m000",
        "metrics",
        "daemon status",
        "rpc daemon.status",
        "events",
        "completions bash",
        "help settings",
        "version",
        "ps --help",
        "--version",
    ] {
        let printed = pipeline(&home, &format!("llamactl {line} >/dev/null")).run().ok();
        assert_eq!(printed.stderr(), "", "{line}");
        for lost in [">&-", ">/dev/full"] {
            let output = pipeline(&home, &format!("llamactl {line} {lost}")).run().code(1);
            let told = output.stderr();
            assert!(told.contains("writing the output failed: "), "{line} {lost}: {told}");
        }
    }
    // What prints nothing has lost nothing.
    pipeline(&home, "llamactl ps -q >&-").run().ok();
}

#[test]
fn a_list_is_one_object_per_line() {
    need!("bash", "jq", "xargs");
    let (home, _daemon) = home_with_models(3);
    let names = ["m000", "m001", "m002"];
    assert_eq!(
        pipeline(&home, "llamactl model list --json | jq -r .name").run().ok().lines(),
        names
    );
    let shown = "llamactl model list -q | xargs -n1 llamactl model show --json | jq -r .name";
    assert_eq!(pipeline(&home, shown).run().ok().lines(), names);
    let removed = "llamactl -q model list | xargs llamactl model remove && llamactl model list";
    pipeline(&home, removed).run().ok();
    assert_eq!(pipeline(&home, "llamactl --json model list").run().ok().stdout(), "");
}

#[test]
fn servers_can_be_brought_back_from_a_list() {
    need!("bash", "xargs");
    let (home, _daemon) = home_with_models(2);
    home.cli(["start", "m000", "m001"]).ok();
    let line =
        "llamactl stop --all -q > was && sort was && llamactl ps && xargs llamactl start -q < was";
    let mut lines = pipeline(&home, line).run().ok().lines();
    lines.sort();
    assert_eq!(lines, ["m000", "m000", "m001", "m001"]);
    assert_eq!(home.llama_servers().len(), 2);
}

#[test]
fn a_pipe_gets_the_whole_table_without_colour() {
    let (home, _daemon) = home_with_models(1);
    let long = format!("n{}", "x".repeat(120));
    home.cli(["model", "rename", "m000", &long]).ok();
    let output = home.cli(["model", "list"]).ok();
    assert!(
        output.stdout().contains(&long) && output.stdout().contains("NAME"),
        "{}",
        output.stdout()
    );
    assert!(!output.stdout().contains('\u{1b}'), "{}", output.stdout());
    let path = home.model(TestModel::Tiny);
    assert!(output.stdout().contains(path.to_str().unwrap()), "nothing is shortened");
}

#[test]
fn a_terminal_gets_colour_unless_it_does_not_want_it() {
    let (home, _daemon) = home_with_models(2);
    let colours =
        |invocation: Invocation| invocation.run_at_terminal(100).ok().stdout().contains("\u{1b}[");
    assert!(colours(home.llamactl(["model", "list", "--color", "always"])));
    for plain in [
        home.llamactl(["model", "list"]).env("NO_COLOR", "1"),
        home.llamactl(["model", "list", "--color", "never"]),
        home.llamactl(["model", "list", "--json"]),
    ] {
        assert!(!colours(plain.clone()), "{plain:?}");
    }
    assert!(!home.cli(["model", "list"]).ok().stdout().contains('\u{1b}'));
    assert!(home.cli(["model", "list", "--color", "always"]).ok().stdout().contains('\u{1b}'));
}

#[test]
fn nothing_from_elsewhere_controls_the_terminal() {
    // Clears the screen, sets the title, overwrites the line, writes backwards.
    const EVIL: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}over\rwritten\u{8}\u{9b}31m\u{202e}txt";
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.own_model(TestModel::Tiny, format!("{EVIL}.gguf"));
    home.call("model.add", json!({ "path": path, "name": "m" }));
    home.fake_behaviour(&path, &json!({ "stderr": [EVIL, format!("error: invalid argument: {EVIL}")], "exit": { "code": 1 } }));
    let shown = home.llamactl(["start", "m"]).run_at_terminal(100).code(8);
    assert!(shown.stdout().contains("written"), "the evidence is shown: {}", shown.stdout());
    for arguments in [
        &["start", "m"][..],
        &["logs", "m", "-n", "10"],
        &["model", "list"],
        &["model", "show", "m"],
        &["model", "args", "m"],
        &["status", "m"],
        &["status"],
        &["events"],
        &["model", "show", EVIL],
    ] {
        let shown = home.llamactl(arguments).run_at_terminal(200);
        assert!(!shown.stdout_bytes().is_empty(), "{arguments:?}");
        let foreign = foreign_controls(shown.stdout_bytes());
        assert!(foreign.is_empty(), "{arguments:?}: {foreign:?}");
    }
    // A pipe gets the log as it was written.
    let piped = home.cli(["logs", "m", "-n", "10"]).ok();
    assert!(piped.stdout().contains(EVIL), "{:?}", piped.stdout());
}

#[test]
fn every_command_explains_itself() {
    let home = Home::new();
    for command in [
        "status",
        "version",
        "completions",
        "rpc",
        "gpus",
        "metrics",
        "events",
        "daemon",
        "model",
        "start",
        "stop",
        "restart",
        "wait",
        "ps",
        "logs",
        "run",
    ] {
        let help = home.cli([command, "--help"]).ok().stdout();
        assert!(help.contains("Usage"), "{command}: {help}");
    }
    for command in
        ["add", "list", "show", "set", "unset", "args", "rename", "copy", "alias", "remove"]
    {
        assert!(
            home.cli(["model", command, "--help"]).ok().stdout().contains("Usage"),
            "{command}"
        );
    }
    assert!(home.daemon_pids().is_empty());
}

#[test]
fn any_method_can_be_called_and_any_stream_followed() {
    let (home, daemon) = home_with_models(1);
    let status = home.cli(["rpc", "daemon.status"]).ok().json();
    assert_eq!(status["pid"], daemon.pid());
    let page = home.cli(["rpc", "model.list", r#"{"limit": 1}"#]).ok().json();
    assert_eq!(page["items"][0]["name"], "m000");
    home.cli(["rpc", "no.method"]).code(1);
    let mut samples = home.llamactl(["rpc", "metrics.follow"]).spawn();
    assert_eq!(samples.json_line()["kind"], "snapshot");
    assert_eq!(samples.json_line()["kind"], "change");
}
