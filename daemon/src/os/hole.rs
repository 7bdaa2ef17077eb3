//! Freeing the head of a file that somebody else is appending to.
//!
//! ```text
//!  0          up_to_offset                 length
//!  |── hole ──|── data, untouched ─────────|── the writer appends here
//! ```
//!
//! A hole leaves length and offsets as they are: only the disk blocks go. The hole itself is the
//! record of what was freed: [`first_data`] finds its end, also after a crash.

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;

/// Frees the bytes `0..up_to_offset` of `file`, which must be open for writing.
///
/// Give an offset that is a multiple of the file's block size: bytes of a block that is only partly
/// covered become zeros, which [`first_data`] cannot tell from data.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the file system cannot do it; otherwise as the system says.
pub fn punch_head(file: &File, up_to_offset: u64) -> io::Result<()> {
    if up_to_offset == 0 {
        return Ok(());
    }
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        return match fallocate(file, how, 0, up_to_offset) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// The offset of the first byte of `file` that is not in a hole; its length when there is none.
///
/// Where the file system does not tell holes from data this is 0. Moves the file's read position.
///
/// # Errors
/// As the system says.
pub fn first_data(file: &File) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(0)) {
        Ok(offset) => Ok(offset),
        // No data behind offset 0: the file is empty or one hole.
        Err(Errno::NXIO) => Ok(file.metadata()?.len()),
        Err(Errno::INVAL) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    fn file_of(length_bytes: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; length_bytes]).unwrap();
        file
    }

    #[test]
    fn a_punched_head_is_gone_and_the_rest_stays_where_it_was() {
        let file = file_of(3 * 65_536);
        punch_head(&file, 65_536).unwrap();
        assert_eq!(first_data(&file).unwrap(), 65_536);
        assert_eq!(file.metadata().unwrap().len(), 3 * 65_536);
        let mut around = [0; 2];
        file.read_exact_at(&mut around, 65_535).unwrap();
        assert_eq!(&around, b"\0x");
    }

    #[test]
    fn a_file_without_data_begins_at_its_end() {
        assert_eq!(first_data(&file_of(0)).unwrap(), 0);
        let all_hole = file_of(65_536);
        punch_head(&all_hole, 65_536).unwrap();
        assert_eq!(first_data(&all_hole).unwrap(), 65_536);
    }

    #[test]
    fn freeing_nothing_is_allowed() {
        let file = file_of(10);
        punch_head(&file, 0).unwrap();
        assert_eq!(first_data(&file).unwrap(), 0);
    }

    #[test]
    fn a_file_system_that_cannot_is_told_apart() {
        // A pipe has no blocks to free; procfs files refuse fallocate as a file system would.
        let refused = File::options().write(true).open("/proc/self/comm").unwrap();
        assert_eq!(punch_head(&refused, 4096).unwrap_err().kind(), io::ErrorKind::Unsupported);
        let read_only = File::open("/proc/self/exe").unwrap();
        let error = punch_head(&read_only, 4096).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    }
}
