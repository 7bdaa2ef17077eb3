//! A socket that somebody else made and that listens already: taken after a look at what it is.
//!
//! ```text
//!   the program before, in this same process ─▶ inherit            with its lock
//!   the service manager (LISTEN_FDS) ─────────▶ take_from_manager   its node stays the manager's
//! ```

use super::socket::{
    Bound, Place, SocketError, check_directory, directory_of, guarded, identity, io, take_lock,
};
use rustix::net::{SocketType, sockopt};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Takes over what the program before left, after seeing that it is what it should be: a socket
/// that listens at the path, and the file that the lock is on.
///
/// # Errors
/// [`SocketError::NotInherited`] with what it is not.
pub fn inherit(
    place: &Place,
    listener: OwnedFd,
    lock: OwnedFd,
    node: (u64, u64),
    from_manager: bool,
) -> Result<Bound, SocketError> {
    let path = place.path();
    let refused = |why| SocketError::NotInherited { path: path.to_owned(), why };
    directory_of(path)?;
    let listener = listening_at(path, listener).ok_or_else(|| refused(NO_LISTENER))?;
    let mut bound = guarded(place, listener, File::from(lock), node)?;
    bound.guard.from_manager = from_manager;
    // A lock file that was deleted is made again later; one that another daemon has is the end.
    if !bound.guard.lock.metadata().is_ok_and(|lock| lock.is_file()) {
        return Err(refused("the descriptor of the lock is no file"));
    }
    match bound.guard.lock.try_lock() {
        Ok(()) => Ok(bound),
        Err(_) => Err(refused("the lock is not held")),
    }
}

/// Takes a socket that the service manager made and listens on: its directory and its node let in
/// whom ours would. The lock beside it is taken as for one of ours.
///
/// # Errors
/// As [`bind`](super::socket::bind); [`SocketError::NotOfManager`] with what it is not.
pub fn take_from_manager(place: &Place, listener: OwnedFd) -> Result<Bound, SocketError> {
    let path = place.path();
    let refused = |why| Err(SocketError::NotOfManager { path: path.to_owned(), why });
    check_directory(directory_of(path)?, place)?;
    let Some(listener) = listening_at(path, listener) else { return refused(NO_LISTENER) };
    let node = fs::symlink_metadata(path).map_err(io("find", path))?;
    if !node.file_type().is_socket() {
        return refused("there is something else in its place");
    }
    match place {
        Place::System { gid, .. } if node.gid() != *gid || node.mode() & 0o007 != 0 => {
            return refused(
                "others than the group could connect: set SocketGroup=, SocketMode=0660",
            );
        }
        Place::User(_) | Place::Given(_) if node.mode() & 0o077 != 0 => {
            return refused("others could connect: set SocketMode=0600");
        }
        _ => {}
    }
    let mut bound = guarded(place, listener, take_lock(path)?, identity(&node))?;
    bound.guard.from_manager = true;
    Ok(bound)
}

const NO_LISTENER: &str = "the descriptor is no socket that listens there";

/// The descriptor, if it is a stream socket that listens at the path.
fn listening_at(path: &Path, listener: OwnedFd) -> Option<UnixListener> {
    let listens = sockopt::socket_acceptconn(&listener) == Ok(true)
        && sockopt::socket_type(&listener) == Ok(SocketType::STREAM);
    let listener = UnixListener::from(listener);
    // A socket that was made aside and moved here has the name it was made with.
    let is_at_path = listener.local_addr().ok().is_some_and(|address| {
        let name = address.as_pathname();
        let aside = name.and_then(Path::parent).and_then(Path::parent);
        name == Some(path) || aside.is_some_and(|aside| Some(aside) == path.parent())
    });
    (listens && is_at_path).then_some(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    /// A place of a user's, and a socket there as a service manager makes it.
    fn made(mode: u32) -> (tempfile::TempDir, Place, OwnedFd) {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        let place = Place::User(home.path().join("s"));
        let listener = UnixListener::bind(place.path()).unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        (home, place, listener.into())
    }

    #[test]
    fn a_socket_of_the_managers_is_taken_and_its_node_stays() {
        let (_home, place, listener) = made(0o600);
        let before = identity(&fs::symlink_metadata(place.path()).unwrap());
        let mut bound = take_from_manager(&place, listener.try_clone().unwrap()).unwrap();
        let other = take_from_manager(&place, listener).unwrap_err();
        assert!(matches!(other, SocketError::AlreadyRunning { .. }), "one daemon: {other}");
        UnixStream::connect(place.path()).unwrap();
        assert!(bound.guard.renew(&place).unwrap().is_none());
        bound.guard.release().unwrap();
        assert_eq!(identity(&fs::symlink_metadata(place.path()).unwrap()), before);
    }

    #[test]
    fn one_that_the_manager_made_is_not_made_again() {
        let (_home, place, listener) = made(0o600);
        let mut bound = take_from_manager(&place, listener).unwrap();
        fs::remove_file(place.path()).unwrap();
        let error = bound.guard.renew(&place).unwrap_err();
        assert!(error.to_string().contains("systemctl stop llamactl.socket"), "{error}");
        assert!(!place.path().exists());
    }

    #[test]
    fn what_is_not_such_a_socket_is_refused() {
        let why = |place: &Place, descriptor| match take_from_manager(place, descriptor) {
            Err(SocketError::NotOfManager { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        let (_home, place, listener) = made(0o660);
        assert!(why(&place, listener).contains("SocketMode=0600"));
        let (_home, place, listener) = made(0o600);
        let system = Place::System { path: place.path().to_owned(), gid: 4_000_000 };
        fs::set_permissions(place.path().parent().unwrap(), Permissions::from_mode(0o750)).unwrap();
        let error = take_from_manager(&system, listener.try_clone().unwrap()).unwrap_err();
        assert!(matches!(error, SocketError::OtherGroup { .. }), "{error}");
        let elsewhere = Place::User(place.path().with_file_name("t"));
        fs::set_permissions(place.path().parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
        assert!(why(&elsewhere, listener).contains("no socket that listens there"));
        let stream = UnixStream::connect(place.path());
        assert!(stream.is_err(), "the listener was dropped");
        let (_home, place, _listener) = made(0o600);
        let stream = UnixStream::connect(place.path()).unwrap();
        assert!(why(&place, stream.into()).contains("no socket that listens there"));
        let file = File::open("/dev/null").unwrap();
        assert!(why(&place, file.into()).contains("no socket that listens there"));
    }
}
