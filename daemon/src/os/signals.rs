//! What a signal does where no handler is installed.

#![allow(unsafe_code)] // No library we use sets a signal to be ignored.

/// Lets SIGHUP do nothing from here on, also in the program that this process executes next, until
/// that installs a handler: by default it would end a daemon that is being replaced.
pub fn ignore_hang_up() {
    // SAFETY: ignoring installs no code that could run in a handler, and no thread waits for this
    // signal by other means.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}
