//! `llamactl metrics [SERIES…]`

use super::{metrics_history, metrics_overview};
use crate::args::more;
use crate::complete::{model_names, series};
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::Outcome;
use crate::follow;
use crate::output::Output;
use crate::output::rows::Heading;
use crate::output::styled::{DIM, Styled};
use crate::output::table::{Cell, Column, Table};
use crate::output::time::{Clock, parse_duration, parse_moment};
use crate::output::units::{self, UNKNOWN};
use crate::pages;
use crate::resume::{Feed, News};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use llamactl_protocol::daemon::DaemonStatus;
use llamactl_protocol::metrics::{
    Labels, Measured, MetricsFollow, MetricsSample, Reading, Sample, Stat,
};
use llamactl_protocol::model::ModelShow;
use llamactl_protocol::series::{
    Keep, SERIES, Scope, Series, SeriesKind, of_name, prometheus, select,
};
use llamactl_protocol::stream::{Item, Missed};
use llamactl_protocol::totals::ModelSample;
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::pin::pin;
use std::time::Duration;

/// Show metrics of the machine, GPUs and servers
///
/// The latest sample (at a terminal what one looks at first, with --full every series), with -f each as it is taken, with --since what was measured before: each second
/// of a day, each minute of a month, each hour of a year. SERIES is the name of a series, or of all of a
/// scope: host, gpu, model, server, daemon. A counter is shown as its growth per second, but what a model
/// did over all its runs as it stands. What is not known is `-`, in JSON null; it is never 0.
#[derive(Args, Debug, Default)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = more!(
        "llamactl metrics",
        "llamactl metrics host 'gpu.*' --gpu 0",
        "llamactl metrics server.tokens_generated --model qwen3 -f",
        "llamactl metrics -f host.cpu_busy_ratio --json | jq -c .data",
        "llamactl metrics server.tokens_generated --since 1d --step 1h --stat sum",
        "llamactl metrics 'gpu.*' --since 2026-01-31 --csv > gpu.csv",
        "llamactl metrics -f --since 10m --interval 10s",
        "llamactl metrics host.cpu_busy_ratio gpu --since 6h --plot",
        "llamactl metrics --prometheus > llamactl.tmp && mv llamactl.tmp llamactl.prom",
        "llamactl metrics series";
        "0 done, 3 no such model, 5 no such series, 6 daemon unreachable, 130 interrupted"
    )
)]
pub(crate) struct Metrics {
    /// Series, by name or scope
    #[arg(value_name = "SERIES", add = series())]
    pub(super) series: Vec<String>,
    /// Only of the server of this model; several times for more
    #[arg(long = "model", value_name = "NAME", add = model_names())]
    pub(super) models: Vec<String>,
    /// Only of this GPU, by number or UUID; several times for more
    #[arg(long = "gpu", value_name = "GPU")]
    pub(super) gpus: Vec<String>,
    /// Go on with each new sample
    #[arg(long, short)]
    pub(super) follow: bool,
    /// What was measured since this time: 1h (ago), 2026-01-31 12:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(super) since: Option<i64>,
    /// What was measured until this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment, conflicts_with = "follow")]
    pub(super) until: Option<i64>,
    /// In steps of this length: 10s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) step: Option<Duration>,
    /// Which number of a step; sum is of counters alone
    #[arg(long, value_parser = PossibleValuesParser::new(Stat::ALL.iter().map(|(_, word)| *word)).map(stat))]
    pub(super) stat: Option<Stat>,
    /// With -f: a row for each so long, the mean of it
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "follow", conflicts_with = "step")]
    pub(super) interval: Option<Duration>,
    /// The latest sample as Prometheus reads it: for curl, or a file of node_exporter's textfile collector
    #[arg(long, conflicts_with_all = ["follow", "json", "series", "models", "gpus", "since", "until", "step", "stat", "csv"])]
    prometheus: bool,
    /// Past steps as CSV; what is not known is empty
    #[arg(long, conflicts_with_all = ["follow", "json"])]
    pub(super) csv: bool,
    /// Draw past steps as lines; where nothing was measured there is none
    #[arg(long, conflicts_with_all = ["json", "csv", "prometheus"])]
    pub(super) plot: bool,
    #[command(subcommand)]
    what: Option<What>,
}

/// `llamactl metrics …`
#[derive(Subcommand, Debug)]
enum What {
    /// List all series: name, unit, what each tells
    #[command(after_help = more!(
        "llamactl metrics series",
        "llamactl metrics series | grep watts";
        "0 done, 6 daemon unreachable"
    ))]
    Series,
}

/// Prints the series there are, the latest sample, or each as it is taken.
pub(crate) async fn run(output: &mut Output, reach: &Reach, mut args: Metrics) -> Outcome {
    if let Some(What::Series) = args.what {
        return list(output);
    }
    let mut wanted = Wanted::new(&args)?;
    if args.plot {
        if args.follow {
            return Err(no_live_plot().into());
        }
        if args.series.is_empty() {
            args.series = PLOTTED.map(str::to_owned).into();
        }
    }
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let is_past = args.since.or(args.until).is_some() || args.step.or(args.interval).is_some();
    if is_past || args.stat.is_some() || args.csv || args.plot {
        return metrics_history::run(output, daemon, args).await;
    }
    wanted.find_models(&daemon).await?;
    if args.follow {
        wanted.check_live()?;
        return live(output, daemon, wanted).await;
    }
    let sample = daemon.call(&MetricsSample {}).await?;
    if args.prometheus {
        let models = pages::model_samples(&daemon).await?;
        let figures = (&daemon.call(&DaemonStatus {}).await?).into();
        return output.piece(&prometheus(&sample, &models, &figures)).and_then(|()| output.flush());
    }
    if output.json && wanted.everything {
        return output.json(&sample);
    }
    let models = match wanted.are_models_named() {
        true => pages::model_samples(&daemon).await?,
        false => Vec::new(),
    };
    let readings = wanted.readings(&sample, &models);
    if readings.is_empty() {
        output.note("nothing of that is measured now; --since 1h shows what was");
        return Ok(());
    }
    if output.json {
        return output.json_lines(&readings);
    }
    if output.quiet {
        return output.names(readings.iter().map(full_name));
    }
    if wanted.everything && output.at_terminal() && !output.look.full {
        return metrics_overview::show(output, &sample);
    }
    output.table(&table(&readings, output.at_terminal()))
}

/// What is drawn where nothing is named.
const PLOTTED: [&str; 5] = [
    "host.cpu_busy_ratio",
    "host.memory_available_bytes",
    "gpu.busy_ratio",
    "gpu.memory_used_bytes",
    "server.tokens_generated",
];

fn no_live_plot() -> Failure {
    Failure::new(Kind::Usage, "--plot draws what was measured, and does not follow")
        .hint(Hint::run("lines that move", ["llamactl", "top"]))
}

fn stat(word: String) -> Stat {
    Stat::ALL.iter().find(|(_, it)| *it == word).map(|(stat, _)| *stat).unwrap_or_default()
}

/// What was asked for.
struct Wanted {
    /// No series, no model, no GPU: all there is.
    everything: bool,
    series: Vec<&'static Series>,
    models: Vec<String>,
    gpus: Vec<String>,
}

impl Wanted {
    fn new(args: &Metrics) -> Result<Wanted, Failure> {
        let Metrics { series, models, gpus, .. } = args;
        let everything = series.is_empty() && models.is_empty() && gpus.is_empty();
        let (models, gpus) = (models.clone(), gpus.clone());
        Ok(Wanted { everything, series: select(series)?, models, gpus })
    }

    /// Replaces what models were called by their names: an alias, an id.
    async fn find_models(&mut self, daemon: &Daemon) -> Result<(), Failure> {
        for model in &mut self.models {
            let show = ModelShow { model: model.clone().into(), ..ModelShow::default() };
            *model = daemon.call(&show).await?.model.name;
        }
        Ok(())
    }

    /// Whether what models did over all their runs is asked for: there may be many, so not unasked.
    fn are_models_named(&self) -> bool {
        let is_named = !self.models.is_empty() || self.series.len() < SERIES.len();
        is_named && self.series.iter().any(|series| series.scope() == Scope::Model)
    }

    /// Refuses what is in no sample.
    fn check_live(&self) -> Result<(), Failure> {
        match self.series.iter().all(|series| series.scope() == Scope::Model) {
            true => {
                let name = self.series.first().map_or("", |series| series.name);
                let message = format!("{name} is counted over runs and not sampled");
                let failure = Failure::new(Kind::InvalidValue, message)
                    .hint(Hint::run("see it as it is now", ["llamactl", "metrics", name]));
                let is_kept = self.series.iter().all(|series| series.keep == Keep::History);
                Err(match is_kept {
                    true => failure.hint(Hint::run(
                        "follow what is kept of it",
                        ["llamactl", "metrics", name, "-f", "--since", "1m"],
                    )),
                    false => failure,
                })
            }
            false => Ok(()),
        }
    }

    /// The readings of a sample, in the order of the catalogue, and behind them those of models. A model
    /// and a GPU choose among what has one, and where nothing else was named leave the rest out.
    fn readings(&self, sample: &Sample, models: &[ModelSample]) -> Vec<Reading> {
        let chosen = !self.models.is_empty() || !self.gpus.is_empty();
        let uuid = |gpu: &str| {
            let there = sample.gpus.iter().flatten().find(|it| it.index.to_string() == gpu);
            there.map(|it| it.uuid.clone())
        };
        let mut readings = sample.readings(&self.series);
        for series in self.series.iter().filter(|series| series.scope() == Scope::Model) {
            readings.extend(models.iter().map(|model| Reading {
                series: series.name.to_owned(),
                labels: Labels {
                    model: Some(model.model.clone()),
                    model_id: Some(model.model_id),
                    ..Labels::default()
                },
                value: series.of_model(model),
            }));
        }
        let all = self.series.len() == SERIES.len();
        readings.retain(|reading| match (&reading.labels.model, &reading.labels.gpu) {
            (Some(model), _) if !self.models.is_empty() => self.models.contains(model),
            (_, Some(gpu)) if !self.gpus.is_empty() => {
                let uuid = uuid(gpu);
                self.gpus.iter().any(|wanted| wanted == gpu || Some(wanted) == uuid.as_ref())
            }
            _ => !(chosen && all),
        });
        readings
    }
}

fn list(output: &mut Output) -> Outcome {
    if output.json {
        let lines: Vec<Value> = SERIES
            .iter()
            .map(|it| json!({ "series": it.name, "kind": it.kind, "unit": it.unit, "keep": it.keep, "help": it.help }))
            .collect();
        return output.json_lines(&lines);
    }
    if output.quiet {
        return output.names(SERIES.iter().map(|series| series.name));
    }
    let mut table = Table::new([
        Column::name("SERIES"),
        Column::word("UNIT", 0),
        Column::prose("WHAT IT TELLS", 0),
    ]);
    for series in SERIES {
        let is_rate = series.kind == SeriesKind::Counter && series.scope() != Scope::Model;
        let per_second = if is_rate { "/s" } else { "" };
        let unit = format!("{}{per_second}", series.unit.as_str());
        table.row([Cell::from(series.name), Cell::from(unit), Cell::from(series.help)]);
    }
    output.table(&table)
}

fn table(readings: &[Reading], humane: bool) -> Table {
    let mut table = Table::new([Column::name("SERIES"), Column::number("VALUE", 0)]);
    for reading in readings {
        table.row([Cell::from(full_name(reading)), Cell::from(value(reading, humane))]);
    }
    table
}

/// `server.slots{model=qwen3}`
fn full_name(reading: &Reading) -> String {
    format!("{}{}", reading.series, reading.labels.text())
}

/// A value: with its unit for a person, as a bare number for a program.
pub(super) fn value(reading: &Reading, humane: bool) -> String {
    match (reading.value, of_name(&reading.series)) {
        (None, _) => UNKNOWN.to_owned(),
        (Some(value), Some(series)) if humane && series.scope() == Scope::Model => {
            units::of_amount(series.unit, value)
        }
        (Some(value), Some(series)) if humane => units::of_series(series, value),
        (Some(value), _) => value.to_string(),
    }
}

async fn live(output: &mut Output, daemon: Daemon, wanted: Wanted) -> Outcome {
    let mut feed = Feed::open(&daemon, MetricsFollow::default()).await?;
    drop(daemon);
    let mut live = Live { wanted, clock: Clock::local(), heading: Heading::default() };
    let mut halt = pin!(follow::halt());
    let (mut last_at_ms, mut is_gap) = (None, false);
    loop {
        let news = follow::unless_halted(output, feed.next(), &mut halt).await??;
        is_gap |= matches!(news, News::Resumed { .. });
        let Some((raw, item)) = news.told(output) else { continue };
        let at_ms = match item.data() {
            Some(Measured::Sample(sample)) => Some(sample.at_ms),
            _ => None,
        };
        if let (Some(from_ms), Some(to_ms), true) = (last_at_ms, at_ms, is_gap) {
            live.gap(output, from_ms, to_ms)?;
        }
        is_gap = false;
        last_at_ms = at_ms.or(last_at_ms);
        if output.json {
            match narrowed(&raw, &live.wanted) {
                Some(narrow) => output.json_unflushed(&narrow)?,
                None => output.json_unflushed(&raw)?,
            }
        }
        match item {
            Item::End { data, .. } => {
                output.flush()?;
                return follow::conclude(data);
            }
            _ if output.json => {}
            Item::Snapshot { data, .. } | Item::Change { data, .. } => {
                data.into_sample().map_or(Ok(()), |sample| live.print(output, &sample))?;
            }
            Item::Missed { data, .. } => output.aside(follow::missed(data)),
        }
    }
}

/// Samples as they come, a row for each, under a heading that is said again when it changes.
struct Live {
    wanted: Wanted,
    clock: Clock,
    heading: Heading,
}

impl Live {
    /// Says that no daemon measured anything between two samples.
    fn gap(&self, output: &mut Output, from_ms: i64, to_ms: i64) -> Outcome {
        if output.json {
            return output.json_unflushed(&Item::<()>::Missed {
                at_ms: to_ms,
                cursor: None,
                data: Missed { items: None, bytes: None },
            });
        }
        let (from, to) = (self.clock.time(from_ms), self.clock.time(to_ms));
        output.flush()?;
        output.aside(format!("… nothing was measured between {from} and {to}: no daemon ran"));
        Ok(())
    }

    fn print(&mut self, output: &mut Output, sample: &Sample) -> Outcome {
        let cells = if self.wanted.everything {
            summary(sample)
        } else {
            let readings = self.wanted.readings(sample, &[]);
            readings.iter().map(|it| (full_name(it), value(it, output.at_terminal()))).collect()
        };
        let names: Vec<String> = cells.iter().map(|(name, _)| name.clone()).collect();
        self.heading.tell(output, "TIME    ", names)?;
        let values = self.heading.line(cells.iter().map(|(_, value)| value.as_str()));
        let time = self.clock.time(sample.at_ms);
        output.line_unflushed(Styled::new().with(DIM, time).plain(values))
    }
}

/// An item of the stream with no more than the chosen readings in its data; items without a
/// sample, and all of them when nothing was chosen, stay as they came.
fn narrowed(item: &RawValue, wanted: &Wanted) -> Option<Value> {
    if wanted.everything {
        return None;
    }
    let Ok(mut item) = serde_json::from_str::<Value>(item.get()) else { return None };
    let sample: Sample = serde_json::from_value(item.get("data")?.clone()).ok()?;
    let readings = wanted.readings(&sample, &[]);
    let data: serde_json::Map<String, Value> =
        readings.iter().map(|it| (full_name(it), json!(it.value))).collect();
    *item.get_mut("data")? = Value::Object(data);
    Some(item)
}

/// What one looks at first, as named columns.
fn summary(sample: &Sample) -> Vec<(String, String)> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let host = &sample.host;
    let used = host
        .memory_total_bytes
        .zip(host.memory_available_bytes)
        .map(|(total, available)| units::bytes(total.saturating_sub(available)));
    let mut cells = vec![
        ("CPU".to_owned(), or_unknown(host.cpu_busy_ratio.map(units::percent))),
        ("MEM".to_owned(), or_unknown(used)),
    ];
    for gpu in sample.gpus.iter().flatten() {
        let index = gpu.index;
        cells.push((format!("GPU{index}"), or_unknown(gpu.busy_ratio.map(units::percent))));
        cells
            .push((format!("GPU{index} MEM"), or_unknown(gpu.memory_used_bytes.map(units::bytes))));
    }
    for server in &sample.servers {
        let llama = server.llama.as_ref();
        let speed = llama.and_then(|llama| llama.generated_tokens_per_second).map(units::rate);
        let slots = llama.and_then(|llama| Some((llama.slots_busy?, llama.slots?)));
        let slots = slots.map(|(busy, all)| format!("{busy}/{all}"));
        cells.push((format!("{} TOK/S", server.model), or_unknown(speed)));
        cells.push((format!("{} SLOTS", server.model), or_unknown(slots)));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    fn wanted(series: &[&str], models: &[&str], gpus: &[&str]) -> Result<Wanted, Failure> {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (series, models, gpus) = (owned(series), owned(models), owned(gpus));
        Wanted::new(&Metrics { series, models, gpus, ..Metrics::default() })
    }

    fn names(series: &[&str], models: &[&str], gpus: &[&str]) -> Vec<String> {
        let mut sample = scene::sample();
        let mut tenth = scene::gpu();
        (tenth.index, tenth.uuid) = (10, "GPU-10".to_owned());
        let mut first = tenth.clone();
        (first.index, first.uuid) = (1, "GPU-1".to_owned());
        sample.gpus = Some(vec![first, tenth]);
        let mut second = sample.servers[0].clone();
        second.model = "qwen3-8b.2".to_owned();
        sample.servers.push(second);
        wanted(series, models, gpus).unwrap().readings(&sample, &[]).iter().map(full_name).collect()
    }

    #[test]
    fn one_gpu_and_one_model_are_picked_and_none_whose_name_begins_so() {
        assert_eq!(names(&["gpu.busy_ratio"], &[], &["1"]), ["gpu.busy_ratio{gpu=1}"]);
        assert_eq!(names(&["gpu.busy_ratio"], &[], &["GPU-10"]), ["gpu.busy_ratio{gpu=10}"]);
        let slots = ["server.slots{model=qwen3-8b}"];
        assert_eq!(names(&["server.slots"], &["qwen3-8b"], &[]), slots);
        assert_eq!(names(&["server.slots"], &[], &[]).len(), 2);
        assert!(names(&[], &[], &["1"]).iter().all(|name| name.ends_with("{gpu=1}")));
        assert_eq!(names(&["host.load1"], &["qwen3-8b"], &[]), ["host.load1"]);
        assert_eq!(names(&[], &[], &[]).len(), names(&["*"], &[], &[]).len());
    }

    #[test]
    fn chosen_series_go_by_name_in_json() {
        let mut sample = scene::sample();
        sample.host.load_1m = None;
        let item = json!({ "kind": "snapshot", "at_ms": 1, "cursor": "c", "data": sample });
        let item = RawValue::from_string(item.to_string()).unwrap();
        let chosen = wanted(&["host.load1", "server.slots"], &[], &[]).unwrap();
        let narrow = narrowed(&item, &chosen).unwrap();
        let expected = json!({ "host.load1": null, "server.slots{model=qwen3-8b}": 4.0 });
        assert_eq!(narrow["data"], expected);
        assert_eq!((&narrow["kind"], &narrow["cursor"]), (&json!("snapshot"), &json!("c")));
        let missed = RawValue::from_string(json!({ "kind": "missed", "data": {} }).to_string());
        assert_eq!(narrowed(&missed.unwrap(), &chosen), None);
    }

    #[test]
    fn every_series() {
        let readings = wanted(&[], &[], &[]).unwrap().readings(&scene::sample(), &[]);
        assert_screen("metrics", |output| output.table(&table(&readings, output.at_terminal())));
        assert_screen("metrics-series", list);
    }

    #[test]
    fn one_sample_after_another() {
        let mut later = scene::sample();
        later.at_ms += 1000;
        let mut stopped = later.clone();
        stopped.servers.clear();
        let samples = [scene::sample(), later, stopped];
        for (name, series) in [
            ("metrics-follow", vec![]),
            ("metrics-follow-series", vec!["host.cpu_busy_ratio", "gpu.memory_used_bytes"]),
        ] {
            assert_screen(name, |output| {
                let wanted = wanted(&series, &[], &[])?;
                let mut live = Live { wanted, clock: Clock::utc(), heading: Heading::default() };
                samples.iter().try_for_each(|sample| live.print(output, sample))
            });
        }
    }

    #[test]
    fn a_series_nobody_knows() {
        let unknown = || wanted(&["gpu.0"], &[], &[]).err().unwrap();
        assert_screen("metrics-unknown", |output| scene::told(output, unknown()));
    }
}
