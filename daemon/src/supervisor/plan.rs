//! What a start would do: the build, the command line, where it would listen.
//!
//! ```text
//!   one read: model, defaults, runtimes ─▶ kept plan of the same revisions? ─▶ look at the files ─▶ start
//!                                              ╰ no ─▶ build, layers, endpoint, command line ─▶ keep it ─╯
//! ```
//!
//! A plan is kept with the revisions of all it was made from, and with the settings of the one run that
//! it is for; it is used again only where every one of them is the same.

use super::command_line::{self, CommandLine};
use super::core::driver::{RunFacts, cause_of};
use super::core::restart::Curable;
use super::{Context, endpoint};
use crate::clock::now_ms;
use crate::llama::{ApiKey, Client, Target};
use crate::models::{self, Layers, Named, StartFiles};
use crate::runtime::{self, Found, Place};
use crate::store::registry::{
    ModelLayers, NamedRuntime, NewRuntime, RunFile, RunRecord, RuntimeRecord,
};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::environment::LIBRARY_PATH;
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, layers, rules};
use llamactl_protocol::server::Endpoint;
use llamactl_protocol::{Failure, Hint, Hints, Kind};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UnixStream;

/// Everything a start needs, and what it was made from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) runtime: PlannedRuntime,
    pub(super) line: CommandLine,
    pub(super) endpoint: Endpoint,
    pub(super) target: Target,
    /// The settings it stands for.
    pub(super) layers: Layers,
    /// The revision of the model it was made from.
    pub(super) revision: i64,
    /// The revision of the defaults.
    defaults_revision: i64,
    /// All runtimes that had a name.
    runtimes: Vec<NamedRuntime>,
    /// The files that its settings name.
    files: Vec<Named>,
    /// The port of its last run, where another program has it now.
    pub(super) port_before: Option<u16>,
}

/// The build of a plan, without all that it says of its options.
#[derive(Debug)]
pub(super) struct PlannedRuntime {
    pub(super) id: i64,
    pub(super) reports_progress: bool,
    pub(super) has_devices: bool,
    /// Where it was looked for, and the file that was there.
    place: Place,
    file: Found,
}

/// The plan of a model's last start. Whoever makes one keeps it here, and whoever starts takes it if it
/// [stands for](Plan::stands_for) just that start.
pub(super) type Kept = Mutex<Option<Arc<Plan>>>;

/// A plan of now: everything that it hands to llama-server was looked at.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) model: Model,
    pub(super) plan: Arc<Plan>,
    /// The key that the server asks its clients for.
    pub(super) key: Option<ApiKey>,
    /// The files it is handed.
    pub(super) files: StartFiles,
}

/// Why there is no process, and whether another try may help.
#[derive(Debug)]
pub(super) struct NotMade {
    pub(super) cause: Box<Cause>,
    pub(super) curable: Curable,
}

impl PlannedRuntime {
    fn of(runtime: RuntimeRecord, place: Place) -> PlannedRuntime {
        let NewRuntime { path, inode, size_bytes, mtime_ns, reports_progress, devices, .. } =
            runtime.found;
        PlannedRuntime {
            id: runtime.id,
            reports_progress,
            has_devices: !devices.is_empty(),
            place,
            file: Found { path: path.0, inode, size_bytes, mtime_ns, lib_dirs: runtime.lib_dirs },
        }
    }
}

impl NotMade {
    pub(super) fn by_failure(failure: &Failure) -> NotMade {
        let curable = super::core::driver::curable(failure);
        NotMade { cause: Box::new(cause_of(failure, now_ms())), curable }
    }
}

impl Plan {
    /// Whether a start of now, with these settings for it alone, would do the same. What lies on the
    /// disk is another matter.
    fn stands_for(&self, now: &ModelLayers, overrides: &Settings) -> bool {
        self.revision == now.record.model.revision
            && self.defaults_revision == now.defaults.revision
            && self.runtimes == now.runtimes
            && self.layers.run == *overrides
    }

    /// Whether its port was chosen for it: another would do.
    fn chooses_port(&self) -> bool {
        let has_fixed_port =
            self.layers.effective().get("port").is_some_and(serde_json::Value::is_number);
        matches!(self.target, Target::Address(_)) && !has_fixed_port
    }

    /// Whether every program on this machine can use the server it stands for.
    pub(super) fn is_open(&self) -> bool {
        self.endpoint.url.is_some()
            && !command_line::asks_for_key(&self.line.argv, &self.line.environment)
    }

    /// Whether a server that listens at `now` may be given up for this one: it would find its files, might
    /// read them, and its port free. Blocks.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) fn may_follow(
        &self,
        files: &StartFiles,
        now: Option<&Endpoint>,
    ) -> Result<(), Failure> {
        if let Some(missing) = &files.missing {
            return Err(missing.clone());
        }
        // Servers run as the daemon's user.
        let unreadable = files.there.iter().find(|file| {
            File::open(file.path.as_path())
                .is_err_and(|it| it.kind() == io::ErrorKind::PermissionDenied)
        });
        if let Some(RunFile { path, .. }) = unreadable {
            return Err(models::unreadable(path.as_path()));
        }
        let held = now.and_then(endpoint::target);
        match &self.target {
            Target::Address(address) if held.as_ref() != Some(&self.target) => {
                TcpListener::bind(address).map(drop).map_err(|error| {
                    let message = format!("nothing can listen on {address}: {error}");
                    let failure = Failure::new(Kind::ServerFailed, message);
                    Failure { hints: Hints(other_port().into()), ..failure }
                })
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that nobody else listens where the server is to: another program there would
    /// answer `/health` in its place. Removes the socket an earlier process left, because
    /// llama-server never does, and refuses to start over it.
    ///
    /// # Errors
    /// Who is in the way; another port is another way, where one may be taken.
    pub(super) async fn clear_way(&self) -> Result<(), NotMade> {
        let taken = |message: String, hints: &[Hint]| {
            let curable = if self.chooses_port() { Curable::Once } else { Curable::No };
            let cause = Cause::new(CauseCode::BindFailed, message, now_ms());
            NotMade { cause: Box::new(Cause { hints: Hints(hints.to_vec()), ..cause }), curable }
        };
        match &self.target {
            Target::Address(address) => match TcpListener::bind(address) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    Err(taken(format!("another program listens on {address}"), &other_port()))
                }
                Err(error) => Err(taken(
                    format!("nothing can listen on {address}: {error}"),
                    &[Hint::run(
                        "take any free port, of this machine alone",
                        ["llamactl", "model", "set", "NAME", "port=auto", "host=127.0.0.1"],
                    )],
                )),
            },
            Target::Socket(path) if UnixStream::connect(path).await.is_ok() => Err(taken(
                format!("another process answers on the server's socket {}", path.display()),
                &[Hint::run("see which, and end it", ["ss", "-xlp"])],
            )),
            Target::Socket(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(taken(
                    format!("the old socket {} cannot be removed: {error}", path.display()),
                    &[Hint::run("remove it", ["rm".to_owned(), path.display().to_string()])],
                )),
                _ => Ok(()),
            },
        }
    }
}

/// What to do about a port that another program has.
fn other_port() -> [Hint; 2] {
    [
        Hint::run("take any free port", ["llamactl", "model", "set", "NAME", "port=auto"]),
        Hint::run("or see who has it", ["ss", "-ltnp"]),
    ]
}

impl Context {
    /// What a start of this model does now: as the last one, where nothing that it depends on has
    /// another revision.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub(super) async fn checked_plan(
        &self,
        model_id: i64,
        overrides: Settings,
        kept: &Kept,
    ) -> Result<Checked, Failure> {
        let now = self.registry.layers_by_id(model_id).await?;
        let now = now.ok_or_else(|| Failure::new(Kind::ModelNotFound, "the model was removed"))?;
        let last = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(plan) = last.filter(|plan| plan.stands_for(&now, &overrides))
            && let (true, key, files) = self.check(&now.record.model, &plan).await?
        {
            return Ok(Checked { model: now.record.model, plan, key, files });
        }
        let (model, plan) = self.plan(now, overrides).await?;
        let plan = Arc::new(plan);
        let (_, key, files) = self.check(&model, &plan).await?;
        // Which port is free is another matter at each start.
        let keeps = (!plan.chooses_port()).then(|| Arc::clone(&plan));
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = keeps;
        Ok(Checked { model, plan, key, files })
    }

    /// What a start would do now.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub(super) async fn plan(
        &self,
        now: ModelLayers,
        overrides: Settings,
    ) -> Result<(Model, Plan), Failure> {
        let ModelLayers { record, defaults, runtimes } = now;
        let model = record.model;
        let layers =
            Layers { defaults: defaults.settings, model: model.settings.clone(), run: overrides };
        let settings = layers.effective();
        let place = models::place_of(&runtimes, &settings)?;
        let runtime = runtime::resolve_at(&self.registry, place.clone()).await?;
        layers.check()?;
        // What is refused now may have been taken by a version before.
        for name in runtime.environment.keys().filter(|name| *name != LIBRARY_PATH) {
            rules::check_variable(name).map_err(|failure| {
                let unset = ["llamactl", "runtime", "unset", &runtime.name, &format!("env.{name}")];
                failure.hint(Hint::run("take it out of the runtime", unset))
            })?;
        }
        // The build may be another than the one they were set for.
        let build = runtime.build();
        models::accepted(&build, &settings)?;
        let listen = endpoint::asked(&settings)?;
        let (last, taken) = match listen.chooses_port() {
            true => self.ports_before(model.id).await?,
            false => (None, BTreeSet::new()),
        };
        let held = self.running.borrow().iter().any(|server| server.model_id == model.id);
        let (endpoint, target) =
            endpoint::choose(&listen, &self.servers_dir, model.id, last.as_ref(), held, &taken)?;
        let port_before = last.as_ref().and_then(Endpoint::port);
        let port_before = port_before.filter(|port| Some(*port) != endpoint.port());
        let line = command_line::build(&model, &settings, &runtime, &target);
        let plan = Plan {
            runtime: PlannedRuntime::of(runtime, place),
            line,
            endpoint,
            target,
            layers,
            revision: model.revision,
            defaults_revision: defaults.revision,
            runtimes,
            files: models::named_in(&settings, Some(&build)),
            port_before,
        };
        Ok((model, plan))
    }

    /// Looks at what a start hands to llama-server: whether the files are such as it may be given, and
    /// whether the build is the one of the plan. And reads the key that clients are to give.
    async fn check(
        &self,
        model: &Model,
        plan: &Arc<Plan>,
    ) -> Result<(bool, Option<ApiKey>, StartFiles), Failure> {
        let (model, plan) = (model.clone(), Arc::clone(plan));
        let secrets = self.registry.secrets().clone();
        let check = move || {
            let is_same = plan.runtime.place.look()? == plan.runtime.file;
            let files = models::check_before_start(&model, &plan.files)?;
            let key = models::key_of(&secrets, &plan.layers.effective())?;
            Ok((is_same, key.map(ApiKey), files))
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?
    }

    /// The key that a server with these settings asks its clients for.
    async fn key_of(&self, settings: Settings) -> Result<Option<ApiKey>, Failure> {
        let secrets = self.registry.secrets().clone();
        let read = move || models::key_of(&secrets, &settings);
        let key = tokio::task::spawn_blocking(read).await;
        let key = key.map_err(|_| Failure::new(Kind::Internal, "reading a key failed"))??;
        Ok(key.map(ApiKey))
    }

    /// A client of the server of a run.
    pub(super) async fn client_of(&self, run: &RunRecord) -> Option<Client> {
        let target = endpoint::target(&run.endpoint)?;
        let key = self.key_of(layers::over(&run.settings, &run.overrides)).await;
        let key = key.unwrap_or_else(|failure| {
            tracing::warn!(model = run.model, %failure, "a server is asked without its key");
            None
        });
        Some(Client::new(target, key, run.pid))
    }

    /// Where the model's last run listened, and the ports of the other models' last runs.
    async fn ports_before(
        &self,
        model_id: i64,
    ) -> Result<(Option<Endpoint>, BTreeSet<u16>), Failure> {
        let mut endpoints: HashMap<i64, Endpoint> =
            self.registry.last_endpoints().await?.into_iter().collect();
        let own = endpoints.remove(&model_id);
        Ok((own, endpoints.values().filter_map(Endpoint::port).collect()))
    }
}

/// What the driver knows of a run that is written.
pub(super) fn facts_of(
    run: &RunRecord,
    build_has_devices: Option<bool>,
    boot_id: Option<&str>,
) -> RunFacts {
    RunFacts {
        is_of_this_boot: run.boot_id.is_some() && run.boot_id.as_deref() == boot_id,
        pid: run.pid,
        ready_at_ms: run.ready_at_ms,
        load_ms: run.load_ms,
        ended_at_ms: run.ended_at_ms,
        settings: run.settings.clone().into(),
        overrides: run.overrides.clone().into(),
        is_open: run.endpoint.url.is_some()
            && !command_line::asks_for_key(&run.argv, &run.environment),
        build_has_devices,
        ..RunFacts::planned(run.id.clone(), run.revision, run.started_at_ms)
    }
}
