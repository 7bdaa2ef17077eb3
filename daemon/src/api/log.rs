//! `log.*`

use super::app::App;
use super::registration::{Caller, Emission, Source};
use crate::logs::file::{RunLog, Stream};
use crate::logs::line::{Level, Line};
use crate::logs::runs::{Cursor, RunLines, Runs, Said, since};
use crate::logs::split::RawLine;
use crate::logs::tail::{Start, TailError};
use crate::store::registry::Registry;
use crate::supervisor::Supervisor;
use llamactl_protocol::log::{LogFollow, LogLevel, LogLine, LogStream};
use llamactl_protocol::server::Server;
use llamactl_protocol::stream::Missed;
use llamactl_protocol::{Failure, Kind};
use tokio::sync::watch;

pub(super) async fn follow(app: &App, _: Caller, follow: LogFollow) -> Result<Lines, Failure> {
    let model = app.registry.model(&follow.model).await?;
    let status = app.supervisor.watch(&model).await?;
    let cursor = follow.after.as_deref().map(cursor).transpose()?;
    let stream = match (&cursor, follow.stream.unwrap_or_default()) {
        (Some(cursor), _) => cursor.stream,
        (None, LogStream::Stderr) => Stream::Stderr,
        (None, LogStream::Stdout) => Stream::Stdout,
    };
    let asked = follow.run_id.clone().or(cursor.as_ref().map(|cursor| cursor.run.clone()));
    let run = match &asked {
        Some(run) => {
            let found = app.registry.run(run).await?.filter(|found| found.model_id == model.id);
            let found = found.ok_or_else(|| no_run(run))?;
            Some(found.id)
        }
        None => app.registry.last_run(model.id).await?.map(|run| run.id),
    };
    let runs = RunsOfModel {
        registry: app.registry.clone(),
        supervisor: app.supervisor.clone(),
        model_id: model.id,
        status,
    };
    let watcher = app.supervisor.watcher().clone();
    let only_one_run = follow.run_id.is_some();
    let mut lines =
        RunLines::new(runs, watcher, stream, follow.follow.unwrap_or(true), only_one_run);
    if let Some(run) = run {
        let log = app.supervisor.log_of(&run)?;
        let start = match (&cursor, follow.since_ms, follow.lines) {
            (Some(cursor), _, _) => Start::Offset(cursor.offset),
            (None, Some(since_ms), _) => since(&log, stream, since_ms).await,
            (None, None, Some(lines)) => Start::LastLines(lines as usize),
            (None, None, None) => Start::Floor,
        };
        match lines.open(&run, start).await {
            Ok(()) => {}
            // Not written yet, or cleared away. For a run asked for by name that is a refusal; a
            // cursor goes on with what is kept.
            Err(TailError::NotFound(_)) if asked.is_none() => {}
            Err(TailError::NotFound(_)) if !only_one_run => lines.skip(run),
            Err(TailError::NotFound(_)) => return Err(no_run(&run)),
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(Lines(lines))
}

fn cursor(text: &str) -> Result<Cursor, Failure> {
    Cursor::parse(text).ok_or_else(|| {
        Failure::new(Kind::InvalidValue, format!("{text:?} is no cursor of a log"))
            .hint("pass a cursor as an item of this stream had it")
    })
}

fn no_run(run: &str) -> Failure {
    Failure::new(
        Kind::RunNotFound,
        format!("there is no run {run} of this model, or its log is gone"),
    )
    .hint("the logs of a model's last ten runs are kept")
}

fn unreadable(error: &TailError) -> Failure {
    Failure::new(Kind::IoFailed, error.to_string())
}

/// The runs that the registry has of a model, and what its server says of the present one.
struct RunsOfModel {
    registry: Registry,
    supervisor: Supervisor,
    model_id: i64,
    status: watch::Receiver<Server>,
}

impl Runs for RunsOfModel {
    fn log_of(&self, run: &str) -> Option<RunLog> {
        self.supervisor.log_of(run).ok()
    }

    fn is_live(&self, run: &str) -> bool {
        let server = self.status.borrow();
        server.run.as_ref().is_some_and(|live| live.id == run && live.ended_at_ms.is_none())
    }

    async fn after(&mut self, run: Option<&str>) -> Option<String> {
        self.status.mark_unchanged();
        // A registry that cannot be read now is asked again at the next change.
        self.registry.run_after(self.model_id, run.map(str::to_owned)).await.ok().flatten()
    }

    async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }
}

/// Lines of a model's runs, as a stream.
pub(super) struct Lines(RunLines<RunsOfModel>);

impl Source for Lines {
    type Item = LogLine;

    async fn next(&mut self) -> Emission<LogLine> {
        let text = |cursor: Option<Cursor>| cursor.map(|cursor| cursor.to_text());
        match self.0.next().await {
            Said::Line { cursor, line, is_new } => {
                let data = log_line(&cursor, &line);
                let cursor = Some(cursor.to_text());
                if is_new {
                    Emission::Change { cursor, data }
                } else {
                    Emission::Snapshot { cursor, data }
                }
            }
            Said::Missed { cursor, bytes } => {
                Emission::Missed { cursor: text(cursor), missed: Missed { items: None, bytes } }
            }
            Said::Done(cursor) => Emission::done(text(cursor)),
            Said::Failed(cursor, error) => Emission::failed(text(cursor), unreadable(&error)),
        }
    }
}

fn log_line(cursor: &Cursor, line: &RawLine) -> LogLine {
    let level = Line::parse(&line.bytes).level.map(|level| match level {
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warning => LogLevel::Warning,
        Level::Error => LogLevel::Error,
    });
    let stream = match cursor.stream {
        Stream::Stderr => LogStream::Stderr,
        Stream::Stdout => LogStream::Stdout,
    };
    let text = String::from_utf8_lossy(&line.bytes).into_owned();
    LogLine { run_id: cursor.run.clone(), stream, level, text, cut: line.cut }
}
