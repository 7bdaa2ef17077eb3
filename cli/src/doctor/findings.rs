//! From facts to findings.

use super::facts::{DaemonIs, Facts, Node, Unit};
use crate::programs::OnPath;
use crate::systemd::{Manager, UNIT};
use llamactl_protocol::Hint;
use llamactl_protocol::doctor::{Finding, FindingCode as Code};

/// Whether somebody wants a unit: a package brings the user's to everybody, who may leave it alone.
fn is_meant(unit: &Unit) -> bool {
    unit.manager == Manager::System || unit.is_enabled || !unit.path.starts_with("/usr/lib")
}

/// What this command finds.
pub(crate) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    findings.extend(of_daemon(facts));
    findings.extend(facts.socket.as_ref().and_then(of_socket));
    findings.extend(of_config(facts));
    findings.extend(of_path(facts));
    let units: Vec<&Unit> = facts.units.iter().filter(|unit| is_meant(unit)).collect();
    findings.extend(units.iter().flat_map(|unit| of_unit(unit)));
    if let [one, other, ..] = units.as_slice() {
        let message = format!(
            "there are two units, {} and {}: commands go to the user's own daemon while it answers",
            one.path.display(),
            other.path.display()
        );
        let uninstall = ["llamactl", "daemon", "uninstall"];
        findings.push(
            Finding::new(Code::TwoUnits, message)
                .hint(Hint::run("take the user's own away", uninstall)),
        );
    }
    let is_enabled =
        facts.units.iter().any(|unit| unit.manager == Manager::User && unit.is_enabled);
    if is_enabled && facts.lingers == Some(false) {
        let user = facts.user.as_deref().unwrap_or("USER");
        findings.push(
            Finding::new(Code::LingerOff, "the daemon and its servers end with your last logout")
                .hint(Hint::run("let them stay; as root", ["loginctl", "enable-linger", user])),
        );
    }
    findings
}

fn of_daemon(facts: &Facts) -> Option<Finding> {
    let start = || Hint::run("start it", ["llamactl", "daemon", "start"]);
    Some(match &facts.daemon {
        DaemonIs::There(there) if there.0.version == facts.version => return None,
        DaemonIs::There(there) => {
            let message = format!(
                "this is llamactl {}, the daemon is llamactld {}",
                facts.version, there.0.version
            );
            let restart = ["llamactl", "daemon", "restart"];
            Finding::new(Code::VersionsDiffer, message)
                .hint(Hint::run("bring them together; servers stay", restart))
        }
        DaemonIs::Silent(failure) => Finding::of_failure(Code::DaemonSilent, failure),
        DaemonIs::Refused(failure) => Finding::of_failure(Code::DaemonRefused, failure),
        DaemonIs::Absent { was_stopped: true } => {
            Finding::new(Code::DaemonNotRunning, "the daemon was stopped").hint(start())
        }
        DaemonIs::Absent { was_stopped: false } => {
            match facts.units.iter().find(|unit| unit.is_enabled) {
                Some(unit) => {
                    let message =
                        format!("no daemon runs, although {} is enabled", unit.path.display());
                    let argv = unit.manager.typed("systemctl", &["start", UNIT]);
                    Finding::new(Code::DaemonDown, message).hint(Hint::run("start it", argv))
                }
                None => Finding::new(
                    Code::DaemonNotRunning,
                    "no daemon runs; the next command that needs one starts it",
                )
                .hint(start()),
            }
        }
    })
}

fn of_socket(node: &Node) -> Option<Finding> {
    // Who may not enter the directory does not reach what lies in it.
    let reach = node.mode & 0o666 & spread(node.dir_mode & 0o111);
    let allowed = if node.is_the_machines { 0o660 } else { 0o600 };
    if reach & !allowed == 0 {
        return None;
    }
    let path = node.path.display().to_string();
    let message = format!("other users reach the socket {path}");
    let chmod = ["chmod", if node.is_the_machines { "o-rwx" } else { "go-rwx" }, &path];
    Some(Finding::new(Code::SocketOpen, message).of(&path).hint(Hint::run("take that away", chmod)))
}

/// All rights of whom may enter.
fn spread(enter: u32) -> u32 {
    enter * 7
}

fn of_config(facts: &Facts) -> Option<Finding> {
    match facts.config.as_ref()? {
        Err(failure) => {
            let check = ["llamactl", "daemon", "check-config"];
            Some(
                Finding::of_failure(Code::ConfigWrong, failure)
                    .hint(Hint::run("see whether it is mended", check)),
            )
        }
        Ok(now) => {
            let DaemonIs::There(there) = &facts.daemon else { return None };
            let held = there.1.config.as_ref()?;
            if held.config == now.config {
                return None;
            }
            let before = held.config.entries();
            let changed = now.config.entries().into_iter().filter(|it| !before.contains(it));
            let gone = before
                .iter()
                .filter(|(key, _)| !now.config.entries().iter().any(|(known, _)| known == key));
            let mut keys: Vec<String> = changed.map(|(key, _)| key).collect();
            keys.extend(gone.map(|(key, _)| key.clone()));
            let path = now.path.as_ref().or(held.path.as_ref());
            let path = path.map_or_else(|| "the configuration".to_owned(), ToString::to_string);
            let message = format!(
                "{path} was changed ({}), and the daemon goes by what it was",
                keys.join(", ")
            );
            let restart = ["llamactl", "daemon", "restart"];
            Some(
                Finding::new(Code::ConfigPending, message)
                    .hint(Hint::run("go by it; servers stay", restart)),
            )
        }
    }
}

fn of_path(facts: &Facts) -> Option<Finding> {
    let own = facts.own.display();
    match &facts.on_path {
        OnPath::This => None,
        OnPath::Nothing => {
            let dir = facts.own.parent().unwrap_or(&facts.own).display();
            Some(
                Finding::new(Code::NotOnPath, format!("{dir} is not on PATH"))
                    .hint(format!("add it: export PATH=\"{dir}:$PATH\"")),
            )
        }
        OnPath::Another(first) => {
            let first = first.display().to_string();
            let message =
                format!("the llamactl that is first on PATH is another: {first}, not {own}");
            let dir = facts.own.parent().unwrap_or(&facts.own).display();
            Some(
                Finding::new(Code::OtherProgram, message)
                    .of(&first)
                    .hint(format!("put {dir} before it in PATH")),
            )
        }
    }
}

fn of_unit(unit: &Unit) -> Vec<Finding> {
    let path = unit.path.display().to_string();
    let typed = |arguments: &[&str]| unit.manager.typed("systemctl", arguments);
    let install: &[&str] = match unit.manager {
        Manager::System => &["sudo", "llamactl", "daemon", "install", "--system"],
        Manager::User => &["llamactl", "daemon", "install"],
    };
    let mut findings = vec![];
    if unit.has_failed {
        let message = format!("systemd gave up to start the daemon of {path}");
        let journal = unit.manager.typed("journalctl", &["-u", UNIT, "-n", "20"]);
        let reset = typed(&["restart", UNIT]);
        findings.push(
            Finding::new(Code::UnitFailed, message)
                .of(&path)
                .hint(Hint::run("see what it said", journal))
                .hint(Hint::run("then try again", reset)),
        );
    }
    if unit.is_as_written == Some(false) {
        let message = format!("{path} is not the unit that this version writes");
        findings.push(
            Finding::new(Code::UnitDiffers, message)
                .of(&path)
                .hint(Hint::run("write it anew", install.iter().copied())),
        );
    }
    if !unit.is_enabled {
        let message = format!("{path} is installed and does not start with the machine");
        findings.push(
            Finding::new(Code::UnitDisabled, message)
                .of(&path)
                .hint(Hint::run("let it", typed(&["enable", UNIT]))),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use llamactl_protocol::Failure;
    use llamactl_protocol::Kind;
    use llamactl_protocol::daemon::{Config, ConfigReport, Hello};
    use std::num::NonZeroU32;

    fn sound() -> Facts {
        Facts {
            daemon: DaemonIs::There(Box::new((scene::hello(), scene::report()))),
            socket: Some(Node {
                path: "/s/run/llamactld.sock".into(),
                mode: 0o140_600,
                dir_mode: 0o40_700,
                is_the_machines: false,
            }),
            config: scene::report().config.map(Ok),
            version: "0.2.0",
            own: "/usr/bin/llamactl".into(),
            on_path: OnPath::This,
            units: vec![],
            lingers: None,
            user: Some("anna".into()),
        }
    }

    fn unit(manager: Manager) -> Unit {
        Unit {
            manager,
            path: "/etc/systemd/system/llamactl.service".into(),
            is_enabled: true,
            has_failed: false,
            is_as_written: Some(true),
        }
    }

    fn codes(facts: &Facts) -> Vec<String> {
        findings(facts).iter().map(|finding| finding.code.to_string()).collect()
    }

    #[test]
    fn what_is_sound_has_no_findings_and_each_fault_has_its_own() {
        assert_eq!(codes(&sound()), [""; 0]);
        let failure = || Failure::new(Kind::TimedOut, "x");
        let absent = |was_stopped| DaemonIs::Absent { was_stopped };
        let newer = Hello { version: "0.3.0".into(), ..scene::hello() };
        for (daemon, code) in [
            (DaemonIs::There(Box::new((newer, scene::report()))), "versions_differ"),
            (DaemonIs::Silent(failure()), "daemon_silent"),
            (DaemonIs::Refused(failure()), "daemon_refused"),
            (absent(true), "daemon_not_running"),
            (absent(false), "daemon_not_running"),
        ] {
            assert_eq!(codes(&Facts { daemon, ..sound() }), [code]);
        }
        let units = || vec![unit(Manager::System)];
        assert_eq!(
            codes(&Facts { daemon: absent(false), units: units(), ..sound() }),
            ["daemon_down"]
        );
        assert_eq!(codes(&Facts { units: units(), ..sound() }), [""; 0]);
        let config = Some(Err(failure()));
        assert_eq!(codes(&Facts { config, ..sound() }), ["config_wrong"]);
        let other = Config { max_running: NonZeroU32::new(9), ..Config::default() };
        let config = Some(Ok(ConfigReport { path: None, config: other }));
        let facts = Facts { config, ..sound() };
        assert_eq!(codes(&facts), ["config_pending"]);
        let on_path = OnPath::Another("/x/llamactl".into());
        assert_eq!(codes(&Facts { on_path, ..sound() }), ["other_program"]);
        assert_eq!(codes(&Facts { on_path: OnPath::Nothing, ..sound() }), ["not_on_path"]);
    }

    #[test]
    fn a_socket_is_open_to_who_may_enter_its_directory_too() {
        let open = |mode, dir_mode, is_the_machines| {
            let path = "/s.sock".into();
            of_socket(&Node { path, mode, dir_mode, is_the_machines }).is_some()
        };
        assert!(!open(0o666, 0o700, false));
        assert!(open(0o666, 0o755, false) && open(0o660, 0o750, false));
        assert!(!open(0o660, 0o750, true) && !open(0o666, 0o750, true) && open(0o666, 0o755, true));
    }

    #[test]
    fn units_and_what_keeps_a_users_own_alive() {
        let of = |unit: Unit| codes(&Facts { units: vec![unit], ..sound() });
        let user = || unit(Manager::User);
        assert_eq!(of(Unit { has_failed: true, ..user() }), ["unit_failed"]);
        assert_eq!(of(Unit { is_as_written: Some(false), ..user() }), ["unit_differs"]);
        assert_eq!(of(Unit { is_enabled: false, ..user() }), ["unit_disabled"]);
        assert_eq!(of(Unit { is_as_written: None, ..user() }), [""; 0]);
        let units = vec![unit(Manager::System), user()];
        assert_eq!(codes(&Facts { units, ..sound() }), ["two_units"]);
        let path = "/usr/lib/systemd/user/llamactl.service".into();
        let units = vec![unit(Manager::System), Unit { path, is_enabled: false, ..user() }];
        assert_eq!(codes(&Facts { units, ..sound() }), [""; 0], "a package brings it to everybody");
        let facts = Facts { units: vec![user()], lingers: Some(false), ..sound() };
        assert_eq!(codes(&facts), ["linger_off"]);
    }
}
