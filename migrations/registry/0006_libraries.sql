-- What a build says depends on the libraries that it finds.

-- The directories in which its libraries were looked for when it was asked, beside its own, as
-- LD_LIBRARY_PATH has them. One file that two runtimes name with other directories is asked for each.
ALTER TABLE runtimes ADD COLUMN libraries TEXT NOT NULL DEFAULT '';
