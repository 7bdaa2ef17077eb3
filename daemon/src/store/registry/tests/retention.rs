//! What grows is trimmed, and what must stay stays.

use super::*;
use llamactl_protocol::cause::Cause;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::server::Demand;
use llamactl_protocol::server::Endpoint;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn event() -> NewEvent {
    NewEvent::of_daemon(EventKind::ServerStarting, &Actor::Policy, "it is tried".to_owned())
}

/// A run that will be written; its number is its time.
fn run(number: i64, model_id: i64, runtime_id: i64) -> RunRecord {
    RunRecord {
        id: format!("{number:08}"),
        model_id,
        model: "m".to_owned(),
        revision: 1,
        settings: BTreeMap::new(),
        overrides: BTreeMap::new(),
        runtime_id,
        argv: vec![],
        environment: BTreeMap::new(),
        endpoint: Endpoint { url: Some(format!("http://{number}")), socket: None },
        started_by: Actor::Policy,
        demand: Some(Demand::Policy),
        started_at_ms: number,
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
    }
}

fn end(code: &str, at_ms: i64) -> RunEnd {
    let cause = serde_json::json!({
        "code": code, "message": "it ended", "hint": null, "evidence": [], "exit_code": null,
        "signal": null, "at_ms": at_ms,
    });
    let cause: Cause = serde_json::from_value(cause).unwrap();
    RunEnd { at_ms, cause, failures: 0, restarts: 0, restart_at_ms: None }
}

fn build(path: &str, inode: u64) -> NewRuntime {
    NewRuntime {
        path: WirePath::from(path),
        inode,
        size_bytes: 1,
        mtime_ns: 1,
        libraries: String::new(),
        version: None,
        reports_progress: false,
        subcommand: None,
        options: vec![],
        devices: vec![],
    }
}

#[tokio::test]
async fn of_each_model_the_last_runs_stay_and_all_whose_process_may_live() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let m = registry.add_model(new_model("m"), Actor::Policy).await.unwrap().id;
    let other = registry.add_model(new_model("n"), Actor::Policy).await.unwrap().id;
    let build = registry.put_runtime(build("/s", 1), Actor::Policy).await.unwrap();
    let begin = async |number, model| {
        registry.add_run(run(number, model, build), event()).await.unwrap();
    };
    let stop = async |number: i64, code, at_ms| {
        registry.put_end(format!("{number:08}"), end(code, at_ms), event()).await.unwrap();
    };
    let now = crate::clock::now_ms();
    begin(1, other).await;
    // One that is open, one whose end nobody saw, one of which that is long ago; then many.
    begin(2, m).await;
    begin(3, m).await;
    stop(3, "never_made", now).await;
    begin(4, m).await;
    stop(4, "ended_unwatched", now - 31 * DAY).await;
    for number in 5..=120 {
        begin(number, m).await;
        stop(number, "crashed", now).await;
    }
    let kept = registry.runs_of(m, 1_000).await.unwrap();
    let newest = (70..=120).rev().chain([3, 2]).map(|number| format!("{number:08}"));
    // The one added last is not counted until another is.
    assert!(kept.len() <= 53, "{kept:?}");
    assert_eq!(kept[..50], newest.clone().take(50).collect::<Vec<_>>()[..]);
    assert!(kept.ends_with(&["00000003".to_owned(), "00000002".to_owned()]), "{kept:?}");
    assert_eq!(registry.runs_of(other, 10).await.unwrap(), ["00000001"]);
    // Where each model listened last is still known.
    let endpoints: BTreeMap<_, _> = registry.last_endpoints().await.unwrap().into_iter().collect();
    let urls: Vec<_> = [other, m].iter().filter_map(|id| endpoints[id].url.as_deref()).collect();
    assert_eq!(urls, ["http://1", "http://120"]);
}

#[tokio::test]
async fn a_build_goes_when_nothing_names_it_and_it_was_replaced_twice() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let put = async |path: &str, inode| {
        registry.put_runtime(build(path, inode), Actor::Policy).await.unwrap()
    };
    let ran = put("/s", 1).await;
    registry.add_run(run(1, 1, ran), event()).await.unwrap();
    let replaced = [put("/s", 2).await, put("/s", 3).await, put("/s", 4).await];
    let is_there = async |id| registry.runtime(id).await.unwrap().is_some();
    assert!(is_there(ran).await, "a run is of it");
    assert!(!is_there(replaced[0]).await);
    assert!(is_there(replaced[1]).await && is_there(replaced[2]).await);
    // Of many paths the oldest go; what is named stays.
    let by = || Actor::Policy;
    registry
        .add_named_runtime("old".to_owned(), WirePath::from("/0"), BTreeMap::new(), by())
        .await
        .unwrap();
    let first = [put("/0", 1).await, put("/1", 1).await];
    for number in 2..=210 {
        put(&format!("/{number}"), 1).await;
    }
    assert!(is_there(first[0]).await && !is_there(first[1]).await);
}

#[tokio::test]
async fn the_last_revisions_of_the_defaults_stay() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    for value in 0..1_003 {
        let change = registry.change_defaults(set(value).set, vec![], None, Actor::Policy);
        change.await.unwrap();
    }
    let kept = registry.read(|connection| {
        let kept = "SELECT count(*), min(revision), max(revision) FROM default_revisions";
        Ok(connection.query_row(kept, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
    });
    assert_eq!(kept.await.unwrap(), (1_000_i64, 4_i64, 1_003_i64));
    assert_eq!(registry.defaults().await.unwrap().revision, 1_003);
}

#[tokio::test]
async fn what_a_run_held_in_memory_is_kept_by_its_moments() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let build = registry.put_runtime(build("/s", 1), Actor::Policy).await.unwrap();
    registry.add_run(run(1, 1, build), event()).await.unwrap();
    let id = || "00000001".to_owned();
    let memory = |anonymous: u64, file: u64, peak: u64| RunMemory {
        anonymous_bytes: Some(anonymous),
        file_bytes: Some(file),
        peak_resident_bytes: Some(peak),
        gpu_bytes: BTreeMap::new(),
    };
    let gpu = BTreeMap::from([("GPU-1".to_owned(), 7)]);
    let ready = RunMemory { gpu_bytes: gpu, ..memory(10, 90, 120) };
    registry.put_memory(id(), MemoryMoment::Ready, ready).await.unwrap();
    registry.put_memory(id(), MemoryMoment::FirstAnswer, memory(20, 80, 121)).await.unwrap();
    // At the end the GPU does not know it any more, and one number cannot be read.
    let last = RunMemory { file_bytes: None, ..memory(15, 0, 130) };
    registry.put_memory(id(), MemoryMoment::Exit, last).await.unwrap();
    let row = registry.read(|connection| {
        let columns = "SELECT steady_anonymous_bytes, steady_file_bytes, peak_anonymous_bytes,
                              peak_file_bytes, peak_resident_bytes, gpu_memory FROM runs";
        let numbers = |row: &rusqlite::Row<'_>| {
            let numbers = (0..5).map(|at| row.get(at)).collect::<Result<Vec<i64>, _>>()?;
            Ok((numbers, row.get::<_, String>(5)?))
        };
        Ok(connection.query_row(columns, [], numbers)?)
    });
    assert_eq!(row.await.unwrap(), (vec![20, 80, 20, 90, 130], r#"{"GPU-1":7}"#.to_owned()));
    assert_eq!(registry.run("00000001").await.unwrap().unwrap().demand, Some(Demand::Policy));
}
