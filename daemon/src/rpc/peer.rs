//! Who is at the other end, and what they may do.
//!
//! ```text
//!   kernel's word (uid, groups, pid at connect time) ──▶ Authority ──▶ Admin | Operate | refused
//! ```
//!
//! The socket's mode already keeps strangers out; this is the second look, and what tells an
//! administrator from an operator. Authority comes from the uid and the groups alone: a pid may have
//! been taken over by another process by the time it is looked up, so it only labels.

use crate::os::peer::peer_groups;
use crate::os::user;
use llamactl_protocol::{Access, Failure, Hint, Kind};
use std::io;
use tokio::net::UnixStream;

/// The process at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The user id the peer had when it connected.
    pub(super) uid: u32,
    /// Its primary group.
    pub(super) gid: u32,
    /// Its process id when it connected. For messages only.
    pub(super) pid: Option<u32>,
    /// What it may do.
    pub(super) access: Access,
}

impl Peer {
    /// How records and messages call it: `uid 1000, pid 4242`.
    pub(super) fn label(&self) -> String {
        match self.pid {
            Some(pid) => format!("uid {}, pid {pid}", self.uid),
            None => format!("uid {}", self.uid),
        }
    }
}

/// Decides who may connect and what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    owner_uid: u32,
    operators_gid: Option<u32>,
}

impl Authority {
    /// User mode: the daemon's own user, and root.
    #[must_use]
    pub fn user(owner_uid: u32) -> Self {
        Authority { owner_uid, operators_gid: None }
    }

    /// System mode: the daemon's own user and root, and the members of the socket's group.
    #[must_use]
    pub fn system(owner_uid: u32, operators_gid: u32) -> Self {
        Authority { owner_uid, operators_gid: Some(operators_gid) }
    }

    /// What a user may do; `None` refuses them. `groups` gives their supplementary groups and is
    /// only asked when uid and primary group did not decide.
    fn access(&self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> Option<Access> {
        if uid == 0 || uid == self.owner_uid {
            return Some(Access::Admin);
        }
        let operators = self.operators_gid?;
        (gid == operators || groups().contains(&operators)).then_some(Access::Operate)
    }

    /// The peer of a connection.
    ///
    /// # Errors
    /// [`Kind::PeerRefused`] when it may not connect, or the kernel does not say who it is.
    pub(super) fn admit(&self, stream: &UnixStream) -> Result<Peer, Failure> {
        let silent = |error: io::Error| {
            let message = format!("the kernel does not say who connects: {error}");
            Failure::new(Kind::PeerRefused, message)
        };
        let credentials = stream.peer_cred().map_err(silent)?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        let mut unknown = None;
        let access = self.access(uid, gid, || {
            peer_groups(stream).unwrap_or_else(|error| {
                unknown = Some(silent(error));
                Vec::new()
            })
        });
        match access {
            Some(access) => Ok(Peer { uid, gid, pid, access }),
            None => Err(unknown.unwrap_or_else(|| self.refusal(uid))),
        }
    }

    fn refusal(&self, uid: u32) -> Failure {
        let refusal = Failure::new(Kind::PeerRefused, format!("uid {uid} may not use this daemon"));
        match self.operators_gid {
            Some(gid) => refusal
                .hint(format!("processes in group {gid} may: add the user to it and log in again")),
            None => refusal
                .hint(format!("it serves uid {} and root: start your own daemon", self.owner_uid)),
        }
    }
}

/// The number of a group, from `/etc/group`.
///
/// # Errors
/// There is no such group, or the file cannot be read.
pub fn group_id(name: &str) -> Result<u32, Failure> {
    match user::group_id(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => {
            Err(Failure::new(Kind::IoFailed, format!("there is no group {name} in /etc/group"))
                .hint(Hint::run(
                    "name another with --group, or make it",
                    ["groupadd", "--system", name],
                )))
        }
        Err(error) => {
            Err(Failure::new(Kind::IoFailed, format!("/etc/group cannot be read: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_user_mode_only_the_owner_and_root_are_let_in() {
        let authority = Authority::user(1000);
        let nobody_asks = || -> Vec<u32> { panic!("groups do not matter in user mode") };
        assert_eq!(authority.access(1000, 1000, nobody_asks), Some(Access::Admin));
        assert_eq!(authority.access(0, 0, nobody_asks), Some(Access::Admin));
        assert_eq!(authority.access(1001, 1000, nobody_asks), None);
        assert!(authority.refusal(1001).hints.0[0].text.contains("uid 1000"));
    }

    #[test]
    fn in_system_mode_members_of_the_group_operate() {
        let authority = Authority::system(500, 990);
        let in_groups = |groups: &[u32]| {
            let groups = groups.to_vec();
            move || groups
        };
        assert_eq!(authority.access(500, 500, in_groups(&[])), Some(Access::Admin));
        assert_eq!(authority.access(0, 0, in_groups(&[])), Some(Access::Admin));
        assert_eq!(authority.access(4000, 990, in_groups(&[])), Some(Access::Operate));
        assert_eq!(authority.access(1000, 1000, in_groups(&[44, 990])), Some(Access::Operate));
        assert_eq!(authority.access(4000, 4000, in_groups(&[44])), None);
        // Being in root's group is not being root.
        assert_eq!(authority.access(4000, 0, in_groups(&[0])), None);
        assert!(authority.refusal(4000).hints.0[0].text.contains("group 990"));
    }

    #[tokio::test]
    async fn a_peer_is_who_the_kernel_says() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let peer = Authority::user(uid).admit(&ours).unwrap();
        assert_eq!((peer.uid, peer.pid), (uid, Some(std::process::id())));
        assert_eq!(peer.access, Access::Admin);
    }

    #[test]
    fn a_label_names_user_and_process() {
        let peer = Peer { uid: 1000, gid: 1000, pid: Some(4242), access: Access::Operate };
        assert_eq!(peer.label(), "uid 1000, pid 4242");
        assert_eq!(Peer { pid: None, ..peer }.label(), "uid 1000");
    }
}
