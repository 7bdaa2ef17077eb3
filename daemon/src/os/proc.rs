//! `/proc/PID`: what the kernel says of one process.
//!
//! ```text
//!   read(pid, "stat") ─────────────╮
//!   ProcessFiles::open, kept open ─┴▶ bytes ─▶ Stat::parse, Memory::parse, Traffic::parse: pure
//! ```
//!
//! Formats: proc(5). A figure that an old kernel does not write, or that cannot be read, is `None`.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// No file read here is near this size; one that is has something wrong with it. (The kernel allows
/// an environment of at most 6 MiB.)
const MAX_BYTES: usize = 8 << 20;

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state letter: `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// The process group.
    pub group: i32,
    /// Faults that had to wait for storage: mapped pages that were not in memory.
    pub major_faults: Option<u64>,
    /// Processor time used by all its threads together, in clock ticks.
    pub cpu_ticks: u64,
    /// How many threads it has.
    pub threads: Option<u64>,
    /// When it started, in clock ticks since boot: together with the pid, its identity.
    pub start_ticks: u64,
}

impl Stat {
    /// Whether the process has ended and only waits to be reaped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Reads the line. Field 2 is the program's name in parentheses and may hold anything,
    /// parentheses and spaces too: the fields after it are counted from the last `)`.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Stat> {
        let end_of_name = memchr::memrchr(b')', line)?;
        let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // The state was field 3: behind it 4 is the parent, 5 the group, 12 the major faults, 14 and
        // 15 the processor time, 20 the threads, 22 the start.
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let major_faults = fields.nth(6)?.parse().ok();
        let user: u64 = fields.nth(1)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let threads = fields.nth(4)?.parse().ok();
        let start_ticks = fields.nth(1)?.parse().ok()?;
        let cpu_ticks = user.checked_add(system)?;
        Some(Stat { state, parent, group, major_faults, cpu_ticks, threads, start_ticks })
    }
}

/// Resident memory, from `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Memory of no file.
    pub anonymous_bytes: Option<u64>,
    /// Memory that maps files: llama-server's models.
    pub file_bytes: Option<u64>,
    /// The most that was resident until now.
    pub peak_resident_bytes: Option<u64>,
    /// Memory of no file that was written to swap.
    pub swapped_bytes: Option<u64>,
}

impl Memory {
    /// Reads the file's text.
    #[must_use]
    pub fn parse(status: &[u8]) -> Memory {
        let bytes = |name| {
            let kilobytes = field(status, name)?.trim_ascii().strip_suffix(b"kB")?;
            number(kilobytes)?.checked_mul(1024)
        };
        Memory {
            anonymous_bytes: bytes("RssAnon:"),
            file_bytes: bytes("RssFile:"),
            peak_resident_bytes: bytes("VmHWM:"),
            swapped_bytes: bytes("VmSwap:"),
        }
    }
}

impl std::ops::Add for Memory {
    type Output = Memory;

    /// Of two processes; what is not known of one is not known.
    fn add(self, other: Memory) -> Memory {
        let sum = |a: Option<u64>, b: Option<u64>| a?.checked_add(b?);
        Memory {
            anonymous_bytes: sum(self.anonymous_bytes, other.anonymous_bytes),
            file_bytes: sum(self.file_bytes, other.file_bytes),
            peak_resident_bytes: sum(self.peak_resident_bytes, other.peak_resident_bytes),
            swapped_bytes: sum(self.swapped_bytes, other.swapped_bytes),
        }
    }
}

/// What went between the process and files, from `/proc/PID/io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes it read, from memory or from storage.
    pub any_read_bytes: Option<u64>,
    /// Bytes that storage had to read for it.
    pub storage_read_bytes: Option<u64>,
    /// Bytes that storage has to write for it.
    pub storage_written_bytes: Option<u64>,
}

impl Traffic {
    /// Reads the file's text.
    #[must_use]
    pub fn parse(io: &[u8]) -> Traffic {
        let bytes = |name| number(field(io, name)?);
        Traffic {
            any_read_bytes: bytes("rchar:"),
            storage_read_bytes: bytes("read_bytes:"),
            storage_written_bytes: bytes("write_bytes:"),
        }
    }
}

/// Pages in memory, from `/proc/PID/statm`.
#[must_use]
pub fn resident_pages(statm: &[u8]) -> Option<u64> {
    number(statm.split(|byte| *byte == b' ').nth(1)?)
}

/// What stands behind a name at the beginning of a line.
fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Reads one file of `/proc/PID`; `None` when there is no such process, or it is another user's.
#[must_use]
pub fn read(pid: i32, file: &str) -> Option<Vec<u8>> {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(MAX_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads all of a file that is kept open into `buffer`, replacing what was there.
///
/// # Errors
/// What the kernel answers, and `FileTooLarge` above 8 MiB.
pub fn read_from_start(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut filled = 0;
    buffer.resize(buffer.capacity(), 0);
    loop {
        if filled == buffer.len() {
            if filled >= MAX_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            buffer.resize((filled * 2).max(4096), 0);
        }
        let Some(room) = buffer.get_mut(filled..) else { return Ok(()) };
        // A short read is not the end: the kernel hands such files out record by record.
        match file.read_at(room, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// The files of one process, kept open: reading them again costs a fraction of opening them.
///
/// They are opened through one handle on `/proc/PID`, so that all are the same process's; when it
/// is gone they give an error, never another process's figures.
#[derive(Debug)]
pub struct ProcessFiles {
    stat: File,
    status: File,
    /// For the process's owner only; it may be missing.
    io: Option<File>,
}

impl ProcessFiles {
    /// Opens the files of whoever has this pid now: [`Stat::start_ticks`] tells who that is.
    ///
    /// # Errors
    /// As the system says; [`is_gone`] tells whether there is no such process.
    pub fn open(pid: u32) -> io::Result<ProcessFiles> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{pid}");
        let directory = openat(CWD, path, flags | OFlags::DIRECTORY, Mode::empty())?;
        let file = |name: &str| -> Result<File, Errno> {
            openat(&directory, name, flags, Mode::empty()).map(|fd: OwnedFd| File::from(fd))
        };
        let (stat, status, io) = (file("stat")?, file("status")?, file("io").ok());
        Ok(ProcessFiles { stat, status, io })
    }

    /// What `stat` says now; `None` when it cannot be understood.
    ///
    /// # Errors
    /// As the system says; see [`is_gone`].
    pub fn stat(&self, buffer: &mut Vec<u8>) -> io::Result<Option<Stat>> {
        read_from_start(&self.stat, buffer)?;
        Ok(Stat::parse(buffer))
    }

    /// What `status` says now of its memory.
    ///
    /// # Errors
    /// As the system says; see [`is_gone`].
    pub fn memory(&self, buffer: &mut Vec<u8>) -> io::Result<Memory> {
        read_from_start(&self.status, buffer)?;
        Ok(Memory::parse(buffer))
    }

    /// What `io` says now. Nothing where it is denied: that of another user's process, or of one
    /// that must not be dumped.
    pub fn traffic(&self, buffer: &mut Vec<u8>) -> Traffic {
        let read = self.io.as_ref().is_some_and(|io| read_from_start(io, buffer).is_ok());
        if read { Traffic::parse(buffer) } else { Traffic::default() }
    }
}

/// Whether an error says that the process is no more.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::SRCH | Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::proptest;

    #[test]
    fn the_name_in_stat_may_hold_anything() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let expected = Stat {
            state: 'S',
            parent: 1,
            group: 2,
            major_faults: Some(9),
            cpu_ticks: 23,
            threads: Some(17),
            start_ticks: 4242,
        };
        for name in ["sleep", "a) R 1 2", "))) (((", "with space\nand line"] {
            let line = format!("77 ({name}) {fields}");
            assert_eq!(Stat::parse(line.as_bytes()), Some(expected), "{name}");
        }
        for bad in ["", "77 (sleep", "77 (sleep)", "77 (sleep) S 1 2 3"] {
            assert_eq!(Stat::parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(!expected.has_ended() && Stat { state: 'Z', ..expected }.has_ended());
    }

    #[test]
    fn what_a_kernel_writes_is_read() {
        let stat = b"14951 (a) R (b c) S 1 14944 12253 0 -1 4194304 103 0 0 0 70 30 5 6 20 0 12 0 \
                    189074 3133440 390 18446744073709551615 0 0\n";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_ticks), (100, Some(12), 189_074));

        let status = b"Name:\tllama-server\nVmRSS:\t  3000 kB\nRssAnon:\t    1000 kB\n\
                      RssFile:\t    2000 kB\nRssShmem:\t       0 kB\nVmSwap:\t 4 kB\n";
        let memory = Memory {
            anonymous_bytes: Some(1_024_000),
            file_bytes: Some(2_048_000),
            peak_resident_bytes: None,
            swapped_bytes: Some(4096),
        };
        assert_eq!(Memory::parse(status), memory);
        assert_eq!(Memory::parse(b"Name:\tkthreadd\nVmRSS:\t3 kB\n"), Memory::default());

        let io = b"rchar: 7278\nwchar: 302\nread_bytes: 4096\nwrite_bytes: 512\n\
                  cancelled_write_bytes: 1\n";
        let traffic = Traffic {
            any_read_bytes: Some(7278),
            storage_read_bytes: Some(4096),
            storage_written_bytes: Some(512),
        };
        assert_eq!(Traffic::parse(io), traffic);
        assert_eq!(Traffic::parse(b"wchar: 1\n"), Traffic::default());
        assert_eq!(resident_pages(b"7651 391 100 1 0 2 0\n"), Some(391));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed(text: Vec<u8>) {
            let _ = (Stat::parse(&text), Memory::parse(&text), Traffic::parse(&text));
            let _ = resident_pages(&text);
        }
    }

    #[test]
    fn a_process_whose_traffic_is_private_is_seen_without_it() {
        let mut files = ProcessFiles::open(std::process::id()).unwrap();
        files.io = None;
        let mut buffer = Vec::new();
        assert_eq!(files.traffic(&mut buffer), Traffic::default());
        assert!(files.stat(&mut buffer).unwrap().is_some());
        assert!(files.memory(&mut buffer).unwrap().anonymous_bytes.is_some());
    }
}
