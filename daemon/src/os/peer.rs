//! The groups of the process at the other end of a Unix socket.

#![allow(unsafe_code)] // No library we use asks for SO_PEERGROUPS.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// The supplementary groups that the peer of a connected Unix stream socket had when it connected,
/// as the kernel knows them: those of its service manager, its container or its directory service,
/// which no file of this machine need name. The primary group is not among them.
///
/// # Errors
/// As the system says: the socket is none, or not connected.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let descriptor = socket.as_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len().saturating_mul(size_of::<libc::gid_t>());
        let mut bytes = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `bytes`
        // into `groups`, which has that many, and then only the length into `bytes`.
        let status = unsafe {
            libc::getsockopt(
                descriptor.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = usize::try_from(bytes).unwrap_or(0) / size_of::<libc::gid_t>();
        if status == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Too little room: the kernel has said how much it takes.
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Gid;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_groups_are_those_the_process_had_when_it_connected() {
        let own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(peer_groups(&ours).unwrap(), own);
    }

    #[test]
    fn more_groups_than_there_is_room_for_at_first_are_all_told() {
        let many: Vec<Gid> = (1000..1200).map(Gid::from_raw).collect();
        let told = std::thread::spawn(move || {
            // Only this thread's. Without root there is nothing to try.
            rustix::thread::set_thread_groups(&many).ok()?;
            let (ours, _theirs) = UnixStream::pair().unwrap();
            Some(peer_groups(&ours).unwrap())
        });
        if let Some(told) = told.join().unwrap() {
            assert_eq!(told, (1000..1200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        assert!(peer_groups(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
