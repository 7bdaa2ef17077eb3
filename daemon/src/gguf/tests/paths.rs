//! Paths: what is no file, split models, projectors beside a model.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::super::sample::Sample;
use super::super::{GgufError, Kind, Problem, inspect};

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn error(path: &Path) -> GgufError {
    inspect(path).unwrap_err()
}

/// Part `number` (from 0) of `count`, which promises `tensors` tensors in all and holds one of 256 weights.
fn part(number: u32, count: u32, tensors: u32) -> Sample {
    let sample = if number == 0 {
        Sample::empty().text("general.architecture", "llama")
    } else {
        Sample::empty()
    };
    sample
        .u32("split.no", number)
        .u32("split.count", count)
        .u32("split.tensors.count", tensors)
        .tensor(&format!("blk.{number}.w"), &[256, 1], 12)
}

#[test]
fn a_model() {
    let dir = Dir::new();
    let file = Sample::model().file();
    let path = dir.write("m.gguf", &file);
    let facts = inspect(&path).unwrap();
    assert_eq!(facts.kind, Kind::Model);
    assert_eq!(facts.file_bytes, file.len() as u64);
    assert_eq!(facts.path(), Some(path.as_path()));
    assert_eq!(facts.mmproj, None);
}

#[test]
fn a_symbolic_link_to_a_model_keeps_its_own_name() {
    let dir = Dir::new();
    let target = dir.write("blob", Sample::model().file());
    symlink(target, dir.path("m.gguf")).unwrap();
    let facts = inspect(&dir.path("m.gguf")).unwrap();
    assert_eq!(facts.path(), Some(dir.path("m.gguf").as_path()));
}

#[test]
fn what_is_no_file() {
    let dir = Dir::new();
    mkfifoat(CWD, dir.path("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _listener = UnixListener::bind(dir.path("socket")).unwrap();
    for (path, what) in [
        (dir.path(""), "a directory"),
        (dir.path("fifo"), "a named pipe"),
        (dir.path("socket"), "a socket"),
        ("/dev/zero".into(), "a device"),
    ] {
        let error = error(&path);
        assert_eq!(error.kind(), "not_a_file");
        assert_eq!(error.to_string(), format!("{}: is {what}, not a file", path.display()));
        assert!(error.hint().is_some());
    }
}

#[test]
fn what_is_not_there_or_empty() {
    let dir = Dir::new();
    assert_eq!(error(&dir.path("nothing.gguf")).kind(), "file_not_found");
    symlink(dir.path("nothing.gguf"), dir.path("dangling.gguf")).unwrap();
    assert_eq!(error(&dir.path("dangling.gguf")).kind(), "file_not_found");
    assert_eq!(error(&dir.write("empty.gguf", "")).kind(), "file_empty");
    assert_eq!(error(&dir.path("empty.gguf").join("x")).kind(), "file_unreadable");
}

#[test]
fn what_may_not_be_read() {
    let dir = Dir::new();
    let path = dir.write("m.gguf", Sample::model().file());
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    // Only this thread stops being root, if the tests run as root; it ends with the closure.
    let kind = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        error(&path).kind()
    });
    assert_eq!(kind.join().unwrap(), "permission_denied");
}

#[test]
fn a_file_cut_short() {
    let dir = Dir::new();
    let path = dir.write("m.gguf", Sample::model().file());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(fs::metadata(&path).unwrap().len() - 1).unwrap();
    assert!(matches!(error(&path).problem, Problem::TruncatedData { .. }));
    file.set_len(100).unwrap();
    assert!(matches!(error(&path).problem, Problem::TruncatedHeader { file_bytes: 100 }));
}

#[test]
fn any_part_of_a_split_model_stands_for_all() {
    let dir = Dir::new();
    let paths: Vec<PathBuf> = (0..3)
        .map(|number| {
            dir.write(&format!("m-0000{}-of-00003.gguf", number + 1), part(number, 3, 3).file())
        })
        .collect();
    for path in &paths {
        let facts = inspect(path).unwrap();
        assert_eq!(facts.path(), Some(paths[0].as_path()));
        let found: Vec<&Path> = facts.parts.iter().map(|part| part.path.as_path()).collect();
        assert_eq!(found, paths);
        assert_eq!(facts.file_bytes, facts.parts.iter().map(|part| part.bytes).sum::<u64>());
        assert_eq!((facts.tensor_count, facts.parameter_count), (3, 3 * 256));
        assert_eq!(facts.architecture.as_deref(), Some("llama"));
        assert_eq!(facts.kind, Kind::Model);
    }
}

#[test]
fn missing_parts_are_named() {
    let dir = Dir::new();
    let path = dir.write("m-00002-of-00003.gguf", part(1, 3, 3).file());
    assert_eq!(
        error(&path).to_string(),
        format!(
            "{}: 2 of 3 parts of this model are missing: m-00001-of-00003.gguf, m-00003-of-00003.gguf",
            path.display()
        )
    );
    assert_eq!(error(&path).kind(), "gguf_parts_missing");
}

#[test]
fn every_part_is_checked_and_the_faulty_one_named() {
    let dir = Dir::new();
    let first = dir.write("m-00001-of-00002.gguf", part(0, 2, 2).file());
    let mut cut = part(1, 2, 2).file();
    cut.pop();
    let second = dir.write("m-00002-of-00002.gguf", cut);
    assert_eq!(error(&first).path, second);
    assert_eq!(error(&first).kind(), "gguf_truncated");
}

#[test]
fn parts_that_do_not_belong_together() {
    for (second, tensors) in
        [(part(0, 2, 2), 2), (part(1, 3, 2), 2), (Sample::model(), 5), (part(1, 2, 3), 3)]
    {
        let dir = Dir::new();
        let first = dir.write("m-00001-of-00002.gguf", part(0, 2, tensors).file());
        dir.write("m-00002-of-00002.gguf", second.file());
        assert_eq!(error(&first).kind(), "gguf_parts_mismatch");
    }
    let dir = Dir::new();
    let renamed = dir.write("renamed.gguf", part(0, 2, 2).file());
    assert_eq!(error(&renamed).kind(), "gguf_parts_mismatch");
    let hostile = dir.write("m-00001-of-99999.gguf", part(0, 99_999, 2).file());
    assert_eq!(error(&hostile).kind(), "gguf_hostile");
}

#[test]
fn a_split_name_without_split_contents_is_one_file() {
    let dir = Dir::new();
    let path = dir.write("m-00001-of-00003.gguf", Sample::model().file());
    assert_eq!(inspect(&path).unwrap().parts.len(), 1);
}

#[test]
fn the_projector_beside_a_model() {
    let dir = Dir::new();
    let model = dir.write("m.gguf", Sample::model().file());
    fs::create_dir(dir.path("mmproj-a.gguf")).unwrap();
    assert_eq!(inspect(&model).unwrap().mmproj, None, "a directory is no projector");
    fs::remove_dir(dir.path("mmproj-a.gguf")).unwrap();
    let projector =
        dir.write("mmproj-F16.gguf", Sample::empty().text("general.architecture", "clip").file());
    assert_eq!(inspect(&model).unwrap().mmproj, Some(projector.clone()));
    let facts = inspect(&projector).unwrap();
    assert_eq!((facts.kind, facts.mmproj), (Kind::Projector, None));
}
