//! History as a whole: what is written is what was measured, whatever happens between.

use super::codec::{Times, read_block};
use super::key::{floor, key};
use super::record::tests::{sample, server};
use super::rollup::{Rolled, Summary, read_row};
use super::steps::{HOUR_MS, MINUTE_MS};
use super::*;
use crate::store::metrics::{Blocks, MetricsStore, Rows};
use llamactl_protocol::metrics::{Stat, Tier};
use llamactl_protocol::series::SERIES;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

/// A machine that measures, with a clock and boots of its own.
struct Machine {
    dir: tempfile::TempDir,
    size_bytes: u64,
    boot: u32,
    ms: u64,
    offset_ms: i64,
    running: Option<(History, Keeper, oneshot::Receiver<()>)>,
    /// Tokens of two models, and the runs they are of.
    tokens: [u64; 2],
    runs: [(u32, u64); 2],
    /// Rows that were fed: key of a boot, milliseconds, memory available.
    fed: Vec<(u32, u64, u64)>,
}

impl Machine {
    fn new() -> Machine {
        let mut machine = Machine {
            dir: tempfile::tempdir().unwrap(),
            size_bytes: 256 << 20,
            boot: 1,
            ms: 50_000,
            offset_ms: 1_700_000_000_000,
            running: None,
            tokens: [0, 0],
            runs: [(1, 0), (1, 0)],
            fed: Vec::new(),
        };
        machine.start();
        machine
    }

    fn settings(&self) -> Settings {
        Settings { dir: self.dir.path().to_owned(), size_bytes: self.size_bytes }
    }

    fn start(&mut self) {
        let boot_id = format!("boot {}", self.boot);
        self.running = Some(start_in(self.settings(), boot_id, self.ms).unwrap());
    }

    fn history(&self) -> &History {
        &self.running.as_ref().unwrap().0
    }

    /// Ends the daemon; all is written then.
    fn stop(&mut self) {
        if let Some((_, keeper, written)) = self.running.take() {
            drop(keeper);
            written.blocking_recv().unwrap();
        }
    }

    /// Measures once a second, some models at work.
    fn measure(&mut self, seconds: u32, at_work: [bool; 2]) {
        for second in 0..seconds {
            self.ms += 1000;
            let available = self.ms % 977 * 4096;
            let mut servers = Vec::new();
            for (model, place) in [(0, 0), (1, 1)] {
                if at_work[place] {
                    self.tokens[place] += u64::from(second % 3) * 7;
                    let (run, began_ms) = self.runs[place];
                    let uptime_ms = self.ms.saturating_sub(began_ms);
                    let tokens = Some(self.tokens[place]);
                    servers.push(server(model, &format!("run {run}"), uptime_ms, tokens));
                }
            }
            let keeper = &self.running.as_ref().unwrap().1;
            let now = Moment { boottime_ms: self.ms, wall_offset_ms: self.offset_ms };
            keeper.add_at(&sample(available, servers), now);
            self.fed.push((self.boot, self.ms, available));
        }
    }

    /// How many rows there are in blocks.
    fn count_rows(&self) -> usize {
        self.rows(|rows| {
            let mut count = 0;
            rows.each(Blocks::Raw, 0, i64::MAX, |_, block| {
                let mut here = 0;
                let tell = |_, times: &Times, _: &[f64]| here = times.offsets_ms.len();
                read_block(block, |_| Some(0), tell).unwrap();
                count += here;
                Ok(())
            })?;
            Ok(count)
        })
    }

    /// All rows of the database, read by themselves.
    fn rows<T>(&self, read: impl FnOnce(&Rows<'_>) -> Result<T, DatabaseError>) -> T {
        MetricsStore::open(self.dir.path()).unwrap().write(false, read).unwrap()
    }
}

/// What a table of rows or blocks is together, by key of a span and series: by plain arithmetic.
type Sums = BTreeMap<(i64, u32), Summary>;

fn raw(rows: &Rows<'_>, unit_ms: i64) -> Result<Sums, DatabaseError> {
    let series = rows.series()?;
    let mut sums = Sums::new();
    rows.each(Blocks::Raw, 0, i64::MAX, |at, block| {
        read_block(
            block,
            |id| Some(id as usize),
            |id, times, values| {
                let id = u32::try_from(id).unwrap();
                let row = series.iter().find(|row| row.id == id).unwrap();
                let read_every =
                    llamactl_protocol::series::of_name(&row.name).unwrap().read_every_ms();
                for (place, value) in values.iter().enumerate() {
                    if value.is_nan() {
                        continue;
                    }
                    let unit = floor(at + i64::from(times.offsets_ms[place]), unit_ms);
                    let covers = times.covers_ms(place);
                    let sum = sums.entry((unit, id)).or_default();
                    let shown = match row.is_counter {
                        true => value * 1000.0 / u64::from(covers).max(read_every).max(1) as f64,
                        false => *value,
                    };
                    sum.samples += 1;
                    sum.covered_ms += u64::from(covers);
                    sum.sum += value;
                    sum.least = sum.least.min(shown);
                    sum.most = sum.most.max(shown);
                }
            },
        )
        .unwrap();
        Ok(())
    })?;
    Ok(sums)
}

fn rolled(rows: &Rows<'_>, table: Blocks) -> Result<BTreeMap<(i64, u32), Rolled>, DatabaseError> {
    let mut all = BTreeMap::new();
    rows.each(table, 0, i64::MAX, |at, block| {
        read_row(block, |_| Some(0), |_, row| assert!(all.insert((at, row.id), row).is_none()))
            .unwrap();
        Ok(())
    })?;
    Ok(all)
}

/// Every span that is over has its rows, and they say what the blocks say.
fn compare(machine: &Machine, table: Blocks, unit_ms: i64) {
    let (naive, rolled, last) = machine.rows(|rows| {
        let last = rows.ends(Blocks::Raw)?.map_or(0, |(_, last)| last);
        Ok((raw(rows, unit_ms)?, rolled(rows, table)?, last))
    });
    let is_over = |at: i64| at < floor(last, unit_ms);
    for (place, sum) in naive.iter().filter(|((at, _), _)| is_over(*at)) {
        let row = rolled.get(place).unwrap_or_else(|| panic!("{table:?} {place:?} is missing"));
        let there = row.summary;
        assert_eq!((there.samples, there.covered_ms), (sum.samples, sum.covered_ms), "{place:?}");
        let near = |a: f64, b: f64| (a - b).abs() <= b.abs() * 1e-6;
        if row.is_counter {
            assert_eq!(there.sum, sum.sum, "{place:?}");
        } else {
            assert!(near(there.mean(), sum.mean()), "{place:?} {there:?} {sum:?}");
            assert!(near(there.least, sum.least), "{place:?} {there:?} {sum:?}");
        }
        assert!(near(there.most, sum.most), "{place:?} {there:?} {sum:?}");
    }
    let extra = rolled.keys().find(|place| !naive.contains_key(place));
    assert_eq!(extra, None, "{table:?}");
}

#[derive(Clone, Debug)]
enum Happening {
    Measured { seconds: u32, at_work: [bool; 2] },
    DaemonRestarted { away_ms: u64 },
    ServerRestarted { model: usize },
    Slept { ms: u64 },
    ClockSet { by_ms: i64 },
    Booted,
}

fn happening() -> impl Strategy<Value = Happening> {
    const YEAR_MS: i64 = 365 * 86_400_000;
    prop_oneof![
        6 => (1u32..200, any::<[bool; 2]>())
            .prop_map(|(seconds, at_work)| Happening::Measured { seconds, at_work }),
        2 => (0u64..200_000).prop_map(|away_ms| Happening::DaemonRestarted { away_ms }),
        1 => (0usize..2).prop_map(|model| Happening::ServerRestarted { model }),
        1 => (1u64..40_000_000).prop_map(|ms| Happening::Slept { ms }),
        1 => prop::sample::select(vec![-YEAR_MS, YEAR_MS, -3_600_000, 3_600_000, 300])
            .prop_map(|by_ms| Happening::ClockSet { by_ms }),
        1 => Just(Happening::Booted),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn minutes_and_hours_are_what_was_measured_whatever_happened(
        happenings in prop::collection::vec(happening(), 1..14)
    ) {
        let mut machine = Machine::new();
        for happening in happenings {
            match happening {
                Happening::Measured { seconds, at_work } => machine.measure(seconds, at_work),
                Happening::DaemonRestarted { away_ms } => {
                    machine.stop();
                    machine.ms += away_ms;
                    machine.start();
                }
                Happening::ServerRestarted { model } => {
                    machine.tokens[model] = 0;
                    let (run, _) = machine.runs[model];
                    machine.runs[model] = (run + 1, machine.ms);
                }
                Happening::Slept { ms } => machine.ms += ms,
                Happening::ClockSet { by_ms } => machine.offset_ms += by_ms,
                Happening::Booted => {
                    machine.stop();
                    machine.boot += 1;
                    machine.ms = 7000;
                    machine.tokens = [0, 0];
                    machine.runs = [(100 + machine.boot, 0), (200 + machine.boot, 0)];
                    machine.start();
                }
            }
        }
        machine.measure(61, [true, false]);
        machine.stop();
        compare(&machine, Blocks::Minute, MINUTE_MS);
        compare(&machine, Blocks::Hour, HOUR_MS);

        // What was fed is there, in its order, each once.
        let there = machine.rows(|rows| {
            let series = rows.series()?;
            let id = |name: &str| series.iter().find(|row| row.name == name).unwrap().id;
            let memory = id("host.memory_available_bytes");
            let mut there = Vec::new();
            rows.each(Blocks::Raw, 0, i64::MAX, |at, block| {
                read_block(block, |id| (id == memory).then_some(0), |_, times, values| {
                    for (offset, value) in times.offsets_ms.iter().zip(values) {
                        there.push((at + i64::from(*offset), *value));
                    }
                })
                .unwrap();
                Ok(())
            })?;
            Ok(there)
        });
        // A machine that booted without a row between gives no row of that boot.
        let mut boots: Vec<u32> = machine.fed.iter().map(|(boot, ..)| *boot).collect();
        boots.dedup();
        let number = |boot: u32| 1 + u32::try_from(boots.iter().position(|it| *it == boot).unwrap()).unwrap();
        let fed: Vec<(i64, f64)> = machine
            .fed
            .iter()
            .map(|(boot, ms, value)| (key(number(*boot), *ms), *value as f64))
            .collect();
        prop_assert_eq!(there, fed);
    }
}

fn tokens() -> usize {
    SERIES.iter().position(|series| series.name == "server.tokens_generated").unwrap()
}

async fn ask(history: &History, from: From, until_ms: i64, step_ms: i64, stat: Stat) -> Answer {
    let wanted = Wanted { series: vec![tokens()], ..Wanted::default() };
    let question = Question { wanted, from, until_ms, step_ms, stat, most_numbers: 60_000 };
    history.ask(question).await.unwrap()
}

fn sums(answer: &Answer) -> Vec<Option<f64>> {
    let columns = answer.columns(0..answer.count());
    columns.first().map(|(_, values)| values.clone()).unwrap_or_default()
}

/// The multi-thread runtime, because the tests block on threads.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_same_from_memory_from_seconds_minutes_and_hours() {
    let mut machine = Machine::new();
    machine.offset_ms = 1_700_006_400_000;
    machine.measure(3 * 3600 + 125, [true, false]);
    let until_ms = machine.ms.cast_signed() + machine.offset_ms + 1;
    let from = From::Wall(0);
    let last = machine.tokens[0] as f64;
    for (step_ms, tier) in [(7000, Tier::Raw), (60_000, Tier::Minute), (3_600_000, Tier::Hour)] {
        let answer = ask(machine.history(), from, until_ms, step_ms, Stat::Sum).await;
        assert_eq!(answer.tier, tier);
        let sum: f64 = sums(&answer).iter().flatten().sum();
        // The run began before: its first reading is of nothing.
        assert_eq!(sum, last, "of {step_ms} ms");
        assert_eq!(answer.last_ms, Some(until_ms - 1));
    }
    // A page is cut, and the next one goes on.
    let wanted = Wanted { series: vec![tokens()], ..Wanted::default() };
    let mut question =
        Question { wanted, from, until_ms, step_ms: 60_000, stat: Stat::Sum, most_numbers: 50 };
    let mut paged = Vec::new();
    loop {
        let page = machine.history().ask(question.clone()).await.unwrap();
        assert!(page.count() <= 50);
        paged.extend(sums(&page));
        let Some(next) = page.next_ms else { break };
        question.from = From::Wall(next);
    }
    assert_eq!(paged, sums(&ask(machine.history(), from, until_ms, 60_000, Stat::Sum).await));
    tokio::task::spawn_blocking(move || machine.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_each_row_once_through_a_restart_and_a_set_clock() {
    let mut machine = Machine::new();
    machine.measure(25, [true, true]);
    let mut seen: Vec<f64> = Vec::new();
    let mut cursor = key(1, 0);
    let mut follow = async |machine: &Machine| {
        let until_ms = machine.ms.cast_signed() + machine.offset_ms + 1000;
        let answer =
            ask(machine.history(), From::Behind(cursor), until_ms, 1000, Stat::Count).await;
        let rows = answer.columns(0..answer.count());
        let samples: f64 = rows.iter().flat_map(|(_, values)| values.iter().flatten()).sum();
        cursor = answer.last_key.unwrap();
        seen.push(samples);
    };
    follow(&machine).await;
    machine.measure(5, [true, false]);
    follow(&machine).await;
    let mut machine = tokio::task::spawn_blocking(move || {
        machine.stop();
        machine.ms += 4000;
        machine.start();
        machine
    })
    .await
    .unwrap();
    machine.measure(3, [true, false]);
    follow(&machine).await;
    machine.offset_ms -= 3_600_000;
    machine.measure(4, [true, false]);
    follow(&machine).await;
    // Each daemon's first reading of a counter is of nothing.
    assert_eq!(seen, [48.0, 5.0, 2.0, 4.0]);
    tokio::task::spawn_blocking(move || machine.stop()).await.unwrap();
}

#[test]
fn a_clock_that_is_set_back_or_ahead_deletes_and_refuses_nothing() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    for by_ms in [-3_600_000, YEAR_MS, -YEAR_MS] {
        let mut machine = Machine::new();
        machine.measure(120, [true, true]);
        machine.offset_ms += by_ms;
        machine.measure(300, [true, true]);
        machine.offset_ms -= by_ms;
        machine.measure(120, [true, true]);
        machine.stop();
        let (count, minutes, boots) = machine.rows(|rows| {
            Ok((rows.count(Blocks::Raw)?, rows.count(Blocks::Minute)?, rows.boots()?))
        });
        assert_eq!((count, minutes, boots.len()), (55, 9, 1));
        assert_eq!(boots[0].wall_offset_ms, 1_700_000_000_000, "all rows have their time of now");
    }
}

#[test]
fn a_damaged_database_is_set_aside_and_another_begun() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.iter_mut().for_each(|byte| *byte = 7),
        |bytes| bytes.truncate(1000),
        |bytes| bytes[100..8000].fill(0xff),
    ];
    for damage in damages {
        let mut machine = Machine::new();
        machine.measure(30, [true, false]);
        machine.stop();
        let path = path(machine.dir.path());
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        machine.start();
        machine.measure(30, [true, false]);
        let health = machine.history().health();
        machine.stop();
        let (aside, _) = health.borrow().set_aside.clone().unwrap();
        assert_eq!(fs::read(aside).unwrap(), bytes);
        assert!(machine.rows(|rows| rows.count(Blocks::Raw)) >= 3);
    }
}

#[test]
fn a_database_that_is_damaged_while_it_is_open_loses_no_batch() {
    let mut machine = Machine::new();
    machine.measure(45, [true, false]);
    let path = path(machine.dir.path());
    // What SQLite has in its cache it does not read again: the file is another one then.
    fs::remove_file(&path).unwrap();
    machine.measure(45, [true, false]);
    machine.stop();
    let health = machine.start_again_for_health();
    assert_eq!(health.problem, None);
    assert!(machine.rows(|rows| rows.count(Blocks::Raw)) >= 4);
}

#[test]
fn what_a_model_did_over_all_its_runs_outlives_daemons_and_a_damaged_database() {
    let told = |machine: &Machine| machine.history().totals().unwrap().get(1).tokens_generated;
    let mut machine = Machine::new();
    machine.measure(40, [true, true]);
    machine.stop();
    let before = machine.tokens[1];
    // It went on while no daemon ran, then had another run.
    machine.tokens[1] += 1000;
    machine.start();
    assert_eq!(told(&machine), before, "what was written is told before anything is measured");
    machine.measure(20, [true, true]);
    let run_ends_at = machine.tokens[1];
    machine.runs[1] = (2, machine.ms);
    machine.tokens[1] = 0;
    machine.measure(20, [true, true]);
    let (history, _, _) = machine.running.as_ref().unwrap();
    let (history, sum) = (history.clone(), run_ends_at + machine.tokens[1]);
    machine.stop();
    assert_eq!(history.totals().unwrap().get(1).tokens_generated, sum);

    machine.start();
    let path = path(machine.dir.path());
    fs::remove_file(&path).unwrap();
    let tokens = machine.tokens[1];
    machine.measure(30, [true, true]);
    machine.stop();
    machine.start();
    assert_eq!(told(&machine), sum + machine.tokens[1] - tokens, "another database is given them");
    machine.stop();
}

impl Machine {
    fn start_again_for_health(&mut self) -> Health {
        self.start();
        self.measure(11, [true, false]);
        let health = self.history().health();
        self.stop();
        health.borrow().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_waits_and_is_dropped_and_counted_when_it_is_too_much() {
    let mut machine = Machine::new();
    machine.measure(15, [true, false]);
    let lock = lock_of_another(machine.dir.path());
    machine.measure(20, [true, false]);
    drop(lock);
    machine.measure(20, [true, false]);
    let (mut machine, rows) = tokio::task::spawn_blocking(move || {
        let health = machine.history().health();
        machine.stop();
        assert_eq!(health.borrow().samples_lost, 0);
        let rows = machine.count_rows();
        machine.start();
        (machine, rows)
    })
    .await
    .unwrap();
    assert_eq!(rows, machine.fed.len());

    machine.measure(15, [true, false]);
    let lock = lock_of_another(machine.dir.path());
    machine.measure(700, [true, false]);
    let mut health = machine.history().health();
    health.wait_for(|health| health.samples_lost > 0).await.unwrap();
    drop(lock);
    machine.measure(20, [true, false]);
    let rows = tokio::task::spawn_blocking(move || {
        machine.stop();
        machine.fed.len() - machine.count_rows()
    });
    let lost = rows.await.unwrap();
    assert_eq!(health.borrow().samples_lost, lost as u64);
}

#[test]
fn a_history_that_takes_all_its_room_keeps_less_of_the_seconds_and_all_of_the_rest() {
    let mut machine = Machine::new();
    machine.stop();
    machine.size_bytes = 150_000;
    machine.start();
    machine.measure(3 * 3600, [true, true]);
    machine.stop();
    let (raw, minutes, used) = machine.rows(|rows| {
        Ok((rows.count(Blocks::Raw)?, rows.count(Blocks::Minute)?, rows.used_bytes()?))
    });
    assert!((360..1000).contains(&raw), "{raw}");
    assert_eq!(minutes, 180);
    assert!(used < 200_000, "{used}");
}

/// Fault 15, without a clock; how long it takes is `history-stall` of `figures`.
#[test]
fn who_stands_still_in_the_middle_of_reading_holds_up_no_batch_and_sees_one_moment() {
    let mut machine = Machine::new();
    machine.measure(600, [true, true]);
    machine.stop();
    let blocks = machine.rows(|rows| rows.count(Blocks::Raw));
    machine.start();
    let reader = machine.history().0.state().reader.clone().unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    let (go_on, waits) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let read = reader.read(move |rows| {
            let mut seen = 0;
            rows.each(Blocks::Raw, 0, i64::MAX, |_, _| {
                if seen == 0 {
                    begun.send(()).unwrap();
                    waits.recv().unwrap();
                }
                seen += 1;
                Ok(())
            })?;
            Ok((seen, rows.count(Blocks::Raw)?))
        });
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(read).unwrap()
    });
    begins.recv().unwrap();
    machine.measure(3600, [true, true]);
    // All is written while it reads. The last write wakes nobody.
    while !machine.history().0.state().waiting.is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    go_on.send(()).unwrap();
    assert_eq!(reading.join().unwrap(), (blocks, blocks));
    machine.stop();
    assert_eq!(machine.count_rows(), 4200);
}

/// Another program that has the database to itself, until it is dropped.
fn lock_of_another(dir: &Path) -> impl Drop + use<> {
    struct Locked(std::process::Child);
    impl Drop for Locked {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let program = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('BEGIN EXCLUSIVE')
print('locked', flush=True)
sys.stdin.read()";
    let mut child = Command::new("python3")
        .args(["-c", program])
        .arg(path(dir))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    Locked(child)
}
