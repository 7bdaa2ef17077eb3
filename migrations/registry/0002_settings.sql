-- Settings for all models, runtimes by name, what a header said, where models lie.

-- Settings that hold for every model which does not say otherwise.
CREATE TABLE defaults (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL                 -- JSON
) STRICT, WITHOUT ROWID;

-- The defaults at each revision, whole.
CREATE TABLE default_revisions (
    revision INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    by       TEXT    NOT NULL,
    what     TEXT    NOT NULL,
    settings TEXT    NOT NULL           -- JSON object; secrets by reference
) STRICT;

-- One line that says what a revision changed.
ALTER TABLE model_revisions ADD COLUMN what TEXT NOT NULL DEFAULT '';

-- JSON: device, inode, size and time of each part when the header was read; NULL: it was not there.
ALTER TABLE models ADD COLUMN seen TEXT;

-- What was set for this run alone.
ALTER TABLE runs ADD COLUMN overrides TEXT NOT NULL DEFAULT '{}';

-- What a build's help says of each option, and its devices. NULL: it is to be asked again.
ALTER TABLE runtimes ADD COLUMN options TEXT;
ALTER TABLE runtimes ADD COLUMN devices TEXT;

-- Builds that somebody named. Which build a path is now, the file tells.
CREATE TABLE named_runtimes (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE,
    path        BLOB    NOT NULL,
    environment TEXT    NOT NULL DEFAULT '{}',  -- JSON object; secrets by reference
    is_default  INTEGER NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1)),
    added_at_ms INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX named_runtimes_one_default ON named_runtimes (is_default) WHERE is_default = 1;

-- What the header of a file said: the same file is not read twice.
CREATE TABLE headers (
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    facts      TEXT    NOT NULL,        -- JSON
    read_at_ms INTEGER NOT NULL,
    PRIMARY KEY (device, inode)
) STRICT, WITHOUT ROWID;

-- Directories that are looked through for new models.
CREATE TABLE library_dirs (
    path        BLOB    PRIMARY KEY,
    added_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
