//! What the kernel has in memory, and nothing else.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number in its file system.
    pub inode: u64,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When its contents were changed last, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

/// Which file a path leads to; `None` where that cannot be told without waiting, where the file does not
/// lie on a disk of this machine, and before Linux 5.12.
#[must_use]
pub fn facts(path: &Path) -> Option<Facts> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let told = statx(&found, "", at, StatxFlags::BASIC_STATS).ok()?;
    // Of a file elsewhere the kernel may have remembered what is so no more.
    (told.stx_dev_major != 0).then(|| Facts {
        inode: told.stx_ino,
        size_bytes: told.stx_size,
        mtime_ns: told
            .stx_mtime
            .tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(told.stx_mtime.tv_nsec.into()),
    })
}

/// Reads at an offset as much as can be had without waiting for a disk; `None` where that is nothing,
/// and where the file system cannot say.
#[must_use]
pub fn read_at(file: &File, max_bytes: usize, offset: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; max_bytes];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let read_bytes = preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT).ok()?;
    bytes.truncate(read_bytes);
    (read_bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn a_file_is_known_only_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&file, "one").unwrap();
        symlink(&file, &link).unwrap();
        // Not every file system can say; then it says nothing.
        let is_known = |inode, size| {
            let told =
                |path| facts(path).is_none_or(|it| (it.inode, it.size_bytes) == (inode, size));
            told(&file) && told(&link)
        };
        let inode = file.metadata().unwrap().ino();
        assert!(is_known(inode, 3));
        fs::write(&file, "three").unwrap();
        assert!(is_known(inode, 5));
        fs::write(dir.path().join("c"), "other").unwrap();
        fs::rename(dir.path().join("c"), &file).unwrap();
        assert!(is_known(file.metadata().unwrap().ino(), 5));
        fs::remove_file(&file).unwrap();
        assert_eq!((facts(&file), facts(&link)), (None, None));
    }

    #[test]
    fn what_was_just_written_is_in_memory_and_the_end_is_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one two").unwrap();
        // Not every file system can say; then it says nothing.
        let read = |offset| read_at(&file, 100, offset);
        assert!(read(4).is_none_or(|bytes| bytes == b"two"));
        assert_eq!(read(7), None);
    }
}
