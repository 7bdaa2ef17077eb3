//! Servers as of the moment somebody asks: what their tasks may not have heard of their models yet, and
//! whether what they were started with is still on disk.

use crate::api::app::App;
use crate::library::{Became, FileChange, are_surely_unchanged, changed_since};
use crate::models::{MODEL_PATH, Served};
use crate::runtime;
use crate::store::registry::{FilesOfRun, RuntimeFile, StoreError};
use llamactl_protocol::options::POLICY;
use llamactl_protocol::server::Server;
use llamactl_protocol::warning::{Warning, WarningCode, sort};
use std::collections::BTreeMap;

/// The most files that are looked at without a thread for it.
const LOOKS_AT_ONCE: usize = 64;

/// Completes servers as their tasks show them. What cannot be found out leaves them as they are.
pub(super) async fn complete(app: &App, servers: &mut [Server]) {
    tell_of_models(app, servers).await;
    warn_of_old_files(app, servers).await;
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

/// Adds a warning to the servers that run a llama-server, or have loaded files, that are not on disk any
/// more.
async fn warn_of_old_files(app: &App, servers: &mut [Server]) {
    let runs: Vec<String> = servers.iter().filter_map(run_of).collect();
    if runs.is_empty() {
        return;
    }
    // A warning is not worth failing for.
    let Ok(mut files) = app.registry.files_of_runs(runs).await else { return };
    // Mostly they are what they were, and to hear it from another thread would take longer than to look.
    if files.values().map(|it| 1 + it.files.len()).sum::<usize>() <= LOOKS_AT_ONCE {
        let same = |it: &FilesOfRun| {
            runtime::is_surely_unchanged(&it.build) && are_surely_unchanged(&it.files)
        };
        files.retain(|_, it| !same(it));
    }
    if files.is_empty() {
        return;
    }
    let look = move || {
        let of_run = |(run, FilesOfRun { build, files }): (String, FilesOfRun)| {
            (run, (runtime::is_replaced(&build).then_some(build), changed_since(&files)))
        };
        files.into_iter().map(of_run).collect::<BTreeMap<_, _>>()
    };
    let Some(looked) = app.model_files.patiently(look).await else { return };
    for server in servers {
        let Some((build, files)) = run_of(server).and_then(|run| looked.get(&run)) else {
            continue;
        };
        let name = &server.model;
        server.warnings.extend(files.iter().map(|change| of_file(name, change)));
        server.warnings.extend(build.iter().map(|build| of_build(name, build)));
        sort(&mut server.warnings);
    }
}

fn of_build(name: &str, file: &RuntimeFile) -> Warning {
    let version = file.version.as_deref().unwrap_or("of no known version");
    let message = format!(
        "it runs llama-server {version}, and {} has been replaced or removed since",
        file.path
    );
    Warning::new(WarningCode::OldBuild, message).command(["llamactl", "restart", name])
}

fn of_file(name: &str, FileChange { key, path, became }: &FileChange) -> Warning {
    let is_own = key == MODEL_PATH;
    let what = if is_own { "its file".to_owned() } else { format!("the file of {key}, {path},") };
    let restart = ["llamactl", "restart", name];
    match became {
        Became::Gone => {
            let message = format!("{what} is gone: it runs on, and could not be started again");
            let elsewhere = format!("{key}=FILE");
            Warning::new(WarningCode::FileGone, message)
                .command(["llamactl", "model", "set", name, &elsewhere])
        }
        Became::Replaced => {
            let message = format!("{what} was replaced: it runs on the old one");
            Warning::new(WarningCode::FileReplaced, message).command(restart)
        }
        Became::Changed => {
            let message = format!("{what} was written to while it runs");
            Warning::new(WarningCode::FileReplaced, message)
                .command(["llamactl", "model", "verify", name])
                .command(restart)
        }
    }
}
