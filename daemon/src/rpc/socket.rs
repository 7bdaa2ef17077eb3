//! The socket's node: where it may lie, who holds it, and taking over what a dead daemon left.
//!
//! ```text
//!   path ok? ─▶ directory ours and closed? ─▶ lock ─▶ node: none | stale | alive | not a socket
//!                                              │             ╰──┬──╯
//!                                        held: its pid         bind, mode, ready
//! ```
//!
//! One daemon per socket is a lock on `<socket>.lock`, never the socket itself: whoever holds the
//! lock may remove a stale node, and nobody else touches it. The lock file stays for ever, since
//! removing it would let two daemons lock two files of one name. `bind` gives a node the mode the
//! umask happens to leave, so a node is only ever made inside a directory that keeps others out,
//! gets its mode there, and where the socket's own directory is an open one, is moved there last.

pub use super::socket_error::SocketError;
use llamactl_protocol::place::MAX_SOCKET_PATH_BYTES;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

const OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;

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
        /// The socket.
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
    pub claim: Claim,
}

/// The right to a socket's path. Dropping it gives up the lock and leaves the node.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    node: (u64, u64),
    lock: File,
}

impl Claim {
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

    /// Writes into the lock file which process holds it now: after a fork that is another one.
    ///
    /// # Errors
    /// As the system says.
    pub fn sign(&mut self) -> io::Result<()> {
        sign(&mut self.lock)
    }

    /// Removes the node, if it is still ours, and then gives up the lock.
    ///
    /// # Errors
    /// The node is ours and cannot be removed.
    pub fn release(self) -> io::Result<()> {
        if self.is_in_place() { fs::remove_file(&self.path) } else { Ok(()) }
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
    let keeps_others_out = check_directory(directory, place)?;
    let lock = take_lock(path)?;
    clear_node(path)?;
    let listener = if keeps_others_out {
        bind_here(path, place)?
    } else {
        bind_aside(path, directory, place)?
    };
    let node = fs::symlink_metadata(path).map_err(io("find", path))?;
    let claim = Claim { path: path.to_owned(), node: identity(&node), lock };
    Ok(Bound { listener, claim })
}

fn io(deed: &'static str, path: &Path) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError::Io { deed, path: path.to_owned(), source }
}

fn identity(node: &Metadata) -> (u64, u64) {
    (node.dev(), node.ino())
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn directory_of(path: &Path) -> Result<&Path, SocketError> {
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
fn check_directory(directory: &Path, place: &Place) -> Result<bool, SocketError> {
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

/// Takes the lock beside the socket, and writes our pid into it for whoever finds it taken.
fn take_lock(socket: &Path) -> Result<File, SocketError> {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    let path = &PathBuf::from(name);
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
        return Err(SocketError::NotAFile(path.clone()));
    }
    if found.uid() != our_uid() {
        let (owner, ours) = (found.uid(), our_uid());
        return Err(SocketError::NotOurs { path: path.clone(), owner, ours });
    }
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = lock.take(32).read_to_string(&mut pid);
            let pid = read.ok().and_then(|_| pid.trim().parse().ok());
            return Err(SocketError::AlreadyRunning { pid });
        }
        Err(TryLockError::Error(error)) => return Err(io("lock", path)(error)),
    }
    if let Err(error) = sign(&mut lock) {
        tracing::warn!(%error, "the lock file does not name this process");
    }
    Ok(lock)
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
            let listener = rustix::net::sockopt::socket_peercred(&probe).ok();
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
