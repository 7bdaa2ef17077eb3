//! What everybody sees of a server: a function of what its task knows.

use super::super::machine::Phase;
use super::super::{device, warning};
use super::State;
use super::run::RunFacts;
use llamactl_protocol::options::{POLICY, Settings, layers, secret};
use llamactl_protocol::server::{Endpoint, Run, Server};
use llamactl_protocol::warning::{Warning, sort};

/// The server as it is shown.
#[must_use]
pub fn snapshot(state: &State) -> Server {
    let phase = &state.life.phase;
    let live = state.run.as_ref().filter(|run| run.has_process);
    let device = live.map(device::of_run).unwrap_or_default();
    let name = &state.model.name;
    let port = state.endpoint.as_ref().and_then(Endpoint::port);
    let warnings = live.map(|run| warnings(name, run, phase, port)).unwrap_or_default();
    Server {
        model_id: state.model.id,
        model: state.model.name.clone(),
        state: phase.state(),
        since_ms: state.since_ms,
        desired: state.desired.clone(),
        run: state.run.as_ref().map(run),
        endpoint: state.endpoint.clone().filter(|_| !phase.rests()),
        progress_ratio: state.progress.1,
        stage: state.progress.0.clone(),
        queue: state.queue,
        cause: state.cause.as_deref().map(|cause| cause.of_model(name)),
        restarts: state.life.streak.restarts,
        restart_at_ms: state.restart_at_ms,
        on_cpu: device.on_cpu,
        device: device.device.map(str::to_owned),
        in_force: state.in_force.clone(),
        pending: live.map(|run| pending(state, run)).unwrap_or_default(),
        overrides: live.map_or_else(Settings::new, |run| secret::masked(&run.overrides)),
        warnings,
    }
}

fn warnings(name: &str, run: &RunFacts, phase: &Phase, port: Option<u16>) -> Vec<Warning> {
    let is_ready = matches!(phase, Phase::Ready { .. });
    let mut warnings = Vec::new();
    if let Some(silence) = run.silence.filter(|_| is_ready) {
        warnings.push(warning::not_answering(name, silence));
    }
    if is_ready && device::of_run(run).on_cpu == Some(true) {
        warnings.push(warning::on_cpu(name, device::on_cpu(run)));
    }
    if let (Some(before), Some(now)) = (run.port_before, port) {
        warnings.push(warning::other_port(name, before, now));
    }
    if run.is_open {
        warnings.push(warning::no_api_key(name));
    }
    sort(&mut warnings);
    warnings
}

/// Settings that changed since the process was started; those that hold at once are not waited for.
fn pending(state: &State, run: &RunFacts) -> Vec<String> {
    let now = layers::effective(&state.defaults, &state.model.settings);
    let mut pending = layers::differences(&run.settings, &now);
    pending.retain(|key| !POLICY.contains(&key.as_str()));
    pending
}

fn run(facts: &RunFacts) -> Run {
    Run {
        id: facts.id.clone(),
        pid: facts.pid,
        started_at_ms: facts.started_at_ms,
        ready_at_ms: facts.ready_at_ms,
        load_ms: facts.load_ms,
        ended_at_ms: facts.ended_at_ms,
        revision: facts.revision,
    }
}
