-- How a build is a llama-server, and which files a run was started with.

-- The word before its arguments: `serve` of `llama serve`. NULL: the executable is nothing else.
ALTER TABLE runtimes ADD COLUMN subcommand TEXT;

-- JSON array: each file that was handed to the process, and which it was then. NULL: it was begun by a
-- version that did not write it.
ALTER TABLE runs ADD COLUMN files TEXT;
