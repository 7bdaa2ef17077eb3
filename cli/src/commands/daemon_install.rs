//! `llamactl daemon install`
//!
//! ```text
//!   may it be? ─▶ linger ─▶ unit file ─▶ the daemon of now ends, its servers stay ─▶ enable, start
//!                                                 the llama-server the caller sees ─▶ runtime add
//! ```

use super::daemon_stop;
use crate::args::more;
use crate::connection::{Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::programs::{OnPath, llamactl_on, on_path};
use crate::systemd::files::{self, UnitFile};
use crate::systemd::{self, Manager, SOCKET_UNIT, UNIT};
use clap::Args;
use llamactl_protocol::daemon::Hello;
use llamactl_protocol::environment::DEVICE_VARIABLES;
use llamactl_protocol::runtime::{RuntimeAdd, RuntimeEntry, RuntimeList, RuntimeUse};
use llamactl_protocol::{Failure, Hint, Kind, place};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long systemd may take for one thing; a start waits until the daemon is ready.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a user's systemd may take to come up.
const MANAGER_LIMIT: Duration = Duration::from_secs(10);

/// Let systemd keep the daemon
///
/// Writes a unit, enables it and starts it; servers that run stay. From then on systemd starts the
/// daemon, with you or with the machine, and commands that need it ask systemd for it. Without
/// --system it is your own, and lingering is switched on for you, so that it starts with the machine
/// and outlives your logout. With --system it is the machine's: it runs as the user llamactl, and
/// members of the group llamactl may start and stop servers.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon install",
    "sudo llamactl daemon install --system";
    "0 done, 1 not allowed, another unit is there, or systemd refuses, 2 no systemd here, 6 the daemon could not be started"
))]
pub(crate) struct Install {
    /// For the whole machine; as root
    #[arg(long)]
    system: bool,
    /// Let systemd listen on the socket too, so that clients can wait for the daemon while the machine
    /// starts
    #[arg(long, requires = "system")]
    socket_activation: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Installed {
    unit: PathBuf,
    written: bool,
    system: bool,
    pid: u32,
    version: String,
    /// The llama-server that was registered because the daemon did not find it by itself.
    runtime: Option<String>,
    /// What a person should know.
    notes: Vec<String>,
}

/// Installs the unit.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Install) -> Outcome {
    let manager = if args.system { Manager::System } else { Manager::User };
    let programs = may_install(manager)?;
    let mut notes = other_programs(&programs);
    if manager == Manager::User {
        notes.extend(linger(output).await?);
    }
    let socket = socket_of(manager).await?;
    let (unit, mut written) = place_unit(manager, &programs)?;
    if args.system {
        make_user(&programs).await?;
    }
    if args.socket_activation {
        for file in files::socket_activation() {
            written |= file.write()?;
        }
        command("systemd-tmpfiles", &["--create", "/etc/tmpfiles.d/llamactl.conf"]).await?;
    }
    systemctl(manager, &["daemon-reload"]).await?;

    let reach = Reach { socket: Some(socket), ..reach.clone() };
    let reach = reach.of_daemon_command(None, Kind::TimedOut);
    if let Some((daemon, hello)) = reach.running().await? {
        match is_of_the_unit(manager, &hello).await {
            true if written => notes.push(format!(
                "the daemon of before runs on; the new unit holds from: {} restart llamactl",
                manager.typed("systemctl", &[]).join(" ")
            )),
            true => {}
            // Its servers stay, and the unit's daemon takes them over.
            false => {
                daemon_stop::stop(output, daemon, &hello, true, LIMIT).await?;
            }
        }
    }
    let units: &[&str] = if args.socket_activation { &[UNIT, SOCKET_UNIT] } else { &[UNIT] };
    systemctl(manager, &[&["enable"], units].concat()).await?;
    if args.socket_activation {
        // It cannot begin to listen for a service that runs.
        systemctl(manager, &["stop", UNIT]).await?;
        systemctl(manager, &["start", SOCKET_UNIT]).await?;
    }
    systemctl(manager, &["start", UNIT]).await.map_err(|failure| {
        let argv = manager.typed("journalctl", &["-u", UNIT, "-n", "20"]);
        Failure { kind: Kind::DaemonUnreachable, ..failure }
            .hint(Hint::run("see what it said", argv))
    })?;
    let Some((daemon, hello)) = reach.running().await? else {
        let why = "its unit was started, and no daemon answers";
        return Err(Failure::new(Kind::DaemonUnreachable, why).into());
    };
    let runtime = register(&daemon, &mut notes).await?;
    let Hello { pid, version, .. } = hello;
    let done = Installed { unit, written, system: args.system, pid, version, runtime, notes };
    tell(output, &done)
}

fn tell(output: &mut Output, done: &Installed) -> Outcome {
    if output.json {
        return output.json(done);
    }
    if output.quiet {
        return output.names([UNIT]);
    }
    let unit = done.unit.display();
    output.told(match done.written {
        true => format!("wrote {unit} and enabled it"),
        false => format!("enabled {unit}"),
    })?;
    output.told(format!("the daemon runs (llamactld {}, pid {})", done.version, done.pid))?;
    if let Some(runtime) = &done.runtime {
        output.line(format!("added the llama-server of your PATH as the runtime {runtime}"))?;
    }
    output.told(match done.system {
        true => {
            "it starts with the machine; who is to start and stop servers joins its group: \
                 usermod -aG llamactl USER"
        }
        false => "commands that need the daemon ask systemd for it from now on",
    })?;
    done.notes.iter().for_each(|note| output.warning(note.as_str()));
    Ok(())
}

/// Refuses where it cannot be; the directory of the programs.
fn may_install(manager: Manager) -> Result<PathBuf, Failure> {
    systemd_is_here()?;
    may_act(manager, "install")?;
    let own = std::env::current_exe().and_then(|own| own.canonicalize()).map_err(|error| {
        Failure::new(Kind::IoFailed, format!("cannot find this program's own file: {error}"))
    })?;
    let programs = own.parent().unwrap_or(Path::new("/")).to_owned();
    let daemon = programs.join("llamactld");
    if !daemon.is_file() {
        let why = format!("there is no llamactld beside {}", own.display());
        return Err(Failure::new(Kind::FileNotFound, why).hint("put both into one directory"));
    }
    if manager == Manager::System {
        files::may_be_the_machines(&own)?;
        files::may_be_the_machines(&daemon)?;
    }
    Ok(programs)
}

/// Refuses where no systemd runs the machine.
fn systemd_is_here() -> Result<(), Failure> {
    if systemd::is_booted() {
        return Ok(());
    }
    // The whole path: cron looks in /usr/bin and /bin alone.
    let program = std::env::current_exe().unwrap_or_else(|_| "llamactl".into());
    let line = format!("@reboot {} daemon start -q", program.display());
    Err(Failure::new(Kind::Usage, "systemd does not run this machine")
        .hint("llamactl works without: the first command starts the daemon in the background")
        .hint(format!("to have it from the start of the machine, a line for crontab -e: {line}")))
}

/// Refuses where the caller is not who it must be: `verb` is the command's.
pub(crate) fn may_act(manager: Manager, verb: &str) -> Result<(), Failure> {
    let is_root = rustix::process::geteuid().is_root();
    match manager {
        Manager::System if !is_root => {
            Err(Failure::new(Kind::NotAllowed, "only root changes the machine's units")
                .hint(Hint::run("as root", ["sudo", "llamactl", "daemon", verb, "--system"])))
        }
        Manager::User if is_root && std::env::var_os("SUDO_UID").is_some() => {
            Err(Failure::new(Kind::Usage, "under sudo this would be for root alone")
                .hint(Hint::run("for you", ["llamactl", "daemon", verb]))
                .hint(Hint::run(
                    "for the machine",
                    ["sudo", "llamactl", "daemon", verb, "--system"],
                )))
        }
        _ => Ok(()),
    }
}

/// Where the daemon of the unit listens, which must be where commands ask.
async fn socket_of(manager: Manager) -> Result<PathBuf, Failure> {
    if manager == Manager::System {
        return Ok(place::SYSTEM_SOCKET.into());
    }
    let socket = place::socket_in(&place::state_dir()?);
    if systemd::serves(&socket).await {
        return Ok(socket);
    }
    let why = format!("a daemon of your systemd would not be the one at {}", socket.display());
    let variables = format!("HOME, XDG_STATE_HOME or {}", place::STATE_DIR_VARIABLE);
    Err(Failure::new(Kind::Usage, why).hint(format!(
        "{variables} is another there: unset it here, or set it there too, in ~/.config/environment.d"
    )))
}

/// Writes the unit, unless a package brought one for these programs; its path, and whether it was written.
fn place_unit(manager: Manager, programs: &Path) -> Result<(PathBuf, bool), Failure> {
    let own = match manager {
        Manager::System => Some(PathBuf::from(files::SYSTEM_DIR)),
        Manager::User => systemd::own_unit_dir(),
    };
    let own = own.ok_or_else(|| Failure::new(Kind::IoFailed, "HOME is not an absolute path"))?;
    match systemd::unit_file(manager) {
        Some(packaged) if programs == Path::new("/usr/bin") && !packaged.starts_with(&own) => {
            Ok((packaged, false))
        }
        _ => {
            let unit: UnitFile = files::unit(manager, &own, programs)?;
            let written = unit.write()?;
            Ok((unit.path, written))
        }
    }
}

/// Makes the user that the machine's daemon runs as; a package has done it.
async fn make_user(programs: &Path) -> Result<(), Failure> {
    if programs != Path::new("/usr/bin") || !Path::new("/usr/lib/sysusers.d/llamactl.conf").exists()
    {
        files::sysusers().write()?;
    }
    command("systemd-sysusers", &["llamactl.conf"]).await
}

/// Whether the daemon that answers is the one that the unit runs.
async fn is_of_the_unit(manager: Manager, hello: &Hello) -> bool {
    let show = ["show", "--property=MainPID", "--value", UNIT];
    let pid = manager.systemctl(show, LIMIT).await;
    pid.is_ok_and(|pid| pid.trim().parse() == Ok(hello.pid))
}

/// Sees to it that the user's systemd runs while nobody is logged in. What to know where it does not.
async fn linger(output: &Output) -> Result<Option<String>, Failure> {
    let user = user_name().await?;
    if !Path::new("/var/lib/systemd/linger").join(&user).exists() {
        let mut enable = Command::new("loginctl");
        enable.args(["--no-ask-password", "enable-linger", &user]);
        if let Err(why) = systemd::said_by(enable, LIMIT).await {
            let hint = Hint::run("as root", ["loginctl", "enable-linger", &user]);
            // Whoever is logged in has a systemd of one's own all the same.
            return match manager_is_up().await {
                true => Ok(Some(format!(
                    "the daemon and its servers end after your last logout, because lingering could not \
                     be switched on ({why}); {hint}"
                ))),
                false => {
                    Err(Failure::new(Kind::NotAllowed, format!("no systemd of yours runs: {why}"))
                        .hint(hint))
                }
            };
        }
        if output.for_people() {
            output.note(format!("switched lingering on; back: loginctl disable-linger {user}"));
        }
    }
    let end = Instant::now() + MANAGER_LIMIT;
    while !manager_is_up().await && Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

async fn manager_is_up() -> bool {
    Manager::User.systemctl(["show-environment"], LIMIT).await.is_ok()
}

/// What this user is called.
pub(crate) async fn user_name() -> Result<String, Failure> {
    let mut id = Command::new("id");
    id.arg("-un");
    let name = systemd::said_by(id, LIMIT).await;
    name.map(|name| name.trim().to_owned()).map_err(|why| {
        Failure::new(Kind::IoFailed, format!("no name of this user is known: {why}"))
    })
}

pub(crate) async fn systemctl(manager: Manager, arguments: &[&str]) -> Result<String, Failure> {
    manager.systemctl(arguments, LIMIT).await.map_err(|why| {
        let typed = manager.typed("systemctl", arguments).join(" ");
        Failure::new(Kind::IoFailed, format!("{typed} failed: {why}"))
    })
}

async fn command(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(arguments);
    systemd::said_by(command, LIMIT)
        .await
        .map(drop)
        .map_err(|why| Failure::new(Kind::IoFailed, format!("{program} failed: {why}")))
}

/// Registers the llama-server that this shell would run, where the daemon does not find it by itself;
/// the name it was given.
async fn register(daemon: &Daemon, notes: &mut Vec<String>) -> Result<Option<String>, Quit> {
    let known = daemon.call(&RuntimeList::default()).await?.items;
    let named = std::env::var_os(place::LLAMA_SERVER_VARIABLE).filter(|path| !path.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let seen = named.map(PathBuf::from).or_else(|| on_path("llama-server", &path));
    let seen = seen.and_then(|seen| seen.canonicalize().ok());
    let is_usable = |entry: &RuntimeEntry| entry.found && entry.problem.is_none();
    let Some(seen) = seen else {
        if !known.iter().any(is_usable) {
            notes.push(
                "no llama-server is found, so no model can start; name one: llamactl runtime add PATH"
                    .to_owned(),
            );
        }
        return Ok(None);
    };
    let is_seen = |entry: &&RuntimeEntry| {
        let path = entry.path.as_ref().map(|path| path.as_path().canonicalize());
        is_usable(entry) && matches!(path, Some(Ok(path)) if path == seen)
    };
    if known.iter().any(|entry| is_seen(&entry)) {
        return Ok(None);
    }
    let add = RuntimeAdd { path: seen.clone().into(), name: None, environment: Default::default() };
    let name = match daemon.call(&add).await {
        Ok(added) => added.runtime.name,
        Err(failure) => {
            let hints: Vec<String> = failure.hints.lines().collect();
            let shown = seen.display();
            notes.push(
                [format!("{shown} was not added: {}", failure.message)]
                    .into_iter()
                    .chain(hints)
                    .collect::<Vec<_>>()
                    .join("; "),
            );
            return Ok(None);
        }
    };
    // Where nobody has chosen yet, models go on with what this shell would run.
    if known.iter().any(|entry| entry.is_default && entry.added_at_ms.is_none()) {
        daemon.call(&RuntimeUse { name: name.clone().into() }).await?;
    }
    let set = DEVICE_VARIABLES.iter().filter(|name| std::env::var_os(name).is_some());
    for variable in set {
        notes.push(format!(
            "{variable} is set here and does not reach the unit; set it for its servers: \
             llamactl runtime set {name} env.{variable}=VALUE"
        ));
    }
    Ok(Some(name))
}

/// What to know of the llamactl that a shell finds: there are other programs of that name.
fn other_programs(programs: &Path) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = programs.join("llamactl");
    match llamactl_on(&path, &own) {
        OnPath::Nothing => vec![format!("{} is not on your PATH", programs.display())],
        OnPath::This => vec![],
        OnPath::Another(first) => vec![format!(
            "the llamactl that is first on your PATH is another: {}, not {}",
            first.display(),
            own.display()
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_was_installed_and_what_to_know() {
        let done = |unit: &str, system: bool| Installed {
            unit: unit.into(),
            written: !system,
            system,
            pid: 700,
            version: "1.2.3".to_owned(),
            runtime: (!system).then(|| "cuda".to_owned()),
            notes: match system {
                true => vec![],
                false => vec!["/home/ana/.local/bin is not on your PATH".to_owned()],
            },
        };
        assert_screen("daemon-install", |output| {
            tell(output, &done("/home/ana/.config/systemd/user/llamactl.service", false))?;
            tell(output, &done("/usr/lib/systemd/system/llamactl.service", true))
        });
    }
}
