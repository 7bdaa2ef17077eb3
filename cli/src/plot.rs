//! Drawings of what was measured: `llamactl metrics --plot`.
//!
//! ```text
//!   host.cpu_busy_ratio  least 3%  most 98%  last 42%
//!    100% ┤      ⢀⠤⡀
//!     50% ┤⠤⠤⠤⠒⠒⠁  ⠈⠉⠑       ⡠⠤       every step is drawn: none is too short to be seen;
//!      0% ┤                           where nothing was measured there is no line
//!         └──────────────────────────
//!          12:00:00          13:00:00
//! ```
//!
//! A panel is a function of a column, its steps and who looks at it.

use crate::output::cells::{lines, put, to_ascii};
use crate::output::look::Look;
use crate::output::styled::{BOLD, DIM, Styled};
use crate::output::time::Clock;
use crate::output::units;
use crate::output::width::{cut_middle, width};
use llamactl_protocol::metrics::{MetricsColumn, MetricsColumns, Stat};
use llamactl_protocol::series::{Unit, of_name};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::Widget as _;
use ratatui::widgets::canvas::{Canvas, Line};

/// Rows of a line, alone and beside others. Odd: a label stands at the middle.
const ROWS: (u16, u16) = (11, 7);
/// The width where nobody says another.
const USUAL_COLUMNS: usize = 80;
const DAY_MS: i64 = 86_400_000;

/// A value of a series for people: of what `stat` makes of it.
pub(crate) fn text(column: &MetricsColumn, stat: Stat, value: f64) -> String {
    match (of_name(&column.name), stat) {
        (Some(series), Stat::Sum) => units::of_amount(series.unit, value),
        (Some(series), stat) if stat != Stat::Count => units::of_series(series, value),
        _ => units::plain(value),
    }
}

/// A panel for each column, their times below one another.
pub(crate) fn panels(
    steps: &MetricsColumns,
    stat: Stat,
    clock: &Clock,
    look: &Look,
) -> Vec<Styled> {
    let rows = if steps.series.len() == 1 { ROWS.0 } else { ROWS.1 };
    let scales: Vec<_> = steps.series.iter().map(|column| Scale::of(column, stat)).collect();
    let labels = scales.iter().flatten().flat_map(|scale| &scale.labels);
    let margin = labels.map(|label| width(label)).max().unwrap_or(0) + 2;
    let margin = u16::try_from(margin).unwrap_or(0);
    let columns = u16::try_from(look.columns.unwrap_or(USUAL_COLUMNS)).unwrap_or(u16::MAX);
    let area = Rect::new(0, 0, columns.clamp(margin + 12, 1000), rows + 2);
    let plot = Rect::new(margin, 0, area.width - margin, rows);
    let mut text = Vec::new();
    for (column, scale) in steps.series.iter().zip(scales) {
        if !text.is_empty() {
            text.push(Styled::new());
        }
        text.extend(title(column, scale.as_ref(), stat, look));
        let Some(scale) = scale else { continue };
        let mut buffer = Buffer::empty(area);
        draw(&mut buffer, plot, &column.values, scale.bounds, look);
        axes(&mut buffer, plot, &scale.labels, look);
        moments(&mut buffer, plot, steps, clock, look);
        if !look.unicode {
            to_ascii(&mut buffer);
        }
        text.extend(lines(&buffer));
    }
    text
}

/// What the values of a column lie between.
struct Scale {
    least: f64,
    most: f64,
    last: f64,
    bounds: (f64, f64),
    /// The upper bound, the middle, the lower one.
    labels: [String; 3],
}

impl Scale {
    /// `None` where nothing was measured.
    fn of(column: &MetricsColumn, stat: Stat) -> Option<Scale> {
        let known = || column.values.iter().flatten().copied();
        let last = known().last()?;
        let (least, most) =
            known().fold((last, last), |(least, most), value| (least.min(value), most.max(value)));
        let is_binary = stat != Stat::Count && column.unit == Unit::Bytes;
        let labels = |(low, high): (f64, f64)| {
            [high, low + (high - low) / 2.0, low].map(|at| text(column, stat, at))
        };
        let mut bounds = bounds(least, most, is_binary);
        // Where people's units cannot tell them apart, the whole is told.
        let [high, middle, low] = labels(bounds);
        if least > 0.0 && (high == middle || middle == low) {
            bounds = (0.0, round_up(most, is_binary));
        }
        let labels = labels(bounds);
        Some(Scale { least, most, last, bounds, labels })
    }
}

fn title(column: &MetricsColumn, scale: Option<&Scale>, stat: Stat, look: &Look) -> Vec<Styled> {
    let name = format!("{}{}", column.name, column.labels.text());
    let room = look.columns.filter(|_| look.terminal).unwrap_or(usize::MAX);
    let name = Styled::new().with(BOLD, cut_middle(&name, room, look.ellipsis()));
    let Some(Scale { least, most, last, .. }) = scale else {
        return beside(name, Styled::new().with(DIM, "nothing was measured in this time"), room);
    };
    let say = |value: &f64| text(column, stat, *value);
    let numbers = format!("least {}  most {}  last {}", say(least), say(most), say(last));
    beside(name, Styled::from(numbers), room)
}

/// One line of both, or two where that is too wide.
fn beside(title: Styled, numbers: Styled, room: usize) -> Vec<Styled> {
    match title.width() + 2 + numbers.width() <= room {
        true => vec![title.plain("  ").append(numbers)],
        false => vec![title, Styled::from("  ").append(numbers)],
    }
}

/// Between which round values the line is drawn: from 0, unless it would only move at the top.
fn bounds(least: f64, most: f64, is_binary: bool) -> (f64, f64) {
    if least == most {
        let high = round_up(most.abs().max(f64::MIN_POSITIVE), is_binary);
        return if most < 0.0 { (-high, 0.0) } else { (0.0, if most == 0.0 { 1.0 } else { high }) };
    }
    if least >= 0.0 && least * 2.0 <= most {
        return (0.0, round_up(most, is_binary));
    }
    let step = round_up((most - least) / 2.0, is_binary);
    let low = (least / step).floor() * step;
    let halves = ((most - low) / step / 2.0).ceil().max(1.0);
    (low, low + halves * 2.0 * step)
}

/// The next round number, also in halves.
fn round_up(value: f64, is_binary: bool) -> f64 {
    let mut unit = 1.0;
    if is_binary {
        while value > unit * 1024.0 {
            unit *= 1024.0;
        }
    }
    let scale = 10_f64.powf((value / unit).log10().floor()) * unit;
    let round = ROUND.into_iter().find(|round| round * scale >= value);
    round.unwrap_or(10.0) * scale
}

/// What is round, and has a round half.
const ROUND: [f64; 11] = [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];

/// Each unbroken run of values as one line.
fn draw(
    buffer: &mut Buffer,
    area: Rect,
    values: &[Option<f64>],
    (low, high): (f64, f64),
    look: &Look,
) {
    let marker = if look.unicode { Marker::Braille } else { Marker::Custom('*') };
    let color = if look.colour { Color::Cyan } else { Color::Reset };
    let place = |step: usize| step as f64 + 0.5;
    let points = values.iter().enumerate().map(|(at, value)| value.map(|value| (place(at), value)));
    let points: Vec<Option<(f64, f64)>> = points.collect();
    Canvas::default()
        .marker(marker)
        .x_bounds([0.0, values.len() as f64])
        .y_bounds([low, high])
        .paint(|canvas| {
            let mut before = None;
            for point in &points {
                if let Some((x, y)) = *point {
                    // What stands alone is a point.
                    let (x1, y1) = before.unwrap_or((x, y));
                    canvas.draw(&Line { x1, y1, x2: x, y2: y, color });
                }
                before = *point;
            }
        })
        .render(area, buffer);
}

fn axes(buffer: &mut Buffer, plot: Rect, labels: &[String; 3], look: &Look) {
    let at = plot.x - 1;
    let dim = if look.colour { Style::new().dim() } else { Style::new() };
    for row in 0..plot.height {
        buffer.set_string(at, row, "│", dim);
    }
    for (row, label) in [0, plot.height / 2, plot.height - 1].into_iter().zip(labels) {
        let columns = u16::try_from(width(label)).unwrap_or(0);
        buffer.set_string(at.saturating_sub(1 + columns), row, label, Style::new());
        buffer.set_string(at, row, "┤", dim);
    }
    let line = "─".repeat(usize::from(plot.width));
    buffer.set_string(at, plot.height, format!("└{line}"), dim);
}

/// When the steps begin and end, and what lies between.
fn moments(buffer: &mut Buffer, plot: Rect, steps: &MetricsColumns, clock: &Clock, look: &Look) {
    let step_ms = i64::try_from(steps.step_ms).unwrap_or(i64::MAX);
    let count = i64::try_from(steps.count).unwrap_or(i64::MAX);
    let span_ms = count.saturating_mul(step_ms);
    let moment = |at_ms: i64| match span_ms < DAY_MS {
        true => clock.time(at_ms),
        false => clock.full(at_ms).get(..16).unwrap_or_default().to_owned(),
    };
    let columns = usize::from(plot.width);
    let texts = [0, span_ms / 2, span_ms].map(|ago| moment(steps.start_at_ms.saturating_add(ago)));
    let needed: usize = texts.iter().map(|text| width(text) + 4).sum();
    let mut line = String::new();
    for (place, text) in texts.iter().enumerate() {
        let at = match place {
            0 => 0,
            1 if needed > columns => continue,
            1 => columns / 2 - width(text) / 2,
            _ => columns.saturating_sub(width(text)),
        };
        let space = at.saturating_sub(width(&line));
        if place > 0 && space == 0 {
            continue;
        }
        line.push_str(&" ".repeat(space));
        line.push_str(text);
    }
    let left = " ".repeat(usize::from(plot.x));
    put(buffer, plot.height + 1, &Styled::from(left).with(DIM, line), look);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::screen::{NOW_MS, assert_text};
    use llamactl_protocol::metrics::Labels;

    pub(crate) fn columns(
        series: &[(&str, Labels, Vec<Option<f64>>)],
        step_ms: u64,
    ) -> MetricsColumns {
        let count = series.first().map_or(0, |(_, _, values)| values.len());
        MetricsColumns {
            start_at_ms: NOW_MS - i64::try_from(count as u64 * step_ms).unwrap(),
            step_ms,
            count: count as u64,
            series: series
                .iter()
                .map(|(name, labels, values)| {
                    let series = of_name(name).unwrap();
                    MetricsColumn {
                        name: (*name).to_owned(),
                        unit: series.unit,
                        kind: series.kind,
                        labels: labels.clone(),
                        values: values.clone(),
                    }
                })
                .collect(),
            ..MetricsColumns::default()
        }
    }

    pub(crate) fn of_model(model: &str) -> Labels {
        Labels { model: Some(model.to_owned()), model_id: Some(1), ..Labels::default() }
    }

    /// A wave with a gap, a spike of one step, and a value that stands alone.
    pub(crate) fn wave(most: f64) -> Vec<Option<f64>> {
        let wave = (0..360).map(|at: i32| {
            let height = f64::from((at % 120 - 60).abs()) / 60.0;
            match at {
                150..=190 if at != 170 => None,
                60 => Some(most),
                _ => Some(height * most * 0.6),
            }
        });
        wave.collect()
    }

    fn look(columns: usize, unicode: bool) -> Look {
        Look {
            terminal: true,
            columns: Some(columns),
            colour: false,
            unicode,
            full: false,
            rows: None,
        }
    }

    fn shown(lines: &[Styled]) -> String {
        let text = |line: &Styled| line.pieces().map(|(_, text)| text).collect::<String>();
        lines.iter().map(|line| text(line).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn panels_at_every_width() {
        let gpu = Labels { gpu: Some("0".into()), ..Labels::default() };
        let nasty = of_model(&"unsloth/Qwen3-4B-Instruct-2507-GGUF:UD-Q4_K_XL@".repeat(2));
        let several = columns(
            &[
                ("host.cpu_busy_ratio", Labels::default(), wave(0.97)),
                (
                    "gpu.memory_used_bytes",
                    gpu.clone(),
                    wave(19e9).iter().map(|it| it.map(|it| 5e9 + it / 4.0)).collect(),
                ),
                ("server.tokens_generated", nasty, wave(52.0)),
                ("gpu.temperature_celsius", gpu, vec![None; 360]),
            ],
            10_000,
        );
        for width in [60, 80, 120, 200] {
            let text = shown(&panels(&several, Stat::Mean, &Clock::utc(), &look(width, true)));
            assert!(text.lines().all(|line| super::width(line) <= width), "{text}");
            assert_text(&format!("plot-{width}"), &text);
        }
    }

    #[test]
    fn one_panel_is_higher_and_ascii_tells_the_same() {
        let one = columns(&[("host.cpu_busy_ratio", Labels::default(), wave(0.97))], 3_600_000);
        let ascii = shown(&panels(&one, Stat::Mean, &Clock::utc(), &look(80, false)));
        assert!(ascii.is_ascii(), "{ascii}");
        assert_text("plot-ascii", &ascii);
        let sum = columns(
            &[("server.tokens_generated", of_model("qwen3"), vec![Some(1234.0), None, Some(0.0)])],
            3_600_000,
        );
        assert_text("plot-sum", &shown(&panels(&sum, Stat::Sum, &Clock::utc(), &look(60, true))));
    }

    #[test]
    fn a_value_of_one_step_is_seen_and_a_gap_stays_one() {
        let mut values: Vec<Option<f64>> = vec![Some(0.0); 3600];
        values[1234] = Some(1.0);
        values[2000..2600].fill(None);
        let area = Rect::new(0, 0, 80, 6);
        let mut buffer = Buffer::empty(area);
        draw(&mut buffer, area, &values, (0.0, 1.0), &look(80, true));
        let drawn =
            |x: u16, y: u16| buffer[(x, y)].symbol() != " " && buffer[(x, y)].symbol() != "⠀";
        assert!((0..80).any(|x| drawn(x, 0)), "the spike is drawn to the top");
        assert!((46..57).all(|x| (0..6).all(|y| !drawn(x, y))), "{buffer:?}");
        assert!((0..44).all(|x| drawn(x, 5)));
    }

    #[test]
    fn a_line_that_hardly_moves_is_drawn_between_bounds_that_differ() {
        let still = vec![Some(0.997), Some(1.0), Some(0.999)];
        let still = columns(&[("host.cpu_busy_ratio", Labels::default(), still)], 1000);
        let scale = Scale::of(&still.series[0], Stat::Mean).unwrap();
        assert_eq!(scale.bounds, (0.0, 1.0));
        let [high, middle, low] = &scale.labels;
        assert!(high != middle && middle != low, "{high} {middle} {low}");
    }

    #[test]
    fn bounds_are_round_and_hold_all_values() {
        for (least, most, is_binary, expected) in [
            (0.0, 0.97, false, (0.0, 1.0)),
            (0.03, 0.04, false, (0.03, 0.042)),
            (0.3, 0.97, false, (0.0, 1.0)),
            (0.0, 0.0, false, (0.0, 1.0)),
            (3.0, 3.0, false, (0.0, 3.0)),
            (60.0, 67.0, false, (60.0, 68.0)),
            (0.0, 52.0, false, (0.0, 60.0)),
            (0.0, 18.2 * 1_073_741_824.0, true, (0.0, 20.0 * 1_073_741_824.0)),
        ] {
            let (low, high) = bounds(least, most, is_binary);
            assert!(
                (low - expected.0).abs() < 1e-9 && (high - expected.1).abs() < 1e-9,
                "{least} {most}: {low} {high}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_value_lies_outside_the_bounds(one in -1e12_f64..1e12, other in -1e12_f64..1e12, is_binary: bool) {
            let (least, most) = (one.min(other), one.max(other));
            let (low, high) = bounds(least, most, is_binary);
            proptest::prop_assert!(low <= least && most <= high && low < high, "{low} {high}");
        }
    }
}
