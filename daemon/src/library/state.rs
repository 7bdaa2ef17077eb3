//! Whether the files of registered models are still there and the same.

use super::Library;
use super::group;
use crate::os::cached;
use crate::store::registry::{FileStamp, RunFile, StoreError};
use llamactl_protocol::WirePath;
use llamactl_protocol::model::{FileState, Model};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The most files looked at in one go.
const MAX_FILES: usize = 2_000;

/// How long a file system may take over it. What is not known by then stays unknown.
const PATIENCE: Duration = Duration::from_secs(2);

impl Library {
    /// Fills in how the files of these models are. A file system that hangs leaves it unknown.
    ///
    /// # Errors
    /// What the registry reports.
    pub async fn look_at(&self, models: &mut [Model]) -> Result<(), StoreError> {
        let mut seen =
            self.registry.file_stamps(models.iter().map(|model| model.id).collect()).await?;
        let mut left = MAX_FILES;
        let wanted: Vec<Look> = models
            .iter()
            .map_while(|model| {
                let parts = match model.file.parts.as_slice() {
                    [] => vec![model.path.clone()],
                    parts => parts.to_vec(),
                };
                left = left.checked_sub(parts.len())?;
                Some(Look { parts, seen: seen.remove(&model.id).unwrap_or_default() })
            })
            .collect();
        let look = move || wanted.iter().map(Look::state).collect::<Vec<_>>();
        let states = self.patiently(look).await.unwrap_or_default();
        for (model, state) in models.iter_mut().zip(states) {
            model.file_state = state;
        }
        Ok(())
    }
}

impl Library {
    /// Looks at files on a thread of its own; `None` where a file system does not answer in time.
    pub async fn patiently<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let looks = Arc::clone(&self.looks);
        let looked = async move {
            // A look that hangs keeps its permit until the file system answers.
            let permit = looks.acquire_owned().await.ok()?;
            spawn_blocking(move || {
                let _permit = permit;
                look()
            })
            .await
            .ok()
        };
        timeout(PATIENCE, looked).await.ok().flatten()
    }
}

/// Whether these are known, without waiting, to be the files that a run was started with.
#[must_use]
pub fn are_surely_unchanged(files: &[RunFile]) -> bool {
    files.iter().all(|RunFile { path, stamp, .. }| {
        cached::facts(path.as_path()).is_some_and(|now| {
            let same = (now.inode.cast_signed(), now.size_bytes.cast_signed(), now.mtime_ns);
            same == (stamp.inode, stamp.size_bytes, stamp.mtime_ns)
        })
    })
}

/// What became of the files that a run was started with, the first of each setting: none opened. Blocks.
#[must_use]
pub fn changed_since(files: &[RunFile]) -> Vec<FileChange> {
    let mut changes: Vec<FileChange> = Vec::new();
    for file in files {
        let became = match group::stamp(file.path.as_path()) {
            Ok(now) if file.stamp.is_unchanged(&now) => continue,
            Ok(now) if file.stamp.inode == now.inode => Became::Changed,
            Ok(_) => Became::Replaced,
            Err(error) if is_missing(&error) => Became::Gone,
            // Nobody may look at it: it may be there.
            Err(_) => continue,
        };
        if changes.iter().all(|change| change.key != file.key) {
            changes.push(FileChange { key: file.key.clone(), path: file.path.clone(), became });
        }
    }
    changes
}

/// A file that is not the one a run was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The setting that names it.
    pub key: String,
    /// Where it was.
    pub path: WirePath,
    /// What became of it.
    pub became: Became,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It is not there.
    Gone,
    /// Another lies in its place.
    Replaced,
    /// It was written to.
    Changed,
}

/// The files of a model, and which they were.
struct Look {
    parts: Vec<WirePath>,
    seen: Vec<FileStamp>,
}

impl Look {
    /// `None` where nobody may look.
    fn state(&self) -> Option<FileState> {
        let mut state = FileState::Present;
        for (index, part) in self.parts.iter().enumerate() {
            let now = match group::stamp(part.as_path()) {
                Ok(now) => now,
                Err(error) if is_missing(&error) => return Some(FileState::Missing),
                Err(_) => return None,
            };
            if self.seen.get(index).is_some_and(|then| !then.is_unchanged(&now)) {
                state = FileState::Changed;
            }
        }
        Some(state)
    }
}

/// Whether there is nothing, rather than something that may not be looked at.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn present_changed_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, "1").unwrap();
        let mut look = Look { parts: vec![WirePath(path.clone())], seen: vec![] };
        let present = Some(FileState::Present);
        assert_eq!(look.state(), present, "nobody knows what it was");
        look.seen = vec![group::stamp(&path).unwrap()];
        assert_eq!(look.state(), present);
        look.seen[0].device += 1;
        assert_eq!(look.state(), present, "device numbers change at a boot");
        let run = |key: &str| RunFile {
            key: key.to_owned(),
            path: WirePath(path.clone()),
            stamp: group::stamp(&path).unwrap(),
        };
        let files = [run("path"), run("path"), run("mmproj")];
        let became = || changed_since(&files).into_iter().map(|it| (it.key, it.became));
        assert_eq!(became().count(), 0);
        fs::write(&path, "12").unwrap();
        assert_eq!(look.state(), Some(FileState::Changed));
        let both = |became| [("path".to_owned(), became), ("mmproj".to_owned(), became)];
        assert_eq!(became().collect::<Vec<_>>(), both(Became::Changed));
        fs::write(dir.path().join("new"), "1").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(became().collect::<Vec<_>>(), both(Became::Replaced));
        fs::remove_file(&path).unwrap();
        assert_eq!(look.state(), Some(FileState::Missing));
        assert_eq!(became().collect::<Vec<_>>(), both(Became::Gone));
        // What may not be looked at may be there.
        look.parts = vec![WirePath(dir.path().join("x".repeat(400)))];
        assert_eq!(look.state(), None);
    }
}
