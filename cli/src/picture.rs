//! Pictures of screens for the README: cells as SVG.
//!
//! Signs that fonts draw in many ways, blocks and braille, are drawn as what they mean; text is
//! stretched to its columns. So a picture looks the same wherever it is looked at.

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use std::fmt::Write as _;

const COLUMN: usize = 9;
const ROW: usize = 20;
const MARGIN: usize = 14;

/// The cells of a screen, with a title bar.
pub(crate) fn svg(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let (width, height) = (
        usize::from(area.width) * COLUMN + 2 * MARGIN,
        usize::from(area.height) * ROW + 2 * MARGIN + ROW,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>{}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"13\" fill=\"#8b919c\">{}</text>\n\
         <g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"15\" xml:space=\"preserve\">\n",
        escaped(title),
        width / 2,
        MARGIN + 8,
        escaped(title),
    );
    for (row, cells) in buffer.content().chunks(usize::from(area.width)).enumerate() {
        let y = MARGIN + ROW + row * ROW;
        let mut column = 0;
        while let Some(cell) = cells.get(column) {
            let x = MARGIN + column * COLUMN;
            if drawn(&mut svg, cell, x, y) {
                column += 1;
                continue;
            }
            let same = |other: &&Cell| {
                (other.fg, other.modifier) == (cell.fg, cell.modifier) && !is_drawn(other)
            };
            let run: Vec<&Cell> = cells.iter().skip(column).take_while(same).collect();
            let text: String = run.iter().map(|cell| cell.symbol()).collect();
            let (blank, length) =
                (text.len() - text.trim_start().len(), text.trim().chars().count());
            if length > 0 {
                let bold = if cell.modifier.contains(Modifier::BOLD) {
                    " font-weight=\"bold\""
                } else {
                    ""
                };
                let _ = writeln!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" fill=\"{}\"{bold} textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\">{}</text>",
                    x + blank * COLUMN,
                    y + ROW - 5,
                    colour(cell),
                    length * COLUMN,
                    escaped(text.trim()),
                );
            }
            column += run.len().max(1);
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn sign(cell: &Cell) -> char {
    cell.symbol().chars().next().unwrap_or(' ')
}

fn is_drawn(cell: &Cell) -> bool {
    matches!(sign(cell), '▁'..='█' | '⠀'..='⣿' | '─' | '│' | '└' | '┤')
}

/// Draws a sign that is no letter.
fn drawn(svg: &mut String, cell: &Cell, x: usize, y: usize) -> bool {
    let sign = sign(cell);
    let fill = colour(cell);
    let mut rect = |x: usize, y: usize, width: usize, height: usize| {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"
        );
    };
    let (middle_x, middle_y) = (x + COLUMN / 2, y + ROW / 2);
    match sign {
        '▁'..='█' => {
            let eighths = usize::try_from(u32::from(sign) - u32::from('▁') + 1).unwrap_or(0);
            let height = (ROW - 2) * eighths / 8;
            rect(x, y + ROW - 1 - height, COLUMN - 1, height);
        }
        '─' => rect(x, middle_y, COLUMN, 1),
        '│' => rect(middle_x, y, 1, ROW),
        '┤' => {
            rect(middle_x, y, 1, ROW);
            rect(x, middle_y, COLUMN / 2, 1);
        }
        '└' => {
            rect(middle_x, y, 1, ROW / 2);
            rect(middle_x, middle_y, COLUMN - COLUMN / 2, 1);
        }
        '⠀'..='⣿' => {
            let dots = u32::from(sign) - u32::from('⠀');
            // Dots 1 to 3 and 7 are the left column from above, 4 to 6 and 8 the right one.
            let places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
            for (bit, (right, down)) in places.into_iter().enumerate() {
                if dots & (1 << bit) != 0 {
                    rect(x + 1 + right * 4, y + 2 + down * 5, 3, 3);
                }
            }
        }
        _ => return false,
    }
    true
}

fn colour(cell: &Cell) -> &'static str {
    match cell.fg {
        Color::Red => "#f47067",
        Color::Green => "#57c477",
        Color::Yellow => "#d9b04c",
        Color::Cyan => "#4fb8cc",
        Color::Blue => "#6c9ef8",
        Color::Magenta => "#c792ea",
        _ if cell.modifier.contains(Modifier::DIM) => "#7d838f",
        _ => "#d7dae0",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

mod tests {
    use super::*;
    use crate::output::cells::put;
    use crate::output::look::Look;
    use crate::output::screen::assert_document;
    use crate::output::time::Clock;
    use crate::plot;
    use crate::top::{frame::draw, tests::busy_machine};
    use llamactl_protocol::metrics::{Labels, Stat};
    use ratatui::layout::Rect;

    const LOOK: Look = Look {
        terminal: true,
        columns: Some(100),
        colour: true,
        unicode: true,
        full: false,
        rows: None,
    };

    #[test]
    fn docs_pictures_are_what_is_drawn() {
        let area = Rect::new(0, 0, 100, 18);
        let buffer = draw(&mut busy_machine(), &LOOK, &Clock::utc(), area);
        assert_document("pictures/top.svg", &svg(&buffer, "llamactl top"));

        // Answers of some minutes, and a machine that slept.
        let speed = |at: u32| match at {
            150..200 => None,
            at if at / 29 % 3 == 1 => Some(0.0),
            at => Some(34.0 + f64::from(at * 7919 % 17)),
        };
        let speeds: Vec<Option<f64>> = (0..360).map(speed).collect();
        let busy = speeds.iter().map(|it| it.map(|it| 0.03 + it / 56.0)).collect();
        let gpu = Labels { gpu: Some("0".into()), ..Labels::default() };
        let columns = plot::tests::columns(
            &[
                ("server.tokens_generated", plot::tests::of_model("qwen3:8b"), speeds),
                ("gpu.busy_ratio", gpu, busy),
            ],
            10_000,
        );
        let lines = plot::panels(&columns, Stat::Mean, &Clock::utc(), &LOOK);
        let rows = u16::try_from(lines.len()).unwrap();
        let mut buffer = Buffer::empty(Rect::new(0, 0, 100, rows));
        for (row, line) in (0..).zip(&lines) {
            put(&mut buffer, row, line, &LOOK);
        }
        assert_document(
            "pictures/plot.svg",
            &svg(
                &buffer,
                "llamactl metrics server.tokens_generated gpu.busy_ratio --since 1h --plot",
            ),
        );
    }
}
