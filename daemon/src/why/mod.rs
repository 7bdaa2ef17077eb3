//! Why a server is as it is, in plain words: a function of the server, its last events and the
//! time.
//!
//! ```text
//!   Server ──────▶ summary   what happened last, how long ago
//!   last events ─▶ next      whether and when it is started again, after how many failures
//!   now ─────────▶ hints     what to do; evidence, remarks beside it
//! ```
//!
//! The server says how it is; only where it does not say enough are events asked. They may come
//! from an older daemon, whose `details` were the cause itself.

use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::{Event, EventKind, Subject};
use llamactl_protocol::server::{HEALTHY, QueueReason, Server, State, Why};
use llamactl_protocol::{Actor, Hint};
use serde_json::Value;

/// Why `server` is as it is. `events` are its last ones, oldest first, with the daemon's among
/// them; `now_ms` is the time of the question.
#[must_use]
pub fn explain(server: Server, events: Vec<Event>, now_ms: i64) -> Why {
    let scene = Scene { server: &server, events: &events, now_ms };
    let last = scene.last_change();
    let cause = scene.cause();
    Why {
        summary: scene.summary(),
        at_ms: last.map_or(server.since_ms, |event| event.at_ms),
        by: scene.by(),
        evidence: cause.map(|cause| cause.evidence.clone()).unwrap_or_default(),
        hints: scene.hints(),
        next: scene.next(),
        failures: scene.failures(),
        remarks: scene.remarks(),
        events: events.clone(),
        server: server.clone(),
    }
}

/// The cause in an event's details: under `cause`, or the details themselves.
#[must_use]
pub fn cause_of(event: &Event) -> Option<Cause> {
    let details = event.details.as_ref()?;
    let cause = details.get("cause").unwrap_or(details);
    serde_json::from_value(cause.clone()).ok()
}

/// What is known when the question is asked.
struct Scene<'a> {
    server: &'a Server,
    events: &'a [Event],
    now_ms: i64,
}

impl Scene<'_> {
    /// The last event about the server itself, rather than about its settings or the daemon.
    fn last_change(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.kind.subject() == Subject::Server)
    }

    fn last_of(&self, kind: &EventKind) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.kind == *kind)
    }

    /// Why it is so, where it is not plainly as asked.
    fn cause(&self) -> Option<&Cause> {
        self.server.cause.as_ref().filter(|_| !matches!(self.server.state, State::Ready))
    }

    fn has_failed(&self) -> bool {
        matches!(self.server.state, State::Failed | State::Backoff)
    }

    fn wants_to_run(&self) -> bool {
        self.server.is_to_run()
    }

    fn ago(&self, at_ms: i64) -> String {
        match self.now_ms.saturating_sub(at_ms) {
            ..1_000 => "just now".to_owned(),
            ms => format!("{} ago", span(ms)),
        }
    }

    fn lasted(&self) -> String {
        span(self.now_ms.saturating_sub(self.server.since_ms))
    }

    fn summary(&self) -> String {
        let (server, name) = (self.server, &self.server.model);
        match server.state {
            State::Stopped => self.stopped(),
            State::Queued => match server.queue {
                Some(queue) => {
                    let waits = match queue.reason {
                        QueueReason::Loads => "other models are being loaded first",
                        QueueReason::Memory => "others hold the memory it needs",
                        QueueReason::Recovery => {
                            "the daemon still looks for servers that run already"
                        }
                    };
                    let place = ordinal(queue.position);
                    format!("{name} waits for its turn to start, as the {place} in line: {waits}.")
                }
                None => format!("{name} waits for its turn to start."),
            },
            State::Starting => {
                format!("{name} is being started, for {} now.", self.lasted())
            }
            State::Loading => {
                let far = match server.progress_ratio {
                    Some(ratio) => format!(", {:.0} % done", ratio * 100.0),
                    None => String::new(),
                };
                format!("{name} is loading its model, for {} now{far}.", self.lasted())
            }
            State::Ready => {
                format!("{name} has been ready for {}{}.", self.lasted(), self.returned())
            }
            State::Sleeping => format!(
                "{name} unloaded its model {} because nobody used it; the next request loads it again.",
                self.ago(server.since_ms)
            ),
            State::Stopping => format!("{name} is being stopped, for {} now.", self.lasted()),
            State::Backoff | State::Failed => {
                let failed = match &server.cause {
                    Some(cause) => {
                        format!(
                            "{name} failed {}: {}",
                            self.ago(cause.at_ms),
                            sentence(&cause.message)
                        )
                    }
                    None => format!("{name} failed {}.", self.ago(server.since_ms)),
                };
                match self.life() {
                    Some(life) => format!("{failed} {life}"),
                    None => failed,
                }
            }
            State::Stuck => {
                let pid = server.run.as_ref().and_then(|run| run.pid);
                let process =
                    pid.map_or_else(|| "its process".to_owned(), |pid| format!("process {pid}"));
                format!(
                    "{name} does not end even when killed: the kernel has been holding {process} for {}.",
                    self.lasted()
                )
            }
            State::Adopting => format!(
                "{name} was left running by an earlier daemon; this one is looking whether it answers."
            ),
        }
    }

    fn stopped(&self) -> String {
        let (server, name) = (self.server, &self.server.model);
        if server.run.is_none() && self.last_change().is_none() {
            return format!("{name} was never started.");
        }
        let ended = server.run.as_ref().and_then(|run| run.ended_at_ms).unwrap_or(server.since_ms);
        match &server.cause {
            Some(cause) if cause.code == CauseCode::Requested => {
                // `stopped as asked: it ended when asked (who)`: who is told apart.
                let message = unpunctuated(cause.message.split(" (").next().unwrap_or_default());
                let how = message.split_once(": ").map_or("", |(_, how)| how);
                let how = how.strip_prefix("it ended when asked").map_or(how, |more| {
                    // No more than was to be expected; what was cut is told.
                    more.strip_prefix("; ").unwrap_or_default()
                });
                let how = if how.is_empty() { String::new() } else { format!("; {how}") };
                format!("{name} was stopped as asked {}{how}.", self.ago(cause.at_ms))
            }
            Some(cause) => format!(
                "{name} is stopped. Its last run ended {}: {}",
                self.ago(cause.at_ms),
                sentence(&cause.message)
            ),
            None => format!("{name} has been stopped since {}.", self.ago(ended)),
        }
    }

    /// How a server that is ready came to be so, where that was not simply a start.
    fn returned(&self) -> String {
        let restarts = self.server.restarts;
        if restarts == 0 {
            return String::new();
        }
        let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
        let why = self
            .last_of(&EventKind::ServerFailed)
            .or_else(|| self.last_of(&EventKind::ServerBackoff))
            .and_then(cause_of)
            .map(|cause| {
                format!(
                    ", last because it failed {}: {}",
                    self.ago(cause.at_ms),
                    unpunctuated(&cause.message)
                )
            });
        format!("; it was restarted {times} since it was asked for{}", why.unwrap_or_default())
    }

    /// How long the run lasted that failed.
    fn life(&self) -> Option<String> {
        let run = self.server.run.as_ref()?;
        let ended = run.ended_at_ms?;
        Some(match run.ready_at_ms {
            Some(ready) => format!("It had been ready for {}.", span(ended.saturating_sub(ready))),
            None => "It had not been ready yet.".to_owned(),
        })
    }

    /// Who asked for the state that it is in, or was to be in: what happened to it since, nobody asked for.
    fn by(&self) -> Option<Actor> {
        let desired = self.server.desired.as_ref().map(|desired| desired.by.clone());
        let last = || self.last_change().map(|event| event.by.clone());
        // It was to run, and went down with the daemon.
        if self.server.state == State::Stopped && self.wants_to_run() {
            return last().or(desired);
        }
        desired.or_else(last)
    }

    fn next(&self) -> Option<String> {
        let failures = self.failures();
        let so_far = match failures {
            0 | 1 => String::new(),
            n => format!(" It has failed {n} times in a row."),
        };
        match self.server.state {
            State::Backoff => Some(match self.server.restart_at_ms {
                Some(at_ms) if at_ms > self.now_ms => {
                    format!("It will be started again in {}.{so_far}", span(at_ms - self.now_ms))
                }
                _ => format!("It will be started again at once.{so_far}"),
            }),
            State::Failed => {
                Some(format!("It will not be started again until someone does.{so_far}"))
            }
            State::Stopped if self.wants_to_run() => Some(
                "It was wanted to run before the machine or the daemon was stopped; it stays stopped \
                 until someone starts it."
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Failures in a row; one that has failed has done so at least once, whatever events are left.
    fn failures(&self) -> u32 {
        self.failures_told().max(u32::from(self.has_failed()))
    }

    /// The same by the events: as the daemon counted them, or else counted here.
    fn failures_told(&self) -> u32 {
        let healthy_ms = i64::try_from(HEALTHY.as_millis()).unwrap_or(i64::MAX);
        let mut count = 0;
        let mut later_ms = self.now_ms;
        for event in self.events.iter().rev() {
            match event.kind {
                EventKind::ServerBackoff | EventKind::ServerFailed => {
                    let told = event.details.as_ref().and_then(|details| details.get("failures"));
                    if let Some(told) = told.and_then(Value::as_u64) {
                        return u32::try_from(told).unwrap_or(u32::MAX).saturating_add(count);
                    }
                    // Waiting to try again is no second failure.
                    count += u32::from(event.kind == EventKind::ServerFailed);
                    later_ms = event.at_ms;
                }
                EventKind::ServerReady | EventKind::ServerAdopted
                    if later_ms.saturating_sub(event.at_ms) >= healthy_ms =>
                {
                    return count;
                }
                EventKind::ServerStopped => return count,
                EventKind::ServerStarting
                    if !matches!(event.by, Actor::Policy | Actor::Process) =>
                {
                    return count;
                }
                _ => {}
            }
        }
        count
    }

    fn hints(&self) -> Vec<Hint> {
        let (server, name) = (self.server, self.server.model.as_str());
        let mut hints = self.cause().map(|cause| cause.hints.0.clone()).unwrap_or_default();
        let llamactl = |text: &str, verb: &str| Hint::run(text, ["llamactl", verb, name]);
        match server.state {
            State::Failed => {
                hints.push(llamactl("see all it said", "logs"));
                hints.push(llamactl("try again", "start"));
            }
            State::Backoff => {
                hints.push(llamactl("see all it said", "logs"));
                hints.push(llamactl("try at once", "start"));
                hints.push(llamactl("give up", "stop"));
            }
            State::Stopped => hints.push(llamactl("start it", "start")),
            State::Stuck => {
                let pid = server.run.as_ref().and_then(|run| run.pid);
                let stack = |pid| ["cat".to_owned(), format!("/proc/{pid}/stack")];
                hints.extend(pid.map(|pid| Hint::run("see what it waits for", stack(pid))));
                hints.push(Hint::to(
                    "such a process waits for a disk, a network file system or a GPU driver: see \
                     dmesg; it ends when that answers, or at the next boot",
                ));
            }
            State::Ready | State::Sleeping if !server.pending.is_empty() => {
                hints.push(llamactl("bring the changed settings into force", "restart"));
            }
            _ => {}
        }
        hints
    }

    fn remarks(&self) -> Vec<String> {
        let server = self.server;
        let mut remarks = Vec::new();
        remarks.extend(server.warnings.iter().map(|warning| sentence(&warning.message)));
        if !server.pending.is_empty() {
            remarks.push(format!(
                "Changed since it was started, and not in force yet: {}.",
                server.pending.join(", ")
            ));
        }
        if !server.overrides.is_empty() {
            let keys: Vec<&str> = server.overrides.keys().map(String::as_str).collect();
            remarks.push(format!("Set for this run alone: {}.", keys.join(", ")));
        }
        let this_run = server.run.as_ref().map(|run| run.id.as_str());
        if !self.has_failed()
            && let Some(event) = self.last_of(&EventKind::ServerAdopted)
            && this_run.is_some()
            && event.run_id.as_deref() == this_run
        {
            remarks.push(format!(
                "The daemon was replaced meanwhile: this one took the running server over {}.",
                self.ago(event.at_ms)
            ));
        }
        if server.state == State::Stopped || self.has_failed() {
            remarks.extend(self.changed_since());
        }
        remarks
    }

    /// The settings were changed after the run that failed or ended began.
    fn changed_since(&self) -> Option<String> {
        let run = self.server.run.as_ref()?;
        let set =
            self.last_of(&EventKind::ModelSet).filter(|event| event.at_ms > run.started_at_ms)?;
        Some(format!(
            "Its settings were changed {}, after that run had begun.",
            self.ago(set.at_ms)
        ))
    }
}

/// A time span in one unit, as people say it.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0 => format!("{} ms", ms.max(0)),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn unpunctuated(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

/// The text with a stop at its end.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    match text.chars().last() {
        Some('.' | '!' | '?' | '…') => text.to_owned(),
        _ => format!("{text}."),
    }
}

#[cfg(test)]
mod tests;
