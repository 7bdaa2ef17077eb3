//! What was acknowledged, model by model, and what must be seen because of it.
//!
//! Everything here is a pure function of calls, answers and looks at the world.

use crate::world::{Shown, World};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Something a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// `server.start`, with settings for this run.
    Start(Map<String, Value>),
    /// `server.stop`
    Stop,
    /// `server.restart`, with settings for this run.
    Restart(Map<String, Value>),
    /// `model.set` of one key.
    Set(String, Value),
    /// `model.rename`
    Rename(String),
    /// `model.alias`: one added, others removed.
    Alias(String, Vec<String>),
}

impl Wish {
    /// Whether it is about the process.
    fn is_of_server(&self) -> bool {
        matches!(self, Wish::Start(_) | Wish::Stop | Wish::Restart(_))
    }
}

/// What holds for a model by all that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) aliases: BTreeSet<String>,
    pub(crate) settings: Map<String, Value>,
    /// Whether its server is to run.
    pub(crate) running: bool,
    /// The run that carries this out, as far as somebody said.
    pub(crate) run: Option<String>,
    /// No process older than this will do.
    pub(crate) renewed_at_ms: i64,
    /// What was set for its run alone; `None`: whatever the run has that there is.
    pub(crate) overrides: Option<Map<String, Value>>,
}

impl Facts {
    /// Takes in an answer to a wish that was sent at `sent_at_ms`.
    pub(crate) fn acknowledge(&mut self, wish: Wish, answer: &Value, sent_at_ms: i64) {
        let run = || answer["run_id"].as_str().map(str::to_owned);
        match wish {
            Wish::Start(set) => {
                self.running = true;
                self.run = run();
                // A start of what runs or is about to changes nothing. One that overtakes a stop may
                // find the old process there when the stop was lost with its daemon: a start that
                // sets nothing takes any.
                if answer["changed"] == true {
                    let overtakes = answer["server"]["state"] == "stopping";
                    self.overrides = (!overtakes || !set.is_empty()).then_some(set);
                }
            }
            Wish::Restart(set) => {
                self.running = true;
                self.run = run();
                self.renewed_at_ms = sent_at_ms;
                self.overrides = Some(set);
            }
            Wish::Stop => {
                self.running = false;
                self.run = None;
                self.overrides = None;
            }
            Wish::Set(key, value) => _ = self.settings.insert(key, value),
            Wish::Rename(to) => self.name = to,
            Wish::Alias(add, remove) => {
                self.aliases.retain(|alias| !remove.contains(alias));
                self.aliases.insert(add);
            }
        }
    }

    /// The registry's entry with a wish carried out that may have been, or not.
    fn with(&self, wish: &Wish) -> Facts {
        let mut facts = self.clone();
        if !wish.is_of_server() {
            facts.acknowledge(wish.clone(), &Value::Null, 0);
        }
        facts
    }

    fn registered_as(&self, shown: &Shown) -> bool {
        self.name == shown.name && self.aliases == shown.aliases && self.settings == shown.settings
    }
}

/// A model of which clients ask for things.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) facts: Facts,
    /// The wish that a kill left without an answer.
    pub(crate) cut: Option<Wish>,
    /// The run that was seen ready when all was last at rest, while nobody has wished otherwise.
    pub(crate) settled: Option<String>,
}

impl Entry {
    /// Whether the process of this run must be taken over: it carries out what is wanted, and no
    /// wish that may hold wants otherwise.
    pub(crate) fn must_keep(&self, run: &str) -> bool {
        let disturbed = matches!(&self.cut, Some(Wish::Stop | Wish::Restart(_)));
        self.facts.running && !disturbed && self.facts.run.as_deref() == Some(run)
    }

    /// What is not yet as it was acknowledged; nothing when all is.
    pub(crate) fn unmet(&self, world: &World) -> Vec<String> {
        let Some(shown) = world.shown.iter().find(|shown| shown.id == self.id) else {
            return vec![format!("the model {} is gone", self.facts.name)];
        };
        let mut unmet = Vec::new();
        let name = &shown.name;
        let cut_held = self.cut.as_ref().map(|wish| self.facts.with(wish));
        let registered = self.facts.registered_as(shown)
            || cut_held.as_ref().is_some_and(|facts| facts.registered_as(shown));
        if !registered {
            unmet.push(format!(
                "{name} is registered as {:?} {:?}, but acknowledged was {:?} {:?} {:?}, and cut: {:?}",
                shown.aliases,
                shown.settings,
                self.facts.name,
                self.facts.aliases,
                self.facts.settings,
                self.cut,
            ));
        }
        let cut_of_server = self.cut.as_ref().filter(|wish| wish.is_of_server());
        let running = match (shown.wish.as_deref(), cut_of_server) {
            (Some(wish), Some(_)) => wish == "running",
            _ => self.facts.running,
        };
        if let Some(wish) = &shown.wish
            && (wish == "running") != running
        {
            unmet.push(format!("{name} is wanted {wish}, but that is not what was acknowledged"));
        }
        let processes = world.processes.iter().filter(|process| process.model == Some(self.id));
        let processes: Vec<_> = processes.collect();
        if !running {
            if shown.state != "stopped" || !processes.is_empty() {
                unmet.push(format!(
                    "{name} is to be stopped, is {}, and has the processes {processes:?}",
                    shown.state
                ));
            }
            return unmet;
        }
        if shown.state != "ready" {
            unmet.push(format!("{name} is to run and is {} ({})", shown.state, shown.cause));
            return unmet;
        }
        if processes.iter().map(|it| Some(it.pid)).ne([shown.pid]) {
            unmet.push(format!("{name} is shown as {:?}, and there are {processes:?}", shown.pid));
        }
        if let Some(settled) = &self.settled
            && self.must_keep(settled)
            && shown.run.as_ref() != Some(settled)
        {
            unmet.push(format!(
                "{name} runs as {:?}, and as {settled} before, but nobody wished for another",
                shown.run
            ));
        }
        if shown.started_at_ms.is_none_or(|at_ms| at_ms < self.facts.renewed_at_ms) {
            unmet.push(format!(
                "{name} runs since {:?}, but an acknowledged restart was asked for at {}",
                shown.started_at_ms, self.facts.renewed_at_ms
            ));
        }
        if let Some(overrides) = &self.facts.overrides
            && cut_of_server.is_none()
            && shown.overrides != *overrides
        {
            unmet.push(format!(
                "{name} was to run with {overrides:?} over its settings, and has {:?}",
                shown.overrides
            ));
        }
        unmet
    }

    /// Takes what is now for what was acknowledged, where a cut wish left it open.
    pub(crate) fn settle(&mut self, world: &World) {
        let Some(shown) = world.shown.iter().find(|shown| shown.id == self.id) else { return };
        self.cut = None;
        self.facts.name.clone_from(&shown.name);
        self.facts.aliases.clone_from(&shown.aliases);
        self.facts.settings.clone_from(&shown.settings);
        self.facts.running = shown.state == "ready";
        self.facts.run = shown.run.clone().filter(|_| self.facts.running);
        self.facts.renewed_at_ms = 0;
        self.facts.overrides = self.facts.running.then(|| shown.overrides.clone());
        self.settled.clone_from(&self.facts.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Server;
    use serde_json::json;

    fn entry(running: bool) -> Entry {
        let facts = Facts {
            name: "m".to_owned(),
            aliases: BTreeSet::new(),
            settings: Map::new(),
            running,
            run: running.then(|| "r1".to_owned()),
            renewed_at_ms: 0,
            overrides: running.then(Map::new),
        };
        Entry { id: 1, settled: facts.run.clone(), facts, cut: None }
    }

    fn ready(run: &str, started_at_ms: i64) -> World {
        let shown = Shown {
            id: 1,
            name: "m".to_owned(),
            aliases: BTreeSet::new(),
            settings: Map::new(),
            state: "ready".to_owned(),
            cause: String::new(),
            wish: Some("running".to_owned()),
            run: Some(run.to_owned()),
            pid: Some(7),
            started_at_ms: Some(started_at_ms),
            overrides: Map::new(),
        };
        let process = Server { pid: 7, run: Some(run.to_owned()), model: Some(1) };
        World { processes: vec![process], shown: vec![shown] }
    }

    fn stopped() -> World {
        let mut world = ready("r1", 10);
        world.processes.clear();
        world.shown[0].state = "stopped".to_owned();
        world.shown[0].wish = Some("stopped".to_owned());
        world
    }

    fn none() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn a_server_nobody_wished_otherwise_must_be_the_same() {
        let entry = entry(true);
        assert!(entry.must_keep("r1"));
        assert_eq!(entry.unmet(&ready("r1", 10)), none());
        assert_ne!(entry.unmet(&ready("r2", 10)), none());
        assert_ne!(entry.unmet(&stopped()), none());
        let mut other_process = ready("r1", 10);
        other_process.processes[0].pid = 8;
        assert_ne!(entry.unmet(&other_process), none());
    }

    #[test]
    fn an_acknowledged_restart_needs_a_process_that_is_younger() {
        let mut entry = entry(true);
        let set = json!({ "seed": 1 }).as_object().unwrap().clone();
        entry.facts.acknowledge(Wish::Restart(set.clone()), &json!({ "run_id": "r2" }), 20);
        assert!(!entry.must_keep("r1"));
        assert_eq!(
            entry.unmet(&ready("r1", 10)).len(),
            2,
            "neither younger, nor with its settings"
        );
        let mut renewed = ready("r2", 21);
        renewed.shown[0].overrides = set;
        assert_eq!(entry.unmet(&renewed), none());
    }

    #[test]
    fn a_cut_wish_holds_or_does_not() {
        let mut entry = entry(true);
        entry.cut = Some(Wish::Stop);
        assert!(!entry.must_keep("r1"));
        assert_eq!(entry.unmet(&stopped()), none());
        assert_eq!(entry.unmet(&ready("r1", 10)), none());
        let mut half = stopped();
        half.processes = ready("r1", 10).processes;
        assert_ne!(entry.unmet(&half), none(), "stopped, and a process is there");
        entry.cut = Some(Wish::Rename("n".to_owned()));
        assert_eq!(entry.unmet(&ready("r1", 10)), none());
        let mut renamed = ready("r1", 10);
        renamed.shown[0].name = "n".to_owned();
        assert_eq!(entry.unmet(&renamed), none());
        renamed.shown[0].name = "o".to_owned();
        assert_ne!(entry.unmet(&renamed), none());
    }

    #[test]
    fn an_acknowledged_change_and_an_acknowledged_stop_must_hold() {
        let mut changed = entry(true);
        changed.facts.acknowledge(Wish::Set("seed".to_owned(), json!(1)), &Value::Null, 0);
        assert_ne!(changed.unmet(&ready("r1", 10)), none());
        let mut stopping = entry(true);
        stopping.facts.acknowledge(Wish::Stop, &json!({ "run_id": "r1" }), 20);
        assert_ne!(stopping.unmet(&ready("r1", 10)), none());
        assert_eq!(stopping.unmet(&stopped()), none());
    }
}
