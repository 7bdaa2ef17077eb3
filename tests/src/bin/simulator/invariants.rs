//! What must hold after every step, and what must hold when nobody disturbs any more.

use crate::model::{Model, Promise};
use crate::process::NEVER;
use crate::world::World;
use llamactl_protocol::server::{DesiredState, State};
use llamactld::llama::Seen;
use llamactld::supervisor::core::machine::{Phase, Rung};

/// What must hold after every step.
pub(crate) fn after_step(world: &World) -> Result<(), String> {
    if world.daemon.is_none() {
        return Ok(());
    }
    for model in &world.models {
        shown_is_true(world, model).map_err(|what| format!("model {}: {what}", model.id))?;
    }
    places(world)
}

/// The phase says what is there, and has a way out.
fn shown_is_true(world: &World, model: &Model) -> Result<(), String> {
    let phase = &model.life.phase;
    let there = model.process.as_ref().map(|process| &process.run);
    if phase.run() != there {
        return Err(format!("shown is {phase:?}, there is {there:?}"));
    }
    let timed = match phase {
        Phase::Backoff { .. }
        | Phase::Starting { .. }
        | Phase::Adopting { .. }
        | Phase::Stopping { .. } => true,
        Phase::Stopped
        | Phase::Failed
        | Phase::Queued { .. }
        | Phase::Ready { .. }
        | Phase::Stuck { .. } => false,
    };
    if timed != (model.timer < NEVER) {
        return Err(format!("{phase:?}, and a timer is {}set", if timed { "not " } else { "" }));
    }
    if matches!(phase, Phase::Stopping { .. }) && world.now > model.stopped_by {
        return Err(format!("the stop goes on for too long: {phase:?}"));
    }
    let rung = phase.rung();
    let Some(process) = &model.process else { return Ok(()) };
    if rung == Some(Rung::Killed) && !process.killed {
        return Err(format!("{phase:?}, and it was never killed"));
    }
    if process.ended.is_some() || rung.is_some() || model.look < NEVER {
        return Ok(());
    }
    // What it says was seen.
    let state = phase.state();
    let is_right = match process.shows {
        Seen::Loading if process.stranger => true,
        Seen::Loading => !matches!(state, State::Starting | State::Adopting),
        // That who answers is behind the process, it alone can say.
        Seen::Healthy | Seen::Asleep
            if process.wrapper && (!process.announced || state == State::Adopting) =>
        {
            true
        }
        // Shown ready as soon as both are known.
        Seen::Healthy if process.announced => matches!(state, State::Ready),
        Seen::Asleep if process.announced => matches!(state, State::Sleeping),
        Seen::Healthy | Seen::Asleep => {
            matches!(state, State::Loading | State::Ready | State::Sleeping)
        }
        Seen::Silent | Seen::Unreachable | Seen::Foreign => true,
    };
    if !is_right {
        return Err(format!("shown is {state:?}, the process says {:?}", process.shows));
    }
    if matches!(state, State::Ready | State::Sleeping) && !process.was_healthy && !model.adopted {
        return Err(format!("shown is {state:?}, and it was never healthy"));
    }
    Ok(())
}

/// Who holds a place needs it, and who needs one holds it.
fn places(world: &World) -> Result<(), String> {
    let count = |holds: fn(&Phase) -> bool| {
        world.models.iter().filter(|model| holds(&model.life.phase)).count()
    };
    let (loading, running) = (count(Phase::loads), count(|phase| !phase.rests()));
    let admission = &world.admission;
    if admission.loads() != loading {
        return Err(format!("{loading} load, {} hold a place for it", admission.loads()));
    }
    if admission.runs() != running {
        return Err(format!("{running} do not rest, {} hold a place for it", admission.runs()));
    }
    for model in &world.models {
        let waits = matches!(model.life.phase, Phase::Queued { .. });
        if waits != admission.position(model.id).is_some() {
            return Err(format!("model {}: {:?} and the line differ", model.id, model.life.phase));
        }
    }
    Ok(())
}

/// What must hold when nothing is going to happen any more: every wish is answered, and whoever
/// still is between two states is held there by a process that cannot be killed.
pub(crate) fn at_rest(world: &World) -> Result<(), String> {
    for model in &world.models {
        let phase = &model.life.phase;
        let immortal = model.process.as_ref().is_some_and(|process| process.immortal);
        let answered = match (phase, model.promise) {
            (Phase::Stuck { .. }, _) if immortal => true,
            (Phase::Stopped, Promise::Rest | Promise::Nothing) => true,
            (Phase::Failed | Phase::Ready { .. }, Promise::Nothing) => true,
            // What failed before the boot, and nobody has stopped since.
            (Phase::Failed, Promise::Rest) => {
                model.wanted.is_some_and(|wanted| wanted.state == DesiredState::Running)
            }
            // An on-demand server that ended cleanly waits for the next demand.
            (Phase::Failed | Phase::Stopped, Promise::Run { since, fragile, .. }) => {
                let given_up = model.account.given_up_at.is_some_and(|at| at >= since);
                given_up && (fragile || *phase == Phase::Failed)
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
