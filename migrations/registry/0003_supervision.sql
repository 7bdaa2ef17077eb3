-- What a new daemon must know to go on where the old one was cut off.

-- The wish is for a new process: one that was started before `at_ms` does not fulfil it.
ALTER TABLE wishes ADD COLUMN renew INTEGER NOT NULL DEFAULT 0 CHECK (renew IN (0, 1));

-- What was set for the runs of this wish alone: JSON object.
ALTER TABLE wishes ADD COLUMN overrides TEXT NOT NULL DEFAULT '{}';

-- Failures in a row up to the end of this run, and restarts by policy since the last request.
ALTER TABLE runs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;

-- When policy will start it again. NULL: it will not.
ALTER TABLE runs ADD COLUMN restart_at_ms INTEGER;

-- What the process executed when it was ready: the same at adoption, or it is not ours.
ALTER TABLE runs ADD COLUMN executable BLOB;
