//! What sparklines are drawn from: the mean of every ten seconds of the last ten minutes.
//!
//! ```text
//!   metrics.query (what was measured before) ─╮
//!   metrics.follow (each sample) ─────────────┴─▶ bars ─▶ ▂▃▅▇▅▃
//! ```
//!
//! A bar in which nothing was measured stays away: it is not 0.

use llamactl_protocol::metrics::{MetricsColumns, MetricsQuery, Sample};
use std::collections::{BTreeMap, HashMap};

/// How long a bar is.
pub(crate) const BAR_MS: i64 = 10_000;
/// How many are kept.
pub(crate) const BARS: usize = 60;

/// Whose bars they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// The processors'.
    Cpu,
    /// Those of the GPU with this number in the driver's order.
    Gpu(u32),
    /// The tokens per second of the model with this id.
    Speed(i64),
}

/// What a bar is the mean of.
#[derive(Clone, Copy, Default)]
struct Bar {
    sum: f64,
    count: f64,
}

/// All bars.
#[derive(Default)]
pub(crate) struct History(HashMap<Of, BTreeMap<i64, Bar>>);

const CPU: &str = "host.cpu_busy_ratio";
const GPU: &str = "gpu.busy_ratio";
const SPEED: &str = "server.tokens_generated";

impl History {
    /// The question whose answer it begins with.
    pub(crate) fn question(now_ms: i64) -> MetricsQuery {
        let bars = i64::try_from(BARS).unwrap_or(0);
        MetricsQuery {
            series: [CPU, GPU, SPEED].map(str::to_owned).to_vec().into(),
            from_ms: Some((now_ms.div_euclid(BAR_MS) + 1 - bars) * BAR_MS),
            step_ms: u64::try_from(BAR_MS).ok(),
            ..MetricsQuery::default()
        }
    }

    /// Takes what was measured before; what was seen as it was measured stays.
    pub(crate) fn take_past(&mut self, past: &MetricsColumns) {
        let step_ms = i64::try_from(past.step_ms).unwrap_or(BAR_MS);
        for column in &past.series {
            let labels = &column.labels;
            let of = match column.name.as_str() {
                CPU => Some(Of::Cpu),
                GPU => labels.gpu.as_ref().and_then(|gpu| gpu.parse().ok()).map(Of::Gpu),
                SPEED => labels.model_id.map(Of::Speed),
                _ => None,
            };
            let Some(of) = of else { continue };
            let bars = self.0.entry(of).or_default();
            for (step, value) in (0..).zip(&column.values) {
                let at_ms = past.start_at_ms.saturating_add(step_ms.saturating_mul(step));
                if let Some(value) = value {
                    let bar = Bar { sum: *value, count: 1.0 };
                    bars.entry(at_ms.div_euclid(BAR_MS)).or_insert(bar);
                }
            }
            forget(bars);
        }
    }

    /// Takes what was just measured.
    pub(crate) fn take_sample(&mut self, sample: &Sample) {
        let host = (Of::Cpu, sample.host.cpu_busy_ratio);
        let gpus = sample.gpus.iter().flatten().map(|gpu| (Of::Gpu(gpu.index), gpu.busy_ratio));
        let speeds = sample.servers.iter().map(|server| {
            let llama = server.llama.as_ref();
            let speed = llama.and_then(|llama| llama.generated_tokens_per_second);
            (Of::Speed(server.model_id), speed)
        });
        for (of, value) in std::iter::once(host).chain(gpus).chain(speeds) {
            let Some(value) = value else { continue };
            let bars = self.0.entry(of).or_default();
            let bar = bars.entry(sample.at_ms.div_euclid(BAR_MS)).or_default();
            bar.sum += value;
            bar.count += 1.0;
            forget(bars);
        }
    }

    /// The last so many bars up to now, the newest last.
    pub(crate) fn bars(&self, of: Of, now_ms: i64, count: usize) -> Vec<Option<f64>> {
        let bars = self.0.get(&of);
        let newest = now_ms.div_euclid(BAR_MS);
        let count = i64::try_from(count).unwrap_or(0);
        (newest + 1 - count..=newest)
            .map(|at| bars?.get(&at).map(|bar| bar.sum / bar.count))
            .collect()
    }
}

fn forget(bars: &mut BTreeMap<i64, Bar>) {
    while bars.len() > BARS {
        bars.pop_first();
    }
}

/// Bars as signs, from nothing to `most`; where nothing is known there is none.
pub(crate) fn sparkline(bars: &[Option<f64>], most: f64) -> String {
    const SIGNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let sign = |value: f64| {
        // The first sign whose share of the whole it does not pass.
        let share = (value / most).clamp(0.0, 1.0) * 8.0;
        let steps = (1..8).filter(|&step| share > f64::from(step)).count();
        SIGNS.get(steps).copied().unwrap_or(' ')
    };
    bars.iter().map(|bar| bar.map_or(' ', sign)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::NOW_MS;
    use llamactl_protocol::metrics::{Labels, MetricsColumn};
    use llamactl_protocol::series::{SeriesKind, Unit};

    fn past(values: &[Option<f64>]) -> MetricsColumns {
        let steps = i64::try_from(values.len()).unwrap();
        MetricsColumns {
            start_at_ms: NOW_MS - (steps - 1) * BAR_MS,
            step_ms: 10_000,
            count: values.len() as u64,
            series: vec![MetricsColumn {
                name: CPU.into(),
                unit: Unit::Ratio,
                kind: SeriesKind::Gauge,
                labels: Labels::default(),
                values: values.to_vec(),
            }],
            ..MetricsColumns::default()
        }
    }

    #[test]
    fn what_was_measured_before_and_what_is_measured_now_are_one_line() {
        let mut history = History::default();
        history.take_past(&past(&[Some(1.0), None, Some(0.5), Some(0.0)]));
        let mut sample = scene::sample();
        sample.host.cpu_busy_ratio = Some(0.5);
        sample.at_ms = NOW_MS + BAR_MS;
        history.take_sample(&sample);
        let bars = history.bars(Of::Cpu, NOW_MS + BAR_MS, 6);
        assert_eq!(bars, [None, Some(1.0), None, Some(0.5), Some(0.0), Some(0.5)]);
        assert_eq!(sparkline(&bars, 1.0), " █ ▄▁▄");
        // A daemon that comes back tells of the gap, and changes nothing that was seen.
        history.take_past(&past(&[Some(0.9), Some(0.9), Some(0.9), Some(0.9)]));
        assert_eq!(history.bars(Of::Cpu, NOW_MS, 3), [Some(0.9), Some(0.5), Some(0.0)]);
    }

    #[test]
    fn no_more_is_kept_than_is_shown() {
        let mut history = History::default();
        let mut sample = scene::sample();
        for second in 0..2000 {
            sample.at_ms = NOW_MS + second * 1000;
            history.take_sample(&sample);
        }
        assert!(history.0.values().all(|bars| bars.len() == BARS));
        assert_eq!(history.bars(Of::Speed(6), sample.at_ms, 200).iter().flatten().count(), BARS);
    }

    #[test]
    fn the_question_asks_for_whole_bars() {
        let question = History::question(NOW_MS + 3);
        assert_eq!(question.from_ms, Some(NOW_MS - 590_000));
        assert_eq!(question.step_ms, Some(10_000));
    }

    #[test]
    fn the_least_is_the_lowest_sign_and_the_most_the_highest() {
        let bars: Vec<Option<f64>> = (0..=8).map(|eighths| Some(f64::from(eighths))).collect();
        assert_eq!(sparkline(&bars, 8.0), "▁▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[Some(0.0), Some(f64::NAN)], 0.0), "▁▁");
    }
}
