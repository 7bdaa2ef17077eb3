//! How far servers are, for whoever waits for them.
//!
//! A terminal gets a line for each that is still on its way, drawn anew. Elsewhere nothing is said
//! for ten seconds; then once, and again in each new state.

use super::Goal;
use crate::output::Output;
use crate::output::units;
use crate::output::width::width;
use crate::view::{loading, state_text_at};
use llamactl_protocol::prose::listed;
use llamactl_protocol::server::{Server, State};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// For so long nothing is said where nobody looks.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was said so far.
pub(super) struct Progress {
    began: Instant,
    /// What each was last said to be doing, without numbers.
    said: BTreeMap<i64, String>,
}

impl Progress {
    /// Nothing yet; the waiting begins now.
    pub(super) fn new() -> Self {
        Progress { began: Instant::now(), said: BTreeMap::new() }
    }

    /// Tells how far these are.
    pub(super) fn tell(&mut self, output: &Output, servers: &[(&Server, Goal)], now_ms: i64) {
        let waited = self.began.elapsed();
        if output.shows_progress() {
            output.progress(&lines(servers, waited, now_ms));
        } else if waited >= PATIENCE {
            for ((server, goal), line) in servers.iter().zip(lines(servers, waited, now_ms)) {
                let doing = what(server, *goal);
                if self.said.get(&server.model_id) != Some(&doing) {
                    self.said.insert(server.model_id, doing);
                    output.note(line);
                }
            }
        }
    }
}

/// `big  loading the model, 62%, 12s`, the names under each other.
fn lines(servers: &[(&Server, Goal)], waited: Duration, now_ms: i64) -> Vec<String> {
    let column = servers.iter().map(|(server, _)| width(&server.model)).max().unwrap_or(0);
    let all: Vec<Server> = servers.iter().map(|(server, _)| (*server).clone()).collect();
    let loading = loading(&all);
    let line = |(server, goal): &(&Server, Goal)| {
        let space = " ".repeat(column - width(&server.model));
        let doing = match server.state {
            State::Queued if !loading.is_empty() => {
                format!("{}, behind {}", state_text_at(server, now_ms), listed(&loading))
            }
            State::Queued | State::Backoff => state_text_at(server, now_ms),
            _ => what(server, *goal),
        };
        let far = server.progress_ratio.filter(|_| is_loading_a_file(server));
        let far = far.map(|ratio| format!(", {}", units::percent(ratio))).unwrap_or_default();
        format!("{}{space} {doing}{far}, {}s", server.model, waited.as_secs())
    };
    servers.iter().map(line).collect()
}

/// What a server does, in a person's words and without numbers.
fn what(server: &Server, goal: Goal) -> String {
    let loads = match server.stage.as_deref() {
        Some("mmproj_model") => "loading the projector",
        Some("spec_model") => "loading the draft model",
        _ => "loading the model",
    };
    match server.state {
        State::Loading if is_loading_a_file(server) => loads.to_owned(),
        State::Loading => "preparing the context".to_owned(),
        State::Ready if goal == Goal::Idle => "not known to be idle".to_owned(),
        State::Adopting => "looking at the server that runs".to_owned(),
        state => state.as_str().to_owned(),
    }
}

/// Whether what it reads is not read yet: after that it makes the context, and does not say how far
/// it is.
fn is_loading_a_file(server: &Server) -> bool {
    server.state == State::Loading && server.progress_ratio.is_none_or(|ratio| ratio < 0.995)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::server;
    use llamactl_protocol::server::{Queue, QueueReason};

    #[test]
    fn progress_is_in_a_persons_words_and_never_at_100_percent() {
        let at = |ratio, stage: &str| {
            let mut server = server("big", State::Loading);
            (server.stage, server.progress_ratio) = (Some(stage.into()), Some(ratio));
            lines(&[(&server, Goal::Ready)], Duration::from_millis(12_200), 0).remove(0)
        };
        assert_eq!(at(0.62, "text_model"), "big loading the model, 62%, 12s");
        assert_eq!(at(0.1, "mmproj_model"), "big loading the projector, 10%, 12s");
        assert_eq!(at(1.0, "text_model"), "big preparing the context, 12s");
    }

    #[test]
    fn one_that_waits_says_for_whom() {
        let big = server("big", State::Loading);
        let mut queued = server("q3", State::Queued);
        queued.queue = Some(Queue { reason: QueueReason::Loads, position: 1, limit: None });
        let servers = [(&big, Goal::Ready), (&queued, Goal::Ready)];
        assert_eq!(
            lines(&servers, Duration::from_secs(12), 0),
            ["big loading the model, 12s", "q3  queued 1st, behind big, 12s"]
        );
    }
}
