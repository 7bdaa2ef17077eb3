//! One history: what happens in what order, and how it ends.

use crate::asks::Ask;
use crate::counts::Counts;
use crate::invariants;
use crate::model::any_limits;
use crate::planted::Bug;
use crate::process::{Luck, any_end};
use crate::world::{Flow, Halt, World};

/// When nobody disturbs, everything rests after so many things more, and so much time.
const THINGS_UNTIL_REST: u32 = 20_000;
const TIME_UNTIL_REST: u64 = 48 * 3_600_000;

/// Why a history is wrong.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) step: u32,
    pub(crate) what: String,
}

/// Plays the history of a seed.
pub(crate) fn play(
    seed: u64,
    steps: u32,
    bug: Option<Bug>,
    trace: bool,
) -> (Counts, Result<(), Violation>) {
    let mut world = World::new(seed, bug, trace);
    let mut step = 0;
    let outcome = (|| {
        while step < steps {
            step += 1;
            let flow = disturb(&mut world);
            world.survive(flow)?;
            world.end_if_closed();
            invariants::after_step(&world)?;
        }
        come_to_rest(&mut world, &mut step)
    })();
    world.counts.steps += u64::from(step);
    (world.counts, outcome.map_err(|what| Violation { step, what }))
}

/// One thing happens.
fn disturb(world: &mut World) -> Flow {
    let at = world.rng.usize(0..world.models.len());
    if world.daemon.is_none() {
        return match world.rng.u8(0..10) {
            0..5 => world.daemon_starts(),
            5 => {
                if world.rng.u8(0..5) == 0 {
                    world.reboot();
                }
                Ok(())
            }
            _ => pass(world),
        };
    }
    match world.rng.u16(0..1000) {
        0..520 => pass(world),
        520..620 => world.ask(at, Ask::Start).map(drop),
        620..690 => world.ask(at, Ask::Stop).map(drop),
        690..800 => world.ask(at, Ask::Restart).map(drop),
        800..830 => {
            world.models[at].limits = any_limits(&mut world.rng);
            Ok(())
        }
        830..850 => {
            world.models[at].luck = Luck::any(&mut world.rng);
            Ok(())
        }
        850..880 => {
            let ended = any_end(&mut world.rng);
            world.crash(at, ended);
            Ok(())
        }
        880..895 => {
            let now = world.now;
            if let Some(process) = &mut world.models[at].process
                && process.ended.is_none()
            {
                process.hang(now);
                world.look_soon(at);
            }
            Ok(())
        }
        // Time in which nothing is seen to happen, up to what is due next.
        895..915 => {
            let longest = world.rng.u64(0..120_000);
            let due = world.next().map_or(world.now + longest, |(due, ..)| due);
            world.now = world.now.max(due.min(world.now + longest));
            Ok(())
        }
        // A look that sees nothing new.
        915..930 => {
            world.look_soon(at);
            Ok(())
        }
        930..980 => {
            world.fuse = Some(world.rng.u32(0..8));
            Ok(())
        }
        980..987 => Err(Halt::Killed),
        987..993 => world.shut_down(),
        993..995 => {
            world.reboot();
            Ok(())
        }
        _ => {
            let model = &world.models[at];
            if model.life.phase.run().is_none() {
                let id = world.models[at].id;
                world.say(|| format!("model {id} is removed"));
                world.admission.release(id);
                world.replace(at);
            }
            Ok(())
        }
    }
}

fn pass(world: &mut World) -> Flow {
    world.advance().map(drop)
}

/// Nobody disturbs any more: everything comes to rest, in a state that answers what was asked.
fn come_to_rest(world: &mut World, step: &mut u32) -> Result<(), String> {
    world.say(|| "from now on nobody disturbs".to_owned());
    world.fuse = None;
    world.calm = true;
    for model in &mut world.models {
        if let Some(process) = &mut model.process {
            process.stay_awake();
        }
    }
    let began = world.now;
    let mut things = 0;
    loop {
        if world.daemon.is_none() {
            let flow = world.daemon_starts();
            world.survive(flow)?;
        }
        invariants::after_step(world)?;
        *step += 1;
        things += 1;
        match world.advance() {
            Ok(true) => {}
            Ok(false) => break,
            flow => world.survive(flow.map(drop))?,
        }
        world.end_if_closed();
        if things > THINGS_UNTIL_REST || world.now - began > TIME_UNTIL_REST {
            return Err("it does not come to rest".to_owned());
        }
    }
    invariants::at_rest(world)
}
