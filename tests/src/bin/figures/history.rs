//! What history costs: storing a sample, its size after a year, and a day of it asked for.

use llamactl_tests::specification::Measured;
use llamactl_tests::{Home, Stream};
use llamactld::metrics::history::figures::UNTIL_MS;
use llamactld::metrics::history::figures::{Figures, measure};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many ask for 30 days at a time, and for how long.
const READERS: usize = 4;
const READING: Duration = Duration::from_secs(12);

pub(super) fn print(measured: &mut Measured) {
    let dir = tempfile::tempdir().unwrap();
    let figures = measure(dir.path()).unwrap();
    let Figures { series, samples, size_bytes, answer_bytes, .. } = figures;
    let us = |spent: Duration| spent.as_secs_f64() * 1e6 / samples as f64;
    let ratio = |of: Duration, floor: Duration| of.as_secs_f64() / floor.as_secs_f64();
    println!(
        "\na stored sample of {series} series, processor time, beside inserting the bare blocks"
    );
    println!("  bare inserts                 {:8.1} us", us(figures.bare_insert));
    println!("  made into a row              {:8.1} us", us(figures.recorded));
    println!(
        "  written, minutes and hours   {:8.1} us  {:.2} x",
        us(figures.written),
        ratio(figures.written, figures.bare_insert)
    );
    measured.note("stored", ratio(figures.written, figures.bare_insert));
    let each = size_bytes as f64 / series as f64;
    println!("\na day of seconds, a month of minutes, a year of hours");
    println!("  all {series} series               {:8.1} MB", size_bytes as f64 / 1e6);
    println!("  a series                     {:8.2} MB", each / 1e6);
    measured.note("history-size", each / 1e6);
    let ms = |spent: Duration| spent.as_secs_f64() * 1e3;
    println!("\na day by minutes of {series} series, the least processor time of 21");
    println!("  a bare step over the rows    {:8.2} ms", ms(figures.bare_step));
    println!(
        "  read and decoded             {:8.2} ms  {:.2} x",
        ms(figures.asked),
        ratio(figures.asked, figures.bare_step)
    );
    measured.note("history-read", ratio(figures.asked, figures.bare_step));
    measured.note("history-answer", ratio(figures.answered, figures.bare_json));
    println!("  serde_json of the numbers    {:8.2} ms", ms(figures.bare_json));
    println!(
        "  the answer of {:4} kB        {:8.2} ms  {:.2} x",
        answer_bytes / 1000,
        ms(figures.answered),
        ratio(figures.answered, figures.bare_json)
    );
    let (answers, longest) = stall(&dir.path().join("history"));
    println!(
        "\n{READERS} readers who ask for 30 days without a pause, of a daemon that samples each second"
    );
    println!("  answers to them              {answers:8}");
    println!("  the longest without a sample {:8.1} ms", longest.as_secs_f64() * 1e3);
    measured.note("history-stall", longest.as_secs_f64());
}

/// Gives a daemon a history and asks for all of it again and again: how many answers there were, and the
/// longest time in which no sample came.
fn stall(history: &Path) -> (u32, Duration) {
    let home = Home::without_llama_server();
    let mut daemon = home.daemon();
    assert!(daemon.terminate().success());
    for end in ["", "-wal", "-shm"] {
        let name = format!("metrics.db{end}");
        let _ = fs::remove_file(home.state_dir().join(&name));
        if history.join(&name).exists() {
            fs::copy(history.join(&name), home.state_dir().join(&name)).unwrap();
        }
    }
    daemon.start_again();
    let (stop, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let all = json!({
        "from_ms": UNTIL_MS - 30 * 86_400_000_i64, "until_ms": UNTIL_MS, "step_ms": 3_600_000,
    });
    let ask = || {
        let mut rpc = home.connect();
        while !stop.load(Ordering::Relaxed) {
            let answer = rpc.call("metrics.query", all.clone());
            assert!(answer["count"].as_u64() >= Some(700), "{answer:.200}");
            answers.fetch_add(1, Ordering::Relaxed);
        }
    };
    let longest = thread::scope(|scope| {
        (0..READERS).for_each(|_| drop(scope.spawn(ask)));
        let longest = longest_wait(home.follow("metrics.follow", json!({})));
        stop.store(true, Ordering::Relaxed);
        longest
    });
    (answers.into_inner(), longest)
}

fn longest_wait(mut samples: Stream) -> Duration {
    samples.next_item().unwrap();
    let (mut longest, end) = (Duration::ZERO, Instant::now() + READING);
    while Instant::now() < end {
        let before = Instant::now();
        samples.next_item().unwrap();
        longest = longest.max(before.elapsed());
    }
    longest
}
