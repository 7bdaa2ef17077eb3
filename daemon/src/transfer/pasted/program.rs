//! What stands before the arguments: variables, programs that run another one, the program. Pure.

use super::container::{self, Container};
use super::shell::{Expanded, is_name};
use crate::transfer::omissions::Omissions;
use std::collections::VecDeque;

/// Programs that run another one, with the options of theirs that take a value.
const RUNNERS: &[(&str, &[&str])] = &[
    ("env", &["-u", "--unset", "-C", "--chdir", "-S"]),
    ("exec", &["-a"]),
    ("nohup", &[]),
    ("sudo", &["-u", "-g", "-C", "-D", "-h", "-p", "--user", "--group"]),
    ("doas", &["-u"]),
    ("nice", &["-n", "--adjustment"]),
    ("ionice", &["-c", "-n"]),
    ("chrt", &["-T", "-P", "-D"]),
    ("setsid", &[]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("time", &[]),
    ("numactl", &["-C", "-N", "-m", "-p", "-i", "-P", "-w"]),
    ("taskset", &["-c", "--cpu-list"]),
    ("systemd-run", &["-p", "--property", "-u", "--unit", "-E", "--setenv", "--slice"]),
    ("timeout", &["-s", "-k", "--signal", "--kill-after"]),
    ("start", &[]),
];

/// Runners that change nothing of what runs that llamactl would not do itself.
const SILENT: &[&str] = &["env", "exec", "nohup", "time", "setsid"];

/// What runs, taken apart.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) variables: Vec<(String, Expanded)>,
    pub(super) arguments: Vec<Expanded>,
}

/// Whether a word is the name or path of a llama-server.
pub(super) fn is_server(word: &str) -> bool {
    let file = word.rsplit(['/', '\\']).next().unwrap_or_default();
    ["llama-server", "llama-server.exe", "server"].contains(&file)
        || file.starts_with("llama-server-")
}

/// Whether a word is the name or path of the program that is a llama-server when told to serve.
fn is_unified(word: &str) -> bool {
    ["llama", "llama.exe"].contains(&word.rsplit(['/', '\\']).next().unwrap_or_default())
}

/// Where the llama-server of a command stands: the word before its first argument.
pub(super) fn server_at(words: &[Expanded]) -> Option<usize> {
    let is_here = |index: usize| {
        let text = |index: usize| words.get(index).map(|word| word.text.as_str());
        let serves = text(index) == Some("serve")
            && index.checked_sub(1).and_then(text).is_some_and(is_unified);
        serves || text(index).is_some_and(is_server)
    };
    let before_options = |index: &usize| {
        words.get(index + 1).is_none_or(|next| next.text.starts_with('-') || next.unknown.is_some())
    };
    let mut places = (0..words.len()).filter(|index| is_here(*index));
    let first = places.clone().next();
    places.find(before_options).or(first)
}

/// The variable that an option of a runner gives to what it runs: `-E A=1`, `--setenv=A=1`,
/// `--export=ALL,A=1`. Its own are no names of variables, or not in capitals.
fn given(option: &Expanded) -> Option<(String, Expanded)> {
    let text = match option.text.strip_prefix("--") {
        Some(long) => long.split_once('=')?.1,
        None => &option.text,
    };
    let variable = |text: &str| {
        let (name, value) = text.split_once('=')?;
        let is_variable = is_name(name) && !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let value = Expanded { text: value.to_owned(), unknown: option.unknown.clone() };
        is_variable.then(|| (name.to_owned(), value))
    };
    variable(text).or_else(|| variable(text.split_once(',')?.1))
}

/// Takes a command apart. `exported` are variables it was given before.
pub(super) fn of(
    exported: Vec<(String, Expanded)>,
    words: Vec<Expanded>,
    left_out: &mut Omissions,
) -> Program {
    let mut program = Program { variables: exported, arguments: vec![] };
    let mut container = Container::default();
    let mut words = VecDeque::from(words);
    let mut of_runner = false;
    // What a shell shows before what was typed.
    words.pop_front_if(|word| ["$", "#", "%", ">"].contains(&word.text.as_str()));
    while let Some(word) = words.pop_front_if(|word| !word.text.starts_with('-')) {
        if let Some((name, value)) = word.text.split_once('=').filter(|(name, _)| is_name(name)) {
            let value = Expanded { text: value.to_owned(), unknown: word.unknown };
            program.variables.push((name.to_owned(), value));
            continue;
        }
        if is_server(&word.text) {
            break;
        }
        if is_unified(&word.text) && words.front().is_some_and(|next| next.text == "serve") {
            words.pop_front();
            break;
        }
        let file = word.text.rsplit('/').next().unwrap_or_default();
        if container::PROGRAMS.contains(&file) {
            left_out.add(file, "llamactl starts llama-server itself");
            container = container::take(&mut words, left_out);
            program.variables.append(&mut container.variables);
            break;
        }
        if let Some((runner, with_value)) = RUNNERS.iter().find(|(name, _)| *name == file) {
            if !SILENT.contains(runner) {
                left_out.add(*runner, "llamactl starts llama-server itself");
            }
            while let Some(option) = words.pop_front_if(|word| word.text.starts_with('-')) {
                program.variables.extend(given(&option));
                if with_value.contains(&option.text.as_str()) {
                    program.variables.extend(words.pop_front().as_ref().and_then(given));
                }
            }
            of_runner = true;
            continue;
        }
        // A program that nobody knows, and its options; or a llama-server under another name.
        if let Some(at) = server_at(words.make_contiguous()) {
            if !of_runner {
                left_out.add(file, "llamactl starts llama-server itself");
            }
            program.variables.extend(words.drain(..=at).filter_map(|word| given(&word)));
            break;
        }
        // `kubectl run NAME … -- ARGUMENTS`.
        if let Some(at) = words.iter().position(|word| word.text == "--") {
            left_out.add(file, "llamactl starts llama-server itself");
            words.drain(..=at);
            break;
        }
        if words.front().is_none_or(|next| next.text.starts_with('-')) {
            break;
        }
    }
    program.arguments = words.into();
    for argument in &mut program.arguments {
        argument.text = container.outside(&argument.text);
    }
    program
}
