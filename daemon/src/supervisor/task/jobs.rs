//! What may take long, beside the task: making a start ready, and finding out why a process ended.
//! Each answers with an event that bears the run's id.

use super::super::core::driver::{Event, Explanation, Prepared};
use super::super::core::machine::RunId;
use super::super::endpoint::is_taken;
use super::super::plan::{NotMade, Plan};
use super::super::process::{Output, Process, exit_of, marker};
use super::super::{Context, process};
use super::hands::Ready;
use crate::logs::classify::Exit;
use crate::logs::file::{RunLog, Stream};
use crate::logs::last_lines::tail_lines;
use crate::os::cgroup::OomWatch;
use crate::os::process::reap;
use llamactl_protocol::options::Settings;
use llamactl_protocol::server::Endpoint;
use llamactl_protocol::{Failure, Kind};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// How much of a run's output is read to find out why it ended.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: u64 = 256 << 10;

impl Context {
    /// Makes ready what the process of a run needs. `plan`: one that was made a moment ago.
    pub(super) async fn prepare(
        &self,
        model_id: i64,
        run: &RunId,
        overrides: Settings,
        plan: Option<Box<Plan>>,
    ) -> Result<(Prepared, Ready), NotMade> {
        let by_failure = |failure: Failure| NotMade::by_failure(&failure);
        // The settings of now, not those of when the start was asked for.
        let model =
            self.registry.model_by_id(model_id).await.map_err(|error| by_failure(error.into()))?;
        let Some(model) = model else {
            let gone = Failure::new(Kind::ModelNotFound, "the model was removed");
            return Err(NotMade::by_failure(&gone));
        };
        // Another's who asked for a start meanwhile and was refused: it was made for their settings.
        let plan =
            plan.filter(|plan| plan.revision == model.revision && plan.layers.run == overrides);
        let plan = match plan {
            Some(plan) => plan,
            None => Box::new(self.plan(&model, overrides).await.map_err(by_failure)?),
        };
        self.check_files(&model, &plan).await.map_err(by_failure)?;
        let log = self.log_of(run).map_err(|error| process::not_made(&error))?;
        plan.clear_way().await?;
        let key = self.key_of(plan.layers.effective()).await.map_err(by_failure)?;
        let output = Output::create(log.clone()).await?;
        let prepared = Prepared {
            run: run.clone(),
            model: Arc::new(model),
            settings: Arc::new(plan.layers.standing()),
            endpoint: plan.endpoint.clone(),
            is_open: plan.is_open(),
            build_has_devices: Some(!plan.runtime.found.devices.is_empty()),
        };
        Ok((prepared, Ready { run: run.clone(), plan, key, log, output }))
    }

    /// Finds out how and why a process ended, and kills what it left behind. Without a process it
    /// died while nobody watched; `pid` is what it was.
    pub(super) async fn explain(
        &self,
        run: RunId,
        process: Option<(Process, OomWatch)>,
        pid: Option<u32>,
        endpoint: Option<Endpoint>,
    ) -> Event {
        let mut explanation = Explanation::default();
        match process {
            Some((process, oom)) => {
                explanation.exit = process.reap().await;
                self.end_leftovers(marker(&self.registry.id(), &run));
                let killed = matches!(explanation.exit, Exit::Signal(libc::SIGKILL));
                if killed {
                    // The kernel's log is read for it.
                    let risen = tokio::task::spawn_blocking(move || oom.risen()).await;
                    explanation.oom_kill_counted = risen.ok().flatten();
                }
            }
            // Our child still, where this process was another program when it died.
            None => {
                let pid = pid.and_then(|pid| i32::try_from(pid).ok());
                explanation.exit = pid.and_then(reap).map_or(Exit::Unknown, exit_of);
            }
        }
        explanation.address_taken = endpoint.is_some_and(|endpoint| is_taken(&endpoint));
        self.lifelines.cut(&run);
        if let Ok(log) = self.log_of(&run) {
            let read =
                tokio::task::spawn_blocking(move || (last_output(&log), last_written_ms(&log)));
            if let Ok((tail, last_written_ms)) = read.await {
                (explanation.tail, explanation.last_written_ms) = (tail, last_written_ms);
            }
        }
        Event::Explained { run, explanation }
    }
}

fn last_output(log: &RunLog) -> Vec<String> {
    let stdout = tail_lines(&log.path(Stream::Stdout), TAIL_LINES / 4, TAIL_BYTES);
    let stderr = tail_lines(&log.path(Stream::Stderr), TAIL_LINES, TAIL_BYTES);
    let mut lines = stdout.unwrap_or_default();
    lines.extend(stderr.unwrap_or_default());
    lines
}

/// When a run last wrote anything: it lived then.
fn last_written_ms(log: &RunLog) -> Option<i64> {
    let paths = Stream::ALL.map(|stream| log.path(stream));
    let times = paths.iter().filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
    let last = times.max()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(last.as_millis()).ok()
}
