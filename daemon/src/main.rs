//! `llamactld`: reads the command line and runs the daemon.

use clap::Parser as _;
use llamactl_protocol::{Failure, Kind};
use llamactld::args::Args;
use llamactld::daemon::{self, Ready};
use llamactld::detach::{Herald, Side, detach};
use llamactld::own_log;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "llamactld: {}", failure.message);
            if let Some(hint) = &failure.hint {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::from(failure.kind.exit_status())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    // In this order: what can be refused is refused in the foreground; the fork comes before the
    // first thread; the log is opened by the process that writes it.
    let ready = Ready::prepare(args)?;
    let mut herald = Herald::nobody();
    if args.detach {
        match detach()? {
            // Socket and lock are shared with the daemon now: dropping them here takes nothing
            // from it.
            Side::Parent(outcome) => return outcome,
            Side::Daemon(ours) => herald = ours,
        }
    }
    let outcome = own_log::start(&args.log_level, ready.log())
        .map_err(|problem| Failure::new(Kind::InvalidValue, problem))
        .and_then(|()| daemon::run(ready, &mut herald));
    herald.tell(outcome.as_ref().err());
    outcome
}
