//! Secrets: one file each, beside the databases and never in them.
//!
//! ```text
//!   given text ─▶ put ─▶ secrets/ID (0600 in 0700), on disk ─▶ {"secret_ref": ID} in the registry
//! ```
//!
//! A file is written before the registry refers to it and outlives the reference: revisions and
//! runs may still name it. What nothing names any more is removed when the daemon starts, and when
//! a model is removed.

use llamactl_protocol::{Failure, Hint, Kind};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// No secret is longer.
const MAX_BYTES: u64 = 8 << 10;

/// The directory of secrets. Clones share it.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    pub(super) fn open(state_dir: &Path) -> io::Result<Secrets> {
        let dir = state_dir.join("secrets");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Secrets { dir })
    }

    /// Puts a secret away; its id. It is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// [`Kind::DiskFull`], [`Kind::IoFailed`].
    pub fn put(&self, text: &str) -> Result<String, Failure> {
        let id = Uuid::new_v4().to_string();
        let write = || -> io::Result<()> {
            let path = self.dir.join(&id);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // The name too: the registry will refer to it.
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(self.dir.join(&id));
            match error.kind() {
                io::ErrorKind::StorageFull => {
                    Failure::new(Kind::DiskFull, "the disk is full: the secret was not kept")
                        .hint("free some space where the state directory lies and try again")
                }
                _ => Failure::new(Kind::IoFailed, format!("the secret cannot be kept: {error}")),
            }
        })?;
        Ok(id)
    }

    /// Reads a secret. Blocks.
    ///
    /// # Errors
    /// [`Kind::IoFailed`] when its file is gone or cannot be read.
    pub fn read(&self, id: &str) -> Result<String, Failure> {
        let read = || -> io::Result<String> {
            // An id is ours, but a database may have been restored from anywhere.
            Uuid::parse_str(id).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut text = String::new();
            File::open(self.dir.join(id))?.take(MAX_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        read().map_err(|error| {
            Failure::new(Kind::IoFailed, format!("a secret cannot be read: {error}"))
                .hint(Hint::run("set it again", ["llamactl", "model", "set", "NAME", "KEY=-"]))
        })
    }

    /// Removes these secrets, on a thread that may wait for the disk. What cannot be removed is logged:
    /// nothing refers to it, and the next start of the daemon tries again.
    pub async fn remove(&self, ids: Vec<String>) {
        let secrets = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || secrets.remove_now(ids)).await {
            tracing::error!(%error, "removing secrets that nothing uses");
        }
    }

    /// The same, for who may wait already. Blocks.
    pub fn remove_now(&self, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            if Uuid::parse_str(&id).is_ok()
                && let Err(error) = std::fs::remove_file(self.dir.join(&id))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "cannot remove a secret that nothing uses");
            }
        }
    }

    /// The ids of the secrets there are. Blocks.
    ///
    /// # Errors
    /// What the directory refuses.
    pub fn ids(&self) -> io::Result<BTreeSet<String>> {
        let names = std::fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| name.as_ref().is_ok_and(|name| Uuid::parse_str(name).is_ok())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(dir.path()).unwrap();
        let id = secrets.put("s3cret").unwrap();
        assert_eq!(secrets.read(&id).unwrap(), "s3cret");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&secrets.dir), 0o700);
        assert_eq!(mode(&secrets.dir.join(&id)), 0o600);
        secrets.remove_now([id.clone(), "../registry.db".to_owned()]);
        assert!(secrets.read(&id).is_err() && secrets.ids().unwrap().is_empty());
    }
}
