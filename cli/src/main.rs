//! The `llamactl` command: asks the daemon for things over its socket and prints what it says.
//!
//! ```text
//!   args ─▶ commands/… ─▶ connection ─▶ llamactld
//!                ╰──────▶ output ─▶ stdout, stderr, exit status
//! ```
//!
//! It knows the wire and the terminal. It must never know the database, a llama-server process
//! or the daemon's insides: whatever it tells, the daemon said.

mod args;
mod chat;
mod commands;
mod complete;
mod connection;
mod doctor;
mod editing;
mod exit;
mod follow;
mod foreign;
mod help_page;
#[cfg(test)]
mod man;
mod output;
mod pages;
#[cfg(test)]
mod picture;
mod plot;
mod private_file;
mod programs;
#[cfg(test)]
mod reference;
mod remote;
mod report;
mod resume;
mod secret_input;
mod settings;
mod source;
mod systemd;
mod top;
mod tree;
mod view;
mod waiting;

use clap::error::ErrorKind;
use connection::carry_out;
use exit::conclude;
use llamactl_protocol::{Failure, Kind};
use output::{Format, Output};
use remote::Host;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = complete::answer_the_shell() {
        return status;
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match args::Cli::read(&words) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let mut output = Output::new(cli.global.format());
    let reach = match cli.global.reach() {
        Ok(reach) => reach,
        Err(failure) => return ExitCode::from(conclude(&mut output, Err(failure.into()))),
    };
    if let Some(host) = &reach.host {
        remote::name(Host::clone(host));
    }
    let command = commands::run(&mut output, &reach, cli.command);
    let outcome = carry_out(&reach.at_once, command).unwrap_or_else(|error| {
        Err(Failure::new(Kind::IoFailed, format!("cannot begin: {error}")).into())
    });
    let status = conclude(&mut output, outcome);
    // Nothing is left to close: a read of the terminal that still waits ends with the process.
    std::process::exit(i32::from(status))
}

/// Prints help, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let written = output::stdout::is_open().and_then(|()| error.print());
        let outcome = written.map_err(exit::Quit::from);
        return ExitCode::from(conclude(&mut Output::new(Format::default()), outcome));
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let is = |long: &str, short: &str| words.iter().any(|word| word == long || word == short);
    let json = is("--json", "--json");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        let _ = error.print();
    } else {
        let format = Format { json, quiet: is("--quiet", "-q"), ..Format::default() };
        Output::new(format).failure(&foreign::failure(error, &words));
    }
    ExitCode::from(Kind::Usage.exit_status())
}
