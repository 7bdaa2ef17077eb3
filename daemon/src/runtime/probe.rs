//! Looking at a build: what it says of itself when asked.

use super::devices::devices_in;
use super::help::options_in;
use super::inspect::Found;
use super::library_path::library_path;
use crate::os::denied::{Denied, denied};
use crate::os::file;
use crate::os::process::{Signal, signal_group};
use crate::store::registry::NewRuntime;
use llamactl_protocol::environment::{DEVICE_VARIABLES, LIBRARY_PATH};
use llamactl_protocol::options::{BuildOption, VARIABLE_PREFIX};
use llamactl_protocol::{Failure, Hint, Hints, Kind, WirePath};
use memchr::memmem;
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A build that prints its progress has this text in it. Older builds report to a TCP port
/// instead and exit when nobody listens there, so this must be known before the first start.
const PROGRESS_TEXT: &[u8] = b"cmd_child_to_router:state:";

/// What a build may take to print its version or its help.
const LIMIT: Duration = Duration::from_secs(10);
/// What of its output is read; present builds print 60 kB of help.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// Asks a build for its options, its version and its devices, and looks whether it reports
/// progress. Blocks, as long as three times [`LIMIT`].
///
/// # Errors
/// [`Kind::RuntimeRefused`] when it does not answer as a llama-server does.
pub(super) fn probe(found: Found) -> Result<NewRuntime, Failure> {
    let path = found.path.display();
    let refused = |problem: &str| {
        Failure::new(Kind::RuntimeRefused, format!("{path} {problem}"))
            .hint(Hint::run("see what it prints", [path.to_string(), "--help".to_owned()]))
    };
    let help = |subcommand: Option<&str>| match ask(&found, subcommand, "--help") {
        Ok(Answer { timed_out: true, .. }) => {
            let limit = LIMIT.as_secs();
            Err(refused(&format!("did not answer --help within {limit} s")))
        }
        Ok(answer) => Ok(answer.text),
        // No fault of the build.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory) => {
            let message = format!("the system has no room for another process: {error}");
            Err(Failure::new(Kind::IoFailed, message)
                .hint("check the limits of processes and memory, and try again"))
        }
        Err(error) => {
            let mut failure = refused(&format!("cannot be run: {error}"));
            // The file itself may be: what it names in its first line may not.
            let interpreter = interpreter(&found.path);
            if let (ErrorKind::PermissionDenied, Some(interpreter)) = (error.kind(), interpreter) {
                let Denied { why, cure } = denied(&interpreter);
                failure.message = format!("{path} is run by {}: {why}", interpreter.display());
                failure.hints = Hints(vec![cure]);
            }
            Err(failure)
        }
    };
    let said = help(None)?;
    let mut subcommand = None;
    let mut options = options_in(&said);
    if !is_of_llama_server(&options) && is_called_llama(&found.path) {
        subcommand = Some(SERVE);
        options = options_in(&help(subcommand)?);
    }
    if !is_of_llama_server(&options) {
        let failure = match missing_library(&said) {
            Some(library) => lacking(&found, library),
            None => refused("does not answer --help as llama-server does"),
        };
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(5).collect();
        return Err(failure.details(serde_json::json!({ "evidence": said })));
    }
    let asked = |flag: &str| match ask(&found, subcommand, flag) {
        Ok(answer) => {
            if answer.timed_out {
                tracing::warn!(%path, flag, "llama-server did not answer in time");
            }
            answer.text
        }
        Err(error) => {
            tracing::warn!(%path, flag, %error, "could not ask llama-server");
            String::new()
        }
    };
    let lists_devices =
        options.iter().any(|option| option.flags.iter().any(|flag| flag == "--list-devices"));
    Ok(NewRuntime {
        version: version_in(&asked("--version")),
        // A build without the flag takes it for an error, or starts.
        devices: if lists_devices { devices_in(&asked("--list-devices")) } else { vec![] },
        reports_progress: reports_progress(&found.path),
        libraries: found.libraries(),
        subcommand: subcommand.map(str::to_owned),
        options,
        path: WirePath(found.path.clone()),
        inode: found.inode,
        size_bytes: found.size_bytes,
        mtime_ns: found.mtime_ns,
    })
}

/// The word by which `llama`, which has everything of llama.cpp in it, is a llama-server: `app/llama.cpp`
/// of llama.cpp, 0.2 and later. Every option comes after it.
const SERVE: &str = "serve";

fn is_called_llama(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"llama"))
}

fn is_of_llama_server(options: &[BuildOption]) -> bool {
    options.iter().any(|option| option.flags.iter().any(|flag| flag == "--model"))
}

/// The program that runs a script.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

/// The library that the linker did not find.
fn missing_library(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("error while loading shared libraries: ")?;
    Some(rest.split(':').next().unwrap_or(rest).trim())
}

fn lacking(found: &Found, library: &str) -> Failure {
    let path = found.path.display();
    let message = format!("{path} cannot be run: it does not find the library {library}");
    let where_it_is = format!("{VARIABLE_PREFIX}{LIBRARY_PATH}=DIR");
    let add = ["llamactl", "runtime", "add", &path.to_string(), &where_it_is];
    Failure::new(Kind::RuntimeRefused, message).hint(Hint::run("say in which directory it is", add))
}

/// What a build printed.
struct Answer {
    text: String,
    /// It was ended because it took too long.
    timed_out: bool,
}

/// What the build prints for one flag, both streams together, bounded in time and size.
fn ask(found: &Found, subcommand: Option<&str>, flag: &str) -> std::io::Result<Answer> {
    let (mut read, write) = std::io::pipe()?;
    let devices = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| DEVICE_VARIABLES.contains(&name)));
    let mut child = Command::new(&found.path)
        .args(subcommand)
        .arg(flag)
        .env_clear()
        .envs(devices)
        .env("PATH", "/usr/bin:/bin")
        .env(LIBRARY_PATH, library_path(&found.path, &found.lib_dirs))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(write.try_clone()?)
        .stderr(write)
        // A wrapper script's own children hold the pipe too, and must go with it.
        .process_group(0)
        .spawn()?;
    // Before the watchdog begins: whom it ended took at least as long.
    let started = Instant::now();
    let watchdog = {
        let pid = child.id().cast_signed();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watch = move || {
            if ended.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // Not reaped yet: `wait` below comes after this thread is done.
                let _ = signal_group(pid, Signal::KILL);
            }
        };
        let watch = std::thread::Builder::new().spawn(watch);
        let thread = watch.inspect_err(|_| {
            let _ = signal_group(pid, Signal::KILL);
            let _ = child.wait();
        })?;
        (done, thread)
    };
    let mut output = Vec::new();
    let read = read.by_ref().take(MAX_OUTPUT_BYTES).read_to_end(&mut output);
    drop(watchdog.0);
    let timed_out = started.elapsed() >= LIMIT;
    if !timed_out {
        // A program that printed too much is still writing.
        let _ = signal_group(child.id().cast_signed(), Signal::KILL);
    }
    let _ = watchdog.1.join();
    child.wait()?;
    read?;
    Ok(Answer { text: String::from_utf8_lossy(&output).into_owned(), timed_out })
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
    let (mut file, _) = file::open(path)?;
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
    fn the_linkers_words_name_the_library() {
        let said = "/o/llama-server: error while loading shared libraries: libcublas.so.12: cannot \
                    open shared object file: No such file or directory\n";
        assert_eq!(missing_library(said), Some("libcublas.so.12"));
        assert_eq!(missing_library("usage: llama COMMAND"), None);
        assert!(is_called_llama(Path::new("/o/llama")) && !is_called_llama(Path::new("/bin/sh")));
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
