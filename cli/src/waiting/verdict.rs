//! Whether a wait is over: a function of what is waited for and the server's state.

use crate::output::time::now_ms;
use crate::output::units;
use crate::view::sample_of;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::prose::clause;
use llamactl_protocol::server::{Accepted, Server, State};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// It answers requests.
    Ready,
    /// It answers requests, and none is at work.
    Idle,
    /// Its process has ended.
    Stopped,
    /// It failed for good.
    Failed,
}

impl Goal {
    /// The word on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Goal::Ready => "ready",
            Goal::Idle => "idle",
            Goal::Stopped => "stopped",
            Goal::Failed => "failed",
        }
    }
}

/// A request whose outcome is waited for, so that what was before it is not taken for it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    run_id: Option<String>,
    since_ms: i64,
}

impl Request {
    /// The request that was answered so.
    pub(crate) fn of(accepted: &Accepted) -> Self {
        Request {
            run_id: accepted.run_id.clone(),
            since_ms: accepted.server.desired.as_ref().map_or(0, |desired| desired.at_ms),
        }
    }

    /// Whether `server` shows the very run that was asked for.
    fn names(&self, server: &Server) -> bool {
        server.run.as_ref().map(|run| run.id.as_str()) == self.run_id.as_deref()
    }

    /// Whether the state `server` is in came after the request.
    fn concerns(&self, server: &Server) -> bool {
        self.names(server) || server.cause.as_ref().is_some_and(|cause| cause.at_ms > self.since_ms)
    }
}

/// Where a wait stands.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is not so yet, and may become so.
    Pending,
    /// It is so.
    Reached,
    /// It will not be so.
    Lost(Box<Failure>),
}

/// Judges; whether a ready server is idle too is another question: see [`is_idle`]. With a `request` the wait is for its outcome: a failure of its run ends the wait even
/// where policy will try again. Without one the wait is for the state alone.
pub(crate) fn verdict(goal: Goal, server: &Server, request: Option<&Request>) -> Verdict {
    let lost = |failure: Failure| Verdict::Lost(Box::new(failure));
    let concerns = request.is_none_or(|request| request.concerns(server));
    match (goal, server.state) {
        (_, State::Stuck) => lost(failed(server, now_ms())),

        (Goal::Ready | Goal::Idle, State::Ready | State::Sleeping) => Verdict::Reached,
        (Goal::Ready | Goal::Idle, State::Failed) if concerns => lost(failed(server, now_ms())),
        (Goal::Ready | Goal::Idle, State::Backoff) if request.is_some() && concerns => {
            lost(failed(server, now_ms()))
        }
        (Goal::Ready | Goal::Idle, State::Stopped) if !server.is_to_run() => {
            lost(not_running(server))
        }
        // A restart passes through `stopped` with its old run.
        (Goal::Ready | Goal::Idle, State::Stopped)
            if request.is_some_and(|request| request.names(server)) =>
        {
            lost(failed(server, now_ms()))
        }

        (Goal::Stopped, State::Stopped | State::Failed) => Verdict::Reached,
        (Goal::Stopped, _) if request.is_some() && server.is_to_run() => lost(
            Failure::new(
                Kind::Superseded,
                format!("{} was started again before it had stopped", server.model),
            )
            .hint(Hint::run("see by whom", ["llamactl", "status", &server.model])),
        ),

        (Goal::Failed, State::Failed) => Verdict::Reached,
        (Goal::Failed, State::Stopped) if !server.is_to_run() => lost(not_running(server)),

        _ => Verdict::Pending,
    }
}

/// The failure of a server, from its cause.
pub(crate) fn failed(server: &Server, now_ms: i64) -> Failure {
    let name = &server.model;
    let how = match (server.state, server.restart_at_ms) {
        (State::Backoff, Some(at_ms)) => {
            format!("failed and will be tried again in {}", units::between(now_ms, at_ms))
        }
        (State::Backoff, None) => "failed and will be tried again".to_owned(),
        (State::Stuck, _) => "does not end even when killed".to_owned(),
        (State::Stopped, _) => "was stopped before it was ready".to_owned(),
        _ => "failed".to_owned(),
    };
    let message = match &server.cause {
        Some(Cause { message, .. }) => format!("{name} {how}: {}", clause(message)),
        None => format!("{name} {how}"),
    };
    let hints = server.cause.as_ref().map(|cause| cause.hints.clone());
    let hints = hints.filter(|hints| !hints.is_empty()).unwrap_or_else(|| {
        Hint::run("what happened and what to do", ["llamactl", "why", name]).into()
    });
    Failure { hints, ..Failure::new(Kind::ServerFailed, message) }.details(json!({
        "model": name,
        "state": server.state,
        "run_id": server.run.as_ref().map(|run| &run.id),
        "cause": server.cause,
    }))
}

/// Whether a ready server has no request at work, as far as it says; `None` where it does not say,
/// or said so before `asked_ms`.
pub(crate) fn is_idle(server: &Server, sample: &Sample, asked_ms: i64) -> Option<bool> {
    let run = server.run.as_ref().map(|run| run.id.as_str());
    let sample = sample_of(Some(sample), server).filter(|it| Some(it.run_id.as_str()) == run)?;
    let llama = sample.llama.as_ref().filter(|llama| llama.asked_at_ms >= asked_ms)?;
    let at_work =
        [llama.slots_busy.map(u64::from), llama.requests_processing, llama.requests_deferred];
    // Older builds do not say all three.
    let mut known = at_work.into_iter().flatten().peekable();
    known.peek()?;
    Some(known.all(|count| count == 0))
}

fn not_running(server: &Server) -> Failure {
    Failure::new(Kind::NotRunning, format!("{} is stopped", server.model))
        .hint(Hint::run("start it", ["llamactl", "start", &server.model]))
        .details(json!({ "model": server.model, "state": server.state, "cause": server.cause }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use crate::view::tests::server;
    use llamactl_protocol::metrics::{Host, LlamaSample, ProcessSample, ServerSample};
    use llamactl_protocol::server::DesiredState;
    use llamactl_protocol::server::Run;

    fn with(state: State, run: &str, desired: DesiredState) -> Server {
        let mut server = server("m", state);
        if let Some(was) = &mut server.desired {
            was.state = desired;
        }
        server.run = Some(Run { id: run.into(), ..server.run.unwrap() });
        server
    }

    fn request() -> Request {
        Request { run_id: Some("new".into()), since_ms: 1000 }
    }

    fn kind(verdict: Verdict) -> Option<Kind> {
        match verdict {
            Verdict::Lost(failure) => Some(failure.kind),
            _ => None,
        }
    }

    #[test]
    fn ready_is_ready() {
        for state in [State::Ready, State::Sleeping] {
            let server = with(state, "new", DesiredState::Running);
            assert_eq!(verdict(Goal::Ready, &server, Some(&request())), Verdict::Reached);
        }
        for state in [State::Queued, State::Starting, State::Loading, State::Adopting] {
            let server = with(state, "new", DesiredState::Running);
            assert_eq!(verdict(Goal::Ready, &server, Some(&request())), Verdict::Pending);
        }
    }

    #[test]
    fn the_failure_of_this_run_ends_the_wait() {
        for state in [State::Failed, State::Backoff, State::Stopped] {
            let server = with(state, "new", DesiredState::Running);
            let verdict = verdict(Goal::Ready, &server, Some(&request()));
            assert_eq!(kind(verdict), Some(Kind::ServerFailed), "{state:?}");
        }
    }

    #[test]
    fn that_it_will_be_tried_again_is_said_and_when() {
        let mut server = with(State::Backoff, "new", DesiredState::Running);
        server.restart_at_ms = Some(5_000);
        let failure = failed(&server, 2_000);
        assert_eq!(failure.message, "m failed and will be tried again in 3.0s: started by request");
    }

    #[test]
    fn idle_is_what_a_new_enough_sample_of_this_run_says() {
        let server = with(State::Ready, "new", DesiredState::Running);
        let idle = |run: &str, llama: LlamaSample| {
            let sample = Sample {
                seq: 1,
                at_ms: 0,
                host: Host::default(),
                gpus: None,
                servers: vec![ServerSample {
                    model_id: server.model_id,
                    model: "m".into(),
                    run_id: run.into(),
                    state: State::Ready,
                    process: ProcessSample::default(),
                    llama: Some(llama),
                }],
                daemon: ProcessSample::default(),
                models: vec![],
            };
            is_idle(&server, &sample, 100)
        };
        let nothing = LlamaSample {
            asked_at_ms: 100,
            slots_busy: Some(0),
            requests_processing: Some(0),
            requests_deferred: Some(0),
            ..LlamaSample::default()
        };
        assert_eq!(idle("new", nothing.clone()), Some(true));
        assert_eq!(idle("old", nothing.clone()), None);
        assert_eq!(idle("new", LlamaSample { asked_at_ms: 99, ..nothing.clone() }), None);
        for busy in [
            LlamaSample { slots_busy: Some(1), ..nothing.clone() },
            LlamaSample { requests_processing: Some(1), ..nothing.clone() },
            LlamaSample { requests_deferred: Some(2), slots_busy: None, ..nothing.clone() },
        ] {
            assert_eq!(idle("new", busy), Some(false));
        }
        let silent = LlamaSample { asked_at_ms: 100, ..LlamaSample::default() };
        assert_eq!(idle("new", silent), None);
    }

    #[test]
    fn an_earlier_runs_end_does_not() {
        for state in [State::Failed, State::Backoff, State::Stopped, State::Stopping] {
            let mut server = with(state, "old", DesiredState::Running);
            server.cause.as_mut().unwrap().at_ms = 999;
            let verdict = verdict(Goal::Ready, &server, Some(&request()));
            assert_eq!(verdict, Verdict::Pending, "{state:?}");
        }
    }

    #[test]
    fn a_later_runs_failure_does() {
        let mut server = with(State::Failed, "newer", DesiredState::Running);
        server.cause.as_mut().unwrap().at_ms = 2000;
        assert_eq!(kind(verdict(Goal::Ready, &server, Some(&request()))), Some(Kind::ServerFailed));
    }

    #[test]
    fn waiting_alone_is_patient_with_backoff_and_not_with_the_end() {
        let wait = |state, wish| verdict(Goal::Ready, &with(state, "r", wish), None);
        assert_eq!(wait(State::Backoff, DesiredState::Running), Verdict::Pending);
        assert_eq!(wait(State::Stopped, DesiredState::Running), Verdict::Pending);
        assert_eq!(kind(wait(State::Failed, DesiredState::Running)), Some(Kind::ServerFailed));
        assert_eq!(kind(wait(State::Stopped, DesiredState::Stopped)), Some(Kind::NotRunning));
    }

    #[test]
    fn stopping_ends_where_the_process_has() {
        let stop =
            |state, wish| verdict(Goal::Stopped, &with(state, "new", wish), Some(&request()));
        assert_eq!(stop(State::Stopping, DesiredState::Stopped), Verdict::Pending);
        assert_eq!(stop(State::Stopped, DesiredState::Stopped), Verdict::Reached);
        assert_eq!(stop(State::Failed, DesiredState::Stopped), Verdict::Reached);
        assert_eq!(kind(stop(State::Stuck, DesiredState::Stopped)), Some(Kind::ServerFailed));
        assert_eq!(kind(stop(State::Loading, DesiredState::Running)), Some(Kind::Superseded));
    }

    #[test]
    fn what_a_person_is_told_of_a_wait_that_cannot_end_well() {
        let mut again = scene::server("qwen3-8b", State::Loading);
        again.desired.as_mut().unwrap().state = DesiredState::Running;
        let stopped = scene::server("qwen3-8b", State::Stopped);
        for (name, verdict) in [
            ("wait-stopped", verdict(Goal::Ready, &stopped, None)),
            ("stop-superseded", verdict(Goal::Stopped, &again, Some(&request()))),
        ] {
            let Verdict::Lost(failure) = verdict else { panic!("{verdict:?}") };
            assert_screen(name, |output| scene::told(output, (*failure).clone()));
        }
    }
}
