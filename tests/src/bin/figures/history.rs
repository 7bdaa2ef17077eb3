//! What history costs: storing a sample, its size after a year, and a day of it asked for.

use llamactld::metrics::history::figures::{Figures, measure};
use std::time::Duration;

/// What a year of 50 series may take.
const MOST_BYTES_A_SERIES: f64 = 40e6 / 50.0;

pub(super) fn print() {
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
    let each = size_bytes as f64 / series as f64;
    println!("\na day of seconds, a month of minutes, a year of hours");
    println!("  all {series} series               {:8.1} MB", size_bytes as f64 / 1e6);
    println!("  a series                     {:8.2} MB", each / 1e6);
    assert!(each < MOST_BYTES_A_SERIES, "40 MB for 50 series are promised");
    let ms = |spent: Duration| spent.as_secs_f64() * 1e3;
    println!("\na day by minutes of {series} series, the least processor time of 21");
    println!("  a bare step over the rows    {:8.2} ms", ms(figures.bare_step));
    println!(
        "  read and decoded             {:8.2} ms  {:.2} x",
        ms(figures.asked),
        ratio(figures.asked, figures.bare_step)
    );
    println!("  serde_json of the numbers    {:8.2} ms", ms(figures.bare_json));
    println!(
        "  the answer of {:4} kB        {:8.2} ms  {:.2} x",
        answer_bytes / 1000,
        ms(figures.answered),
        ratio(figures.answered, figures.bare_json)
    );
}
