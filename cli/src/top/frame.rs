//! What the screen looks like: a function of what is on it, how large it is and who looks at it.
//!
//! ```text
//!   box  cpu ▂▃▅ 42%  mem 12.3 of 62.7 GiB  GPU 0 ▃▅▇ 87%  18.2 of 24.0 GiB    the machine
//!    NAME    STATE  SLOTS  TOK/S                                              the servers
//!   >gemma3  ready    1/4   41.7  ▃▅▇▅▆▇
//!   ── log of gemma3 ──                                                       its log
//!   s start  x stop  …  q quit                                                what is said; keys
//! ```
//!
//! It is drawn into a buffer, and what differs from the buffer before is what the terminal is sent.

use super::history::{Of, sparkline};
use super::state::{Pane, Top};
use crate::commands::why;
use crate::output::Output;
use crate::output::cells::{put, to_ascii};
use crate::output::look::Look;
use crate::output::styled::{BOLD, CYAN, DIM, GREEN, Styled, YELLOW};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::time::Clock;
use crate::output::units::{self, UNKNOWN};
use crate::output::width::cut_middle;
use crate::view::{device, state_cell};
use llamactl_protocol::metrics::Gpu;
use llamactl_protocol::server::{Server, State};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Nothing can be told on less.
const LEAST: (u16, u16) = (20, 6);
/// Lines of a log beneath the servers, if there is room at all.
const LOG_ROWS: usize = 4;

/// The screen in so many columns and rows. How far a text can be moved is seen here, and kept.
pub(crate) fn draw(top: &mut Top, look: &Look, clock: &Clock, area: Rect) -> Buffer {
    let mut buffer = Buffer::empty(area);
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    if area.width < LEAST.0 || area.height < LEAST.1 {
        put(&mut buffer, 0, &Styled::from("llamactl top: too small"), look);
        return buffer;
    }
    let look = Look { columns: Some(columns), ..*look };
    let mut head = machine(top, columns);
    head.truncate((rows / 4).max(1));
    let said = said(top);
    let foot = 1 + usize::from(said.is_some());
    let middle = rows.saturating_sub(head.len() + foot);
    let mut lines = head;
    lines.extend(body(top, &look, clock, middle));
    lines.resize_with(rows - foot, Styled::new);
    lines.extend(said);
    lines.push(keys(top, columns));
    for (row, line) in (0..).zip(&lines) {
        put(&mut buffer, row, line, &look);
    }
    if !look.unicode {
        to_ascii(&mut buffer);
    }
    buffer
}

/// The machine: pieces, as many on a line as fit.
fn machine(top: &Top, columns: usize) -> Vec<Styled> {
    let is_wide = columns >= 100;
    let bars = match columns {
        0..100 => 6,
        100..160 => 12,
        _ => 24,
    };
    let spark = |of| sparkline(&top.history.bars(of, top.now_ms, bars), 1.0);
    let host = top.sample.as_ref().map(|sample| &sample.host);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| UNKNOWN.to_owned(), units::percent);
    let mut pieces = vec![
        Styled::new()
            .with(BOLD, cut_host(&top.host))
            .plain("  cpu ")
            .with(CYAN, spark(Of::Cpu))
            .plain(format!(" {}", ratio(host.and_then(|host| host.cpu_busy_ratio)))),
    ];
    let memory = host.and_then(|host| {
        let (total, available) = (host.memory_total_bytes?, host.memory_available_bytes?);
        Some(units::bytes_of(total.saturating_sub(available), total))
    });
    let memory = memory.unwrap_or_else(|| UNKNOWN.to_owned());
    pieces.push(Styled::from(format!("mem {memory}")));
    if let Some(load) = host.and_then(|host| host.load_1m).filter(|_| is_wide) {
        pieces.push(Styled::from(format!("load {}", units::rate(load))));
    }
    for gpu in top.sample.iter().flat_map(|sample| sample.gpus.iter().flatten()) {
        pieces.push(
            Styled::from(format!("GPU {} ", gpu.index))
                .with(CYAN, spark(Of::Gpu(gpu.index)))
                .plain(format!(" {}  {}", ratio(gpu.busy_ratio), gpu_facts(gpu, is_wide))),
        );
    }
    flowed(pieces, columns)
}

fn gpu_facts(gpu: &Gpu, is_wide: bool) -> String {
    let memory = gpu.memory_used_bytes.zip(gpu.memory_total_bytes);
    let memory = memory.map(|(used, total)| units::bytes_of(used, total));
    let mut facts = vec![memory.unwrap_or_else(|| UNKNOWN.to_owned())];
    if is_wide {
        facts.extend(gpu.temperature_celsius.map(|it| format!("{it:.0} °C")));
        facts.extend(gpu.power_watts.map(|it| format!("{it:.0} W")));
    }
    facts.join("  ")
}

/// The name of the machine, without its domain.
fn cut_host(host: &str) -> String {
    host.split('.').next().unwrap_or(host).chars().take(16).collect()
}

/// Pieces with two spaces between them, on as few lines as they fit on.
fn flowed(pieces: Vec<Styled>, columns: usize) -> Vec<Styled> {
    let mut lines: Vec<Styled> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if line.width() + 2 + piece.width() <= columns => {
                *line = std::mem::take(line).plain("  ").append(piece);
            }
            _ => lines.push(piece),
        }
    }
    lines
}

/// What stands between the machine and the foot, in at most so many rows.
fn body(top: &mut Top, look: &Look, clock: &Clock, rows: usize) -> Vec<Styled> {
    let columns = look.columns.unwrap_or(0);
    let text = match &top.pane {
        Pane::Both => return both(top, look, rows),
        Pane::Log => {
            let room = rows.saturating_sub(1);
            top.bound_scroll(top.log.lines.len().saturating_sub(room));
            let mut lines = vec![log_rule(top)];
            lines.extend(log(top, room, columns));
            return lines;
        }
        Pane::Why(model, None) => vec![rule(&format!("why {model}")), "…".into()],
        Pane::Why(model, Some(why)) => {
            let text = Output::text(*look, |output| why::show(output, why, clock, top.now_ms));
            std::iter::once(rule(&format!("why {model}")))
                .chain(text.lines().map(Styled::of_painted))
                .collect()
        }
        Pane::Help => {
            let text = HELP.iter().flat_map(|line| Styled::from(*line).wrapped(columns));
            std::iter::once(rule("keys")).chain(text).collect()
        }
    };
    let mut text = text.into_iter();
    let heading = text.next();
    let text: Vec<Styled> = text.collect();
    let room = rows.saturating_sub(1);
    top.bound_scroll(text.len().saturating_sub(room));
    heading.into_iter().chain(text.into_iter().skip(top.scroll).take(room)).collect()
}

const HELP: [&str; 13] = [
    "up down, j k    choose a server; home end, page up page down",
    "s               start it",
    "x               stop it; asks twice while it answers requests",
    "r               restart it with its current settings; asks twice too",
    "w               why it is as it is, and what to do",
    "l, enter        its log alone; left right move it sideways",
    "/               show only servers with this in their name",
    "esc             back; all servers again",
    "ctrl-l          draw all of it anew",
    "ctrl-z          suspend; fg brings it back",
    "q, ctrl-c       quit",
    "",
    "A bar of a sparkline is the mean of 10 seconds, the newest on the right; where nothing was \
     measured there is none. The bars of a server are its tokens per second.",
];

/// The servers, and the log of the one that is selected.
fn both(top: &Top, look: &Look, rows: usize) -> Vec<Styled> {
    let columns = look.columns.unwrap_or(0);
    let shown = top.shown().count();
    if shown == 0 {
        let text = match top.is_empty() {
            None => "…".to_owned(),
            Some(true) => {
                "no models yet: llamactl model add FILE, or llamactl model scan".to_owned()
            }
            Some(false) => format!("no model has {} in its name", top.filter),
        };
        return Styled::from(text).wrapped(columns);
    }
    // The heading, and the rule above the log.
    let for_log = if rows >= LOG_ROWS + 5 { LOG_ROWS + 1 } else { 0 };
    let room = rows.saturating_sub(1 + for_log).min(shown).max(1);
    let at = top.selected().map_or(0, |(at, _)| at);
    let first = (at + 1).saturating_sub(room);
    let mut table = servers(top, look);
    let heading = table.drain(..1).next();
    let mut lines: Vec<Styled> =
        heading.map(|line| Styled::from(" ").append(line)).into_iter().collect();
    for (place, line) in table.into_iter().enumerate().skip(first).take(room) {
        let is_selected = place == at;
        let line = if is_selected { line.over(BOLD) } else { line };
        let mark = if is_selected { Styled::new().with(BOLD, ">") } else { Styled::from(" ") };
        lines.push(mark.append(line));
    }
    if for_log > 0 {
        lines.push(log_rule(top));
        let room = rows.saturating_sub(lines.len());
        lines.extend(log(top, room, columns));
    }
    lines
}

/// The table of servers, its heading first.
fn servers(top: &Top, look: &Look) -> Vec<Styled> {
    let columns = look.columns.unwrap_or(0);
    let bars = if columns < 110 { 6 } else { 12 };
    // A long name of one must not cost all of them their numbers.
    let name_columns = (columns * 3 / 10).max(16);
    let gpus = top.sample.as_ref().and_then(|sample| sample.gpus.as_deref());
    let mut table = Table::new([
        Column::name("NAME"),
        Column::word("STATE", 0),
        Column::number("FOR", 4),
        Column::text("DEVICE", 2),
        Column::number("SLOTS", 0),
        Column::number("TOK/S", 0),
        Column::number("MEM", 3),
        Column::word("", 5),
    ]);
    for server in top.shown() {
        let runs = !server.state.is_settled_down() && server.state != State::Backoff;
        let measured = top.measured(server).filter(|_| runs);
        let llama = measured.and_then(|sample| sample.llama.as_ref());
        let speed = llama.and_then(|llama| llama.generated_tokens_per_second);
        let memory = measured.and_then(|sample| sample.process.memory_anonymous_bytes);
        let past = top.history.bars(Of::Speed(server.model_id), top.now_ms, bars);
        let most = past.iter().flatten().fold(1.0_f64, |most, it| most.max(*it));
        table.row([
            Cell::from(cut_middle(&server.model, name_columns, look.ellipsis())),
            state_cell(server, top.now_ms),
            Cell::from(units::between(server.since_ms, top.now_ms)),
            known(device(server, measured.map(|sample| &sample.process), gpus).filter(|_| runs)),
            known(slots(server, llama.and_then(|llama| llama.slots_busy)).filter(|_| runs)),
            known(speed.map(units::rate)),
            known(memory.map(units::bytes)),
            Cell::styled(GREEN, sparkline(&past, most).trim_end()),
        ]);
    }
    // One column is the mark of the selected one.
    table.lines(&Look { columns: Some(columns.saturating_sub(1)), ..*look })
}

fn slots(server: &Server, busy: Option<u32>) -> Option<String> {
    let slots = server.in_force.as_ref()?.slots?;
    let busy = busy.map_or_else(|| UNKNOWN.to_owned(), |busy| busy.to_string());
    Some(format!("{busy}/{slots}"))
}

fn rule(title: &str) -> Styled {
    Styled::new().with(DIM, "── ").with(BOLD, title).with(DIM, " ──")
}

fn log_rule(top: &Top) -> Styled {
    let name = top.selected().map_or("", |(_, server)| server.model.as_str());
    let line = rule(&format!("log of {name}"));
    match top.scroll {
        0 => line,
        lines => line.with(YELLOW, format!(" {lines} lines from its end")),
    }
}

/// The end of the log, or what is before it where one looks there.
fn log(top: &Top, rows: usize, columns: usize) -> Vec<Styled> {
    let is_of_another = top.log.model_id != top.wanted_log().map(|(id, _)| id);
    if is_of_another {
        return Vec::new();
    }
    let scroll = if matches!(top.pane, Pane::Log) { top.scroll } else { 0 };
    let lines = &top.log.lines;
    let end = lines.len().saturating_sub(scroll);
    let first = end.saturating_sub(rows);
    let lines = lines.iter().skip(first).take(end - first);
    lines.map(|line| line.columns(top.sideways, columns)).collect()
}

/// What is said above the keys.
fn said(top: &Top) -> Option<Styled> {
    if let Some(since_ms) = top.away_since_ms {
        let text = format!(
            "the daemon went away; waiting for it ({})",
            units::between(since_ms, top.now_ms)
        );
        return Some(Styled::new().with(YELLOW, text));
    }
    top.said().map(|said| Styled::new().append(said.clone()))
}

/// The keys that there are.
fn keys(top: &Top, columns: usize) -> Styled {
    if top.is_typing {
        let filter = &top.filter;
        return Styled::new()
            .with(BOLD, "/")
            .plain(filter.as_str())
            .with(BOLD, "_")
            .with(DIM, "  enter keeps it, esc takes it back");
    }
    let all: &[(&str, &str, u8)] = match top.pane {
        Pane::Both => &[
            ("s", "start", 1),
            ("x", "stop", 1),
            ("r", "restart", 3),
            ("w", "why", 2),
            ("l", "log", 4),
            ("/", "filter", 5),
            ("?", "help", 0),
            ("q", "quit", 0),
        ],
        _ => &[
            ("up down", "move", 1),
            ("esc", "back", 0),
            ("s", "start", 3),
            ("x", "stop", 3),
            ("r", "restart", 4),
            ("?", "help", 2),
            ("q", "quit", 0),
        ],
    };
    let mut keys = all.to_vec();
    let width = |keys: &[(&str, &str, u8)]| {
        keys.iter().map(|(key, word, _)| key.len() + word.len() + 3).sum::<usize>()
    };
    while width(&keys) > columns + 2 {
        let least = keys.iter().enumerate().max_by_key(|(at, key)| (key.2, *at));
        let Some(at) = least.map(|(at, _)| at).filter(|_| keys.len() > 1) else { break };
        keys.remove(at);
    }
    let mut line = Styled::new();
    for (key, word, _) in keys {
        line = line.with(BOLD, key).plain(format!(" {word}  "));
    }
    if !top.filter.is_empty() && matches!(top.pane, Pane::Both) {
        line = line.with(YELLOW, format!("/{}", top.filter));
    }
    line
}
