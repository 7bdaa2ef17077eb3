//! Who is at the other end, and what they may do.
//!
//! ```text
//!   kernel's word (uid, gid, pid at connect time) ──▶ Authority ──▶ Admin | Operate | refused
//! ```
//!
//! The socket's mode already keeps strangers out; this is the second look, and what tells an
//! administrator from an operator. Authority comes from the uid and gid alone: a pid may have
//! been taken over by another process by the time it is looked up, so it only labels.

use llamactl_protocol::{Access, Failure, Kind};
use std::fs;

/// The process at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its process id when it connected. For messages only.
    pub pid: Option<u32>,
    /// What it may do.
    pub access: Access,
}

impl Peer {
    /// How records and messages call it: `uid 1000, pid 4242`.
    #[must_use]
    pub fn label(&self) -> String {
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
    pub fn access(&self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> Option<Access> {
        if uid == 0 || uid == self.owner_uid {
            return Some(Access::Admin);
        }
        let operators = self.operators_gid?;
        (gid == operators || groups().contains(&operators)).then_some(Access::Operate)
    }

    /// The peer with these credentials.
    ///
    /// # Errors
    /// [`Kind::PeerRefused`] when they may not connect.
    pub fn admit(&self, uid: u32, gid: u32, pid: Option<u32>) -> Result<Peer, Failure> {
        match self.access(uid, gid, || groups_of(uid)) {
            Some(access) => Ok(Peer { uid, gid, pid, access }),
            None => Err(self.refusal(uid)),
        }
    }

    fn refusal(&self, uid: u32) -> Failure {
        let refusal = Failure::new(Kind::PeerRefused, format!("uid {uid} may not use this daemon"));
        match self.operators_gid {
            Some(gid) => refusal.hint(format!(
                "group {gid} in /etc/group may: add the user to it and log in again"
            )),
            None => refusal
                .hint(format!("it serves uid {} and root: start your own daemon", self.owner_uid)),
        }
    }
}

/// The groups that name a user as a member, from `/etc/passwd` and `/etc/group`.
///
/// The kernel knows the exact groups of a process, but tells them only by a call this module
/// does not make; the files are what `usermod -aG` changes. Members known to a directory service
/// alone are not seen: give such users the group as their primary one. A file that cannot be read
/// names nobody.
fn groups_of(uid: u32) -> Vec<u32> {
    let read = |path| fs::read(path).unwrap_or_default();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    groups_in(uid, &String::from_utf8_lossy(&passwd), &String::from_utf8_lossy(&group))
}

/// The number of a group, from `/etc/group`.
///
/// # Errors
/// There is no such group, or the file cannot be read.
pub fn group_id(name: &str) -> Result<u32, Failure> {
    let group = fs::read("/etc/group").unwrap_or_default();
    let group = String::from_utf8_lossy(&group);
    let entry = group.lines().find(|line| line.split(':').next() == Some(name));
    entry.and_then(|line| line.split(':').nth(2)?.parse().ok()).ok_or_else(|| {
        Failure::new(Kind::IoFailed, format!("there is no group {name} in /etc/group"))
            .hint(format!("make it (groupadd --system {name}), or name another with --group"))
    })
}

/// The groups that name a user as a member: `passwd` and `group` are the texts of those files.
fn groups_in(uid: u32, passwd: &str, group: &str) -> Vec<u32> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    // Several names may share a uid; each is the same user.
    let names: Vec<&str> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (number(fields.nth(1))? == uid && !name.is_empty()).then_some(name)
        })
        .collect();
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = number(fields.nth(2))?;
            let member = fields.next()?.split(',').any(|member| names.contains(&member));
            member.then_some(gid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        ann:x:1000:1000::/home/ann:/bin/sh\n\
        ann2:x:1000:1000::/home/ann:/bin/sh\n\
        broken line\n\
        bob:x:1001:1001::/home/bob:/bin/sh\n\
        :x:1002:1002::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nmodels:x:990:bob,ann\nvideo:x:44:ann2\nodd:x:notanumber:ann\n\
        short:x:7\nempty:x:8:\n";

    #[test]
    fn groups_are_those_that_name_the_user() {
        assert_eq!(groups_in(1000, PASSWD, GROUP), [990, 44]);
        assert_eq!(groups_in(1001, PASSWD, GROUP), [990]);
        // A nameless user is not a member of the group whose member list is empty.
        assert_eq!(groups_in(1002, PASSWD, GROUP), [0u32; 0]);
        assert_eq!(groups_in(4000, PASSWD, GROUP), [0u32; 0]);
        assert_eq!(groups_in(1000, "", GROUP), [0u32; 0]);
    }

    #[test]
    fn in_user_mode_only_the_owner_and_root_are_let_in() {
        let authority = Authority::user(1000);
        let nobody_asks = || -> Vec<u32> { panic!("groups do not matter in user mode") };
        assert_eq!(authority.access(1000, 1000, nobody_asks), Some(Access::Admin));
        assert_eq!(authority.access(0, 0, nobody_asks), Some(Access::Admin));
        assert_eq!(authority.access(1001, 1000, nobody_asks), None);
        let refused = authority.admit(1001, 1001, Some(7)).unwrap_err();
        assert_eq!(refused.kind, Kind::PeerRefused);
        assert!(refused.hint.is_some_and(|hint| hint.contains("uid 1000")));
    }

    #[test]
    fn in_system_mode_members_of_the_group_operate() {
        let authority = Authority::system(500, 990);
        let groups = |uid| move || groups_in(uid, PASSWD, GROUP);
        assert_eq!(authority.access(500, 500, groups(500)), Some(Access::Admin));
        assert_eq!(authority.access(0, 0, groups(0)), Some(Access::Admin));
        assert_eq!(authority.access(4000, 990, groups(4000)), Some(Access::Operate));
        assert_eq!(authority.access(1000, 1000, groups(1000)), Some(Access::Operate));
        assert_eq!(authority.access(4000, 4000, groups(4000)), None);
        // Being in root's group is not being root.
        assert_eq!(authority.access(4000, 0, groups(4000)), None);
    }

    #[test]
    fn a_label_names_user_and_process() {
        let peer = Peer { uid: 1000, gid: 1000, pid: Some(4242), access: Access::Operate };
        assert_eq!(peer.label(), "uid 1000, pid 4242");
        assert_eq!(Peer { pid: None, ..peer }.label(), "uid 1000");
    }
}
