//! Files and the room they have: what std has no words for.

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with, statvfs};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

/// Renames a file unless there is one of the new name already.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`]; what the system says otherwise.
pub fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot: nobody else is to make that name, so a look must do.
        Err(Errno::INVAL | Errno::NOSYS) if !to.try_exists()? => std::fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

/// How many bytes may still be written on the file system of a path.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    Ok(space(path)?.1)
}

/// How large the file system of a path is, and how many bytes may still be written on it. Takes as long as
/// the file system likes: for ever on a network that is gone.
///
/// # Errors
/// What the system says.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let facts = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Ok((bytes(facts.f_blocks), bytes(facts.f_bavail)))
}

/// How many bytes may still be written on the file system of a path, how many files it can have, and how
/// many further ones; the last two are 0 where it does not count them. Takes as long as [`space`].
///
/// # Errors
/// What the system says.
pub fn room(path: &Path) -> io::Result<(u64, u64, u64)> {
    let facts = statvfs(path)?;
    Ok((facts.f_frsize.saturating_mul(facts.f_bavail), facts.f_files, facts.f_favail))
}

/// Takes room for a file, so that it is really there.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`]; a file system that cannot.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// Lets every other thread go first from here on.
pub fn yield_to_others() {
    // Of this thread alone on Linux. Where it may not, it goes on as it is.
    let _ = rustix::process::setpriority_process(None, 19);
}
