//! The supervisor with its real tasks, arbiter and registry, as far as it goes without a process:
//! starts that are refused, what an earlier daemon left, removals, the end.

use super::*;
use crate::store::registry::{
    EventFilter, ModelChange, NewEvent, NewFile, NewModel, NewRuntime, RunEnd, RunRecord,
};
use llamactl_protocol::WirePath;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::ModelFile;
use llamactl_protocol::server::{Demand, Desired, DesiredState, Endpoint};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

/// A state directory, and a daemon's worth of supervision on it.
struct Scene {
    dir: tempfile::TempDir,
    registry: Registry,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        Scene { dir, registry }
    }

    /// A model whose llama-server is none, so that no start ever gets to a process.
    async fn model(&self, name: &str, settings: serde_json::Value) -> Model {
        let mut settings: Settings = serde_json::from_value(settings).unwrap();
        settings.insert("runtime".to_owned(), json!("nowhere"));
        let file = NewFile {
            path: WirePath::from("/m.gguf"),
            file: ModelFile::default(),
            seen: vec![],
            chat_template: None,
        };
        let new = NewModel { name: name.to_owned(), file, settings };
        self.registry.add_model(new, somebody()).await.unwrap()
    }

    async fn supervisor(&self, start: Start) -> Supervisor {
        let (state, servers) = (self.dir.path(), self.dir.path().join("servers"));
        let watcher = Watcher::polling();
        let config = Config::default();
        let registry = self.registry.clone();
        let supervisor =
            Supervisor::new(registry, watcher, state, servers, config, vec![], start).await;
        supervisor.look().await.unwrap();
        supervisor
    }

    async fn recovered(&self, start: Start) -> Supervisor {
        let supervisor = self.supervisor(start).await;
        supervisor.recover(start).await.unwrap();
        supervisor
    }

    /// A run of this boot whose process is gone, as an earlier daemon wrote it.
    async fn run(&self, model: &Model, id: &str) {
        let build = NewRuntime {
            path: WirePath::from("/s"),
            inode: 1,
            size_bytes: 1,
            mtime_ns: 1,
            libraries: String::new(),
            version: None,
            reports_progress: false,
            subcommand: None,
            options: vec![],
            devices: vec![],
        };
        let runtime_id = self.registry.put_runtime(build, somebody()).await.unwrap();
        let now_ms = crate::clock::now_ms();
        let record = RunRecord {
            id: id.to_owned(),
            model_id: model.id,
            model: model.name.clone(),
            revision: 1,
            settings: BTreeMap::new(),
            overrides: BTreeMap::new(),
            runtime_id,
            argv: vec![],
            environment: BTreeMap::new(),
            endpoint: Endpoint { url: None, socket: Some(WirePath::from("/m.sock")) },
            started_by: somebody(),
            demand: Some(Demand::Person),
            started_at_ms: now_ms,
            pid: None,
            start_ticks: None,
            boot_id: None,
            ready_at_ms: None,
            load_ms: None,
            ended_at_ms: None,
            cause: None,
            failures: 0,
            restarts: 0,
            restart_at_ms: None,
            executable: None,
            files: vec![],
        };
        self.registry.add_run(record, event(model)).await.unwrap();
        // A process that cannot be: the kernel gives no such number.
        let boot = boot_id().ok();
        self.registry
            .put_process(id.to_owned(), i32::MAX.cast_unsigned(), Some(1), boot)
            .await
            .unwrap();
    }

    async fn desire(&self, model: &Model, state: DesiredState, at_ms: i64) {
        let desired = Desired { state, by: somebody(), at_ms };
        self.registry.put_desired(model.id, desired, false, BTreeMap::new()).await.unwrap();
    }

    async fn kinds(&self) -> Vec<EventKind> {
        let all = EventFilter { limit: 500, ..EventFilter::default() };
        let batch = self.registry.events(all).await.unwrap();
        batch.events.into_iter().map(|event| event.kind).collect()
    }
}

fn somebody() -> Actor {
    Actor::Client { user: "anna".to_owned(), command: None }
}

fn event(model: &Model) -> NewEvent {
    NewEvent::of_model(EventKind::ServerStarting, model, &somebody(), "started".to_owned())
}

async fn settled(supervisor: &Supervisor, model: &Model) -> Server {
    let mut status = supervisor.watch(model).await.unwrap();
    status.wait_for(|server| server.state.is_settled_down()).await.unwrap().clone()
}

#[tokio::test]
async fn a_start_that_is_refused_is_a_failure_like_any_other_also_for_the_next_daemon() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    let supervisor = scene.recovered(Start::Quiet).await;
    let refused = supervisor.start_server(&model, Settings::new(), somebody()).await.unwrap_err();
    let is_as_refused = |server: &Server| {
        let cause = server.cause.as_ref().unwrap();
        (server.state, cause.code.as_str()) == (State::Failed, refused.kind.name())
            && cause.message == refused.message
    };
    assert!(is_as_refused(&supervisor.server(&model).await.unwrap()));
    supervisor.end().await;
    let next = scene.recovered(Start::Fresh).await;
    assert!(is_as_refused(&next.server(&model).await.unwrap()), "it is not tried again by itself");
    next.end().await;
}

#[tokio::test]
async fn what_is_to_start_at_boot_and_cannot_is_failed_and_says_so() {
    let scene = Scene::new();
    let model = scene.model("m", json!({ "autostart": true })).await;
    let quiet = scene.recovered(Start::Quiet).await;
    assert_eq!(quiet.server(&model).await.unwrap().state, State::Stopped);
    quiet.end().await;
    let fresh = scene.recovered(Start::Fresh).await;
    let server = fresh.server(&model).await.unwrap();
    assert_eq!((server.state, server.desired.unwrap().by), (State::Failed, Actor::Boot));
    fresh.end().await;
}

#[tokio::test]
async fn one_that_died_unwatched_is_known_before_anybody_asks_and_left_to_the_policy() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    scene.desire(&model, DesiredState::Running, crate::clock::now_ms()).await;
    scene.run(&model, "r1").await;
    let supervisor = scene.supervisor(Start::Quiet).await;
    assert_eq!(supervisor.active().len(), 1);
    supervisor.recover(Start::Quiet).await.unwrap();
    // The policy starts it again, and there is no llama-server to start.
    let server = settled(&supervisor, &model).await;
    assert_eq!(server.state, State::Failed);
    assert_eq!(server.cause.unwrap().code.as_str(), Kind::RuntimeNotFound.name());
    let run = scene.registry.run("r1").await.unwrap().unwrap();
    assert_eq!(run.cause.unwrap().code, CauseCode::EndedUnwatched);
    supervisor.end().await;
}

#[tokio::test]
async fn one_that_was_stopped_meanwhile_is_written_off() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    scene.run(&model, "r1").await;
    scene.desire(&model, DesiredState::Stopped, crate::clock::now_ms() + 1).await;
    let supervisor = scene.recovered(Start::Quiet).await;
    assert_eq!(settled(&supervisor, &model).await.state, State::Stopped);
    assert!(scene.registry.run("r1").await.unwrap().unwrap().ended_at_ms.is_some());
    supervisor.end().await;
}

#[tokio::test]
async fn a_wait_that_was_decided_goes_on_and_a_stop_ends_it() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    let now_ms = crate::clock::now_ms();
    scene.desire(&model, DesiredState::Running, now_ms - 10).await;
    scene.run(&model, "r1").await;
    let ended_ms = crate::clock::now_ms();
    let cause = Cause::new(CauseCode::Killed, "it was killed", ended_ms);
    let end = RunEnd {
        at_ms: ended_ms,
        cause,
        failures: 2,
        restarts: 2,
        restart_at_ms: Some(now_ms + 86_400_000),
    };
    scene.registry.put_end("r1".to_owned(), end, event(&model)).await.unwrap();
    let supervisor = scene.recovered(Start::Quiet).await;
    let server = supervisor.server(&model).await.unwrap();
    assert_eq!((server.state, server.restarts), (State::Backoff, 2));
    let wait_ms = server.restart_at_ms.unwrap() - crate::clock::now_ms();
    assert!(wait_ms <= 75_000, "{wait_ms}: the clock was a day ahead");
    let stopped = supervisor.stop_server(&model, somebody()).await.unwrap();
    assert!(stopped.changed && stopped.durable);
    assert_eq!(stopped.server.state, State::Stopped);
    supervisor.end().await;
}

#[tokio::test]
async fn a_model_is_removed_by_its_task_and_nothing_of_it_stays() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    let supervisor = scene.recovered(Start::Quiet).await;
    supervisor.watch(&model).await.unwrap();
    let removed = supervisor.remove(&model, true, somebody()).await.unwrap();
    assert_eq!(removed.id, model.id);
    let again = supervisor.start_server(&model, Settings::new(), somebody()).await.unwrap_err();
    assert_eq!(again.kind, Kind::ModelNotFound);
    assert!(scene.kinds().await.contains(&EventKind::ModelRemoved));
    let mut changes = supervisor.changes();
    while !supervisor.active().is_empty() {
        changes.changed().await.unwrap();
    }
    supervisor.end().await;
}

#[tokio::test]
async fn a_daemon_that_ends_starts_nothing_more() {
    let scene = Scene::new();
    let model = scene.model("m", json!({})).await;
    let supervisor = scene.recovered(Start::Quiet).await;
    assert_eq!(supervisor.close().await, 0);
    let refused = supervisor.start_server(&model, Settings::new(), somebody()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Stopping);
    supervisor.stop_all(&somebody()).await;
    supervisor.end().await;
    assert!(supervisor.context.tasks.is_empty(), "something is waited for in vain");
}

#[tokio::test]
async fn a_plan_is_kept_until_something_that_it_was_made_from_is_another() {
    let scene = Scene::new();
    let registry = &scene.registry;
    let executable = scene.dir.path().join("llama-server");
    let put_build = async |text: &str| {
        std::fs::write(&executable, text).unwrap();
        std::fs::set_permissions(&executable, Permissions::from_mode(0o755)).unwrap();
        let file = crate::runtime::inspect(&executable, &[]).unwrap();
        let build = NewRuntime {
            path: WirePath(file.path),
            inode: file.inode,
            size_bytes: file.size_bytes,
            mtime_ns: file.mtime_ns,
            libraries: String::new(),
            version: None,
            reports_progress: false,
            subcommand: None,
            options: vec![],
            devices: vec![],
        };
        registry.put_runtime(build, somebody()).await.unwrap();
    };
    put_build("one").await;
    let named = WirePath(executable.clone());
    registry
        .add_named_runtime("nowhere".to_owned(), named, BTreeMap::new(), somebody())
        .await
        .unwrap();
    let model = scene.model("m", json!({})).await;
    let supervisor = scene.supervisor(Start::Quiet).await;
    let kept = Kept::default();
    let plan_with = async |set: serde_json::Value| {
        let set: Settings = serde_json::from_value(set).unwrap();
        supervisor.context.checked_plan(model.id, set, &kept).await.unwrap().plan
    };
    let mut last = plan_with(json!({})).await;
    let mut is_new = async || {
        let plan = plan_with(json!({})).await;
        let is_new = !Arc::ptr_eq(&plan, &last);
        last = plan;
        is_new
    };
    assert!(!is_new().await);

    // What is set for one run alone is in the plan of that run, and in no other.
    let own = plan_with(json!({ "env.A": "for one" })).await;
    assert!(own.line.environment.contains_key("A") && own.layers.run.contains_key("env.A"));
    assert!(is_new().await && !is_new().await);
    assert!(!plan_with(json!({})).await.line.environment.contains_key("A"));

    let set = |key: &str, value: &str| Settings::from([(key.to_owned(), json!(value))]);
    let change = ModelChange { set: set("env.B", "2"), ..ModelChange::default() };
    registry.change_model("m", change, None, somebody()).await.unwrap();
    assert!(is_new().await && !is_new().await);
    registry.change_defaults(set("env.C", "3"), vec![], None, somebody()).await.unwrap();
    assert!(is_new().await && !is_new().await);
    let variable = BTreeMap::from([("D".to_owned(), json!("4"))]);
    registry.change_runtime("nowhere", variable, vec![], None, somebody()).await.unwrap();
    assert!(is_new().await && !is_new().await);
    put_build("another").await;
    assert!(is_new().await && !is_new().await);
    let plan = plan_with(json!({})).await;
    for variable in ["B", "C", "D"] {
        assert!(plan.line.environment.contains_key(variable), "{variable}");
    }
    // Which port is free is another matter each time.
    let change = ModelChange { set: set("port", "auto"), ..ModelChange::default() };
    registry.change_model("m", change, None, somebody()).await.unwrap();
    assert!(is_new().await && is_new().await);
}

#[tokio::test]
async fn what_is_asked_of_a_task_in_the_instant_of_its_end_has_an_answer() {
    let (commands, inbox) = mpsc::channel(1);
    // As far as it gets before it is sent.
    let sending = commands.clone().reserve_owned().await.unwrap();
    drop(inbox);
    let (reply, answer) = oneshot::channel();
    let commands = sending.send(Command::Recover { reply });
    let late = tokio::time::timeout(Duration::from_secs(60), answered(&commands, answer)).await;
    assert_eq!(late, Ok(None), "its answer is waited for");

    let (reply, answer) = oneshot::channel();
    reply.send(7).unwrap();
    assert_eq!(answered(&commands, answer).await, Some(7), "what was answered before counts");
}
