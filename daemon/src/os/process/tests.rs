use super::*;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// A child that is killed and reaped whatever happens to the test.
struct Reaped(Child);

impl Reaped {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn sleeping() -> Self {
        Self::spawn(Command::new("sleep").arg("600"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process that is not our child: the shell that forks it ends, and so it is init's.
/// It leads its own group, which is killed when this is dropped.
struct Stranger {
    pid: i32,
}

impl Stranger {
    fn spawn(script: &str) -> Self {
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", &format!("({script}) >/dev/null 2>&1 & echo $!")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        shell.wait().unwrap();
        Self { pid: line.trim().parse().unwrap() }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Ok(pid) = valid_pid(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_process_is_known_by_pid_and_start() {
    let child = Reaped::sleeping();
    let id = ProcessId::of(child.pid()).unwrap();
    assert!(id.is_alive());
    assert_eq!(ProcessId::of(child.pid()), Some(id));
    assert!(!ProcessId { start_ticks: id.start_ticks + 1, ..id }.is_alive());
    assert!(matches!(state(child.pid()), Some('R' | 'S' | 'D')));
    drop(child);
    assert!(!id.is_alive());
    assert_eq!(state(id.pid), None);
}

#[test]
fn no_pid_that_means_many_is_taken() {
    for pid in [0, -1, i32::MIN] {
        assert_eq!(start_ticks(pid), None);
        assert_eq!(executable(pid), None);
    }
    for pgid in [1, 0, -1, i32::MIN] {
        let error = signal_group(pgid, Signal::TERM).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_childs_end_is_awaited_and_it_is_a_zombie_until_reaped() {
    let mut child = Reaped::sleeping();
    let id = ProcessId::of(child.pid()).unwrap();
    let pidfd = id.open().unwrap().unwrap();
    assert!(!pidfd.has_exited().unwrap());
    assert!(pidfd.signal(Signal::TERM).unwrap());
    pidfd.exited().await.unwrap();
    pidfd.exited().await.unwrap();
    assert_eq!(state(id.pid), Some('Z'));
    assert!(!id.is_alive());
    assert_eq!(child.0.wait().unwrap().signal(), Some(15));
    assert!(!pidfd.signal(Signal::TERM).unwrap());
    assert!(id.open().unwrap().is_none());
}

#[tokio::test]
async fn a_handle_is_refused_for_a_reused_pid_and_for_no_pid() {
    let child = Reaped::sleeping();
    let id = ProcessId::of(child.pid()).unwrap();
    assert!(ProcessId { start_ticks: id.start_ticks + 1, ..id }.open().unwrap().is_none());
    assert_eq!(Pidfd::open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(Pidfd::open(-5).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_handle_outside_a_runtime_is_an_error_not_a_panic() {
    assert!(Pidfd::open(1).is_err());
}

#[tokio::test]
async fn a_strangers_end_is_awaited_and_its_status_read_where_the_kernel_can() {
    for (script, signal, code, by_signal) in [
        ("kill -STOP $$; exit 7", Signal::CONT, Some(7), None),
        ("exec sleep 600", Signal::KILL, None, Some(9)),
    ] {
        let stranger = Stranger::spawn(&format!("exec sh -c '{script}'"));
        let pidfd = Pidfd::open(stranger.pid).unwrap();
        assert_eq!(exit_status_of_stranger(&pidfd), None, "it is running");
        // A stop may come before or after CONT: send it until the process has ended.
        let ended = async {
            loop {
                pidfd.signal(signal).unwrap();
                let again = tokio::time::Duration::from_millis(20);
                if tokio::time::timeout(again, pidfd.exited()).await.is_ok() {
                    return;
                }
            }
        };
        ended.await;
        // Init reaps when it likes; the status is there afterwards, on kernels that tell it.
        while state(stranger.pid).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if let Some(status) = exit_status_of_stranger(&pidfd) {
            assert_eq!((status.code(), status.signal()), (code, by_signal));
        } else {
            assert!(!kernel_is_at_least(6, 15), "this kernel should tell");
        }
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).filter_map(|part| part.trim().parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

#[test]
fn a_whole_group_gets_the_signal() {
    let mut leader = Reaped::spawn(
        Command::new("sh")
            .args(["-c", "sleep 600 & echo; wait"])
            .process_group(0)
            .stdout(Stdio::piped()),
    );
    let mut output = BufReader::new(leader.0.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    assert!(signal_group(leader.pid(), Signal::TERM).unwrap());
    assert_eq!(leader.0.wait().unwrap().signal(), Some(15));
    // The output ends only when the grandchild, which holds it too, is gone.
    assert_eq!(output.read_line(&mut String::new()).unwrap(), 0);
    // It stays a member until its new parent has reaped it.
    while signal_group(leader.pid(), Signal::TERM).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_environment_and_the_executable_of_a_process_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("a program");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("600").env_clear().env("LLAMACTL_RUN", "r/1");
    // "Text file busy" while another test's fork still holds the descriptor that wrote the copy.
    let spawn = || match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => None,
        spawned => Some(Reaped(spawned.unwrap())),
    };
    let child = std::iter::repeat_with(spawn).find_map(|child| child).unwrap();
    let has = |key: &str, value: &str| {
        // The spawn returns a moment before the new program's environment shows.
        std::iter::repeat_with(|| environ_has(child.pid(), key, value)).find(Option::is_some)?
    };
    assert_eq!(has("LLAMACTL_RUN", "r/1"), Some(true));
    assert_eq!(has("LLAMACTL_RUN", "r/"), Some(false));
    assert_eq!(has("LLAMACTL_RU", "N=r/1"), Some(false));
    let real = std::fs::canonicalize(&program).unwrap();
    assert_eq!(executable(child.pid()).unwrap(), real);
    std::fs::remove_file(&program).unwrap();
    assert_eq!(executable(child.pid()).unwrap(), real);
}

#[test]
fn a_boot_has_an_id() {
    let id = boot_id().unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(id, boot_id().unwrap());
}

#[tokio::test]
async fn a_child_is_told_apart_from_a_stranger_and_reaped_once() {
    let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let pid = child.id().cast_signed();
    let pidfd = Pidfd::open(pid).unwrap();
    pidfd.exited().await.unwrap();
    assert_eq!(pidfd.child_status(false).and_then(|status| status.code()), Some(7));
    assert_eq!(state(pid), Some('Z'), "only looked at");
    assert_eq!(reap(pid).and_then(|status| status.code()), Some(7));
    assert_eq!((reap(pid), state(pid)), (None, None));
    assert_eq!(pidfd.child_status(true), None);
    assert_eq!(reap(1), None, "not ours");
    drop(child);
}
