//! The hands that the simulator lends to the daemon's executor: always ready, in a world of their
//! own, and looked at: each action is held against what the world knows.
//!
//! ```text
//!   happen ─▶ context: what is expected of an end ─▶ drive ─▶ actions ─▶ perform, one by one
//!                                                              │ the fuse: never comes back
//!                                                              │ the disk is full: a failure
//!                                                              ╰ else: registry, mail, jobs, process
//! ```

use crate::asks::{Ask, promised};
use crate::ending::{Circumstances, End};
use crate::model::Promise;
use crate::planted::Bug;
use crate::process::{Luck, NEVER, Process};
use crate::registry::endpoint;
use crate::task::Live;
use crate::world::{Flow, Halt, World, broken, milliseconds};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::server::{DesiredState, State as Shown};
use llamactl_protocol::{Actor, Failure, Kind};
use llamactld::arbiter::ToArbiter;
use llamactld::logs::classify::Exit;
use llamactld::supervisor::core::driver::{
    self, Action, Attention, Event, Explanation, Prepared, Record, Reply, RequestId, State,
    snapshot,
};
use llamactld::supervisor::core::execute::Hands;
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::{Phase, RunId, Then};
use llamactld::supervisor::core::restart::{Curable, Ended};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

/// The daemon's clock begins long after its beginning, so that what was before has a place too.
const EPOCH: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What an action came to: what follows from it, or why it could not be done.
type Done = Result<Option<Event>, Failure>;

pub(crate) struct SimulatedHands<'w> {
    world: &'w mut World,
    at: usize,
    /// The request that is dealt with.
    request: Option<RequestId>,
    /// The phase before the event.
    before: Phase,
    /// What the policy must make of the event.
    expected: Option<Ended>,
    /// An action that a planted bug does later.
    held: Option<Action>,
}

impl<'w> SimulatedHands<'w> {
    pub(crate) fn new(world: &'w mut World, at: usize, event: &Event) -> SimulatedHands<'w> {
        let request = request_of(event);
        SimulatedHands { world, at, request, before: Phase::Stopped, expected: None, held: None }
    }

    /// What the policy must make of this, if it is asked.
    fn expected(&mut self, state: &State, event: &Event) -> Option<Ended> {
        let phase = &state.life.phase;
        let unmade = |curable| Some(Ended { curable, clean: false });
        match (event, phase) {
            (Event::Explained { run, .. }, Phase::Ended { run: here, then, .. }) if run == here => {
                let ended = self.world.models[self.at].ended.as_ref();
                let ended = ended.filter(|(of, _)| of == run);
                self.end(state, ended.map_or(&Explanation::default(), |(_, told)| told), then)
            }
            (Event::Timer, Phase::Ended { then, .. }) => {
                self.end(state, &Explanation::default(), then)
            }
            (Event::NotPrepared { run, curable, .. }, Phase::Preparing { run: here })
                if run == here =>
            {
                unmade(*curable)
            }
            (Event::NotSpawned { run, curable, .. }, Phase::Starting { run: here, .. })
                if run == here =>
            {
                unmade(*curable)
            }
            (Event::Failed(failed), _) => match &failed.action {
                Action::Write(Record::Run { by, .. }) if *by != Actor::Policy => {
                    unmade(Curable::No)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn end(&self, state: &State, explanation: &Explanation, then: &Then) -> Option<Ended> {
        let Then::Decide(fault) = then else { return None };
        if fault.is_some() {
            return Some(Ended { curable: Curable::Yes, clean: false });
        }
        let model = &self.world.models[self.at];
        Some(End::of(
            explanation,
            Circumstances {
                was_ready: state.run.as_ref().is_some_and(|run| run.ready_at_ms.is_some()),
                any_port: model.on_tcp && !state.model.settings.contains_key("port"),
                adopting: model.account.left_adopting,
            },
        ))
    }

    fn carry_out(&mut self, state: &State, action: &Action) -> Flow<Done> {
        let (world, at) = (&mut *self.world, self.at);
        let now = world.now;
        let done = match action {
            Action::Write(record) => return self.write(state, record),
            Action::Answer(request, reply) => {
                self.answer(*request, reply)?;
                None
            }
            Action::Show => {
                show(world, at, state)?;
                None
            }
            Action::Ask(message) => {
                enter(world, at, message)?;
                let id = world.models[at].id;
                world.tell(Some(id), message.clone());
                None
            }
            Action::Prepare(run) => {
                prepare(world, at, run);
                None
            }
            Action::Spawn(run) => return Ok(Ok(Some(spawn(world, at, state, run)?))),
            Action::Attach(_) => {
                let (child, blind) = (world.rng.u8(0..8) == 0, world.rng.u8(0..30) == 0);
                attach(world, at, child, blind);
                if blind {
                    return Ok(Err(Failure::new(Kind::StoreFailed, "its record is damaged")));
                }
                None
            }
            Action::Terminate | Action::Kill => {
                let rng = &mut world.rng;
                let Some(process) = &mut world.models[at].process else {
                    return broken!("{action:?}, and no process");
                };
                match action {
                    Action::Kill => process.kill(now),
                    _ => process.terminate(now, rng),
                }
                None
            }
            Action::Observe(attention) => {
                if let Some(live) = world.live(at) {
                    live.attention = *attention;
                }
                world.look_soon(at);
                None
            }
            Action::Measure(_) => None,
            Action::Explain(run) => {
                explain(world, at, run)?;
                None
            }
            Action::Timer(after) => {
                if let Some(task) = &mut world.models[at].task {
                    task.timer = after.map_or(NEVER, |after| now + milliseconds(after));
                }
                None
            }
            Action::Retire => {
                if let Some(task) = &mut world.models[at].task {
                    task.retired = true;
                }
                None
            }
        };
        Ok(Ok(done))
    }

    fn write(&mut self, state: &State, record: &Record) -> Flow<Done> {
        let (world, at) = (&mut *self.world, self.at);
        let (boot, model) = (world.boot, &mut world.models[at]);
        if matches!(record, Record::Refusal { .. }) {
            model.refused();
        }
        if world.now < world.disk_full_until {
            model.unwritten |= !matches!(record, Record::Desired { .. } | Record::Event(_));
            world.counts.unwritten += 1;
            let ignores = world.bug == Some(Bug::IgnoredWriteFailure);
            let failure = Failure::new(Kind::DiskFull, "the disk is full");
            return Ok(if ignores { Ok(None) } else { Err(failure) });
        }
        match record {
            Record::Desired { desired, .. } => {
                let starts = desired.state == DesiredState::Running;
                if starts && self.before != state.life.phase {
                    (model.account.in_a_row, model.account.given_up_at) = (0, None);
                }
                let requests = world.daemon.as_mut().map(|daemon| &mut daemon.requests);
                let request = self.request.and_then(|id| requests?.get_mut(&id));
                let Some(request) = request else { return broken!("nobody asked for {desired:?}") };
                request.written = true;
                (model.fragile, model.desired_in_boot) = (false, boot);
                model.promise = promised(model, &self.before, request.ask, world.now, world.serial);
            }
            Record::Run { run, .. } => {
                if model.task.as_ref().and_then(|task| task.ready.as_ref()) != Some(run) {
                    return broken!("a run is written, and another one was prepared");
                }
                model.unwritten = false;
            }
            Record::End { run, cause, .. } => {
                let told = (cause.exit_code, cause.signal);
                let ended = model.ended.as_ref().filter(|(of, _)| of == run);
                let ended = ended.map_or((None, None), |(_, it)| parts(it.exit));
                if told != ended && told != (None, None) {
                    return broken!("it is written that it ended with {told:?}: {ended:?}");
                }
            }
            Record::Removal { .. } if model.process.is_some() => {
                return broken!("a model is removed whose process is there");
            }
            _ => {}
        }
        let process = model.process.as_ref().map(|process| (process.serial, boot));
        model.registry.write(state, record, process);
        Ok(Ok(None))
    }

    fn answer(&mut self, request: RequestId, reply: &Reply) -> Flow {
        let (world, at) = (&mut *self.world, self.at);
        let known = world.daemon.as_mut().and_then(|daemon| daemon.requests.remove(&request));
        let Some(asked) = known else { return broken!("request {request} is answered twice") };
        let model = &mut world.models[at];
        match reply {
            Reply::Accepted { durable: true, .. } if !asked.written => {
                broken!("{:?} is said to be on disk, and is not", asked.ask)
            }
            Reply::Accepted { durable: false, .. } if asked.ask != Ask::Stop => {
                broken!("{:?} goes on though it is not on disk", asked.ask)
            }
            Reply::Accepted { durable: false, .. } => {
                (model.promise, model.fragile) = (Promise::Rest, true);
                Ok(())
            }
            Reply::Removed if !model.registry.removed => broken!("removed, and still written"),
            Reply::Accepted { .. } | Reply::Begun | Reply::Removed | Reply::Refused(_) => Ok(()),
        }
    }
}

impl Hands for SimulatedHands<'_> {
    fn context(&mut self, state: &State, event: &Event) -> driver::Context {
        self.before = state.life.phase.clone();
        match event {
            Event::Exited | Event::Begin(_) => {
                let adopting = matches!(self.before, Phase::Adopting { .. });
                self.world.models[self.at].account.left_adopting = adopting;
            }
            // From now on it may rest, though it is desired to run.
            Event::Shutdown { .. } => self.world.models[self.at].refused(),
            _ => {}
        }
        self.expected = self.expected(state, event);
        let world = &mut *self.world;
        let id = world.models[self.at].id;
        world.counts.meet(self.before.state(), event);
        world.say(|| {
            let told: String = format!("{event:?}").chars().take(300).collect();
            format!("model {id}: {:?} ◀── {told}", state.life.phase)
        });
        driver::Context {
            at: EPOCH + Duration::from_millis(world.now),
            now_ms: world.wall_ms(),
            jitter: world.rng.f64(),
            next_run: world.new_run(),
            process_state: None,
        }
    }

    async fn perform(&mut self, state: &State, action: &Action) -> Done {
        let flow = self.perform_or_halt(state, action);
        match flow {
            Ok(done) => done,
            Err(halt) => {
                if let Halt::Broken(what) = halt {
                    self.world.broken = Some(what);
                }
                // A daemon that was killed does nothing more.
                pending().await
            }
        }
    }
}

impl SimulatedHands<'_> {
    fn perform_or_halt(&mut self, state: &State, action: &Action) -> Flow<Done> {
        if let Some(ended) = self.expected.take() {
            self.world.account_for(self.at, state, ended)?;
        }
        self.world.risk()?;
        let id = self.world.models[self.at].id;
        self.world.say(|| {
            let told: String = format!("{action:?}").chars().take(120).collect();
            format!("model {id}:   {told}")
        });
        let Some(bug) = self.world.bug else { return self.carry_out(state, action) };
        let mut done = Ok(None);
        for action in bug.actions(&self.before, state, action, &mut self.held) {
            done = self.carry_out(state, &action)?;
            if done.is_err() {
                break;
            }
        }
        Ok(done)
    }
}

/// The request that an event bears.
pub(crate) fn request_of(event: &Event) -> Option<RequestId> {
    match event {
        Event::Start { request, .. }
        | Event::Stop { request, .. }
        | Event::Restart { request, .. }
        | Event::Shutdown { request, .. }
        | Event::Remove { request, .. } => Some(*request),
        _ => None,
    }
}

/// What is shown tells nothing that is not so.
fn show(world: &mut World, at: usize, state: &State) -> Flow {
    let server = snapshot(state);
    let model = &mut world.models[at];
    let there = model.process.as_ref();
    if matches!(server.state, Shown::Ready | Shown::Sleeping) {
        let pid = server.run.as_ref().and_then(|run| run.pid);
        if pid != there.map(|process| process.serial) {
            return broken!("shown is {:?} with process {pid:?}", server.state);
        }
    }
    if server.endpoint.is_some() && state.life.phase.rests() {
        return broken!("an endpoint is shown, and nothing runs");
    }
    if server.queue.is_some() != matches!(state.life.phase, Phase::Queued { .. })
        && server.queue.is_some()
    {
        return broken!("a place in line is shown, and it does not wait");
    }
    if let Some(task) = &mut model.task {
        task.shown = server.state;
    }
    Ok(())
}

/// Each run is told to the arbiter once, and given back once.
fn enter(world: &mut World, at: usize, message: &ToArbiter) -> Flow {
    let Some(task) = &mut world.models[at].task else { return Ok(()) };
    let ticket = &mut task.ticket;
    match message {
        ToArbiter::Want { run, .. }
        | ToArbiter::Hold { run, .. }
        | ToArbiter::Found { run, .. } => {
            if ticket.as_ref().is_some_and(|other| other != run) {
                return broken!("{run} is told to the arbiter while it knows of {ticket:?}");
            }
            *ticket = Some(run.clone());
        }
        ToArbiter::Loaded { run, .. } if ticket.as_ref() != Some(run) => {
            return broken!("{run} has loaded, and the arbiter knows of {ticket:?}");
        }
        ToArbiter::Gone { run, next, .. } => {
            if ticket.as_ref() != Some(run) {
                return broken!("{run} is given back, and the arbiter knows of {ticket:?}");
            }
            ticket.clone_from(next);
        }
        ToArbiter::Retire { .. } if ticket.is_some() => {
            return broken!("a model is removed, and the arbiter knows of {ticket:?}");
        }
        _ => {}
    }
    Ok(())
}

/// Makes ready what a process needs, beside the task.
fn prepare(world: &mut World, at: usize, run: &RunId) {
    let done = world.job_done();
    let wall = world.wall_ms();
    let fails = world.rng.bool();
    let model = &mut world.models[at];
    let run = run.clone();
    model.account.serial = None;
    let event = match model.luck {
        Luck::Unmade(curable) if fails => {
            let cause = Cause::new(CauseCode::SpawnFailed, "it cannot be made ready", wall);
            Event::NotPrepared { run, cause, curable }
        }
        _ => Event::Prepared(Box::new(Prepared {
            run,
            model: Arc::clone(&model.registry.model),
            settings: Arc::new(model.registry.model.settings.clone()),
            endpoint: endpoint(model.on_tcp),
            is_open: false,
            port_before: None,
            build_has_devices: None,
        })),
    };
    if let Some(task) = &mut model.task {
        task.jobs.push((done, event));
    }
}

/// Makes a process.
fn spawn(world: &mut World, at: usize, state: &State, run: &RunId) -> Flow<Event> {
    let (now, wall, calm) = (world.now, world.wall_ms(), world.calm);
    let model = &mut world.models[at];
    let Some(task) = &mut model.task else { return broken!("a process without a task") };
    if task.shut {
        return broken!("a process is made by a daemon that stops");
    }
    if model.process.is_some() {
        return broken!("a second process is made");
    }
    if model.promise == Promise::Rest {
        return broken!("a process is made that nobody wants");
    }
    if task.ready.take().as_ref() != Some(run) {
        return broken!("a process is made of what was not prepared");
    }
    let is_written = model.registry.last.as_ref().is_some_and(|last| last.id == *run);
    if !is_written && !model.unwritten {
        return broken!("a process is made of a run that is not written");
    }
    (model.account.ready_at, model.account.unhealthy_since) = (None, None);
    if let Luck::Unmade(curable) = model.luck
        && world.rng.bool()
    {
        let cause = Cause::new(CauseCode::SpawnFailed, "it cannot be made", wall);
        return Ok(Event::NotSpawned { run: run.clone(), cause, curable });
    }
    world.serial += 1;
    world.counts.processes += 1;
    let limits = Limits::of(&state.model.settings);
    let (luck, run, serial) = (model.luck, run.clone(), world.serial);
    model.account.serial = Some(serial);
    model.process =
        Some(Process::any(run.clone(), serial, now, luck, &limits, calm, &mut world.rng));
    attach(world, at, true, false);
    Ok(Event::Spawned { run, pid: Some(serial) })
}

/// Watches a process.
fn attach(world: &mut World, at: usize, child: bool, blind: bool) {
    let attention = Attention::Starting;
    if let Some(task) = &mut world.models[at].task {
        task.live = Some(Live { child, blind, attention, look: NEVER, exit: NEVER });
    }
    world.look_soon(at);
}

/// Finds out why a process ended, beside the task, and kills what it left.
fn explain(world: &mut World, at: usize, run: &RunId) -> Flow {
    let done = world.job_done();
    let now = world.now;
    let live = world.models[at].task.as_mut().and_then(|task| task.live.take());
    let child = live.is_some_and(|live| live.child);
    let model = &mut world.models[at];
    let end = model.process.as_ref().and_then(|process| process.ended);
    if model.process.as_ref().is_some_and(|process| process.ended.is_none()) {
        return broken!("an end is explained of a process that lives");
    }
    if live.is_some() {
        model.process = None;
        if let Some(stray) = &mut model.stray {
            stray.kill(now);
        }
    }
    let explanation = End::explanation(end, child);
    model.ended = Some((run.clone(), explanation.clone()));
    if let Some(task) = &mut model.task {
        task.jobs.push((done, Event::Explained { run: run.clone(), explanation }));
    }
    Ok(())
}

/// The exit code and the signal of an end.
fn parts(exit: Exit) -> (Option<i32>, Option<i32>) {
    match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::Unknown => (None, None),
    }
}
