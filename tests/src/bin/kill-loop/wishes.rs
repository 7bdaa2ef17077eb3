//! A client that asks for things, one after the other, until the daemon is gone.

use crate::call::{Connection, Outcome};
use crate::chance::Chance;
use crate::figures::Figures;
use crate::history::History;
use crate::ledger::{Entry, Facts, Wish};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a wish has come to, for whoever waits to kill the daemon at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was sent.
    Sent(u64),
    /// It was answered.
    Answered(u64),
}

/// Makes `count` wishes, and writes in the ledger what becomes of each. Ends early when the daemon
/// is gone.
pub(crate) fn make(
    count: u64,
    entries: &mut [Entry],
    socket: &Path,
    chance: &mut Chance,
    steps: &Sender<Step>,
    history: &History,
    figures: &Figures,
) {
    let Ok(mut connection) = Connection::open(socket) else { return };
    for number in 0..count {
        let at = usize::try_from(chance.below(entries.len() as u64)).unwrap();
        let entry = &mut entries[at];
        let wish = choose(&entry.facts, chance);
        let (method, params) = call_for(&wish, &entry.facts.name);
        history.line(format!("{method} {params}"));
        let sent_at_ms = now_ms();
        if !connection.send(method, &params) {
            // Not even the kernel took it.
            return history.line("the daemon is gone");
        }
        let _ = steps.send(Step::Sent(number));
        let outcome = connection.answer();
        let _ = steps.send(Step::Answered(number));
        if matches!(wish, Wish::Stop | Wish::Restart(_))
            && !matches!(outcome, Outcome::Refused { .. })
        {
            entry.settled = None;
        }
        match outcome {
            Outcome::Answered(answer) => {
                figures.acknowledged.add(1);
                history.line(format!(
                    "  acknowledged: run {} changed {} state {}",
                    answer["run_id"], answer["changed"], answer["server"]["state"]
                ));
                if answer["durable"] == false {
                    history.violation(format!("{method} was not durable on a disk with space"));
                }
                entry.facts.acknowledge(wish, &answer, sent_at_ms);
            }
            Outcome::Refused { kind, message } => {
                figures.refused.add(1);
                history.line(format!("  refused: {kind}: {message}"));
                // The good reasons: it runs with other settings for its run, and a daemon that
                // is about to make way for the next takes nothing up.
                if !matches!(kind.as_str(), "model_running" | "stopping") {
                    history.violation(format!("{method} {params} was refused: {kind}: {message}"));
                }
            }
            Outcome::Cut => {
                figures.cut.add(1);
                history.line("  cut");
                entry.cut = Some(wish);
                return;
            }
            Outcome::Silent => {
                history.violation(format!("{method} {params} was never answered"));
                entry.cut = Some(wish);
                return;
            }
        }
    }
}

fn choose(facts: &Facts, chance: &mut Chance) -> Wish {
    let number = chance.below(10_000);
    match chance.below(100) {
        0..25 => Wish::Start(overrides(chance)),
        25..40 => Wish::Stop,
        40..58 => Wish::Restart(overrides(chance)),
        58..76 => {
            // None of them makes a load slower.
            let key = *chance.pick(&["seed", "top-k", "predict"]);
            Wish::Set(key.to_owned(), json!(number))
        }
        76..86 => {
            let stem = facts.name.split('-').next().unwrap_or_default();
            Wish::Rename(format!("{stem}-{number}"))
        }
        _ => {
            let stem = facts.name.split('-').next().unwrap_or_default();
            let alias = format!("{stem}.{number}");
            // Few enough to read in the evidence.
            let old = facts.aliases.iter().filter(|old| **old != alias).take(2).cloned();
            let remove = if facts.aliases.len() > 2 { old.collect() } else { Vec::new() };
            Wish::Alias(alias, remove)
        }
    }
}

/// Settings for one run, or none.
fn overrides(chance: &mut Chance) -> Map<String, Value> {
    let mut set = Map::new();
    if chance.below(4) == 0 {
        set.insert("seed".to_owned(), json!(chance.below(1_000)));
    }
    set
}

fn call_for(wish: &Wish, model: &str) -> (&'static str, Value) {
    match wish {
        Wish::Start(set) => ("server.start", json!({ "model": model, "set": set })),
        Wish::Stop => ("server.stop", json!({ "model": model })),
        Wish::Restart(set) => ("server.restart", json!({ "model": model, "set": set })),
        Wish::Set(key, value) => ("model.set", json!({ "model": model, "set": { key: value } })),
        Wish::Rename(to) => ("model.rename", json!({ "model": model, "to": to })),
        Wish::Alias(add, remove) => {
            ("model.alias", json!({ "model": model, "add": [add], "remove": remove }))
        }
    }
}

/// The time, as the daemon counts it.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
