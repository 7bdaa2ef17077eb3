//! What is on the screen, and what each event makes of it.

use super::history::History;
use crate::commands::logs::styled;
use crate::output::styled::{DIM, RED, Styled, YELLOW};
use crate::view::worst_first;
use llamactl_protocol::Failure;
use llamactl_protocol::log::{LogFrame, LogNote};
use llamactl_protocol::metrics::{MetricsColumns, Sample, ServerSample};
use llamactl_protocol::model::ModelNews;
use llamactl_protocol::server::{Accepted, Server, State, Why};
use std::collections::VecDeque;

/// So many lines of a log are kept to scroll back to.
const LOG_LINES: usize = 2000;
/// How long something that was said stays.
const SAID_MS: i64 = 8000;
/// How far a log moves sideways.
const SIDEWAYS: usize = 16;

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Escape,
    Backspace,
    Char(char),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    Key(Key),
    /// It is so late now.
    Tick(i64),
    /// All servers there are.
    Servers(Vec<Server>),
    /// What models there are, and which are no more.
    Models(ModelNews),
    /// How one is now.
    Server(Box<Server>),
    /// What was just measured; `None` where nobody measures any more.
    Sample(Option<Box<Sample>>),
    /// What was measured before.
    Past(MetricsColumns),
    /// Lines of the log of a model.
    Log(i64, LogFrame),
    /// Something to be said in between them.
    LogSaid(i64, String),
    /// Nothing more will come of the log of a model, and why.
    LogOver(i64, Box<Failure>),
    /// There is no daemon any more, or one again.
    Away(bool),
    /// What became of a wish.
    Done(Verb, String, Result<Box<Accepted>, Box<Failure>>),
    /// Why a server is as it is.
    Why(String, Result<Box<Why>, Box<Failure>>),
}

/// What is asked of a server from the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Quit,
    Interrupt,
    Suspend,
    /// Draw all of it anew.
    Redraw,
    /// Ask for all servers: of one too little is known.
    List,
    Ask(Verb, String),
    Why(String),
}

/// What is shown beneath the machine.
#[derive(Debug)]
pub(crate) enum Pane {
    /// The servers, and beneath them the log of the one that is selected.
    Both,
    /// The log alone.
    Log,
    /// Why the selected server is as it is; `None` until that is known.
    Why(String, Option<Box<Why>>),
    Help,
}

/// A model's log as it is shown.
#[derive(Default)]
pub(crate) struct Log {
    /// Whose it is.
    pub(crate) model_id: Option<i64>,
    pub(crate) lines: VecDeque<Styled>,
    /// Nothing more comes of it by itself.
    pub(crate) is_over: bool,
}

/// Something that is said beneath everything.
pub(crate) struct Said {
    pub(crate) text: Styled,
    until_ms: i64,
}

/// The whole screen.
pub(crate) struct Top {
    pub(crate) host: String,
    pub(crate) now_ms: i64,
    /// In the order in which they are shown.
    servers: Vec<Server>,
    /// All of them were told.
    is_told: bool,
    /// There is a model whose server was not told.
    lacks_one: bool,
    pub(crate) sample: Option<Box<Sample>>,
    pub(crate) history: History,
    selected: Option<i64>,
    pub(crate) filter: String,
    /// The filter is being typed.
    pub(crate) is_typing: bool,
    pub(crate) pane: Pane,
    /// Lines between the end of a log, or the beginning of other text, and what is shown.
    pub(crate) scroll: usize,
    pub(crate) sideways: usize,
    pub(crate) log: Log,
    said: Option<Said>,
    /// What was asked for and has to be asked for twice.
    doubted: Option<(Verb, i64)>,
    pub(crate) away_since_ms: Option<i64>,
}

impl Top {
    /// A screen on which nothing is known yet.
    pub(crate) fn new(host: String, now_ms: i64) -> Top {
        Top {
            host,
            now_ms,
            servers: Vec::new(),
            is_told: false,
            lacks_one: false,
            sample: None,
            history: History::default(),
            selected: None,
            filter: String::new(),
            is_typing: false,
            pane: Pane::Both,
            scroll: 0,
            sideways: 0,
            log: Log::default(),
            said: None,
            doubted: None,
            away_since_ms: None,
        }
    }

    /// The servers that the filter lets through.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Server> {
        let filter = self.filter.to_lowercase();
        self.servers.iter().filter(move |server| server.model.to_lowercase().contains(&filter))
    }

    /// Whether there is no model at all; `None` until that is known.
    pub(crate) fn is_empty(&self) -> Option<bool> {
        self.is_told.then_some(self.servers.is_empty())
    }

    /// The server that is selected, and its place among those that are shown.
    pub(crate) fn selected(&self) -> Option<(usize, &Server)> {
        let place = self.shown().position(|server| Some(server.model_id) == self.selected);
        self.shown().enumerate().nth(place.unwrap_or(0))
    }

    /// The model whose log is to be read.
    pub(crate) fn wanted_log(&self) -> Option<(i64, &str)> {
        self.selected().map(|(_, server)| (server.model_id, server.model.as_str()))
    }

    /// What is said now.
    pub(crate) fn said(&self) -> Option<&Styled> {
        self.said.as_ref().map(|said| &said.text)
    }

    /// What was measured of a server.
    pub(crate) fn measured(&self, server: &Server) -> Option<&ServerSample> {
        let sample = self.sample.as_ref()?;
        sample.servers.iter().find(|sample| sample.model_id == server.model_id)
    }

    /// What becomes of it, and what is to be done.
    pub(crate) fn step(&mut self, event: Event) -> Option<Wish> {
        match event {
            Event::Key(key) => return self.press(key),
            Event::Tick(now_ms) => {
                self.now_ms = now_ms;
                self.said.take_if(|said| said.until_ms <= now_ms);
            }
            Event::Servers(servers) => self.replace(servers),
            Event::Models(news) => return self.learn(&news),
            Event::Server(server) => self.take(*server),
            Event::Sample(sample) => {
                if let Some(sample) = &sample {
                    self.history.take_sample(sample);
                }
                self.sample = sample;
            }
            Event::Past(past) => self.history.take_past(&past),
            Event::Log(model_id, frame) => self.read(model_id, &frame),
            Event::LogSaid(model_id, text) => {
                self.write(model_id, Styled::new().with(YELLOW, text));
            }
            Event::LogOver(model_id, failure) => {
                self.write(model_id, Styled::new().with(DIM, failure.message));
                self.log.is_over = true;
            }
            Event::Away(is_away) => {
                self.away_since_ms = is_away.then_some(self.now_ms);
                if is_away {
                    self.sample = None;
                } else if self.log.is_over {
                    self.log = Log::default();
                }
            }
            Event::Done(verb, model, Ok(accepted)) => self.accepted(verb, &model, &accepted),
            Event::Done(_, _, Err(failure)) => self.refused(&failure),
            Event::Why(model, Ok(why)) => {
                if let Pane::Why(asked, answer) = &mut self.pane
                    && *asked == model
                {
                    *answer = Some(why);
                }
            }
            Event::Why(_, Err(failure)) => {
                if matches!(self.pane, Pane::Why(..)) {
                    self.open(Pane::Both);
                }
                self.refused(&failure);
            }
        }
        None
    }

    fn press(&mut self, key: Key) -> Option<Wish> {
        let doubted = self.doubted.take();
        match key {
            Key::Interrupt => return Some(Wish::Interrupt),
            Key::Suspend => return Some(Wish::Suspend),
            Key::Redraw => return Some(Wish::Redraw),
            _ => {}
        }
        self.said = None;
        if self.is_typing {
            self.type_filter(key);
            return None;
        }
        match (key, &self.pane) {
            (Key::Char('q'), _) => return Some(Wish::Quit),
            (Key::Char('s'), _) => return self.ask(Verb::Start, doubted),
            (Key::Char('x'), _) => return self.ask(Verb::Stop, doubted),
            (Key::Char('r'), _) => return self.ask(Verb::Restart, doubted),
            (Key::Char('w'), Pane::Why(..))
            | (Key::Char('l'), Pane::Log)
            | (Key::Char('?'), Pane::Help)
            | (Key::Enter, Pane::Log | Pane::Why(..) | Pane::Help) => self.open(Pane::Both),
            (Key::Char('w'), _) => {
                let model = self.selected()?.1.model.clone();
                self.open(Pane::Why(model.clone(), None));
                return Some(Wish::Why(model));
            }
            (Key::Char('l') | Key::Enter, _) => self.open(Pane::Log),
            (Key::Char('?' | 'h'), _) => self.open(Pane::Help),
            (Key::Char('/'), _) => {
                self.open(Pane::Both);
                self.is_typing = true;
            }
            (Key::Escape, Pane::Both) => self.filter.clear(),
            (Key::Escape, _) => self.open(Pane::Both),
            (Key::Up | Key::Char('k'), Pane::Both) => self.select(|at, _| at.saturating_sub(1)),
            (Key::Down | Key::Char('j'), Pane::Both) => self.select(|at, _| at + 1),
            (Key::PageUp, Pane::Both) => self.select(|at, _| at.saturating_sub(10)),
            (Key::PageDown, Pane::Both) => self.select(|at, _| at + 10),
            (Key::First | Key::Char('g'), Pane::Both) => self.select(|_, _| 0),
            (Key::Last | Key::Char('G'), Pane::Both) => self.select(|_, last| last),
            (key, pane) => {
                let is_log = matches!(pane, Pane::Log);
                self.move_text(key, is_log);
            }
        }
        None
    }

    fn open(&mut self, pane: Pane) {
        (self.pane, self.scroll, self.sideways) = (pane, 0, 0);
    }

    /// Moves what is shown of a text. A log stands at its end, other text at its beginning.
    fn move_text(&mut self, key: Key, is_log: bool) {
        let (older, newer) = match key {
            Key::Up | Key::Char('k') => (1, 0),
            Key::Down | Key::Char('j') => (0, 1),
            Key::PageUp => (10, 0),
            Key::PageDown | Key::Char(' ') => (0, 10),
            Key::First | Key::Char('g') => (usize::MAX, 0),
            Key::Last | Key::Char('G') => (0, usize::MAX),
            Key::Left => return self.sideways = self.sideways.saturating_sub(SIDEWAYS),
            Key::Right => {
                return self.sideways = self.sideways.saturating_add(SIDEWAYS).min(65_536);
            }
            _ => return,
        };
        let (away, back) = if is_log { (older, newer) } else { (newer, older) };
        self.scroll = self.scroll.saturating_add(away).saturating_sub(back);
    }

    /// Does not let a text be moved further than it is long: `most` lines can be left out.
    pub(crate) fn bound_scroll(&mut self, most: usize) {
        self.scroll = self.scroll.min(most);
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(sign) if self.filter.len() < 128 => self.filter.push(sign),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.filter.clear();
                self.is_typing = false;
            }
            Key::Up => self.select(|at, _| at.saturating_sub(1)),
            Key::Down => self.select(|at, _| at + 1),
            _ => {}
        }
    }

    fn select(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let last = self.shown().count().saturating_sub(1);
        let at = self.selected().map_or(0, |(at, _)| at);
        let to = to(at, last).min(last);
        let selected = self.shown().nth(to).map(|server| server.model_id);
        self.selected = selected;
    }

    fn ask(&mut self, verb: Verb, doubted: Option<(Verb, i64)>) -> Option<Wish> {
        let (_, server) = self.selected()?;
        let (model_id, model) = (server.model_id, server.model.clone());
        let busy = self.measured(server).and_then(|sample| sample.llama.as_ref()?.slots_busy);
        let cut = busy.filter(|&busy| busy > 0 && verb != Verb::Start);
        if let Some(busy) = cut.filter(|_| doubted != Some((verb, model_id))) {
            self.doubted = Some((verb, model_id));
            let requests =
                if busy == 1 { "1 request".to_owned() } else { format!("{busy} requests") };
            let text =
                format!("{model} has {requests}; {} again to {} it", verb.key(), verb.word());
            self.say(Styled::new().with(YELLOW, text));
            return None;
        }
        self.selected = Some(model_id);
        self.say(Styled::from(format!("{} {model}…", verb.doing())));
        Some(Wish::Ask(verb, model))
    }

    fn accepted(&mut self, verb: Verb, model: &str, accepted: &Accepted) {
        let state = accepted.server.state;
        self.take(accepted.server.clone());
        if !accepted.durable {
            let text = format!("{model}: this {} is not recorded", verb.word());
            self.say(Styled::new().with(YELLOW, text));
        } else if accepted.changed {
            self.said = None;
        } else {
            let is = if state == State::Stopped { "stopped" } else { state.as_str() };
            self.say(Styled::from(format!("{model} is {is} already")));
        }
    }

    fn refused(&mut self, failure: &Failure) {
        let mut text = Styled::new().with(RED, "error:").plain(format!(" {}", failure.message));
        if let Some(hint) = failure.hints.0.first() {
            text = text.with(DIM, format!("  hint: {hint}"));
        }
        self.say(text);
    }

    fn say(&mut self, text: Styled) {
        self.said = Some(Said { text, until_ms: self.now_ms + SAID_MS });
    }

    /// Takes a list of all servers. What is known of one since is not undone by it.
    fn replace(&mut self, mut servers: Vec<Server>) {
        for server in &mut servers {
            let known = self.servers.iter().find(|known| known.model_id == server.model_id);
            if let Some(known) = known.filter(|known| known.since_ms > server.since_ms) {
                *server = Server { model: server.model.clone(), ..known.clone() };
            }
        }
        let at = self.selected().map_or(0, |(at, _)| at);
        (self.servers, self.is_told) = (servers, true);
        worst_first(&mut self.servers);
        self.keep_selection(at);
    }

    /// Takes in what became of models: a name is changed here, a server that is not known is asked for.
    fn learn(&mut self, news: &ModelNews) -> Option<Wish> {
        let at = self.selected().map_or(0, |(at, _)| at);
        self.servers.retain(|server| !news.removed.contains(&server.model_id));
        for model in &news.models {
            match self.servers.iter_mut().find(|server| server.model_id == model.id) {
                Some(server) => server.model.clone_from(&model.name),
                None => self.lacks_one = true,
            }
        }
        worst_first(&mut self.servers);
        self.keep_selection(at);
        let is_whole = !news.more;
        self.is_told |= is_whole && !self.lacks_one;
        (is_whole && std::mem::take(&mut self.lacks_one)).then_some(Wish::List)
    }

    /// Where the selected one is gone, what stands in its place is selected.
    fn keep_selection(&mut self, at: usize) {
        if !self.servers.iter().any(|server| Some(server.model_id) == self.selected) {
            self.selected = None;
            self.select(|_, _| at);
        }
    }

    fn take(&mut self, server: Server) {
        match self.servers.iter_mut().find(|known| known.model_id == server.model_id) {
            Some(known) => *known = server,
            None => self.servers.push(server),
        }
        worst_first(&mut self.servers);
    }

    fn read(&mut self, model_id: i64, frame: &LogFrame) {
        if let Some(note) = &frame.note {
            let text = match note {
                LogNote::Began { .. } => "── another run began ──",
                LogNote::Deleted => "its log file was deleted; what it writes is lost when it ends",
                LogNote::Moved { .. } => "its log file was moved; it writes there",
                LogNote::Gone => "the log of this run is gone: its file was deleted",
            };
            self.write(model_id, Styled::new().with(YELLOW, text));
        }
        for line in &frame.lines {
            self.write(model_id, styled(line, true));
        }
    }

    fn write(&mut self, model_id: i64, line: Styled) {
        if self.log.model_id != Some(model_id) {
            self.log = Log { model_id: Some(model_id), ..Log::default() };
        }
        let lines = &mut self.log.lines;
        lines.push_back(line);
        // Who looks at lines of before goes on looking at them.
        if self.scroll > 0 && matches!(self.pane, Pane::Log) {
            self.scroll += 1;
        }
        if lines.len() > LOG_LINES {
            lines.pop_front();
        }
    }
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Verb::Start => "starting",
            Verb::Stop => "stopping",
            Verb::Restart => "restarting",
        }
    }

    fn key(self) -> char {
        match self {
            Verb::Start => 's',
            Verb::Stop => 'x',
            Verb::Restart => 'r',
        }
    }
}
