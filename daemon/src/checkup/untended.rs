//! llama-servers on this machine that no daemon started.
//!
//! ```text
//!   asked ─▶ those that were seen last, as far as they still run
//!     ╰── more than ten seconds after the last look ─▶ a look at all processes, beside the answer
//! ```

use super::look::untended;
use crate::os::process::ProcessId;
use llamactl_protocol::WirePath;
use llamactl_protocol::server::OtherServer;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// How long a look is waited for by who does.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was seen of them.
#[derive(Debug)]
pub struct OtherServers {
    /// The variable that all have which a daemon started.
    mark: &'static str,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    looked_at: Option<Instant>,
    servers: Vec<(ProcessId, PathBuf)>,
}

impl OtherServers {
    /// Nothing was seen yet. Those are of a daemon that have this variable.
    #[must_use]
    pub fn new(mark: &'static str) -> Self {
        OtherServers { mark, seen: Arc::default() }
    }

    /// Those that were seen last and still run. Waits for nothing.
    #[must_use]
    pub fn seen(&self) -> Vec<OtherServer> {
        let _ = self.look();
        let still = |(id, program): &(ProcessId, PathBuf)| {
            let pid = u32::try_from(id.pid).ok()?;
            id.is_alive().then(|| OtherServer { pid, program: WirePath(program.clone()) })
        };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.servers.iter().filter_map(still).collect()
    }

    /// Those that run now.
    pub async fn now(&self) -> Vec<OtherServer> {
        if let Some(look) = self.look() {
            let _ = timeout(PATIENCE, look).await;
        }
        self.seen()
    }

    /// Looks, if the last look was long ago.
    fn look(&self) -> Option<JoinHandle<()>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return None;
        }
        seen.looked_at = Some(Instant::now());
        drop(seen);
        let (mark, seen) = (self.mark, Arc::clone(&self.seen));
        Some(spawn_blocking(move || {
            let found = untended(mark);
            seen.lock().unwrap_or_else(PoisonError::into_inner).servers = found;
        }))
    }
}
