//! What is mended without asking: where a mistake would cost nothing.
//!
//! What is run is made here from the code of a finding and never taken from its hints: a daemon of somebody
//! else's must not say what this user runs.

use crate::connection::Reach;
use llamactl_protocol::Failure;
use llamactl_protocol::doctor::{Finding, FindingCode};
use llamactl_protocol::place;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Mends what was found, if that is safe: what was done, or why it could not be; `None` where only a
/// person can decide.
pub(crate) async fn fix(reach: &Reach, finding: &Finding) -> Option<Result<String, String>> {
    let subject = finding.subject.as_deref();
    match finding.code {
        FindingCode::StateOpen => Some(shut(Path::new(subject?), &place::state_dir())),
        FindingCode::ProgramReplaced => Some(run(reach, &["daemon", "restart"]).await),
        FindingCode::RuntimeChanged => Some(run(reach, &["runtime", "refresh", subject?]).await),
        _ => None,
    }
}

/// Takes the rights of others away from something of this user's in the user's own state directory.
fn shut(path: &Path, state_dir: &Result<std::path::PathBuf, Failure>) -> Result<String, String> {
    let shown = path.display();
    let facts = fs::symlink_metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    let is_ours = facts.uid() == rustix::process::geteuid().as_raw() && !facts.is_symlink();
    if !is_ours || !state_dir.as_ref().is_ok_and(|dir| path.starts_with(dir)) {
        return Err(format!("{shown} is not in your own state directory"));
    }
    let mode = facts.mode() & 0o700;
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) => Ok(format!("{shown} has the mode {mode:o}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Runs this program with these arguments.
async fn run(reach: &Reach, arguments: &[&str]) -> Result<String, String> {
    let typed = format!("llamactl {}", arguments.join(" "));
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    if let Some(socket) = &reach.socket {
        command.arg("--socket").arg(socket);
    }
    command.args(["--no-autostart", "--quiet"]).args(arguments).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    match ran.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
        ran if ran.status.success() => Ok(typed),
        ran => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let first = said.lines().next().unwrap_or("it failed");
            Err(format!("{typed}: {}", first.trim_start_matches("error: ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_own_state_directory_is_shut() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let (own, other) = (dir.path().join("state"), dir.path().join("other"));
        for path in [&own, &other] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        shut(&own, &Ok(own.clone())).unwrap();
        assert_eq!(mode(&own), 0o700);
        shut(&other, &Ok(own.clone())).unwrap_err();
        std::os::unix::fs::symlink(&other, own.join("link")).unwrap();
        shut(&own.join("link"), &Ok(own.clone())).unwrap_err();
        assert_eq!(mode(&other), 0o755);
    }
}
