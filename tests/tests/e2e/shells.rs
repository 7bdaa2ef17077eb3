//! Completion, in each of the real shells, with the Tab key.

use llamactl_tests::{DEADLINE, Daemon, Home, TestModel, Tmux, artifacts, eventually, need, skip};
use rustix::process::Signal;
use serde_json::json;

/// What is typed, and what a Tab makes of it, up to where the next word would be typed.
const CASES: &[(&str, &str)] = &[
    ("llamactl wai", "llamactl wait "),
    ("llamactl start --no-w", "llamactl start --no-wait "),
    ("llamactl start qw", "llamactl start qwen3:8b-q4 "),
    ("llamactl start qwen3:8", "llamactl start qwen3:8b-q4 "),
    ("llamactl start unsloth/Q", "llamactl start unsloth/Qwen3-8B:Q4_K_M "),
    ("llamactl start unsloth/Qwen3-8B:Q", "llamactl start unsloth/Qwen3-8B:Q4_K_M "),
    ("llamactl model set x ctx-s", "llamactl model set x ctx-size="),
    ("llamactl model set x gpu-layers=al", "llamactl model set x gpu-layers=all "),
    ("llamactl start x --set flash-attn=of", "llamactl start x --set flash-attn=off "),
    ("llamactl model set x runtime=b", "llamactl model set x runtime=b1 "),
    ("llamactl runtime use b", "llamactl runtime use b1 "),
    ("llamactl events --kind server.fa", "llamactl events --kind server.failed "),
    ("llamactl metrics host.cpu_b", "llamactl metrics host.cpu_busy_ratio "),
    ("llamactl model add ~/mod", "llamactl model add ~/models/"),
    ("llamactl model add ~/models/my", "llamactl model add ~/models/my\\ model.gguf "),
    ("llamactl model add models/my", "llamactl model add models/my\\ model.gguf "),
    (
        "llamactl model set x path=~/models/my",
        "llamactl model set x path=~/models/my\\ model.gguf ",
    ),
    (
        "llamactl model set x api-key=@models/my",
        "llamactl model set x api-key=@models/my\\ model.gguf ",
    ),
    ("llamactl model scan ~/mod", "llamactl model scan ~/models/"),
    ("llamactl start -- qw", "llamactl start -- qwen3:8b-q4 "),
    ("llamactl model set x -- --ctx-s", "llamactl model set x -- --ctx-size "),
    ("llamactl model set x -- -fa of", "llamactl model set x -- -fa off "),
    (
        "llamactl model set x -- --model-draft ~/models/my",
        "llamactl model set x -- --model-draft ~/models/my\\ model.gguf ",
    ),
    ("llamactl rpc daemon.sta", "llamactl rpc daemon.status "),
    ("llamactl model diff qwen3:8b-q4 ", "llamactl model diff qwen3:8b-q4 1 "),
    ("llamactl model rollback qwen3:8b-q4 ", "llamactl model rollback qwen3:8b-q4 1 "),
    // Of the two models one runs.
    ("llamactl stop ", "llamactl stop unsloth/Qwen3-8B:Q4_K_M "),
];

/// What is shown of the two models beside their names.
const TOLD: [&str; 2] = ["ready, 840k F16", "stopped, 840k F16"];

fn a_home() -> (Home, Daemon) {
    let home = Home::with_fake_llama_server();
    let daemon = home.daemon();
    let models = [("qwen3:8b-q4", "my model.gguf"), ("unsloth/Qwen3-8B:Q4_K_M", "other.gguf")];
    for (name, file) in models {
        let path = home.own_model(TestModel::Tiny, file).display().to_string();
        home.cli(["model", "add", &path, "--name", name]).ok();
    }
    let build = artifacts::fake_llama_server().display().to_string();
    home.cli(["runtime", "add", &build, "--name", "b1"]).ok();
    home.cli(["runtime", "list"]).ok();
    home.fake_behaviour(&home.path().join("models/other.gguf"), &json!({}));
    home.cli(["start", "unsloth/Qwen3-8B:Q4_K_M"]).ok();
    (home, daemon)
}

/// Types a line and a Tab until the screen is as it should be. What follows a Tab is marked by a
/// sign, so that a blank can be told from none.
fn tab(tmux: &Tmux<'_>, typed: &str, is_right: impl Fn(&str) -> bool) {
    // On a loaded machine the daemon may answer later than a shell waits for it.
    for _ in 0..8 {
        tmux.press(&["C-u", "C-l"]);
        tmux.until(|screen| !screen.contains('#'));
        tmux.type_text(typed);
        tmux.press(&["Tab"]);
        tmux.type_text("#");
        // A sign may be quoted that need not be.
        let screen = tmux.until(|screen| screen.contains('#')).replace("\\@", "@");
        if is_right(&screen) {
            return;
        }
    }
    panic!("{typed:?} became\n{}", tmux.screen());
}

/// Plays all of it in a shell that `prepare` acquaints with the completion.
fn completes(shell: &[&str], prepare: &[&str], also: impl Fn(&Home, &Tmux<'_>)) {
    let (home, daemon) = a_home();
    let home = home.with_autostart();
    let tmux = Tmux::new(&home, 120, 40, shell);
    for line in prepare {
        tmux.enter(line);
    }
    // What is typed ahead of the prompt is not the line editor's.
    tmux.enter("echo pre''pared");
    tmux.until(|screen| screen.trim_end().ends_with("\nprepared\n$"));
    for (typed, whole) in CASES {
        tab(&tmux, typed, |screen| screen.contains(&format!("$ {whole}#")));
    }
    also(&home, &tmux);
    // A daemon that does not answer is not waited for, and none is started; nobody says a word.
    daemon.signal(Signal::STOP);
    tab(&tmux, "llamactl start q", |screen| screen.contains("$ llamactl start q#"));
    daemon.signal(Signal::CONT);
    drop(daemon);
    tab(&tmux, "llamactl start q", |screen| screen.trim() == "$ llamactl start q#");
    tmux.press(&["C-u"]);
    assert!(home.daemon_pids().is_empty());
}

#[test]
fn bash_completes() {
    need!("bash", "tmux");
    let shell = ["env", "PS1=$ ", "bash", "--norc", "--noprofile"];
    completes(&shell, &["source <(llamactl completions bash)"], |_, _| {});
}

#[test]
fn zsh_completes() {
    need!("zsh", "tmux");
    // As packages install it: found by its name, not read before it is wanted.
    let prepare = [
        "mkdir f; llamactl completions zsh > f/_llamactl; fpath=($PWD/f $fpath)",
        "autoload -U compinit; compinit -u -D",
    ];
    completes(&["env", "PS1=$ ", "zsh", "-f"], &prepare, |_, tmux| {
        tab(tmux, "llamactl start ", |screen| TOLD.iter().all(|told| screen.contains(told)));
    });
}

#[test]
fn fish_completes() {
    need!("fish", "tmux");
    let prompt = "function fish_prompt; echo -n '$ '; end; set -g fish_autosuggestion_enabled 0";
    let prepare = ["llamactl completions fish | source"];
    let shell = ["fish", "--no-config", "-C", prompt];
    completes(&shell, &prepare, |home, _| {
        let script = home.cli(["completions", "fish"]).ok().stdout();
        let script = format!("{script}\ncomplete --do-complete 'llamactl start '");
        let path = format!("{}:{}", artifacts::llamactl().parent().unwrap().display(), skip::PATH);
        eventually(DEADLINE, "fish is told what the models are", || {
            let fish = home.program("/usr/bin/env", ["fish", "--no-config", "-c", &script]);
            let shown = fish.env("PATH", &path).run().ok().stdout();
            TOLD.iter().all(|told| shown.contains(told))
        });
    });
}
