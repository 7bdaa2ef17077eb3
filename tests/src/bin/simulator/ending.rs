//! How processes end, and what the policy must make of it: a table beside the daemon's classifier.

use fastrand::Rng;
use llamactld::logs::classify::Exit;
use llamactld::supervisor::core::driver::Explanation;
use llamactld::supervisor::core::restart::{Curable, Ended};

/// What is known of an end besides how the process exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Nothing.
    Nothing,
    /// Its log names an option that the build does not know.
    BadFlag,
    /// Its log says that the port is taken.
    PortTaken,
    /// The kernel has counted a kill for want of memory.
    OutOfMemory,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    exit: Exit,
    says: Says,
}

/// It obeyed.
pub(crate) const CLEAN: End = End { exit: Exit::Code(0), says: Says::Nothing };
/// It was killed.
pub(crate) const KILLED: End = End { exit: Exit::Signal(9), says: Says::Nothing };
/// Nobody knows.
const UNKNOWN: End = End { exit: Exit::Unknown, says: Says::Nothing };

/// What an end depends on besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// It was ready before.
    pub(crate) was_ready: bool,
    /// It listened where another port would do as well.
    pub(crate) any_port: bool,
    /// It had just been taken over.
    pub(crate) adopting: bool,
}

pub(crate) fn any_end(rng: &mut Rng) -> End {
    let (exit, says) = match rng.u8(0..12) {
        0 | 1 => (Exit::Code(1), Says::Nothing),
        2 | 3 => (Exit::Signal(11), Says::Nothing),
        4 => (Exit::Signal(9), Says::Nothing),
        5 => (Exit::Code(0), Says::Nothing),
        6 => (Exit::Signal(15), Says::Nothing),
        7 | 8 => (Exit::Code(1), Says::PortTaken),
        9 => (Exit::Code(1), Says::BadFlag),
        10 => (Exit::Signal(4), Says::Nothing),
        _ => (Exit::Signal(9), Says::OutOfMemory),
    };
    End { exit, says }
}

impl End {
    /// What is found out about it; `child`: its exit can be told.
    pub(crate) fn explanation(this: Option<End>, child: bool) -> Explanation {
        let end = this.unwrap_or(UNKNOWN);
        let tail = match end.says {
            Says::BadFlag => vec!["error: invalid argument: --frobnicate".to_owned()],
            Says::PortTaken => {
                vec!["couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 9000".to_owned()]
            }
            Says::Nothing | Says::OutOfMemory => vec![],
        };
        Explanation {
            exit: if child { end.exit } else { Exit::Unknown },
            tail,
            oom_kill_counted: child.then_some(end.says == Says::OutOfMemory),
            last_written_ms: None,
            address_taken: false,
            now: None,
        }
    }

    /// What the policy must make of what was found out.
    pub(crate) fn of(explanation: &Explanation, circumstances: Circumstances) -> Ended {
        let Circumstances { was_ready, any_port, adopting } = circumstances;
        let exit = explanation.exit;
        let orderly = matches!(exit, Exit::Code(0) | Exit::Signal(15));
        let line = explanation
            .tail
            .first()
            .filter(|_| !was_ready && !orderly && !matches!(exit, Exit::Signal(9)));
        let starved = explanation.oom_kill_counted == Some(true) && exit == Exit::Signal(9);
        let curable = match line {
            Some(line) if line.starts_with("error: invalid argument") => Curable::No,
            Some(_) if any_port => Curable::Once,
            Some(_) => Curable::No,
            None if exit == Exit::Signal(4) || starved && !was_ready => Curable::No,
            None => Curable::Yes,
        };
        Ended { curable, clean: orderly && !adopting }
    }
}
