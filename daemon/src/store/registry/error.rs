//! Why the registry could not do something, and how that is said on the wire.

use crate::store::{CopyError, DatabaseError, Intruder, MayPass, MigrateError, Obstacle};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::json;
use std::path::PathBuf;

/// Why the registry could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused a statement, or the disk refused SQLite.
    #[error("the registry database could not be used")]
    Sqlite(#[from] rusqlite::Error),
    /// A JSON column holds something else.
    #[error("the registry database holds something unreadable")]
    Json(#[from] serde_json::Error),
    /// The database is from elsewhen.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The name belongs to another model.
    #[error("the name {name} is taken, by the model {by}")]
    NameTaken {
        /// The name that was asked for.
        name: String,
        /// The model that has it as its name or alias.
        by: String,
    },
    /// There is no such model (any more).
    #[error("there is no model {0}")]
    ModelNotFound(String),
    /// There is no such model, and one whose name is nearly the same.
    #[error("there is no model {given}")]
    ModelMistyped {
        /// The name that was asked for.
        given: String,
        /// What was probably meant.
        meant: String,
    },
    /// A model, the defaults or a runtime has changed since the caller looked.
    #[error("the last revision of {of} is {found}, not {expected}")]
    RevisionConflict {
        /// Of what: `the model qwen3`.
        of: String,
        /// What the caller saw.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// One thing would hold more than it may.
    #[error("{0}")]
    TooMuch(String),
    /// Somebody else changed what a change was made from.
    #[error("somebody else changed {0} meanwhile: nothing was done")]
    Overtaken(String),
    /// The directory of secrets cannot be used.
    #[error("the directory of secrets cannot be used: {0}")]
    Secrets(std::io::Error),
    /// No runtime has this name.
    #[error("there is no runtime {0}")]
    RuntimeNotFound(String),
    /// The runtime cannot be taken out while it is used.
    #[error("the runtime {name} is used: {by}")]
    RuntimeInUse {
        /// The name of the runtime.
        name: String,
        /// Who names it.
        by: String,
        /// The models whose settings do.
        models: Vec<String>,
    },
    /// What is in the database contradicts itself.
    #[error("the registry database is damaged: {0}")]
    Damaged(String),
    /// Its file was deleted while the daemon ran, and could not be put back.
    #[error("the registry {path} was deleted and cannot be put back: {why}", path = path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// What stood in the way.
        why: String,
    },
    /// Something else was put into its place while the daemon ran.
    #[error("{by} {path}", path = path.display())]
    Replaced {
        /// Where it was.
        path: PathBuf,
        /// What.
        by: Intruder,
    },
    /// Nothing can be written to it.
    #[error("the registry {path} cannot be written: {why}", path = path.display())]
    Unwritable {
        /// Where it is.
        path: PathBuf,
        /// What stands in the way.
        why: String,
    },
    /// It was to be put back and is where it belongs.
    #[error("the registry is in its place: there is nothing to be put back")]
    InPlace,
    /// There is no registry, or none that can be used, where there was one.
    #[error("{problem}")]
    Unusable {
        /// What is wrong, in one sentence that names the file.
        problem: String,
        /// How one gets back to a good one.
        ways: Vec<Hint>,
    },
    /// A copy of it was not made, or is no good.
    #[error("the copy was not made: {0}")]
    Copy(CopyError),
    /// A query panicked; nothing of it was kept.
    #[error("the registry query panicked")]
    Panicked,
    /// The machine gave no thread for the registry.
    #[error("no thread could be made for the registry: {0}")]
    NoThread(std::io::Error),
    /// The database's thread has ended: the daemon is stopping.
    #[error("the registry is closed")]
    Closed,
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::Sqlite(error) => StoreError::Sqlite(error),
            DatabaseError::Migrate(error) => StoreError::Migrate(error),
            DatabaseError::Panicked => StoreError::Panicked,
            DatabaseError::Gone { path, why } => StoreError::Gone { path, why },
            DatabaseError::Replaced { path, by } => StoreError::Replaced { path, by },
            DatabaseError::InPlace => StoreError::InPlace,
            DatabaseError::Copy(error) => StoreError::Copy(error),
            DatabaseError::NoThread(error) => StoreError::NoThread(error),
            DatabaseError::Closed => StoreError::Closed,
        }
    }
}

impl MayPass for StoreError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            StoreError::Sqlite(error) => error.obstacle(),
            StoreError::Gone { .. } | StoreError::Replaced { .. } => Some(Obstacle::Other),
            _ => None,
        }
    }
}

/// What a query gives.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let message = error.to_string();
        match error {
            StoreError::NameTaken { .. } => Failure::new(Kind::NameTaken, message),
            StoreError::ModelNotFound(name) => Failure::new(Kind::ModelNotFound, message)
                .hint(Hint::run("see which there are", ["llamactl", "model", "list"]))
                .details(json!({ "model": name })),
            StoreError::ModelMistyped { given, meant } => {
                let same = given.to_lowercase() == meant.to_lowercase();
                let why = if same { " (names are case-sensitive)" } else { "" };
                Failure::new(Kind::ModelNotFound, message + why)
                    .hint(format!("did you mean {meant}?"))
                    .hint(Hint::run("see which there are", ["llamactl", "model", "list"]))
                    .details(json!({ "model": given, "meant": meant }))
            }
            StoreError::RuntimeNotFound(_) => Failure::new(Kind::RuntimeNotFound, message)
                .hint(Hint::run("see which there are", ["llamactl", "runtime", "list"])),
            StoreError::RuntimeInUse { models, .. } => Failure::new(Kind::RuntimeInUse, message)
                .hint(match models.first() {
                    Some(model) => Hint::run(
                        "give its models another first",
                        ["llamactl", "model", "set", model, "runtime=OTHER"],
                    ),
                    None => Hint::run(
                        "make another the default first",
                        ["llamactl", "runtime", "use", "OTHER"],
                    ),
                })
                .details(json!({ "models": models })),
            StoreError::RevisionConflict { .. } => Failure::new(Kind::RevisionConflict, message)
                .hint("somebody else changed it first: look at it again and retry"),
            StoreError::TooMuch(_) => {
                Failure::new(Kind::InvalidValue, message).hint("take some back first")
            }
            StoreError::Overtaken(_) => {
                Failure::new(Kind::RevisionConflict, message).hint("look again and retry")
            }
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::DiskFull =>
            {
                Failure::new(Kind::DiskFull, "the disk is full: nothing was changed")
                    .hint("free some space where the state directory lies and try again")
            }
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _))
                if matches!(
                    error.code,
                    rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked
                ) =>
            {
                let message = "another program holds the registry locked: nothing was changed";
                Failure::new(Kind::RegistryBusy, message).hint(
                    "close what has registry.db open, a sqlite3 shell or a backup, and try again",
                )
            }
            StoreError::Gone { .. } => {
                Failure::new(Kind::RegistryGone, format!("{message}: nothing was changed"))
                    .hint("make room on its disk: it is put back then")
                    .hint(save_it())
            }
            StoreError::Replaced { by, .. } => {
                let message = format!("{message}: nothing was changed");
                let failure = Failure::new(Kind::RegistryReplaced, message);
                ways_out(by).into_iter().fold(failure, Failure::hint)
            }
            StoreError::Unwritable { .. } => {
                let message = format!("{message}: nothing was changed");
                Failure::new(Kind::RegistryUnwritable, message)
                    .hint("it is written to again as soon as that can be done")
                    .hint(save_it())
            }
            StoreError::InPlace => Failure::new(Kind::InvalidValue, message),
            StoreError::Unusable { ways, .. } => {
                let failure = Failure::new(Kind::StoreFailed, message);
                ways.into_iter().fold(failure, Failure::hint)
            }
            StoreError::Copy(CopyError::IsThere) => Failure::new(Kind::InvalidValue, message)
                .hint("give another name, or remove that file first"),
            StoreError::Copy(_) => Failure::new(Kind::IoFailed, message),
            StoreError::Sqlite(source) => {
                Failure::new(Kind::StoreFailed, format!("{message}: {source}"))
            }
            StoreError::Json(source) => {
                Failure::new(Kind::StoreFailed, format!("{message}: {source}"))
            }
            StoreError::Panicked => Failure::new(Kind::Internal, message).hint(Hint::run(
                "the daemon's own log has its words",
                ["llamactl", "daemon", "logs"],
            )),
            StoreError::Migrate(_)
            | StoreError::Secrets(_)
            | StoreError::Damaged(_)
            | StoreError::NoThread(_)
            | StoreError::Closed => Failure::new(Kind::StoreFailed, message),
        }
    }
}

/// The ways out where something else lies in the place of the registry.
#[must_use]
pub fn ways_out(by: Intruder) -> Vec<Hint> {
    let take_theirs = "take the file that lies there now";
    let take_theirs = Hint::run(take_theirs, ["llamactl", "daemon", "restart"]);
    match by {
        Intruder::File => vec![
            Hint::run(
                "put back the registry that the daemon has open",
                ["llamactl", "daemon", "restore", "--running"],
            ),
            take_theirs,
            save_it(),
        ],
        Intruder::Contents => vec![
            Hint::run(
                "go back to the newest copy: first",
                ["llamactl", "daemon", "stop", "--keep-servers"],
            ),
            Hint::run("then", ["llamactl", "daemon", "restore"]),
            take_theirs,
        ],
    }
}

/// How to keep what is open but has no place.
#[must_use]
pub fn save_it() -> Hint {
    Hint::run("keep a copy of what the daemon has", ["llamactl", "daemon", "backup", "FILE"])
}
