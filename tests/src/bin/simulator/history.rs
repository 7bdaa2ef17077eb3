//! One history: what happens in what order, and how it ends.

use crate::asks::Ask;
use crate::counts::Counts;
use crate::ending::any_end;
use crate::invariants;
use crate::planted::Bug;
use crate::process::Luck;
use crate::registry::any_settings;
use crate::task::somebody;
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
        match world.rng.u8(0..10) {
            0..5 => world.daemon_starts(),
            5 if world.rng.u8(0..5) == 0 => world.reboot(),
            5 => {}
            _ => return pass(world),
        }
        return Ok(());
    }
    match world.rng.u16(0..1000) {
        0..560 => return pass(world),
        560..640 => world.ask(at, Ask::Start, somebody()),
        640..700 => world.ask(at, Ask::Stop, somebody()),
        700..780 => world.ask(at, Ask::Restart, somebody()),
        780..790 => world.ask(at, Ask::Remove, somebody()),
        790..815 => {
            let settings = any_settings(&mut world.rng);
            world.set(at, settings);
        }
        815..835 => world.models[at].luck = Luck::any(&mut world.rng),
        835..870 => {
            let ended = any_end(&mut world.rng);
            world.crash(at, ended);
        }
        870..885 => {
            let now = world.now;
            if let Some(process) = &mut world.models[at].process
                && process.ended.is_none()
            {
                process.hang(now);
                world.look_soon(at);
            }
        }
        // Time in which nothing is seen to happen, up to what is due next.
        885..905 => {
            let longest = world.rng.u64(0..120_000);
            let due = world.next().map_or(world.now + longest, |(due, ..)| due);
            world.now = world.now.max(due.min(world.now + longest));
        }
        // A look that sees nothing new.
        905..915 => world.look_soon(at),
        915..925 => {
            let full = world.rng.u64(0..20_000);
            world.disk_full_until = world.now + full;
            world.say(|| "the disk is full".to_owned());
        }
        925..930 => {
            let day = if world.rng.bool() { 86_400_000 } else { -86_400_000 };
            world.set_clock(day);
        }
        930..970 => world.fuse = Some(world.rng.u32(0..12)),
        970..980 => return pass(world),
        980..986 => return Err(Halt::Killed),
        986..994 => {
            let keeps = world.rng.bool();
            world.shut_down(keeps);
        }
        994..996 => world.reboot(),
        _ => {
            for at in 0..world.models.len() {
                world.ask(at, Ask::Start, somebody());
            }
        }
    }
    Ok(())
}

/// Some things that are due happen: one start is a dozen of them.
fn pass(world: &mut World) -> Flow {
    for _ in 0..world.rng.u8(1..8) {
        world.advance()?;
        if let Some(what) = invariants::after_step(world).err() {
            return Err(Halt::Broken(what));
        }
    }
    Ok(())
}

/// Nobody disturbs any more: everything comes to rest, in a state that answers what was asked.
fn come_to_rest(world: &mut World, step: &mut u32) -> Result<(), String> {
    world.say(|| "from now on nobody disturbs".to_owned());
    world.fuse = None;
    world.disk_full_until = 0;
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
            world.daemon_starts();
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
