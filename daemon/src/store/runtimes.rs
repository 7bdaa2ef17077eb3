//! llama-server builds that were found.

use super::{Registry, Result, now_ms};
use llamactl_protocol::WirePath;
use rusqlite::{Connection, OptionalExtension as _, params};

/// A build as it was found. The same path with other file facts is another build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRuntime {
    /// The executable, with links resolved.
    pub path: WirePath,
    /// Its inode.
    pub inode: u64,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written.
    pub mtime_ns: i64,
    /// What it says of its version.
    pub version: Option<String>,
    /// Whether it prints load progress for the program that starts it.
    pub reports_progress: bool,
    /// The long flags its `--help` names, without dashes.
    pub flags: Vec<String>,
}

/// A build in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeRecord {
    /// Its id, never reused.
    pub id: i64,
    /// What was found.
    pub found: NewRuntime,
}

impl Registry {
    /// The build at this path with these file facts, if it was seen before.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn known_runtime(
        &self,
        path: WirePath,
        inode: u64,
        size_bytes: u64,
        mtime_ns: i64,
    ) -> Result<Option<RuntimeRecord>> {
        self.read(move |connection| find(connection, &path, inode, size_bytes, mtime_ns)).await
    }

    /// Stores a build.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn add_runtime(&self, new: NewRuntime) -> Result<RuntimeRecord> {
        self.write(move |tx| {
            if let Some(known) = find(tx, &new.path, new.inode, new.size_bytes, new.mtime_ns)? {
                return Ok(known);
            }
            tx.execute(
                "INSERT INTO runtimes (path, inode, size_bytes, mtime_ns, version,
                                       reports_progress, flags, found_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.path.as_bytes(),
                    new.inode.cast_signed(),
                    new.size_bytes,
                    new.mtime_ns,
                    new.version,
                    new.reports_progress,
                    serde_json::to_string(&new.flags)?,
                    now_ms(),
                ],
            )?;
            Ok(RuntimeRecord { id: tx.last_insert_rowid(), found: new })
        })
        .await
    }
}

fn find(
    connection: &Connection,
    path: &WirePath,
    inode: u64,
    size_bytes: u64,
    mtime_ns: i64,
) -> Result<Option<RuntimeRecord>> {
    let row = connection
        .prepare_cached(
            "SELECT id, version, reports_progress, flags FROM runtimes
             WHERE path = ?1 AND inode = ?2 AND size_bytes = ?3 AND mtime_ns = ?4",
        )?
        .query_row(params![path.as_bytes(), inode.cast_signed(), size_bytes, mtime_ns], |row| {
            let flags: String = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, flags))
        })
        .optional()?;
    let Some((id, version, reports_progress, flags)) = row else { return Ok(None) };
    Ok(Some(RuntimeRecord {
        id,
        found: NewRuntime {
            path: path.clone(),
            inode,
            size_bytes,
            mtime_ns,
            version,
            reports_progress,
            flags: serde_json::from_str(&flags)?,
        },
    }))
}
