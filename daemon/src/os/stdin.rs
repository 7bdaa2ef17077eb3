//! A standard input that never ends.
//!
//! llama-server in child mode exits when its standard input ends, and with an ordinary pipe it ends
//! when the daemon dies. Here one descriptor is both ends of the pipe, so the child that gets it
//! holds its own writing end: no end of file ever comes, and nothing ties the child to us.

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// A pipe in one descriptor, open for reading and writing, closed on exec.
///
/// Pass it to the child as its standard input (which makes a copy without close-on-exec) and drop it.
///
/// # Errors
/// As the system says: no descriptors left, or no `/proc`.
pub fn self_held_pipe() -> io::Result<OwnedFd> {
    let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let both = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(both)
}

/// Writes to the standard input of a process, if that is a pipe with room.
///
/// # Errors
/// As the system says: no such process, or its input is no pipe anybody reads.
pub fn write_to(pid: i32, text: &[u8]) -> io::Result<()> {
    let path = format!("/proc/{pid}/fd/0");
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stdin = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&stdin, text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    #[test]
    fn one_descriptor_is_both_ends() {
        let mut pipe = File::from(self_held_pipe().unwrap());
        pipe.write_all(b"hello").unwrap();
        let mut read = [0; 5];
        pipe.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
    }

    #[test]
    fn a_child_holds_its_own_input_open() {
        // The command owns the only copy in this process and drops it before the child is fed.
        let mut child = {
            let mut command = Command::new("sh");
            command.args(["-c", "read a && read b && echo $a$b"]);
            command.stdin(Stdio::from(self_held_pipe().unwrap())).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        for line in ["1\n", "2\n"] {
            // Each writer closes again: with another's pipe the child would see its end here.
            write_to(child.id().cast_signed(), line.as_bytes()).unwrap();
        }
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(said, "12\n");
    }
}
