//! What is kept about files: which they were when they were read, what their headers said, and
//! the directories that are looked through.

use super::events::NewEvent;
use super::models::{NewModel, get, insert};
use super::{Registry, Result, StoreError, events, names};
use crate::clock::now_ms;
use llamactl_protocol::event::EventKind;
use llamactl_protocol::model::{Model, ModelFile};
use llamactl_protocol::{Actor, WirePath, name};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// How many headers are kept.
const KEEP_HEADERS: i64 = 20_000;

/// How many headers are written in one transaction: some 20 ms.
const HEADERS_AT_ONCE: usize = 500;

/// How many numbers are tried behind a name that is taken.
const VARIANTS: u32 = 10_000;

/// Which file a path led to at some moment. Device and inode are kept bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// The file system it lies on.
    pub device: i64,
    /// Its number there.
    pub inode: i64,
    /// The file's length in bytes.
    pub size_bytes: i64,
    /// When its contents were changed last, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

impl FileStamp {
    /// The stamp of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> FileStamp {
        FileStamp {
            device: metadata.dev().cast_signed(),
            inode: metadata.ino().cast_signed(),
            size_bytes: metadata.size().cast_signed(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }

    /// Whether the file is still the same and was not written to. Device numbers are dealt out
    /// anew at each boot, so they say nothing here.
    #[must_use]
    pub fn is_unchanged(&self, now: &FileStamp) -> bool {
        FileStamp { device: now.device, ..*self } == *now
    }

    /// Several as a column; NULL for none.
    pub(super) fn to_column(stamps: &[FileStamp]) -> Result<Option<String>> {
        if stamps.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::to_string(stamps)?))
    }
}

impl Registry {
    /// Which files the parts of these models were when their headers were read, by model id; a
    /// model of which that is not known is left out.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn file_stamps(&self, ids: Vec<i64>) -> Result<HashMap<i64, Vec<FileStamp>>> {
        self.read(move |connection| {
            let mut stamps = HashMap::new();
            for id in ids {
                if let Some(of_model) = stamps_of(connection, id)? {
                    stamps.insert(id, of_model);
                }
            }
            Ok(stamps)
        })
        .await
    }

    /// The names and files of all models, the oldest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn model_paths(&self) -> Result<Vec<(String, WirePath)>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT own.name, models.path FROM models
                 JOIN model_names AS own ON own.model_id = models.id AND own.is_alias = 0
                 ORDER BY models.id",
            )?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, WirePath::from_bytes(row.get(1)?))))?;
            Ok(rows.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }

    /// The model that has this name or alias.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn name_owner(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        self.read(move |connection| names::owner(connection, &name)).await
    }

    /// Stores a model that was found, under its name or the first free one like it; `false` beside
    /// the model that is there already for the same file.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when thousands have names like it.
    pub async fn add_found_model(&self, new: NewModel, by: Actor) -> Result<(Model, bool)> {
        self.write(move |tx| {
            if let Some(there) = model_of_file(tx, &new)? {
                return Ok((there, false));
            }
            let mut new = new.clone();
            if let Some(owner) = names::owner(tx, &new.name)? {
                let taken = StoreError::NameTaken { name: new.name.clone(), by: owner };
                let mut free = None;
                for candidate in variants(&new.name) {
                    if names::owner(tx, &candidate)?.is_none() {
                        free = Some(candidate);
                        break;
                    }
                }
                new.name = free.ok_or(taken)?;
            }
            let what = format!("added from {}", new.file.path);
            Ok((insert(tx, &new, &[], &by, &what)?, true))
        })
        .await
    }

    /// Replaces what is known of a model's file, because it was read again. The settings and the
    /// revision stay.
    ///
    /// # Errors
    /// [`StoreError::ModelNotFound`].
    pub async fn refresh_file(
        &self,
        id: i64,
        file: ModelFile,
        chat_template: Option<String>,
        seen: Vec<FileStamp>,
        by: Actor,
    ) -> Result<Model> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE models SET file = ?2, chat_template = ?3, seen = ?4 WHERE id = ?1",
                params![
                    id,
                    serde_json::to_string(&file)?,
                    chat_template,
                    FileStamp::to_column(&seen)?
                ],
            )?;
            let model =
                get(tx, id)?.ok_or_else(|| StoreError::ModelNotFound(id.to_string()))?.model;
            let message = format!("the file of {} had changed and was read again", model.name);
            events::append(
                tx,
                &NewEvent::of_model(EventKind::ModelRefreshed, &model, &by, message),
            )?;
            Ok(model)
        })
        .await
    }

    /// What the headers of these files said, for each that has not changed since it was read.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn headers(&self, files: Vec<FileStamp>) -> Result<Vec<Option<String>>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT facts FROM headers
                 WHERE device = ?1 AND inode = ?2 AND size_bytes = ?3 AND mtime_ns = ?4",
            )?;
            let mut found = Vec::with_capacity(files.len());
            for file in files {
                let key = params![file.device, file.inode, file.size_bytes, file.mtime_ns];
                found.push(statement.query_row(key, |row| row.get(0)).optional()?);
            }
            Ok(found)
        })
        .await
    }

    /// Keeps what headers said, some at a time: nobody waits long behind a large library.
    ///
    /// # Errors
    /// What SQLite reports; those before are kept.
    pub async fn put_headers(&self, headers: Vec<(FileStamp, String)>) -> Result<()> {
        for some in headers.chunks(HEADERS_AT_ONCE) {
            let some = some.to_vec();
            self.write(move |tx| put_some_headers(tx, &some)).await?;
        }
        Ok(())
    }

    /// The directories that are looked through at each start, and since when.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn remembered_dirs(&self) -> Result<Vec<(WirePath, i64)>> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT path, added_at_ms FROM library_dirs ORDER BY path")?;
            let rows = statement
                .query_map([], |row| Ok((WirePath::from_bytes(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }

    /// Adds directories to those that are looked through.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn remember_dirs(&self, dirs: Vec<WirePath>, by: Actor) -> Result<()> {
        self.write(move |tx| {
            for dir in &dirs {
                let added = tx.execute(
                    "INSERT OR IGNORE INTO library_dirs (path, added_at_ms) VALUES (?1, ?2)",
                    params![dir.as_bytes(), now_ms()],
                )?;
                if added > 0 {
                    let message = format!("{dir} is looked through for models from now on");
                    events::append(
                        tx,
                        &NewEvent::of_daemon(EventKind::LibraryRemembered, &by, message),
                    )?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes a directory out of those that are looked through; `false` when it was not among them.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn forget_dir(&self, dir: WirePath, by: Actor) -> Result<bool> {
        self.write(move |tx| {
            let gone = tx.execute("DELETE FROM library_dirs WHERE path = ?1", [dir.as_bytes()])?;
            if gone > 0 {
                let message = format!("{dir} is not looked through for models any more");
                events::append(
                    tx,
                    &NewEvent::of_daemon(EventKind::LibraryForgotten, &by, message),
                )?;
            }
            Ok(gone > 0)
        })
        .await
    }
}

fn put_some_headers(tx: &Connection, headers: &[(FileStamp, String)]) -> Result<()> {
    let at_ms = now_ms();
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO headers
             (device, inode, size_bytes, mtime_ns, facts, read_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (file, facts) in headers {
        let FileStamp { device, inode, size_bytes, mtime_ns } = file;
        statement.execute(params![device, inode, size_bytes, mtime_ns, facts, at_ms])?;
    }
    tx.prepare_cached(
        "DELETE FROM headers WHERE (device, inode) IN (
             SELECT device, inode FROM headers
             ORDER BY read_at_ms DESC LIMIT -1 OFFSET ?1)",
    )?
    .execute([KEEP_HEADERS])?;
    Ok(())
}

/// `name-2`, `name-3`, …, none longer than a name may be.
pub fn variants(name: &str) -> impl Iterator<Item = String> + use<> {
    // Names are ASCII, so any byte is the end of a character.
    let longest = name::MAX_BYTES.saturating_sub(VARIANTS.to_string().len());
    let stem = name.get(..longest).unwrap_or(name).to_owned();
    (2..VARIANTS).map(move |number| format!("{stem}-{number}"))
}

/// Which files a model's parts were when their headers were read; `None` where that is not known.
pub(super) fn stamps_of(connection: &Connection, id: i64) -> Result<Option<Vec<FileStamp>>> {
    let seen: Option<Option<String>> = connection
        .prepare_cached("SELECT seen FROM models WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    Ok(seen.flatten().map(|text| serde_json::from_str(&text)).transpose()?)
}

/// The oldest model of the same file, by its path or by which file it was when it was read. The
/// number of a file that is gone is given to another, so size and time count too.
fn model_of_file(connection: &Connection, new: &NewModel) -> Result<Option<Model>> {
    let stamp = new.file.seen.first().map(serde_json::to_string).transpose()?;
    let id: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM models
             WHERE (path = ?1 OR json_extract(seen, '$[0]') = json(?2))
               AND EXISTS (SELECT 1 FROM model_names WHERE model_id = models.id)
             ORDER BY id LIMIT 1",
        )?
        .query_row(params![new.file.path.as_bytes(), stamp], |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => Ok(get(connection, id)?.map(|record| record.model)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::registry::NewFile;
    use std::collections::BTreeMap;

    fn stamp(inode: i64) -> FileStamp {
        FileStamp { device: -1, inode, size_bytes: 3, mtime_ns: 4 }
    }

    fn found(path: &str, inode: i64) -> NewModel {
        NewModel {
            name: "m".to_owned(),
            file: NewFile {
                path: WirePath::from(path),
                file: ModelFile::default(),
                seen: vec![stamp(inode)],
                chat_template: None,
            },
            settings: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_file_is_registered_once_under_a_name_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let add = async |new| registry.add_found_model(new, Actor::Policy).await.unwrap();
        let (first, added) = add(found("/a.gguf", 1)).await;
        assert_eq!((first.name.as_str(), added), ("m", true));
        let (second, added) = add(found("/b.gguf", 2)).await;
        assert_eq!((second.name.as_str(), added), ("m-2", true));
        // The same file by another path, another file by the same path.
        let (there, added) = add(found("/link.gguf", 2)).await;
        assert_eq!((there.id, added), (second.id, false));
        let (there, added) = add(found("/a.gguf", 3)).await;
        assert_eq!((there.id, added), (first.id, false));
        // A number that was given anew is no sign.
        let mut reused = found("/c.gguf", 2);
        reused.file.seen[0].mtime_ns += 1;
        let (third, added) = add(reused).await;
        assert_eq!((third.name.as_str(), added), ("m-3", true));
        let stamps = registry.file_stamps(vec![first.id, 99]).await.unwrap();
        assert_eq!(stamps, HashMap::from([(first.id, vec![stamp(1)])]));
    }

    #[tokio::test]
    async fn a_header_is_known_until_its_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        registry.put_headers(vec![(stamp(1), "{}".to_owned())]).await.unwrap();
        let grown = FileStamp { size_bytes: 9, ..stamp(1) };
        let known = registry.headers(vec![stamp(1), grown, stamp(2)]).await.unwrap();
        assert_eq!(known, [Some("{}".to_owned()), None, None]);
    }

    #[test]
    fn a_variant_of_the_longest_name_is_a_name() {
        let long = "a".repeat(name::MAX_BYTES);
        assert!(variants(&long).all(|variant| name::is_valid(&variant)));
        assert_eq!(variants("m").next().as_deref(), Some("m-2"));
    }
}
