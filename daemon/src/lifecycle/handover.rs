//! What one program of the daemon leaves to the next one, which the same process executes.
//!
//! ```text
//!   before: --inherit=v2,listener=7,lock=8,state-lock=9,node=64:12,stop=no,lifeline.RUN=12 ─ exec ─╮
//!                               pid, descriptors and children stay the process's                   │
//!   after:  take each descriptor by its number ─▶ close what nobody knows ◀────────────────────────╯
//! ```
//!
//! The descriptors' numbers travel in an argument: no server inherits it, and there is nothing to
//! take out of the environment again.
//!
//! The argument is a contract between versions. A later program understands what an earlier one
//! wrote, for ever; also the first form, without names: `7,8,9,DEV,INO,no`. What it does not know it
//! leaves alone, and closes the descriptor. The other way round there is no contract: a program that
//! does not know `--check-state` knows neither names nor today's registry, and is refused before
//! anything is handed over (see `program`).

use crate::exporter::Left;
use crate::os::descriptors::{inherited, keep_on_exec, left_open};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::str::FromStr;

/// How the argument begins.
pub(super) const ARGUMENT: &str = "--inherit=";
/// The first field of an argument whose other fields have names.
const NAMED: &str = "v2";
const LIFELINE: &str = "lifeline.";

/// What is handed over. `D` is a descriptor: its number as it was written, or the open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover<D> {
    /// The socket that listens.
    pub listener: D,
    /// The file that the lock beside the socket is on.
    pub lock: D,
    /// The state directory, which the other lock is on.
    pub state_lock: D,
    /// Device and inode of the socket's node in its directory.
    pub node: (u64, u64),
    /// Whether the service manager made that node.
    pub from_manager: bool,
    /// An order to stop that came when there was no way back: to be obeyed first of all.
    pub stop: Option<PendingStop>,
    /// By run, the writing end of the pipe that its llama-server dies by when it is closed.
    pub lifelines: Vec<(String, D)>,
    /// Where the metrics are read.
    pub metrics: Option<Left<D>>,
    /// What a program of another version handed over besides.
    unknown: Vec<D>,
    /// Written in the first form, which did not say which lifelines there are.
    has_unnamed_lifelines: bool,
}

/// An order to stop that came while the daemon was being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingStop {
    /// Leave the servers running.
    pub keep_servers: bool,
    /// Somebody asked for it by name, so it shall stay stopped.
    pub on_purpose: bool,
}

impl PendingStop {
    fn word(stop: Option<PendingStop>) -> &'static str {
        match stop {
            None => "no",
            Some(PendingStop { keep_servers: false, on_purpose: false }) => "stop",
            Some(PendingStop { keep_servers: true, on_purpose: false }) => "keep",
            Some(PendingStop { keep_servers: false, on_purpose: true }) => "stop-for-good",
            Some(PendingStop { keep_servers: true, on_purpose: true }) => "keep-for-good",
        }
    }

    /// The order of a word; the outer `None` where it is none that this program knows.
    fn of(word: &str) -> Option<Option<PendingStop>> {
        let order = |keep_servers, on_purpose| Some(Some(PendingStop { keep_servers, on_purpose }));
        match word {
            "no" => Some(None),
            "stop" => order(false, false),
            "keep" => order(true, false),
            "stop-for-good" => order(false, true),
            "keep-for-good" => order(true, true),
            _ => None,
        }
    }
}

impl<D> Handover<D> {
    /// What there is to hand over, besides an order to stop and lifelines.
    pub(super) fn new(listener: D, lock: D, state_lock: D, node: (u64, u64)) -> Handover<D> {
        Handover {
            listener,
            lock,
            state_lock,
            node,
            from_manager: false,
            stop: None,
            lifelines: Vec::new(),
            metrics: None,
            unknown: Vec::new(),
            has_unnamed_lifelines: false,
        }
    }
}

impl Handover<RawFd> {
    /// Takes the descriptors. To be called early: what is marked to be closed at an exec by then is
    /// not taken for inherited.
    ///
    /// # Errors
    /// One of them is not open, or is this program's own.
    pub(super) fn take(&self) -> io::Result<Handover<OwnedFd>> {
        let take = |number: &RawFd| inherited(*number);
        let mut lifelines = Vec::new();
        for (run, number) in &self.lifelines {
            // One that is not there has nothing to keep alive.
            lifelines.extend(inherited(*number).ok().map(|lifeline| (run.clone(), lifeline)));
        }
        // One that is not there is made anew.
        let metrics = self.metrics.as_ref().and_then(|left| {
            let held = left.held.as_ref().map(|(lock, node)| Some((take(lock).ok()?, *node)));
            Some(Left { listener: take(&left.listener).ok()?, held: held.unwrap_or_default() })
        });
        let taken = Handover {
            lifelines,
            metrics,
            stop: self.stop,
            from_manager: self.from_manager,
            ..Handover::new(
                take(&self.listener)?,
                take(&self.lock)?,
                take(&self.state_lock)?,
                self.node,
            )
        };
        // Taken and dropped: closed.
        self.unknown.iter().for_each(|number| drop(inherited(*number)));
        if !self.has_unnamed_lifelines {
            return Ok(taken);
        }
        // Its program left nothing else open. Which server hangs on which does not matter: they are
        // to stay open until the daemon ends.
        let unnamed = |lifeline: OwnedFd| (format!("unnamed-{}", lifeline.as_raw_fd()), lifeline);
        Ok(Handover { lifelines: left_open()?.into_iter().map(unnamed).collect(), ..taken })
    }
}

impl<D: AsRawFd> Handover<D> {
    fn argument(&self) -> OsString {
        let Handover { listener, lock, state_lock, node: (device, inode), stop, .. } = self;
        let (listener, lock) = (listener.as_raw_fd(), lock.as_raw_fd());
        let (state_lock, stop) = (state_lock.as_raw_fd(), PendingStop::word(*stop));
        let mut argument = format!(
            "{ARGUMENT}{NAMED},listener={listener},lock={lock},state-lock={state_lock},\
             node={device}:{inode},stop={stop}"
        );
        if self.from_manager {
            argument += ",from-manager=yes";
        }
        if let Some(Left { listener, held }) = &self.metrics {
            argument += &format!(",metrics={}", listener.as_raw_fd());
            if let Some((lock, (device, inode))) = held {
                let lock = lock.as_raw_fd();
                argument += &format!(",metrics-lock={lock},metrics-node={device}:{inode}");
            }
        }
        for (run, lifeline) in &self.lifelines {
            argument += &format!(",{LIFELINE}{run}={}", lifeline.as_raw_fd());
        }
        argument.into()
    }
}

impl Handover<OwnedFd> {
    /// Lets the descriptors stay open in the program that is executed next; the argument by which
    /// it finds them.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn offer(&self) -> io::Result<OsString> {
        let Handover { listener, lock, state_lock, lifelines, metrics, .. } = self;
        [listener, lock, state_lock].into_iter().try_for_each(keep_on_exec)?;
        lifelines.iter().try_for_each(|(_, lifeline)| keep_on_exec(lifeline))?;
        if let Some(Left { listener, held }) = metrics {
            keep_on_exec(listener)?;
            held.iter().try_for_each(|(lock, _)| keep_on_exec(lock))?;
        }
        Ok(self.argument())
    }
}

impl FromStr for Handover<RawFd> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = match text.strip_prefix(NAMED) {
            Some(fields) => named(fields),
            None => positional(text),
        };
        read.ok_or("not what one daemon leaves to the next")
    }
}

/// The first form: `LISTENER,LOCK,STATE_LOCK,DEVICE,INODE,STOP`.
fn positional(text: &str) -> Option<Handover<RawFd>> {
    let fields: Vec<&str> = text.split(',').collect();
    let [listener, lock, state_lock, device, inode, stop] = fields[..] else { return None };
    let number = |field: &str| field.parse::<RawFd>().ok();
    let node = (device.parse().ok()?, inode.parse().ok()?);
    Some(Handover {
        stop: PendingStop::of(stop)?,
        has_unnamed_lifelines: true,
        ..Handover::new(number(listener)?, number(lock)?, number(state_lock)?, node)
    })
}

/// The form with names: `,NAME=VALUE` as often as needed, in any order.
fn named(fields: &str) -> Option<Handover<RawFd>> {
    let (mut listener, mut lock, mut state_lock, mut node) = (None, None, None, None);
    let (mut stop, mut lifelines, mut unknown) = (None, Vec::new(), Vec::new());
    let (mut from_manager, mut metrics) = (false, None);
    let (mut metrics_lock, mut metrics_node) = (None, None);
    for field in fields.strip_prefix(',')?.split(',') {
        let (name, value) = field.split_once('=')?;
        let number = || value.parse::<RawFd>().ok();
        match name {
            "listener" => listener = Some(number()?),
            "lock" => lock = Some(number()?),
            "state-lock" => state_lock = Some(number()?),
            "node" => node = Some(node_of(value)?),
            "metrics" => metrics = Some(number()?),
            "metrics-lock" => metrics_lock = Some(number()?),
            "metrics-node" => metrics_node = Some(node_of(value)?),
            "from-manager" => from_manager = value == "yes",
            // An order that is not known here is an order to stop all the same.
            "stop" => {
                let plain = PendingStop { keep_servers: false, on_purpose: false };
                stop = PendingStop::of(value).unwrap_or(Some(plain));
            }
            _ => match name.strip_prefix(LIFELINE) {
                Some(run) => lifelines.push((run.to_owned(), number()?)),
                None => unknown.extend(number()),
            },
        }
    }
    let required = Handover::new(listener?, lock?, state_lock?, node?);
    let held = metrics_lock.zip(metrics_node);
    let metrics = metrics.map(|listener| Left { listener, held });
    Some(Handover { stop, lifelines, unknown, from_manager, metrics, ..required })
}

/// `DEVICE:INODE`.
fn node_of(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Handover<RawFd> {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_left_to_the_next_reads_the_same() {
        let orders = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(keep_servers, on_purpose)| Some(PendingStop { keep_servers, on_purpose }));
        for stop in [None].into_iter().chain(orders) {
            let lifelines = vec![("r-1".to_owned(), 12), ("r-2".to_owned(), 13)];
            for from_manager in [false, true] {
                let lifelines = lifelines.clone();
                for held in [None, Some((15, (3, 4)))] {
                    let metrics = Some(Left { listener: 14, held });
                    let lifelines = lifelines.clone();
                    let new = Handover::new(7, 8, 9, (1, 2));
                    let left = Handover { stop, lifelines, from_manager, metrics, ..new };
                    let text = left.argument().into_string().unwrap();
                    assert_eq!(read(text.strip_prefix(ARGUMENT).unwrap()), left);
                }
            }
        }
    }

    /// These texts are what released programs wrote. They are never changed, only added to.
    #[test]
    fn what_any_earlier_program_wrote_is_understood() {
        let stop = |keep_servers, on_purpose| Some(PendingStop { keep_servers, on_purpose });
        for (word, stop) in [
            ("no", None),
            ("stop", stop(false, false)),
            ("keep", stop(true, false)),
            ("stop-for-good", stop(false, true)),
            ("keep-for-good", stop(true, true)),
        ] {
            let first = read(&format!("7,8,9,64,1311,{word}"));
            let expected = Handover { stop, ..Handover::new(7, 8, 9, (64, 1311)) };
            assert_eq!(first, Handover { has_unnamed_lifelines: true, ..expected.clone() });
            let second = format!("v2,listener=7,lock=8,state-lock=9,node=64:1311,stop={word}");
            assert_eq!(read(&second), expected);
            let run = "3f0e3a52-0d39-4b5c-9f1e-0c0a4b8e7d11";
            let lifelines = vec![(run.to_owned(), 12)];
            let with_lifeline = read(&format!("{second},lifeline.{run}=12"));
            assert_eq!(with_lifeline, Handover { lifelines, ..expected.clone() });
            for (written, held) in
                [("", None), (",metrics-lock=14,metrics-node=3:4", Some((14, (3, 4))))]
            {
                let with_metrics = read(&format!("{second},metrics=13{written}"));
                let metrics = Some(Left { listener: 13, held });
                assert_eq!(with_metrics, Handover { metrics, ..expected.clone() });
            }
        }
    }

    #[test]
    fn what_a_later_program_adds_is_closed_and_nonsense_is_refused() {
        let later = read("v2,node=1:2,gateway=11,lock=8,mode=fast,state-lock=9,listener=7");
        let expected = Handover { unknown: vec![11], ..Handover::new(7, 8, 9, (1, 2)) };
        assert_eq!(later, expected);
        for nonsense in [
            "",
            "7",
            "7,8,9,1,2",
            "7,8,9,1,2,no,4",
            "a,8,9,1,2,no",
            "7,8,9,1,2,x",
            "v2",
            "v2,listener=7,lock=8,state-lock=9",
            "v2,listener=x,lock=8,state-lock=9,node=1:2",
            "v3,listener=7,lock=8,state-lock=9,node=1:2",
        ] {
            assert!(nonsense.parse::<Handover<RawFd>>().is_err(), "{nonsense}");
        }
    }
}
