//! Carries out what the [driver](super::driver) says: the one executor, generic over its hands.
//!
//! ```text
//!   event ─▶ drive ─▶ actions ─▶ hands: one after the other
//!              ▲                   │ what follows from one (a process was made) is the next event
//!              ╰───────────────────╯ one that fails ends the list; the failure is the next event
//! ```
//!
//! A server's task lends it hands that do I/O. The simulator lends it hands that are always ready,
//! in a world of its own: what it proves is what runs.

use super::driver::{Action, Context, Event, Failed, State, drive};
use llamactl_protocol::Failure;
use std::collections::VecDeque;

/// What carries actions out.
pub trait Hands {
    /// What a turn that takes in `event` depends on besides.
    fn context(&mut self, state: &State, event: &Event) -> Context;

    /// Does one thing. What follows from it at once is the next event, after the rest of the list.
    ///
    /// # Errors
    /// Why it could not be done: then the rest of the list is not done either.
    fn perform(
        &mut self,
        state: &State,
        action: &Action,
    ) -> impl Future<Output = Result<Option<Event>, Failure>> + Send;
}

/// Takes an event in and carries out everything that follows from it.
pub async fn happen<H: Hands + Send>(state: &mut State, hands: &mut H, event: Event) {
    let mut events = VecDeque::from([event]);
    while let Some(event) = events.pop_front() {
        let context = hands.context(state, &event);
        let (after, actions) = drive(state.clone(), event, &context);
        let before = std::mem::replace(state, after);
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match hands.perform(state, &action).await {
                Ok(follows) => events.extend(follows),
                Err(failure) => {
                    let rest = actions.collect();
                    let failed = Failed { action, failure, before, rest };
                    events.push_front(Event::Failed(Box::new(failed)));
                    break;
                }
            }
        }
    }
}
