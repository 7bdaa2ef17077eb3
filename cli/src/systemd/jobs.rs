//! What systemd stops a unit for.
//!
//! A restart and a stop send the same signal; only the job that systemd carries out tells them apart.

use super::Manager;
use std::time::Duration;

/// How long systemd may take to say it: it answers at once, or it is on its way down.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether systemd is restarting this unit, which runs this command to stop it. Not to know counts as
/// a stop: servers that nobody looks after are worse than servers that are started again.
pub(crate) async fn is_restarted(unit: &str, manager: Manager) -> bool {
    let jobs = manager.systemctl(["list-jobs", "--no-legend", "--plain", "--full"], LIMIT).await;
    jobs.is_ok_and(|jobs| job_of(&jobs, unit) == Some("restart"))
}

/// The type of a unit's job in lines of `JOB UNIT TYPE STATE`.
fn job_of<'a>(jobs: &'a str, unit: &str) -> Option<&'a str> {
    jobs.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(unit)).then(|| words.next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_of_a_unit_is_its_own() {
        let jobs = " 812 llamactl.service         restart running\n\
                    1203 other-llamactl.service   stop    waiting\n  77 x.mount stop running\n";
        assert_eq!(job_of(jobs, "llamactl.service"), Some("restart"));
        assert_eq!(job_of(jobs, "other-llamactl.service"), Some("stop"));
        assert_eq!(job_of(jobs, "x.mount"), Some("stop"));
        for nothing in ["", "No jobs running.\n", "812\n", "812 llamactl.service\n", "\u{fffd}\n"] {
            assert_eq!(job_of(nothing, "llamactl.service"), None, "{nothing}");
        }
        assert_eq!(job_of(jobs, "llamactl"), None);
    }
}
