//! Servers that run a llama-server which was replaced on disk.

use crate::api::app::App;
use crate::runtime;
use llamactl_protocol::server::Server;
use llamactl_protocol::warning::{Warning, WarningCode, sort};

/// Adds a warning to the servers that run a llama-server which is not on disk any more.
pub(super) async fn warn(app: &App, servers: &mut [Server]) {
    let run_of = |server: &Server| {
        let run = server.run.as_ref().filter(|run| run.pid.is_some() && run.ended_at_ms.is_none());
        run.map(|run| run.id.clone())
    };
    let runs: Vec<String> = servers.iter().filter_map(run_of).collect();
    if runs.is_empty() {
        return;
    }
    // A warning is not worth failing for.
    let Ok(mut files) = app.registry.files_of_runs(runs).await else { return };
    let replaced = tokio::task::spawn_blocking(move || {
        files.retain(|_, file| runtime::is_replaced(file));
        files
    });
    let Ok(replaced) = replaced.await else { return };
    for server in servers {
        if let Some(file) = run_of(server).and_then(|run| replaced.get(&run)) {
            let version = file.version.as_deref().unwrap_or("of no known version");
            let message = format!(
                "it runs llama-server {version}, and {} has been replaced or removed since",
                file.path
            );
            let warning = Warning::new(WarningCode::OldBuild, message);
            server.warnings.push(warning.command(["llamactl", "restart", &server.model]));
            sort(&mut server.warnings);
        }
    }
}
