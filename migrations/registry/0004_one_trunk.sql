-- What is wanted in the words of now, why a start was refused, and what demanded a run.

-- What is wanted of a model's server: written before anything is done about it. Without a row nobody
-- ever said; what only a request can start has none either.
CREATE TABLE desired (
    model_id          INTEGER PRIMARY KEY REFERENCES models (id) ON DELETE CASCADE,
    state             TEXT    NOT NULL CHECK (state IN ('running', 'stopped')),
    by                TEXT    NOT NULL,
    at_ms             INTEGER NOT NULL,
    -- For a new process: one that was started before `at_ms` does not fulfil it.
    restart_requested INTEGER NOT NULL DEFAULT 0 CHECK (restart_requested IN (0, 1)),
    overrides         TEXT    NOT NULL DEFAULT '{}',    -- JSON object: set for these runs alone
    refusal           TEXT                              -- JSON: why the last start came to no run
) STRICT;

INSERT INTO desired (model_id, state, by, at_ms, restart_requested, overrides)
SELECT model_id, wish, by, at_ms, renew, overrides FROM wishes WHERE wish IN ('running', 'stopped');

DROP TABLE wishes;

CREATE INDEX desired_running ON desired (model_id) WHERE state = 'running';

-- person, boot, policy or lease. NULL: it was begun by a version that did not write it.
ALTER TABLE runs ADD COLUMN demand TEXT CHECK (demand IN ('person', 'boot', 'policy', 'lease'));

-- The most that was resident at one moment, as the kernel counts it.
ALTER TABLE runs ADD COLUMN peak_resident_bytes INTEGER;

-- Builds that no run names are forgotten; without it each is looked for in all runs.
CREATE INDEX runs_by_runtime ON runs (runtime_id);

-- Events are found by their number, which rises with time: this cost writing and was never read.
DROP INDEX events_by_time;

-- Counts changes, like that of models.
ALTER TABLE named_runtimes ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

-- The oldest headers are forgotten first.
CREATE INDEX headers_by_age ON headers (read_at_ms);
