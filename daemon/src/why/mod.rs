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
use llamactl_protocol::prose::{between, clause, listed, sentence};
use llamactl_protocol::server::{HEALTHY, QueueReason, Server, State, Why};
use llamactl_protocol::warning::{Level, WarningCode};
use llamactl_protocol::{Actor, Hint};
use serde_json::Value;

/// Why `server` is as it is. `others` are the servers beside it, `events` its last ones, oldest
/// first, with the daemon's among them; `now_ms` is the time of the question.
#[must_use]
pub fn explain(server: Server, others: &[Server], events: Vec<Event>, now_ms: i64) -> Why {
    let scene = Scene { server: &server, others, events: &events, now_ms };
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
    others: &'a [Server],
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

    /// What is to be said of it beside its name, its state and since when.
    fn summary(&self) -> String {
        let server = self.server;
        match server.state {
            State::Stopped => self.stopped(),
            State::Queued => self.queued(),
            State::Starting => "It is starting, and does not answer yet.".to_owned(),
            State::Loading => match server.progress_ratio {
                Some(ratio) if ratio < 0.995 => {
                    format!("It is loading the model: {:.0}%.", ratio * 100.0)
                }
                Some(_) => "It has loaded the model and is preparing the context.".to_owned(),
                None => "It is loading the model.".to_owned(),
            },
            State::Ready => self.ready(),
            State::Sleeping => {
                "It unloaded its model because nobody used it; the next request loads it."
                    .to_owned()
            }
            State::Stopping => "It was told to stop, and has not ended yet.".to_owned(),
            State::Backoff | State::Failed => {
                let cause = server.cause.as_ref().map(|cause| sentence(&clause(&cause.message)));
                let said = [cause, self.life()].into_iter().flatten().collect::<Vec<_>>();
                if said.is_empty() { "It failed.".to_owned() } else { said.join(" ") }
            }
            State::Stuck => {
                let pid = server.run.as_ref().and_then(|run| run.pid);
                let process = pid.map_or("its process".to_owned(), |pid| format!("process {pid}"));
                format!("The kernel does not end {process}: it waits for a disk or a driver.")
            }
            State::Adopting => {
                "It was left running by an earlier daemon; this one looks whether it answers."
                    .to_owned()
            }
        }
    }

    fn queued(&self) -> String {
        let loading = |server: &&Server| matches!(server.state, State::Starting | State::Loading);
        let loading: Vec<String> = self
            .others
            .iter()
            .filter(loading)
            .map(|server| match server.progress_ratio {
                Some(ratio) => format!("{} ({:.0}%)", server.model, ratio * 100.0),
                None => server.model.clone(),
            })
            .collect();
        let limit = self.server.queue.and_then(|queue| queue.limit);
        let limit = limit.map(|limit| format!("; max_loading is {limit}")).unwrap_or_default();
        match (self.server.queue.map(|queue| queue.reason), loading.as_slice()) {
            (Some(QueueReason::Loads), [one]) => {
                format!("It waits to load: {one} is loading{limit}.")
            }
            (Some(QueueReason::Loads), [_, _, ..]) => {
                format!("It waits to load: {} are loading{limit}.", listed(&loading))
            }
            (Some(QueueReason::Loads), []) | (None, _) => {
                "It waits to load: other models are loading.".to_owned()
            }
            (Some(QueueReason::Memory), _) => "It waits for memory that others hold.".to_owned(),
            (Some(QueueReason::Recovery), _) => {
                "It waits until the daemon has found the servers that run already.".to_owned()
            }
        }
    }

    fn stopped(&self) -> String {
        let server = self.server;
        if server.run.is_none() && self.last_change().is_none() {
            return "It was never started.".to_owned();
        }
        match &server.cause {
            Some(cause) if cause.code == CauseCode::Requested => {
                // `stopped as asked: it ended when asked (who)`: who is told here.
                let message = clause(cause.message.split(" (").next().unwrap_or_default());
                let how = message.split_once(": ").map_or("", |(_, how)| how);
                let how = how.strip_prefix("it ended when asked").map_or(how, |more| {
                    // No more than was to be expected; what was cut is told.
                    more.strip_prefix("; ").unwrap_or_default()
                });
                let how = if how.is_empty() { String::new() } else { format!("; {how}") };
                match self.by() {
                    Some(by) => format!("Stopped by {by}{how}."),
                    None => format!("Stopped on request{how}."),
                }
            }
            Some(cause) => format!("Its last run ended: {}", clause(&cause.message) + "."),
            None => "It is not running.".to_owned(),
        }
    }

    fn ready(&self) -> String {
        let server = self.server;
        let silent = server.warnings.iter().find(|it| it.code == WarningCode::NotAnswering);
        if let Some(silent) = silent {
            let was = silent.since_ms.map(|since| between(server.since_ms, since));
            let was = was.map(|was| format!("It was ready for {was}. ")).unwrap_or_default();
            let next = match silent.until_ms {
                Some(at_ms) => {
                    let left = between(self.now_ms, at_ms);
                    format!("It is stopped and started again in {left} (hang-timeout).")
                }
                None => "It is not restarted for that: hang-timeout is off.".to_owned(),
            };
            return was + &next;
        }
        let worst = server.warnings.iter().find(|warning| warning.level == Level::Warning);
        match (self.returned(), worst) {
            (Some(returned), _) => returned,
            (None, Some(worst)) => sentence(&worst.message),
            (None, None) => "It answers requests.".to_owned(),
        }
    }

    /// How often a server that is ready was restarted by itself, if it was.
    fn returned(&self) -> Option<String> {
        let times = match self.server.restarts {
            0 => return None,
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            n => format!("{n} times"),
        };
        let last = self
            .last_of(&EventKind::ServerFailed)
            .or_else(|| self.last_of(&EventKind::ServerBackoff))
            .and_then(cause_of)
            .map(|cause| {
                let ago = between(cause.at_ms, self.now_ms);
                format!(", last {ago} ago: {}", clause(&cause.message))
            });
        Some(format!("It was restarted {times} by itself{}.", last.unwrap_or_default()))
    }

    /// How long the run lasted that failed.
    fn life(&self) -> Option<String> {
        let run = self.server.run.as_ref()?;
        let ended = run.ended_at_ms?;
        Some(match run.ready_at_ms {
            Some(ready) => format!("It was ready for {}.", between(ready, ended)),
            None => "It never became ready.".to_owned(),
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
        let so_far = match self.failures() {
            0 | 1 => String::new(),
            n => format!(" {n} failures in a row."),
        };
        match self.server.state {
            State::Backoff => Some(match self.server.restart_at_ms {
                Some(at_ms) if at_ms > self.now_ms => {
                    format!("It starts again in {}.{so_far}", between(self.now_ms, at_ms))
                }
                _ => format!("It starts again at once.{so_far}"),
            }),
            State::Failed => Some(format!("It is not started again by itself.{so_far}")),
            State::Stopped if self.wants_to_run() => Some(
                "It was to run when the machine or the daemon was stopped; it stays stopped until \
                 someone starts it."
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
                // One that was refused before there was a process wrote nothing.
                if server.run.as_ref().is_some_and(|run| run.pid.is_some()) {
                    hints.push(llamactl("all it wrote", "logs"));
                }
                hints.push(llamactl("start it", "start"));
            }
            State::Backoff => {
                hints.push(llamactl("all it wrote", "logs"));
                hints.push(llamactl("start it now", "start"));
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
                hints.push(llamactl("apply the changed settings", "restart"));
            }
            _ => {}
        }
        hints
    }

    fn remarks(&self) -> Vec<String> {
        let server = self.server;
        let mut remarks = Vec::new();
        if !server.pending.is_empty() {
            let keys: Vec<&str> = server.pending.iter().map(String::as_str).collect();
            let were = if keys.len() == 1 { "was" } else { "were" };
            remarks.push(format!("{} {were} changed after it started", listed(&keys)));
        }
        if !server.overrides.is_empty() {
            let keys: Vec<&str> = server.overrides.keys().map(String::as_str).collect();
            remarks.push(format!("for this run only: {}", keys.join(", ")));
        }
        let this_run = server.run.as_ref().map(|run| run.id.as_str());
        if !self.has_failed()
            && let Some(event) = self.last_of(&EventKind::ServerAdopted)
            && this_run.is_some()
            && event.run_id.as_deref() == this_run
        {
            remarks
                .push(format!("adopted by this daemon {} ago", between(event.at_ms, self.now_ms)));
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
            "its settings were changed {} ago, after that run began",
            between(set.at_ms, self.now_ms)
        ))
    }
}

#[cfg(test)]
mod tests;
