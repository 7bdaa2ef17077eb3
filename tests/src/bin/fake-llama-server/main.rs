//! A llama-server that does what the real one cannot be made to do on demand: hang, lie, ignore
//! signals, end at a chosen moment, talk without end.
//!
//! ```text
//!   -m MODEL ──▶ MODEL.fake (JSON, optional): how to behave      see `behaviour`
//!            ──▶ MODEL.signals: the name of each signal caught, one per line, appended
//!            ──▶ MODEL.requests: the path of each request, likewise, where the behaviour says so
//! ```
//!
//! The behaviour lies in a file beside the model, because a daemon that starts a llama-server gives
//! it neither its own environment nor arguments it does not know. Without the file it behaves: it
//! listens, answers 503 while it loads, then 200, reports its progress where the program that
//! started it asks for that, talks, and ends on SIGTERM.
//!
//! Arguments it does not know make it end as the real one does. Like the real one it logs to
//! stderr, never removes its socket, and dies of SIGTERM while it loads.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "both outputs are its interface")]

mod arguments;
mod behaviour;
mod http;
mod life;

use arguments::{Arguments, Wanted};
use behaviour::Behaviour;
use std::process::ExitCode;

fn main() -> ExitCode {
    match arguments::parse(after_its_name(std::env::args())) {
        Ok(Wanted::Help) => print!("{}", arguments::help()),
        Ok(Wanted::Version) => {
            eprintln!("version: 0.1.0-fake (build 1, commit fa4e000)\nbuilt with care for Linux");
        }
        Ok(Wanted::Devices) => println!("Available devices:\n  (none)"),
        Ok(Wanted::Serve(arguments)) => return serve(&arguments),
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The arguments of the server: called `llama`, as the program that has all of llama.cpp in it, it is one
/// only behind the word `serve`.
fn after_its_name(mut words: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let name = words.next().unwrap_or_default();
    let mut words = words.peekable();
    if name.rsplit('/').next() == Some("llama") && words.next_if_eq("serve").is_none() {
        println!(
            "Usage: llama <command> [options]\n\nAvailable commands:\n  serve    start a server"
        );
        std::process::exit(1);
    }
    words
}

fn serve(arguments: &Arguments) -> ExitCode {
    let behaviour = match Behaviour::beside(&arguments.model) {
        Ok(behaviour) => behaviour,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    if behaviour.double_fork && !life::is_second_self() {
        return life::leave_a_second_self();
    }
    match life::live(arguments, behaviour) {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
