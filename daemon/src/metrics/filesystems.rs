//! The file systems that the models lie on: how large, and how much of it is free.
//!
//! ```text
//!   directories ─ /proc/self/mountinfo ─▶ mount points ─▶ a thread for each ─▶ statvfs ─▶ what it said
//!                                             ╰── asked every 30 s, and not again before it has answered
//! ```
//!
//! To ask a network that is gone takes for ever. So each mount point has a thread, which is asked and not
//! waited for: one that does not answer in five seconds is unknown until it does, and keeps no other.

use super::file::KeptFile;
use llamactl_protocol::metrics::Filesystem;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two questions to a file system.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// No machine has its models on more; it bounds the threads.
const MOST: usize = 16;
/// A thread that does one call.
const STACK_BYTES: usize = 128 << 10;

/// What a file system says of itself: its size, and what anybody may still write.
pub(super) type Space = (u64, u64);
type AskSpace = Arc<dyn Fn(&Path) -> io::Result<Space> + Send + Sync>;

/// The file systems of some directories.
pub(super) struct Filesystems {
    directories: watch::Receiver<Vec<PathBuf>>,
    mountinfo: KeptFile,
    ask: AskSpace,
    ask_at: Option<Instant>,
    mounts: BTreeMap<PathBuf, Mount>,
}

struct Mount {
    owes_an_answer: bool,
    asked_at: Instant,
    space: Option<Space>,
    is_silent: bool,
    question: Sender<()>,
    answer: Receiver<io::Result<Space>>,
}

impl std::fmt::Debug for Filesystems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filesystems").field("mounts", &self.mounts.keys()).finish_non_exhaustive()
    }
}

impl Filesystems {
    /// Those of these directories.
    pub(super) fn of(directories: watch::Receiver<Vec<PathBuf>>) -> Self {
        Self::asking(directories, Arc::new(crate::os::disk::space))
    }

    fn asking(directories: watch::Receiver<Vec<PathBuf>>, ask: AskSpace) -> Self {
        let mountinfo = KeptFile::new("/proc/self/mountinfo");
        Self { directories, mountinfo, ask, ask_at: None, mounts: BTreeMap::new() }
    }

    /// Each of them, as far as it has answered.
    pub(super) fn sample(&mut self, now: Instant) -> Vec<Filesystem> {
        let is_other = self.directories.has_changed().unwrap_or(false);
        if is_other || self.ask_at.is_none_or(|at| now >= at) {
            self.ask_at = now.checked_add(ASK_EVERY);
            self.look(now);
        }
        self.mounts.iter_mut().map(|(point, mount)| mount.sample(point, now)).collect()
    }

    fn look(&mut self, now: Instant) {
        let directories = self.directories.borrow_and_update().clone();
        let points = self.mountinfo.parse(now, |text| {
            let all = mount_points(text);
            let mut points: Vec<PathBuf> =
                directories.iter().filter_map(|it| mount_of(it, &all)).collect();
            points.sort();
            points.dedup();
            points.truncate(MOST);
            points
        });
        let points = points.unwrap_or_default();
        self.mounts.retain(|point, _| points.contains(point));
        for point in points {
            match self.mounts.get_mut(&point) {
                Some(mount) => mount.ask(now),
                None => {
                    if let Some(mount) = Mount::new(&point, &self.ask, now) {
                        self.mounts.insert(point, mount);
                    }
                }
            }
        }
    }
}

impl Mount {
    fn new(point: &Path, ask: &AskSpace, now: Instant) -> Option<Mount> {
        let (question, questions) = channel::<()>();
        let (answers, answer) = channel();
        let (point, ask) = (point.to_owned(), Arc::clone(ask));
        let thread = std::thread::Builder::new().name("disk".to_owned()).stack_size(STACK_BYTES);
        let work = move || while questions.recv().is_ok() && answers.send(ask(&point)).is_ok() {};
        thread.spawn(work).ok()?;
        let (owes_an_answer, space, is_silent) = (false, None, false);
        let mut mount = Mount { owes_an_answer, asked_at: now, space, is_silent, question, answer };
        mount.ask(now);
        Some(mount)
    }

    /// Asks, unless it owes an answer.
    fn ask(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.owes_an_answer, true) {
            self.asked_at = now;
            self.question.send(()).ok();
        }
    }

    fn sample(&mut self, point: &Path, now: Instant) -> Filesystem {
        let shown = point.display();
        if let Ok(answer) = self.answer.try_recv() {
            self.owes_an_answer = false;
            if std::mem::take(&mut self.is_silent) {
                tracing::info!("the file system at {shown} answers again");
            }
            if let (Err(error), Some(_)) = (&answer, self.space) {
                tracing::warn!("how much room there is at {shown} is unknown now: {error}");
            }
            self.space = answer.ok();
        }
        let is_late =
            self.owes_an_answer && now.saturating_duration_since(self.asked_at) > DEADLINE;
        if is_late && !std::mem::replace(&mut self.is_silent, true) {
            tracing::warn!("the file system at {shown} does not answer: its room is unknown");
        }
        let space = self.space.filter(|_| !self.is_silent);
        Filesystem {
            mount_point: shown.to_string(),
            size_bytes: space.map(|(size, _)| size),
            available_bytes: space.map(|(_, available)| available),
        }
    }
}

/// Where something is mounted, by a `/proc/self/mountinfo`.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|line| Some(unescaped(line.split(' ').nth(4)?))).collect()
}

/// A space, a tab, a line end and a backslash stand there as their number in base 8.
fn unescaped(word: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match number.filter(|_| *first == b'\\') {
            Some(number) => {
                bytes.push(number);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mount point that a path lies below; the path is not looked at.
fn mount_of(path: &Path, points: &[PathBuf]) -> Option<PathBuf> {
    let above = points.iter().filter(|point| path.starts_with(point));
    above.max_by_key(|point| point.as_os_str().as_bytes().len()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn the_longest_mount_point_above_a_path_is_its_own() {
        let text = "22 1 8:1 / / rw - ext4 /dev/sda rw\n\
                    30 22 0:40 / /mnt/my\\040models rw - nfs4 box:/m rw\n\
                    31 22 0:41 / /mnt rw - tmpfs tmpfs rw\n";
        let points = mount_points(text);
        let of = |path: &str| mount_of(Path::new(path), &points).unwrap().display().to_string();
        assert_eq!(of("/mnt/my models/a.gguf"), "/mnt/my models");
        assert_eq!(of("/mnt/my modelsX/a.gguf"), "/mnt");
        assert_eq!(of("/home/a"), "/");
        assert_eq!(mount_of(Path::new("relative"), &points), None);
        assert_eq!(unescaped("a\\134b\\9"), Path::new("a\\b\\9"));
    }

    #[test]
    fn a_file_system_that_does_not_answer_is_unknown_alone_and_comes_back() {
        let (release, released) = channel::<()>();
        let (released, hangs) = (Mutex::new(released), Arc::new(Mutex::new(false)));
        let hung = Arc::clone(&hangs);
        let ask: AskSpace = Arc::new(move |point: &Path| {
            if point == Path::new("/") && *hung.lock().unwrap() {
                released.lock().unwrap().recv().ok();
            }
            Ok((100, 40))
        });
        let (directories, watched) = watch::channel(vec!["/".into(), "/proc/self".into()]);
        let mut all = Filesystems::asking(watched, ask);
        let (start, begin) = (Instant::now(), Instant::now());
        let mut until = |seconds: u64, wanted: &[(&str, Option<u64>)]| {
            loop {
                let sample = all.sample(start + Duration::from_secs(seconds));
                let now: Vec<_> =
                    sample.iter().map(|it| (&*it.mount_point, it.available_bytes)).collect();
                if now == wanted {
                    return;
                }
                assert!(begin.elapsed() < Duration::from_secs(60), "{now:?}, not {wanted:?}");
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        until(0, &[("/", Some(40)), ("/proc", Some(40))]);
        *hangs.lock().unwrap() = true;
        until(30, &[("/", Some(40)), ("/proc", Some(40))]);
        until(36, &[("/", None), ("/proc", Some(40))]);
        // It is not asked again: one thread hangs, not one for each question.
        until(66, &[("/", None), ("/proc", Some(40))]);
        *hangs.lock().unwrap() = false;
        release.send(()).unwrap();
        until(67, &[("/", Some(40)), ("/proc", Some(40))]);
        directories.send(vec!["/proc".into()]).unwrap();
        until(68, &[("/proc", Some(40))]);
    }
}
