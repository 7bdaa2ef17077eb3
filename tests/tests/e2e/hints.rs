//! Every command that is shown to somebody who is in trouble, run against the product.
//!
//! ```text
//!   ["llamactl", …] in the code ── read ─────╮
//!   "…: llamactl model set …" in a text ─────┴─▶ llamactl … ─▶ anything but "used wrongly"
//! ```
//!
//! What is shown in a test is tried there too (`check` in the CLI's `output/mod.rs`). What a command
//! does is shown below for those that people need most.

use llamactl_tests::artifacts::checkout;
use llamactl_tests::{Home, TestModel};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

/// The exit status of a command that is none.
const USED_WRONGLY: i32 = 2;

/// Words that may stand for one that only the code knows.
const UNKNOWN: &str = "\u{fffd}";
const GUESSES: &[&str] = &["m", "temp=1", "env.X=1", "1", "model", "--dry-run"];

/// What stands in a command for what only the run knows.
fn filled(word: &str) -> String {
    [("{1}", "4"), ("{2}", "4"), ("HALF", "4096"), ("RUNTIME", "cuda"), ("NAME", "m")]
        .iter()
        .fold(word.to_owned(), |word, (place, value)| word.replace(place, value))
        .replace("KEY", "ctx-size")
}

/// The code without its tests, by path.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["cli/src", "daemon/src", "protocol/src"].map(|dir| checkout().join(dir)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !["tests.rs", "scene.rs"].contains(&name.as_str()) {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.insert(path, code);
            }
        }
    }
    found
}

/// The list that begins before `"llamactl"`, up to its bracket: literal words as they are, `format!`
/// with its places filled, anything else as a word.
fn list_of(code: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut depth, mut in_text, mut signs) = (0, false, code.chars());
    while let Some(sign) = signs.next() {
        match sign {
            '\\' if in_text => {
                signs.next();
                continue;
            }
            '"' => in_text = !in_text,
            '[' | '(' | '{' if !in_text => depth += 1,
            ']' if !in_text && depth == 0 => break,
            ']' | ')' | '}' if !in_text => depth -= 1,
            ',' if !in_text && depth == 0 => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        words.last_mut().unwrap().push(sign);
    }
    // The names of models may follow.
    let goes_on = words.len() > 1 && signs.as_str().starts_with('.');
    words.extend(goes_on.then(|| "names".to_owned()));
    words.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).map(word_of).collect()
}

fn word_of(expression: &str) -> String {
    let literal = expression.strip_prefix("&format!(").unwrap_or(expression);
    let Some(text) = literal.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
        return UNKNOWN.to_owned();
    };
    let mut word = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        word = word + before + "1";
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    word + rest
}

/// Commands in texts: `llamactl`, and what follows in words of a command.
fn told_of(code: &str) -> Vec<Vec<String>> {
    let texts = code.split('"').skip(1).step_by(2);
    let mut commands = Vec::new();
    for text in texts.filter(|text| !text.contains('\n') || text.contains("\\\n")) {
        let text = text.replace("\\\n", " ");
        for (at, _) in text.match_indices(": llamactl ") {
            let rest = text.get(at + 2..).unwrap_or_default();
            let end = rest.find([',', ';', ')', '(', '`', '|']).unwrap_or(rest.len());
            let words = rest.get(..end).unwrap_or_default().split_whitespace();
            let word = |word: &str| word_of(&format!("\"{word}\""));
            commands.push(words.map(word).collect());
        }
    }
    commands
}

#[test]
fn every_command_of_every_hint_is_one() {
    let home = Home::without_llama_server();
    let (mut lists, mut told) = (BTreeSet::new(), BTreeSet::new());
    for code in sources().values() {
        for (at, _) in code.match_indices("\"llamactl\"") {
            if code[..at].trim_end().ends_with('[') {
                lists.insert(list_of(&code[at..]));
            }
        }
        told.extend(told_of(code));
    }
    // Where the verb itself is a variable, whoever shows it tries it.
    lists.retain(|words| words.len() > 1 && !words.iter().take(3).any(|word| word == UNKNOWN));
    told.retain(|words| words.get(1).is_some_and(|verb| verb.chars().all(char::is_alphabetic)));
    assert!(lists.len() > 60 && told.len() > 3, "{} {}", lists.len(), told.len());
    let refusal = |words: &[String], guess: &str| {
        // No daemon is there and none can come: only the words are judged.
        let words = words.iter().skip(1).map(|word| filled(word).replace(UNKNOWN, guess));
        let nowhere = ["--socket", "/dev/null/x"].into_iter().map(str::to_owned);
        // What is about the daemon may act on this machine: that there is such a command is enough.
        let help =
            words.clone().next().filter(|noun| noun == "daemon").map(|_| "--help".to_owned());
        let output = home.llamactl(nowhere.chain(words).chain(help)).run();
        let is_refused = output.status.code() == Some(USED_WRONGLY);
        Some(output.stderr()).filter(|said| is_refused && !said.contains("needs a terminal"))
    };
    let wrong = |words: &&Vec<String>| GUESSES.iter().all(|guess| refusal(words, guess).is_some());
    let lists: Vec<_> = lists.iter().filter(wrong).collect();
    // A text may name the command and leave its arguments to the reader.
    let is_none =
        |words: &&Vec<String>| refusal(words, "m").is_some_and(|said| said.contains("no command"));
    let told: Vec<_> = told.iter().filter(is_none).collect();
    assert!(lists.is_empty() && told.is_empty(), "{lists:#?} {told:#?}");
}

/// Runs what is refused, then the command of its first hint, with its open places filled.
fn cure(home: &Home, refused: &[&str], places: &[(&str, &str)]) {
    let output = home.cli(["--json"].iter().chain(refused));
    assert!(!output.status.success(), "{refused:?}");
    let failure = output.failure();
    let command = failure["commands"][0].as_array().into_iter().flatten();
    let fill = |word: &str| {
        places.iter().fold(word.to_owned(), |word, (place, value)| word.replace(place, value))
    };
    let words: Vec<String> = command.filter_map(|word| word.as_str()).map(fill).collect();
    assert_eq!(words.first().map(String::as_str), Some("llamactl"), "{failure}");
    home.cli(&words[1..]).ok();
}

#[test]
fn what_a_hint_names_cures_what_it_was_said_of() {
    let home = Home::new();
    home.configure("max_running = 1\n");
    let _daemon = home.daemon();
    let file = home.own_model(TestModel::Tiny, "tiny.gguf");
    let shown = file.to_str().unwrap();
    home.cli(["model", "add", shown]).ok();
    cure(&home, &["model", "set", "tiny", "ctx-siz=512"], &[]);
    cure(&home, &["model", "set", "tiny", "ctx-size=many"], &[]);
    cure(&home, &["model", "show", "Tiny"], &[]);
    let settings = home.call("model.show", json!({ "model": "tiny" }))["settings"].take();
    assert_eq!(settings, json!({ "ctx-size": 4096 }));
    let other = home.model(TestModel::Medium);
    cure(&home, &["model", "add", other.to_str().unwrap(), "--name", "tiny"], &[]);
    home.cli(["model", "show", "tiny-2"]).ok();

    let moved = file.with_file_name("moved.gguf");
    fs::rename(&file, &moved).unwrap();
    cure(&home, &["start", "tiny"], &[("FILE", moved.to_str().unwrap())]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port={}", taken.local_addr().unwrap().port());
    home.cli(["model", "set", "tiny", &port]).ok();
    cure(&home, &["start", "tiny"], &[]);
    home.cli(["start", "tiny"]).ok();
    cure(&home, &["start", "tiny-2"], &[]);
    home.cli(["start", "tiny-2"]).ok();
    cure(&home, &["model", "remove", "tiny-2"], &[]);
    home.cli(["model", "show", "tiny-2"]).code(3);
    cure(&home, &["model", "set", "tiny", "host=0.0.0.0"], &[]);
}
