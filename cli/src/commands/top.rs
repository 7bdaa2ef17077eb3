//! `llamactl top`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::look::Look;
use crate::output::time::{Clock, now_ms};
use crate::top::frame::draw;
use crate::top::sources::Sources;
use crate::top::state::{Event, Key, Top, Wish};
use crate::top::terminal::{Input, Terminal, give_back, input};
use clap::Args;
use llamactl_protocol::{Failure, Hint, Kind};
use rustix::process::{Signal, getpid, kill_process};
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Watch servers, GPUs and logs live, and act on them
///
/// The machine and its GPUs with what they did in the last minutes, all models with their servers, and
/// the log of the one that is selected. Keys: up and down choose a server, s starts it, x stops it,
/// r restarts it, w tells why it is as it is, l shows its log alone, / filters by name, ? lists all keys,
/// q quits. It lives through a restart of the daemon.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl top",
    "llamactl top --color never",
    "llamactl ps --json; llamactl metrics -f --json   # for programs";
    "0 quit  2 not at a terminal  6 daemon unreachable, or stopped with daemon stop  130 interrupted"
))]
pub(crate) struct TopArgs {}

/// At most a frame in this time of what came by itself, and after a key.
const PACE: Duration = Duration::from_millis(100);
const PACE_OF_KEYS: Duration = Duration::from_millis(20);
/// Shows the screen until the person has seen enough.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: TopArgs) -> Outcome {
    if output.json || output.quiet || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(no_terminal(output.json || output.quiet).into());
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return Err(no_terminal(false).into());
    }
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let sources = Sources::open(&daemon, now_ms()).await?;
    drop(daemon);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let top = Top::new(host, now_ms());
    let terminal = Terminal::take()?;
    let screen =
        Screen { top, sources, terminal, look: output.look, clock: Clock::local(), went_on: false };
    screen.run().await
}

fn no_terminal(is_for_programs: bool) -> Failure {
    let text = match is_for_programs {
        true => "top is a screen for people, without --json and -q",
        false => "top needs a terminal on stdin and stdout",
    };
    Failure::new(Kind::Usage, text)
        .hint(Hint::run("the servers now", ["llamactl", "ps"]))
        .hint(Hint::run("each sample as it is taken", ["llamactl", "metrics", "-f"]))
}

/// Everything that is joined here.
struct Screen {
    top: Top,
    sources: Sources,
    terminal: Terminal,
    look: Look,
    clock: Clock,
    /// It went on by itself, and will be told so.
    went_on: bool,
}

impl Screen {
    async fn run(mut self) -> Outcome {
        let mut input = input();
        let panics = std::env::var_os("LLAMACTL_TEST_PANIC").is_some();
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signals = Signals::new()?;
        let (mut drawn_at, mut draw_at) = (None::<Instant>, Some(Instant::now()));
        loop {
            self.sources.follow_log(self.top.wanted_log());
            let (mut pace, mut wish) = (PACE, None);
            let due = draw_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                signal = signals.next() => wish = Some(signal),
                () = sleep_until(due), if draw_at.is_some() => {
                    let began = Instant::now();
                    self.show()?;
                    // Where a frame takes long to get through, as much time is left to others.
                    let ended = Instant::now();
                    (drawn_at, draw_at) = (Some(ended + (ended - began)), None);
                    continue;
                }
                input = input.recv() => match input {
                    Some(Input::Key(Key::Char('!'))) if panics => fault_on_purpose(),
                    Some(Input::Key(key)) => {
                        (pace, wish) = (PACE_OF_KEYS, self.top.step(Event::Key(key)).map(Told::Wish));
                    }
                    Some(Input::Resized) => pace = PACE_OF_KEYS,
                    // The terminal is gone.
                    None => return Err(Quit::ClosedPipe),
                },
                told = self.sources.next() => self.take(told?),
                _ = ticks.tick() => {
                    self.top.step(Event::Tick(now_ms()));
                }
            }
            if let Some(wish) = wish
                && let Some(status) = self.carry_out(wish)?
            {
                return if status == 0 { Ok(()) } else { Err(Quit::Told(status)) };
            }
            let next = drawn_at.map_or_else(Instant::now, |at| at + pace);
            draw_at = Some(draw_at.map_or(next, |at| at.min(next)));
        }
    }

    fn show(&mut self) -> Outcome {
        let area = self.terminal.area().map_err(gone)?;
        let frame = draw(&mut self.top, &self.look, &self.clock, area);
        self.terminal.show(frame).map_err(gone)
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            let is_back = matches!(event, Event::Away(false));
            if let Some(Wish::List) = self.top.step(event) {
                self.sources.list();
            }
            if is_back {
                self.sources.look(self.top.now_ms);
                self.sources.list();
                if self.top.log.model_id.is_none() {
                    self.sources.forget_log();
                }
            }
        }
    }

    /// Does what is wished for; the status to end with, if it is the end.
    fn carry_out(&mut self, told: Told) -> Result<Option<u8>, Quit> {
        match told {
            Told::End(status) => return Ok(Some(status)),
            Told::Wish(Wish::Quit) => return Ok(Some(0)),
            Told::Wish(Wish::Interrupt) => return Ok(Some(Kind::Interrupted.exit_status())),
            Told::Stop | Told::Wish(Wish::Suspend) => {
                give_back();
                // It goes on behind this line when it is told to, which comes as a signal too.
                let _ = kill_process(getpid(), Signal::STOP);
                self.terminal.take_again().map_err(gone)?;
                self.went_on = true;
            }
            Told::Continued if std::mem::take(&mut self.went_on) => {}
            Told::Continued => self.terminal.take_again().map_err(gone)?,
            Told::Wish(Wish::Redraw) => self.terminal.forget().map_err(gone)?,
            Told::Wish(Wish::Ask(verb, model)) => self.sources.ask(verb, model),
            Told::Wish(Wish::Why(model)) => self.sources.why(model),
            Told::Wish(Wish::List) => self.sources.list(),
        }
        Ok(None)
    }
}

/// For the test that a fault of ours leaves the terminal as it was.
#[allow(clippy::panic)]
fn fault_on_purpose() {
    panic!("a fault on purpose (LLAMACTL_TEST_PANIC)");
}

/// Nobody is left to tell that the terminal has gone.
fn gone(_: io::Error) -> Quit {
    Quit::ClosedPipe
}

/// What a signal or a key says.
enum Told {
    Wish(Wish),
    /// It is to end, with this status.
    End(u8),
    /// It is to stand still.
    Stop,
    /// It stood still, and somebody else had the terminal meanwhile.
    Continued,
}

/// Signals, in the order in which they come.
struct Signals(UnboundedReceiver<SignalKind>);

impl Signals {
    fn new() -> Result<Signals, Quit> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let kinds = [
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::from_raw(Signal::TSTP.as_raw()),
            SignalKind::from_raw(Signal::CONT.as_raw()),
        ];
        for kind in kinds {
            let mut stream = signal(kind)?;
            let sender = sender.clone();
            tokio::task::spawn(async move {
                while stream.recv().await.is_some() && sender.send(kind).is_ok() {}
            });
        }
        Ok(Signals(receiver))
    }

    async fn next(&mut self) -> Told {
        let Some(kind) = self.0.recv().await else { return std::future::pending().await };
        match kind.as_raw_value() {
            raw if raw == Signal::TSTP.as_raw() => Told::Stop,
            raw if raw == Signal::CONT.as_raw() => Told::Continued,
            raw if raw == Signal::INT.as_raw() => Told::End(Kind::Interrupted.exit_status()),
            raw => Told::End(128_u8.saturating_add(u8::try_from(raw).unwrap_or(0))),
        }
    }
}
