//! `log.*`

use super::app::App;
use super::registration::{Caller, Emission, Source};
use crate::logs::file::Stream;
use crate::logs::filter::{Filter, pattern};
use crate::logs::runs::{Asked, Cursor, From, Run, RunLines, Runs, Said};
use crate::logs::tail::TailError;
use crate::store::registry::{Registry, RunRecord};
use crate::supervisor::Supervisor;
use llamactl_protocol::cause::CauseCode;
use llamactl_protocol::log::{LogClear, LogCleared, LogFollow, LogFrame, LogNote, LogStream};
use llamactl_protocol::server::{Demand, Server};
use llamactl_protocol::stream::Missed;
use llamactl_protocol::{Failure, Kind};
use tokio::sync::watch;

pub(super) async fn follow(app: &App, _: Caller, follow: LogFollow) -> Result<Lines, Failure> {
    let model = app.registry.model(&follow.model).await?;
    let status = app.supervisor.watch(&model).await?;
    let cursor = follow.after.as_deref().map(cursor).transpose()?;
    let runs = RunsOfModel {
        registry: app.registry.clone(),
        supervisor: app.supervisor.clone(),
        model_id: model.id,
        status,
    };
    let named = follow.run_id.as_deref().or(cursor.as_ref().map(|cursor| cursor.run.as_str()));
    let last_run = app.registry.last_run(model.id).await?;
    let first = match named {
        Some(run) => {
            let found = app.registry.run(run).await?.filter(|found| found.model_id == model.id);
            Some(found.ok_or_else(|| no_run(run))?)
        }
        None => match (&last_run, follow.since_ms, follow.lines) {
            (Some(last), Some(since_ms), None) => Some(runs.first_since(since_ms, last).await?),
            (Some(last), None, _) => Some(runs.crashed_before(last).await?),
            (last, _, _) => last.clone(),
        },
    };
    let stream = follow.stream.map(|stream| match stream {
        LogStream::Stderr => Stream::Stderr,
        LogStream::Stdout => Stream::Stdout,
    });
    let asked = Asked {
        stream: cursor.as_ref().map(|cursor| cursor.stream).or(stream),
        follow: follow.follow.unwrap_or(true),
        only_one_run: follow.run_id.is_some(),
        last_run: last_run.map(|run| run.id),
        lines: follow.lines,
        filter: Filter {
            since_ms: follow.since_ms,
            until_ms: follow.until_ms,
            level: follow.level,
            pattern: follow.grep.as_deref().map(expression).transpose()?,
        },
    };
    let only_one_run = asked.only_one_run;
    let first = first.and_then(|run| runs.run(&run, None));
    let mut lines = RunLines::new(runs, app.supervisor.watcher().clone(), asked);
    if let Some(run) = first {
        let from = match (&cursor, follow.lines) {
            (Some(cursor), _) => From::Offset(cursor.offset),
            (None, Some(lines)) => From::Last(lines),
            (None, None) => From::First,
        };
        match lines.open(run.clone(), from).await {
            Ok(()) => {}
            // For a run asked for by name that is a refusal; others go on with what is kept.
            Err(error) if error.is_missing() && only_one_run => return Err(no_run(&run.id)),
            Err(error) if error.is_missing() => lines.skip(run, cursor.is_some()),
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(Lines(lines))
}

pub(super) async fn clear(app: &App, _: Caller, clear: LogClear) -> Result<LogCleared, Failure> {
    let model = app.registry.model(&clear.model).await?;
    let freed_bytes = app.supervisor.clear_logs(&model).await?;
    Ok(LogCleared { model: model.name, freed_bytes })
}

fn cursor(text: &str) -> Result<Cursor, Failure> {
    Cursor::parse(text).ok_or_else(|| {
        Failure::new(Kind::InvalidValue, format!("{text:?} is no cursor of a log"))
            .hint("pass a cursor as an item of this stream had it")
    })
}

fn expression(text: &str) -> Result<regex::Regex, Failure> {
    pattern(text).map_err(|message| {
        Failure::new(Kind::InvalidValue, message)
            .hint("a backslash makes a special character a plain one: \\(")
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

impl RunsOfModel {
    fn run(&self, record: &RunRecord, before: Option<LogNote>) -> Option<Run> {
        let has_json =
            |argument: &llamactl_protocol::WirePath| argument.as_bytes() == b"--log-jsonl";
        let is_json = record.argv.iter().any(has_json);
        let live = self.status.borrow().run.clone();
        let pid = live.filter(|run| run.id == record.id && run.ended_at_ms.is_none());
        Some(Run {
            id: record.id.clone(),
            log: self.supervisor.log_of(&record.id).ok()?,
            stream: if is_json { Stream::Stdout } else { Stream::Stderr },
            started_at_ms: record.started_at_ms,
            pid: pid.and_then(|run| i32::try_from(run.pid?).ok()),
            before,
        })
    }

    /// The run before this one, if policy began this one because that one failed: what it wrote last
    /// is what one looks for.
    async fn crashed_before(&self, last: &RunRecord) -> Result<RunRecord, Failure> {
        if last.demand != Some(Demand::Policy) {
            return Ok(last.clone());
        }
        let before = self.registry.runs_of(self.model_id, 2).await?.into_iter().nth(1);
        let before = match before {
            Some(run) => self.registry.run(&run).await?,
            None => None,
        };
        let failed = |run: &RunRecord| {
            run.cause.as_ref().is_some_and(|cause| cause.code != CauseCode::Stopped)
        };
        Ok(before.filter(failed).unwrap_or_else(|| last.clone()))
    }

    /// The oldest run with a log that had not ended at this time.
    async fn first_since(&self, since_ms: i64, last: &RunRecord) -> Result<RunRecord, Failure> {
        let mut first = last.clone();
        for run in self.registry.runs_of(self.model_id, crate::supervisor::LOGS_OF_RUNS).await? {
            let Some(run) = self.registry.run(&run).await? else { continue };
            if run.id < first.id && run.ended_at_ms.is_some_and(|ended| ended >= since_ms) {
                first = run;
            }
        }
        Ok(first)
    }
}

impl Runs for RunsOfModel {
    fn is_live(&self, run: &str) -> bool {
        let server = self.status.borrow();
        server.run.as_ref().is_some_and(|live| live.id == run && live.ended_at_ms.is_none())
    }

    async fn after(&mut self, run: Option<&str>) -> Option<Run> {
        self.status.mark_unchanged();
        // A registry that cannot be read now is asked again at the next change.
        let next = self.registry.run_after(self.model_id, run.map(str::to_owned)).await.ok()??;
        let next = self.registry.run(&next).await.ok()??;
        let ended = match run {
            Some(run) => self.registry.run(run).await.ok().flatten(),
            None => None,
        };
        let before = ended.map(|ended| LogNote::Began {
            before: ended.id,
            ended_at_ms: ended.ended_at_ms,
            cause: ended.cause.map(|cause| cause.code.to_string()),
        });
        self.run(&next, before)
    }

    async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }
}

/// Lines of a model's runs, as a stream.
pub(super) struct Lines(RunLines<RunsOfModel>);

impl Source for Lines {
    type Item = LogFrame;

    async fn next(&mut self) -> Emission<LogFrame> {
        let text = |cursor: Option<Cursor>| cursor.map(|cursor| cursor.to_text());
        match self.0.next().await {
            Said::Frame { cursor, frame, is_new } => {
                let cursor = Some(cursor.to_text());
                if is_new {
                    Emission::Change { cursor, data: frame }
                } else {
                    Emission::Snapshot { cursor, data: frame }
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
