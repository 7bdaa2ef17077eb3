//! `llamactld`: reads the command line and runs the daemon.

use llamactl_protocol::{Failure, Kind};
use llamactld::config;
use llamactld::lifecycle::args::Args;
use llamactld::lifecycle::check_state::check_state;
use llamactld::lifecycle::check_up::check_up;
use llamactld::lifecycle::detach::{Readiness, Side, detach};
use llamactld::lifecycle::prepare::prepare;
use llamactld::lifecycle::restore::restore;
use llamactld::lifecycle::{own_log, serve};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = run(&Args::of_this_process());
    own_log::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = std::io::stderr();
            let mark = own_log::mark_of_error();
            let _ = writeln!(stderr, "{mark}llamactld: {}", failure.message);
            for hint in failure.hints.lines() {
                let _ = writeln!(stderr, "{mark}hint: {hint}");
            }
            ExitCode::from(failure.kind.exit_status())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.check_config {
        return check_config(args);
    }
    if let Some(state_dir) = &args.check_state {
        let report = check_state(state_dir)?;
        say(&(serde_json::to_string(&report).unwrap_or_default() + "\n"));
        return Ok(());
    }
    if args.check_up {
        say(&(serde_json::to_string(&check_up(args)?).unwrap_or_default() + "\n"));
        return Ok(());
    }
    if let Some(file) = &args.restore {
        let restored = restore(args, file.as_deref())?;
        say(&(serde_json::to_string(&restored).unwrap_or_default() + "\n"));
        return Ok(());
    }
    // In this order: what can be refused is refused in the foreground; the fork comes before the
    // first thread; the log is opened by the process that writes it.
    let prepared = prepare(args)?;
    let mut readiness = Readiness::nobody();
    if args.inherit.is_some() && args.detach {
        // In the background already; where it was started was only needed to read the arguments.
        let _ = std::env::set_current_dir("/");
    } else if args.detach {
        match detach()? {
            // Socket and lock are shared with the daemon now: dropping them here takes nothing
            // from it.
            Side::Parent(outcome) => return outcome,
            Side::Daemon(ours) => readiness = ours,
        }
    }
    let outcome = serve::try_threads()
        .and_then(|()| {
            own_log::start(&args.log_level, prepared.log())
                .map_err(|problem| Failure::new(Kind::InvalidValue, problem))
        })
        .and_then(|()| serve::run(prepared, &mut readiness));
    readiness.tell(outcome.as_ref().err());
    outcome
}

/// Says what holds; the refusal of what is wrong is the caller's to print.
fn check_config(args: &Args) -> Result<(), Failure> {
    let report = config::load(args.config.as_deref(), args.system)?;
    let text = match args.json {
        true => serde_json::to_string(&report).unwrap_or_default() + "\n",
        false => config::text(&report),
    };
    say(&text);
    Ok(())
}

/// Prints what was asked for. Whoever closed the pipe has read enough.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
