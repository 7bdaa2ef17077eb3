//! `metrics.*`

use super::registration::{Broadcast, Caller, Emission, Source};
use super::sampling_stopped;
use crate::api::app::App;
use crate::clock::now_ms;
use crate::metrics::history::{self, Answer, Column, From, Question, Wanted};
use crate::store::DatabaseError;
use llamactl_protocol::bounds::{Name, Short};
use llamactl_protocol::metrics::{
    GpuList, GpusInUse, Labels, Measured, MetricsColumn, MetricsColumns, MetricsFollow,
    MetricsQuery, MetricsSample, Sample, Stat,
};
use llamactl_protocol::series::{Keep, SERIES, Scope, Series, select};
use llamactl_protocol::{Failure, Hint, Kind};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::metrics_follow::Following;

/// Numbers in one answer: less than a message may have bytes, at 14 a number.
pub(super) const MOST_NUMBERS: usize = 60_000;

pub(super) async fn sample(app: &App, _: Caller, _: MetricsSample) -> Result<Sample, Failure> {
    Ok((*app.metrics.latest().await.map_err(sampling_stopped)?).clone())
}

pub(super) async fn gpus(app: &App, _: Caller, _: GpuList) -> Result<GpusInUse, Failure> {
    app.metrics.gpus().await.map_err(sampling_stopped)
}

pub(super) async fn query(
    app: &App,
    _: Caller,
    query: MetricsQuery,
) -> Result<MetricsColumns, Failure> {
    let wanted = wanted(app, &query.series, &query.model, &query.gpu, query.stat).await?;
    let until_ms = query.until_ms.unwrap_or_else(now_ms);
    let from_ms = query.from_ms.unwrap_or(until_ms.saturating_sub(3_600_000));
    if from_ms > until_ms {
        return Err(Failure::new(Kind::InvalidValue, "this time ends before it begins")
            .hint(Hint::to("give an earlier --since, or a later --until")));
    }
    let step_ms = history::step_ms(query.step_ms, until_ms.saturating_sub(from_ms));
    let from = From::Wall(query.after.unwrap_or(from_ms).max(from_ms));
    let (stat, most_numbers) = (query.stat, MOST_NUMBERS);
    let question = Question { wanted, from, until_ms, step_ms, stat, most_numbers };
    let answer = app.metrics.history().ask(question).await.map_err(unread)?;
    let mut labels = AllLabels::new(app);
    Ok(labels.columns(&answer, 0..answer.count()).await)
}

pub(super) async fn follow(
    app: &App,
    _: Caller,
    follow: MetricsFollow,
) -> Result<Stream<impl Source<Item = Measured> + use<>>, Failure> {
    if follow.is_of_samples() {
        let (latest, samples) = app.metrics.subscribe().await.map_err(sampling_stopped)?;
        let change = |sample: Arc<Sample>| Some(item(&sample));
        return Ok(Stream::Samples(Broadcast::new([item(&latest)], samples, change)));
    }
    let wanted = wanted(app, &follow.series, &follow.model, &follow.gpu, Stat::Mean).await?;
    Ok(Stream::Columns(Box::new(Following::new(app, wanted, &follow).await?)))
}

fn item(sample: &Arc<Sample>) -> (Option<String>, Measured) {
    (Some(sample.at_ms.to_string()), Measured::Sample(Box::new(Sample::clone(sample))))
}

/// Either of two kinds of stream.
pub(super) enum Stream<S> {
    Samples(S),
    Columns(Box<Following>),
}

impl<S: Source<Item = Measured>> Source for Stream<S> {
    type Item = Measured;

    async fn next(&mut self) -> Emission<Measured> {
        match self {
            Stream::Samples(samples) => samples.next().await,
            Stream::Columns(columns) => columns.next().await,
        }
    }
}

pub(super) fn unread(error: DatabaseError) -> Failure {
    Failure::new(Kind::IoFailed, format!("the history of metrics cannot be read: {error}"))
        .hint(Hint::run("see how it is kept", ["llamactl", "daemon", "status"]))
}

/// Which series are asked for, and of what.
async fn wanted(
    app: &App,
    series: &[impl std::ops::Deref<Target = str>],
    models: &[Name],
    gpus: &[Short],
    stat: Stat,
) -> Result<Wanted, Failure> {
    let words: Vec<&str> = series.iter().map(|word| &**word).collect();
    let named = select(&words)?;
    let kept: Vec<&Series> =
        named.iter().copied().filter(|series| series.keep == Keep::History).collect();
    if kept.is_empty() {
        let name = named.first().map_or("", |series| series.name);
        return Err(Failure::new(Kind::InvalidValue, format!("{name} is not kept"))
            .hint(Hint::run("see it as it is now", ["llamactl", "metrics", name])));
    }
    let has_stat: Vec<&Series> =
        kept.iter().copied().filter(|series| stat.is_of(series.kind)).collect();
    if has_stat.is_empty() {
        let (name, word) = (kept.first().map_or("", |series| series.name), stat.as_str());
        return Err(Failure::new(Kind::InvalidValue, format!("{name} has no {word}"))
            .hint("sum is of counters, min of gauges; mean, max, last and count are of both"));
    }
    let place = |series: &&Series| SERIES.iter().position(|it| it.name == series.name);
    let mut wanted = Wanted {
        series: has_stat.iter().filter_map(place).collect(),
        only_of_these: series.is_empty() && !(models.is_empty() && gpus.is_empty()),
        ..Wanted::default()
    };
    for name in models {
        wanted.models.push(match app.registry.model(name).await {
            Ok(model) => model.id.to_string(),
            // What was removed still has its history, by its id.
            Err(_) if name.parse::<i64>().is_ok() => name.0.clone(),
            Err(error) => return Err(error.into()),
        });
    }
    if !gpus.is_empty() {
        let sample = app.metrics.latest().await.map_err(sampling_stopped)?;
        for gpu in gpus {
            let there = sample.gpus.iter().flatten().find(|it| it.index.to_string() == **gpu);
            wanted.gpus.push(there.map_or_else(|| gpu.0.clone(), |it| it.uuid.clone()));
        }
    }
    Ok(wanted)
}

/// What people call what was measured.
pub(super) struct AllLabels {
    registry: crate::store::registry::Registry,
    metrics: crate::metrics::Metrics,
    known: BTreeMap<(Scope, Arc<str>), Labels>,
}

impl AllLabels {
    pub(super) fn new(app: &App) -> AllLabels {
        let (registry, metrics) = (app.registry.clone(), app.metrics.clone());
        AllLabels { registry, metrics, known: BTreeMap::new() }
    }

    /// An answer's steps in a range, as columns.
    pub(super) async fn columns(&mut self, answer: &Answer, range: Range<usize>) -> MetricsColumns {
        let (start_ms, step_ms) = answer.grid();
        let begin = i64::try_from(range.start).unwrap_or(0).saturating_mul(step_ms);
        let mut series = Vec::new();
        for (column, values) in answer.columns(range.clone()) {
            let labels = self.of(&column).await;
            let Series { name, unit, kind, .. } = column.series;
            let (unit, kind) = (*unit, *kind);
            series.push(MetricsColumn { name: (*name).to_owned(), unit, kind, labels, values });
        }
        MetricsColumns {
            start_at_ms: start_ms + begin,
            step_ms: step_ms.unsigned_abs(),
            count: range.len() as u64,
            tier: answer.tier,
            complete_until_ms: answer.last_ms.unwrap_or(start_ms),
            next: answer.next_ms,
            cursor: answer.last_key.map(|at| at.to_string()),
            series,
        }
    }

    async fn of(&mut self, column: &Column) -> Labels {
        let place = (column.series.scope(), Arc::clone(&column.instance));
        if let Some(known) = self.known.get(&place) {
            return known.clone();
        }
        let id = &*column.instance;
        let labels = match place.0 {
            Scope::Host | Scope::Daemon => Labels::of_mount_point(id),
            Scope::Gpu => {
                let sample = self.metrics.latest().await.ok();
                let gpus = sample.iter().flat_map(|it| it.gpus.iter().flatten());
                let index = gpus.filter(|it| it.uuid == id).map(|it| it.index.to_string()).next();
                Labels { gpu: Some(index.unwrap_or_else(|| id.to_owned())), ..Labels::default() }
            }
            Scope::Server | Scope::Model => {
                let model_id = id.parse().ok();
                let model = match model_id {
                    Some(model_id) => self.registry.model_by_id(model_id).await.ok().flatten(),
                    None => None,
                };
                let name = model.map_or_else(|| format!("removed:{id}"), |model| model.name);
                Labels { model: Some(name), model_id, ..Labels::default() }
            }
        };
        self.known.insert(place, labels.clone());
        labels
    }
}
