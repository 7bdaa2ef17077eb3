//! From samples to rows: which numbers are kept, counters as what they grew by.
//!
//! ```text
//!   Sample ─▶ Recorder ─▶ row of the open batch ─▶ Batch, at each tenth second of BOOTTIME
//!               ╰ what each counter said last
//! ```
//!
//! What a counter grew by stands in the row in which that was read, so that sums are exact however seldom it is
//! read; in between it grew by 0. The first reading of a counter is of nothing, unless its process began while
//! this daemon measured. One that goes back was reset, and nobody knows by how much it grew.

use super::codec::Times;
use llamactl_protocol::metrics::Sample;
use llamactl_protocol::series::{Instance, Keep, SERIES, Series, SeriesKind};
use std::sync::Arc;

/// How long a batch is: what a crash may take.
pub(super) const BATCH_MS: u64 = 10_000;

/// A clock that moved by more than this was set.
pub(super) const SET_BY_MS: u64 = 1000;

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since boot, sleep included.
    pub(super) boottime_ms: u64,
    /// What the wall clock is ahead of that.
    pub(super) wall_offset_ms: i64,
}

/// Some rows, a column for each series.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Which boot: its row's id.
    pub(super) boot: u32,
    /// What the wall clock was ahead of BOOTTIME at the last row.
    pub(super) wall_offset_ms: i64,
    /// The BOOTTIME of the first row.
    pub(super) first_ms: u64,
    pub(super) times: Times,
    pub(super) columns: Vec<Column>,
    /// No more rows can come into its ten seconds.
    pub(super) is_over: bool,
}

/// The values of one series.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its place in the catalogue.
    pub(super) series: usize,
    pub(super) instance: Arc<str>,
    /// One for each row; NaN where it is not known.
    pub(super) values: Vec<f64>,
}

impl Batch {
    pub(super) fn rows(&self) -> usize {
        self.times.offsets_ms.len()
    }

    /// The BOOTTIME of the last row.
    pub(super) fn last_ms(&self) -> u64 {
        self.first_ms + u64::from(self.times.offsets_ms.last().copied().unwrap_or(0))
    }
}

/// What a counter said last.
#[derive(Debug)]
struct Mark {
    series: usize,
    instance: Arc<str>,
    /// The run it was of.
    run: Option<Box<str>>,
    /// `None` where that is not known.
    value: Option<f64>,
    is_used: bool,
    /// The daemon counts it itself: it is never forgotten, however long its model rests.
    is_own: bool,
}

/// Makes rows of samples.
#[derive(Debug)]
pub(super) struct Recorder {
    boot: u32,
    began_ms: u64,
    last_ms: Option<u64>,
    /// The same until the clock is set: between two readings of two clocks a millisecond may pass.
    wall_offset_ms: Option<i64>,
    open: Option<Batch>,
    marks: Vec<Mark>,
}

impl Recorder {
    /// One that begins in this boot.
    pub(super) fn new(boot: u32) -> Recorder {
        let (last_ms, wall_offset_ms, open, marks) = (None, None, None, Vec::new());
        Recorder { boot, began_ms: u64::MAX, last_ms, wall_offset_ms, open, marks }
    }

    /// The boot that its rows are of.
    pub(super) fn boot(&self) -> u32 {
        self.boot
    }

    /// Gives this boot another number, and the offset that is kept of it.
    pub(super) fn set_boot(&mut self, boot: u32, wall_offset_ms: Option<i64>) {
        self.boot = boot;
        self.wall_offset_ms = wall_offset_ms.or(self.wall_offset_ms);
        self.open.iter_mut().for_each(|batch| batch.boot = boot);
    }

    /// The rows that are in no batch yet.
    pub(super) fn open(&self) -> Option<&Batch> {
        self.open.as_ref()
    }

    /// Ends the open batch before its time.
    pub(super) fn close(&mut self) -> Option<Batch> {
        self.open.take()
    }

    /// Takes in a sample; the batch before, where the sample is behind its end.
    pub(super) fn add(&mut self, sample: &Sample, now: Moment) -> Option<Batch> {
        let now_ms = now.boottime_ms;
        let went_back = self.last_ms.is_some_and(|last| now_ms < last);
        let is_other = |batch: &Batch| batch.first_ms / BATCH_MS != now_ms / BATCH_MS;
        let mut over = self.open.take_if(|batch| went_back || is_other(batch));
        if let Some(batch) = &mut over {
            batch.is_over = true;
            self.marks.retain_mut(|mark| std::mem::take(&mut mark.is_used) || mark.is_own);
        }
        if went_back {
            // Another machine, as far as time goes.
            self.boot += 1;
            self.last_ms = None;
        }
        if self.last_ms.is_none() {
            self.began_ms = now_ms;
            self.marks.retain(|mark| mark.is_own);
        }
        let offset = now.wall_offset_ms;
        let wall_offset_ms = self.wall_offset_ms.filter(|it| it.abs_diff(offset) <= SET_BY_MS);
        let wall_offset_ms = *self.wall_offset_ms.insert(wall_offset_ms.unwrap_or(offset));
        let ms = |from: u64| u32::try_from(now_ms.saturating_sub(from)).unwrap_or(u32::MAX);
        let covers_ms = self.last_ms.map_or(0, ms);
        self.last_ms = Some(now_ms);
        let mut batch = self.open.take().unwrap_or_else(|| Batch {
            boot: self.boot,
            wall_offset_ms,
            first_ms: now_ms,
            times: Times { offsets_ms: vec![], first_covers_ms: covers_ms },
            columns: Vec::new(),
            is_over: false,
        });
        batch.wall_offset_ms = wall_offset_ms;
        let row = batch.rows();
        batch.times.offsets_ms.push(ms(batch.first_ms));
        let (mut column_at, mut mark_at) = (0, 0);
        for (index, series) in SERIES.iter().enumerate() {
            if series.keep != Keep::History {
                continue;
            }
            series.raw(sample, |instance, value| {
                let value = value.map(|value| series.to_kept(value));
                let value = match series.kind {
                    SeriesKind::Gauge => value,
                    SeriesKind::Counter => {
                        let mark = self.mark(&mut mark_at, index, &instance);
                        self.growth(mark, &instance, value, now_ms)
                    }
                };
                let column = column(&mut batch.columns, &mut column_at, index, &instance);
                column.values.resize(row, f64::NAN);
                column.values.push(value.unwrap_or(f64::NAN));
            });
        }
        for column in &mut batch.columns {
            column.values.resize(row + 1, f64::NAN);
        }
        self.open = Some(batch);
        over
    }

    fn mark(&mut self, at: &mut usize, series: usize, instance: &Instance<'_>) -> usize {
        let is_it = |mark: &Mark| mark.series == series && instance.has_id(&mark.instance);
        let place = find(&self.marks, *at, is_it).unwrap_or_else(|| {
            let is_own = matches!(instance, Instance::Model(_));
            let instance = instance.id().into();
            self.marks.push(Mark {
                series,
                instance,
                run: None,
                value: None,
                is_used: true,
                is_own,
            });
            self.marks.len() - 1
        });
        *at = place + 1;
        place
    }

    fn growth(
        &mut self,
        mark: usize,
        instance: &Instance<'_>,
        value: Option<f64>,
        now_ms: u64,
    ) -> Option<f64> {
        let mark = self.marks.get_mut(mark)?;
        mark.is_used = true;
        let run = match instance {
            Instance::Server(server) => Some(&*server.run_id),
            Instance::Host
            | Instance::Filesystem(_)
            | Instance::Gpu(_)
            | Instance::Model(_)
            | Instance::Daemon(_) => None,
        };
        if mark.run.as_deref() != run {
            mark.run = run.map(Into::into);
            mark.value = None;
        }
        let began_here = || {
            let began_ms = now_ms.checked_sub(instance.process()?.uptime_ms?)?;
            (run.is_some() && began_ms >= self.began_ms).then_some(0.0)
        };
        let value = value?;
        // What the daemon counts itself it began to count with itself.
        let counts_from = if mark.is_own { Some(0.0) } else { None };
        let before = mark.value.replace(value).or(counts_from).or_else(began_here)?;
        (value >= before).then_some(value - before)
    }
}

/// Where something is in a list, which usually is asked for in its order.
fn find<T>(list: &[T], at: usize, is_it: impl Fn(&T) -> bool) -> Option<usize> {
    if list.get(at).is_some_and(&is_it) {
        return Some(at);
    }
    list.iter().position(is_it)
}

fn column<'c>(
    columns: &'c mut Vec<Column>,
    at: &mut usize,
    series: usize,
    instance: &Instance<'_>,
) -> &'c mut Column {
    let is_it = |column: &Column| column.series == series && instance.has_id(&column.instance);
    let place = find(columns, *at, is_it).unwrap_or_else(|| {
        columns.push(Column { series, instance: instance.id().into(), values: Vec::new() });
        columns.len() - 1
    });
    *at = place + 1;
    &mut columns[place]
}

/// The series at a place in the catalogue.
pub(super) fn series_at(index: usize) -> Option<&'static Series> {
    SERIES.get(index)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use llamactl_protocol::metrics::{Host, LlamaSample, ModelStarts, ProcessSample, ServerSample};
    use llamactl_protocol::server::State;

    /// A sample of a machine with this much memory available and these servers.
    pub(in super::super) fn sample(available: u64, servers: Vec<ServerSample>) -> Sample {
        Sample {
            seq: 0,
            at_ms: 0,
            host: Host { memory_available_bytes: Some(available), ..Host::default() },
            gpus: None,
            servers,
            daemon: ProcessSample::default(),
            models: vec![],
        }
    }

    pub(in super::super) fn server(
        model_id: i64,
        run: &str,
        uptime_ms: u64,
        tokens: Option<u64>,
    ) -> ServerSample {
        let llama = LlamaSample { generated_tokens: tokens, ..LlamaSample::default() };
        ServerSample {
            model_id,
            model: format!("model {model_id}"),
            run_id: run.to_owned(),
            state: State::Ready,
            process: ProcessSample { uptime_ms: Some(uptime_ms), ..ProcessSample::default() },
            llama: Some(llama),
        }
    }

    pub(in super::super) fn at(boottime_ms: u64) -> Moment {
        Moment { boottime_ms, wall_offset_ms: 1_700_000_000_000 }
    }

    /// The values of a series in a batch.
    fn values(batch: &Batch, name: &str, instance: &str) -> Vec<Option<f64>> {
        let is_it =
            |column: &&Column| SERIES[column.series].name == name && &*column.instance == instance;
        let column = batch.columns.iter().find(is_it).unwrap();
        column.values.iter().map(|it| Some(*it).filter(|it| !it.is_nan())).collect()
    }

    #[test]
    fn a_batch_ends_at_each_tenth_second_since_boot() {
        let mut recorder = Recorder::new(1);
        let mut over = Vec::new();
        for second in 7..31 {
            over.extend(recorder.add(&sample(5, vec![]), at(second * 1000 + 30)));
        }
        let spans: Vec<_> = over.iter().map(|it| (it.first_ms, it.last_ms(), it.rows())).collect();
        assert_eq!(spans, [(7030, 9030, 3), (10_030, 19_030, 10), (20_030, 29_030, 10)]);
        assert_eq!(over[0].times.first_covers_ms, 0);
        assert_eq!(over[1].times.first_covers_ms, 1000);
        assert!(over.iter().all(|it| it.is_over));
        let rest = recorder.close().unwrap();
        assert_eq!((rest.rows(), rest.is_over), (1, false));
    }

    #[test]
    fn a_counter_is_kept_as_what_it_grew_by_where_that_is_known() {
        let mut recorder = Recorder::new(1);
        let rows = [
            (0, vec![server(1, "adopted", 90_000, Some(500))]),
            // It began while the daemon measured: all that it counted is its growth.
            (1, vec![server(1, "adopted", 91_000, Some(507)), server(2, "new", 500, None)]),
            (2, vec![server(1, "adopted", 92_000, Some(507)), server(2, "new", 1500, Some(30))]),
            // An answer that did not come takes nothing away.
            (3, vec![server(1, "adopted", 93_000, None), server(2, "new", 2500, Some(31))]),
            (4, vec![server(1, "adopted", 94_000, Some(600)), server(2, "newer", 10, Some(4))]),
            (5, vec![server(1, "adopted", 95_000, Some(1))]),
        ];
        for (second, servers) in rows {
            recorder.add(&sample(0, servers), at(100_000 + second * 1000));
        }
        let batch = recorder.close().unwrap();
        let tokens = |model| values(&batch, "server.tokens_generated", model);
        assert_eq!(tokens("1"), [None, Some(7.0), Some(0.0), None, Some(93.0), None]);
        assert_eq!(tokens("2"), [None, None, Some(30.0), Some(1.0), Some(4.0), None]);
    }

    #[test]
    fn what_the_daemon_counts_itself_grows_from_nothing_however_long_its_model_rests() {
        let mut recorder = Recorder::new(1);
        let with = |starts: Option<u64>| {
            let models = starts.map(|starts| ModelStarts {
                model_id: 1,
                model: "a".to_owned(),
                starts,
                restarts: 0,
            });
            Sample { models: models.into_iter().collect(), ..sample(0, vec![]) }
        };
        let growth = |batch: &Batch| values(batch, "model.starts", "1");
        for (second, starts) in [(0, None), (1, Some(3)), (2, Some(3)), (3, None)] {
            recorder.add(&with(starts), at(100_000 + second * 1000));
        }
        let first = recorder.add(&with(None), at(110_000)).unwrap();
        assert_eq!(growth(&first), [None, Some(3.0), Some(0.0), None]);
        recorder.add(&with(None), at(120_000));
        recorder.add(&with(Some(4)), at(130_000));
        // Another boot, as far as time goes, and the same daemon.
        let before = recorder.add(&with(Some(6)), at(20_000)).unwrap();
        assert_eq!(growth(&before), [Some(1.0)]);
        assert_eq!(growth(&recorder.close().unwrap()), [Some(2.0)]);
    }

    #[test]
    fn time_that_goes_back_is_another_boot() {
        let mut recorder = Recorder::new(4);
        recorder.add(&sample(0, vec![]), at(50_000));
        let before = recorder.add(&sample(0, vec![]), at(20_000)).unwrap();
        let after = recorder.close().unwrap();
        assert_eq!((before.boot, after.boot), (4, 5));
        assert_eq!(after.times.first_covers_ms, 0);
    }

    #[test]
    fn a_gauge_that_is_not_known_is_null_and_what_is_live_is_not_kept() {
        let mut recorder = Recorder::new(1);
        recorder.add(&sample(5, vec![]), at(1000));
        let batch = recorder.close().unwrap();
        assert_eq!(values(&batch, "host.memory_available_bytes", ""), [Some(5.0)]);
        assert_eq!(values(&batch, "host.load1", ""), [None]);
        assert!(batch.columns.iter().all(|it| SERIES[it.series].keep == Keep::History));
    }
}
