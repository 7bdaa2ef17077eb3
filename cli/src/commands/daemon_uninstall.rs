//! `llamactl daemon uninstall`

use super::daemon_install::{may_act, systemctl, user_name};
use crate::args::more;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use crate::systemd::{self, Manager, SOCKET_UNIT, UNIT, files};
use clap::Args;
use llamactl_protocol::{Failure, Kind, place};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Take the daemon's unit back
///
/// Stops the daemon and its servers, disables the unit and removes what daemon install wrote. Models,
/// settings, history and logs stay; commands start the daemon themselves again when they need it. A
/// unit that came with a package stays with it, disabled.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon uninstall",
    "sudo llamactl daemon uninstall --system";
    "0 done, also if there was none, 1 not allowed, or systemd refuses, 2 used wrongly"
))]
pub(crate) struct Uninstall {
    /// The unit of the whole machine; as root
    #[arg(long)]
    system: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Uninstalled {
    /// What was removed.
    removed: Vec<PathBuf>,
    /// The unit of a package, which stays.
    packaged: Option<PathBuf>,
    /// Where everything lies that stays.
    state_dir: PathBuf,
    /// Whose systemd runs while nobody is logged in.
    lingers: Option<String>,
}

/// Takes the unit back.
pub(crate) async fn run(output: &mut Output, _: &Reach, args: Uninstall) -> Outcome {
    let manager = if args.system { Manager::System } else { Manager::User };
    may_act(manager, "uninstall")?;
    let state_dir = match manager {
        Manager::System => PathBuf::from(place::SYSTEM_STATE_DIR),
        Manager::User => place::state_dir()?,
    };
    let has_unit = systemd::unit_file(manager).is_some();
    if has_unit && systemd::is_booted() {
        if manager == Manager::System && systemd::has_socket_unit() {
            systemctl(manager, &["disable", "--now", SOCKET_UNIT]).await?;
        }
        systemctl(manager, &["disable", "--now", UNIT]).await?;
    }
    let own = match manager {
        Manager::System => Some(PathBuf::from(files::SYSTEM_DIR)),
        Manager::User => systemd::own_unit_dir(),
    };
    let own = own.ok_or_else(|| Failure::new(Kind::IoFailed, "HOME is not an absolute path"))?;
    let mut written = vec![files::unit(manager, &own, Path::new("/usr/bin"))?];
    if manager == Manager::System {
        written.extend(files::socket_activation());
        written.push(files::sysusers());
    }
    let mut removed = Vec::new();
    for file in written {
        if file.remove()? {
            removed.push(file.path);
        }
    }
    if !removed.is_empty() && systemd::is_booted() {
        systemctl(manager, &["daemon-reload"]).await?;
    }
    if has_unit
        && manager == Manager::System
        && let Some(dir) = Path::new(place::SYSTEM_SOCKET).parent()
    {
        // What tmpfiles.d made would go with the next boot. Until then whoever may not enter it would be
        // refused a daemon of one's own.
        let _ = std::fs::remove_dir_all(dir);
    }
    let lingers = match manager {
        Manager::System => None,
        Manager::User => {
            let user = user_name().await?;
            Some(user).filter(|user| Path::new("/var/lib/systemd/linger").join(user).exists())
        }
    };
    let packaged = systemd::unit_file(manager);
    tell(output, has_unit, &Uninstalled { removed, packaged, state_dir, lingers })
}

fn tell(output: &mut Output, had_unit: bool, done: &Uninstalled) -> Outcome {
    if output.json {
        return output.json(done);
    }
    if output.quiet {
        return Ok(());
    }
    if !had_unit {
        return output.told("no unit is installed");
    }
    output.told("the daemon and its servers are stopped, and its unit is disabled")?;
    for path in &done.removed {
        output.told(format!("removed {}", path.display()))?;
    }
    if let Some(packaged) = &done.packaged {
        output.told(format!("{} belongs to a package and stays", packaged.display()))?;
    }
    output.told(format!("models, settings and history stay in {}", done.state_dir.display()))?;
    if let Some(user) = &done.lingers {
        output
            .line(format!("lingering is still on for you; off: loginctl disable-linger {user}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_is_gone_and_what_stays() {
        let user = Uninstalled {
            removed: vec!["/home/ana/.config/systemd/user/llamactl.service".into()],
            packaged: None,
            state_dir: "/home/ana/.local/state/llamactl".into(),
            lingers: Some("ana".to_owned()),
        };
        let system = Uninstalled {
            removed: vec![],
            packaged: Some("/usr/lib/systemd/system/llamactl.service".into()),
            state_dir: "/var/lib/llamactl".into(),
            lingers: None,
        };
        assert_screen("daemon-uninstall", |output| {
            tell(output, true, &user)?;
            tell(output, true, &system)?;
            tell(output, false, &system)
        });
    }
}
