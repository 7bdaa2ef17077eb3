//! What a signal does where no handler is installed.

#![allow(unsafe_code)] // No library we use sets a signal to be ignored.

/// Lets SIGHUP do nothing from here on, also in the program that this process executes next, until
/// that installs a handler: by default it would end a daemon that is being replaced.
pub fn ignore_hang_up() {
    // SAFETY: ignoring installs no code that could run in a handler, and no thread waits for this
    // signal by other means.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

/// Gives signals their meaning back that the program which started us had told the kernel to ignore,
/// as a shell does for what it starts in the background, or to hold back: the servers we start would
/// ignore them too, of a child that ends (SIGCHLD) nobody would be told how, and a daemon that TERM does
/// not reach cannot be stopped. What a write into a closed pipe does is left as it is, and SIGHUP to
/// [`ignore_hang_up`].
pub fn heed_all() {
    for signal in 1..=libc::SIGRTMAX() {
        if [libc::SIGPIPE, libc::SIGHUP].contains(&signal) {
            continue;
        }
        // SAFETY: an action that is all zeros is one (the default), and the call only fills it. The default
        // is no function of ours that could be called at a bad moment, and handlers are left alone. What
        // is no signal, or may not be set, is refused.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
    // SAFETY: a set of signals is plain memory, which the first call fills and the second reads. No code
    // of ours waits for a signal that is held back.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
