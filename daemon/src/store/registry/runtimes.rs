//! llama-server builds that were found.

use super::events::NewEvent;
use super::runs::{RunFile, readable};
use super::{Registry, Result, events};
use crate::clock::now_ms;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::options::{Build, BuildOption};
use llamactl_protocol::runtime::Device;
use llamactl_protocol::{Actor, WirePath};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A build as it was found. The same path with other file facts is another build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRuntime {
    /// The executable, with links resolved.
    pub path: WirePath,
    /// The executable's inode; with the device it tells one file from another in its place.
    pub inode: u64,
    /// The executable's length in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub mtime_ns: i64,
    /// Where its libraries were looked for beside its own directory, as `LD_LIBRARY_PATH` has it.
    pub libraries: String,
    /// What it says of its version.
    pub version: Option<String>,
    /// Whether it prints load progress for the program that starts it.
    pub reports_progress: bool,
    /// The word before its arguments by which it is a llama-server; `None` where it is nothing else.
    pub subcommand: Option<String>,
    /// What its `--help` tells of its options.
    pub options: Vec<BuildOption>,
    /// The devices it can offload to.
    pub devices: Vec<Device>,
}

impl NewRuntime {
    /// Whether it takes this flag, given without dashes.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        let is_it = |spelling: &String| spelling.trim_start_matches('-') == flag;
        self.options
            .iter()
            .filter(|option| !option.removed)
            .any(|option| option.flags.iter().chain(&option.negations).any(is_it))
    }
}

/// An executable and the facts by which a replaced one is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFile {
    /// The executable, with links resolved.
    pub path: WirePath,
    /// The executable's inode; with the device it tells one file from another in its place.
    pub inode: u64,
    /// The executable's length in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub mtime_ns: i64,
    /// What it said of its version.
    pub version: Option<String>,
}

/// What the process of a run was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesOfRun {
    /// The executable.
    pub build: RuntimeFile,
    /// The files it was started with.
    pub files: Vec<RunFile>,
}

/// A build in the registry, under the name it is used by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeRecord {
    /// Its id, never reused.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Variables for its servers; texts, or stored secrets.
    pub environment: BTreeMap<String, Value>,
    /// Where its libraries are looked for beside its own directory, by those variables; links resolved.
    pub lib_dirs: Vec<PathBuf>,
    /// What was found.
    pub found: NewRuntime,
}

impl RuntimeRecord {
    /// Its options, under the name messages call it by.
    #[must_use]
    pub fn build(&self) -> Build {
        let name = match &self.found.version {
            Some(version) => format!("llama-server {version}"),
            None => format!("the llama-server of the runtime {}", self.name),
        };
        Build::new(name, self.found.options.clone())
    }
}

impl Registry {
    /// The build at this path with these file facts and its id, if it was looked at before with these
    /// libraries; by a version of llamactl that looked at less than this one does not count.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn known_runtime(
        &self,
        path: WirePath,
        inode: u64,
        size_bytes: u64,
        mtime_ns: i64,
        libraries: String,
    ) -> Result<Option<(i64, NewRuntime)>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM runtimes
                 WHERE path = ?1 AND inode = ?2 AND size_bytes = ?3 AND mtime_ns = ?4
                   AND libraries = ?5 AND options IS NOT NULL AND devices IS NOT NULL",
            )?;
            let inode = inode.cast_signed();
            let facts = params![path.as_bytes(), inode, size_bytes, mtime_ns, libraries];
            statement.query_row(facts, |row| Ok(read_runtime(row))).optional()?.transpose()
        })
        .await
    }

    /// The build that was looked at last at this path, whatever the file is now.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn last_runtime_at(&self, path: WirePath) -> Result<Option<NewRuntime>> {
        self.read(move |connection| Ok(last_at(connection, &path)?.map(|(_, found)| found))).await
    }

    /// Stores what a build is, over what was known of it; its id. Where another build was at the
    /// path before, or this one had other options, that is an event.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn put_runtime(&self, new: NewRuntime, by: Actor) -> Result<i64> {
        self.write(move |tx| {
            let before = last_at(tx, &new.path)?;
            let id = put(tx, &new)?;
            forget_unused(tx)?;
            if let Some((old_id, old)) = before
                && (old_id != id || old.options != new.options)
            {
                let version = |of: &NewRuntime| {
                    of.version.clone().unwrap_or_else(|| "of no known version".to_owned())
                };
                let message =
                    format!("{} is now {}; it was {}", new.path, version(&new), version(&old));
                events::append(tx, &NewEvent::of_daemon(EventKind::RuntimeChanged, &by, message))?;
            }
            Ok(id)
        })
        .await
    }

    /// Forgets what a build says of itself, because it says it no more; runs still know it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn forget_answers(&self, id: i64) -> Result<()> {
        self.write(move |tx| {
            tx.execute("UPDATE runtimes SET options = NULL WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }

    /// A build by its id; `None` for an id that never was.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn runtime(&self, id: i64) -> Result<Option<NewRuntime>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM runtimes WHERE id = ?1")?;
            let read = statement.query_row([id], |row| Ok(read_runtime(row))).optional()?;
            Ok(read.transpose()?.map(|(_, found)| found))
        })
        .await
    }

    /// The executables and files of these runs, by run; those of unknown runs are left out.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn files_of_runs(&self, runs: Vec<String>) -> Result<BTreeMap<String, FilesOfRun>> {
        self.files_of_runs.recall(self, runs, |runs| self.read_files_of_runs(runs)).await
    }

    async fn read_files_of_runs(&self, runs: Vec<String>) -> Result<BTreeMap<String, FilesOfRun>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT path, inode, size_bytes, mtime_ns, version, files
                 FROM runs JOIN runtimes ON runtimes.id = runtime_id WHERE runs.id = ?1",
            )?;
            let mut files = BTreeMap::new();
            for run in runs {
                let file = statement.query_row([&run], |row| {
                    let build = RuntimeFile {
                        path: WirePath::from_bytes(row.get(0)?),
                        inode: row.get::<_, i64>(1)?.cast_unsigned(),
                        size_bytes: row.get(2)?,
                        mtime_ns: row.get(3)?,
                        version: row.get(4)?,
                    };
                    Ok(readable(row, "files").map(|files| FilesOfRun { build, files }))
                });
                if let Some(file) = file.optional()? {
                    files.insert(run, file?);
                }
            }
            Ok(files)
        })
        .await
    }
}

/// The row of a path that was looked at last, with its id.
fn last_at(connection: &Connection, path: &WirePath) -> Result<Option<(i64, NewRuntime)>> {
    connection
        .prepare_cached(
            "SELECT * FROM runtimes WHERE path = ?1 AND options IS NOT NULL
             ORDER BY found_at_ms DESC, id DESC LIMIT 1",
        )?
        .query_row([path.as_bytes()], |row| Ok(read_runtime(row)))
        .optional()?
        .transpose()
}

fn put(connection: &Connection, new: &NewRuntime) -> Result<i64> {
    let mut flags: Vec<&str> = new
        .options
        .iter()
        .flat_map(|option| option.flags.iter().chain(&option.negations))
        .filter_map(|flag| flag.strip_prefix("--"))
        .collect();
    flags.sort_unstable();
    flags.dedup();
    Ok(connection
        .prepare_cached(
            "INSERT INTO runtimes (path, inode, size_bytes, mtime_ns, version, reports_progress,
                                   flags, options, devices, found_at_ms,
                                   subcommand, libraries)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (path, inode, size_bytes, mtime_ns) DO UPDATE SET
                 version = excluded.version, reports_progress = excluded.reports_progress,
                 flags = excluded.flags, options = excluded.options, devices = excluded.devices,
                 found_at_ms = excluded.found_at_ms, subcommand = excluded.subcommand,
                 libraries = excluded.libraries
             RETURNING id",
        )?
        .query_row(
            params![
                new.path.as_bytes(),
                new.inode.cast_signed(),
                new.size_bytes,
                new.mtime_ns,
                new.version,
                new.reports_progress,
                serde_json::to_string(&flags)?,
                serde_json::to_string(&new.options)?,
                serde_json::to_string(&new.devices)?,
                now_ms(),
                new.subcommand,
                new.libraries,
            ],
            |row| row.get(0),
        )?)
}

/// So many builds are remembered of which no run tells.
const KEEP: u32 = 200;
/// No more are forgotten at once.
const FORGET_AT_ONCE: u32 = 20;

/// Forgets builds that no run was of and no named runtime is: those replaced twice at their path (a
/// start may just have chosen the one before the last), and the oldest when there are many. One that
/// is seen again is asked again.
fn forget_unused(connection: &Connection) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM runtimes WHERE id IN (
                 SELECT id FROM runtimes AS old
                 WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runtime_id = old.id)
                   AND ((SELECT count(*) FROM runtimes AS newer
                         WHERE newer.path = old.path AND newer.id > old.id) >= 2
                        OR (id <= (SELECT id FROM runtimes ORDER BY id DESC LIMIT 1 OFFSET ?1)
                            AND NOT EXISTS (SELECT 1 FROM named_runtimes WHERE path = old.path)))
                 ORDER BY id LIMIT ?2)",
        )?
        .execute([KEEP, FORGET_AT_ONCE])?;
    Ok(())
}

fn read_runtime(row: &Row<'_>) -> Result<(i64, NewRuntime)> {
    let inode: i64 = row.get("inode")?;
    let json = |column: &str| row.get::<_, Option<String>>(column);
    let empty = || "[]".to_owned();
    let new = NewRuntime {
        path: WirePath::from_bytes(row.get("path")?),
        inode: inode.cast_unsigned(),
        size_bytes: row.get("size_bytes")?,
        mtime_ns: row.get("mtime_ns")?,
        libraries: row.get("libraries")?,
        version: row.get("version")?,
        reports_progress: row.get("reports_progress")?,
        subcommand: row.get("subcommand")?,
        options: serde_json::from_str(&json("options")?.unwrap_or_else(empty))?,
        devices: serde_json::from_str(&json("devices")?.unwrap_or_else(empty))?,
    };
    Ok((row.get("id")?, new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::EventFilter;
    use llamactl_protocol::options::BuildOption;

    fn build(version: &str, mtime_ns: i64) -> NewRuntime {
        NewRuntime {
            path: WirePath::from("/opt/llama-server"),
            inode: 7,
            size_bytes: 8,
            mtime_ns,
            libraries: String::new(),
            version: Some(version.to_owned()),
            reports_progress: true,
            subcommand: Some("serve".to_owned()),
            options: vec![BuildOption {
                key: "ui".to_owned(),
                flags: vec!["--ui".to_owned()],
                negations: vec!["--no-ui".to_owned()],
                ..BuildOption::default()
            }],
            devices: vec![],
        }
    }

    #[tokio::test]
    async fn a_build_is_known_by_its_file_and_a_replaced_one_is_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let known = async |mtime_ns| {
            registry
                .known_runtime(WirePath::from("/opt/llama-server"), 7, 8, mtime_ns, String::new())
                .await
                .unwrap()
        };
        let id = registry.put_runtime(build("1", 1), Actor::Policy).await.unwrap();
        assert_eq!(known(1).await, Some((id, build("1", 1))));
        assert!(build("1", 1).has("no-ui") && !build("1", 1).has("port"));
        assert_eq!(registry.put_runtime(build("1", 1), Actor::Policy).await.unwrap(), id);
        assert_eq!(registry.events(EventFilter::default()).await.unwrap().last, 0);

        assert_eq!(known(2).await, None);
        let newer = registry.put_runtime(build("2", 2), Actor::Policy).await.unwrap();
        assert!(newer > id && registry.events(EventFilter::default()).await.unwrap().last > 0);
        assert_eq!(registry.runtime(id).await.unwrap(), Some(build("1", 1)));
    }

    #[tokio::test]
    async fn a_build_an_earlier_version_looked_at_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let id = registry.put_runtime(build("1", 1), Actor::Policy).await.unwrap();
        let forget = registry.write(|tx| Ok(tx.execute("UPDATE runtimes SET options = NULL", [])?));
        forget.await.unwrap();
        let path = WirePath::from("/opt/llama-server");
        let known =
            |libraries: &str| registry.known_runtime(path.clone(), 7, 8, 1, libraries.to_owned());
        assert_eq!(known("").await.unwrap(), None);
        // Its runs still know it.
        assert_eq!(registry.runtime(id).await.unwrap().unwrap().options, []);
        assert_eq!(registry.put_runtime(build("1", 1), Actor::Policy).await.unwrap(), id);
        assert!(known("").await.unwrap().is_some());
        // With other libraries it may be another build.
        assert_eq!(known("/usr/local/cuda/lib64").await.unwrap(), None);
    }
}
