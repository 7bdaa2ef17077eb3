//! Whether the files of registered models are still there and the same.

use super::Library;
use super::group;
use crate::store::registry::{FileStamp, StoreError};
use llamactl_protocol::WirePath;
use llamactl_protocol::model::{FileState, Model};
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
        let looks = Arc::clone(&self.looks);
        let looked = async move {
            // A look that hangs keeps its permit until the file system answers.
            let permit = looks.acquire_owned().await.ok()?;
            spawn_blocking(move || {
                let _permit = permit;
                wanted.iter().map(Look::state).collect::<Vec<_>>()
            })
            .await
            .ok()
        };
        let states = timeout(PATIENCE, looked).await.ok().flatten().unwrap_or_default();
        for (model, state) in models.iter_mut().zip(states) {
            model.file_state = Some(state);
        }
        Ok(())
    }
}

/// The files of a model, and which they were.
struct Look {
    parts: Vec<WirePath>,
    seen: Vec<FileStamp>,
}

impl Look {
    fn state(&self) -> FileState {
        let mut state = FileState::Present;
        for (index, part) in self.parts.iter().enumerate() {
            let Ok(now) = group::stamp(part.as_path()) else { return FileState::Missing };
            if self.seen.get(index).is_some_and(|then| !then.is_unchanged(&now)) {
                state = FileState::Changed;
            }
        }
        state
    }
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
        assert_eq!(look.state(), FileState::Present, "nobody knows what it was");
        look.seen = vec![group::stamp(&path).unwrap()];
        assert_eq!(look.state(), FileState::Present);
        look.seen[0].device += 1;
        assert_eq!(look.state(), FileState::Present, "device numbers change at a boot");
        fs::write(&path, "12").unwrap();
        assert_eq!(look.state(), FileState::Changed);
        fs::remove_file(&path).unwrap();
        assert_eq!(look.state(), FileState::Missing);
    }
}
