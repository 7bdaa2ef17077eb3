//! The screens, kept and compared; what keys and events make of them.

use super::frame::draw;
use super::history::BAR_MS;
use super::state::{Event, Key, Top, Verb, Wish};
use crate::commands::scene;
use crate::output::cells::lines;
use crate::output::look::Look;
use crate::output::screen::{NOW_MS, assert_text};
use crate::output::time::Clock;
use crate::output::width::width;
use llamactl_protocol::log::{LogFrame, LogLevel, LogLine, LogNote, LogStream};
use llamactl_protocol::server::{Server, State, Why};
use llamactl_protocol::{Failure, Hint, Kind};
use ratatui::layout::Rect;

/// A machine that has been watched for ten minutes.
pub(crate) fn busy_machine() -> Top {
    let mut top = Top::new("box.example.org".into(), NOW_MS - 600_000);
    let servers = vec![
        named(1, "gemma3", State::Ready),
        named(2, "qwen3:8b", State::Ready),
        named(3, "mistral-small", State::Loading),
        named(4, "phi-4", State::Queued),
        named(5, "cut", State::Failed),
        named(6, "unsloth/Qwen3-4B-Instruct-2507-GGUF:UD-Q4_K_XL", State::Stopped),
    ];
    top.step(Event::Servers(servers));
    for step in 0..60 {
        let at_ms = NOW_MS - (59 - step) * BAR_MS;
        let wave = |period: i64| {
            let at = u32::try_from((step % period - period / 2).abs()).unwrap();
            f64::from(at) / (f64::from(u32::try_from(period).unwrap()) / 2.0)
        };
        let mut sample = scene::sample();
        sample.at_ms = at_ms;
        sample.host.cpu_busy_ratio = Some(0.1 + 0.5 * wave(14));
        for gpu in sample.gpus.iter_mut().flatten() {
            gpu.busy_ratio = Some(0.2 + 0.75 * wave(10));
        }
        let template = sample.servers.remove(0);
        for (model_id, model, most) in [(1, "gemma3", 44.0), (2, "qwen3:8b", 0.0)] {
            let mut server = template.clone();
            (server.model_id, server.model) = (model_id, model.into());
            if let Some(llama) = &mut server.llama {
                llama.slots_busy = Some(u32::from(most > 0.0));
                llama.generated_tokens_per_second = Some(most * (0.4 + 0.6 * wave(8)));
            }
            sample.servers.push(server);
        }
        top.step(Event::Tick(at_ms));
        top.step(Event::Sample(Some(Box::new(sample))));
    }
    top.step(Event::Key(Key::Char('G')));
    for _ in 0..2 {
        top.step(Event::Key(Key::Up));
    }
    assert_eq!(top.selected().unwrap().1.model, "gemma3");
    top.step(Event::Log(1, frame(None, &LOG)));
    top
}

const LOG: [(Option<LogLevel>, &str); 5] = [
    (Some(LogLevel::Info), "0.00.873.502 I srv  llama_server: model loaded"),
    (
        Some(LogLevel::Warning),
        "0.00.873.611 W srv  llama_server: CORS is set to allow all origins ('*')",
    ),
    (Some(LogLevel::Info), "0.00.882.024 I srv  llama_server: listening on http://127.0.0.1:8102"),
    (
        Some(LogLevel::Info),
        "0.41.101.377 I slot launch_slot_: id  0 | task 12 | processing task, is_child = 0",
    ),
    (
        Some(LogLevel::Info),
        "0.43.220.910 I slot print_timing: n_gen = 88, tg = 41.70 t/s, \u{1b}[2Jtg_3s = 42.05 t/s",
    ),
];

fn named(model_id: i64, model: &str, state: State) -> Server {
    Server { model_id, ..scene::server(model, state) }
}

fn frame(note: Option<LogNote>, lines: &[(Option<LogLevel>, &str)]) -> LogFrame {
    let line = |(level, text): &(Option<LogLevel>, &str)| LogLine {
        level: *level,
        text: (*text).to_owned(),
        ..LogLine::default()
    };
    let lines = lines.iter().map(line).collect();
    LogFrame { run_id: "r".into(), stream: LogStream::Stderr, note, lines }
}

fn look(unicode: bool) -> Look {
    Look { terminal: true, columns: None, colour: false, unicode, full: false, rows: None }
}

fn screen(top: &mut Top, columns: u16, rows: u16, unicode: bool) -> String {
    let buffer = draw(top, &look(unicode), &Clock::utc(), Rect::new(0, 0, columns, rows));
    let text = |line: &crate::output::styled::Styled| {
        line.pieces().map(|(_, text)| text).collect::<String>().trim_end().to_owned() + "\n"
    };
    let text: String = lines(&buffer).iter().map(text).collect();
    assert!(text.lines().all(|line| width(line) <= usize::from(columns)), "{text}");
    text
}

fn press(top: &mut Top, keys: &str) -> Option<Wish> {
    keys.chars().map(|key| top.step(Event::Key(Key::Char(key)))).last().flatten()
}

#[test]
fn the_screen_at_every_size() {
    for (columns, rows) in [(60, 24), (80, 24), (120, 40), (200, 50), (80, 12), (40, 8), (19, 5)] {
        assert_text(
            &format!("top-{columns}x{rows}"),
            &screen(&mut busy_machine(), columns, rows, true),
        );
    }
    let ascii = screen(&mut busy_machine(), 80, 24, false);
    assert!(ascii.is_ascii(), "{ascii}");
    assert_text("top-ascii", &ascii);
}

#[test]
fn any_size_can_be_drawn() {
    let mut top = busy_machine();
    for (columns, rows) in (1..70).flat_map(|columns| (1..30).map(move |rows| (columns, rows))) {
        screen(&mut top, columns, rows, true);
    }
}

#[test]
fn nothing_known_yet_no_models_and_names_of_every_length() {
    let mut top = Top::new("box".into(), NOW_MS);
    assert!(screen(&mut top, 80, 8, true).contains("\n…\n"));
    top.step(Event::Servers(Vec::new()));
    assert_text("top-empty", &screen(&mut top, 80, 8, true));
    let mut long = "x".repeat(128);
    long.replace_range(60..70, ":UD-Q4_K_@");
    top.step(Event::Servers(
        (0..40).map(|at| named(at, &format!("m{at:02}"), State::Stopped)).collect(),
    ));
    top.step(Event::Server(Box::new(named(50, &long, State::Ready))));
    press(&mut top, "G");
    assert_text("top-many", &screen(&mut top, 60, 16, true));
    // No GPU is no GPU: nothing stands there for it.
    let mut sample = scene::sample();
    (sample.gpus, sample.host.cpu_busy_ratio) = (None, None);
    top.step(Event::Sample(Some(Box::new(sample))));
    assert!(screen(&mut top, 80, 8, true).starts_with("box  cpu        -  mem 4.0 of 16.0 GiB\n"));
}

#[test]
fn what_opens_over_the_servers() {
    let mut top = busy_machine();
    assert_eq!(press(&mut top, "w"), Some(Wish::Why("gemma3".into())));
    assert!(screen(&mut top, 80, 24, true).contains("── why gemma3 ──"));
    let server = named(1, "gemma3", State::Failed);
    let hint = Hint::run("download it again", ["llamactl", "model", "verify", "gemma3"]);
    let why = Why {
        summary: "failed 2 hours ago: The model file is incomplete. It never became ready, and what it wrote says so.".into(),
        at_ms: NOW_MS,
        by: Some(scene::anna("llamactl start gemma3")),
        evidence: server.cause.clone().unwrap().evidence,
        hints: vec![hint],
        next: Some("It is not started again by itself.".into()),
        failures: 1,
        remarks: vec![],
        events: scene::events(),
        server,
    };
    // An answer that comes late is of no use to anybody.
    top.step(Event::Why("other".into(), Ok(Box::new(why.clone()))));
    assert!(screen(&mut top, 80, 24, true).contains('…'));
    top.step(Event::Why("gemma3".into(), Ok(Box::new(why))));
    assert_text("top-why", &screen(&mut top, 80, 24, true));
    top.step(Event::Key(Key::Last));
    assert!(screen(&mut top, 80, 12, true).contains("server.ready"));
    press(&mut top, "w?");
    assert_text("top-help", &screen(&mut top, 80, 24, true));
    top.step(Event::Key(Key::Escape));
    press(&mut top, "l");
    assert_text("top-log", &screen(&mut top, 80, 12, true));
    top.step(Event::Key(Key::Enter));
    assert!(screen(&mut top, 80, 24, true).contains("NAME"));
}

#[test]
fn a_log_that_is_looked_back_at_stands_still() {
    let mut top = busy_machine();
    let lines: Vec<String> = (0..3000).map(|line| format!("line {line}")).collect();
    let lines: Vec<_> = lines.iter().map(|line| (None, line.as_str())).collect();
    top.step(Event::Log(1, frame(Some(LogNote::Gone), &lines)));
    press(&mut top, "l");
    assert!(screen(&mut top, 40, 8, true).contains("line 2999\n"));
    top.step(Event::Key(Key::PageUp));
    let before = screen(&mut top, 40, 8, true);
    assert!(before.contains("line 2989\n") && before.contains("10 lines from its en"), "{before}");
    top.step(Event::Log(1, frame(None, &[(None, "line 3000")])));
    assert!(screen(&mut top, 40, 8, true).contains("line 2989\n"));
    top.step(Event::Key(Key::First));
    assert!(screen(&mut top, 40, 8, true).contains("line 1001\n"));
    top.step(Event::Key(Key::Down));
    assert!(!screen(&mut top, 40, 8, true).contains("line 1001\n"));
    top.step(Event::Key(Key::Last));
    // The log of another model is not shown as this one's.
    top.step(Event::Log(2, frame(None, &[(None, "of another")])));
    assert!(!screen(&mut top, 40, 8, true).contains("of another"));
}

#[test]
fn a_stop_that_would_cut_answers_off_is_asked_for_twice() {
    let mut top = busy_machine();
    assert_eq!(press(&mut top, "x"), None);
    assert!(screen(&mut top, 80, 24, true).contains("gemma3 has 1 request; x again to stop it"));
    assert_eq!(press(&mut top, "r"), None, "another verb is another question");
    assert_eq!(press(&mut top, "r"), Some(Wish::Ask(Verb::Restart, "gemma3".into())));
    press(&mut top, "xj");
    assert_eq!(
        press(&mut top, "x"),
        Some(Wish::Ask(Verb::Stop, "qwen3:8b".into())),
        "nothing is cut"
    );
    assert_eq!(press(&mut top, "ks"), Some(Wish::Ask(Verb::Start, "gemma3".into())));
}

#[test]
fn what_became_of_a_wish_is_said() {
    let mut top = busy_machine();
    let accepted = |changed| Box::new(scene::accepted(named(1, "gemma3", State::Ready), changed));
    press(&mut top, "s");
    assert!(screen(&mut top, 80, 24, true).contains("starting gemma3…"));
    top.step(Event::Done(Verb::Start, "gemma3".into(), Ok(accepted(true))));
    assert!(top.said().is_none());
    top.step(Event::Done(Verb::Start, "gemma3".into(), Ok(accepted(false))));
    assert!(screen(&mut top, 80, 24, true).contains("gemma3 is ready already"));
    let unwritten = llamactl_protocol::server::Accepted { durable: false, ..*accepted(true) };
    top.step(Event::Done(Verb::Stop, "gemma3".into(), Ok(Box::new(unwritten))));
    assert!(screen(&mut top, 80, 24, true).contains("gemma3: this stop is not recorded"));
    let failure = Failure::new(Kind::TooManyRunning, "2 servers run, and no more may")
        .hint(Hint::run("stop one", ["llamactl", "stop", "a"]));
    top.step(Event::Done(Verb::Start, "gemma3".into(), Err(Box::new(failure))));
    assert!(
        screen(&mut top, 100, 24, true)
            .contains("error: 2 servers run, and no more may  hint: stop one")
    );
    top.step(Event::Tick(NOW_MS + 60_000));
    assert!(top.said().is_none(), "what was said is gone after a while");
}

#[test]
fn the_selection_stays_with_its_model() {
    let mut top = busy_machine();
    top.step(Event::Server(Box::new(named(2, "qwen3:8b", State::Failed))));
    top.step(Event::Server(Box::new(named(7, "a-new-one", State::Stuck))));
    assert_eq!(top.selected().unwrap().1.model, "gemma3");
    // What came since is not undone by a list that was made before.
    let mut old = named(2, "qwen3:8b", State::Ready);
    old.since_ms = NOW_MS - 10 * 3_600_000;
    top.step(Event::Servers(vec![
        old,
        named(1, "gemma3", State::Ready),
        named(9, "z", State::Stopped),
    ]));
    let states: Vec<State> = top.shown().map(|server| server.state).collect();
    assert_eq!(states, [State::Failed, State::Ready, State::Stopped]);
    top.step(Event::Servers(vec![
        named(2, "qwen3:8b", State::Ready),
        named(9, "z", State::Stopped),
    ]));
    assert_eq!(top.selected().unwrap().1.model, "z", "what stands in its place now");
}

#[test]
fn a_filter_leaves_what_has_it_in_its_name() {
    let mut top = busy_machine();
    assert_eq!(press(&mut top, "/QWEN3"), None);
    assert_eq!(top.shown().count(), 2);
    assert!(screen(&mut top, 80, 24, true).contains("/QWEN3_  enter keeps it, esc takes it back"));
    top.step(Event::Key(Key::Enter));
    assert!(screen(&mut top, 80, 24, true).ends_with("/QWEN3\n"));
    assert_eq!(press(&mut top, "s"), Some(Wish::Ask(Verb::Start, "qwen3:8b".into())));
    press(&mut top, "/zzz");
    assert!(screen(&mut top, 80, 24, true).contains("no model has QWEN3zzz in its name"));
    assert_eq!(top.wanted_log(), None);
    top.step(Event::Key(Key::Escape));
    assert_eq!(top.shown().count(), 6);
}

#[test]
fn a_daemon_that_is_away_is_said_and_nothing_is_shown_as_measured() {
    let mut top = busy_machine();
    top.step(Event::Away(true));
    top.step(Event::LogOver(
        1,
        Box::new(Failure::new(Kind::DaemonUnreachable, "no daemon is running")),
    ));
    top.step(Event::Sample(None));
    top.step(Event::Tick(NOW_MS + 3000));
    assert_text("top-away", &screen(&mut top, 80, 24, true));
    top.step(Event::Away(false));
    assert!(!screen(&mut top, 80, 24, true).contains("went away"));
    assert!(top.log.model_id.is_none(), "its log is read anew");
}

#[test]
fn keys_that_leave() {
    let mut top = busy_machine();
    assert_eq!(press(&mut top, "q"), Some(Wish::Quit));
    assert_eq!(top.step(Event::Key(Key::Interrupt)), Some(Wish::Interrupt));
    assert_eq!(top.step(Event::Key(Key::Suspend)), Some(Wish::Suspend));
    assert_eq!(top.step(Event::Key(Key::Redraw)), Some(Wish::Redraw));
    press(&mut top, "/");
    assert_eq!(press(&mut top, "q"), None, "it is typed");
}
