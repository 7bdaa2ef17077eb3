-- The registry: what must never be lost.
--
-- Times are Unix milliseconds, UTC. Ids are never reused (AUTOINCREMENT, UUIDs), because logs,
-- events and metrics refer to them after the thing itself is gone. Paths are BLOBs: they need not
-- be UTF-8. JSON columns hold what is read whole and never searched.

CREATE TABLE registry (
    key   TEXT PRIMARY KEY,     -- 'id': the registry's UUID, part of every server's marker
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    path          BLOB    NOT NULL,     -- the GGUF file; of a split model the first part
    file          TEXT    NOT NULL,     -- JSON: what the header said when it was read
    chat_template TEXT,                 -- apart from `file`: long, and rarely asked for
    revision      INTEGER NOT NULL,     -- counts changes; matches model_revisions
    added_at_ms   INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT;

-- A model's name and its aliases share one namespace.
CREATE TABLE model_names (
    name     TEXT    PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    is_alias INTEGER NOT NULL CHECK (is_alias IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX model_names_one_name ON model_names (model_id) WHERE is_alias = 0;
CREATE INDEX model_names_by_model ON model_names (model_id);

-- Only settings somebody set. Absent is llama-server's default.
CREATE TABLE model_settings (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    key      TEXT    NOT NULL,
    value    TEXT    NOT NULL,          -- JSON
    PRIMARY KEY (model_id, key)
) STRICT, WITHOUT ROWID;

-- What a model was like at each revision, whole, so that any two can be compared.
CREATE TABLE model_revisions (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    by       TEXT    NOT NULL,          -- the method and the peer that changed it
    name     TEXT    NOT NULL,
    aliases  TEXT    NOT NULL,          -- JSON array
    path     BLOB    NOT NULL,
    settings TEXT    NOT NULL,          -- JSON object; secrets by reference
    PRIMARY KEY (model_id, revision)
) STRICT, WITHOUT ROWID;

-- What is wanted of a model's server: written before anything is done about it.
CREATE TABLE wishes (
    model_id INTEGER PRIMARY KEY REFERENCES models (id) ON DELETE CASCADE,
    wish     TEXT    NOT NULL CHECK (wish IN ('running', 'stopped', 'on_demand')),
    by       TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT;

-- llama-server builds. The same path with another inode, size or mtime is another build.
CREATE TABLE runtimes (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    path             BLOB    NOT NULL,
    inode            INTEGER NOT NULL,
    size_bytes       INTEGER NOT NULL,
    mtime_ns         INTEGER NOT NULL,
    version          TEXT,
    reports_progress INTEGER NOT NULL CHECK (reports_progress IN (0, 1)),
    flags            TEXT    NOT NULL,  -- JSON array: the long flags its --help names
    found_at_ms      INTEGER NOT NULL,
    UNIQUE (path, inode, size_bytes, mtime_ns)
) STRICT;

-- One life of a llama-server process. `model_id` has no foreign key: history outlives the model.
CREATE TABLE runs (
    id                     TEXT    PRIMARY KEY,
    model_id               INTEGER NOT NULL,
    model                  TEXT    NOT NULL,    -- the name at the time
    revision               INTEGER NOT NULL,    -- the settings it was started with
    settings               TEXT    NOT NULL,    -- JSON object
    runtime_id             INTEGER NOT NULL REFERENCES runtimes (id),
    argv                   TEXT    NOT NULL,    -- JSON array of paths
    environment            TEXT    NOT NULL,    -- JSON object; secrets by reference
    endpoint               TEXT    NOT NULL,    -- JSON
    wanted_by              TEXT    NOT NULL,
    started_at_ms          INTEGER NOT NULL,
    pid                    INTEGER,
    start_ticks            INTEGER,             -- with pid and boot_id: which process, for certain
    boot_id                TEXT,
    ready_at_ms            INTEGER,
    load_ms                INTEGER,
    ended_at_ms            INTEGER,
    exit_code              INTEGER,
    signal                 INTEGER,
    cause                  TEXT,                -- JSON: code, message, hint, evidence
    steady_anonymous_bytes INTEGER,
    steady_file_bytes      INTEGER,
    peak_anonymous_bytes   INTEGER,
    peak_file_bytes        INTEGER,
    gpu_memory             TEXT                 -- JSON object: GPU UUID to bytes
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_model ON runs (model_id, started_at_ms);
CREATE INDEX runs_open ON runs (id) WHERE ended_at_ms IS NULL;

-- What happened and why, in order.
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms    INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    model_id INTEGER,
    model    TEXT,                              -- the name at the time
    run_id   TEXT,
    by       TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    details  TEXT                               -- JSON
) STRICT;

CREATE INDEX events_by_model ON events (model_id, seq);
CREATE INDEX events_by_time ON events (at_ms);
