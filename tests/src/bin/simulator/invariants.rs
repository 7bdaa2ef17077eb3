//! What must hold after every step, and what must hold when nobody disturbs any more.

use crate::model::{Model, Promise};
use crate::process::NEVER;
use crate::task::Task;
use crate::world::{Daemon, World, milliseconds};
use llamactl_protocol::server::{DesiredState, State as Shown};
use llamactld::llama::Seen;
use llamactld::supervisor::core::driver::{Attention, State};
use llamactld::supervisor::core::limits::Limits;
use llamactld::supervisor::core::machine::{Phase, RunId, StopStage};

/// How long after its limit a hang is seen at the latest: looks are some seconds apart.
const HANG_SEEN_MS: u64 = 60_000;

/// What must hold after every step.
pub(crate) fn after_step(world: &World) -> Result<(), String> {
    let Some(daemon) = &world.daemon else { return Ok(()) };
    for model in &world.models {
        if let Some(task) = &model.task
            && let Some(state) = &task.state
        {
            phase_is_true(world, model, task, state)
                .and_then(|()| records_are_true(model, task, state))
                .map_err(|what| format!("model {}: {what}", model.id))?;
        }
    }
    places(world, daemon)
}

/// The phase says what is there, and has a way out.
fn phase_is_true(world: &World, model: &Model, task: &Task, state: &State) -> Result<(), String> {
    let phase = &state.life.phase;
    let there = model.process.as_ref().map(|process| &process.run);
    let told = phase.run().filter(|_| !matches!(phase, Phase::Ended { .. }));
    if told != there {
        return Err(format!("it is {phase:?}, there is {there:?}"));
    }
    let timed = match phase {
        Phase::Backoff { .. }
        | Phase::Starting { .. }
        | Phase::Adopting { .. }
        | Phase::Stopping { .. }
        | Phase::Ended { .. } => true,
        Phase::Stopped
        | Phase::Failed
        | Phase::Queued { .. }
        | Phase::Preparing { .. }
        | Phase::Ready { .. }
        | Phase::Stuck { .. } => false,
    };
    if timed != (task.timer < NEVER) {
        return Err(format!("{phase:?}, and a timer is {}set", if timed { "not " } else { "" }));
    }
    if matches!(phase, Phase::Stopping { .. }) && world.now > task.stopped_by {
        return Err(format!("the stop goes on for too long: {phase:?}"));
    }
    let waits = matches!(phase, Phase::Queued { .. } | Phase::Ended { .. });
    if !waits && task.shown != phase.state() {
        return Err(format!("shown is {:?}, it is {phase:?}", task.shown));
    }
    let is_of_now = state.model.revision == model.registry.model.revision;
    if !is_of_now && task.inbox.is_empty() {
        return Err("it goes by settings that have changed".to_owned());
    }
    process_is_seen(world, model, task, state)
}

/// What the process says was seen.
fn process_is_seen(world: &World, model: &Model, task: &Task, state: &State) -> Result<(), String> {
    let phase = &state.life.phase;
    let (Some(process), Some(live)) = (&model.process, &task.live) else { return Ok(()) };
    if phase.stage() == Some(StopStage::Killed) && !process.killed {
        return Err(format!("{phase:?}, and it was never killed"));
    }
    if process.ended.is_some() || phase.stage().is_some() || live.blind {
        return Ok(());
    }
    if live.attention != Attention::of(phase) {
        return Err(format!("{phase:?}, and who watches looks for {:?}", live.attention));
    }
    if matches!(phase, Phase::Ready { .. })
        && let (Some(since), Some(limit)) =
            (process.hung_since, Limits::of(&state.model.settings).hang)
    {
        let seen_by = since.max(task.watched_from) + milliseconds(limit) + HANG_SEEN_MS;
        if world.now > seen_by {
            return Err("it hangs, and that is not seen".to_owned());
        }
    }
    if live.look < NEVER {
        return Ok(());
    }
    let shown = phase.state();
    let is_right = match process.shows {
        Seen::Loading if process.stranger => true,
        Seen::Loading => !matches!(shown, Shown::Starting | Shown::Adopting),
        // That who answers is behind the process, it alone can say.
        Seen::Healthy | Seen::Asleep
            if process.wrapper && (!process.announced || shown == Shown::Adopting) =>
        {
            true
        }
        // Shown ready as soon as both are known.
        Seen::Healthy if process.announced => shown == Shown::Ready,
        Seen::Asleep if process.announced => shown == Shown::Sleeping,
        Seen::Healthy | Seen::Asleep => {
            matches!(shown, Shown::Loading | Shown::Ready | Shown::Sleeping)
        }
        Seen::Silent | Seen::Unreachable | Seen::Foreign => true,
    };
    if !is_right {
        return Err(format!("shown is {shown:?}, the process says {:?}", process.shows));
    }
    let is_ready = matches!(shown, Shown::Ready | Shown::Sleeping);
    if is_ready && !process.was_healthy && !state.run.as_ref().is_some_and(|run| run.was_adopted) {
        return Err(format!("shown is {shown:?}, and it was never healthy"));
    }
    Ok(())
}

/// What is written agrees with what is there, but for what a full disk did not take.
fn records_are_true(model: &Model, task: &Task, state: &State) -> Result<(), String> {
    if model.unwritten || model.registry.removed {
        return Ok(());
    }
    let phase = &state.life.phase;
    let Some(last) = &model.registry.last else { return Ok(()) };
    if phase.run().is_none() && last.ended_at_ms.is_none() {
        return Err(format!("it is {phase:?}, and the end of run {} is not written", last.id));
    }
    let made = task.live.and(model.process.as_ref()).map(|process| process.serial);
    if made.is_some() && last.process.map(|(serial, _)| serial) != made {
        return Err("which process it is is not written".to_owned());
    }
    let wants = model.registry.desired.as_ref().map(|row| row.desired.state);
    if !model.fragile && wants != state.desired.as_ref().map(|desired| desired.state) {
        return Err(format!("written is {wants:?}, known is {:?}", state.desired));
    }
    Ok(())
}

/// Who loads may, and where nothing is under way to the arbiter, its ledger is what is.
fn places(world: &World, daemon: &Daemon) -> Result<(), String> {
    let states = || {
        world.models.iter().filter_map(|model| Some((model, model.task.as_ref()?.state.as_ref()?)))
    };
    let loads = |phase: &Phase| matches!(phase, Phase::Preparing { .. } | Phase::Starting { .. });
    let was_found = |state: &State| state.run.as_ref().is_some_and(|run| run.was_adopted);
    let max = world.bounds.max_loading as usize;
    let admitted = states().filter(|(_, state)| loads(&state.life.phase) && !was_found(state));
    let admitted = admitted.count();
    if admitted > max {
        return Err(format!("{admitted} load at once, and {max} may"));
    }
    if admitted > 0 && !daemon.recovered {
        return Err("one loads before everything that runs was found".to_owned());
    }
    if !daemon.mail.is_empty() {
        return Ok(());
    }
    let mut loading = 0;
    for (model, state) in states() {
        let phase = &state.life.phase;
        let entry = daemon.ledger.tickets().find(|(id, _)| *id == model.id).map(|(_, run)| run);
        if entry != ticket(phase) {
            return Err(format!("model {}: {phase:?}, the ledger says {entry:?}", model.id));
        }
        let task = model.task.as_ref();
        let is_let_in =
            |run: &RunId| task.is_some_and(|task| task.orders.admit.as_ref() == Some(run));
        loading += usize::from(match phase {
            Phase::Queued { run } => is_let_in(run),
            Phase::Adopting { was_ready, .. } => !was_ready,
            phase => loads(phase),
        });
    }
    if daemon.ledger.loads() != loading {
        return Err(format!("{loading} load, {} hold a place for it", daemon.ledger.loads()));
    }
    Ok(())
}

/// The run that the arbiter knows of in a phase.
fn ticket(phase: &Phase) -> Option<&RunId> {
    match phase {
        Phase::Stopped | Phase::Failed => None,
        Phase::Queued { run } | Phase::Backoff { run } | Phase::Preparing { run } => Some(run),
        phase => phase.run(),
    }
}

/// What must hold when nothing is going to happen any more: everything that was asked is answered,
/// and whoever still is between two phases is held there by a process that cannot be killed.
pub(crate) fn at_rest(world: &World) -> Result<(), String> {
    if let Some(daemon) = &world.daemon
        && let Some((id, request)) = daemon.requests.iter().next()
    {
        return Err(format!("request {id} is never answered: {request:?}"));
    }
    for model in &world.models {
        let Some(state) = model.task.as_ref().and_then(|task| task.state.as_ref()) else {
            // Nobody has touched it: it rests, and nothing was to be done.
            match (&model.process, model.promise) {
                (None, Promise::Rest | Promise::Nothing) => continue,
                (None, Promise::Run { .. }) | (Some(_), _) => {
                    return Err(format!(
                        "model {}: nobody looks after it, promised was {:?}",
                        model.id, model.promise
                    ));
                }
            }
        };
        let phase = &state.life.phase;
        let immortal = model.process.as_ref().is_some_and(|process| process.immortal);
        let answered = match (phase, model.promise) {
            (Phase::Stuck { .. }, _) if immortal => true,
            (Phase::Stopped, Promise::Rest | Promise::Nothing) => true,
            (Phase::Failed | Phase::Ready { .. }, Promise::Nothing) => true,
            // What failed before the boot, and nobody has stopped since.
            (Phase::Failed, Promise::Rest) => {
                let row = model.registry.desired.as_ref();
                row.is_some_and(|row| row.desired.state == DesiredState::Running)
            }
            (Phase::Failed, Promise::Run { since, .. }) => {
                model.account.given_up_at.is_some_and(|at| at >= since)
            }
            (Phase::Ready { .. }, Promise::Run { after_serial, .. }) => {
                model.process.as_ref().is_some_and(|process| process.serial > after_serial)
            }
            _ => false,
        };
        if !answered {
            return Err(format!(
                "model {}: at rest it is {phase:?}, promised was {:?}",
                model.id, model.promise
            ));
        }
    }
    Ok(())
}
