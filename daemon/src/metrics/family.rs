//! The processes of one server, as one.
//!
//! ```text
//!   the one that was started ─╮
//!   those below it ───────────┼─▶ ProcessSample: sums
//!   those that ended since ───╯    (what they counted)
//! ```
//!
//! A runtime may be a script that does not become the llama-server, and a llama-server may have
//! workers: what a server holds and uses is what all of them do. Who they are is looked up every ten
//! seconds, each second while the server comes up, and at each of its states by its process group too,
//! which finds those whose parent has ended.

use super::process::ProcessReader;
use super::{Activity, RunningServer};
use crate::os::family;
use llamactl_protocol::metrics::ProcessSample;
use llamactl_protocol::server::State;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks for the processes of a server that is up.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A server that runs for less may become ready between two samples.
const NEW_MS: u64 = 5000;

/// The processes of a server.
#[derive(Debug)]
pub(super) struct FamilyReader {
    leader: ProcessReader,
    others: Vec<(ProcessReader, Counted)>,
    /// What those counted that have ended.
    ended: Counted,
    activity: Arc<Activity>,
    state: Option<State>,
    /// What they had of their own when it became ready.
    ready_with_bytes: Option<u64>,
    look_at: Option<Instant>,
}

impl FamilyReader {
    /// Those of a server.
    pub(super) fn new(server: &RunningServer) -> Self {
        Self {
            leader: ProcessReader::of(server.pid, Some(server.start_ticks)),
            others: Vec::new(),
            ended: Counted::default(),
            activity: Arc::clone(&server.activity),
            state: None,
            ready_with_bytes: None,
            look_at: None,
        }
    }

    /// Whether they are the server's.
    pub(super) fn is(&self, server: &RunningServer) -> bool {
        self.leader.is(server.pid, server.start_ticks)
    }

    /// All of them now; every field is `None` once the one that was started has ended.
    pub(super) fn sample(
        &mut self,
        now: Instant,
        state: State,
        buffer: &mut Vec<u8>,
    ) -> ProcessSample {
        let leader = self.leader.sample(now, buffer);
        let Some(stat) = self.leader.stat() else { return leader };
        let before = self.state.replace(state);
        let is_other_state = before != Some(state);
        if is_other_state || self.look_at.is_none_or(|at| now >= at) {
            // A group that it does not lead is not its own.
            let group = stat.group.cast_unsigned();
            self.look(is_other_state && leader.pid == Some(group));
            self.look_at = now.checked_add(LOOK_EVERY).filter(|_| !comes_up(state));
        }
        let Self { others, ended, look_at, .. } = self;
        let mut samples = Vec::with_capacity(others.len());
        let (mut ticks, mut letter) = (stat.cpu_ticks, stat.state);
        others.retain_mut(|(other, counted)| {
            let sample = other.sample(now, buffer);
            if other.has_ended() {
                *ended = ended.with(*counted, |ended, more| Some(ended.unwrap_or(0) + more?));
                *look_at = None;
                return false;
            }
            if let Some(stat) = other.stat() {
                ticks = ticks.saturating_add(stat.cpu_ticks);
                letter = if matches!(stat.state, 'T' | 't') { stat.state } else { letter };
                *counted = Counted::of(&sample);
            }
            samples.push(sample);
            true
        });
        self.activity.has_others(samples.iter().filter_map(|other| other.pid));
        self.activity.sampled(ticks, letter);
        let all = together(leader, &samples, self.ended);
        let own = all.memory_anonymous_bytes;
        // One that was found ready may have grown before, unless it has only just begun.
        let is_new = |uptime_ms| uptime_ms < NEW_MS;
        let saw_it = before.map_or_else(|| all.uptime_ms.is_some_and(is_new), comes_up);
        if is_other_state && state == State::Ready && saw_it {
            self.ready_with_bytes = own;
        }
        let grown = own.zip(self.ready_with_bytes).map(|(own, with)| own.saturating_sub(with));
        ProcessSample { memory_grown_bytes: grown, ..all }
    }

    fn look(&mut self, at_its_group: bool) {
        let leader = self.leader.pid();
        let group = at_its_group.then(|| family::in_group(leader.cast_signed()));
        for (pid, start_ticks) in
            family::below(leader).into_iter().chain(group.into_iter().flatten())
        {
            if pid != leader && !self.others.iter().any(|(other, _)| other.is(pid, start_ticks)) {
                let other = ProcessReader::of(pid, Some(start_ticks));
                self.others.push((other, Counted::default()));
            }
        }
    }
}

fn comes_up(state: State) -> bool {
    matches!(state, State::Starting | State::Loading)
}

/// What a process counts since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    cpu_ms: Option<u64>,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
    major_faults: Option<u64>,
}

impl Counted {
    fn of(sample: &ProcessSample) -> Counted {
        Counted {
            cpu_ms: sample.cpu_ms,
            disk_read_bytes: sample.disk_read_bytes,
            disk_written_bytes: sample.disk_written_bytes,
            major_faults: sample.major_faults,
        }
    }

    fn with(
        self,
        other: Counted,
        add: impl Fn(Option<u64>, Option<u64>) -> Option<u64>,
    ) -> Counted {
        Counted {
            cpu_ms: add(self.cpu_ms, other.cpu_ms),
            disk_read_bytes: add(self.disk_read_bytes, other.disk_read_bytes),
            disk_written_bytes: add(self.disk_written_bytes, other.disk_written_bytes),
            major_faults: add(self.major_faults, other.major_faults),
        }
    }
}

/// A sum with an unknown part is unknown.
fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

/// One that is there for the first time has no rate yet: what it counted before is nobody's.
fn rate(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a + b).or(a).or(b)
}

fn together(leader: ProcessSample, others: &[ProcessSample], ended: Counted) -> ProcessSample {
    let all = others.iter().fold(leader, |all, it| {
        let mut pids = all.pids;
        pids.extend(&it.pids);
        ProcessSample {
            pids,
            cpus_busy: rate(all.cpus_busy, it.cpus_busy),
            memory_anonymous_bytes: sum(all.memory_anonymous_bytes, it.memory_anonymous_bytes),
            memory_file_bytes: sum(all.memory_file_bytes, it.memory_file_bytes),
            memory_swapped_bytes: sum(all.memory_swapped_bytes, it.memory_swapped_bytes),
            threads: sum(all.threads, it.threads),
            disk_read_bytes_per_second: rate(
                all.disk_read_bytes_per_second,
                it.disk_read_bytes_per_second,
            ),
            disk_write_bytes_per_second: rate(
                all.disk_write_bytes_per_second,
                it.disk_write_bytes_per_second,
            ),
            major_faults_per_second: rate(all.major_faults_per_second, it.major_faults_per_second),
            cpu_ms: sum(all.cpu_ms, it.cpu_ms),
            disk_read_bytes: sum(all.disk_read_bytes, it.disk_read_bytes),
            disk_written_bytes: sum(all.disk_written_bytes, it.disk_written_bytes),
            major_faults: sum(all.major_faults, it.major_faults),
            ..all
        }
    });
    let Counted { cpu_ms, disk_read_bytes, disk_written_bytes, major_faults } =
        Counted::of(&all).with(ended, |all, ended| Some(all? + ended.unwrap_or(0)));
    ProcessSample { cpu_ms, disk_read_bytes, disk_written_bytes, major_faults, ..all }
}

#[cfg(test)]
mod tests {
    use super::super::process::tests::Victim;
    use super::*;
    use tokio::sync::watch;

    fn sample(pid: u32, cpu_ms: u64, anonymous: Option<u64>, busy: Option<f64>) -> ProcessSample {
        ProcessSample {
            pid: Some(pid),
            pids: vec![pid],
            cpu_ms: Some(cpu_ms),
            memory_anonymous_bytes: anonymous,
            cpus_busy: busy,
            ..ProcessSample::default()
        }
    }

    #[test]
    fn what_all_hold_is_summed_and_what_is_not_known_of_one_is_not_known() {
        let ended = Counted { cpu_ms: Some(5), ..Counted::default() };
        let leader = sample(1, 10, Some(100), Some(0.5));
        let others = [sample(2, 20, Some(200), None), sample(3, 30, Some(300), Some(1.0))];
        let all = together(leader.clone(), &others, ended);
        assert_eq!((all.pid, &*all.pids), (Some(1), &[1, 2, 3][..]));
        assert_eq!((all.cpu_ms, all.memory_anonymous_bytes), (Some(65), Some(600)));
        assert_eq!(all.cpus_busy, Some(1.5));
        assert_eq!((all.threads, all.disk_read_bytes), (None, None));
        let all = together(leader, &[sample(2, 20, None, None)], ended);
        assert_eq!(all.memory_anonymous_bytes, None);
    }

    #[test]
    fn a_child_counts_from_when_it_is_there_until_after_its_end() {
        // The child ends when it can read a line; the shell says nothing of it.
        let victim = Victim::run(
            "{ i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; read x; } & wait; exec sleep 1000",
        );
        let server = RunningServer {
            model_id: 1,
            model: "m".to_owned(),
            run_id: "r".to_owned(),
            state: State::Loading,
            pid: victim.pid(),
            start_ticks: victim.start_ticks(),
            llama: watch::channel(None).1,
            activity: Arc::default(),
        };
        let mut family = FamilyReader::new(&server);
        let (mut buffer, mut now) = (Vec::new(), Instant::now());
        let mut next = || {
            now += Duration::from_secs(1);
            family.sample(now, State::Loading, &mut buffer)
        };
        let mut sample = next();
        let begin = Instant::now();
        while sample.pids.len() < 2 || sample.cpu_ms < Some(50) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{sample:?}");
            std::thread::sleep(Duration::from_millis(10));
            sample = next();
        }
        assert_eq!(server.activity.others(), sample.pids[1..]);
        let child = rustix::process::Pid::from_raw(sample.pids[1].cast_signed()).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        let mut after = next();
        while after.pids.len() > 1 {
            assert!(after.cpu_ms >= sample.cpu_ms, "{after:?}");
            std::thread::sleep(Duration::from_millis(10));
            after = next();
        }
        assert!(after.cpu_ms >= sample.cpu_ms, "{after:?}, before {sample:?}");
        assert_eq!(after.pids, [victim.pid()]);
        assert_eq!(after.memory_grown_bytes, None);
        let ready = family.sample(now, State::Ready, &mut Vec::new());
        assert_eq!(ready.memory_grown_bytes, Some(0));
    }
}
