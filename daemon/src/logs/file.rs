//! The files of a run: making them, freeing their heads, finding where they begin.
//!
//! ```text
//!  0            block boundary   floor                     end
//!  |── freed ───|── part of a line ──|── whole lines ──────|── the child appends here
//! ```
//!
//! [`trim`] frees whole blocks only, so what was freed is exactly what the file system reports as a
//! hole: no reader can take a freed byte for data. The floor, the first offset from which lines are
//! whole, is then the first line that begins behind the hole. It follows from the file alone, also
//! after a crash.

use crate::logs::split::LINE_MAX_BYTES;
use crate::os::hole;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// The page size: file systems with smaller blocks still keep their data in pages.
const SMALLEST_BLOCK_BYTES: u64 = 4096;

/// An output of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Progress lines and crash traces.
    Stdout,
    /// Where llama-server logs.
    Stderr,
}

impl Stream {
    /// Both streams, in the order in which lines of one moment are shown.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The word in file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Where the file of an output was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Where it was made.
    Usual,
    /// Somebody deleted it; the process still has it.
    Deleted,
    /// Somebody moved it to there.
    Moved(PathBuf),
}

/// Where the logs of one run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLog {
    directory: PathBuf,
    run_id: String,
}

impl RunLog {
    /// The logs of a run in a directory, which need not exist yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when the id is not made of letters, digits, `-` and `_`: it
    /// becomes part of a file's name.
    pub fn new(directory: impl Into<PathBuf>, run_id: &str) -> io::Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if run_id.is_empty() || run_id.len() > 128 || !run_id.bytes().all(fits) {
            let message = "a run id is made of letters, digits, - and _";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self { directory: directory.into(), run_id: run_id.to_owned() })
    }

    /// The file of an output.
    #[must_use]
    pub fn path(&self, stream: Stream) -> PathBuf {
        self.directory.join(format!("{}.{}.log", self.run_id, stream.as_str()))
    }

    /// The file of the time index of standard error ([`crate::logs::index`]).
    #[must_use]
    pub fn times_path(&self) -> PathBuf {
        self.directory.join(format!("{}.times", self.run_id))
    }

    /// Makes the file of an output, for the child to append to, and the directory if it is missing.
    /// Both are for our user alone.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the file is there, otherwise as the system says.
    pub fn create(&self, stream: Stream) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut options = File::options();
        options.append(true).create_new(true).mode(0o600).open(self.path(stream))
    }

    /// Opens the file of an output, for reading and, if `upkeep`, for [`trim`] too. Where somebody
    /// has moved or deleted it, the living process `pid` still has it.
    ///
    /// For upkeep a file of the process counts only if its name says that it is this run's: a
    /// program around llama-server may have sent its output elsewhere.
    ///
    /// # Errors
    /// As the system says: [`io::ErrorKind::NotFound`] where nobody has it.
    pub fn open(
        &self,
        stream: Stream,
        pid: Option<i32>,
        upkeep: bool,
    ) -> io::Result<(File, Whereabouts)> {
        let mut options = File::options();
        options.read(true).write(upkeep);
        let named = options.open(self.path(stream));
        let number = if stream == Stream::Stdout { 1 } else { 2 };
        let of_process = pid.map(|pid| PathBuf::from(format!("/proc/{pid}/fd/{number}")));
        let Some((of_process, held)) = of_process
            .and_then(|path| Some((std::fs::metadata(&path).ok()?, path)))
            .filter(|(held, _)| held.is_file())
            .map(|(held, path)| (path, held))
        else {
            return named.map(|file| (file, Whereabouts::Usual));
        };
        let is_held = |file: &File| {
            file.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (held.dev(), held.ino()))
        };
        if named.as_ref().is_ok_and(is_held) {
            return named.map(|file| (file, Whereabouts::Usual));
        }
        let name = std::fs::read_link(&of_process)?;
        let is_ours = name.file_name().is_some_and(|name| {
            let ours = format!("{}.{}.log", self.run_id, stream.as_str());
            name.as_encoded_bytes().starts_with(ours.as_bytes())
        });
        if !is_ours && (upkeep || named.is_ok()) {
            return named.map(|file| (file, Whereabouts::Usual));
        }
        let whereabouts =
            if held.nlink() == 0 { Whereabouts::Deleted } else { Whereabouts::Moved(name) };
        Ok((options.open(of_process)?, whereabouts))
    }

    /// How much space the outputs of this run take on the disk.
    #[must_use]
    pub fn blocks_bytes(&self) -> u64 {
        let paths = Stream::ALL.map(|stream| self.path(stream)).into_iter();
        paths.filter_map(|path| Some(std::fs::metadata(path).ok()?.blocks() * 512)).sum()
    }

    /// Empties the outputs of a run whose process lives. How much space that gave.
    ///
    /// # Errors
    /// As the system says.
    pub fn empty(&self, pid: Option<i32>) -> io::Result<u64> {
        let mut freed_bytes = 0;
        for stream in Stream::ALL {
            let (file, _) = match self.open(stream, pid, true) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            freed_bytes += file.metadata()?.blocks() * 512;
            empty(&file)?;
        }
        Ok(freed_bytes)
    }

    /// Deletes everything of this run. What is gone already is no error.
    ///
    /// # Errors
    /// The first error of the system; the other files are tried all the same.
    pub fn remove(&self) -> io::Result<()> {
        let paths = Stream::ALL.map(|stream| self.path(stream)).into_iter();
        let failed = paths.chain([self.times_path()]).filter_map(|path| {
            let error = std::fs::remove_file(path).err()?;
            (error.kind() != io::ErrorKind::NotFound).then_some(error)
        });
        failed.reduce(|first, _| first).map_or(Ok(()), Err)
    }
}

/// What [`trim`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Nothing: not more is kept than allowed.
    Kept {
        /// Where the lines begin.
        floor_offset: u64,
    },
    /// The head was freed. All offsets mean what they meant.
    Freed {
        /// Where the lines begin now.
        floor_offset: u64,
        /// How much disk space that gave.
        freed_bytes: u64,
    },
    /// The file system cannot free a head, so the file was emptied. Offsets begin at 0 again:
    /// cursors into this file are void.
    Emptied {
        /// How much was lost.
        lost_bytes: u64,
    },
}

/// Frees the head of a log so that at most `keep_bytes` of it remain on the disk, up to one block.
/// The child may write and readers may read meanwhile.
///
/// # Errors
/// As the system says.
pub fn trim(file: &File, keep_bytes: u64) -> io::Result<Trim> {
    let metadata = file.metadata()?;
    let block_bytes = metadata.blksize().max(SMALLEST_BLOCK_BYTES);
    let surplus_bytes = metadata.len().saturating_sub(keep_bytes);
    let last_boundary = metadata.len() - metadata.len() % block_bytes;
    let up_to_offset = surplus_bytes.next_multiple_of(block_bytes).min(last_boundary);
    let begin_offset = hole::first_data(file)?;
    if up_to_offset <= begin_offset {
        return Ok(Trim::Kept { floor_offset: floor_of(file)? });
    }
    match hole::punch_head(file, up_to_offset) {
        // Readers find the hole by asking for the first data: without that answer it is no use.
        Ok(()) if hole::first_data(file)? >= up_to_offset => Ok(Trim::Freed {
            floor_offset: floor_of(file)?,
            freed_bytes: up_to_offset - begin_offset,
        }),
        Ok(()) => empty(file),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => empty(file),
        Err(error) => Err(error),
    }
}

/// Empties a log. The child's descriptor appends, so it goes on at the new end; cursors into the
/// file are void.
///
/// # Errors
/// As the system says.
fn empty(file: &File) -> io::Result<Trim> {
    let lost_bytes = file.metadata()?.len();
    file.set_len(0)?;
    Ok(Trim::Emptied { lost_bytes })
}

/// The first offset from which the lines of a log are whole. Where the line behind the hole is longer than [`LINE_MAX_BYTES`], or
/// has no end yet, the floor is inside it.
///
/// # Errors
/// As the system says.
pub fn floor_of(file: &File) -> io::Result<u64> {
    loop {
        let begin_offset = hole::first_data(file)?;
        if begin_offset == 0 {
            return Ok(0);
        }
        let mut head = vec![0; LINE_MAX_BYTES];
        let read_bytes = read_up_to(file, &mut head, begin_offset)?;
        head.truncate(read_bytes);
        // The head may have been freed while it was read: then what was read may be zeros.
        if hole::first_data(file)? == begin_offset {
            let skipped = memchr::memchr(b'\n', &head).map_or(head.len(), |at| at + 1);
            return Ok(begin_offset.saturating_add(skipped as u64));
        }
    }
}

/// Reads at an offset until the buffer is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read_bytes) => filled += read_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn log_of(lines: std::ops::Range<u64>) -> (tempfile::TempDir, RunLog, File) {
        let directory = tempfile::tempdir().unwrap();
        let log = RunLog::new(directory.path().join("logs"), "r-1").unwrap();
        let mut file = log.create(Stream::Stderr).unwrap();
        write_lines(&mut file, lines);
        (directory, log, file)
    }

    fn opened(path: &Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    /// Lines of 100 bytes.
    fn write_lines(file: &mut File, lines: std::ops::Range<u64>) {
        let text: String = lines.map(|n| format!("{n:099}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_files_are_ours_alone_and_made_once() {
        let (_directory, log, _file) = log_of(0..1);
        let path = log.path(Stream::Stderr);
        assert!(path.ends_with("logs/r-1.stderr.log"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let again = log.create(Stream::Stderr).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        log.create(Stream::Stdout).unwrap();
        log.remove().unwrap();
        log.remove().unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_run_id_is_no_path() {
        for bad in ["", "..", "a/b", "a.b", "a\0b", "é", &"x".repeat(129)] {
            assert!(RunLog::new("/", bad).is_err(), "{bad:?}");
        }
        assert!(RunLog::new("/", "0190a2b4-7c11-7000-8000-00000000000a").is_ok());
    }

    #[test]
    fn a_small_log_is_left_alone() {
        let (_directory, log, _file) = log_of(0..100);
        let path = log.path(Stream::Stderr);
        assert_eq!(trim(&opened(&path), 10_000).unwrap(), Trim::Kept { floor_offset: 0 });
        assert_eq!(floor_of(&opened(&path)).unwrap(), 0);
    }

    #[test]
    fn the_head_goes_up_to_a_line_and_offsets_stay() {
        let (_directory, log, _file) = log_of(0..10_000);
        let path = log.path(Stream::Stderr);
        let Trim::Freed { floor_offset, freed_bytes } = trim(&opened(&path), 100_000).unwrap()
        else {
            panic!("the test file system frees heads")
        };
        assert!((900_000..910_000).contains(&freed_bytes), "{freed_bytes}");
        assert!(floor_offset >= freed_bytes && floor_offset - freed_bytes < 100);
        assert_eq!(floor_offset % 100, 0);
        assert_eq!(floor_of(&opened(&path)).unwrap(), floor_offset);
        // Where the line says it is, it is.
        let mut line = [0; 99];
        let mut file = File::options().read(true).append(true).open(&path).unwrap();
        file.read_exact_at(&mut line, floor_offset).unwrap();
        assert_eq!(String::from_utf8_lossy(&line).parse::<u64>().unwrap(), floor_offset / 100);
        assert!(file.metadata().unwrap().blocks() * 512 <= 110_000);
        // A second time there is nothing to free; after more lines there is.
        assert_eq!(trim(&opened(&path), 100_000).unwrap(), Trim::Kept { floor_offset });
        write_lines(&mut file, 10_000..11_000);
        assert_eq!(file.metadata().unwrap().len(), 1_100_000);
        assert!(
            matches!(trim(&opened(&path), 100_000).unwrap(), Trim::Freed { floor_offset: now, .. } if now > floor_offset)
        );
    }

    #[test]
    fn the_floor_in_a_line_without_end_is_behind_what_there_is() {
        let (_directory, log, mut file) = log_of(0..0);
        let path = log.path(Stream::Stderr);
        file.write_all(&vec![b'x'; 300_000]).unwrap();
        let Trim::Freed { floor_offset, freed_bytes } = trim(&opened(&path), 100_000).unwrap()
        else {
            panic!("the test file system frees heads")
        };
        assert_eq!(floor_offset, freed_bytes + LINE_MAX_BYTES as u64);
        trim(&opened(&path), 0).unwrap();
        assert_eq!(floor_of(&opened(&path)).unwrap(), 300_000);
        file.write_all(b"\nnext\n").unwrap();
        assert_eq!(floor_of(&opened(&path)).unwrap(), 300_001);
    }

    #[test]
    fn emptying_says_what_was_lost_and_the_child_goes_on_at_the_start() {
        let (_directory, log, mut file) = log_of(0..100);
        let path = log.path(Stream::Stderr);
        let ours = File::options().write(true).open(&path).unwrap();
        assert_eq!(empty(&ours).unwrap(), Trim::Emptied { lost_bytes: 10_000 });
        write_lines(&mut file, 7..8);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{:099}\n", 7));
    }

    /// A process that writes to a log as a server does, until it is dropped.
    struct Writer(std::process::Child);

    impl Drop for Writer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_log_that_was_moved_or_deleted_is_found_by_its_process_and_no_other_file_is_touched() {
        let (directory, log, file) = log_of(0..1);
        let path = log.path(Stream::Stderr);
        let sleep = |stderr: File| {
            let mut command = std::process::Command::new("sleep");
            Writer(command.arg("600").stderr(stderr).spawn().unwrap())
        };
        let writer = sleep(file.try_clone().unwrap());
        let pid = Some(writer.0.id().cast_signed());
        let whereabouts = |upkeep| {
            let (opened, whereabouts) = log.open(Stream::Stderr, pid, upkeep).unwrap();
            assert_eq!(opened.metadata().unwrap().ino(), file.metadata().unwrap().ino());
            whereabouts
        };
        assert_eq!(whereabouts(true), Whereabouts::Usual);
        let moved = path.with_extension("log.1");
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(whereabouts(true), Whereabouts::Moved(moved.clone()));
        // Another file under the old name is not what the process writes to.
        std::fs::write(&path, "").unwrap();
        assert_eq!(whereabouts(true), Whereabouts::Moved(moved.clone()));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(whereabouts(true), Whereabouts::Deleted);
        let gone = log.open(Stream::Stderr, None, false).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);

        // A program around it sent its output elsewhere: that may be read, and is never trimmed.
        let elsewhere = directory.path().join("elsewhere.log");
        let other = sleep(File::create(&elsewhere).unwrap());
        let pid = Some(other.0.id().cast_signed());
        assert!(log.open(Stream::Stderr, pid, true).is_err());
        let (_, found) = log.open(Stream::Stderr, pid, false).unwrap();
        assert_eq!(found, Whereabouts::Moved(elsewhere));
    }
}
