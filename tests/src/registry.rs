//! The registry's file, changed behind the daemon's back: what a clock that was set, a disk or an
//! older version may have left there. Only where no daemon runs.

use crate::Home;
use rusqlite::Connection;

impl Home {
    /// Executes one statement in the registry; how many rows it changed.
    ///
    /// # Panics
    /// When a daemon runs, or the statement fails.
    pub fn change_registry(&self, statement: &str) -> usize {
        self.registry()
            .execute(statement, [])
            .unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// How many runs of a model the registry knows.
    ///
    /// # Panics
    /// When a daemon runs.
    #[must_use]
    pub fn runs_in_registry(&self, model: &str) -> usize {
        let sql = "SELECT count(*) FROM runs WHERE model = ?1";
        self.registry().query_row(sql, [model], |row| row.get(0)).unwrap()
    }

    /// How many rows a table of the registry has.
    ///
    /// # Panics
    /// When a daemon runs.
    #[must_use]
    pub fn count_in_registry(&self, table: &str) -> usize {
        let sql = format!("SELECT count(*) FROM {table}");
        self.registry().query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    /// Makes what is wanted of every model's server a stop that was asked for so long ago.
    ///
    /// # Panics
    /// When a daemon runs, or nothing is wanted of any.
    pub fn stop_was_wanted(&self, ago_ms: i64) {
        let registry = self.registry();
        let has = |name: &str, of: &str| {
            let sql = format!("SELECT 1 FROM {of} WHERE name = ?1");
            registry.prepare(&sql).unwrap().exists([name]).unwrap()
        };
        // The table and its column have had two names.
        let table = if has("desired", "sqlite_master") { "desired" } else { "wishes" };
        let of_table = format!("pragma_table_info('{table}')");
        let column = if has("wish", &of_table) { "wish" } else { "state" };
        let statement =
            format!("UPDATE {table} SET {column} = 'stopped', at_ms = at_ms - {ago_ms}");
        assert_ne!(registry.execute(&statement, []).unwrap(), 0);
    }

    fn registry(&self) -> Connection {
        assert!(self.daemon_pids().is_empty(), "a daemon has the registry open");
        Connection::open(self.state_dir().join("registry.db")).unwrap()
    }
}
