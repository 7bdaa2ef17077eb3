-- What each model did over all its runs, and how far the counter of a run is in it: that goes on where it was
-- however the daemon ended.
CREATE TABLE total (
    model_id INTEGER NOT NULL,
    -- Which counter of its servers is added up.
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (model_id, name)
) STRICT, WITHOUT ROWID;
