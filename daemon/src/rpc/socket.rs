//! The socket's node: where it may lie, who holds it, and taking over what a dead daemon left.
//!
//! ```text
//!   path ok? ─▶ directory ours and closed? ─▶ lock ─▶ node: none | stale | alive | not a socket
//!                                              │             ╰──┬──╯
//!                                        held: its pid         bind, mode, ready
//! ```
//!
//! One daemon per socket is a lock on `<socket>.lock`, never the socket itself: whoever holds the
//! lock may remove a stale node, and nobody else touches it. Who gives up the lock removes its file
//! first, and who gets one looks whether it still lies at its path: so two daemons that lock two files
//! of one name are noticed. `bind` gives a node the mode the umask happens to leave, so a node is only
//! ever made inside a directory that keeps others out, gets its mode there, and where the socket's own
//! directory is an open one, is moved there last.

pub use super::socket_error::SocketError;
pub use super::taken::{inherit, take_from_manager};
use llamactl_protocol::place::{MAX_SOCKET_PATH_BYTES, lock_of};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;

/// From taking the lock to having written one's pid into it.
const SIGNED_WITHIN: Duration = Duration::from_millis(20);

/// So often may the lock file be another one at its path before somebody else has won.
const LOCKED_WITHIN: u32 = 100;

/// Where the socket is to be, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the run directory of the user's state directory: 0600 in a 0700 directory, which is
    /// made when missing.
    User(PathBuf),
    /// Where the user said: 0600. Its directory may be one that others use too, if they
    /// cannot replace what lies in it; a missing one is made, 0700.
    Given(PathBuf),
    /// In system mode: 0660 and the group's, in a 0750 directory of that group.
    System {
        /// The socket's path.
        path: PathBuf,
        /// The group whose members may connect.
        gid: u32,
    },
}

impl Place {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Place::User(path) | Place::Given(path) | Place::System { path, .. } => path,
        }
    }

    fn directory_mode(&self) -> u32 {
        match self {
            Place::User(_) | Place::Given(_) => 0o700,
            Place::System { .. } => 0o750,
        }
    }
}

/// A socket that listens, and the right to it.
#[derive(Debug)]
pub struct Bound {
    /// Listens already: a peer can connect, and waits to be accepted.
    pub listener: UnixListener,
    /// Keeps other daemons away while it lives.
    pub guard: SocketGuard,
}

/// The right to a socket's path. Dropping it gives up the lock and leaves the node.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    node: (u64, u64),
    pub(super) lock: File,
    /// A second handle on what listens: the queue of those who connect lives as long as this.
    listener: Option<UnixListener>,
    /// Whether the service manager made the node: then it is not ours to remove or to make again.
    pub(super) from_manager: bool,
}

impl SocketGuard {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the node at the path is still the one that was bound.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|node| identity(&node) == self.node)
    }

    /// Whether the lock file at its path is still the one that is locked.
    fn is_lock_in_place(&self) -> bool {
        is_at(&self.lock, &lock_of(&self.path))
    }

    /// Whether node and lock file are still those that were made.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_in_place() && self.is_lock_in_place()
    }

    /// Makes again what is not in place any more: the directory, the lock, the node. What
    /// somebody else put there stays, unless it is a socket nobody listens on. The new listener,
    /// where there had to be one.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn renew(&mut self, place: &Place) -> Result<Option<UnixListener>, SocketError> {
        if self.from_manager && !self.is_in_place() {
            return Err(SocketError::ManagersIsGone(self.path.clone()));
        }
        let directory = directory_of(&self.path)?;
        make_directory(directory, place)?;
        check_directory(directory, place)?;
        if !self.is_lock_in_place() {
            self.lock = take_lock(&self.path)?;
        }
        if self.is_in_place() {
            return Ok(None);
        }
        let lock = self.lock.try_clone().map_err(io("keep the lock of", &self.path))?;
        let Bound { listener, guard } = bind_locked(place, lock)?;
        *self = guard;
        Ok(Some(listener))
    }

    /// Lets those who connect from here on find nobody, once the listener is dropped too.
    pub fn close(&mut self) {
        self.listener = None;
    }

    /// What is handed over to the program that comes next: the listener, the lock, and device and
    /// inode of the node. `None` after [`SocketGuard::close`].
    #[must_use]
    pub fn for_handover(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>, (u64, u64))> {
        Some((self.listener.as_ref()?.as_fd(), self.lock.as_fd(), self.node))
    }

    /// Whether the service manager made the node.
    #[must_use]
    pub fn is_from_manager(&self) -> bool {
        self.from_manager
    }

    /// Writes into the lock file which process holds it now: after a fork that is another one.
    ///
    /// # Errors
    /// As the system says.
    pub fn sign(&mut self) -> io::Result<()> {
        sign(&mut self.lock)
    }

    /// Removes the node and then the lock file, where they are still ours, and gives up the lock.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn release(self) -> io::Result<()> {
        if self.is_in_place() && !self.from_manager {
            fs::remove_file(&self.path)?;
        }
        remove_lock(&self.lock, &self.path)
    }
}

/// Binds the socket of `place`: prepares and checks its directory, takes the lock, removes what a
/// dead daemon left, and listens.
///
/// # Errors
/// Each obstacle has its own; none of them changes what is there.
pub fn bind(place: &Place) -> Result<Bound, SocketError> {
    let path = place.path();
    let directory = directory_of(path)?;
    make_directory(directory, place)?;
    check_directory(directory, place)?;
    let lock = take_lock(path)?;
    let kept = lock.try_clone().map_err(io("keep the lock of", path))?;
    bind_locked(place, lock).inspect_err(|_| {
        // What is in the way is told; that the lock file stays would be no news.
        let _ = remove_lock(&kept, path);
    })
}

/// The part of [`bind`] that is done with the lock held, in a directory that was checked.
fn bind_locked(place: &Place, lock: File) -> Result<Bound, SocketError> {
    let path = place.path();
    let directory = directory_of(path)?;
    let keeps_others_out = check_directory(directory, place)?;
    clear_node(path)?;
    let listener = if keeps_others_out {
        bind_here(path, place)?
    } else {
        bind_aside(path, directory, place)?
    };
    let node = identity(&fs::symlink_metadata(path).map_err(io("find", path))?);
    guarded(place, listener, lock, node)
}

pub(super) fn guarded(
    place: &Place,
    listener: UnixListener,
    lock: File,
    node: (u64, u64),
) -> Result<Bound, SocketError> {
    let path = place.path().to_owned();
    let second = listener.try_clone().map_err(io("keep", &path))?;
    Ok(Bound {
        listener,
        guard: SocketGuard { path, node, lock, listener: Some(second), from_manager: false },
    })
}

pub(super) fn io(deed: &'static str, path: &Path) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError::Io { deed, path: path.to_owned(), source }
}

pub(super) fn identity(node: &Metadata) -> (u64, u64) {
    (node.dev(), node.ino())
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(super) fn directory_of(path: &Path) -> Result<&Path, SocketError> {
    if !path.is_absolute() {
        return Err(SocketError::NotAbsolute(path.to_owned()));
    }
    short_enough(path)?;
    path.parent().ok_or_else(|| SocketError::NotASocket(path.to_owned()))
}

fn short_enough(path: &Path) -> Result<(), SocketError> {
    match path.as_os_str().as_bytes().len() {
        ..=MAX_SOCKET_PATH_BYTES => Ok(()),
        bytes => Err(SocketError::PathTooLong { path: path.to_owned(), bytes }),
    }
}

/// Makes the directory if there is none.
fn make_directory(directory: &Path, place: &Place) -> Result<(), SocketError> {
    match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => return Ok(()),
    }
    let mode = place.directory_mode();
    // Of several daemons that start at once all may come here; what they make is the same.
    let made = DirBuilder::new().recursive(true).mode(mode).create(directory);
    made.map_err(io("create", directory))?;
    if let Place::System { gid, .. } = place {
        chown(directory, None, Some(*gid)).map_err(io("give to the group", directory))?;
    }
    // The umask may have left less.
    fs::set_permissions(directory, Permissions::from_mode(mode))
        .map_err(io("set the mode of", directory))
}

/// Refuses a directory in which others could put their own socket in our socket's place. True
/// when others cannot even reach into it (of the group in system mode: those may connect anyway).
pub(super) fn check_directory(directory: &Path, place: &Place) -> Result<bool, SocketError> {
    let path = || directory.to_owned();
    let found = fs::symlink_metadata(directory).map_err(io("look at", directory))?;
    if found.is_symlink() {
        return Err(SocketError::SymbolicLink(path()));
    }
    if !found.is_dir() {
        return Err(SocketError::NotADirectory(path()));
    }
    let (owner, ours, mode) = (found.uid(), our_uid(), found.mode() & 0o7777);
    let open = |deed| {
        let wanted = place.directory_mode();
        Err(SocketError::OpenDirectory { path: path(), mode, deed, wanted })
    };
    let is_ours = owner == ours;
    let is_trusted = is_ours || (owner == 0 && matches!(place, Place::Given(_)));
    if !is_trusted {
        return Err(SocketError::NotOurs { path: path(), owner, ours });
    }
    match place {
        Place::User(_) if mode & OTHERS != 0 => open("enter"),
        Place::User(_) => Ok(true),
        Place::System { .. } if mode & 0o027 != 0 => open("write to, or enter without the group"),
        Place::System { gid, .. } if found.gid() != *gid => {
            Err(SocketError::OtherGroup { path: path(), group: found.gid(), wanted: *gid })
        }
        Place::System { .. } => Ok(true),
        Place::Given(_) if mode & 0o022 != 0 && mode & STICKY == 0 => open("write to"),
        Place::Given(_) => Ok(is_ours && mode & OTHERS == 0),
    }
}

/// Whether this file is the one at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let held = file.metadata().map(|file| identity(&file));
    let found = fs::symlink_metadata(path).map(|file| identity(&file));
    matches!((held, found), (Ok(held), Ok(found)) if held == found)
}

/// Removes the lock file beside the socket, if it is the one that is held.
fn remove_lock(lock: &File, socket: &Path) -> io::Result<()> {
    let path = lock_of(socket);
    if is_at(lock, &path) { fs::remove_file(path) } else { Ok(()) }
}

/// Takes the lock beside the socket, and writes our pid into it for whoever finds it taken.
pub(super) fn take_lock(socket: &Path) -> Result<File, SocketError> {
    let path = &lock_of(socket);
    for _ in 0..LOCKED_WITHIN {
        let lock = lock_at(path)?;
        // Who had it may have removed it between our opening and our locking.
        if is_at(&lock, path) {
            return Ok(lock);
        }
    }
    Err(SocketError::AlreadyRunning { pid: None })
}

/// Opens and locks the file at the path, and writes our pid into it.
fn lock_at(path: &Path) -> Result<File, SocketError> {
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(io("open the lock file", path))?;
    let found = lock.metadata().map_err(io("look at", path))?;
    if !found.is_file() {
        return Err(SocketError::NotAFile(path.to_owned()));
    }
    if found.uid() != our_uid() {
        let (owner, ours) = (found.uid(), our_uid());
        return Err(SocketError::NotOurs { path: path.to_owned(), owner, ours });
    }
    if !is_a_lock(&mut lock) {
        return Err(SocketError::NotALock(path.to_owned()));
    }
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(SocketError::AlreadyRunning { pid: pid_in(lock) });
        }
        Err(TryLockError::Error(error)) => return Err(io("lock", path)(error)),
    }
    if let Err(error) = sign(&mut lock) {
        tracing::warn!(%error, "the lock file does not name this process");
    }
    Ok(lock)
}

/// Whether a daemon may have made this file. A path that a person gave may have a neighbour of that name:
/// `Cargo` and `Cargo.lock`.
fn is_a_lock(lock: &mut File) -> bool {
    // Who takes it empties it before it is signed: what was read is judged, and not what was there before.
    said_in(lock).is_ok_and(|said| said.is_empty() || said.trim().parse::<u32>().is_ok())
}

/// The pid that the holder of a lock wrote into it.
fn pid_in(mut lock: File) -> Option<u32> {
    // What is there at first may be what a daemon before wrote: the holder may be about to.
    for _ in 0..10 {
        std::thread::sleep(SIGNED_WITHIN);
        if let Some(pid) = pid_of(&mut lock) {
            return Some(pid);
        }
    }
    None
}

/// The pid in a lock file.
fn pid_of(lock: &mut File) -> Option<u32> {
    said_in(lock).ok()?.trim().parse().ok()
}

/// What a lock file says.
fn said_in(lock: &mut File) -> io::Result<String> {
    let mut said = String::new();
    lock.rewind()?;
    lock.take(32).read_to_string(&mut said)?;
    Ok(said)
}

/// Writes our pid into the lock file, for whoever finds it taken.
fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Removes a node that nobody listens on. Only called with the lock held.
fn clear_node(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at", path)(error)),
        Ok(node) if !node.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match listening_pid(path) {
        Ok(pid) => Err(SocketError::OtherProgram { path: path.to_owned(), pid }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(io("remove the stale", path)),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(io("connect to", path)(error.into())),
    }
}

/// Connects, to see whether somebody listens; their pid where it is known.
fn listening_pid(path: &Path) -> Result<Option<u32>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            let listener = sockopt::socket_peercred(&probe).ok();
            let pid = listener.map(|credentials| credentials.pid.as_raw_nonzero().get());
            Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
        }
        // So many wait to be accepted that we would have to wait too: somebody listens.
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Binds at the path itself: its directory keeps out whom the node's first mode would let in.
fn bind_here(path: &Path, place: &Place) -> Result<UnixListener, SocketError> {
    let listener = UnixListener::bind(path).map_err(io("bind", path))?;
    let ready = match place {
        Place::User(_) | Place::Given(_) => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
        }
        Place::System { gid, .. } => chown(path, None, Some(*gid))
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o660))),
    };
    ready.map_err(|error| {
        let _ = fs::remove_file(path);
        io("set the mode of", path)(error)
    })?;
    Ok(listener)
}

/// Binds in a closed directory of its own and moves the finished node to the path.
fn bind_aside(path: &Path, directory: &Path, place: &Place) -> Result<UnixListener, SocketError> {
    let aside = directory.join(format!(".{}", std::process::id()));
    let node = aside.join("s");
    short_enough(&node)?;
    DirBuilder::new().mode(0o700).create(&aside).map_err(io("create", &aside))?;
    let bound = bind_here(&node, place).and_then(|listener| {
        fs::rename(&node, path).map_err(io("put the socket at", path))?;
        Ok(listener)
    });
    let _ = fs::remove_file(&node);
    let _ = fs::remove_dir(&aside);
    bound
}

#[cfg(test)]
#[path = "tests/socket.rs"]
mod tests;
