//! What the driver says is done, and in which order; and what becomes of it where it cannot be.

use super::*;
use crate::arbiter::{Orders, QueuePlace};
use crate::logs::classify::Exit;
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::server::{DesiredState, QueueReason};
use llamactl_protocol::{Failure, Kind, WirePath};

const NOW: i64 = 1_000_000;

fn model(revision: i64) -> Arc<Model> {
    Arc::new(Model {
        id: 1,
        name: "m".to_owned(),
        aliases: vec![],
        path: WirePath("m.gguf".into()),
        file: ModelFile::default(),
        file_state: None,
        settings: Settings::new(),
        revision,
        added_at_ms: 0,
        changed_at_ms: 0,
    })
}

fn written() -> Written {
    Written {
        model: model(3),
        defaults: Arc::default(),
        desired: None,
        restart_requested: false,
        overrides: Arc::default(),
        refusal: None,
        last: None,
    }
}

/// A run that was ready, as an earlier daemon wrote it.
fn last_run(pid: Option<u32>) -> LastRun {
    LastRun {
        facts: RunFacts { pid, ..RunFacts::planned("old".to_owned(), 3, NOW - 500) },
        endpoint: Endpoint { url: None, socket: Some(WirePath("m.sock".into())) },
        cause: None,
        failures: 0,
        restarts: 0,
        restart_at_ms: None,
    }
}

fn somebody() -> Actor {
    Actor::Client { user: "anna".to_owned(), command: None }
}

fn context(now_ms: i64) -> Context {
    let next_run = "next".to_owned();
    Context {
        at: machine::Moment::from_secs(1000),
        now_ms,
        jitter: 0.5,
        next_run,
        process_state: None,
    }
}

fn happen(state: State, event: Event) -> (State, Vec<Action>) {
    drive(state, event, &context(NOW))
}

fn start(request: RequestId) -> Event {
    let overrides = Settings::new();
    Event::Start { request, overrides, by: somebody(), checked: Checked::Fits }
}

fn admit(run: &str) -> Event {
    Event::Orders(Orders { admit: Some(run.to_owned()), ..Orders::default() })
}

fn prepared(run: &str, revision: i64) -> Event {
    Event::Prepared(Box::new(Prepared {
        run: run.to_owned(),
        model: model(revision),
        settings: Arc::default(),
        endpoint: last_run(None).endpoint,
        is_open: false,
        port_before: None,
        build_has_devices: None,
    }))
}

fn after(events: impl IntoIterator<Item = Event>) -> State {
    events.into_iter().fold(State::at_rest(&written()), |state, event| happen(state, event).0)
}

/// A server whose process was made.
fn made() -> State {
    let spawned = Event::Spawned { run: "next".to_owned(), pid: Some(7) };
    after([start(1), admit("next"), prepared("next", 3), spawned])
}

/// The words of actions, without those that only show or look.
fn words(actions: &[Action]) -> Vec<&'static str> {
    let word = |action: &Action| match action {
        Action::Write(Record::Desired { .. }) => Some("desired"),
        Action::Write(Record::Run { .. }) => Some("run"),
        Action::Write(Record::Process(_)) => Some("process"),
        Action::Write(Record::End { .. }) => Some("end"),
        Action::Write(Record::Refusal { .. }) => Some("refusal"),
        Action::Answer(_, Reply::Refused(_)) => Some("refused"),
        Action::Answer(..) => Some("answer"),
        Action::Ask(ToArbiter::Want { .. }) => Some("want"),
        Action::Ask(ToArbiter::Gone { .. }) => Some("gone"),
        Action::Prepare(_) => Some("prepare"),
        Action::Spawn(_) => Some("spawn"),
        Action::Terminate => Some("terminate"),
        Action::Explain(_) => Some("explain"),
        _ => None,
    };
    actions.iter().filter_map(word).collect()
}

/// The first action that matches could not be done, for a full disk.
fn fail(before: &State, event: Event, matches: fn(&Action) -> bool) -> (State, Vec<Action>) {
    let (state, mut actions) = happen(before.clone(), event);
    let at = actions.iter().position(matches).unwrap();
    let rest = actions.split_off(at + 1);
    let failed = Failed {
        action: actions.pop().unwrap(),
        failure: Failure::new(Kind::DiskFull, "the disk is full"),
        before: before.clone(),
        rest,
    };
    happen(state, Event::Failed(Box::new(failed)))
}

fn is_desired(action: &Action) -> bool {
    matches!(action, Action::Write(Record::Desired { .. }))
}

#[test]
fn what_is_desired_is_written_before_the_answer_and_a_run_before_its_process() {
    let (state, actions) = happen(after([]), start(1));
    assert_eq!(words(&actions), ["desired", "want"], "who waits is answered with its place");
    let (state, actions) = happen(state, admit("next"));
    assert_eq!(words(&actions), ["answer", "prepare"]);
    let (state, actions) = happen(state, prepared("next", 3));
    assert_eq!(words(&actions), ["run", "spawn"]);
    let (state, actions) = happen(state, Event::Spawned { run: "next".to_owned(), pid: Some(7) });
    assert_eq!(words(&actions), ["process"]);
    let (state, actions) = happen(state, Event::Stop { request: 2, by: somebody() });
    assert_eq!(words(&actions), ["desired", "answer", "terminate"]);
    let (state, actions) = happen(state, Event::Exited);
    assert_eq!(words(&actions), ["explain"]);
    let explanation = Explanation { exit: Exit::Code(0), ..Explanation::default() };
    let (_, actions) = happen(state, Event::Explained { run: "next".to_owned(), explanation });
    assert_eq!(words(&actions), ["end", "gone"], "its place is free when its end is written");
}

#[test]
fn a_start_that_cannot_be_written_leaves_all_as_it_was() {
    let before = after([]);
    let (state, actions) = fail(&before, start(1), is_desired);
    assert_eq!((&state.life, &state.desired), (&before.life, &before.desired));
    assert_eq!(words(&actions), ["refused"]);
}

#[test]
fn a_stop_that_cannot_be_written_goes_on_and_says_so() {
    let (state, actions) = fail(&made(), Event::Stop { request: 2, by: somebody() }, is_desired);
    assert_eq!(words(&actions), ["answer", "terminate"]);
    let durable = actions.iter().find_map(|action| match action {
        Action::Answer(2, Reply::Accepted { durable, .. }) => Some(*durable),
        _ => None,
    });
    assert_eq!(durable, Some(false));
    assert_eq!(state.life.desired, Some(DesiredState::Stopped));
}

#[test]
fn a_run_that_cannot_be_written_gets_no_process() {
    let before = after([start(1), admit("next")]);
    let is_run = |action: &Action| matches!(action, Action::Write(Record::Run { .. }));
    let (state, actions) = fail(&before, prepared("next", 3), is_run);
    assert_eq!(words(&actions), ["end", "gone"]);
    assert_eq!(state.life.phase, Phase::Failed);
}

#[test]
fn what_is_of_another_run_is_of_no_concern() {
    let queued = after([start(1)]);
    let (run, reason) = ("old".to_owned(), QueueReason::Loads);
    let place = QueuePlace { run, reason, position: 1, limit: Some(1) };
    let orders = Orders { place: Some(place), ..Orders::default() };
    for event in [admit("old"), Event::Orders(orders), prepared("old", 3)] {
        let (state, actions) = happen(queued.clone(), event);
        assert_eq!((&state.life, actions.len()), (&queued.life, 0));
    }
    let preparing = after([start(1), admit("next")]);
    let (state, actions) = happen(preparing.clone(), prepared("old", 3));
    assert_eq!((&state.life, actions.len()), (&preparing.life, 0));
    let ended = happen(made(), Event::Exited).0;
    let late = Event::Explained { run: "old".to_owned(), explanation: Explanation::default() };
    let (state, actions) = happen(ended.clone(), late);
    assert_eq!((&state.life, actions.len()), (&ended.life, 0));
}

#[test]
fn what_a_job_read_before_a_change_does_not_undo_the_change() {
    let preparing = after([start(1), admit("next"), Event::Model(model(4))]);
    let state = happen(preparing, prepared("next", 3)).0;
    assert_eq!(state.model.revision, 4);
    assert_eq!(snapshot(&state).run.unwrap().revision, 3, "the process has what was read");
}

#[test]
fn a_process_is_shown_with_its_run_from_its_making_to_its_end() {
    let queued = snapshot(&after([start(1)]));
    assert_eq!((queued.state, queued.run.unwrap().pid), (Shown::Queued, None));
    let starting = snapshot(&made());
    assert_eq!((starting.state, starting.run.unwrap().pid), (Shown::Starting, Some(7)));
    assert!(starting.endpoint.is_some());
    assert_eq!(snapshot(&after([])).endpoint, None);
}

#[test]
fn a_process_that_was_found_is_shown_though_nobody_had_written_which_it_is() {
    let written = Written { last: Some(last_run(None)), ..written() };
    let beginning =
        Beginning { found: Some(7), booted_at_ms: 0, replace: false, written: written.clone() };
    let (state, actions) = happen(State::at_rest(&written), Event::Begin(Box::new(beginning)));
    assert_eq!(words(&actions), ["process"]);
    assert_eq!(snapshot(&state).run.unwrap().pid, Some(7));
}

#[test]
fn no_record_is_older_than_those_before_it_though_the_clock_was_set_back() {
    let (state, actions) =
        drive(made(), Event::Stop { request: 2, by: somebody() }, &context(NOW - 86_400_000));
    assert!(actions.iter().any(is_desired));
    let started_at_ms = state.run.as_ref().unwrap().started_at_ms;
    assert!(state.desired.unwrap().at_ms > started_at_ms, "the stop is for this run");
}

#[test]
fn a_boot_is_told_by_its_id_whatever_the_clock_says() {
    let of = |pid, is_of_this_boot| {
        let last = last_run(pid);
        let facts = RunFacts { is_of_this_boot, ..last.facts.clone() };
        Written { last: Some(LastRun { facts, ..last }), ..written() }
    };
    let started_at_ms = NOW - 500;
    // The clock was set forward since, or back.
    assert_eq!(of(Some(7), true).booted_at_ms(NOW), started_at_ms);
    assert_eq!(of(Some(7), false).booted_at_ms(0), started_at_ms + 1);
    assert_eq!(of(None, false).booted_at_ms(0), 0, "nobody wrote in which boot it was made");
    assert_eq!(written().booted_at_ms(NOW), NOW);
}

/// The feed tells of a change a moment after it was answered, and a server may end in between.
#[test]
fn what_was_set_before_an_end_decides_what_becomes_of_it_although_nobody_told_of_it() {
    let ended = happen(made(), Event::Exited).0;
    let explained = |restart: Option<&str>, revision: i64| {
        let settings = restart.map(|word| ("restart".to_owned(), word.into()));
        let now = Model { settings: settings.into_iter().collect(), ..(*model(revision)).clone() };
        let now = Some((Arc::new(now), Arc::default()));
        let explanation = Explanation { exit: Exit::Signal(9), now, ..Explanation::default() };
        happen(ended.clone(), Event::Explained { run: "next".to_owned(), explanation })
    };
    let (state, actions) = explained(Some("never"), 4);
    assert_eq!((words(&actions), state.life.phase), (vec!["end", "gone"], Phase::Failed));
    assert_eq!(state.model.revision, 4);
    // Shown once, with what came of it.
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Show)).count(), 1);
    let (state, _) = explained(None, 4);
    assert_ne!(state.life.phase, Phase::Failed, "it would be started again");
    // Of an older revision than the feed told of already.
    let (state, _) = explained(Some("never"), 2);
    assert_ne!(state.life.phase, Phase::Failed);
}
