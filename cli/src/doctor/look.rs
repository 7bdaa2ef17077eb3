//! The facts: the daemon, its socket, its configuration, `PATH`, systemd.

use super::facts::{DaemonIs, Facts, Node, Unit};
use crate::commands::daemon_install::user_name;
use crate::connection::{Daemon, Reach, VERSION, ask_program};
use crate::programs::llamactl_on;
use crate::systemd::{self, Manager, UNIT, files};
use llamactl_protocol::daemon::{ConfigReport, DaemonStatus};
use llamactl_protocol::doctor::{Checked, DaemonCheck};
use llamactl_protocol::{Failure, Kind, place};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// How long the daemon may take to say who it is: one that takes longer hangs.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take to look at everything: builds that hang are waited for.
const CHECK_LIMIT: Duration = Duration::from_secs(60);
/// How long the program may take to look at the state directory, or at the configuration.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);
/// How long systemd may take for one thing.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(5);

/// Looks at everything; what the daemon found, or its program where none answers.
///
/// # Errors
/// Nothing says where the daemon would be.
pub(crate) async fn look(reach: &Reach) -> Result<(Facts, Checked), Failure> {
    let (daemon, mut checked) = ask_daemon(reach).await;
    let is_the_machines = is_the_machines(reach, &daemon)?;
    let answers = matches!(daemon, DaemonIs::There(_));
    if !answers {
        let found = ask_state(is_the_machines).await;
        checked.findings.extend(found.findings);
        checked.not_checked.extend(found.not_checked);
    }
    let units = units().await;
    let user = user_name().await.ok();
    let has_own = units.iter().any(|unit| unit.manager == Manager::User);
    let lingers = user.as_ref().filter(|_| has_own);
    let lingers = lingers.map(|user| Path::new("/var/lib/systemd/linger").join(user).exists());
    let own = std::env::current_exe().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let socket = match &daemon {
        DaemonIs::There(there) => Some(there.1.socket.0.clone()),
        _ => reach.socket.clone().or_else(|| Some(place::socket_in(&place::state_dir().ok()?))),
    };
    let facts = Facts {
        socket: socket.and_then(|path| node(&path)),
        config: config(&daemon, is_the_machines).await,
        on_path: llamactl_on(&path, &own),
        daemon,
        version: VERSION,
        own,
        units,
        lingers,
        user,
    };
    Ok((facts, checked))
}

/// Whether the daemon is the machine's: the one that answers, or the one that would where nobody does.
fn is_the_machines(reach: &Reach, daemon: &DaemonIs) -> Result<bool, Failure> {
    let system = place::system_socket();
    if let DaemonIs::There(there) = daemon {
        return Ok(there.1.socket.0 == system);
    }
    if let Some(named) = &reach.socket {
        return Ok(*named == system);
    }
    let has_one = || systemd::is_booted() && systemd::unit_file(Manager::System).is_some();
    Ok(!place::state_dir()?.exists() && (system.exists() || has_one()))
}

async fn ask_daemon(reach: &Reach) -> (DaemonIs, Checked) {
    let nothing = |is| (is, Checked::default());
    match reach.of_daemon_command(Some(HELLO_LIMIT), Kind::TimedOut).running().await {
        Ok(Some(_)) => {}
        Ok(None) => return nothing(DaemonIs::Absent { was_stopped: was_stopped() }),
        Err(failure) if failure.kind == Kind::TimedOut => {
            return nothing(DaemonIs::Silent(failure));
        }
        Err(failure) => return nothing(DaemonIs::Refused(failure)),
    }
    // Again, with the time that looking takes.
    let (daemon, hello) = match reach.of_daemon_command(None, Kind::TimedOut).running().await {
        Ok(Some(there)) => there,
        Ok(None) => return nothing(DaemonIs::Absent { was_stopped: was_stopped() }),
        Err(failure) => return nothing(DaemonIs::Silent(failure)),
    };
    match daemon.call_within(&DaemonStatus {}, CHECK_LIMIT).await {
        Ok(report) => {
            let checked = check(&daemon).await;
            (DaemonIs::There(Box::new((hello, report))), checked)
        }
        Err(failure) if failure.kind == Kind::TimedOut => nothing(DaemonIs::Silent(failure)),
        Err(failure) => nothing(DaemonIs::Refused(failure)),
    }
}

async fn check(daemon: &Daemon) -> Checked {
    let why = match daemon.call_within(&DaemonCheck {}, CHECK_LIMIT).await {
        Ok(checked) => return checked,
        Err(failure) if failure.kind == Kind::UnknownMethod => {
            "the daemon is older than this command and cannot look for faults".to_owned()
        }
        Err(failure) => format!("the daemon did not look for faults: {}", failure.message),
    };
    Checked { findings: vec![], not_checked: vec![why] }
}

fn was_stopped() -> bool {
    place::state_dir().is_ok_and(|dir| place::run_dir(&dir).join("stopped").exists())
}

/// What the state directory shows without a daemon.
async fn ask_state(is_the_machines: bool) -> Checked {
    let mut arguments = vec![OsString::from("--check-up")];
    if is_the_machines && rustix::process::geteuid().is_root() {
        arguments.push("--system".into());
    }
    let why = match timeout(PROGRAM_LIMIT, ask_program(arguments)).await {
        Ok(Ok(said)) => match serde_json::from_str::<Checked>(&said) {
            Ok(mut checked) => {
                checked.not_checked.push(
                    "runtimes, models, memory and limits were not looked at: no daemon answers"
                        .to_owned(),
                );
                return checked;
            }
            Err(error) => format!("llamactld said something else: {error}"),
        },
        Ok(Err(failure)) => failure.message,
        Err(_) => "llamactld did not end in time".to_owned(),
    };
    let why = format!("the state directory was not looked at: {why}");
    Checked { findings: vec![], not_checked: vec![why] }
}

/// What the daemon's configuration file says now, where this user is who the daemon runs as.
async fn config(daemon: &DaemonIs, is_the_machines: bool) -> Option<Result<ConfigReport, Failure>> {
    let mut arguments = ["--check-config", "--json"].map(OsString::from).to_vec();
    let uid = rustix::process::geteuid();
    if is_the_machines {
        arguments.push("--system".into());
    }
    match daemon {
        DaemonIs::There(there) => {
            if !uid.is_root() && there.0.uid != uid.as_raw() {
                return None;
            }
            if let Some(path) = there.1.config.as_ref().and_then(|held| held.path.as_ref()) {
                arguments.extend([OsString::from("--config"), path.0.clone().into()]);
            }
        }
        _ if is_the_machines && !uid.is_root() => return None,
        _ => {}
    }
    let said = timeout(PROGRAM_LIMIT, ask_program(arguments)).await.ok()?;
    match said {
        Ok(said) => serde_json::from_str(&said).ok().map(Ok),
        Err(failure) if failure.kind == Kind::InvalidValue => Some(Err(failure)),
        // That there is no program is told elsewhere.
        Err(_) => None,
    }
}

fn node(path: &Path) -> Option<Node> {
    let facts = fs::symlink_metadata(path).ok().filter(|it| it.file_type().is_socket())?;
    let dir_mode = path.parent()?.metadata().ok()?.mode();
    let is_the_machines = *path == place::system_socket();
    Some(Node { path: path.to_owned(), mode: facts.mode(), dir_mode, is_the_machines })
}

async fn units() -> Vec<Unit> {
    let mut units = vec![];
    if !systemd::is_booted() {
        return units;
    }
    for manager in [Manager::System, Manager::User] {
        let Some(path) = systemd::unit_file(manager) else { continue };
        let has_failed = manager.systemctl(["is-failed", UNIT], SYSTEMD_LIMIT).await.is_ok();
        units.push(Unit {
            is_enabled: systemd::is_enabled(manager).await,
            has_failed,
            is_as_written: as_written(manager, &path),
            manager,
            path,
        });
    }
    units
}

/// Whether a unit is what this version would write for the programs that are here.
fn as_written(manager: Manager, path: &Path) -> Option<bool> {
    let own: PathBuf = std::env::current_exe().ok()?.canonicalize().ok()?;
    let unit = files::unit(manager, path.parent()?, own.parent()?).ok()?;
    unit.is_there()
}
