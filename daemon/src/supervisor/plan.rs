//! What a start would do: the build, the command line, where it would listen. Read, never kept
//! beside what it was read from.

use super::command_line::{self, CommandLine};
use super::core::driver::{RunFacts, cause_of};
use super::core::restart::Curable;
use super::{Context, endpoint};
use crate::clock::now_ms;
use crate::llama::{ApiKey, Client, Target};
use crate::models::{self, Layers};
use crate::runtime;
use crate::store::registry::{RunRecord, RuntimeRecord};
use llamactl_protocol::cause::{Cause, CauseCode};
use llamactl_protocol::model::Model;
use llamactl_protocol::options::{Settings, find, layers, rules};
use llamactl_protocol::server::Endpoint;
use llamactl_protocol::{Failure, Hint, Kind};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::TcpListener;
use tokio::net::UnixStream;

/// Everything a start needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) runtime: RuntimeRecord,
    pub(super) line: CommandLine,
    pub(super) endpoint: Endpoint,
    pub(super) target: Target,
    /// The settings it stands for.
    pub(super) layers: Layers,
    /// The revision of the model it was made from.
    pub(super) revision: i64,
}

/// Why there is no process, and whether another try may help.
#[derive(Debug)]
pub(super) struct NotMade {
    pub(super) cause: Box<Cause>,
    pub(super) curable: Curable,
}

impl NotMade {
    pub(super) fn by_failure(failure: &Failure) -> NotMade {
        let curable = super::core::driver::curable(failure);
        NotMade { cause: Box::new(cause_of(failure, now_ms())), curable }
    }
}

impl Plan {
    /// Whether another port would do: none is set, or any is wanted.
    fn may_listen_elsewhere(&self) -> bool {
        let has_fixed_port =
            self.layers.effective().get("port").is_some_and(serde_json::Value::is_number);
        matches!(self.target, Target::Address(_)) && !has_fixed_port
    }

    /// Whether every program on this machine can use the server it stands for.
    pub(super) fn is_open(&self) -> bool {
        self.endpoint.url.is_some()
            && !command_line::asks_for_key(&self.line.argv, &self.line.environment)
    }

    /// Sees to it that nobody else listens where the server is to: another program there would
    /// answer `/health` in its place. Removes the socket an earlier process left, because
    /// llama-server never does, and refuses to start over it.
    ///
    /// # Errors
    /// Who is in the way; another port is another way, where one may be taken.
    pub(super) async fn clear_way(&self) -> Result<(), NotMade> {
        let taken = |message: String, hint: &str| {
            let curable = if self.may_listen_elsewhere() { Curable::Once } else { Curable::No };
            let cause = Cause::new(CauseCode::BindFailed, message, now_ms());
            NotMade { cause: Box::new(Cause { hints: Hint::to(hint).into(), ..cause }), curable }
        };
        match &self.target {
            Target::Address(address) => match TcpListener::bind(address) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(taken(
                    format!("another program listens on {address}"),
                    "set another port, or port=auto; ss -ltnp shows who has it",
                )),
                Err(error) => Err(taken(
                    format!("nothing can listen on {address}: {error}"),
                    "set another host or port",
                )),
            },
            Target::Socket(path) if UnixStream::connect(path).await.is_ok() => Err(taken(
                format!("another process answers on the server's socket {}", path.display()),
                "ss -xlp shows which; stop it",
            )),
            Target::Socket(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(taken(
                    format!("the old socket {} cannot be removed: {error}", path.display()),
                    "remove it",
                )),
                _ => Ok(()),
            },
        }
    }
}

impl Context {
    /// What a start of this model would do now.
    pub(super) async fn plan(&self, model: &Model, overrides: Settings) -> Result<Plan, Failure> {
        let layers = Layers::of(&self.registry, model, overrides).await?;
        let settings = layers.effective();
        let runtime = models::runtime_of(&self.registry, &settings).await?;
        layers.check()?;
        // What is refused now may have been taken by a version before.
        for name in runtime.environment.keys() {
            rules::check_variable(name).map_err(|failure| {
                let unset = ["llamactl", "runtime", "unset", &runtime.name, &format!("env.{name}")];
                failure.hint(Hint::run("take it out of the runtime", unset))
            })?;
        }
        // The build may be another than the one they were set for.
        models::accepted(&runtime.build(), &settings)?;
        let listen = endpoint::asked(&settings)?;
        let (last, taken) = match listen.chooses_port() {
            true => self.ports_before(model.id).await?,
            false => (None, BTreeSet::new()),
        };
        let held = self.running.borrow().iter().any(|server| server.model_id == model.id);
        let (endpoint, target) =
            endpoint::choose(&listen, &self.servers_dir, model.id, last.as_ref(), held, &taken)?;
        let line = command_line::build(model, &settings, &runtime, &target);
        Ok(Plan { runtime, line, endpoint, target, layers, revision: model.revision })
    }

    /// Whether what a start hands to llama-server is still what it may be given: the build, and the
    /// files. A plan may be older than what lies there now.
    ///
    /// # Errors
    /// What is not, and why.
    pub(super) async fn check_files(&self, model: &Model, plan: &Plan) -> Result<(), Failure> {
        let (model, settings) = (model.clone(), plan.layers.effective());
        let executable = plan.runtime.found.path.clone();
        // Which options take a file the build must say only where the catalogue cannot.
        let is_known = |key: &String| find(key, None).is_ok();
        let build = (!settings.keys().all(is_known)).then(|| plan.runtime.build());
        let check = move || {
            runtime::inspect(executable.as_path())?;
            models::check_before_start(&model, &settings, build.as_ref())
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?
    }

    /// The key that a server with these settings asks its clients for.
    pub(super) async fn key_of(&self, settings: Settings) -> Result<Option<ApiKey>, Failure> {
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
        Ok((own, endpoints.values().filter_map(endpoint::port_of).collect()))
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
