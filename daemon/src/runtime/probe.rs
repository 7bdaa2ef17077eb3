//! Looking at a build once.

use super::{Found, find, library_path};
use crate::os::process::{Signal, signal_group};
use crate::store::{NewRuntime, Registry, RuntimeRecord};
use llamactl_protocol::{Failure, Kind, WirePath};
use memchr::memmem;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A build that prints its progress has this text in it. Older builds report to a TCP port
/// instead and exit when nobody listens there, so this must be known before the first start.
const PROGRESS_TEXT: &[u8] = b"cmd_child_to_router:state:";

/// What a build may take to print its version or its help.
const LIMIT: Duration = Duration::from_secs(10);
/// What of its output is read; present builds print 60 kB of help.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// The build to use now: found, and looked at if it is new.
///
/// # Errors
/// [`Kind::RuntimeNotFound`] when there is none, or it is no llama-server; the registry's own.
pub async fn present(registry: &Registry) -> Result<RuntimeRecord, Failure> {
    let failed = |error| Failure::new(Kind::Internal, format!("looking for llama-server: {error}"));
    // PATH may lead over slow or dead mounts.
    let found = tokio::task::spawn_blocking(find).await.map_err(failed)??;
    let path = WirePath(found.path.clone());
    let known = registry.known_runtime(path, found.inode, found.size_bytes, found.mtime_ns).await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let new = tokio::task::spawn_blocking(move || probe(found)).await.map_err(failed)??;
    Ok(registry.add_runtime(new).await?)
}

fn probe(found: Found) -> Result<NewRuntime, Failure> {
    let help = output_of(&found.path, "--help");
    let flags = flags_in(&help);
    if !flags.iter().any(|flag| flag == "model") {
        let path = found.path.display();
        return Err(Failure::new(
            Kind::RuntimeNotFound,
            format!("{path} does not answer --help as llama-server does"),
        )
        .hint(format!("see what it prints: {path} --help")));
    }
    Ok(NewRuntime {
        version: version_in(&output_of(&found.path, "--version")),
        reports_progress: reports_progress(&found.path),
        flags,
        path: WirePath(found.path),
        inode: found.inode,
        size_bytes: found.size_bytes,
        mtime_ns: found.mtime_ns,
    })
}

/// What the build prints for one flag, both streams together, bounded in time and size.
fn output_of(path: &Path, flag: &str) -> String {
    let run = || -> std::io::Result<Vec<u8>> {
        let (mut read, write) = std::io::pipe()?;
        let mut child = Command::new(path)
            .arg(flag)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LD_LIBRARY_PATH", library_path(path))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(write.try_clone()?)
            .stderr(write)
            // A wrapper script's own children hold the pipe too, and must go with it.
            .process_group(0)
            .spawn()?;
        let watchdog = {
            let pid = child.id().cast_signed();
            let (done, ended) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                if ended.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    // Not reaped yet: `wait` below comes after this thread is done.
                    let _ = signal_group(pid, Signal::KILL);
                }
            });
            (done, thread)
        };
        let started = Instant::now();
        let mut output = Vec::new();
        let read = read.by_ref().take(MAX_OUTPUT_BYTES).read_to_end(&mut output);
        drop(watchdog.0);
        if started.elapsed() < LIMIT {
            // A program that printed too much is still writing.
            let _ = signal_group(child.id().cast_signed(), Signal::KILL);
        }
        let _ = watchdog.1.join();
        child.wait()?;
        read.map(|_| output)
    };
    match run() {
        Ok(output) => String::from_utf8_lossy(&output).into_owned(),
        Err(error) => {
            tracing::warn!(path = %path.display(), flag, %error, "could not ask llama-server");
            String::new()
        }
    }
}

/// The long flags a help text names, without dashes, sorted.
fn flags_in(help: &str) -> Vec<String> {
    let mut flags: Vec<String> = help
        .lines()
        .filter(|line| line.starts_with('-'))
        // All spellings of a flag come first; its value's name or the prose ends them.
        .flat_map(|line| line.split_whitespace().take_while(|word| word.starts_with('-')))
        .filter_map(|word| word.strip_prefix("--"))
        .map(|flag| flag.trim_end_matches(',').to_owned())
        // Headings are drawn with dashes.
        .filter(|flag| flag.starts_with(|first: char| first.is_ascii_alphanumeric()))
        .collect();
    flags.sort();
    flags.dedup();
    flags
}

/// `version: 0.1.0-dev (build 1, commit 7e4c0a9)`, without its label.
fn version_in(output: &str) -> Option<String> {
    output
        .lines()
        .find_map(|line| line.trim().strip_prefix("version:"))
        .map(|version| version.trim().chars().take(128).collect())
}

/// Whether the executable, or a llama library beside it, holds [`PROGRESS_TEXT`].
fn reports_progress(path: &Path) -> bool {
    let beside = path.parent().and_then(|dir| dir.read_dir().ok()).into_iter().flatten().flatten();
    let libraries = beside.map(|entry| entry.path()).filter(|file| {
        file.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libllama") && name.contains(".so")
        })
    });
    std::iter::once(path.to_owned())
        .chain(libraries)
        .any(|file| holds(&file, PROGRESS_TEXT).unwrap_or(false))
}

/// Whether a file holds some bytes. Reads it piece by piece: a build with GPU code in it can be
/// hundreds of megabytes.
fn holds(path: &Path, wanted: &[u8]) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let read = file.read(piece.get_mut(kept..).unwrap_or_default())?;
        let filled = piece.get(..kept + read).unwrap_or_default();
        if memmem::find(filled, wanted).is_some() {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // What is wanted may lie across the border of two pieces.
        let end = filled.len();
        kept = end.min(wanted.len() - 1);
        piece.copy_within(end - kept..end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_help() {
        let help = "----- common params -----\n\n\
                    -h,    --help, --usage                  print usage and exit\n\
                    -m,    --model FNAME                    model path, see --not-a-flag\n\
                    -kvo,  --kv-offload, -nkvo, --no-kv-offload\n\
                                                            whether --also-not\n";
        assert_eq!(
            flags_in(help),
            ["help", "kv-offload", "model", "no-kv-offload", "usage"].map(str::to_owned)
        );
    }

    #[test]
    fn text_across_the_border_of_two_pieces_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("binary");
        let mut bytes = vec![b'x'; (1 << 20) - 5];
        bytes.extend_from_slice(PROGRESS_TEXT);
        std::fs::write(&path, &bytes).unwrap();
        assert!(holds(&path, PROGRESS_TEXT).unwrap());
        assert!(!holds(&path, b"something else").unwrap());
    }

    #[test]
    fn a_version_is_what_follows_its_label() {
        assert_eq!(
            version_in("warn: x\nversion: 0.1.0-dev (build 1, commit 7e4c0a9)\nbuilt with gcc\n"),
            Some("0.1.0-dev (build 1, commit 7e4c0a9)".to_owned())
        );
        assert_eq!(version_in("hello"), None);
    }
}
