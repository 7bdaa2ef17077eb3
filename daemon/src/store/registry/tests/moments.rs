//! What one answer shows is of one moment, and what changed is told in order with what is now.

use super::*;
use crate::clock::now_ms;
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::event::EventKind;
use llamactl_protocol::server::{Desired, DesiredState};

/// A writer changes a model and the defaults together, over and over, while a reader looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_never_shown_with_the_settings_of_another_revision() {
    const ROUNDS: i64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let model = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    let changing = registry.clone();
    let writer = tokio::spawn(async move {
        for round in 1..=ROUNDS {
            // One commit for each: the revision of the model is its value plus one, that of the
            // defaults the value or one less.
            changing.change_defaults(set(round).set, vec![], None, Actor::Policy).await.unwrap();
            changing.change_model("m", set(round), None, Actor::Policy).await.unwrap();
        }
    });
    let mut looks = 0;
    while !writer.is_finished() || looks == 0 {
        looks += 1;
        let layers = registry.for_the_wire().model_layers("m").await.unwrap();
        let shown = layers.record.model;
        assert_eq!(value_of(&shown).unwrap_or(0) + 1, shown.revision);
        let default = layers.defaults.settings.get(KEY).and_then(serde_json::Value::as_i64);
        assert_eq!(default.unwrap_or(0), layers.defaults.revision);
        let behind = layers.defaults.revision - (shown.revision - 1);
        assert!((0..=1).contains(&behind), "the defaults are {behind} ahead of the model");
        let listed = registry.models(None, 10).await.unwrap().remove(0);
        assert_eq!(value_of(&listed).unwrap_or(0) + 1, listed.revision);
        let server = registry.stored_server(model.id).await.unwrap().unwrap();
        assert_eq!(value_of(&server.model).unwrap_or(0) + 1, server.model.revision);
    }
    writer.await.unwrap();
    assert_eq!(registry.model("m").await.unwrap().revision, ROUNDS + 1);
}

#[tokio::test]
async fn the_feed_tells_what_changed_and_what_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let by = || Actor::Policy;
    let whole = registry.changes(None).await.unwrap();
    assert_eq!((whole.models.len(), whole.cursor, whole.is_whole), (0, 0, true));
    let mut last = registry.last_event();
    let m = registry.add_model(new_model("m"), by()).await.unwrap();
    // Told before the change was answered.
    assert!(last.has_changed().unwrap());
    let n = registry.add_model(new_model("n"), by()).await.unwrap();
    registry
        .append_event(NewEvent::of_model(
            EventKind::ServerReady,
            &m,
            &Actor::Policy,
            "x".to_owned(),
        ))
        .await
        .unwrap();
    registry.change_model("n", set(2), None, by()).await.unwrap();
    registry.remove_model(m.id, by()).await.unwrap();
    registry.change_defaults(set(3).set, vec![], None, by()).await.unwrap();

    let changes = registry.changes(Some(whole.cursor)).await.unwrap();
    assert_eq!(changes.models.keys().copied().collect::<Vec<_>>(), [m.id, n.id]);
    assert_eq!(changes.models[&m.id], None);
    assert_eq!(changes.models[&n.id].as_ref().map(|n| n.revision), Some(2));
    assert_eq!(changes.defaults.as_ref().map(|defaults| defaults.revision), Some(1));
    assert!(changes.runtimes.is_none() && !changes.is_whole);
    assert_eq!((changes.cursor, *last.borrow_and_update()), (6, 6));
    assert!(registry.changes(Some(6)).await.unwrap().is_empty());
    // What is no change of a model is looked at once.
    let other = registry.changes(Some(2)).await.unwrap();
    assert_eq!((other.models.len(), other.cursor), (2, 6));
    // A number that was never given, and one behind which something is gone.
    let whole = registry.changes(Some(7)).await.unwrap();
    assert_eq!((whole.is_whole, whole.models.len(), whole.cursor), (true, 1, 6));
    registry.write(|tx| Ok(tx.execute("DELETE FROM events WHERE seq < 4", [])?)).await.unwrap();
    assert!(registry.changes(Some(2)).await.unwrap().is_whole);
    assert!(!registry.changes(Some(3)).await.unwrap().is_whole);
}

#[tokio::test]
async fn events_since_a_time_are_found_by_their_number() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    for _ in 0..40 {
        let event = NewEvent::of_daemon(EventKind::DaemonStarted, &Actor::Policy, "x".to_owned());
        registry.append_event(event).await.unwrap();
    }
    let dated = "UPDATE events SET at_ms = 10 * (seq / 2)";
    registry.write(move |tx| Ok(tx.execute(dated, [])?)).await.unwrap();
    registry.write(|tx| Ok(tx.execute("DELETE FROM events WHERE seq < 5", [])?)).await.unwrap();
    for since_ms in [0, 20, 25, 30, 100, 195, 200, 201] {
        let filter = EventFilter { since_ms: Some(since_ms), limit: 100, ..EventFilter::default() };
        let found = registry.events(filter).await.unwrap().events;
        let found: Vec<i64> = found.into_iter().map(|event| event.seq).collect();
        let expected: Vec<i64> = (5..=40).filter(|seq| 10 * (seq / 2) >= since_ms).collect();
        assert_eq!(found, expected, "since {since_ms}");
    }
}

#[tokio::test]
async fn a_refusal_stands_until_a_run_or_another_request() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let model = registry.add_model(new_model("m"), Actor::Policy).await.unwrap();
    let cause = Cause::new(CauseCode::from("runtime_not_found"), "there is no runtime x", 5);
    let refuse = async |id| {
        let event = NewEvent::of_model(
            EventKind::ServerFailed,
            &model,
            &Actor::Boot,
            "it was refused".to_owned(),
        );
        registry.put_refusal(id, cause.clone(), event).await
    };
    refuse(model.id).await.unwrap();
    let desired = registry.desired(model.id).await.unwrap().unwrap();
    assert_eq!(
        (desired.desired.state, desired.refusal),
        (DesiredState::Running, Some(cause.clone()))
    );
    let stop =
        registry.put_desired(model.id, wanted(DesiredState::Stopped), false, BTreeMap::new());
    stop.await.unwrap();
    assert_eq!(registry.desired(model.id).await.unwrap().unwrap().refusal, None);
    // It leaves what is wanted as it is.
    refuse(model.id).await.unwrap();
    assert_eq!(
        registry.desired(model.id).await.unwrap().unwrap().desired.state,
        DesiredState::Stopped
    );

    // A model that was removed meanwhile is not found, in words of ours.
    registry.remove_model(model.id, Actor::Policy).await.unwrap();
    let gone = refuse(model.id).await.unwrap_err();
    assert!(matches!(gone, StoreError::ModelNotFound(_)), "{gone}");
    let start =
        registry.put_desired(model.id, wanted(DesiredState::Running), false, BTreeMap::new());
    let gone = start.await.unwrap_err();
    assert!(matches!(gone, StoreError::ModelNotFound(_)), "{gone}");
}

#[tokio::test]
async fn a_runtime_that_somebody_else_changed_is_not_changed_over() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let by = || Actor::Policy;
    let path = WirePath::from("/s");
    let added = registry.add_named_runtime("r".to_owned(), path, BTreeMap::new(), by());
    let seen = added.await.unwrap().unwrap().revision;
    let change = |value: &str| {
        let set = BTreeMap::from([("A".to_owned(), value.into())]);
        registry.change_runtime("r", set, vec![], Some(seen), by())
    };
    assert_eq!(change("1").await.unwrap().0.revision, seen + 1);
    let lost = change("2").await.unwrap_err();
    assert!(matches!(lost, StoreError::RevisionConflict { expected: 1, found: 2, .. }), "{lost}");
    assert_eq!(registry.named_runtime("r").await.unwrap().unwrap().environment["A"], "1");
}

fn wanted(state: DesiredState) -> Desired {
    Desired { state, by: Actor::Policy, at_ms: now_ms() }
}
