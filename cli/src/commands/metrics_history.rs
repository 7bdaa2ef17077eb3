//! `llamactl metrics --since …`: what was measured before, and what follows it.
//!
//! ```text
//!   metrics.query, page after page ─▶ steps ─▶ table, JSON lines, CSV
//!          ╰ -f: the steps that are over ─▶ metrics.follow from where they end: none twice
//! ```

use super::metrics::Metrics;
use crate::connection::Daemon;
use crate::exit::Outcome;
use crate::follow;
use crate::output::Output;
use crate::output::look::{Look, locale_is_utf8};
use crate::output::rows::Heading;
use crate::output::styled::{DIM, Styled};
use crate::output::time::{Clock, now_ms};
use crate::output::units::{self, UNKNOWN};
use crate::plot;
use crate::resume::Feed;
use llamactl_protocol::metrics::{
    Measured, MetricsColumn, MetricsColumns, MetricsFollow, MetricsQuery, Stat,
};
use llamactl_protocol::stream::Item;
use llamactl_protocol::{Failure, Hint, Kind};
use serde_json::{Map, Value, json};
use std::pin::pin;
use std::time::Duration;

/// Steps longer than this are shown with their day.
const DAY_MS: i64 = 86_400_000;
/// What is said of a time without a value.
const NOTHING: &str = "nothing was measured of that in this time";
/// A row stands for this long before it.
const SAMPLE_MS: i64 = 1000;

/// Shows what was measured, and goes on where that is asked for.
pub(super) async fn run(output: &mut Output, daemon: Daemon, args: Metrics) -> Outcome {
    let stat = args.stat.unwrap_or_default();
    if args.follow && stat != Stat::Mean {
        let failure = Failure::new(Kind::InvalidValue, "what follows is the mean of each step");
        return Err(failure.hint(Hint::to("leave --stat out with -f")).into());
    }
    let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    let asked_ms = args.step.or(args.interval).map(ms);
    let now_ms = now_ms();
    let mut query = MetricsQuery {
        series: args.series.clone().into(),
        model: args.models.clone().into(),
        gpu: args.gpus.clone().into(),
        from_ms: args.since,
        until_ms: args.until,
        step_ms: asked_ms,
        stat,
        after: None,
    };
    // Only what is to come: the state now is told by the stream.
    let mut screen = Screen::new(output, stat, args.since.is_none_or(|it| now_ms - it < DAY_MS));
    if args.follow && args.since.is_none() {
        let follow = following(&query, asked_ms, None);
        return live(output, screen, Feed::open(&daemon, follow).await?).await;
    }
    let mut pages = Vec::new();
    loop {
        let page = daemon.call(&query).await?;
        if let Some(asked_ms) = asked_ms.filter(|it| *it < page.step_ms && pages.is_empty()) {
            let (asked, step) = (units::duration(asked_ms), units::duration(page.step_ms));
            output.note(format!("steps are {step} long: {asked} is not kept of that time"));
        }
        (query.after, query.step_ms) = (page.next, Some(page.step_ms));
        let is_last = page.next.is_none();
        pages.push(page);
        // Lines need no others to be told; a table and CSV have one heading.
        if is_last || output.json {
            let mut columns = joined(std::mem::take(&mut pages));
            if args.follow && is_last {
                columns.cut_unfinished();
            }
            if args.plot {
                return plotted(output, &columns, stat);
            }
            if columns.series.is_empty() && !args.follow && is_last {
                output.note(NOTHING);
            }
            screen.columns(output, &columns, args.csv)?;
            if is_last {
                if !args.follow {
                    return output.flush();
                }
                let end_ms = columns.start_at_ms + columns.length_ms();
                let follow = following(&query, Some(columns.step_ms), Some(end_ms));
                return live(output, screen, Feed::open(&daemon, follow).await?).await;
            }
        }
    }
}

fn plotted(output: &mut Output, columns: &MetricsColumns, stat: Stat) -> Outcome {
    if columns.series.is_empty() {
        output.note(NOTHING);
        return Ok(());
    }
    // A picture is of no use where its signs cannot be shown, in a pipe neither.
    let look = Look { unicode: locale_is_utf8(), ..output.look };
    output.lines(plot::panels(columns, stat, &Clock::local(), &look))
}

fn following(query: &MetricsQuery, step_ms: Option<u64>, from_ms: Option<i64>) -> MetricsFollow {
    MetricsFollow {
        series: query.series.clone(),
        model: query.model.clone(),
        gpu: query.gpu.clone(),
        interval_ms: step_ms.or(Some(1000)),
        from_ms,
        ..MetricsFollow::default()
    }
}

async fn live(output: &mut Output, mut screen: Screen, mut feed: Feed<MetricsFollow>) -> Outcome {
    let mut halt = pin!(follow::halt());
    loop {
        let news = follow::unless_halted(output, feed.next(), &mut halt).await??;
        let Some((_, item)) = news.told(output) else { continue };
        match item {
            Item::End { data, .. } => {
                output.flush()?;
                return follow::conclude(data);
            }
            Item::Missed { data, .. } => output.aside(follow::missed(data)),
            Item::Snapshot { data, .. } | Item::Change { data, .. } => match data {
                Measured::Columns(columns) => screen.columns(output, &columns, false)?,
                Measured::Row(row) => screen.row(output, row.at_ms, &row.values)?,
                Measured::Sample(_) => {}
            },
        }
    }
}

trait Steps {
    /// How long all steps are together.
    fn length_ms(&self) -> i64;
    /// Leaves out what may still change.
    fn cut_unfinished(&mut self);
}

impl Steps for MetricsColumns {
    fn length_ms(&self) -> i64 {
        i64::try_from(self.count.saturating_mul(self.step_ms)).unwrap_or(i64::MAX)
    }

    fn cut_unfinished(&mut self) {
        let known_ms = self.complete_until_ms + SAMPLE_MS - self.start_at_ms;
        let step_ms = i64::try_from(self.step_ms).unwrap_or(i64::MAX).max(1);
        let over = u64::try_from(known_ms.div_euclid(step_ms)).unwrap_or(0).min(self.count);
        self.count = over;
        let over = usize::try_from(over).unwrap_or(usize::MAX);
        self.series.iter_mut().for_each(|column| column.values.truncate(over));
    }
}

/// Pages behind each other as one; what a page does not have is not known in its time.
fn joined(pages: Vec<MetricsColumns>) -> MetricsColumns {
    let mut pages = pages.into_iter();
    let mut all = pages.next().unwrap_or_default();
    for page in pages {
        let count = |steps: u64| usize::try_from(steps).unwrap_or(usize::MAX);
        let (before, total) = (count(all.count), count(all.count + page.count));
        for column in page.series {
            let same =
                |it: &&mut MetricsColumn| it.name == column.name && it.labels == column.labels;
            if let Some(there) = all.series.iter_mut().find(same) {
                there.values.extend(column.values);
            } else {
                let mut values = vec![None; before];
                values.extend(column.values);
                all.series.push(MetricsColumn { values, ..column });
            }
        }
        all.series.iter_mut().for_each(|column| column.values.resize(total, None));
        all.count += page.count;
        all.complete_until_ms = page.complete_until_ms;
    }
    all
}

/// Steps as they are printed.
struct Screen {
    stat: Stat,
    clock: Clock,
    /// Times without a day.
    is_short: bool,
    humane: bool,
    /// The columns told last, their names first.
    columns: Vec<(String, MetricsColumn)>,
    step_ms: u64,
    heading: Heading,
    /// When the step that is printed next begins, if none is left out.
    expected_ms: Option<i64>,
    /// Since when nothing was measured.
    gap_ms: Option<i64>,
}

impl Screen {
    fn new(output: &Output, stat: Stat, is_short: bool) -> Screen {
        Screen {
            stat,
            clock: Clock::local(),
            is_short,
            humane: output.at_terminal(),
            columns: Vec::new(),
            step_ms: 0,
            heading: Heading::default(),
            expected_ms: None,
            gap_ms: None,
        }
    }

    fn columns(&mut self, output: &mut Output, columns: &MetricsColumns, csv: bool) -> Outcome {
        let named = |column: &MetricsColumn| {
            let name = format!("{}{}", column.name, column.labels.text());
            (name, MetricsColumn { values: Vec::new(), ..column.clone() })
        };
        self.columns = columns.series.iter().map(named).collect();
        self.step_ms = columns.step_ms;
        if csv {
            let names = self.columns.iter().map(|(name, _)| quoted(name));
            let line: Vec<String> = std::iter::once("time".to_owned()).chain(names).collect();
            output.line_unflushed(line.join(","))?;
        }
        let step_ms = i64::try_from(columns.step_ms).unwrap_or(i64::MAX);
        for step in 0..usize::try_from(columns.count).unwrap_or(0) {
            let offset = i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(step_ms);
            let at_ms = columns.start_at_ms.saturating_add(offset);
            let value = |it: &MetricsColumn| it.values.get(step).copied().flatten();
            let values: Vec<Option<f64>> = columns.series.iter().map(value).collect();
            if csv {
                let values =
                    values.iter().map(|it| it.map(|it| it.to_string()).unwrap_or_default());
                let line: Vec<String> = std::iter::once(utc(at_ms)).chain(values).collect();
                output.line_unflushed(line.join(","))?;
            } else {
                self.row(output, at_ms, &values)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, output: &mut Output, at_ms: i64, values: &[Option<f64>]) -> Outcome {
        let step_ms = i64::try_from(self.step_ms).unwrap_or(i64::MAX);
        let skipped_ms = self.expected_ms.filter(|expected| *expected < at_ms);
        self.expected_ms = Some(at_ms.saturating_add(step_ms));
        if output.json {
            if let Some(from_ms) = skipped_ms {
                let nothing = vec![None; values.len()];
                output.json_unflushed(&self.line(from_ms, at_ms - from_ms, &nothing))?;
            }
            return output.json_unflushed(&self.line(at_ms, step_ms, values));
        }
        self.gap_ms = self.gap_ms.or(skipped_ms);
        if values.iter().all(Option::is_none) {
            self.gap_ms = self.gap_ms.or(Some(at_ms));
            return Ok(());
        }
        if let Some(from_ms) = self.gap_ms.take() {
            let (from, to) = (self.time(from_ms), self.time(at_ms));
            output.flush()?;
            output.aside(format!("… nothing was measured between {from} and {to}"));
        }
        let names = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let first = if self.is_short { "TIME    " } else { "TIME               " };
        self.heading.tell(output, first, names)?;
        let cells: Vec<String> = self
            .columns
            .iter()
            .zip(values)
            .map(|((_, column), it)| self.cell(column, *it))
            .collect();
        let line = self.heading.line(cells.iter().map(String::as_str));
        output.line_unflushed(Styled::new().with(DIM, self.time(at_ms)).plain(line))
    }

    fn time(&self, at_ms: i64) -> String {
        if self.is_short { self.clock.time(at_ms) } else { self.clock.full(at_ms) }
    }

    fn line(&self, at_ms: i64, step_ms: i64, values: &[Option<f64>]) -> Value {
        let names = self.columns.iter().map(|(name, _)| name.clone());
        let values: Map<String, Value> =
            names.zip(values.iter().map(|value| json!(value))).collect();
        json!({ "at_ms": at_ms, "step_ms": step_ms, "values": values })
    }

    /// A value: with its unit for a person, as a bare number for a program.
    fn cell(&self, column: &MetricsColumn, value: Option<f64>) -> String {
        match value {
            None => UNKNOWN.to_owned(),
            Some(value) if self.humane => plot::text(column, self.stat, value),
            Some(value) => value.to_string(),
        }
    }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn utc(at_ms: i64) -> String {
    Clock::rfc_3339(at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::{NOW_MS, assert_lines, assert_screen};
    use llamactl_protocol::metrics::Labels;
    use llamactl_protocol::series::{SeriesKind, of_name};

    fn column(name: &str, model: Option<&str>, values: &[Option<f64>]) -> MetricsColumn {
        let series = of_name(name).unwrap();
        let labels = Labels { model: model.map(str::to_owned), ..Labels::default() };
        let (unit, kind) = (series.unit, series.kind);
        MetricsColumn { name: name.to_owned(), unit, kind, labels, values: values.to_vec() }
    }

    fn columns(values: &[Option<f64>]) -> MetricsColumns {
        MetricsColumns {
            start_at_ms: NOW_MS / 60_000 * 60_000,
            step_ms: 60_000,
            count: values.len() as u64,
            complete_until_ms: NOW_MS / 60_000 * 60_000 + 150_000,
            series: vec![
                column(
                    "host.memory_available_bytes",
                    None,
                    &values.iter().map(|it| it.map(|it| it * 1e9)).collect::<Vec<_>>(),
                ),
                column("server.tokens_generated", Some("q,3"), values),
            ],
            ..MetricsColumns::default()
        }
    }

    #[test]
    fn steps_as_a_table_with_gaps_and_as_csv() {
        let steps = columns(&[Some(3.0), None, None, Some(41.5)]);
        let show = |output: &mut Output, csv| {
            let mut screen =
                Screen { clock: Clock::utc(), ..Screen::new(output, Stat::Mean, true) };
            screen.columns(output, &steps, csv)
        };
        assert_screen("metrics-since", |output| show(output, false));
        assert_lines("metrics-since-csv", |output| show(output, true));
        assert_screen("metrics-since-sum", |output| {
            let mut screen =
                Screen { clock: Clock::utc(), ..Screen::new(output, Stat::Sum, false) };
            let mut steps = columns(&[Some(1234.0)]);
            steps.series.retain(|column| column.kind == SeriesKind::Counter);
            screen.columns(output, &steps, false)
        });
    }

    #[test]
    fn what_may_still_change_is_left_to_the_stream() {
        let mut steps = columns(&[Some(1.0), Some(2.0), Some(3.0)]);
        steps.cut_unfinished();
        assert_eq!((steps.count, steps.length_ms()), (2, 120_000));
        assert!(steps.series.iter().all(|column| column.values.len() == 2));
    }

    #[test]
    fn pages_are_joined_by_what_they_are_of() {
        let first = columns(&[Some(1.0)]);
        let mut second = columns(&[Some(2.0), Some(3.0)]);
        second.series.swap(0, 1);
        second.series[0].labels.model = Some("other".to_owned());
        let all = joined(vec![first, second]);
        assert_eq!((all.count, all.series.len()), (3, 3));
        let values: Vec<usize> = all.series.iter().map(|column| column.values.len()).collect();
        assert_eq!(values, [3, 3, 3]);
        assert_eq!(all.series[1].values, [Some(1.0), None, None]);
        assert_eq!(all.series[2].values, [None, Some(2.0), Some(3.0)]);
    }
}
