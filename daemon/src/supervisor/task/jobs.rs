//! What may take long, beside the task: making a start ready, and finding out why a process ended.
//! Each answers with an event that bears the run's id.

use super::super::core::driver::{Explanation, Prepared};
use super::super::core::machine::RunId;
use super::super::endpoint::{is_held, is_taken};
use super::super::plan::{Checked, Kept, NotMade};
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
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// How much of a run's output is read to find out why it ended.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: u64 = 256 << 10;

impl Context {
    /// Makes ready what the process of a run needs, by the settings of now and not those of when the
    /// start was asked for.
    pub(super) async fn prepare(
        &self,
        model_id: i64,
        run: &RunId,
        overrides: Settings,
        kept: &Kept,
    ) -> Result<(Prepared, Ready), NotMade> {
        let checked = self.checked_plan(model_id, overrides, kept).await;
        let Checked { model, plan, key, files } =
            checked.map_err(|failure| NotMade::by_failure(&failure))?;
        let log = self.log_of(run).map_err(|error| process::not_made(&error))?;
        plan.clear_way().await?;
        let output = Output::create(log.clone()).await?;
        let prepared = Prepared {
            run: run.clone(),
            model: Arc::new(model),
            settings: Arc::new(plan.layers.standing()),
            endpoint: plan.endpoint.clone(),
            is_open: plan.is_open(),
            port_before: plan.port_before,
            build_has_devices: Some(plan.runtime.has_devices),
        };
        Ok((prepared, Ready { run: run.clone(), plan, key, files: files.there, log, output }))
    }

    /// Finds out how and why a process ended, and kills what it left behind. Without a process it
    /// died while nobody watched; `pid` is what it was.
    pub(super) async fn explain(
        &self,
        run: &RunId,
        process: Option<(Process, OomWatch)>,
        pid: Option<u32>,
        endpoint: Option<Endpoint>,
    ) -> Explanation {
        let mut explanation = Explanation::default();
        let mut killed = None;
        match process {
            Some((process, oom)) => {
                explanation.exit = process.reap().await;
                let is_held = match &endpoint {
                    Some(endpoint) => is_held(endpoint).await,
                    None => false,
                };
                self.end_leftovers(marker(&self.registry.id(), run), is_held).await;
                killed = matches!(explanation.exit, Exit::Signal(libc::SIGKILL)).then_some(oom);
            }
            // Our child still, where this process was another program when it died.
            None => {
                let pid = pid.and_then(|pid| i32::try_from(pid).ok());
                explanation.exit = pid.and_then(reap).map_or(Exit::Unknown, exit_of);
            }
        }
        explanation.address_taken = endpoint.is_some_and(|endpoint| is_taken(&endpoint));
        self.lifelines.cut(run);
        let log = self.log_of(run).ok();
        let read = tokio::task::spawn_blocking(move || {
            // The kernel's log is read for it.
            let risen = killed.and_then(|oom| oom.risen());
            let tail = log.as_ref().map(last_output).unwrap_or_default();
            (risen, tail, log.as_ref().and_then(last_written_ms))
        });
        if let Ok(read) = read.await {
            (explanation.oom_kill_counted, explanation.tail, explanation.last_written_ms) = read;
        }
        explanation
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
