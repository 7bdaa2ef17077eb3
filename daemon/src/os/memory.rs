//! Memory of this process, and the time a thread has had.

#![allow(unsafe_code)] // Only the C library knows what its allocator keeps.

use std::time::Duration;

/// Gives memory back to the system that was freed and that the allocator keeps for later. Takes some
/// milliseconds, in which threads that allocate wait.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and the C library locks its own heaps.
    let _ = unsafe { libc::malloc_trim(0) };
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
        give_back();
    }
}
