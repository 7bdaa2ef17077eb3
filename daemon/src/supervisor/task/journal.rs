//! The events a server's task writes: every change of state, why, and who asked.

use super::{ServerTask, State};
use crate::store::registry::NewEvent;
use crate::supervisor::core::machine::{Phase, RunId};
use llamactl_protocol::Actor;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::event::EventKind;
use serde_json::{Map, Value, json};

impl ServerTask {
    /// An event of this server, as it is in now.
    pub(super) fn event(
        &self,
        kind: EventKind,
        run: Option<&RunId>,
        message: String,
        cause: Option<&Cause>,
    ) -> NewEvent {
        let mut details = Map::new();
        details.insert("to".to_owned(), json!(self.server.state));
        if let Some(cause) = cause {
            details.insert("cause".to_owned(), json!(cause));
        }
        NewEvent {
            kind,
            model: Some((self.model.id, self.model.name.clone())),
            run_id: run.cloned(),
            by: self.by.clone(),
            message,
            details: Some(Value::Object(details)),
        }
    }

    /// Writes an event that belongs to no other record.
    pub(super) async fn tell(
        &self,
        kind: EventKind,
        by: &Actor,
        message: String,
        from: Option<State>,
        cause: Option<&Cause>,
    ) {
        let run = self.server.run.as_ref().map(|run| run.id.clone());
        let mut event = self.event(kind, run.as_ref(), message, cause);
        event.by = by.clone();
        if let (Some(Value::Object(details)), Some(from)) = (&mut event.details, from) {
            details.insert("from".to_owned(), json!(from));
        }
        self.keep(self.context.registry.append_event(event).await);
    }

    /// Writes what a step changed, where no other record tells of it.
    pub(super) async fn tell_of_change(&self, before: &Phase) {
        let (from, to) = (before.state(), self.life.phase.state());
        let name = &self.model.name;
        if from == to {
            return;
        }
        let (kind, by, message) = match (&self.life.phase, from) {
            (Phase::Queued { .. }, _) => {
                let Some(queue) = self.server.queue else { return };
                let text = format!("{name} waits for its turn to load, {} in line", queue.position);
                (EventKind::ServerQueued, &self.by, text)
            }
            (Phase::Stopping { .. }, _) if self.life.phase.fault().is_none() => {
                (EventKind::ServerStopping, &self.by, format!("{name} is being stopped"))
            }
            (Phase::Stuck { .. }, _) => (
                EventKind::ServerStuck,
                &Actor::Policy,
                format!("{name} does not end even when killed: a driver or a disk holds it"),
            ),
            (Phase::Ready { asleep: true, .. }, State::Ready) => (
                EventKind::ServerSleeping,
                &Actor::Process,
                format!("{name} has unloaded its model for now"),
            ),
            (Phase::Ready { asleep: false, .. }, State::Sleeping) => (
                EventKind::ServerWoken,
                &Actor::Process,
                format!("{name} has loaded its model again"),
            ),
            (Phase::Stopped, State::Queued | State::Backoff) => {
                (EventKind::ServerStopped, &self.by, format!("{name} is not started any more"))
            }
            _ => return,
        };
        let cause = self.server.cause.as_ref();
        self.tell(kind, by, message, Some(from), cause).await;
    }
}
