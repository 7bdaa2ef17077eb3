//! `server.*`

use super::daemon::warnings;
use super::registration::{Caller, Emission, Latest, Source};
use super::{page, running};
use crate::api::app::App;
use crate::clock::now_ms;
use crate::supervisor::{Accepted as Outcome, Supervisor};
use crate::why::explain;
use llamactl_protocol::bounds::GivenSettings;
use llamactl_protocol::model::{FileState, Model, SettingsChange};
use llamactl_protocol::options::{Settings, rules};
use llamactl_protocol::prose::clause;
use llamactl_protocol::server::{
    Accepted, Server, ServerFollow, ServerList, ServerPage, ServerRestart, ServerShow, ServerStart,
    ServerStop, ServerWhy, State, Why,
};
use llamactl_protocol::{Access, Actor, Failure, Hint, Kind};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;

pub(super) async fn list(app: &App, _: Caller, list: ServerList) -> Result<ServerPage, Failure> {
    let limit = page::limit(list.limit, 200);
    let (after, first) = (list.after.clone(), list.after.is_none());
    let servers = if list.all {
        app.supervisor.page(after.map(Into::into).unwrap_or_default(), limit + 1).await?
    } else {
        let after = after.unwrap_or_default();
        let mut servers = app.supervisor.active();
        servers.retain(|server| server.state != State::Stopped && *server.model > *after);
        servers.sort_by(|a, b| a.model.cmp(&b.model));
        servers
    };
    let (mut items, more) = page::cut(servers, limit);
    let next = items.last().filter(|_| more).map(|server| server.model.clone());
    running::complete(app, &mut items).await;
    let sample = app.metrics.last().filter(|_| first).map(|sample| (*sample).clone());
    let other_servers = if first { app.other_servers.seen() } else { Vec::new() };
    Ok(ServerPage { items, next, warnings: warnings(app), sample, other_servers })
}

pub(super) async fn show(app: &App, _: Caller, show: ServerShow) -> Result<Server, Failure> {
    let model = app.registry.model(&show.model).await?;
    let mut server = app.supervisor.server(&model).await?;
    running::complete(app, std::slice::from_mut(&mut server)).await;
    Ok(server)
}

pub(super) async fn why(app: &App, caller: Caller, why: ServerWhy) -> Result<Why, Failure> {
    let model = app.registry.model(&why.model).await?;
    let server = show(app, caller, ServerShow { model: why.model }).await?;
    let events = app.registry.history_of_model(server.model_id, HISTORY).await?;
    let mut others = app.supervisor.active();
    others.retain(|other| other.model_id != server.model_id);
    let mut told = explain(server, &others, events, now_ms());
    if told.server.state == State::Stopped {
        // A build that is slow to say what it takes is not waited for.
        let looked = tokio::time::timeout(PREFLIGHT, app.supervisor.may_start(&model)).await;
        if let Ok(Err(failure)) = looked {
            let would = format!("A start would fail now: {}.", clause(&failure.message));
            told.next = Some(
                [told.next.take(), Some(would)].into_iter().flatten().collect::<Vec<_>>().join(" "),
            );
            told.hints = failure.hints.0;
        }
    }
    // What llama-server says of a file that was written over is seldom that.
    if matches!(told.server.state, State::Failed | State::Backoff) {
        let mut looked_at = [model];
        app.model_files.look_at(&mut looked_at).await?;
        let [model] = &looked_at;
        if model.file_state == Some(FileState::Changed) {
            told.remarks.insert(0, "Its file was changed after it was added.".to_owned());
            let verify = ["llamactl", "model", "verify", &model.name];
            told.hints.insert(0, Hint::run("see what is wrong with the file", verify));
        }
    }
    Ok(told)
}

/// How long it is looked whether a start would get as far as a process.
const PREFLIGHT: Duration = Duration::from_secs(2);

/// How many events are looked back for the reason: five failures with what goes with each, and
/// what led there.
const HISTORY: u32 = 40;

pub(super) async fn start(
    app: &App,
    caller: Caller,
    start: ServerStart,
) -> Result<Accepted, Failure> {
    let model = app.registry.model(&start.model).await?;
    let overrides = overrides(app, caller.access, &model, start.set).await?;
    let by = caller.about(&model.name);
    read_anew(app, &model, by.clone()).await?;
    app.supervisor.start_server(&model, overrides, by).await.map(accepted)
}

pub(super) async fn stop(app: &App, caller: Caller, stop: ServerStop) -> Result<Accepted, Failure> {
    let model = app.registry.model(&stop.model).await?;
    app.supervisor.stop_server(&model, caller.about(&model.name)).await.map(accepted)
}

pub(super) async fn restart(
    app: &App,
    caller: Caller,
    restart: ServerRestart,
) -> Result<Accepted, Failure> {
    let model = app.registry.model(&restart.model).await?;
    let overrides = overrides(app, caller.access, &model, restart.set).await?;
    let by = caller.about(&model.name);
    let unsound = read_anew(app, &model, by.clone()).await?;
    app.supervisor.restart_server(&model, overrides, unsound, by).await.map(accepted)
}

/// Reads the header of a file that has changed since it was read, and says what is wrong with it. Whether
/// what it is now can be loaded, llama-server will say where nothing is lost by asking it.
async fn read_anew(app: &App, model: &Model, by: Actor) -> Result<Option<Failure>, Failure> {
    let mut looked_at = [model.clone()];
    app.model_files.look_at(&mut looked_at).await?;
    if looked_at[0].file_state == Some(FileState::Changed) {
        let verified = app.model_files.verify(model, by).await?;
        return Ok(verified.problems.into_iter().next());
    }
    Ok(None)
}

/// Settings for one run, checked as the model's own would be.
async fn overrides(
    app: &App,
    access: Access,
    model: &Model,
    set: GivenSettings,
) -> Result<Settings, Failure> {
    if set.is_empty() {
        return Ok(set.0);
    }
    // Settings name paths and arguments: who may only start and stop may not set them.
    if access < Access::Admin {
        return Err(Failure::new(Kind::NotAllowed, "settings for one run need admin access")
            .hint("start it without --set, or ask the daemon's owner"));
    }
    let change = SettingsChange { set, ..SettingsChange::default() };
    let checked = app.models.validate(&change, &model.settings).await;
    let checked = checked.map_err(|failure| failure.of_model(&model.name))?;
    if checked.set.iter().any(|(key, value)| rules::is_secret(key, value)) {
        return Err(Failure::new(Kind::InvalidValue, "a secret cannot be set for one run alone")
            .hint(Hint::run(
                "set it for all its runs",
                ["llamactl", "model", "set", &model.name, "KEY=-"],
            )));
    }
    if checked.path.is_some() {
        return Err(Failure::new(Kind::InvalidValue, "one run cannot have another file").hint(
            Hint::run(
                "make another model of it",
                ["llamactl", "model", "copy", &model.name, "NEW", "--path", "FILE"],
            ),
        ));
    }
    Ok(checked.set)
}

fn accepted(answer: Outcome) -> Accepted {
    Accepted {
        run_id: answer.run_id,
        changed: answer.changed,
        durable: answer.durable,
        server: answer.server,
    }
}

pub(super) async fn follow(app: &App, _: Caller, follow: ServerFollow) -> Result<Servers, Failure> {
    Ok(match follow.model {
        Some(model) => {
            let model = app.registry.model(&model).await?;
            Servers::One(Latest::new(app.supervisor.watch(&model).await?, Server::clone))
        }
        None => Servers::All {
            changes: app.supervisor.changes(),
            supervisor: app.supervisor.clone(),
            sent: HashMap::new(),
            queue: VecDeque::new(),
            first: true,
        },
    })
}

/// States of one server or of all; states in between may be skipped, the last never.
pub(super) enum Servers {
    One(Latest<Server, Server, fn(&Server) -> Server>),
    All {
        changes: watch::Receiver<u64>,
        supervisor: Supervisor,
        /// What the reader knows.
        sent: HashMap<i64, Server>,
        queue: VecDeque<(bool, Server)>,
        first: bool,
    },
}

impl Source for Servers {
    type Item = Server;

    async fn next(&mut self) -> Emission<Server> {
        match self {
            // Its end is the model's removal.
            Servers::One(latest) => latest.next().await,
            Servers::All { changes, supervisor, sent, queue, first } => loop {
                if let Some((snapshot, data)) = queue.pop_front() {
                    return if snapshot {
                        Emission::Snapshot { cursor: None, data }
                    } else {
                        Emission::Change { cursor: None, data }
                    };
                }
                if !*first && changes.changed().await.is_err() {
                    return Emission::done(None);
                }
                changes.mark_unchanged();
                let snapshot = std::mem::take(first);
                let active = supervisor.active();
                sent.retain(|model_id, _| active.iter().any(|server| server.model_id == *model_id));
                for server in active {
                    let plain =
                        server.state == State::Stopped && !sent.contains_key(&server.model_id);
                    if !plain && sent.get(&server.model_id) != Some(&server) {
                        sent.insert(server.model_id, server.clone());
                        queue.push_back((snapshot, server));
                    }
                }
            },
        }
    }
}
