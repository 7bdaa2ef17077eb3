//! What the arbiter says.

use super::super::machine::{self, Phase};
use super::Turn;
use super::ask::cause_of;
use crate::arbiter::{Orders, QueuePlace, Refusal};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::hint::Hint;
use llamactl_protocol::server::Queue;
use llamactl_protocol::{Failure, Kind};
use serde_json::json;
use std::sync::Arc;

impl Turn<'_> {
    /// Takes in what holds now. Orders for another run are of no concern: they come back by that
    /// run's end.
    pub(super) fn obey(&mut self, orders: &Orders) {
        let Phase::Queued { run } = &self.state.life.phase else { return };
        if orders.admit.as_ref() == Some(run) {
            return self.step(machine::Event::Admitted);
        }
        if let Some(refusal) = orders.refused.as_ref().filter(|refusal| refusal.run == *run) {
            let failure = too_many(refusal);
            return self.refused(Arc::new(cause_of(&failure, self.context.now_ms)), &failure);
        }
        let Some(place) = orders.place.as_ref().filter(|place| place.run == *run) else { return };
        let QueuePlace { reason, position, limit, .. } = *place;
        let queue = Queue { reason, position, limit };
        let was_shown = self.state.queue.replace(queue);
        self.show();
        self.answer_waiting();
        if was_shown.is_none() {
            let message = format!(
                "{} waits for its turn to load, {} in line",
                self.state.model.name, queue.position
            );
            let by = self.state.by.clone();
            self.tell(EventKind::ServerQueued, by, message, None, None);
        }
    }
}

/// Why a server may not run beside those that do.
fn too_many(refusal: &Refusal) -> Failure {
    let running: Vec<&str> = refusal.running.iter().map(AsRef::as_ref).collect();
    let names = running.join(", ");
    let message = match running.len() {
        0 => "the daemon is told to run no server".to_owned(),
        1 => format!("{names} runs, and max_running allows one"),
        count => format!("{names} run, and max_running allows {count}"),
    };
    let failure =
        Failure::new(Kind::TooManyRunning, message).details(json!({ "running": running }));
    let stop = |first| Hint::run("stop one of them", ["llamactl", "stop", first]);
    let failure = running.first().copied().map(stop).into_iter().fold(failure, Failure::hint);
    let raise = "raise max_running in llamactld.toml, then";
    failure.hint(Hint::run(raise, ["llamactl", "daemon", "restart"]))
}
