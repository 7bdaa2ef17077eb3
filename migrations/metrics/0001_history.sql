-- What was measured, in three tiers. `at` is (row of boot) << 40 | milliseconds since that boot: no setting of
-- a clock puts rows out of order or deletes any. Blocks are written by metrics/history/codec.rs, rows of
-- minutes and hours by rollup.rs.
CREATE TABLE boot (
    id INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL,
    -- The wall clock is this much ahead of the milliseconds since boot.
    wall_offset_ms INTEGER NOT NULL
) STRICT;
-- Never deleted while a tier may name it.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    -- The model's id or the GPU's UUID; empty for the machine and the daemon.
    instance TEXT NOT NULL,
    is_counter INTEGER NOT NULL,
    UNIQUE (name, instance)
) STRICT;
CREATE TABLE raw (at INTEGER PRIMARY KEY, block BLOB NOT NULL) STRICT;
CREATE TABLE minute (at INTEGER PRIMARY KEY, block BLOB NOT NULL) STRICT;
CREATE TABLE hour (at INTEGER PRIMARY KEY, block BLOB NOT NULL) STRICT;
