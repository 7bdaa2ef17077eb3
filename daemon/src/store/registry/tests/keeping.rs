//! What was acknowledged stays, whatever is done to the files; what is vital is written in the end.

use super::*;
use crate::store::Intruder;
use crate::store::place::beside;
use llamactl_protocol::event::Event;
use llamactl_protocol::server::{Desired, DesiredState};
use std::fs;
use std::time::{Duration, SystemTime};

struct Kept {
    dir: tempfile::TempDir,
    registry: Option<Registry>,
}

impl Kept {
    fn new() -> Kept {
        let dir = tempfile::tempdir().unwrap();
        let registry = Some(Registry::open(dir.path()).unwrap());
        Kept { dir, registry }
    }

    /// Closes the registry, and waits until it is.
    async fn close(&mut self) {
        let Some(registry) = self.registry.take() else { return };
        registry.checkpoint().await.unwrap();
        drop(registry);
        // A -wal may stay: the last to close may be one that only reads.
        while self.is_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Whether a thread still has the database open.
    fn is_open(&self) -> bool {
        let path = self.path("");
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == path)
    }

    fn path(&self, behind: &str) -> std::path::PathBuf {
        beside(&REGISTRY.path(self.dir.path()), behind)
    }

    fn registry(&self) -> &Registry {
        self.registry.as_ref().unwrap()
    }

    async fn add(&self, name: &str) -> Result<Model> {
        self.registry().add_model(new_model(name), Actor::Policy).await
    }

    /// What a daemon finds that is started after this one was killed now.
    fn after_a_kill(&self) -> (tempfile::TempDir, Registry) {
        let after = tempfile::tempdir().unwrap();
        for name in ["registry.db", "registry.db-wal", "registry.id"] {
            let _ = fs::copy(self.dir.path().join(name), after.path().join(name));
        }
        let registry = Registry::open(after.path()).unwrap();
        (after, registry)
    }

    async fn events(&self) -> Vec<Event> {
        let filter = EventFilter { limit: 100, ..EventFilter::default() };
        self.registry().events(filter).await.unwrap().events
    }
}

async fn names(registry: &Registry) -> Vec<String> {
    let models = registry.models(None, 100).await.unwrap();
    models.into_iter().map(|model| model.name).collect()
}

#[tokio::test]
async fn what_was_deleted_is_put_back_before_the_next_change_is_answered() {
    for gone in [&["", "-wal", "-shm"][..], &[""], &["-wal"], &["-wal", "-shm"], &["", "-shm"]] {
        let kept = Kept::new();
        kept.add("a").await.unwrap();
        for behind in gone {
            fs::remove_file(kept.path(behind)).unwrap();
        }
        kept.add("b").await.unwrap();
        assert_eq!(names(&kept.after_a_kill().1).await, ["a", "b"], "{gone:?}");
        // And it goes on, with readers that see it.
        kept.add("c").await.unwrap();
        assert_eq!(names(kept.registry()).await, ["a", "b", "c"], "{gone:?}");
        assert_eq!(names(&kept.after_a_kill().1).await, ["a", "b", "c"], "{gone:?}");
        assert_eq!(kept.registry().health(), Health::default());
        let told = kept.events().await.iter().any(|it| it.kind == EventKind::RegistryRestored);
        assert_eq!(told, gone.contains(&""), "{gone:?}");
    }
}

#[tokio::test]
async fn what_was_deleted_is_put_back_without_a_change_where_somebody_looks() {
    let kept = Kept::new();
    kept.add("a").await.unwrap();
    fs::remove_file(kept.path("")).unwrap();
    kept.registry().look().await;
    // Jobs are done in turn.
    kept.registry().checkpoint().await.unwrap();
    assert_eq!(names(&kept.after_a_kill().1).await, ["a"]);
}

#[tokio::test]
async fn a_log_of_somebody_else_is_not_played_into_the_registry() {
    let (kept, other) = (Kept::new(), Kept::new());
    kept.add("a").await.unwrap();
    other.add("x").await.unwrap();
    fs::copy(other.path("-wal"), kept.path("-wal.other")).unwrap();
    fs::rename(kept.path("-wal.other"), kept.path("-wal")).unwrap();
    kept.add("b").await.unwrap();
    kept.add("c").await.unwrap();
    assert_eq!(names(&kept.after_a_kill().1).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_file_in_its_place_is_not_overwritten_and_changes_are_refused() {
    let (kept, theirs) = (Kept::new(), Kept::new());
    kept.add("a").await.unwrap();
    theirs.add("x").await.unwrap();
    theirs.registry().checkpoint().await.unwrap();
    fs::copy(theirs.path(""), kept.path(".theirs")).unwrap();
    fs::rename(kept.path(".theirs"), kept.path("")).unwrap();

    for _ in 0..2 {
        let refused = kept.add("b").await.unwrap_err();
        assert!(matches!(refused, StoreError::Replaced { .. }), "{refused}");
    }
    assert_eq!(kept.registry().health().replaced, Some(Intruder::File));
    // Theirs is whole, and nothing of ours would be played into it.
    assert_eq!(fs::metadata(kept.path("-wal")).unwrap().len(), 0);
    assert_eq!(fs::read(kept.path("")).unwrap(), fs::read(theirs.path("")).unwrap());
    let copy = kept.dir.path().join("copy.db");
    kept.registry().back_up(copy.clone()).await.unwrap();

    let aside = kept.registry().put_back().await.unwrap();
    assert_eq!(fs::read(aside).unwrap(), fs::read(theirs.path("")).unwrap());
    assert_eq!(kept.registry().health(), Health::default());
    kept.add("c").await.unwrap();
    // What was refused was begun before it was seen: it is there, or it is not, but not half.
    let now = names(&kept.after_a_kill().1).await;
    assert_eq!((now.first().unwrap(), now.last().unwrap()), (&"a".to_owned(), &"c".to_owned()));
    let again = kept.registry().put_back().await.unwrap_err();
    assert!(matches!(again, StoreError::InPlace), "{again}");
    let copied = Connection::open(copy).unwrap();
    let count: i64 = copied.query_row("SELECT count(*) FROM models", [], |row| row.get(0)).unwrap();
    assert!(count >= 1);
}

#[tokio::test]
async fn a_registry_that_is_touched_or_written_by_way_of_sqlite_is_not_written_over() {
    let kept = Kept::new();
    kept.add("a").await.unwrap();
    let other = Connection::open(kept.path("")).unwrap();
    let checkpoint = || {
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).unwrap()
    };
    let looked = async || {
        kept.registry().look().await;
        // Jobs are done in turn.
        kept.registry().put_back().await.unwrap_err();
        kept.registry().health()
    };
    for round in 0..3 {
        other.execute_batch(&format!("CREATE TABLE theirs{round} (x)")).unwrap();
        assert!(!checkpoint());
        assert_eq!(looked().await, Health::default(), "round {round}");
    }
    // As much in the log as there was before.
    for name in ["b", "c"] {
        kept.add(name).await.unwrap();
        assert!(!checkpoint());
    }
    drop(other);
    kept.add("d").await.unwrap();
    let (file, now) = (fs::File::open(kept.path("")).unwrap(), SystemTime::now());
    file.set_times(fs::FileTimes::new().set_accessed(now).set_modified(now)).unwrap();
    drop(file);
    assert_eq!(looked().await, Health::default(), "it was touched");
    kept.add("e").await.unwrap();
    let all = fs::read(kept.path("")).unwrap();
    fs::write(kept.path(""), all).unwrap();
    assert_eq!(looked().await.replaced, Some(Intruder::Contents));
}

#[tokio::test]
async fn a_copy_that_failed_is_tried_again_when_what_was_in_the_way_of_writing_has_gone() {
    let kept = Kept::new();
    let (copies, aside) = (kept.dir.path().join("copies"), kept.dir.path().join("aside.db"));
    fs::write(&copies, "no directory").unwrap();
    kept.add("a").await.unwrap();
    let until = async |done: &dyn Fn() -> bool| {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    until(&|| kept.registry().copy_problem().is_some()).await;
    fs::remove_file(&copies).unwrap();
    kept.add("b").await.unwrap();
    assert!(kept.registry().copy_problem().is_some(), "not at each commit");

    fs::rename(kept.path(""), aside).unwrap();
    fs::write(kept.path(""), "something else").unwrap();
    kept.add("c").await.unwrap_err();
    kept.registry().put_back().await.unwrap();
    until(&|| kept.registry().copy_problem().is_none()).await;
    assert!(kept.registry().newest_copy().is_some());
}

#[tokio::test]
async fn a_registry_that_has_gone_is_never_begun_anew_in_silence() {
    let refused = |kept: &Kept| match Registry::open(kept.dir.path()) {
        Err(error) => {
            assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
            error.to_string()
        }
        Ok(_) => panic!("it was opened"),
    };
    let gone = async |behind: &[&str]| {
        let mut kept = Kept::new();
        kept.close().await;
        for behind in behind {
            let _ = fs::remove_file(kept.path(behind));
        }
        kept
    };
    let empty = gone(&[]).await;
    fs::write(empty.path(""), "").unwrap();
    assert!(refused(&empty).ends_with("is empty, and its directory is not new"));
    assert!(refused(&gone(&[""]).await).ends_with("is gone, and its directory is not new"));
    // As an earlier version left it, without the file that says whose it is.
    let old = gone(&[""]).await;
    fs::remove_file(old.dir.path().join("registry.id")).unwrap();
    fs::write(old.dir.path().join("secrets/some"), "").unwrap();
    refused(&old);
    let only_log = gone(&[""]).await;
    fs::remove_file(only_log.dir.path().join("registry.id")).unwrap();
    fs::write(only_log.path("-wal"), "x").unwrap();
    refused(&only_log);
    let rescue = gone(&[]).await;
    fs::write(rescue.path(".rescue"), "").unwrap();
    assert!(refused(&rescue).contains("registry.db.rescue lies there"));
    // Foreign ones are left as they are.
    let foreign = gone(&[""]).await;
    Connection::open(foreign.path("")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let before = fs::read(foreign.path("")).unwrap();
    assert!(refused(&foreign).ends_with("is another program's database, and no registry"));
    assert_eq!(fs::read(foreign.path("")).unwrap(), before);
    let (ours, mut theirs) = (gone(&[]).await, Kept::new());
    theirs.close().await;
    fs::copy(theirs.path(""), ours.path("")).unwrap();
    assert!(refused(&ours).ends_with("is the registry of another state directory"));
    let damaged = gone(&[]).await;
    fs::write(damaged.path(""), "no database, and long enough to be taken for one".repeat(40))
        .unwrap();
    assert!(refused(&damaged).ends_with("is damaged: file is not a database"));
    // A directory that is new is.
    let new = tempfile::tempdir().unwrap();
    fs::write(REGISTRY.path(new.path()), "").unwrap();
    Registry::open(new.path()).unwrap();
}

#[tokio::test]
async fn a_copy_is_kept_once_a_day_and_seven_of_them() {
    let mut kept = Kept::new();
    kept.add("a").await.unwrap();
    let copies = kept.dir.path().join("copies");
    let listed = || {
        let names = fs::read_dir(&copies).into_iter().flatten().flatten();
        let mut names: Vec<_> = names
            .map(|it| it.file_name().into_string().unwrap())
            .filter(|it| it.ends_with(".db"))
            .collect();
        names.sort();
        names
    };
    let until = async |count: usize| {
        for _ in 0..1000 {
            if listed().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", listed());
    };
    until(1).await;
    let today = listed().remove(0);
    // No second one on a day, by the next daemon neither.
    kept.close().await;
    kept.registry = Some(Registry::open(kept.dir.path()).unwrap());
    fs::rename(copies.join(&today), copies.join("registry-2020-01-01.db")).unwrap();
    kept.add("b").await.unwrap();
    assert_eq!(listed(), ["registry-2020-01-01.db"]);
    // The day after, and eight more before it.
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
    for day in 1..=8 {
        let old = copies.join(format!("registry-2020-01-0{day}.db"));
        fs::write(&old, "").unwrap();
        let at = long_ago + Duration::from_secs(day);
        fs::File::options().write(true).open(&old).unwrap().set_modified(at).unwrap();
    }
    kept.close().await;
    kept.registry = Some(Registry::open(kept.dir.path()).unwrap());
    kept.add("c").await.unwrap();
    until(7).await;
    assert_eq!(
        (listed().first().unwrap().as_str(), listed().last()),
        ("registry-2020-01-03.db", Some(&today))
    );

    // The newest good one comes back.
    kept.close().await;
    fs::write(kept.path(""), "damaged").unwrap();
    let restored = restore(kept.dir.path(), None).unwrap();
    assert_eq!((restored.from, restored.models), (copies.join(&today), 3));
    assert_eq!(fs::read(restored.aside.unwrap()).unwrap(), b"damaged");
    kept.registry = Some(Registry::open(kept.dir.path()).unwrap());
    assert_eq!(names(kept.registry()).await, ["a", "b", "c"]);
    // One that is none is refused, and nothing is changed.
    let bad = restore(kept.dir.path(), Some(&copies.join("registry-2020-01-03.db")));
    assert!(matches!(bad, Err(StoreError::Unusable { .. })));
}

/// Lets the registry grow no further, as a full disk would, or lets it again.
async fn limit(registry: &Registry, pages: Option<u32>) {
    let limit = registry.database.writer().bare(move |connection| {
        let now: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let most = pages.map_or(now, |more| now + more);
        connection.pragma_update(None, "max_page_count", most)?;
        Ok(())
    });
    limit.await.unwrap();
}

#[tokio::test]
async fn what_is_vital_is_written_when_there_is_room_again_and_before_anything_newer() {
    let kept = Kept::new();
    let model = kept.add("m").await.unwrap();
    let stop = |at_ms| Desired { state: DesiredState::Stopped, by: Actor::Policy, at_ms };
    let put = |at_ms| {
        let long = BTreeMap::from([("grammar".to_owned(), "x".repeat(9_000).into())]);
        kept.registry().put_desired(model.id, stop(at_ms), false, long)
    };
    limit(kept.registry(), None).await;
    let full = put(1).await.unwrap_err();
    assert!(matches!(full, StoreError::Sqlite(_)), "{full}");
    // Its room is used up at once: none of it is for others.
    limit(kept.registry(), None).await;
    assert!(kept.registry().health().disk_full);
    for number in 0..3 {
        let event = NewEvent::of_daemon(
            EventKind::DaemonStarted,
            &Actor::Policy,
            format!("{number}{}", "y".repeat(9_000)),
        );
        kept.registry().append_event(event).await.unwrap_err();
    }
    limit(kept.registry(), None).await;
    assert_eq!(kept.registry().health().waiting, 4);
    let refused = kept.add("n").await.unwrap_err();
    assert_eq!(llamactl_protocol::Failure::from(refused).kind, llamactl_protocol::Kind::DiskFull);

    limit(kept.registry(), Some(1_000)).await;
    kept.add("n").await.unwrap();
    assert_eq!(kept.registry().health(), Health::default());
    let written = kept.registry().desired(model.id).await.unwrap().unwrap();
    assert_eq!(written.desired, stop(1));
    let kinds: Vec<_> = kept.events().await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds[1..4], [const { EventKind::DaemonStarted }; 3]);
    assert_eq!(kinds[4], EventKind::ModelAdded);
}

#[tokio::test]
async fn what_finds_no_room_to_wait_is_counted_and_told() {
    let kept = Kept::new();
    limit(kept.registry(), None).await;
    let mut failed = 0;
    for number in 0..1_010 {
        let event = NewEvent::of_daemon(
            EventKind::DaemonStarted,
            &Actor::Policy,
            format!("{number}{}", "y".repeat(3_000)),
        );
        failed += usize::from(kept.registry().append_event(event).await.is_err());
    }
    limit(kept.registry(), None).await;
    assert_eq!(kept.registry().health().waiting, 1_000);
    limit(kept.registry(), Some(10_000)).await;
    kept.registry().look().await;
    kept.add("m").await.unwrap();
    let filter =
        EventFilter { kinds: vec!["registry".to_owned()], limit: 9, ..EventFilter::default() };
    let told = kept.registry().events(filter).await.unwrap().events;
    assert_eq!(told.len(), 1);
    let lost = failed - 1_000;
    assert_eq!(told[0].message, format!("{lost} records could not be written: the disk was full"));
}
