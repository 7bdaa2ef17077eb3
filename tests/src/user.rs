//! Acting as another user.

use rustix::process::{Gid, Uid};
use std::thread;

/// A user and group that owns nothing.
pub const NOBODY: u32 = 65534;

/// Runs `action` in a thread that has become another user for good: the kernel checks its
/// permissions, and reports its credentials to the peer of a socket, as that user's. Needs root.
///
/// # Panics
/// When the thread may not become that user, or `action` panics.
pub fn act_as<T: Send>(uid: u32, action: impl FnOnce() -> T + Send) -> T {
    act_as_member(uid, &[], action)
}

/// The same, with supplementary groups that no file need name the user in: what a service manager
/// or a container gives a process. The primary group has the number of the user.
///
/// # Panics
/// As [`act_as`].
pub fn act_as_member<T: Send>(uid: u32, groups: &[u32], action: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_groups(&groups).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            action()
        });
        match acting.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
