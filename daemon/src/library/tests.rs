//! The walk, where a file system is unkind.

use super::naming::Naming;
use super::sink::{Sighting, Sink, Stopped};
use super::walk::{Listing, walk};
use super::{Library, Request, huggingface, ollama};
use crate::store::registry::Registry;
use llamactl_protocol::Actor;
use llamactl_protocol::library::Progress;
use rustix::process::{Gid, Uid, geteuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use tokio::sync::{mpsc, watch};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

fn sink() -> (Sink, mpsc::Receiver<Vec<Sighting>>) {
    let (sender, receiver) = mpsc::channel(1000);
    let (progress, _) = watch::channel(Progress { directory: None, files_seen: 0 });
    (Sink::new(sender, progress), receiver)
}

fn walked(root: &Path) -> (Vec<Listing>, Vec<(String, String)>) {
    let (mut sink, mut sightings) = sink();
    let mut listings = Vec::new();
    let outcome = walk(root, None, &mut sink, &mut |listing, _| {
        listings.push(listing.clone());
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
    (listings, skipped(&all(sink, &mut sightings)))
}

fn all(mut sink: Sink, sightings: &mut mpsc::Receiver<Vec<Sighting>>) -> Vec<Sighting> {
    sink.flush().unwrap();
    std::iter::from_fn(|| sightings.try_recv().ok()).flatten().collect()
}

/// Names and kinds of what was passed over.
fn skipped(sightings: &[Sighting]) -> Vec<(String, String)> {
    let mut skipped = Vec::new();
    for sighting in sightings {
        if let Sighting::Skipped(it) = sighting {
            let name = it.path.as_path().file_name().unwrap_or_default();
            skipped.push((name.to_string_lossy().into_owned(), it.kind.clone()));
        }
    }
    skipped
}

fn put(root: &Path, path: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

/// Runs `action` as somebody whose permissions count.
fn unprivileged<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    if !geteuid().is_root() {
        return action();
    }
    std::thread::scope(|scope| {
        let acting = scope.spawn(move || {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            action()
        });
        acting.join().unwrap()
    })
}

#[test]
fn links_in_a_circle_end_and_hidden_directories_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join(".hidden-root");
    put(&root, "a/one.gguf");
    put(&root, "a/b/two.GGUF");
    put(&root, ".cache/three.gguf");
    put(&root, "a/.four.gguf");
    put(&root, "a/five.gguf.part");
    symlink("..", root.join("a/b/up")).unwrap();
    symlink(&root, root.join("a/again")).unwrap();
    symlink("itself", root.join("a/itself")).unwrap();
    let (listings, skipped) = walked(&root);
    let names: Vec<_> = listings.iter().flat_map(|it| &it.files).collect();
    assert_eq!(names, ["one.gguf", "two.GGUF"]);
    assert_eq!(listings[0].unfinished, ["five.gguf.part"]);
    assert!(skipped.is_empty(), "{skipped:?}");
}

#[test]
fn a_directory_that_may_not_be_read_is_said_and_keeps_nothing_else_away() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    put(dir.path(), "a/one.gguf");
    put(dir.path(), "closed/two.gguf");
    put(dir.path(), "z/three.gguf");
    fs::set_permissions(dir.path().join("closed"), Permissions::from_mode(0o000)).unwrap();
    let (listings, skipped) = unprivileged(|| walked(dir.path()));
    fs::set_permissions(dir.path().join("closed"), Permissions::from_mode(0o755)).unwrap();
    let names: Vec<_> = listings.iter().flat_map(|it| &it.files).collect();
    assert_eq!(names, ["one.gguf", "three.gguf"]);
    assert_eq!(skipped, [("closed".to_owned(), "permission_denied".to_owned())]);
}

#[test]
fn what_lies_too_deep_is_said() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &format!("{}one.gguf", "d/".repeat(16)));
    put(dir.path(), &format!("{}two.gguf", "d/".repeat(17)));
    let (listings, skipped) = walked(dir.path());
    let names: Vec<_> = listings.iter().flat_map(|it| &it.files).collect();
    assert_eq!(names, ["one.gguf"]);
    assert_eq!(skipped, [("d".to_owned(), "too_deep".to_owned())]);
}

#[test]
fn nobody_listening_ends_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a/one.gguf");
    let (mut sink, sightings) = sink();
    drop(sightings);
    let outcome = walk(dir.path(), None, &mut sink, &mut |_, _| Ok(()));
    assert_eq!(outcome, Err(Stopped));
}

#[tokio::test]
async fn a_scan_whose_listener_goes_away_ends() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..1000 {
        put(dir.path(), &format!("models/{number}.gguf"));
    }
    let library = Library::new(Registry::open(dir.path()).unwrap(), vec![]);
    let directories = vec![dir.path().join("models")];
    let request = Request { directories, ..Request::default() };
    let mut scan = library.scan(request, Actor::Policy);
    assert!(scan.next().await.unwrap().is_some());
    drop(scan);
    // The runtime waits for the thread that walks: that this test ends says that it ended.
}

#[test]
fn of_several_snapshots_the_one_last_asked_for_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("models--acme--Tiny-GGUF");
    put(&repo, "snapshots/aaa/Tiny-Q8_0.gguf");
    put(&repo, "snapshots/aaa/Tiny-Q4_0.gguf");
    put(&repo, "snapshots/bbb/Tiny-Q4_0.gguf");
    put(&repo, "blobs/0123.incomplete");
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), "bbb\n").unwrap();
    // A repository that contains itself.
    symlink("../..", repo.join("snapshots/bbb/models--a--b")).unwrap();
    let (mut sink, mut sightings) = sink();
    assert_eq!(huggingface::cache(dir.path(), &mut sink), Ok(()));
    let mut found = Vec::new();
    let mut unfinished = 0;
    for sighting in all(sink, &mut sightings) {
        match sighting {
            Sighting::Group(group) => {
                for it in group.files {
                    assert_eq!(it.naming, Naming::Repo("acme/Tiny-GGUF".to_owned()));
                    let inside = it.path.strip_prefix(repo.join("snapshots")).unwrap();
                    found.push(inside.display().to_string());
                }
            }
            Sighting::Skipped(it) => unfinished += i32::from(it.kind == "unfinished"),
        }
    }
    assert_eq!(
        (found, unfinished),
        (vec!["bbb/Tiny-Q4_0.gguf".to_owned(), "aaa/Tiny-Q8_0.gguf".to_owned()], 1)
    );
}

#[test]
fn a_manifest_that_lies_is_said_and_followed_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = |tag: &str, text: &str| {
        let path = dir.path().join("manifests/registry.ollama.ai/library/m").join(tag);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let layer = |digest: &str| {
        format!(
            r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}"}}]}}"#
        )
    };
    manifest("absent", &layer(&format!("sha256:{}", "a".repeat(64))));
    manifest("huge", &" ".repeat((1 << 20) + 1));
    manifest("outside", &layer("sha256:../../../../etc/passwd"));
    manifest("remote", r#"{"layers":[]}"#);
    manifest("torn", r#"{"layers":"#);
    let (mut sink, mut sightings) = sink();
    assert_eq!(ollama::cache(dir.path(), &mut sink), Ok(()));
    let kinds: Vec<_> = skipped(&all(sink, &mut sightings)).into_iter().map(|it| it.1).collect();
    assert_eq!(
        kinds,
        [
            "file_not_found",
            "file_unreadable",
            "ollama_manifest",
            "ollama_manifest",
            "ollama_manifest"
        ]
    );
}

#[test]
fn no_link_leads_out_of_a_cache_and_the_kernels_own_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("hub");
    let repo = cache.join("models--acme--Tiny-GGUF");
    put(&repo, "snapshots/aaa/Tiny-Q8_0.gguf");
    put(&repo, "more/inside.gguf");
    put(dir.path(), "foreign/evil.gguf");
    put(dir.path(), "disk/models--acme--Far-GGUF/snapshots/bbb/Far-Q8_0.gguf");
    symlink(dir.path(), repo.join("snapshots/root")).unwrap();
    symlink("../../../../foreign", repo.join("snapshots/aaa/out")).unwrap();
    symlink("../../more", repo.join("snapshots/aaa/in")).unwrap();
    symlink("/", cache.join("everything")).unwrap();
    // What people do who have no room.
    let far = dir.path().join("disk/models--acme--Far-GGUF");
    symlink(far, cache.join("models--acme--Far-GGUF")).unwrap();
    let (mut sink, mut sightings) = sink();
    assert_eq!(huggingface::cache(&cache, &mut sink), Ok(()));
    let seen = all(sink, &mut sightings);
    let files = seen.iter().filter_map(|sighting| match sighting {
        Sighting::Group(group) => Some(&group.files),
        Sighting::Skipped(_) => None,
    });
    let mut files: Vec<_> =
        files.flatten().map(|it| it.path.file_name().unwrap().to_owned()).collect();
    files.sort();
    assert_eq!(files, ["Far-Q8_0.gguf", "Tiny-Q8_0.gguf", "inside.gguf"]);
    let left: Vec<_> = skipped(&seen);
    let out = |name: &str| (name.to_owned(), "leads_out".to_owned());
    assert_eq!(left, [out("everything"), out("root"), out("out")]);

    let (listings, skipped) = walked(Path::new("/proc/self"));
    assert_eq!((listings.len(), skipped[0].1.as_str()), (0, "kernels_own"));
    // A person's own links lead where they lead.
    let (listings, _) = walked(&repo.join("snapshots/aaa"));
    assert!(listings.iter().flat_map(|it| &it.files).any(|name| name == "evil.gguf"));
}
