//! Faults on purpose, at named points, for the tests that show what survives them.
//!
//! `LLAMACTL_FAILPOINTS=spawned=abort,command=panic*1` makes the daemon abort where it reaches the
//! point `spawned`, and the first task that reaches `command` panic. Without the variable a point
//! costs one comparison. The daemon's own environment sets it: nobody gains what he had not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The variable that sets points.
pub const VARIABLE: &str = "LLAMACTL_FAILPOINTS";

#[derive(Debug, PartialEq)]
enum Act {
    /// The process ends at once, as if killed.
    Abort,
    /// The task panics.
    Panic,
    /// The thread stands still for ever.
    Block,
}

struct Point {
    name: String,
    act: Act,
    /// How often it still acts.
    left: AtomicU32,
}

/// Does what was set for this point; nothing where nothing was.
pub fn hit(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()));
    let Some(point) = points.iter().find(|point| point.name == name) else { return };
    let take = |left: u32| left.checked_sub(1);
    if point.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
        return;
    }
    tracing::warn!(name, act = ?point.act, "a fault on purpose");
    match point.act {
        Act::Abort => std::process::abort(),
        #[allow(clippy::panic)] // It is what was asked for.
        Act::Panic => std::panic::panic_any("a fault on purpose"),
        Act::Block => loop {
            thread::sleep(Duration::from_secs(3600));
        },
    }
}

/// Reads `name=act` or `name=act*times`, separated by commas; what it does not know it leaves out.
fn parse(text: &str) -> Vec<Point> {
    let read = |entry: &str| {
        let (name, rest) = entry.split_once('=')?;
        let (act, times) = rest.split_once('*').map_or((rest, None), |(act, n)| (act, Some(n)));
        let act = match act {
            "abort" => Act::Abort,
            "panic" => Act::Panic,
            "block" => Act::Block,
            _ => return None,
        };
        let left = times.map_or(Some(u32::MAX), |times| times.parse().ok())?;
        Some(Point { name: name.trim().to_owned(), act, left: AtomicU32::new(left) })
    };
    text.split(',').filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_and_nonsense_is_left_out() {
        let points = parse("spawned=abort,command=panic*2,x=dance,y,z=block*many");
        let read: Vec<_> = points
            .iter()
            .map(|it| (it.name.as_str(), &it.act, it.left.load(Ordering::SeqCst)))
            .collect();
        assert_eq!(read, [("spawned", &Act::Abort, u32::MAX), ("command", &Act::Panic, 2)]);
        assert!(parse("").is_empty());
    }
}
