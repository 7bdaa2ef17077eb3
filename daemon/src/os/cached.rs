//! Reading what the kernel has in memory, and nothing else.

use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::IoSliceMut;

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
    use std::io::Write as _;

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
