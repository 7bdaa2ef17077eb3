//! The daemon's own log: stderr in the foreground, a bounded file when detached.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;

/// A full file is kept once under another name, so the two together stay below twice this.
const MAX_BYTES: u64 = 4 << 20;

/// Starts logging. `file` is for a detached daemon.
///
/// # Errors
/// The level is none, or the file cannot be opened.
pub fn start(level: &str, file: Option<&Path>) -> Result<(), String> {
    let level: LevelFilter = level
        .parse()
        .map_err(|_| format!("{level} is no log level: give error, warn, info, debug or trace"))?;
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    match file {
        None => builder
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .init(),
        Some(path) => {
            let file = BoundedFile::open(path)
                .map_err(|error| format!("cannot log to {}: {error}", path.display()))?;
            builder.with_writer(Mutex::new(file)).with_ansi(false).init();
        }
    }
    Ok(())
}

/// A file that starts anew when it is full. Own code because the field's crate for this,
/// tracing-appender, rotates by the clock only and bounds nothing.
struct BoundedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl BoundedFile {
    fn open(path: &Path) -> io::Result<BoundedFile> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(BoundedFile { path: path.to_owned(), file, bytes })
    }
}

impl Write for BoundedFile {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.bytes > MAX_BYTES {
            // Where it cannot be renamed the old file goes on: a log too long is better than none.
            let renamed = fs::rename(&self.path, self.path.with_extension("log.1"));
            if let Ok(fresh) = renamed.and_then(|()| BoundedFile::open(&self.path)) {
                *self = fresh;
            } else {
                self.bytes = 0;
            }
        }
        let written = self.file.write(text)?;
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_all_there_ever_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").join("d.log");
        let mut log = BoundedFile::open(&path).unwrap();
        let line = vec![b'x'; 64 << 10];
        for _ in 0..200 {
            log.write_all(&line).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|bytes| *bytes <= MAX_BYTES + line.len() as u64));
    }
}
