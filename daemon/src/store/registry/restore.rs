//! Going back to a copy, while no daemon has the registry open.

use super::identity::{self, id_in};
use super::{REGISTRY, Result, StoreError};
use crate::os::disk::rename_without_replacing;
use crate::store::place::{RESCUE, beside, move_aside, sync_directory};
use crate::store::{CopyError, DatabaseError, copies, database, migrate};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What was put into the place of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The file it is a copy of.
    pub from: PathBuf,
    /// When that was made.
    pub made_at_ms: i64,
    /// How many models it holds.
    pub models: u64,
    /// Where what lay there is now; `None` where nothing did.
    pub aside: Option<PathBuf>,
}

/// Puts a copy into the place of the registry in a directory: this one, or the newest that is good. What
/// lay there is moved aside. Blocks.
///
/// # Errors
/// [`StoreError::Unusable`] where the file is no good registry, or there is none; what the disk refuses.
/// Nothing is changed then.
pub fn restore(dir: &Path, file: Option<&Path>) -> Result<Restored> {
    let mut candidates = match file {
        Some(file) => vec![file.to_owned()],
        None => copies::all(&REGISTRY, dir).into_iter().map(|(_, copy)| copy).collect(),
    }
    .into_iter();
    let mut last = None;
    let (from, id, models) = loop {
        let Some(candidate) = candidates.next() else {
            let none = || identity::unusable(dir, format!("{} has no copy", dir.display()));
            return Err(last.unwrap_or_else(none));
        };
        match look_at(&candidate) {
            Ok((id, models)) => break (candidate, id, models),
            Err(error) => {
                let problem = format!("{} is no good registry: {error}", candidate.display());
                last = Some(StoreError::Unusable { problem, ways: vec![] });
            }
        }
    };
    let path = REGISTRY.path(dir);
    let new = beside(&path, ".new");
    let made_at_ms = modified_ms(&from)?;
    let failed = |error: io::Error| StoreError::from(DatabaseError::Copy(CopyError::Io(error)));
    let _ = fs::remove_file(&new);
    let put = || {
        // It may have a log of its own, so its bytes alone need not be all of it.
        migrate::copy_to(&database::to_read(&from)?, &new)?;
        File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
        // Its log first: what is put there must not find it.
        let aside = move_aside(&path).map_err(failed)?;
        let rescue = beside(&path, RESCUE);
        if rescue.exists() {
            fs::rename(&rescue, beside(&aside, RESCUE)).map_err(failed)?;
        }
        rename_without_replacing(&new, &path).map_err(failed)?;
        sync_directory(&path).map_err(failed)?;
        identity::remember(dir, id).map_err(failed)?;
        Ok(Some(aside).filter(|aside| aside.exists()))
    };
    let aside = put().inspect_err(|_: &StoreError| {
        let _ = fs::remove_file(&new);
    })?;
    Ok(Restored { from, made_at_ms, models, aside })
}

/// Whether a file is a registry that this program can open; whose, and how many models it holds.
fn look_at(file: &Path) -> Result<(uuid::Uuid, u64)> {
    if !file.is_file() {
        let problem = "there is no such file".to_owned();
        return Err(StoreError::Unusable { problem, ways: vec![] });
    }
    copies::check(file).map_err(DatabaseError::from)?;
    let connection = database::to_read(file)?;
    let known = REGISTRY.migrations.len();
    let version = migrate::version(&connection)?;
    if version > known {
        let path = file.to_owned();
        return Err(crate::store::MigrateError::Newer { path, found: version, known }.into());
    }
    let no_id = || StoreError::Damaged("it has no id".to_owned());
    let id = id_in(&connection)?.ok_or_else(no_id)?;
    let count = "SELECT count(*) FROM model_names WHERE is_alias = 0";
    Ok((id, connection.query_row(count, [], |row| row.get(0))?))
}

fn modified_ms(file: &Path) -> Result<i64> {
    let modified = fs::metadata(file).and_then(|facts| facts.modified());
    let modified = modified.map_err(|error| DatabaseError::Copy(CopyError::Io(error)))?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
