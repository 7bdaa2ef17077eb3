//! What is written of a server, as the driver reads it.

use super::Context;
use super::core::driver::{LastRun, State, Written, snapshot};
use super::endpoint::{self, Listen};
use super::plan::facts_of;
use crate::clock::now_ms;
use crate::os::process::booted_at_ms;
use crate::store::registry::{RunRecord, StoredServer};
use llamactl_protocol::Failure;
use llamactl_protocol::server::Server;
use std::sync::Arc;

impl Context {
    /// What is written of a model's server, read at one moment, and the record of its last run;
    /// `None` when the model is gone.
    pub(super) async fn written(
        &self,
        model_id: i64,
    ) -> Result<Option<(Written, Option<RunRecord>)>, Failure> {
        let Some(stored) = self.registry.stored_server(model_id).await? else { return Ok(None) };
        Ok(Some(self.read(stored).await))
    }

    /// The same of what was read already.
    pub(super) async fn read(&self, stored: StoredServer) -> (Written, Option<RunRecord>) {
        let boot_id = self.boot_id.as_deref();
        let last = match &stored.last_run {
            // A build that is gone leaves unknown whether it had devices.
            Some(run) if run.ended_at_ms.is_none() => {
                let build = self.registry.runtime(run.runtime_id).await.ok().flatten();
                let has_devices = build.map(|build| !build.devices.is_empty());
                let mut last = last_run(run, has_devices, boot_id);
                last.facts.port_before = self.port_before(run).await;
                Some(last)
            }
            Some(run) => Some(last_run(run, None, boot_id)),
            None => None,
        };
        let (desired, restart_requested, overrides, refusal) = match stored.desired {
            Some(it) => (Some(it.desired), it.restart_requested, it.overrides, it.refusal),
            None => Default::default(),
        };
        let written = Written {
            model: Arc::new(stored.model),
            defaults: Arc::new(stored.defaults),
            desired,
            restart_requested,
            overrides: Arc::new(overrides),
            refusal: refusal.map(Arc::new),
            last,
        };
        (written, stored.last_run)
    }

    /// The port that a run did not get again, because another program had it.
    async fn port_before(&self, run: &RunRecord) -> Option<u16> {
        let now = run.endpoint.port()?;
        let settings = run.settings.iter().chain(&run.overrides);
        let settings = settings.map(|(key, value)| (key.clone(), value.clone())).collect();
        endpoint::asked(&settings).ok().filter(Listen::chooses_port)?;
        let before = self.registry.endpoint_before(run.model_id, run.id.clone()).await.ok()??;
        before.port().filter(|port| *port != now)
    }

    /// When this boot began, as far as a model's records go.
    pub(super) fn booted_at_ms(written: &Written) -> i64 {
        written.booted_at_ms(booted_at_ms())
    }

    /// A server before its task has looked whether its process is there.
    pub(super) fn unexamined_state(&self, written: &Written) -> State {
        State::unexamined(written, Context::booted_at_ms(written), now_ms())
    }

    /// The same, as it is shown.
    pub(super) fn unexamined(&self, written: &Written) -> Server {
        snapshot(&self.unexamined_state(written))
    }
}

fn last_run(run: &RunRecord, build_has_devices: Option<bool>, boot_id: Option<&str>) -> LastRun {
    LastRun {
        facts: facts_of(run, build_has_devices, boot_id),
        endpoint: run.endpoint.clone(),
        cause: run.cause.clone().map(Arc::new),
        failures: run.failures,
        restarts: run.restarts,
        restart_at_ms: run.restart_at_ms,
    }
}
