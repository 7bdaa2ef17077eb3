//! How long one call takes, beside the same bytes through a bare echo.

use super::Times;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

const CALLS: usize = 20_000;
const PING: &[u8] =
    b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.ping\",\"params\":{\"n\":7}}\n";

/// `daemon.ping` on one connection.
pub(super) fn of_ping(socket: &Path) -> Times {
    measure(UnixStream::connect(socket).unwrap())
}

/// The same lines to a thread that sends each back.
pub(super) fn of_echo() -> Times {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        let mut lines = BufReader::new(theirs.try_clone().unwrap());
        let mut write = theirs;
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).unwrap() > 0 {
            write.write_all(&line).unwrap();
            line.clear();
        }
    });
    let times = measure(ours);
    echo.join().unwrap();
    times
}

fn measure(stream: UnixStream) -> Times {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut write = stream;
    let mut line = Vec::new();
    let mut once = || {
        let start = Instant::now();
        write.write_all(PING).unwrap();
        line.clear();
        lines.read_until(b'\n', &mut line).unwrap();
        start.elapsed()
    };
    for _ in 0..1_000 {
        once();
    }
    Times::of((0..CALLS).map(|_| once()).collect(), 99)
}
