//! Stdout, as whoever started this program left it.
//!
//! Where it is closed (`>&-`), Rust's runtime opens `/dev/null` in its place before `main`, and whatever is
//! written would be lost without a word. So it is looked at before that, and written as to any closed file.

use rustix::io::{Errno, fcntl_getfd};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

// Before `main` little may be used of std. This asks the kernel once, and what it sets needs no beginning.
#[ctor::ctor(unsafe)]
fn look() {
    IS_CLOSED.store(fcntl_getfd(rustix::stdio::stdout()) == Err(Errno::BADF), Ordering::Relaxed);
}

/// Stdout; where it is closed each write fails and says so.
pub(crate) fn stdout() -> Box<dyn Write> {
    match is_open() {
        Ok(()) => Box::new(io::stdout()),
        Err(_) => Box::new(Closed),
    }
}

/// Whether this program was given a stdout.
///
/// # Errors
/// What a write to a closed file fails with.
pub(crate) fn is_open() -> io::Result<()> {
    match IS_CLOSED.load(Ordering::Relaxed) {
        true => Err(Errno::BADF.into()),
        false => Ok(()),
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(Errno::BADF.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
