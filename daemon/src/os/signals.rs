//! What a signal does where no handler is installed.

#![allow(unsafe_code)] // No library we use sets a signal to be ignored.

/// Lets SIGHUP do nothing from here on, also in the program that this process executes next, until
/// that installs a handler: by default it would end a daemon that is being replaced.
pub fn ignore_hang_up() {
    // SAFETY: ignoring installs no code that could run in a handler, and no thread waits for this
    // signal by other means.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Gives signals their meaning back that the program which started us had told the kernel to
/// ignore, as a shell does for what it starts in the background: the servers we start would ignore
/// them too. Those the daemon listens for get theirs back by that.
pub fn heed_ignored() {
    for signal in [libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: these signals may be set, and the default is no function of ours that could be
        // called at a bad moment.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
