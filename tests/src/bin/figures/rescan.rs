//! How long it takes to look again through files that are known, beside a bare walk.

use super::Times;
use llamactl_tests::{Home, TestModel};
use serde_json::json;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

const FILES: usize = 1_000;
const DIRECTORIES: usize = 20;
const TRIES: usize = 50;

/// More than the header of a test model has.
const HEADER_BYTES: usize = 256 << 10;

/// A bare walk over a thousand model files, and a daemon's rescan of them when all are registered.
pub(super) fn measure() -> (Times, Times) {
    let home = Home::without_llama_server();
    let _daemon = home.daemon();
    let root = home.path().join("library");
    let model = fs::read(TestModel::Tiny.shared()).unwrap();
    for number in 0..FILES {
        let dir = root.join(format!("d{}", number % DIRECTORIES));
        fs::create_dir_all(&dir).unwrap();
        // A whole header, and where the weights would be a hole of their size.
        let mut file = File::create(dir.join(format!("m{number}.gguf"))).unwrap();
        file.write_all(&model[..HEADER_BYTES]).unwrap();
        file.set_len(u64::try_from(model.len()).unwrap()).unwrap();
    }
    let scan = || {
        let start = Instant::now();
        let params = json!({ "directories": [root], "add": true });
        let items = home.follow("scan.follow", params).to_end();
        let took = start.elapsed();
        let done = items.iter().rev().find(|item| item["data"]["what"] == "done").unwrap();
        assert_eq!(done["data"]["found"], FILES, "{done}");
        took
    };
    // The first reads every header and registers every file.
    scan();
    let bare = || {
        let start = Instant::now();
        assert_eq!(walk(&root), FILES);
        start.elapsed()
    };
    bare();
    let walks = (0..TRIES).map(|_| bare()).collect();
    let scans = (0..TRIES).map(|_| scan()).collect();
    (Times::of(walks, 90), Times::of(scans, 90))
}

/// Reads the directories and looks at each file once; how many files there are.
fn walk(directory: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files += walk(&entry.path());
        } else {
            black_box(entry.metadata().unwrap());
            files += 1;
        }
    }
    files
}
