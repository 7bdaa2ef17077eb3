//! README.md from the top: every block is run, in order, and what it says is printed is printed.
//!
//! ```text
//!   a section ─▶ a home of its own, with what the section takes for granted
//!       ╰ block ─▶ bash at a terminal ─▶ each command: its status, its words
//! ```
//!
//! Numbers, times, paths and what a model says differ; every other word is the README's.

use llamactl_tests::pages::{Block, blocks};
use llamactl_tests::{Home, TestModel, artifacts, need, skip};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

/// Commands that are not run here, by how they begin, with where else they are.
const LEFT_OUT: &[(&str, &str)] = &[
    ("packaging/demo", ".ci/run"),
    ("tests/run", "it runs this"),
    ("llamactl daemon install", "tests/systemd-box"),
    ("sudo llamactl daemon install", "tests/systemd-box"),
    ("llamactl run tiny  ", "a conversation: e2e pipes"),
    ("llamactl --host", "another machine: e2e remote"),
    ("LLAMACTL_HOST", "another machine: e2e remote"),
];

/// What is there before a section, or before a command, that the README takes for granted.
const GRANTED: &[(&str, &str)] = &[
    ("## Install", "mkdir -p ~/.config/fish/completions"),
    (
        "## When it does not start",
        "add qwen3; add gemma3; add cut; truncate -s 1000000 models/cut.gguf",
    ),
    ("## Settings", "add qwen3; llama-server"),
    (
        "llamactl ps",
        "llamactl metrics -f --json | grep -qm1 '\"generated_tokens_per_second\":[0-9]'",
    ),
    ("llamactl run tiny \"summarize", "echo some notes > notes.txt"),
    ("llamactl model set big", "add big"),
    (
        "llamactl model history",
        "llamactl model remove qwen3 --stop; mv models/qwen3.gguf m.gguf
         llamactl model add m.gguf --name qwen3
         llamactl model set qwen3 ctx-size=16384 gpu-layers=all
         llamactl model set qwen3 temp=0.9",
    ),
];

const FUNCTIONS: &str = "
    set -a
    add() { cp models/a.gguf models/$1.gguf; llamactl model add models/$1.gguf; }
    llama-server() {
        mkdir -p llama.cpp/build/bin; ln -s \"$LLAMACTL_LLAMA_SERVER\" llama.cpp/build/bin/llama-server
    }
    rc=0
";

/// A command of a block, and what the block says that it prints.
struct Command {
    text: String,
    said: Option<String>,
}

fn commands(block: &Block) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for line in block.text.lines() {
        let is_console = block.info == "console";
        let typed = if is_console { line.strip_prefix("$ ") } else { Some(line) };
        match (typed, commands.last_mut()) {
            (Some(line), Some(last)) if goes_on => {
                last.text = format!("{}\n{line}", last.text);
            }
            (Some(""), _) => {}
            (Some(line), _) => {
                let said = is_console.then(String::new);
                commands.push(Command { text: line.replace("…; ", ""), said });
            }
            (None, Some(Command { said: Some(said), .. })) => {
                said.push_str(line);
                said.push('\n');
            }
            (None, _) => {}
        }
        goes_on = typed.is_some() && line.ends_with('\\');
    }
    commands.retain(|command| !LEFT_OUT.iter().any(|(begin, _)| command.text.starts_with(begin)));
    commands
}

fn is_endless(command: &str) -> bool {
    [" --follow", " -f", "nc -U "].iter().any(|word| command.contains(word))
}

fn granted(before: &str) -> Option<&'static str> {
    GRANTED.iter().find(|(begin, _)| before.starts_with(begin)).map(|(_, script)| *script)
}

/// All commands of a block, each between two marks, the second with its status.
fn script(section: Option<&str>, commands: &[Command]) -> String {
    let mut script = FUNCTIONS.to_owned();
    for before in section.into_iter().filter_map(granted) {
        writeln!(script, "{{ {before}\n}} > /dev/null 2>&1").unwrap();
    }
    for Command { text, .. } in commands {
        if let Some(before) = granted(text) {
            writeln!(script, "{{ {before}\n}} > /dev/null 2>&1").unwrap();
        }
        let text = match is_endless(text) {
            true => format!("timeout 1 bash -c {}", quoted(text)),
            false => text.clone(),
        };
        writeln!(script, "printf '\\036'; (exit $rc)\n{text}\nrc=$?; printf '\\036%s' $rc")
            .unwrap();
    }
    script
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What a terminal shows as words, with `#` for what differs each time.
fn words(shown: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut pieces = shown.split("\u{1b}[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        plain.push_str(
            piece
                .trim_start_matches(|it: char| !it.is_ascii_alphabetic())
                .get(1..)
                .unwrap_or_default(),
        );
    }
    let word = |word: &str| {
        let differs = word.contains(|it: char| it.is_ascii_digit())
            || word.contains('/')
            || word.chars().all(|it| it == '.');
        if differs { "#".to_owned() } else { word.replace("root", "me") }
    };
    plain.split_whitespace().map(word).collect()
}

/// The first word that is said and not printed, if there is one: others may stand between them.
fn missing(said: &str, printed: &str) -> Option<String> {
    let printed = words(printed);
    let mut printed = printed.iter();
    words(said).into_iter().find(|word| !printed.any(|it| it == word))
}

#[test]
fn every_block_of_the_readme_does_what_it_says() {
    need!("bash", "jq", "nc", "curl", "xargs");
    let readme = artifacts::checkout().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let is_heading = |line: &&str| line.starts_with("## ");
    let section_of = |block: &Block| {
        text.lines().take(block.line).filter(is_heading).last().unwrap_or("# llamactl")
    };
    let (mut wrong, mut run, mut section, mut home) = (Vec::new(), 0, "", None);
    for block in blocks(&readme) {
        let this = section_of(&block);
        let is_new = this != section;
        if is_new {
            // The home before ends first: its daemon with it.
            drop(home.take());
            section = this;
        }
        let home = home.get_or_insert_with(a_home);
        // Tested with the caches of other programs: e2e library.
        if section == "## The first five minutes" {
            continue;
        }
        if block.info == "toml" {
            fs::write(home.path().join("README.toml"), &block.text).unwrap();
            home.cli(["daemon", "check-config", "--config", "README.toml"]).ok();
            continue;
        }
        let commands = commands(&block);
        let script = script(is_new.then_some(section), &commands);
        let path = format!("{}/bin:{}", home.path().display(), skip::PATH);
        let shown = home.program("/bin/bash", ["-c", &script]).env("PATH", path);
        let shown = shown.run_at_terminal(200).stdout();
        let told: Vec<&str> = shown.split('\u{1e}').skip(1).collect();
        for (command, told) in commands.iter().zip(told.chunks(2)) {
            let [printed, status] = told else { panic!("{shown}") };
            let status = status.split_whitespace().next().unwrap_or_default();
            let said = command.said.as_deref().unwrap_or_default();
            let is_refused = ["error:", "{\"error"].iter().any(|begin| said.starts_with(begin));
            let is_right = if is_endless(&command.text) {
                status == "124"
            } else {
                (status == "0") != is_refused
            };
            let missing = missing(said, printed).filter(|_| !command.text.contains(" run "));
            if !is_right || missing.is_some() {
                let text = &command.text;
                wrong.push(format!(
                    "README.md:{}: {text}: {status}, {missing:?}\n{printed}",
                    block.line
                ));
            }
            run += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(run > 45, "{run}");
}

fn a_home() -> Home {
    let home = Home::new().with_autostart();
    for file in ["a.gguf", "qwen3-8b-q4_k_m.gguf", "tiny-llama.gguf"] {
        let _ = home.own_model(TestModel::Tiny, file);
    }
    let bin = home.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(artifacts::llamactl(), bin.join("llamactl")).unwrap();
    symlink(artifacts::llamactld(), bin.join("llamactld")).unwrap();
    home
}
