//! `llamactl metrics [SERIES…]`

use crate::args::more;
use crate::complete::series;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::Outcome;
use crate::follow;
use crate::output::Output;
use crate::output::styled::{BOLD, DIM, Styled};
use crate::output::table::{Align, Cell, Column, Table};
use crate::output::time::Clock;
use crate::output::units::{self, UNKNOWN};
use crate::resume::{Feed, News};
use clap::{Args, Subcommand};
use llamactl_protocol::metrics::{MetricsFollow, MetricsSample, Reading, Sample};
use llamactl_protocol::stream::{Item, Missed};
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::pin::pin;

/// Show measurements: the machine, GPUs, servers
///
/// The latest sample, or with -f each as it is taken. SERIES picks series by name or by the
/// beginning of their names. What is not known is `-`, in JSON null; it is never 0.
#[derive(Args, Debug)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = more!(
        "llamactl metrics",
        "llamactl metrics host gpu.0",
        "llamactl metrics -f",
        "llamactl metrics -f host.cpu_busy_ratio --json | jq -c .data",
        "llamactl metrics series";
        "0 done  5 no such series  6 daemon unreachable  130 interrupted"
    )
)]
pub(crate) struct Metrics {
    /// Series, by name or the beginning of their names
    #[arg(value_name = "SERIES", add = series())]
    series: Vec<String>,
    /// Go on with each new sample
    #[arg(long, short)]
    follow: bool,
    #[command(subcommand)]
    what: Option<What>,
}

/// `llamactl metrics …`
#[derive(Subcommand, Debug)]
enum What {
    /// List the names of all series
    #[command(after_help = more!(
        "llamactl metrics series",
        "llamactl metrics series | grep watts";
        "0 done  6 daemon unreachable"
    ))]
    Series,
}

/// Prints the names of the series, the latest sample, or each as it is taken.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Metrics) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    match args.what {
        Some(What::Series) => {
            let readings = daemon.call(&MetricsSample {}).await?.readings();
            if output.json {
                let names: Vec<Value> =
                    readings.iter().map(|reading| json!({ "series": reading.series })).collect();
                return output.json_lines(&names);
            }
            output.names(readings.iter().map(|reading| &reading.series))
        }
        None if args.follow => live(output, daemon, args.series).await,
        None => latest(output, &daemon, &args.series).await,
    }
}

async fn latest(output: &mut Output, daemon: &Daemon, wanted: &[String]) -> Outcome {
    let sample = daemon.call(&MetricsSample {}).await?;
    if output.json && wanted.is_empty() {
        return output.json(&sample);
    }
    let readings = pick(sample.readings(), wanted)?;
    if output.json {
        return output.json_lines(&readings);
    }
    if output.quiet {
        return output.names(readings.iter().map(|reading| &reading.series));
    }
    output.table(&table(&readings, output.terminal))
}

fn table(readings: &[Reading], humane: bool) -> Table {
    let mut table = Table::new([Column("SERIES", Align::Left), Column("VALUE", Align::Right)]);
    for reading in readings {
        table.row([Cell::from(&reading.series), Cell::from(value(reading, humane))]);
    }
    table
}

/// A value: with its unit for a person, as a bare number for a program.
fn value(reading: &Reading, humane: bool) -> String {
    match reading.value {
        None => UNKNOWN.to_owned(),
        Some(value) if humane => units::reading(&reading.series, value),
        Some(value) => value.to_string(),
    }
}

/// The readings of these series, in the order they were asked for; all when none was.
fn pick(readings: Vec<Reading>, wanted: &[String]) -> Result<Vec<Reading>, Failure> {
    if wanted.is_empty() {
        return Ok(readings);
    }
    let mut picked: Vec<Reading> = Vec::new();
    for name in wanted {
        let before = picked.len();
        for reading in &readings {
            let known = picked.iter().any(|there| there.series == reading.series);
            if matches(&reading.series, name) && !known {
                picked.push(reading.clone());
            }
        }
        if picked.len() == before && !readings.iter().any(|r| matches(&r.series, name)) {
            return Err(Failure::new(Kind::InvalidValue, format!("there is no series {name}"))
                .hint(Hint::run(
                    "a server has some while it runs; see which there are",
                    ["llamactl", "metrics", "series"],
                ))
                .details(json!({ "series": name })));
        }
    }
    Ok(picked)
}

fn matches(series: &str, wanted: &str) -> bool {
    series.starts_with(wanted)
}

async fn live(output: &mut Output, daemon: Daemon, wanted: Vec<String>) -> Outcome {
    if !wanted.is_empty() {
        // A name that no series has is refused now, not waited for.
        pick(daemon.call(&MetricsSample {}).await?.readings(), &wanted)?;
    }
    let mut feed = Feed::open(&daemon, MetricsFollow {}).await?;
    drop(daemon);
    let mut live = Live { wanted, clock: Clock::local(), heading: Vec::new() };
    let mut halt = pin!(follow::halt());
    let (mut last_at_ms, mut is_gap) = (None, false);
    loop {
        let news = follow::unless_halted(output, feed.next(), &mut halt).await??;
        is_gap |= matches!(news, News::Resumed { .. });
        let Some((raw, item)) = news.told(output) else { continue };
        if let (Some(from_ms), Some(sample), true) = (last_at_ms, item.data(), is_gap) {
            live.gap(output, from_ms, sample.at_ms)?;
        }
        is_gap = false;
        last_at_ms = item.data().map(|sample| sample.at_ms).or(last_at_ms);
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
            Item::Snapshot { data, .. } | Item::Change { data, .. } => live.print(output, &data)?,
            Item::Missed { data, .. } => output.aside(follow::missed(data)),
        }
    }
}

/// Samples as they come, a row for each, under a heading that is said again when it changes.
struct Live {
    wanted: Vec<String>,
    clock: Clock,
    heading: Vec<String>,
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
        let cells = if self.wanted.is_empty() {
            summary(sample)
        } else {
            chosen(sample, &self.wanted, output.terminal)
        };
        let names: Vec<String> = cells.iter().map(|(name, _)| name.clone()).collect();
        if names != self.heading {
            let line = row("TIME", names.iter().map(|name| (name.as_str(), name.as_str())));
            output.line_unflushed(Styled::new().with(BOLD, line))?;
            self.heading = names;
        }
        let cells = cells.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let line = row("", cells);
        let time = self.clock.time(sample.at_ms);
        output.line_unflushed(Styled::new().with(DIM, time).plain(line.get(8..).unwrap_or("")))
    }
}

/// An item of the stream with no more than the chosen readings in its data; items without a
/// sample, and all of them when nothing was chosen, stay as they came.
fn narrowed(item: &RawValue, wanted: &[String]) -> Option<Value> {
    if wanted.is_empty() {
        return None;
    }
    let Ok(mut item) = serde_json::from_str::<Value>(item.get()) else { return None };
    let sample: Sample = serde_json::from_value(item.get("data")?.clone()).ok()?;
    let readings = sample.readings().into_iter();
    let data: serde_json::Map<String, Value> = readings
        .filter(|reading| wanted.iter().any(|name| matches(&reading.series, name)))
        .map(|reading| (reading.series, json!(reading.value)))
        .collect();
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

fn chosen(sample: &Sample, wanted: &[String], humane: bool) -> Vec<(String, String)> {
    sample
        .readings()
        .iter()
        .filter(|reading| wanted.iter().any(|name| matches(&reading.series, name)))
        .map(|reading| (reading.series.clone(), value(reading, humane)))
        .collect()
}

/// A line of right-aligned columns, each as wide as its name asks.
fn row<'a>(first: &str, cells: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut line = format!("{first:<8}");
    for (name, value) in cells {
        let width = name.chars().count().max(9);
        line.push_str(&format!("  {value:>width$}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::metrics::{Host, ProcessSample};

    fn sample() -> Sample {
        Sample {
            seq: 1,
            at_ms: 0,
            host: Host {
                cpu_busy_ratio: Some(0.25),
                memory_total_bytes: Some(4 << 30),
                memory_available_bytes: Some(1 << 30),
                ..Host::default()
            },
            gpus: None,
            servers: vec![],
            daemon: ProcessSample::default(),
        }
    }

    fn names(wanted: &[&str]) -> Result<Vec<String>, Kind> {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.into()).collect();
        pick(sample().readings(), &wanted)
            .map(|readings| readings.into_iter().map(|reading| reading.series).collect())
            .map_err(|failure| failure.kind)
    }

    #[test]
    fn series_are_picked_by_name_or_beginning() {
        assert_eq!(names(&["host.load_1m"]).unwrap(), ["host.load_1m"]);
        assert_eq!(names(&["host.load_1"]).unwrap().len(), 2);
        assert_eq!(names(&["host.load_1m", "host.load_"]).unwrap().len(), 3);
        assert_eq!(names(&["nonsense"]), Err(Kind::InvalidValue));
        assert_eq!(names(&[]).unwrap().len(), sample().readings().len());
    }

    #[test]
    fn chosen_series_go_by_name_in_json() {
        let item = json!({ "kind": "snapshot", "at_ms": 1, "cursor": "c", "data": sample() });
        let item = RawValue::from_string(item.to_string()).unwrap();
        let narrow = narrowed(&item, &["host.cpu_busy".into(), "host.load_1m".into()]).unwrap();
        assert_eq!(narrow["data"], json!({ "host.cpu_busy_ratio": 0.25, "host.load_1m": null }));
        assert_eq!((&narrow["kind"], &narrow["cursor"]), (&json!("snapshot"), &json!("c")));
        let missed = RawValue::from_string(json!({ "kind": "missed", "data": {} }).to_string());
        assert_eq!(narrowed(&missed.unwrap(), &["host".into()]), None);
    }

    #[test]
    fn every_series() {
        let readings = scene::sample().readings();
        assert_screen("metrics", |output| output.table(&table(&readings, output.terminal)));
    }

    #[test]
    fn one_sample_after_another() {
        let mut later = scene::sample();
        later.at_ms += 1000;
        let mut stopped = later.clone();
        stopped.servers.clear();
        let samples = [scene::sample(), later, stopped];
        for (name, wanted) in [
            ("metrics-follow", vec![]),
            ("metrics-follow-series", vec!["host.cpu_busy_ratio".into(), "gpu.0.memory".into()]),
        ] {
            assert_screen(name, |output| {
                let wanted = wanted.clone();
                let mut live = Live { wanted, clock: Clock::utc(), heading: vec![] };
                samples.iter().try_for_each(|sample| live.print(output, sample))
            });
        }
    }

    #[test]
    fn a_series_nobody_knows() {
        let unknown = || pick(vec![], &["host.nonsense".to_owned()]).unwrap_err();
        assert_screen("metrics-unknown", |output| scene::told(output, unknown()));
    }
}
