//! Servers as of the moment somebody asks: what their tasks may not have heard of their models yet,
//! and whether their llama-server was replaced.

use crate::api::app::App;
use crate::models::Served;
use crate::runtime;
use crate::store::registry::StoreError;
use llamactl_protocol::options::POLICY;
use llamactl_protocol::server::Server;
use llamactl_protocol::warning::{Warning, WarningCode, sort};
use std::collections::BTreeMap;

/// Completes servers as their tasks show them. What cannot be found out leaves them as they are.
pub(super) async fn complete(app: &App, servers: &mut [Server]) {
    tell_of_models(app, servers).await;
    warn_of_old_builds(app, servers).await;
}

/// The run whose process a server is.
fn run_of(server: &Server) -> Option<String> {
    let run = server.run.as_ref().filter(|run| run.pid.is_some() && run.ended_at_ms.is_none());
    run.map(|run| run.id.clone())
}

/// The models of these servers, by id.
pub(super) async fn served(
    app: &App,
    servers: &[Server],
) -> Result<BTreeMap<i64, Served>, StoreError> {
    let servers = servers.iter().map(|server| (server.model_id, run_of(server)));
    app.models.served(servers.collect()).await
}

/// A task hears of a change a moment after it was answered; who asked for it must see it at once.
/// Settings that hold from the moment they are set are not waited for.
async fn tell_of_models(app: &App, servers: &mut [Server]) {
    let Ok(mut served) = served(app, servers).await else { return };
    for server in servers {
        let Some(Served { name, changed }) = served.remove(&server.model_id) else { continue };
        server.model = name;
        server.pending = changed;
        server.pending.retain(|key| !POLICY.contains(&key.as_str()));
    }
}

/// Adds a warning to the servers that run a llama-server which is not on disk any more.
async fn warn_of_old_builds(app: &App, servers: &mut [Server]) {
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
