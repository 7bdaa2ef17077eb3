//! What a child must not inherit, and the limits of this process.

#![allow(unsafe_code)] // `close_range` has no safe wrapper in the libraries we use.

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

/// Marks every open descriptor from `first` on close-on-exec: whatever the program that started us
/// left open does not reach the servers we start.
///
/// Uses `close_range`, and walks `/proc/self/fd` where the kernel (before 5.11) cannot. The walk
/// allocates, so call this before a fork, not between fork and exec.
///
/// # Errors
/// As the system says, when neither way works.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let lowest = libc::c_uint::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes three integers and touches no memory of ours; with CLOEXEC it closes
    // nothing, so no descriptor that somebody owns becomes invalid.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            lowest,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if done == 0 { Ok(()) } else { close_on_exec_by_walking(first) }
}

/// The numbers of the descriptors that are open from `first` on.
fn open_from(first: RawFd) -> io::Result<Vec<RawFd>> {
    let entries = std::fs::read_dir("/proc/self/fd")?.collect::<io::Result<Vec<_>>>()?;
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|number| *number >= first).collect())
}

fn close_on_exec_by_walking(first: RawFd) -> io::Result<()> {
    for number in open_from(first)? {
        // SAFETY: the number was listed as open a moment ago and is not -1; it is only used to set
        // a flag. If another thread has closed it since, the calls fail with EBADF, and if it was
        // reused, the flag is what every descriptor of this process shall have anyway.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let marked = fcntl_getfd(descriptor)
            .and_then(|flags| fcntl_setfd(descriptor, flags | FdFlags::CLOEXEC));
        match marked {
            Ok(()) | Err(Errno::BADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Lets a descriptor stay open in the program that this process executes next.
///
/// # Errors
/// As the system says.
pub fn keep_on_exec(descriptor: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfd(&descriptor)?;
    Ok(fcntl_setfd(&descriptor, flags - FdFlags::CLOEXEC)?)
}

/// Takes the descriptor of this number, which the program that this process executed before left
/// open for us. Must be called before [`close_on_exec_from`].
///
/// # Errors
/// There is none, or it was opened by this program.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, and is only used to ask for a flag: where nothing of this
    // number is open, that fails.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // Everything that std and our libraries open is marked, and what was taken here is too: one
    // without the mark has no owner in this program.
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, and as it has no mark nobody owns it, see above.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, flags | FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Where the file of a descriptor lies now; of one that was deleted, a path that is no file's.
#[must_use]
pub fn path_of(descriptor: &impl AsRawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()
}

/// Takes every descriptor that the program before left open and nobody has taken yet. Must be
/// called before [`close_on_exec_from`].
///
/// # Errors
/// As the system says.
pub fn left_open() -> io::Result<Vec<OwnedFd>> {
    Ok(open_from(3)?.into_iter().filter_map(|number| inherited(number).ok()).collect())
}

/// Allows no core dump of this process and its children: a dump holds models, prompts and keys.
///
/// # Errors
/// As the system says.
pub fn disable_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// The limit of open files before and after [`file_limit_raise`]; `None` is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// The soft limit that was in force: what a child should get back, because a program that
    /// uses `select` breaks with descriptors over 1023.
    pub soft_before: Option<u64>,
    /// The soft limit in force now, the hard limit.
    pub soft_now: Option<u64>,
}

impl FileLimit {
    /// Sets the soft limit back to what it was. Allocates nothing: fit for between fork and exec.
    ///
    /// # Errors
    /// As the system says.
    pub fn restore(self) -> io::Result<()> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        Ok(setrlimit(Resource::Nofile, Rlimit { current: self.soft_before, maximum })?)
    }
}

/// Raises the soft limit of open files to the hard one.
///
/// # Errors
/// As the system says.
pub fn file_limit_raise() -> io::Result<FileLimit> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(FileLimit { soft_before: limit.current, soft_now: limit.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::IntoRawFd as _;
    use std::process::Command;

    fn inheritable() -> OwnedFd {
        let copy = rustix::io::dup(File::open("/dev/null").unwrap()).unwrap();
        assert!(!fcntl_getfd(&copy).unwrap().contains(FdFlags::CLOEXEC));
        copy
    }

    #[test]
    fn a_descriptor_is_marked_by_either_way() {
        for mark in [close_on_exec_from, close_on_exec_by_walking] {
            let descriptor = inheritable();
            mark(descriptor.as_raw_fd()).unwrap();
            assert!(fcntl_getfd(descriptor.as_fd()).unwrap().contains(FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn what_was_left_open_is_taken_once_and_nothing_else_is() {
        let number = inheritable().into_raw_fd();
        let taken = inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(inherited(number).is_err(), "it has an owner now");
        let own = File::open("/dev/null").unwrap();
        assert!(inherited(own.as_raw_fd()).is_err());
        assert!(inherited(1).is_err() && inherited(-1).is_err() && inherited(9_999_999).is_err());
        keep_on_exec(&own).unwrap();
        assert!(!fcntl_getfd(&own).unwrap().contains(FdFlags::CLOEXEC));
    }

    #[test]
    fn a_negative_number_is_refused() {
        assert_eq!(close_on_exec_from(-1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    /// Limits belong to the whole process, so these run in a process of their own: this test binary
    /// again, with only the test named and a variable set.
    fn in_own_process(test: &str, body: fn()) {
        const INSIDE: &str = "LLAMACTL_TEST_OWN_PROCESS";
        if std::env::var_os(INSIDE).is_some() {
            return body();
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::{test}")])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn core_dumps_are_off_for_good() {
        in_own_process("core_dumps_are_off_for_good", || {
            disable_core_dumps().unwrap();
            let limit = getrlimit(Resource::Core);
            assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        });
    }

    #[test]
    fn the_file_limit_goes_up_and_back() {
        in_own_process("the_file_limit_goes_up_and_back", || {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
            let limit = file_limit_raise().unwrap();
            assert_eq!(limit, FileLimit { soft_before: Some(64), soft_now: maximum });
            assert_eq!(getrlimit(Resource::Nofile).current, maximum);
            limit.restore().unwrap();
            assert_eq!(getrlimit(Resource::Nofile).current, Some(64));
            assert_eq!(getrlimit(Resource::Nofile).maximum, maximum);
        });
    }
}
