//! A server's task as the daemon has it: state, inbox, timer, jobs, and those who watch the process.
//! It decides nothing: it turns what is due into events for the daemon's executor.

use crate::hands::{SimulatedHands, request_of};
use crate::planted::Bug;
use crate::process::{Act, Ms, NEVER, RELAPSE_MS};
use crate::world::{Due, Flow, Halt, World, broken, milliseconds};
use llamactl_protocol::Actor;
use llamactl_protocol::server::State as Shown;
use llamactld::arbiter::Orders;
use llamactld::llama::Seen;
use llamactld::supervisor::core::driver::{Attention, Event, State};
use llamactld::supervisor::core::execute::happen;
use llamactld::supervisor::core::hang::Look;
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::{self, Fault, Phase, RunId, StopStage, Then};
use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What everybody who watches a process of this daemon sees of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// It is a child of this daemon.
    pub(crate) child: bool,
    /// Its record is damaged: it can be ended, and not be watched.
    pub(crate) blind: bool,
    pub(crate) attention: Attention,
    /// The next look that will see something new.
    pub(crate) look: Ms,
    /// When its end is noticed.
    pub(crate) exit: Ms,
}

/// A server's task.
#[derive(Debug)]
pub(crate) struct Task {
    /// The driver's state; `None` while it looks what there is, and while something happens.
    pub(crate) state: Option<State>,
    /// When it has looked what there is.
    pub(crate) begin: Ms,
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) receive: Ms,
    /// What the arbiter said last, and when that is seen.
    pub(crate) orders: Orders,
    pub(crate) obey: Ms,
    pub(crate) timer: Ms,
    /// Jobs beside the task, and when each is done.
    pub(crate) jobs: Vec<(Ms, Event)>,
    /// The run whose process could be made now.
    pub(crate) ready: Option<RunId>,
    pub(crate) live: Option<Live>,
    /// What everybody sees.
    pub(crate) shown: Shown,
    /// The run that the arbiter was told of and that was not given back.
    pub(crate) ticket: Option<RunId>,
    /// It was told that the daemon ends.
    pub(crate) shut: bool,
    /// A stop under way is over by then, or stuck.
    pub(crate) stopped_by: Ms,
    /// When the watch for hanging began.
    pub(crate) watched_from: Ms,
    pub(crate) retired: bool,
}

impl Task {
    pub(crate) fn new(begin: Ms) -> Task {
        Task {
            state: None,
            begin,
            inbox: VecDeque::new(),
            receive: NEVER,
            orders: Orders::default(),
            obey: NEVER,
            timer: NEVER,
            jobs: vec![],
            ready: None,
            live: None,
            shown: Shown::Stopped,
            ticket: None,
            shut: false,
            stopped_by: NEVER,
            watched_from: NEVER,
            retired: false,
        }
    }

    pub(crate) fn phase(&self) -> Option<&Phase> {
        self.state.as_ref().map(|state| &state.life.phase)
    }

    /// What is due next of it.
    pub(crate) fn due(&self) -> (Ms, Due) {
        if self.state.is_none() {
            return (self.begin, Due::Begin);
        }
        let live = self.live.as_ref();
        let job = self.jobs.iter().map(|(at, _)| *at).min().unwrap_or(NEVER);
        let all = [
            (self.receive, Due::Receive),
            (self.obey, Due::Obey),
            (self.timer, Due::Timer),
            (job, Due::Job),
            (live.map_or(NEVER, |live| live.look), Due::Look),
            (live.map_or(NEVER, |live| live.exit), Due::Exit),
        ];
        all.into_iter().min_by_key(|(at, _)| *at).unwrap_or((NEVER, Due::Timer))
    }
}

impl World {
    /// A model's task; it is made in one way only.
    pub(crate) fn touch(&mut self, at: usize) {
        if self.models[at].task.is_none() {
            let begin = self.now + self.rng.u64(0..30);
            self.models[at].task = Some(Task::new(begin));
        }
    }

    /// Puts something into a task's inbox.
    pub(crate) fn send(&mut self, at: usize, event: Event) {
        self.touch(at);
        let soon = self.now + self.rng.u64(0..8);
        if let Some(task) = &mut self.models[at].task {
            task.inbox.push_back(event);
            task.receive = task.receive.min(soon);
        }
    }

    /// The daemon will see what `/health` says now.
    pub(crate) fn look_soon(&mut self, at: usize) {
        let soon = self.now + self.rng.u64(1..250);
        if let Some(live) = self.live(at) {
            live.look = live.look.min(soon);
        }
    }

    pub(crate) fn live(&mut self, at: usize) -> Option<&mut Live> {
        self.models[at].task.as_mut()?.live.as_mut()
    }

    pub(crate) fn attention(&mut self, at: usize) -> Attention {
        let live = self.live(at).filter(|live| !live.blind);
        live.map_or(Attention::Ending, |live| live.attention)
    }

    /// Something is due in a task.
    pub(crate) fn task_notices(&mut self, at: usize, due: Due) -> Flow {
        let now = self.now;
        let Some(task) = &mut self.models[at].task else { return Ok(()) };
        let event = match due {
            Due::Begin => {
                let beginning = self.beginning(at)?;
                return self.happen(at, Event::Begin(Box::new(beginning)));
            }
            Due::Receive => {
                let event = task.inbox.pop_front();
                task.receive = if task.inbox.is_empty() { NEVER } else { now + 1 };
                event
            }
            Due::Obey => {
                task.obey = NEVER;
                Some(Event::Orders(task.orders.clone()))
            }
            Due::Timer => {
                task.timer = NEVER;
                Some(Event::Timer)
            }
            Due::Job => {
                let done = task.jobs.iter().position(|(at, _)| *at <= now);
                let event = done.map(|done| task.jobs.swap_remove(done).1);
                if let Some(Event::Prepared(prepared)) = &event {
                    task.ready = Some(prepared.run.clone());
                }
                event
            }
            Due::Look => self.look(at),
            Due::Exit => {
                if let Some(live) = &mut task.live {
                    (live.exit, live.look) = (NEVER, NEVER);
                }
                Some(Event::Exited)
            }
            Due::Act(_) | Due::Stray(_) | Due::Mail | Due::Touch | Due::DaemonEnds => None,
        };
        match event {
            Some(event) => self.happen(at, event),
            None => Ok(()),
        }
    }

    /// What a look at a process shows, by what is looked for.
    fn look(&mut self, at: usize) -> Option<Event> {
        let pause = self.rng.u64(2_000..9_000);
        let now = self.now;
        let model = &mut self.models[at];
        let task = model.task.as_mut()?;
        let limit = task.state.as_ref().and_then(|state| Limits::of(&state.model.settings).hang);
        let live = task.live.as_mut()?;
        live.look = NEVER;
        if live.blind {
            return None;
        }
        let process = model.process.as_ref()?;
        let hangs = process.hung_since.is_some();
        match live.attention {
            Attention::Starting => Some(Event::Health(process.first_seen())),
            Attention::Ready => {
                // Without a limit there is nothing to be seen.
                if hangs && limit.is_some() {
                    live.look = now + pause;
                }
                let answered = matches!(process.shows, Seen::Healthy | Seen::Asleep);
                let look = Look {
                    answered,
                    working: answered.then_some(hangs),
                    progress: answered.then_some(7),
                    cpu: Some(Duration::ZERO),
                };
                Some(Event::Looked { seen: process.shows, look, process_state: Some('S') })
            }
            Attention::Draining => Some(Event::Busy(Some(1))),
            Attention::Ending => None,
        }
    }

    /// What a process said or did that reaches the daemon by itself.
    pub(crate) fn process_said(&mut self, at: usize, act: Act) -> Flow {
        let event = match (act, self.attention(at)) {
            (Act::Progress, Attention::Starting) => Event::Moved,
            (Act::Announce, attention) if attention != Attention::Ending => Event::Announced,
            (Act::Idle, Attention::Draining) => Event::Busy(Some(0)),
            _ => return Ok(()),
        };
        self.happen(at, event)
    }

    /// Something happens to a server: the daemon's executor does what follows, with the hands of
    /// this world. A daemon that is killed in it never comes back from an action.
    pub(crate) fn happen(&mut self, at: usize, event: Event) -> Flow {
        let Some(task) = &mut self.models[at].task else { return Ok(()) };
        let state = match &event {
            Event::Begin(beginning) => Some(State::at_rest(&beginning.written)),
            _ => task.state.take(),
        };
        let Some(mut state) = state else { return broken!("it happens before it begins") };
        let closes = matches!(event, Event::Shutdown { .. });
        let begins = matches!(event, Event::Begin(_));
        let is_set = matches!(event, Event::Model(_));
        let event = Bug::event(self.bug, &mut state, event);
        let before = state.life.phase.clone();
        let planted = self.bug.map(|bug| (bug, state.life.clone(), event.clone()));
        let mut hands = SimulatedHands::new(self, at, &event);
        let is_done = {
            let all = pin!(happen(&mut state, &mut hands, event));
            all.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        if let Some(what) = self.broken.take() {
            return Err(Halt::Broken(format!("model {}: {what}", self.models[at].id)));
        }
        if !is_done {
            return Err(Halt::Killed);
        }
        if let Some((bug, before, event)) = planted {
            bug.patch(&before, &event, &mut state);
        }
        if let Some(task) = &mut self.models[at].task {
            task.shut |= closes;
            if is_set {
                // Another limit holds from the next look on.
                task.watched_from = self.now;
            }
            task.state = Some(state);
        }
        self.settle(at, &before, closes)?;
        if begins { self.has_begun(at) } else { Ok(()) }
    }

    /// Keeps the world's own account of what a step has changed.
    fn settle(&mut self, at: usize, before: &Phase, closes: bool) -> Flow {
        let now = self.now;
        let busy = if self.rng.bool() { 0 } else { self.rng.u64(0..40_000) };
        let model = &mut self.models[at];
        let Some(task) = &mut model.task else { return Ok(()) };
        let Some(state) = &task.state else { return Ok(()) };
        let limits = Limits::of(&state.model.settings);
        let after = &state.life.phase;
        if matches!(after, Phase::Ready { .. }) && !matches!(before, Phase::Ready { .. }) {
            model.account.ready_at.get_or_insert(now);
            task.watched_from = now;
        }
        if let Phase::Stopping { stage, then, .. } = after
            && (before.stage() != Some(*stage) || closes)
        {
            let mut stages = machine::TERM * 2 + machine::KILL;
            if *stage == StopStage::Draining {
                stages += match task.shut {
                    true => limits.drain.min(machine::LONGEST_DRAIN_AT_SHUTDOWN),
                    false => limits.drain,
                };
                if before.stage().is_none()
                    && let Some(process) = &mut model.process
                {
                    process.idle_at(now + busy);
                }
            }
            let by = now + milliseconds(stages);
            task.stopped_by = if before.stage().is_none() { by } else { by.min(task.stopped_by) };
            if *then == Then::Decide(Some(Fault::Hung)) && matches!(before, Phase::Ready { .. }) {
                let limit = limits.hang.map_or(0, milliseconds);
                let began = now.saturating_sub(limit);
                model.account.unhealthy_since = Some(began);
                let hangs = model.process.as_ref().and_then(|process| process.hung_since);
                // It may have been ill just before.
                if hangs.is_none_or(|since| since > began + 3 * RELAPSE_MS) {
                    return broken!("it is ended for hanging, and moved {limit} ms ago");
                }
            }
        }
        if after.stage().is_none() {
            task.stopped_by = NEVER;
        }
        let is_watched = task.live.is_some_and(|live| live.look < NEVER);
        let hangs = model.process.as_ref().is_some_and(|process| process.hung_since.is_some());
        let begins_to_count =
            matches!(after, Phase::Ready { .. }) && hangs && limits.hang.is_some() && !is_watched;
        if begins_to_count {
            task.watched_from = now;
        }
        if task.retired {
            // Whoever still waits is told that the model is gone.
            let left = task.inbox.iter().filter_map(request_of);
            if let Some(daemon) = &mut self.daemon {
                left.for_each(|request| {
                    daemon.requests.remove(&request);
                });
            }
            self.replace(at);
        } else if begins_to_count
            || matches!(after, Phase::Starting { .. } | Phase::Ready { .. }) && before != after
        {
            // Looked at all the time, so what is there is seen in the new light.
            self.look_soon(at);
        }
        Ok(())
    }
}

/// Who asks for what clients ask for.
pub(crate) fn somebody() -> Actor {
    Actor::Client { user: "somebody".to_owned(), command: None }
}
