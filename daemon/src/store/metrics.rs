//! The database of what was measured: three tables of blocks by key, written by one thread, read by another.
//!
//! ```text
//!   history's thread ─▶ MetricsStore::write     one transaction; FULL where it closes a minute, else NORMAL
//!   calls of clients ─▶ MetricsReader::read     one moment
//! ```
//!
//! What the blocks mean is not known here. Losing this database loses history and nothing else, so a damaged
//! one is set aside and another begun.

use super::database::{self, Schema};
use super::place::{self, Files, Place};
use super::reader::{self, Reader};
use super::{DatabaseError, MayPass as _, migrate};
use rusqlite::{Connection, TransactionBehavior, ffi, params};
use std::io;
use std::path::{Path, PathBuf};

const METRICS: Schema = Schema {
    name: "metrics",
    migrations: &[
        include_str!("../../../migrations/metrics/0001_history.sql"),
        include_str!("../../../migrations/metrics/0002_totals.sql"),
    ],
};

/// A table of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Each sample, some seconds in a block.
    Raw,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
}

impl Blocks {
    fn table(self) -> &'static str {
        match self {
            Blocks::Raw => "raw",
            Blocks::Minute => "minute",
            Blocks::Hour => "hour",
        }
    }
}

/// What is in the way of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its file is damaged, or no database at all.
    Damaged,
    /// It may pass: a full disk, a lock of another program.
    Passing,
    /// Neither.
    Lasting,
}

impl DatabaseError {
    /// What kind of fault it is, of a database that can be done without.
    #[must_use]
    pub fn fault(&self) -> Fault {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let code = match self {
            DatabaseError::Sqlite(error)
            | DatabaseError::Migrate(super::MigrateError::Sqlite { source: error, .. }) => {
                error.sqlite_error_code()
            }
            _ => None,
        };
        match code {
            Some(DatabaseCorrupt | NotADatabase) => Fault::Damaged,
            _ if self.may_pass() => Fault::Passing,
            _ => Fault::Lasting,
        }
    }
}

/// A row of `boot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootRow {
    /// The upper part of keys.
    pub id: u32,
    /// The kernel's word for the boot.
    pub boot_id: String,
    /// What the wall clock was ahead of the time since boot.
    pub wall_offset_ms: i64,
}

/// A row of `series`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRow {
    /// What blocks call it.
    pub id: u32,
    /// Its name in the catalogue.
    pub name: String,
    /// What it is measured of.
    pub instance: String,
    /// It only grows.
    pub is_counter: bool,
}

/// A row of `total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalRow {
    /// The model.
    pub model_id: i64,
    /// Which counter of its servers is added up.
    pub name: String,
    /// What they counted together.
    pub value: u64,
    /// The run that is counted in it now.
    pub run_id: String,
    /// How far that run's counter is in it.
    pub counted: u64,
}

/// The database, open to be written.
#[derive(Debug)]
pub struct MetricsStore {
    connection: Connection,
    files: Files,
    reader: Reader,
    /// The last program that wrote it did not close it.
    is_suspect: bool,
}

/// Where the database lies in a state directory.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    METRICS.path(dir)
}

/// Moves a database out of its place; where it is now.
///
/// # Errors
/// What the file system says.
pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    place::move_aside(&path(dir))
}

impl MetricsStore {
    /// Opens the database of a state directory, making or upgrading it as needed.
    ///
    /// # Errors
    /// Whatever stands in the way; one of a newer version is left as it is.
    pub fn open(dir: &Path) -> Result<MetricsStore, DatabaseError> {
        let path = path(dir);
        let log = place::beside(&path, "-wal");
        let is_suspect = log.metadata().is_ok_and(|facts| facts.len() > 0);
        let mut connection = database::to_write(&path)?;
        // What a power cut may take is a minute: see `write`.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
        migrate::run(&mut connection, &path, METRICS.migrations)?;
        let gone =
            |error: io::Error| DatabaseError::Gone { path: path.clone(), why: error.to_string() };
        let files = Files::of(&path, &connection).map_err(gone)?;
        let to_read = path.clone();
        let reader = Reader::start("metrics-read".into(), move || database::to_read(&to_read))?;
        Ok(MetricsStore { connection, files, reader, is_suspect })
    }

    /// What reads it.
    #[must_use]
    pub fn reader(&self) -> MetricsReader {
        MetricsReader(self.reader.clone())
    }

    /// Whether it should be looked through, because the last program that wrote it did not close it.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Looks it through.
    ///
    /// # Errors
    /// That it is damaged, or cannot be read.
    pub fn check(&self) -> Result<(), DatabaseError> {
        let word: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if word == "ok" {
            return Ok(());
        }
        let damaged = ffi::Error::new(ffi::SQLITE_CORRUPT);
        Err(rusqlite::Error::SqliteFailure(damaged, Some(word)).into())
    }

    /// Whether its files are where they were opened.
    #[must_use]
    pub fn is_in_place(&mut self) -> bool {
        // SQLite moves the log by itself here: what the file holds is not looked at.
        self.files.look(None) == Place::Whole
    }

    /// Gives back the room of what was deleted, if that is most of the file.
    ///
    /// # Errors
    /// What SQLite says; nothing is lost then.
    pub fn shrink(&self) -> Result<(), DatabaseError> {
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get(0));
        let (pages, free): (u64, u64) = (number("page_count")?, number("freelist_count")?);
        if pages > 2048 && free > pages / 2 {
            self.connection.execute_batch("VACUUM")?;
        }
        Ok(())
    }

    /// Writes in one transaction. A `lasting` one outlives a power cut, and with it all before it.
    ///
    /// # Errors
    /// What `write` gives, or why it could not be committed; nothing was written then.
    pub fn write<T>(
        &mut self,
        lasting: bool,
        write: impl FnOnce(&Rows<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let synchronous = if lasting { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = write(&Rows(&transaction))?;
        transaction.commit()?;
        Ok(written)
    }
}

impl Drop for MetricsStore {
    fn drop(&mut self) {
        // Whoever still reads opens what lies there then.
        drop(reader::close(&[self.reader.slot()]));
    }
}

/// A handle to read the database with.
#[derive(Clone, Debug)]
pub struct MetricsReader(Reader);

impl MetricsReader {
    /// Reads on a thread for that; all that is read is of one moment.
    ///
    /// # Errors
    /// What `read` gives; that the database cannot be read.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Rows<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.0.run(|connection| read(&Rows(connection))).await
    }
}

/// The tables, in a transaction.
#[derive(Debug)]
pub struct Rows<'c>(&'c Connection);

impl Rows<'_> {
    /// All boots, the first first.
    ///
    /// # Errors
    /// What SQLite says, here and below.
    pub fn boots(&self) -> Result<Vec<BootRow>, DatabaseError> {
        let sql = "SELECT id, boot_id, wall_offset_ms FROM boot ORDER BY id";
        let mut statement = self.0.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(BootRow { id: row.get(0)?, boot_id: row.get(1)?, wall_offset_ms: row.get(2)? })
        };
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    /// Writes a boot anew.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_boot(&self, boot: &BootRow) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO boot (id, boot_id, wall_offset_ms) VALUES (?1, ?2, ?3)";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![boot.id, boot.boot_id, boot.wall_offset_ms])?;
        Ok(())
    }

    /// All series.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn series(&self) -> Result<Vec<SeriesRow>, DatabaseError> {
        let sql = "SELECT id, name, instance, is_counter FROM series ORDER BY id";
        let mut statement = self.0.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| {
            let (id, name, instance) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(SeriesRow { id, name, instance, is_counter: row.get(3)? })
        };
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    /// Writes a series that is not there yet.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_series(&self, series: &SeriesRow) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO series (id, name, instance, is_counter)
                   VALUES (?1, ?2, ?3, ?4)";
        let SeriesRow { id, name, instance, is_counter } = series;
        self.0.prepare_cached(sql)?.execute(params![id, name, instance, is_counter])?;
        Ok(())
    }

    /// All totals.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn totals(&self) -> Result<Vec<TotalRow>, DatabaseError> {
        let sql = "SELECT model_id, name, value, run_id, counted FROM total";
        let mut statement = self.0.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| {
            let (model_id, name, value) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(TotalRow { model_id, name, value, run_id: row.get(3)?, counted: row.get(4)? })
        };
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    /// Writes a total anew.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_total(&self, total: &TotalRow) -> Result<(), DatabaseError> {
        let sql = "INSERT OR REPLACE INTO total (model_id, name, value, run_id, counted)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let TotalRow { model_id, name, value, run_id, counted } = total;
        self.0.prepare_cached(sql)?.execute(params![model_id, name, value, run_id, counted])?;
        Ok(())
    }

    /// Writes a block.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put(&self, table: Blocks, at: i64, block: &[u8]) -> Result<(), DatabaseError> {
        let sql = format!("INSERT OR REPLACE INTO {} (at, block) VALUES (?1, ?2)", table.table());
        self.0.prepare_cached(&sql)?.execute(params![at, block])?;
        Ok(())
    }

    /// Tells each block with `from <= at < until`, by key.
    ///
    /// # Errors
    /// What SQLite says, or `tell`.
    pub fn each(
        &self,
        table: Blocks,
        from: i64,
        until: i64,
        mut tell: impl FnMut(i64, &[u8]) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        let table = table.table();
        let sql = format!("SELECT at, block FROM {table} WHERE at >= ?1 AND at < ?2 ORDER BY at");
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut rows = statement.query(params![from, until])?;
        while let Some(row) = rows.next()? {
            tell(row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default())?;
        }
        Ok(())
    }

    /// The first and the last key of a table; `None` of an empty one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn ends(&self, table: Blocks) -> Result<Option<(i64, i64)>, DatabaseError> {
        // Two questions: SQLite answers each by one look, and both together by reading all.
        let table = table.table();
        let sql = format!("SELECT (SELECT min(at) FROM {table}), (SELECT max(at) FROM {table})");
        let mut statement = self.0.prepare_cached(&sql)?;
        let (first, last): (Option<i64>, Option<i64>) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(first.zip(last))
    }

    /// The first key above this one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn first_behind(&self, table: Blocks, at: i64) -> Result<Option<i64>, DatabaseError> {
        let sql = format!("SELECT min(at) FROM {} WHERE at > ?1", table.table());
        Ok(self.0.prepare_cached(&sql)?.query_row([at], |row| row.get(0))?)
    }

    /// How many blocks a table has. It reads them all.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count(&self, table: Blocks) -> Result<u64, DatabaseError> {
        let sql = format!("SELECT count(*) FROM {}", table.table());
        Ok(self.0.query_row(&sql, [], |row| row.get(0))?)
    }

    /// Deletes so many of the oldest blocks; how many there were.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn delete_oldest(&self, table: Blocks, count: u64) -> Result<u64, DatabaseError> {
        let table = table.table();
        let sql = format!(
            "DELETE FROM {table} WHERE at IN (SELECT at FROM {table} ORDER BY at LIMIT ?1)"
        );
        Ok(self.0.prepare_cached(&sql)?.execute([count])? as u64)
    }

    /// How many bytes are in use, those of the write-ahead log apart.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn used_bytes(&self) -> Result<u64, DatabaseError> {
        let number = |name| self.0.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
        Ok(pages.saturating_mul(number("page_size")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_before_there_were_totals_is_taken_over_with_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let mut before = database::to_write(&path).unwrap();
        migrate::run(&mut before, &path, &METRICS.migrations[..1]).unwrap();
        before.execute_batch("INSERT INTO raw (at, block) VALUES (7, x'0102')").unwrap();
        drop(before);
        let mut store = MetricsStore::open(dir.path()).unwrap();
        let total = TotalRow {
            model_id: 1,
            name: "tokens_generated".to_owned(),
            value: 5,
            run_id: "r".to_owned(),
            counted: 5,
        };
        let (rows, totals) = store
            .write(false, |rows| {
                let before = rows.totals()?;
                assert_eq!(before, []);
                rows.put_total(&total)?;
                rows.put_total(&TotalRow { value: 6, ..total.clone() })?;
                Ok((rows.count(Blocks::Raw)?, rows.totals()?))
            })
            .unwrap();
        assert_eq!((rows, totals), (1, vec![TotalRow { value: 6, ..total }]));
    }
}
