//! Processes that may not be our children: who they are, whether they live, how they ended.
//!
//! ```text
//! pid + start time ──> ProcessId   names one process for ever (a pid alone is reused)
//! ProcessId ──verify──> Pidfd      a handle that cannot come to mean another process
//! Pidfd ──> signal, exited().await, exit status (Linux >= 6.15 for strangers)
//! /proc/PID ──> state, start time, executable, environment
//! ```
//!
//! A daemon that starts again finds servers it did not start. It proves who they are by
//! [`ProcessId`], [`boot_id`], [`executable`] and a marker in the environment, and waits for their
//! end by [`Pidfd::exited`], which needs no parenthood.

#![allow(unsafe_code)] // One ioctl that no library wraps, and waiting for a descriptor.

use super::proc::{self, Stat, Traffic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use rustix::process::Signal;

/// One process of this boot: the pid and when it started, which together are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// Its start, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

impl ProcessId {
    /// Who has this pid now; `None` when nobody has.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        start_ticks(pid).map(|start_ticks| Self { pid, start_ticks })
    }

    /// Whether this very process is there and is not a zombie.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.has_ended())
    }

    /// A handle on this very process; `None` when it is gone, also when its pid has a new owner.
    ///
    /// # Errors
    /// As [`Pidfd::open`].
    pub fn open(&self) -> io::Result<Option<Pidfd>> {
        let pidfd = match Pidfd::open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Read after opening: if the start is right now, the handle cannot be another's.
        Ok((start_ticks(self.pid) == Some(self.start_ticks)).then_some(pidfd))
    }
}

/// A handle on one process, ours or not. It never comes to mean another process.
#[derive(Debug)]
pub struct Pidfd {
    fd: AsyncFd<OwnedFd>,
}

impl Pidfd {
    /// Opens the process that has `pid` now. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `ESRCH` when there is none, [`io::ErrorKind::InvalidInput`] for a pid below 1, otherwise as
    /// the system says.
    pub fn open(pid: i32) -> io::Result<Self> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let fd = pidfd_open(valid_pid(pid)?, PidfdFlags::empty())?;
        // SAFETY: the descriptor is open and owned by the `AsyncFd` from here on, which is never
        // taken apart; an `OwnedFd` always answers with the same number.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)?;
        Ok(Self { fd })
    }

    /// Sends a signal. `false` when the process has ended and been reaped.
    ///
    /// # Errors
    /// As the system says: above all that we may not.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match pidfd_send_signal(self.fd.get_ref(), signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the process has ended (it may still be a zombie).
    ///
    /// # Errors
    /// As the system says.
    pub fn has_exited(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.fd.get_ref(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut polled, Some(&now)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// How our child ended; `None` while it runs, and for a process that is not our child. With
    /// `reap` its number is free for another process afterwards.
    #[must_use]
    pub fn child_status(&self, reap: bool) -> Option<ExitStatus> {
        let keep = if reap { WaitIdOptions::empty() } else { WaitIdOptions::NOWAIT };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | keep;
        ended(&waitid(WaitId::PidFd(self.fd.as_fd()), options).ok()??)
    }

    /// Waits until the process has ended, whoever its parent is. May be dropped and asked again.
    ///
    /// # Errors
    /// As the system says.
    pub async fn exited(&self) -> io::Result<()> {
        loop {
            let mut readiness = self.fd.readable().await?;
            if self.has_exited()? {
                return Ok(());
            }
            readiness.clear_ready();
        }
    }
}

/// Reaps our child of this pid, if it has ended: how. A program that this process executed before
/// may have left one that ended in between.
#[must_use]
pub fn reap(pid: i32) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    ended(&waitid(WaitId::Pid(valid_pid(pid).ok()?), options).ok()??)
}

fn ended(status: &WaitIdStatus) -> Option<ExitStatus> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
        (None, Some(signal)) => Some(ExitStatus::from_raw(signal)),
        (None, None) => None,
    }
}

/// How a process that is not our child ended.
///
/// `None` while it runs, while its own parent has not reaped it (ask again for a while: an init
/// process may take seconds), and for ever on kernels before 6.15.
#[must_use]
pub fn exit_status_of_stranger(pidfd: &Pidfd) -> Option<ExitStatus> {
    const GET_INFO: rustix::ioctl::Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: PIDFD_GET_INFO reads and writes one `struct pidfd_info` of the size that the opcode
    // itself carries, and `PidfdInfo` has that struct's layout (its first published version, 64
    // bytes, all integers: any bytes are a valid value). Kernels without it answer with an error.
    unsafe { ioctl(pidfd.fd.as_fd(), Updater::<GET_INFO, PidfdInfo>::new(&mut info)) }.ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info` of `linux/pidfd.h`, version 0.
#[derive(Default)]
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// When the process started, in clock ticks since boot; `None` when there is no such process.
#[must_use]
pub fn start_ticks(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// The state letter of the process (`R`, `S`, `D`, `T`, `Z`, …); `None` when there is no such process.
#[must_use]
pub fn state(pid: i32) -> Option<char> {
    stat(pid).map(|stat| stat.state)
}

/// Clock ticks as time.
#[must_use]
pub fn time_of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks_to_seconds(ticks))
}

#[allow(clippy::cast_precision_loss)] // Ticks of a hundredth of a second: exact for ages.
fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64
}

/// Two numbers that grow while a process loads: pages it has in memory, and bytes it has read.
#[must_use]
pub fn growth(pid: i32) -> (Option<u64>, Option<u64>) {
    let pages = proc::read(pid, "statm").and_then(|text| proc::resident_pages(&text));
    let read = proc::read(pid, "io").and_then(|text| Traffic::parse(&text).any_read_bytes);
    (pages, read)
}

/// Sends a signal to every process of a group. `false` when the group has no process left, zombies
/// included.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a group below 2, which would mean "mine" or "everybody";
/// otherwise as the system says.
pub fn signal_group(pgid: i32, signal: Signal) -> io::Result<bool> {
    if pgid < 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match rustix::process::kill_process_group(valid_pid(pgid)?, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The id of this boot: pids and start times recorded under another one mean nothing.
///
/// # Errors
/// As the system says: no `/proc`.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When this boot began, in Unix milliseconds; 0 when it cannot be told.
#[must_use]
pub fn booted_at_ms() -> i64 {
    clock_ms(ClockId::Realtime).saturating_sub(clock_ms(ClockId::Boottime)).max(0)
}

/// Milliseconds since this boot began, sleep of the machine included. Nothing sets this clock.
#[must_use]
pub fn boottime_ms() -> u64 {
    u64::try_from(clock_ms(ClockId::Boottime)).unwrap_or(0)
}

fn clock_ms(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Every process there is, as far as we may see.
pub fn all() -> impl Iterator<Item = ProcessId> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| ProcessId::of(entry.file_name().to_str()?.parse().ok()?))
}

/// Whether the environment the process was started with sets `key` to exactly `value`.
///
/// `None` when it cannot be told: the process is gone, is another user's, or shows no environment
/// at all (a zombie, or one in the middle of an exec: ask again).
#[must_use]
pub fn environ_has(pid: i32, key: &str, value: &str) -> Option<bool> {
    let environ = proc::read(pid, "environ").filter(|read| !read.is_empty())?;
    let wanted = format!("{key}={value}");
    Some(environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

/// What the environment the process was started with says of `key`; `None` when it says nothing,
/// and when it cannot be read.
#[must_use]
pub fn environ_value(pid: i32, key: &str) -> Option<String> {
    let environ = proc::read(pid, "environ")?;
    let value = environ.split(|byte| *byte == 0).find_map(|entry| {
        entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
    })?;
    String::from_utf8(value).ok()
}

/// A word of its command line, its own name being the first; `None` where it has none, or cannot be seen.
#[must_use]
pub fn argument(pid: i32, place: usize) -> Option<String> {
    let line = proc::read(pid, "cmdline")?;
    let word = line.split(|byte| *byte == 0).nth(place)?;
    String::from_utf8(word.to_vec()).ok()
}

/// The group the process is in; `None` when there is no such process.
#[must_use]
pub fn group_of(pid: i32) -> Option<i32> {
    stat(pid).map(|stat| stat.group)
}

/// The file the process executes; where it has been deleted, the path it had.
///
/// `None` when it cannot be read: the process is gone, or is another user's.
#[must_use]
pub fn executable(pid: i32) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{}/exe", valid_pid(pid).ok()?)).ok()?;
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Some(std::ffi::OsString::from_vec(bytes.to_vec()).into())
}

fn valid_pid(pid: i32) -> io::Result<Pid> {
    let positive = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
    positive.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// What the kernel says of the process now; `None` when there is no such process.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&proc::read(pid, "stat")?)
}

#[cfg(test)]
mod tests;
