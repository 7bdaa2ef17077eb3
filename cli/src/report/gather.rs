//! What goes into a report.

use super::Report;
use super::redact::{Redactor, log_line};
use crate::connection::{Daemon, Reach, VERSION};
use crate::doctor::{DaemonIs, Examined, examine};
use crate::output::time::now_ms;
use crate::pages;
use crate::resume::{Feed, News};
use crate::systemd;
use llamactl_protocol::defaults::DefaultsShow;
use llamactl_protocol::environment::DEVICE_VARIABLES;
use llamactl_protocol::event::EventList;
use llamactl_protocol::log::LogFollow;
use llamactl_protocol::metrics::MetricsSample;
use llamactl_protocol::model::{Model, ModelArgs};
use llamactl_protocol::options::{Settings, VARIABLE_PREFIX};
use llamactl_protocol::runtime::RuntimeEntry;
use llamactl_protocol::server::Server;
use llamactl_protocol::{Failure, Item, Kind, place};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// So many events, the last ones.
const EVENTS: u32 = 200;
/// So many lines of each log, the last ones.
const LINES: u32 = 200;
/// So many logs of servers: of those that run or failed.
const LOGS: usize = 10;
/// How long the daemon may take to answer at first.
const LIMIT: Duration = Duration::from_secs(15);
/// How long the sum of one file may take: of a model it is minutes.
const SUM_LIMIT: Duration = Duration::from_secs(600);
/// The longest secret that there can be.
const MAX_SECRET_BYTES: u64 = 1 << 20;
/// So many bytes of the daemon's log are read.
const LOG_BYTES: u64 = 64 << 10;

/// Gathers it, and what takes secrets out of it. With `sums` the files of models that run are summed too.
///
/// # Errors
/// Nothing says where the daemon would be.
pub(crate) async fn gather(reach: &Reach, sums: bool) -> Result<(Report, Redactor), Failure> {
    let mut report = Report::default();
    let (examined, daemon) = examine(reach).await?;
    report.add("about", about());
    let state_dir = match &daemon {
        DaemonIs::There(there) => there.1.state_dir.0.clone(),
        _ => place::state_dir()?,
    };
    let secrets = secrets_in(&state_dir.join("secrets"));
    let mut missing: Vec<String> = examined.not_checked.clone();
    report.add("doctor", &Examined { not_checked: vec![], ..examined });
    match daemon {
        DaemonIs::There(there) => {
            report.add("daemon", &there.1);
            match reach.of_daemon_command(Some(LIMIT), Kind::TimedOut).running().await {
                Ok(Some((daemon, _))) => {
                    of_daemon(&mut report, &mut missing, &daemon, sums, secrets.is_ok()).await;
                }
                _ => missing.push("the daemon does not answer any more".to_owned()),
            }
        }
        DaemonIs::Silent(failure) | DaemonIs::Refused(failure) => missing.push(failure.message),
        DaemonIs::Absent { .. } => {
            missing.push("no daemon runs: models, servers, events and their logs".to_owned());
        }
    }
    match &secrets {
        Ok(_) => match last_lines(&state_dir.join("log/llamactld.log")) {
            Some(lines) => report.add("log of the daemon", lines),
            None => missing.push("the daemon's log is not in a file; see the journal".to_owned()),
        },
        Err(why) => missing.push(format!(
            "logs are left out, because the secrets to be taken out of them cannot be read: {why}"
        )),
    }
    report.add("missing", missing);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Ok((report, Redactor::new(secrets.unwrap_or_default(), home.as_deref())))
}

fn about() -> Value {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.map(|line| line.trim_matches('"').to_owned())
    };
    let system = rustix::system::uname();
    json!({
        "made_at_ms": now_ms(),
        "llamactl": VERSION,
        "system": first("/etc/os-release", "PRETTY_NAME="),
        "kernel": system.release().to_string_lossy(),
        "machine": system.machine().to_string_lossy(),
        "processor": first("/proc/cpuinfo", "model name\t: "),
        "systemd": systemd::is_booted(),
    })
}

async fn of_daemon(
    report: &mut Report,
    missing: &mut Vec<String>,
    daemon: &Daemon,
    sums: bool,
    with_logs: bool,
) {
    let mut failed =
        |what: &str, failure: Failure| missing.push(format!("{what}: {}", failure.message));
    if let Ok(sample) = daemon.call(&MetricsSample {}).await {
        report.add("machine", json!({ "host": sample.host, "gpus": sample.gpus }));
    }
    match daemon.call(&DefaultsShow {}).await {
        Ok(defaults) => report.add("defaults", without_variables(defaults.settings)),
        Err(failure) => failed("the defaults", failure),
    }
    match pages::runtimes(daemon).await {
        Ok(runtimes) => report.add("runtimes", runtimes.into_iter().map(bare).collect::<Vec<_>>()),
        Err(failure) => failed("the runtimes", failure),
    }
    let models = match pages::models(daemon).await {
        Ok(models) => models,
        Err(failure) => return failed("the models", failure),
    };
    let shown = |model: &Model| Model {
        settings: without_variables(model.settings.clone()),
        ..model.clone()
    };
    report.add("models", models.iter().map(shown).collect::<Vec<_>>());
    let servers = match pages::servers(daemon, true).await {
        Ok(list) => list.servers,
        Err(failure) => return failed("the servers", failure),
    };
    let runs = |server: &Server| server.run.as_ref().is_some_and(|run| run.ended_at_ms.is_none());
    let mut manifest = Vec::new();
    for server in servers.iter().filter(|server| runs(server)) {
        let model = models.iter().find(|model| model.id == server.model_id);
        manifest.push(runs_as(daemon, server, model, sums).await);
    }
    report.add("what runs", manifest);
    let telling: Vec<&Server> =
        servers.iter().filter(|server| runs(server) || server.cause.is_some()).take(LOGS).collect();
    report.add("servers", &servers);
    let events = EventList { limit: Some(EVENTS), ..EventList::default() };
    match pages::last_events(daemon, events, EVENTS).await {
        Ok((events, _)) => report.add("events", events),
        Err(failure) => failed("the events", failure),
    }
    for server in telling.into_iter().filter(|_| with_logs) {
        match log_of(daemon, &server.model).await {
            Ok(lines) => report.add(&format!("log of {}", server.model), lines),
            Err(failure) => failed(&format!("the log of {}", server.model), failure),
        }
    }
}

/// Settings without the values of variables, of which nobody knows what they hold.
fn without_variables(mut settings: Settings) -> Settings {
    for (key, value) in &mut settings {
        let variable = key.strip_prefix(VARIABLE_PREFIX);
        if variable.is_some_and(|name| !DEVICE_VARIABLES.contains(&name)) {
            *value = json!("[set]");
        }
    }
    settings
}

fn bare(mut entry: RuntimeEntry) -> RuntimeEntry {
    for (name, value) in &mut entry.environment {
        if !DEVICE_VARIABLES.contains(&name.as_str()) {
            *value = json!("[set]");
        }
    }
    entry
}

/// What a server is made of, so that somebody else can run the same.
async fn runs_as(daemon: &Daemon, server: &Server, model: Option<&Model>, sums: bool) -> Value {
    let line = daemon.call(&ModelArgs { model: server.model.clone().into() }).await.ok();
    let argv: Vec<String> =
        line.iter().flat_map(|line| line.argv.iter().map(ToString::to_string)).collect();
    let build = match argv.first() {
        Some(build) => sum(Path::new(build)).await,
        None => None,
    };
    let mut model_sum = None;
    if let Some(model) = model.filter(|_| sums) {
        model_sum = sum(model.path.as_path()).await;
    }
    json!({
        "model": server.model,
        "file": model.map(|model| &model.path),
        "size_bytes": model.map(|model| model.file.size_bytes),
        "quantization": model.and_then(|model| model.file.quantization.as_deref()),
        "file_sha256": model_sum,
        "build": argv.first(),
        "build_sha256": build,
        // That of the next start; it is the one of now but for what is pending.
        "command_line": argv,
        "pending": server.pending,
        "run": server.run,
        "in_force": server.in_force,
    })
}

/// What sha256sum says of a file.
async fn sum(path: &Path) -> Option<String> {
    let mut command = Command::new("sha256sum");
    command.arg("--").arg(path);
    let said = systemd::said_by(command, SUM_LIMIT).await.ok()?;
    said.split_whitespace().next().map(|sum| sum.trim_start_matches('\\').to_owned())
}

async fn log_of(daemon: &Daemon, model: &str) -> Result<Vec<String>, Failure> {
    let model = model.to_owned().into();
    let asked =
        LogFollow { model, lines: Some(LINES), follow: Some(false), ..LogFollow::default() };
    let mut feed = Feed::open(daemon, asked).await?;
    let mut lines = Vec::new();
    loop {
        match feed.next().await? {
            News::Item(_, Item::Change { data, .. } | Item::Snapshot { data, .. }) => {
                lines.extend(data.lines.iter().map(|line| log_line(&line.text)));
            }
            News::Item(_, Item::Missed { .. }) => lines.push("[lines are missing here]".to_owned()),
            News::Item(_, Item::End { .. }) => return Ok(lines),
            _ => {}
        }
    }
}

/// All secrets that the daemon keeps, to be taken out of what is reported.
fn secrets_in(dir: &Path) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error.to_string()),
    };
    let read = |path: PathBuf| {
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES).read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    };
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension() != Some(OsStr::new("new"))).map(read).collect()
}

/// The last lines of a log.
fn last_lines(path: &Path) -> Option<Vec<String>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The first is likely to be the end of a line.
    let lines: Vec<String> = text.lines().skip(usize::from(from > 0)).map(str::to_owned).collect();
    let first = lines.len().saturating_sub(LINES as usize);
    Some(lines.into_iter().skip(first).collect())
}
