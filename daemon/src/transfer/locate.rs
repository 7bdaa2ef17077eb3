//! Where files are on this machine that were elsewhere on another.

use llamactl_protocol::WirePath;
use llamactl_protocol::exchange::MapPath;
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How deep directories are looked through, and how many entries of them.
const MAX_DEPTH: usize = 16;
const MAX_ENTRIES: usize = 200_000;

/// How paths are changed on their way in.
#[derive(Clone, Debug, Default)]
pub(super) struct Locator {
    map: Vec<MapPath>,
    find: Vec<PathBuf>,
    /// What lies below the directories to look through, by name; made when it is first needed.
    index: Option<HashMap<OsString, Vec<PathBuf>>>,
}

impl Locator {
    pub(super) fn new(map: Vec<MapPath>, find: Vec<WirePath>) -> Locator {
        Locator { map, find: find.into_iter().map(|path| path.0).collect(), index: None }
    }

    /// A path with its beginning replaced, where that is asked for.
    pub(super) fn mapped(&self, path: &Path) -> PathBuf {
        let map = |map: &MapPath| {
            let rest = path.strip_prefix(map.from.as_path()).ok()?;
            // Nothing behind it would leave a slash at the end.
            let is_whole = rest.as_os_str().is_empty();
            Some(if is_whole { map.to.0.clone() } else { map.to.0.join(rest) })
        };
        self.map.iter().find_map(map).unwrap_or_else(|| path.to_owned())
    }

    /// The same in a setting's value: every absolute path in it.
    pub(super) fn mapped_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) if text.starts_with('/') => {
                serde_json::json!(WirePath(self.mapped(Path::new(&text))))
            }
            Value::Array(items) => items.into_iter().map(|item| self.mapped_value(item)).collect(),
            other => other,
        }
    }

    /// Where a model's file is: as it is said, else one of its name below the directories to look
    /// through. Says what was done. Blocks.
    pub(super) fn locate(&mut self, path: &Path) -> (PathBuf, Option<String>) {
        let path = self.mapped(path);
        let Some(name) = path.file_name().filter(|_| !self.find.is_empty() && !path.exists())
        else {
            return (path, None);
        };
        let find = &self.find;
        let index = self.index.get_or_insert_with(|| index(find));
        match index.get(name).map(Vec::as_slice) {
            None | Some([]) => (path, None),
            Some([only]) => (only.clone(), Some(format!("found at {}", only.display()))),
            Some([first, others @ ..]) => {
                let count = others.len();
                let note = format!("found at {} and in {count} other places", first.display());
                (first.clone(), Some(note))
            }
        }
    }
}

/// The files below some directories, by name; links to directories are not followed.
fn index(dirs: &[PathBuf]) -> HashMap<OsString, Vec<PathBuf>> {
    let mut found: HashMap<OsString, Vec<PathBuf>> = HashMap::new();
    let mut left = MAX_ENTRIES;
    let mut open: Vec<(PathBuf, usize)> = dirs.iter().rev().map(|dir| (dir.clone(), 0)).collect();
    while let Some((dir, depth)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let mut paths: Vec<_> = entries.flatten().take(left).collect();
        left -= paths.len();
        paths.sort_by_key(std::fs::DirEntry::path);
        for entry in paths.into_iter().rev() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH {
                open.push((entry.path(), depth + 1));
            } else if entry.path().is_file() {
                found.entry(entry.file_name()).or_default().push(entry.path());
            }
        }
    }
    found.values_mut().for_each(|paths| paths.sort());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_beginning_that_fits_is_replaced() {
        let map = |from: &str, to: &str| MapPath { from: from.into(), to: to.into() };
        let locator = Locator::new(vec![map("/a/b", "/x"), map("/a", "/y")], vec![]);
        assert_eq!(locator.mapped(Path::new("/a/b/c.gguf")), Path::new("/x/c.gguf"));
        assert_eq!(locator.mapped(Path::new("/a/bc.gguf")), Path::new("/y/bc.gguf"));
        assert_eq!(locator.mapped(Path::new("/z")), Path::new("/z"));
        assert_eq!(locator.mapped_value(json!(["/a/l", "a"])), json!(["/y/l", "a"]));
    }

    #[test]
    fn a_file_that_is_not_there_is_looked_for_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("x/y")).unwrap();
        let there = dir.path().join("x/y/m.gguf");
        std::fs::write(&there, "").unwrap();
        let mut locator = Locator::new(vec![], vec![WirePath(dir.path().to_owned())]);
        assert_eq!(locator.locate(Path::new("/no/m.gguf")).0, there);
        assert_eq!(locator.locate(Path::new("/no/n.gguf")).0, Path::new("/no/n.gguf"));
        assert_eq!(locator.locate(&there), (there.clone(), None));
    }
}
