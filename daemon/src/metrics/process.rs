//! One process, as the kernel sees it.
//!
//! The start time says whether it is the one that was meant; from then on the files that are kept
//! open are its identity. `smaps` is never read: it costs 10 ms and more per GiB and takes a lock
//! the process needs.

use super::rate::Rate;
use crate::os::proc::{ProcessFiles, Stat, is_gone};
use crate::os::process::boottime_ms;
use llamactl_protocol::metrics::ProcessSample;
use rustix::io::Errno;
use std::io;
use std::time::Instant;

/// A process to sample.
#[derive(Debug)]
pub(super) struct ProcessReader {
    pid: u32,
    start_ticks: Option<u64>,
    files: Files,
    /// What was read last of it.
    stat: Option<Stat>,
    cpu_ticks: Rate,
    read_bytes: Rate,
    written_bytes: Rate,
    major_faults: Rate,
}

#[derive(Debug)]
enum Files {
    /// Not opened yet, or the attempt failed for a reason that may pass (no descriptors left).
    Unopened,
    Open(ProcessFiles),
    /// The process is no more.
    Gone,
}

impl ProcessReader {
    /// The daemon's own process.
    pub(super) fn of_self() -> Self {
        Self::of(std::process::id(), None)
    }

    /// The process with this pid, provided that it is the one that started then.
    pub(super) fn of(pid: u32, start_ticks: Option<u64>) -> Self {
        Self {
            pid,
            start_ticks,
            files: Files::Unopened,
            stat: None,
            cpu_ticks: Rate::default(),
            read_bytes: Rate::default(),
            written_bytes: Rate::default(),
            major_faults: Rate::default(),
        }
    }

    /// Whether this reads the process with this identity.
    pub(super) fn is(&self, pid: u32, start_ticks: u64) -> bool {
        self.pid == pid && self.start_ticks == Some(start_ticks)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is known to be no more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.files, Files::Gone)
    }

    /// What the last sample was read from; `None` once it has ended.
    pub(super) fn stat(&self) -> Option<Stat> {
        self.stat
    }

    /// The process now; rates since the last call. Every field is `None` once it has ended.
    pub(super) fn sample(&mut self, now: Instant, buffer: &mut Vec<u8>) -> ProcessSample {
        match self.read(now, buffer) {
            Ok(sample) => sample,
            Err(error) => {
                if is_gone(&error) {
                    self.files = Files::Gone;
                }
                ProcessSample::default()
            }
        }
    }

    fn read(&mut self, now: Instant, buffer: &mut Vec<u8>) -> io::Result<ProcessSample> {
        self.stat = None;
        if matches!(self.files, Files::Unopened) {
            self.files = Files::Open(ProcessFiles::open(self.pid)?);
        }
        let gone = || io::Error::from(Errno::SRCH);
        let Files::Open(files) = &self.files else { return Err(gone()) };
        let stat = files.stat(buffer)?.filter(|stat| !stat.has_ended()).ok_or_else(gone)?;
        if self.start_ticks.is_some_and(|meant| meant != stat.start_ticks) {
            return Err(gone());
        }
        self.stat = Some(stat);
        let memory = files.memory(buffer)?;
        let traffic = files.traffic(buffer);

        let ticks_per_second = rustix::param::clock_ticks_per_second();
        let ms = |ticks: u64| ticks.saturating_mul(1000) / ticks_per_second.max(1);
        let cpu_ticks_per_second = self.cpu_ticks.advance(now, Some(stat.cpu_ticks));
        Ok(ProcessSample {
            pid: Some(self.pid),
            pids: vec![self.pid],
            cpus_busy: cpu_ticks_per_second.map(|ticks| ticks / ticks_per_second as f64),
            memory_anonymous_bytes: memory.anonymous_bytes,
            memory_file_bytes: memory.file_bytes,
            threads: stat.threads,
            disk_read_bytes_per_second: self.read_bytes.advance(now, traffic.storage_read_bytes),
            disk_write_bytes_per_second: self
                .written_bytes
                .advance(now, traffic.storage_written_bytes),
            major_faults_per_second: self.major_faults.advance(now, stat.major_faults),
            gpu_memory_bytes: None,
            uptime_ms: boottime_ms().checked_sub(ms(stat.start_ticks)),
            cpu_ms: Some(ms(stat.cpu_ticks)),
            disk_read_bytes: traffic.storage_read_bytes,
            disk_written_bytes: traffic.storage_written_bytes,
            major_faults: stat.major_faults,
            memory_swapped_bytes: memory.swapped_bytes,
            memory_grown_bytes: None,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::os::proc::Stat;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// A process that is killed and reaped when the test is done with it.
    pub(crate) struct Victim(Child);

    impl Victim {
        pub(crate) fn sleeping() -> Self {
            Self::run("exec sleep 1000")
        }

        pub(crate) fn busy() -> Self {
            Self::run("while :; do :; done")
        }

        pub(crate) fn run(script: &str) -> Self {
            let mut command = Command::new("sh");
            Self(command.args(["-c", script]).stdin(Stdio::null()).spawn().unwrap())
        }

        pub(crate) fn pid(&self) -> u32 {
            self.0.id()
        }

        pub(crate) fn start_ticks(&self) -> u64 {
            self.stat().start_ticks
        }

        fn stat(&self) -> Stat {
            Stat::parse(&crate::os::proc::read(self.0.id().cast_signed(), "stat").unwrap()).unwrap()
        }

        pub(crate) fn kill(&mut self) {
            self.0.kill().unwrap();
        }

        pub(crate) fn reap(&mut self) {
            self.0.wait().unwrap();
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn this_process_is_seen() {
        let mut reader = ProcessReader::of_self();
        let sample = reader.sample(Instant::now(), &mut Vec::new());
        assert_eq!(sample.pid, Some(std::process::id()));
        assert!(sample.memory_anonymous_bytes.unwrap() > 0);
        assert!(sample.memory_file_bytes.unwrap() > 0);
        assert!(sample.threads.unwrap() >= 1);
        assert_eq!(sample.cpus_busy, None);
        let later = reader.sample(Instant::now() + Duration::from_secs(1), &mut Vec::new());
        assert!(later.cpus_busy.is_some());
    }

    /// The clock is the test's own, so it does not matter how busy the machine is.
    #[test]
    fn cpus_busy_is_processor_time_over_time() {
        let victim = Victim::busy();
        let mut reader = ProcessReader::of(victim.pid(), Some(victim.start_ticks()));
        let (mut buffer, start) = (Vec::new(), Instant::now());
        let before = victim.stat().cpu_ticks;
        reader.sample(start, &mut buffer);
        let at_first = victim.stat().cpu_ticks;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        while victim.stat().cpu_ticks < at_first + ticks_per_second / 2 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let cpus = reader.sample(start + Duration::from_secs(1), &mut buffer).cpus_busy.unwrap();
        let at_most = (victim.stat().cpu_ticks - before) as f64 / ticks_per_second as f64;
        assert!((0.5..=at_most).contains(&cpus), "{cpus} processors, at most {at_most}");
    }

    #[test]
    fn a_process_that_ended_is_unknown_from_then_on() {
        let mut victim = Victim::sleeping();
        let mut reader = ProcessReader::of(victim.pid(), Some(victim.start_ticks()));
        let mut buffer = Vec::new();
        assert_eq!(reader.sample(Instant::now(), &mut buffer).pid, Some(victim.pid()));
        victim.kill();
        victim.reap();
        assert_eq!(reader.sample(Instant::now(), &mut buffer), ProcessSample::default());
        assert!(matches!(reader.files, Files::Gone));
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_has_ended() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let mut victim = Victim::sleeping();
        let mut reader = ProcessReader::of(victim.pid(), Some(victim.start_ticks()));
        victim.kill();
        let pid = Pid::from_raw(i32::try_from(victim.pid()).unwrap()).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(reader.sample(Instant::now(), &mut Vec::new()), ProcessSample::default());
    }

    #[test]
    fn another_process_under_the_same_pid_is_not_taken_for_it() {
        let victim = Victim::sleeping();
        let mut reader = ProcessReader::of(victim.pid(), Some(victim.start_ticks() - 1));
        assert_eq!(reader.sample(Instant::now(), &mut Vec::new()), ProcessSample::default());
    }
}
