//! Signals are orders.
//!
//! ```text
//!   TERM, INT ─▶ stop; a second one ends the process at once
//!   HUP       ─▶ the program of now takes over; in the foreground at a terminal it means stop
//! ```

use super::own_log;
use super::program::Program;
use crate::api::app::StopSwitch;
use llamactl_protocol::{Actor, Failure, Kind};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// The first TERM or INT is an order to stop, the second ends the process. HUP is an order to let
/// the program of now take over; but to a daemon whose log goes to a terminal it says that the
/// terminal was closed, which stops it.
pub(super) fn obey(
    stop: &StopSwitch,
    program: &Program,
    state_dir: PathBuf,
    in_foreground: bool,
) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Kind::IoFailed, format!("the daemon cannot receive signals: {error}"))
        })
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let at_terminal = in_foreground && io::stderr().is_terminal();
    let (stop, program) = (stop.clone(), program.clone());
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => {
                    if at_terminal {
                        "SIGHUP"
                    } else {
                        reload(&stop, &program, &state_dir).await;
                        continue;
                    }
                }
            };
            signals += 1;
            if signals > 1 {
                tracing::warn!(
                    name,
                    "a second signal: ending at once; servers that still run are left to the next daemon"
                );
                own_log::flush();
                std::process::exit(1);
            }
            stop.order(false, false, Actor::Signal { signal: name.to_owned() });
        }
    });
    Ok(())
}

/// What SIGHUP asks for.
async fn reload(stop: &StopSwitch, program: &Program, state_dir: &Path) {
    let (trial, state_dir) = (program.clone(), state_dir.to_owned());
    match tokio::task::spawn_blocking(move || trial.try_out(&state_dir)).await {
        Ok(Ok(trial)) => {
            stop.restart(Actor::Signal { signal: "SIGHUP".to_owned() }, trial.version);
        }
        Ok(Err(failure)) => tracing::error!(%failure, "SIGHUP: the daemon goes on as it was"),
        Err(error) => tracing::error!(%error, "SIGHUP: the daemon goes on as it was"),
    }
}
