//! Memory of this process, and the time a thread has had.

#![allow(unsafe_code)] // Only the C library knows what its allocator keeps.

use std::ops::Range;
use std::time::Duration;

/// Gives memory back to the system: what was freed and the allocator keeps for later, and the text of
/// the program. Takes some milliseconds, in which threads that allocate wait.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and the C library locks its own heaps.
    let _ = unsafe { libc::malloc_trim(0) };
    give_back_text();
}

/// Lets go of the program's text and constants, whose pages stay in the system's cache: those that are
/// used again are mapped again then, without a look at the disk.
fn give_back_text() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in text_with(give_back_text as fn() as usize, &maps) {
        // SAFETY: the range is one whole mapping of a file that is never written to, so that what is
        // mapped again is what was there.
        let _ = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(range.start),
                range.len(),
                libc::MADV_DONTNEED,
            )
        };
    }
}

/// The text that holds an address, and the constants that lie before it, in what `/proc/PID/maps` says.
/// What lies behind it may hold what the loader wrote.
fn text_with(address: usize, maps: &str) -> Vec<Range<usize>> {
    let mut before = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some((start, end)) = fields.next().and_then(|it| it.split_once('-')) else { break };
        let hex = |text| usize::from_str_radix(text, 16).unwrap_or_default();
        let range = hex(start)..hex(end);
        let (mode, offset) = (fields.next(), fields.next().map(hex));
        if mode == Some("r-xp") && range.contains(&address) {
            return before.into_iter().chain([range]).collect();
        }
        // The first part of a file has its ELF header, which no loader writes to.
        before = (mode == Some("r--p") && offset == Some(0)).then_some(range);
    }
    Vec::new()
}

/// Keeps all threads on two heaps, where the C library would make one for each: what one call freed in
/// a heap of its own no other call used again, and a page of it that is used in part stays taken. For
/// the first moment of a process.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and sets a number that the C library reads under its own lock.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// How long the calling thread has run on a processor.
#[must_use]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn text_that_was_given_back_is_not_resident_and_runs_all_the_same() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = text_with(give_back_text as fn() as usize, &maps);
        assert_eq!(ranges.len(), 2);
        for text in ranges {
            let resident = || {
                let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
                let (_, ours) = smaps.split_once(&format!("{:x}-", text.start)).unwrap();
                let line = ours.lines().find(|line| line.starts_with("Rss:")).unwrap();
                line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
            };
            let mut all = vec![0; text.len()];
            let memory = fs::File::open("/proc/self/mem").unwrap();
            memory.read_exact_at(&mut all, text.start as u64).unwrap();
            assert!(resident() > text.len() / 4 * 3, "reading it maps it");
            give_back();
            assert!(resident() < text.len() / 2);
        }
    }

    #[test]
    fn only_text_and_constants_are_taken_for_them() {
        let maps = "1000-2000 r--p 00000000 fe:00 7  /bin/d\n2000-9000 r-xp 00001000 fe:00 7  /bin/d\n\
                    9000-a000 r--p 00008000 fe:00 7  /bin/d\na000-b000 r-xp 00009000 fe:00 7  /bin/d\n\
                    f000-ffff rwxp 00000000 00:00 0\n";
        assert_eq!(text_with(0x2fff, maps), [0x1000..0x2000, 0x2000..0x9000]);
        let alone = text_with(0xa000, maps);
        assert_eq!(alone.first(), Some(&(0xa000..0xb000)), "what lies before may be written to");
        assert_eq!(alone.len(), 1);
        for elsewhere in [0x1000, 0x9000, 0xf001, 0] {
            assert!(text_with(elsewhere, maps).is_empty());
        }
        assert!(text_with(1, "nonsense").is_empty());
    }

    #[test]
    fn only_work_takes_time_of_a_thread() {
        let begun = thread_time();
        let mut sum = 0u64;
        while thread_time() < begun + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        let worked = thread_time();
        std::thread::sleep(Duration::from_millis(50));
        assert!(thread_time() < worked + Duration::from_millis(40));
    }
}
