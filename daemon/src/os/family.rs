//! The processes that one process started.
//!
//! ```text
//!   a wrapper ─ fork ─▶ llama-server ─ fork ─▶ workers
//!      ╰── below: /proc/PID/task/*/children, down ──╯   cheap: some files for each process
//!      ╰── in_group: /proc/*/stat ──────────────────╯   dear: one for each process of the machine
//! ```
//!
//! A child whose parent ended is below nobody; that it is of the group is seen by going through all processes.

use super::proc::{self, Stat};
use super::process::stat;

/// The most processes of one family that are told of.
const MOST: usize = 256;

/// A process, and when it started, in clock ticks since boot.
pub type Member = (u32, u64);

/// Every process below this one, nearest first. Nothing where the kernel does not tell of children.
#[must_use]
pub fn below(pid: u32) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    let mut next = Some(pid);
    let mut looked_at = 0;
    while let Some(parent) = next.filter(|_| found.len() < MOST) {
        for child in children(parent) {
            let is_new = found.iter().all(|(known, _)| *known != child);
            // It may have ended since, and its number be another's.
            if let Some(stat) = stat_of(child)
                && stat.parent == parent.cast_signed()
                && is_new
            {
                found.push((child, stat.start_ticks));
            }
        }
        next = found.get(looked_at).map(|(child, _)| *child);
        looked_at += 1;
    }
    found
}

/// Every process of a process group. Reads a file of each process of the machine.
#[must_use]
pub fn in_group(group: i32) -> Vec<Member> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let member = |pid| stat_of(pid).filter(|it| it.group == group).map(|it| (pid, it.start_ticks));
    pids.filter_map(member).take(MOST).collect()
}

fn stat_of(pid: u32) -> Option<Stat> {
    stat(i32::try_from(pid).ok()?).filter(|stat| !stat.has_ended())
}

/// Each thread has the children that it made.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let thread = entry.ok()?.file_name();
        let file = format!("task/{}/children", thread.to_str()?);
        let text = String::from_utf8(proc::read(i32::try_from(pid).ok()?, &file)?).ok()?;
        Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
    };
    threads.filter_map(of_thread).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    /// A shell of a group of its own, whose script says the numbers of its children.
    fn family(script: &str) -> (std::process::Child, Vec<u32>) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (shell, line.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    }

    fn end(mut shell: std::process::Child) {
        let group = rustix::process::Pid::from_raw(shell.id().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
    }

    fn pids(members: &[Member]) -> Vec<u32> {
        members.iter().map(|(pid, _)| *pid).collect()
    }

    #[test]
    fn children_of_children_are_below_and_an_orphan_is_of_the_group() {
        let (shell, told) =
            family("sleep 1000 & echo $! $(sh -c 'sleep 1000 >&2 & echo $!'); wait");
        let [child, orphan] = told[..] else { panic!("{told:?}") };
        assert_eq!(pids(&below(shell.id())), [child]);
        let mut group = pids(&in_group(shell.id().cast_signed()));
        group.sort_unstable();
        let mut all = vec![shell.id(), child, orphan];
        all.sort_unstable();
        assert_eq!(group, all);
        let (_, start_ticks) = below(shell.id())[0];
        assert_eq!(Some(start_ticks), super::super::process::start_ticks(child.cast_signed()));
        end(shell);

        let (shell, told) = family("sh -c 'sleep 1000 & echo $! $$; wait' & wait");
        assert_eq!(pids(&below(shell.id())), [told[1], told[0]], "nearest first");
        end(shell);
    }
}
