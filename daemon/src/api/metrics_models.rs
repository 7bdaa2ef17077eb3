//! `metrics.models`, and all that Prometheus reads.
//!
//! ```text
//!   what was sampled last ─╮
//!   supervisor: all models ┼─▶ text, made once for each sample however many ask
//!   history: totals ───────╯
//! ```

use super::daemon::history_health;
use super::registration::Caller;
use super::{page, sampling_stopped};
use crate::api::app::App;
use crate::metrics::history::Health;
use llamactl_protocol::series::{DaemonFigures, prometheus};
use llamactl_protocol::server::Server;
use llamactl_protocol::totals::{MetricsModels, ModelSample, ModelSamplePage, RunSample};
use llamactl_protocol::{Failure, Kind};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

pub(super) async fn models(
    app: &App,
    _: Caller,
    models: MetricsModels,
) -> Result<ModelSamplePage, Failure> {
    let after = models.after.map(Into::into).unwrap_or_default();
    listed(app, after, page::limit(models.limit, 200)).await
}

async fn listed(app: &App, after: String, limit: u32) -> Result<ModelSamplePage, Failure> {
    let (servers, more) = page::cut(app.supervisor.page(after, limit + 1).await?, limit);
    let next = servers.last().filter(|_| more).map(|server| server.model.clone());
    let run_of = |server: &Server| {
        let run = server.run.clone()?;
        (run.pid.is_some() && run.ended_at_ms.is_none()).then_some(run)
    };
    let runs: Vec<_> = servers.iter().filter_map(run_of).map(|run| run.id).collect();
    let mut files = app.registry.files_of_runs(runs).await?;
    let totals = app.metrics.history().totals();
    let sample = |server: Server| {
        let run = run_of(&server).map(|run| {
            let file = files.remove(&run.id);
            let says = server.in_force.and_then(|it| it.build);
            RunSample {
                runtime: file.as_ref().map(|file| file.build.path.to_string()),
                build: says.or(file.and_then(|file| file.build.version)),
                started_at_ms: run.started_at_ms,
                load_ms: run.load_ms,
                id: run.id,
            }
        });
        let (model_id, state) = (server.model_id, server.state);
        let totals = totals.as_ref().map(|totals| totals.get(model_id));
        ModelSample { model_id, model: server.model, state, run, totals }
    };
    Ok(ModelSamplePage { items: servers.into_iter().map(sample).collect(), next })
}

/// Makes the text that Prometheus reads.
#[derive(Clone)]
pub struct Exposition(mpsc::Sender<oneshot::Sender<Result<Arc<str>, Failure>>>);

impl Exposition {
    /// Makes it for as long as somebody may ask.
    #[must_use]
    pub fn start(app: Arc<App>) -> Exposition {
        let (asking, mut asked) = mpsc::channel::<oneshot::Sender<_>>(16);
        tokio::spawn(async move {
            let mut last: Option<(u64, Arc<str>)> = None;
            while let Some(answer) = asked.recv().await {
                let text = latest(&app, &mut last).await;
                // Who asked may have gone.
                let _ = answer.send(text);
            }
        });
        Exposition(asking)
    }

    /// The text of the latest sample.
    ///
    /// # Errors
    /// That the registry cannot be read, or that the daemon ends.
    pub async fn text(&self) -> Result<Arc<str>, Failure> {
        let gone = || Failure::new(Kind::Stopping, "the daemon is stopping");
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn latest(app: &App, last: &mut Option<(u64, Arc<str>)>) -> Result<Arc<str>, Failure> {
    let sample = app.metrics.latest().await.map_err(sampling_stopped)?;
    if let Some((_, text)) = last.as_ref().filter(|(seq, _)| *seq == sample.seq) {
        return Ok(Arc::clone(text));
    }
    let (mut models, mut after) = (Vec::new(), Some(String::new()));
    while let Some(behind) = after {
        let page = listed(app, behind, 200).await?;
        models.extend(page.items);
        after = page.next;
    }
    let Health { size_bytes, samples_lost, .. } = history_health(app);
    let figures = DaemonFigures {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: app.started_at_ms,
        connections: app.counters.open(),
        connections_refused: app.counters.refused_total(),
        slow_calls: app.counters.slow_calls(),
        log_lines_lost: (app.log_lines_lost)(),
        history: Some((size_bytes, samples_lost)),
    };
    let text: Arc<str> = prometheus(&sample, &models, &figures).into();
    *last = Some((sample.seq, Arc::clone(&text)));
    Ok(text)
}
