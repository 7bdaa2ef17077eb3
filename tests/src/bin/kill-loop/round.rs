//! One round: wishes, a kill, the next daemon, and the checks.

use crate::call::{Connection, Outcome};
use crate::chance::Chance;
use crate::figures::Figures;
use crate::follower::{self, Follower};
use crate::generation::Generation;
use crate::history::History;
use crate::ledger::{Entry, Facts};
use crate::plan::Plan;
use crate::wishes;
use crate::world::{self, Server, Shown, World};
use llamactl_tests::http::Endpoint;
use llamactl_tests::{DEADLINE, Daemon, Home, Stream, TestModel, eventually};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A world at rest that is not as it should be for this long will not become so.
const HOPELESS: Duration = Duration::from_secs(3);

/// How long servers that are stopped to begin anew may take.
const RECOVERY: Duration = Duration::from_secs(15);

/// How much of the daemon's own log is evidence.
const LOG_LINES: usize = 80;

/// The choices of a round for the plan, and for the wishes.
const OF_PLAN: u64 = 1;
const OF_WISHES: u64 = 2;

/// A home with models that run, a daemon to kill, and clients.
pub(crate) struct Loop<'a> {
    figures: &'a Figures,
    history: History,
    // Ended in this order: the clients, then the daemon, then what the home finds left.
    generation: Generation,
    follower: Follower,
    daemon: Daemon,
    home: Home,
    files: Vec<(i64, PathBuf)>,
    /// The first is the one that is listened to; nobody wishes anything of it.
    entries: Vec<Entry>,
    /// The last event that was listed.
    listed: i64,
}

impl<'a> Loop<'a> {
    /// Registers the models, starts them and the clients.
    pub(crate) fn begin(figures: &'a Figures) -> Loop<'a> {
        let home = Home::new();
        let daemon = home.daemon();
        let history = History::default();
        // One thread of low priority: it talks in the time that is left over.
        let talker = json!({ "threads": 1, "prio": -1, "ctx-size": 1024, "parallel": 1 });
        let other = json!({ "threads": 1, "ctx-size": 512, "parallel": 1 });
        let models = [
            ("protected", TestModel::MediumNeverStop, talker),
            ("tiny", TestModel::Tiny, other.clone()),
            ("medium", TestModel::Medium, other),
        ];
        let (mut files, mut entries) = (Vec::new(), Vec::new());
        for (name, model, settings) in models {
            let path = home.model(model);
            let params = json!({ "path": path, "name": name, "settings": settings });
            let added = home.call("model.add", params);
            let started = home.call("server.start", json!({ "model": name }));
            let id = added["model"]["id"].as_i64().unwrap();
            let facts = Facts {
                name: name.to_owned(),
                aliases: BTreeSet::new(),
                settings: added["model"]["settings"].as_object().unwrap().clone(),
                running: true,
                run: started["run_id"].as_str().map(str::to_owned),
                renewed_at_ms: 0,
                overrides: Some(Map::new()),
            };
            files.push((id, path));
            entries.push(Entry { id, facts, cut: None, settled: None });
        }
        let protected = json!({ "model": "protected" });
        let ready = home.follow("server.follow", protected).until_state("ready");
        let generation = Generation::start(Endpoint::of(&ready), history.clone());
        let follower = Follower::start(home.socket(), history.clone());
        let mut state = Loop {
            figures,
            history,
            generation,
            follower,
            daemon,
            home,
            files,
            entries,
            listed: 0,
        };
        state.history.begin("the beginning".to_owned());
        state.until_settled(&[], None);
        state
    }

    /// One round; what was violated in it.
    pub(crate) fn round(&mut self, seed: u64, round: u64, upgrade: bool) -> Vec<String> {
        let plan = Plan::choose(&mut Chance::of(seed, round, OF_PLAN));
        self.history.begin(format!("round {round} of seed {seed}: {plan:?}"));
        for entry in &self.entries {
            self.history.line(format!("before: {:?} settled {:?}", entry.facts, entry.settled));
        }
        let socket = self.home.socket();
        let mut wishes_of = Chance::of(seed, round, OF_WISHES);
        let upgraded = thread::scope(|scope| {
            let (steps, made) = mpsc::channel();
            let (history, figures) = (&self.history, self.figures);
            let entries = self.entries.get_mut(1..).unwrap();
            let (socket_of_wishes, count) = (&socket, plan.wishes);
            let client = scope.spawn(move || {
                let chance = &mut wishes_of;
                wishes::make(count, entries, socket_of_wishes, chance, &steps, history, figures);
            });
            if let Some(step) = plan.step {
                // It ends when the client has ended, too.
                let _ = made.iter().find(|made| *made == step);
            }
            // This is no wait for anything: the instant is what is random.
            thread::sleep(plan.delay);
            let upgraded = if upgrade {
                let before = Instant::now();
                upgrade_in_place(&self.home, &self.daemon, history, figures).then_some(before)
            } else {
                self.daemon.kill();
                history.line("killed");
                figures.kills.add(1);
                None
            };
            client.join().unwrap();
            upgraded
        });
        let processes = world::servers(&self.home, &self.files);
        self.forbid_doubled(&processes);
        let kept = self.to_be_kept(&processes);
        if upgrade {
            self.until_settled(&kept, upgraded);
            return self.history.take_violations();
        }
        let mut spawned = Instant::now();
        self.daemon.spawn_again();
        for life in plan.early {
            thread::sleep(life);
            self.daemon.kill();
            self.history.line("killed early");
            self.figures.kills.add(1);
            self.figures.early_kills.add(1);
            self.forbid_doubled(&world::servers(&self.home, &self.files));
            spawned = Instant::now();
            self.daemon.spawn_again();
        }
        if let Err(status) = self.daemon.until_it_answers() {
            self.history.violation(format!("the next daemon ended with {status}, see its log"));
            self.daemon.start_again();
        }
        self.figures.answered_after(spawned.elapsed());
        self.history.line("the next daemon answers");
        self.until_settled(&kept, Some(spawned));
        self.history.take_violations()
    }

    fn forbid_doubled(&self, processes: &[Server]) {
        if let Some(wrong) = world::doubled_or_unknown(processes) {
            self.history.violation(wrong);
        }
    }

    /// The processes that the next daemon must take over.
    fn to_be_kept(&self, processes: &[Server]) -> Vec<Server> {
        let must = |process: &&Server| {
            self.entries.iter().any(|entry| {
                Some(entry.id) == process.model
                    && process.run.as_ref().is_some_and(|run| entry.must_keep(run))
            })
        };
        let kept = processes.iter().filter(must).cloned().collect();
        self.history.line(format!("there are {processes:?}"));
        self.history.line(format!("to be taken over: {kept:?}"));
        kept
    }

    /// Waits until all is as it was acknowledged, and takes that for the beginning of what comes;
    /// says what is violated when it does not become so.
    ///
    /// `began` is when the daemon was started: the time from there is a figure.
    fn until_settled(&mut self, kept: &[Server], began: Option<Instant>) {
        let mut connection = Connection::open(&self.home.socket()).unwrap();
        let mut states = self.home.follow("server.follow", json!({}));
        let was_ready: Vec<&Server> = kept
            .iter()
            .filter(|process| self.entries.iter().any(|it| it.settled == process.run))
            .collect();
        let mut adopting = began;
        let deadline = Instant::now() + DEADLINE;
        let mut changed = Instant::now();
        let world = loop {
            let Some(world) = World::look(&mut connection, &self.home, &self.files) else {
                return self.history.violation("the daemon went away by itself");
            };
            self.forbid_doubled(&world.processes);
            if let Some(began) = adopting
                && was_ready.iter().all(|process| is_ready_in(&world, process))
            {
                self.figures.adopted_after(began.elapsed());
                adopting = None;
            }
            let mut unmet: Vec<String> =
                self.entries.iter().flat_map(|entry| entry.unmet(&world)).collect();
            unmet.extend(world.contradictions());
            let lost = kept.iter().filter(|process| !world.processes.contains(process));
            unmet.extend(lost.map(|lost| format!("not taken over: {lost:?}")));
            if unmet.is_empty() {
                self.figures.adopted.add(kept.len() as u64);
                break world;
            }
            let at_rest = world.shown.iter().all(Shown::is_at_rest);
            if Instant::now() > deadline || at_rest && changed.elapsed() > HOPELESS {
                for unmet in unmet {
                    self.history.violation(unmet);
                }
                for shown in &world.shown {
                    self.history.line(format!("{shown:?}"));
                }
                self.history.line(format!("there are {:?}", world.processes));
                break world;
            }
            // What a process is after its end is not announced: hence the bound.
            match states.item_within(Duration::from_millis(50)) {
                Some(Some(_)) => {
                    changed = Instant::now();
                    take_all(&mut states);
                }
                Some(None) => return self.history.violation("the stream of states broke off"),
                None => {}
            }
        };
        for entry in &mut self.entries {
            entry.settle(&world);
        }
        self.check_events();
    }

    fn check_events(&mut self) {
        match follower::list_behind(&mut self.home.connect(), self.listed) {
            Ok(last) => {
                self.listed = last;
                if !self.follower.has_seen(last) {
                    let (seen, _) = self.follower.position();
                    self.history.violation(format!(
                        "the events' follower has seen event {seen}, and the last is {last}"
                    ));
                }
            }
            Err(wrong) => self.history.violation(wrong),
        }
    }

    /// After a violation: stops all but the protected model's server, and takes what is then for
    /// the beginning; `false` when even that does not become as it should be.
    pub(crate) fn recover(&mut self) -> bool {
        let models = self.home.call("model.list", json!({}));
        for model in models["items"].as_array().into_iter().flatten() {
            if self.entries.iter().skip(1).any(|entry| model["id"] == entry.id) {
                self.home.call("server.stop", json!({ "model": model["name"] }));
            }
        }
        let mut connection = Connection::open(&self.home.socket()).unwrap();
        let deadline = Instant::now() + RECOVERY;
        let at_rest = |it: &Shown| matches!(it.state.as_str(), "ready" | "stopped");
        loop {
            let Some(world) = World::look(&mut connection, &self.home, &self.files) else {
                return false;
            };
            if world.contradictions().is_empty() && world.shown.iter().all(at_rest) {
                for entry in &mut self.entries {
                    entry.settle(&world);
                }
                let _ = self.history.take_violations();
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was done in the round.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.history.lines()
    }

    /// What there is to find a fault with: the round, the last events, the daemon's own log.
    pub(crate) fn print_evidence(&self) {
        println!("\nthe round:");
        for line in self.history.lines() {
            println!("  {line}");
        }
        println!("\nthe last events:");
        for event in self.follower.last_events() {
            println!("  {event}");
        }
        println!("\nthe daemons' log:");
        let log = self.daemon.stderr();
        let lines: Vec<&str> = log.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            println!("  {line}");
        }
    }

    /// The table.
    pub(crate) fn print_figures(&self) {
        let figures = self.figures;
        let counted = self.generation.counted();
        let (answering, adopting) = figures.times();
        let (events, resumed) = self.follower.position();
        let early = figures.early_kills.get();
        println!(
            "  kills                        {} ({early} of a daemon that had just begun)",
            figures.kills.get()
        );
        println!(
            "  upgrades in place            {}{}",
            figures.upgrades.get(),
            match figures.upgrades_skipped.get() {
                0 => String::new(),
                skipped => format!(", {skipped} skipped: this daemon has no daemon.restart"),
            }
        );
        println!("  servers taken over           {}", figures.adopted.get());
        println!(
            "  tokens of the protected one  {} in {} complete answers, {} cut, longest silence {:.0} ms",
            counted.tokens.load(Ordering::Relaxed),
            counted.complete.load(Ordering::Relaxed),
            counted.cut.load(Ordering::Relaxed),
            counted.longest_silence().as_secs_f64() * 1e3
        );
        println!(
            "  wishes                       {} acknowledged, {} cut, {} refused",
            figures.acknowledged.get(),
            figures.cut.get(),
            figures.refused.get()
        );
        println!("  events                       {events}, followed with {resumed} resumptions");
        println!("  start to first answer        p50 (p99) {answering}");
        println!("  start to all taken over      p50 (p99) {adopting}");
        println!("  violations                   {}", figures.violations.get());
    }
}

impl Drop for Loop<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_evidence();
        }
    }
}

fn is_ready_in(world: &World, process: &Server) -> bool {
    world.shown.iter().any(|shown| {
        Some(shown.id) == process.model && shown.pid == Some(process.pid) && shown.state == "ready"
    })
}

/// Reads what waits already: one look serves for all of it.
fn take_all(states: &mut Stream) {
    while let Some(Some(_)) = states.item_within(Duration::from_millis(1)) {}
}

/// Has the daemon execute itself anew; `false` when it does not know how to.
fn upgrade_in_place(home: &Home, daemon: &Daemon, history: &History, figures: &Figures) -> bool {
    let hello = |connection: &mut Connection| match connection.call("daemon.hello", &json!({})) {
        Outcome::Answered(hello) => Some(hello),
        _ => None,
    };
    let mut connection = Connection::open(&home.socket()).unwrap();
    let before = hello(&mut connection).unwrap();
    match connection.call("daemon.restart", &json!({})) {
        Outcome::Answered(answer) => history.line(format!("daemon.restart: {answer}")),
        Outcome::Refused { kind, .. } if kind == "unknown_method" => {
            figures.upgrades_skipped.add(1);
            history.line("daemon.restart is not known here");
            return false;
        }
        other => history.violation(format!("daemon.restart: {other:?}")),
    }
    let mut after = Value::Null;
    eventually(DEADLINE, "the new daemon says hello", || {
        let said = Connection::open(&home.socket()).ok().and_then(|mut it| hello(&mut it));
        after = said.unwrap_or_default();
        after["started_at_ms"].as_i64() > before["started_at_ms"].as_i64()
    });
    if after["pid"] != json!(daemon.pid()) {
        history.violation(format!("an upgrade in place made another process: {after}"));
    }
    figures.upgrades.add(1);
    true
}
