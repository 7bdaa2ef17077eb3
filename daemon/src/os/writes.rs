//! Whether somebody wrote to a file. Its times do not tell: `touch` sets those too, and writes nothing.

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::{Errno, read};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What was written to one file, as the kernel notes it. Nobody is woken by it.
#[derive(Debug)]
pub struct Writes(OwnedFd);

impl Writes {
    /// Notes it from now on.
    ///
    /// # Errors
    /// What the system says: there are as many of these as a user may have.
    pub fn to(path: &Path) -> io::Result<Writes> {
        let notes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        add_watch(&notes, path, WatchFlags::MODIFY)?;
        Ok(Writes(notes))
    }

    /// Whether there were any since this was asked last. What cannot be known counts as one.
    #[must_use]
    pub fn any(&self) -> bool {
        let mut any = false;
        loop {
            // The kernel keeps one note of what happens again and again.
            match read(&self.0, &mut [0; 512]) {
                Ok(1..) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return any,
                Ok(0) | Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, FileTimes};
    use std::time::SystemTime;

    #[test]
    fn what_is_written_or_cut_off_is_noted_and_a_touch_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "before").unwrap();
        let writes = Writes::to(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let now = SystemTime::now();
        file.set_times(FileTimes::new().set_accessed(now).set_modified(now)).unwrap();
        fs::read(&path).unwrap();
        assert!(!writes.any());
        fs::write(&path, "after").unwrap();
        assert!(writes.any() && !writes.any());
        file.set_len(1).unwrap();
        assert!(writes.any());
    }
}
