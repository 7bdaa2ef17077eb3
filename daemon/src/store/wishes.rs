//! What is wanted of each server.

use super::{Registry, Result, now_ms};
use llamactl_protocol::server::{Wanted, Wish};
use rusqlite::{OptionalExtension as _, params};

impl Registry {
    /// Stores what is wanted of a model's server, before anything is done about it.
    ///
    /// # Errors
    /// What SQLite reports; a foreign key violation when the model is gone.
    pub async fn put_wish(&self, model_id: i64, wish: Wish, by: String) -> Result<Wanted> {
        self.write(move |tx| {
            let wanted = Wanted { wish, by, at_ms: now_ms() };
            tx.execute(
                "INSERT INTO wishes (model_id, wish, by, at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (model_id) DO UPDATE
                 SET wish = excluded.wish, by = excluded.by, at_ms = excluded.at_ms",
                params![model_id, word(wish), wanted.by, wanted.at_ms],
            )?;
            Ok(wanted)
        })
        .await
    }

    /// What is wanted of a model's server; `None` when nobody ever said.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn wish(&self, model_id: i64) -> Result<Option<Wanted>> {
        self.read(move |connection| {
            Ok(connection
                .prepare_cached("SELECT wish, by, at_ms FROM wishes WHERE model_id = ?1")?
                .query_row([model_id], |row| {
                    let wish: String = row.get(0)?;
                    Ok(Wanted {
                        wish: match wish.as_str() {
                            "running" => Wish::Running,
                            "on_demand" => Wish::OnDemand,
                            _ => Wish::Stopped,
                        },
                        by: row.get(1)?,
                        at_ms: row.get(2)?,
                    })
                })
                .optional()?)
        })
        .await
    }

    /// The models whose servers are wanted to run.
    ///
    /// # Errors
    /// What SQLite reports.
    pub async fn wanted_running(&self) -> Result<Vec<i64>> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT model_id FROM wishes WHERE wish = 'running' ORDER BY 1")?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<std::result::Result<_, _>>()?)
        })
        .await
    }
}

fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Running => "running",
        Wish::Stopped => "stopped",
        Wish::OnDemand => "on_demand",
    }
}
