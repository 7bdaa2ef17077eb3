//! What the threads of a process have used of the processor.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// How much, and how often they woke.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    processor_ns: u64,
    pub(super) wakeups: u64,
}

impl Spent {
    /// In milliseconds.
    pub(super) fn processor_ms(self) -> f64 {
        self.processor_ns as f64 / 1e6
    }
}

/// The threads of a process, by number, and what each had used at one moment.
pub(super) struct Threads {
    pid: u32,
    spent: HashMap<i32, Spent>,
}

impl Threads {
    pub(super) fn of(pid: u32) -> Threads {
        let spent = numbers(pid).into_iter();
        Threads { pid, spent: spent.map(|thread| (thread, spent_by(pid, thread))).collect() }
    }

    /// What they have used since. A thread that is new began at nothing; one that ended is not counted.
    pub(super) fn since(&self) -> Spent {
        self.since_where(|_| true)
    }

    /// The same of the threads of these names.
    pub(super) fn since_of(&self, names: &[&str]) -> Spent {
        let name = |thread| fs::read_to_string(format!("/proc/{}/task/{thread}/comm", self.pid));
        self.since_where(|thread| name(thread).is_ok_and(|it| names.contains(&it.trim_end())))
    }

    fn since_where(&self, is_counted: impl Fn(i32) -> bool) -> Spent {
        let mut all = Spent::default();
        let now = Threads::of(self.pid).spent.into_iter();
        for (thread, after) in now.filter(|(thread, _)| is_counted(*thread)) {
            let before = self.spent.get(&thread).copied().unwrap_or_default();
            all.processor_ns += after.processor_ns - before.processor_ns;
            all.wakeups += after.wakeups - before.wakeups;
        }
        all
    }
}

fn numbers(pid: u32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    threads.map(|entry| name(entry).to_str().unwrap().parse().unwrap()).collect()
}

fn spent_by(pid: u32, thread: i32) -> Spent {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let thread = format!("/proc/{pid}/task/{thread}");
    let read = |file: &str| fs::read_to_string(Path::new(&thread).join(file)).unwrap_or_default();
    let status = read("status");
    let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Spent {
        processor_ns: number(read("schedstat").split_whitespace().next()),
        wakeups: number(waits.map(str::trim)),
    }
}

/// Does something while this thread, and a process where one is named, run on one processor.
pub(super) fn on_one<T>(pid: Option<u32>, work: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    let set = |to: &CpuSet| {
        sched_setaffinity(None, to).unwrap();
        for thread in pid.into_iter().flat_map(numbers) {
            // It may just have ended.
            let _ = sched_setaffinity(Pid::from_raw(thread), to);
        }
    };
    set(&one);
    let done = work();
    set(&all);
    done
}
