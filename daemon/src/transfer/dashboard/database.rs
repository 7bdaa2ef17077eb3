//! The old dashboard's database, read without trusting it: never written, nothing created beside
//! it, real tables only, everything bounded. The one place outside the store that knows SQLite.

use crate::os::file;
use crate::transfer::source;
use llamactl_protocol::{Failure, Kind};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A row, by column.
pub(super) type Row = BTreeMap<String, Value>;

/// What of a database was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Dump {
    /// Rows by table.
    pub(super) tables: BTreeMap<String, Vec<Row>>,
    /// How many rows the tables have that are not read.
    pub(super) others: BTreeMap<String, u64>,
    /// Tables that could not be read, or not wholly, and why.
    pub(super) broken: BTreeMap<String, String>,
    /// What is to be said of the file.
    pub(super) notes: Vec<String>,
}

/// The tables that hold settings.
const READ: &[&str] = &[
    "models",
    "model_sampling_config",
    "model_memory_config",
    "model_gpu_config",
    "model_advanced_config",
    "model_lora_config",
    "model_multimodal_config",
    "model_server_config",
    "router_config",
    "server_config",
    "logging_config",
];

/// No dashboard had more models.
const MAX_ROWS: usize = 20_000;
const MAX_COLUMNS: usize = 200;
const MAX_TABLES: usize = 100;
/// The longest text of a value; a longer one is not read.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// A database with so long a log was never closed: both are copied to be read.
const MAX_COPY_BYTES: u64 = 256 << 20;
/// SQLite looks at the clock after this many of its steps.
const STEPS: i32 = 10_000;
const TIME: Duration = Duration::from_secs(10);

/// Reads a database. Blocks.
pub(super) fn read(path: &Path) -> Result<Dump, Failure> {
    let mut dump = Dump::default();
    let log = with_suffix(path, "-wal");
    let has_log = fs::metadata(&log).is_ok_and(|facts| facts.len() > 0);
    if has_log {
        match copied(path, &log) {
            // Opening the copy makes files beside the copy, which goes away.
            Ok(copy) => {
                let connection = open(&copy.file, false);
                let read = connection.and_then(|connection| read_all(&connection, &mut dump));
                return read.map(|()| dump);
            }
            Err(why) => dump.notes.push(format!(
                "what the old dashboard wrote last, in {}, could not be read ({why}): stop it, so \
                 that it puts all into the database itself, and import again",
                log.display()
            )),
        }
    }
    read_all(&open(path, true)?, &mut dump)?;
    Ok(dump)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A private copy, removed when it is dropped.
struct Copy {
    dir: PathBuf,
    file: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn copied(path: &Path, log: &Path) -> Result<Copy, String> {
    let facts =
        |path: &Path| fs::metadata(path).map(|it| (it.len(), it.mtime(), it.mtime_nsec())).ok();
    let size = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    if size(path).saturating_add(size(log)) > MAX_COPY_BYTES {
        return Err("they are too large to be copied".to_owned());
    }
    let dir = std::env::temp_dir().join(format!("llamactl-import-{}", uuid::Uuid::new_v4()));
    fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|error| error.to_string())?;
    let copy = Copy { file: dir.join("copy.db"), dir };
    // While the dashboard runs, its files change under the copy's hands.
    for _ in 0..3 {
        let before = (facts(path), facts(log));
        let copy_one = |from: &Path, to: &Path| -> io::Result<u64> {
            io::copy(&mut file::open(from)?.0.take(MAX_COPY_BYTES), &mut fs::File::create(to)?)
        };
        let copied = copy_one(path, &copy.file)
            .and_then(|_| copy_one(log, &with_suffix(&copy.file, "-wal")));
        copied.map_err(|error| error.to_string())?;
        if before == (facts(path), facts(log)) {
            return Ok(copy);
        }
    }
    Err("the dashboard is writing to it".to_owned())
}

fn open(path: &Path, immutable: bool) -> Result<Connection, Failure> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            it if it.is_ascii_alphanumeric() => uri.push(char::from(*it)),
            it => uri.push_str(&format!("%{it:02X}")),
        }
    }
    // Immutable: no lock, no journal, nothing beside the file.
    uri.push_str(if immutable { "?mode=ro&immutable=1" } else { "?mode=rw" });
    let access = if immutable {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let flags = access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    source::open(path)?;
    let prepared = || -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_with_flags(&uri, flags)?;
        let pragmas =
            ["trusted_schema = OFF", "cell_size_check = ON", "query_only = ON", "mmap_size = 0"];
        for pragma in pragmas {
            // Some answer with a row.
            connection.prepare(&format!("PRAGMA {pragma}"))?.query([])?.next()?;
        }
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 8 << 20)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let end = Instant::now() + TIME;
        connection.progress_handler(STEPS, Some(move || Instant::now() > end))?;
        Ok(connection)
    };
    prepared().map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &rusqlite::Error) -> Failure {
    Failure::new(
        Kind::Unreadable,
        format!("the database {} cannot be read: {}", path.display(), plain(error)),
    )
    .hint("stop the old dashboard and try again; sqlite3 FILE .recover mends a damaged one")
}

fn plain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => "it takes too long".to_owned(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => "it is damaged".to_owned(),
        Some(rusqlite::ErrorCode::NotADatabase) => "it is no database".to_owned(),
        _ => error.to_string(),
    }
}

fn read_all(connection: &Connection, dump: &mut Dump) -> Result<(), Failure> {
    let path = PathBuf::from(connection.path().unwrap_or_default());
    let names = tables(connection).map_err(|error| unreadable(&path, &error))?;
    for name in names {
        if READ.contains(&name.as_str()) {
            match rows(connection, &name) {
                Ok((rows, cut)) => {
                    if cut {
                        dump.broken.insert(name.clone(), format!("only {MAX_ROWS} rows are read"));
                    }
                    dump.tables.insert(name, rows);
                }
                Err(error) if name == "models" => return Err(unreadable(&path, &error)),
                Err(error) => {
                    dump.broken.insert(name, plain(&error));
                }
            }
        } else {
            match count(connection, &name) {
                Ok(count) => {
                    dump.others.insert(name, count);
                }
                Err(error) => {
                    dump.broken.insert(name, plain(&error));
                }
            }
        }
    }
    Ok(())
}

/// The real tables: no views, and none whose rows a program makes up.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM sqlite_schema
         WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         LIMIT ?1",
    )?;
    let names =
        statement.query_map([i64::try_from(MAX_TABLES).unwrap_or(100)], |row| row.get(0))?;
    names.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    connection.query_row(&format!("SELECT count(*) FROM {}", quoted(table)), [], |row| row.get(0))
}

/// The names of a table's columns in their order. The statement that reads them would panic where one is
/// no UTF-8.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?;
    let names = statement.query_map([table], |row| match row.get_ref(0)? {
        ValueRef::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        _ => Ok(String::new()),
    })?;
    names.collect()
}

fn rows(connection: &Connection, table: &str) -> rusqlite::Result<(Vec<Row>, bool)> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {}", quoted(table)))?;
    let columns = columns(connection, table)?;
    let columns = columns.into_iter().take(statement.column_count().min(MAX_COLUMNS));
    let columns: Vec<String> = columns.collect();
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        if rows.len() == MAX_ROWS {
            return Ok((rows, true));
        }
        let mut values = Row::new();
        for (index, column) in columns.iter().enumerate() {
            values.insert(column.clone(), value(row.get_ref(index)?));
        }
        rows.push(values);
    }
    Ok((rows, false))
}

/// A value, whatever its column was meant to hold; what is too long or no text is none.
fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Text(bytes) if bytes.len() <= MAX_TEXT_BYTES => {
            std::str::from_utf8(bytes).map_or(Value::Null, Value::from)
        }
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => Value::Null,
    }
}
