//! Tests of the module as a whole: facts of valid files, files that lie, and paths that are no files.

mod facts;
mod hostile;
mod paths;
