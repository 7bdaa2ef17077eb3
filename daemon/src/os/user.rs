//! Names of users, numbers of groups, and who is in them.

#![allow(unsafe_code)] // The names a directory service has are told by the C library alone.

use std::ffi::CStr;
use std::{fs, io, mem, ptr};

/// The longest entry of a user that is read, in bytes.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// The name of a user, from wherever this machine has its users: a file or a directory service.
/// `None` where the number has no name, or nobody can say. Blocks, on the network too.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    let mut text = vec![0; 1 << 10];
    loop {
        // SAFETY: a `passwd` is integers and pointers, for which zero is a value.
        let mut entry: libc::passwd = unsafe { mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: the pointers lead to living values, and `text` is as long as is said.
        let status = unsafe {
            libc::getpwuid_r(uid, &raw mut entry, text.as_mut_ptr(), text.len(), &raw mut found)
        };
        match status {
            0 if found.is_null() || entry.pw_name.is_null() => return None,
            0 => {
                // SAFETY: what was found is a text with an end, inside `text`, which still lives.
                let name = unsafe { CStr::from_ptr(entry.pw_name) };
                return Some(name.to_string_lossy().into_owned());
            }
            libc::ERANGE if text.len() < MAX_ENTRY_BYTES => text.resize(text.len() * 2, 0),
            libc::EINTR => {}
            _ => return None,
        }
    }
}

/// The number of a group, from `/etc/group`. `None` where that file names no such group.
///
/// # Errors
/// The file cannot be read.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    let text = fs::read("/etc/group")?;
    Ok(group_in(&String::from_utf8_lossy(&text), name))
}

/// The number of a group in the text of `/etc/group`: lines of `name:password:number:members`.
fn group_in(text: &str, name: &str) -> Option<u32> {
    let entry = text.lines().find(|line| line.split(':').next() == Some(name))?;
    entry.split(':').nth(2)?.parse().ok()
}

/// Whether this user is in a group and nobody else is, by `/etc/passwd` and `/etc/group`. Of a group
/// that these do not know nobody can say. Blocks.
#[must_use]
pub fn is_private_group(gid: u32, uid: u32) -> bool {
    match (fs::read("/etc/passwd"), fs::read("/etc/group")) {
        (Ok(users), Ok(groups)) => is_private_in(
            &String::from_utf8_lossy(&users),
            &String::from_utf8_lossy(&groups),
            gid,
            uid,
        ),
        _ => false,
    }
}

/// The same by the texts of the two: lines of `name:password:uid:gid:…` and as in [`group_in`].
fn is_private_in(users: &str, groups: &str, gid: u32, uid: u32) -> bool {
    let number = |line: &str, at: usize| line.split(':').nth(at)?.parse::<u32>().ok();
    let is_of = |line: &&str| number(line, 3) == Some(gid);
    let is_us = |line: &str| number(line, 2) == Some(uid);
    let mut primary = users.lines().filter(is_of).peekable();
    if primary.peek().is_none() || !primary.all(is_us) {
        return false;
    }
    let our_names: Vec<&str> = users
        .lines()
        .filter(|line| is_us(line))
        .filter_map(|line| line.split(':').next())
        .collect();
    let mut entries = groups.lines().filter(|line| number(line, 2) == Some(gid)).peekable();
    entries.peek().is_some()
        && entries.all(|line| {
            let members = line.split(':').nth(3).unwrap_or_default().split(',').map(str::trim);
            members.filter(|name| !name.is_empty()).all(|name| our_names.contains(&name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_name_and_a_number_that_is_nobodys_has_none() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(4_000_000_001), None);
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\nbroken line\nmodels:x:990:ann,bob\nodd:x:many:ann\n";
        assert_eq!(group_in(text, "models"), Some(990));
        assert_eq!(group_in(text, "root"), Some(0));
        for unknown in ["model", "odd", "broken line", ""] {
            assert_eq!(group_in(text, unknown), None, "{unknown}");
        }
        assert!(group_id("root").is_ok_and(|id| id == Some(0)));
    }

    #[test]
    fn a_group_is_private_that_only_its_user_is_in() {
        let users = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\nbob:x:1001:1001::/:\n\
                     eve:x:1002:50::/:\nkim:x:1003:50::/:\nlee:x:1004:1004::/:\n";
        let groups = "root:x:0:\nann:x:1000:\nbob:x:1001:bob, ann\nstaff:x:50:\nlee:x:1004:lee\n\
                      spare:x:60:\nbroken\n";
        let is_private = |gid, uid| is_private_in(users, groups, gid, uid);
        assert!(is_private(0, 0) && is_private(1000, 1000) && is_private(1004, 1004));
        assert!(!is_private(1001, 1001), "ann is in it");
        assert!(!is_private(50, 1002), "it is another's primary group too");
        assert!(!is_private(1000, 1001), "it is another's");
        assert!(!is_private(60, 1000), "nobody is in it");
        assert!(!is_private(7, 1000), "nobody knows it");
    }
}
