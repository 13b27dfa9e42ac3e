//! Every system call and every instruction that Rust has no safe word for.
//!
//! The rest of the crate sees small safe functions; nothing in here knows what a region or a ring is.

pub(crate) mod available_memory;
pub(crate) mod copy;
pub(crate) mod file_lock;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod membarrier;
pub(crate) mod memory;
pub(crate) mod process;

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// When a wait ends; `None` waits for ever.
pub(crate) type Deadline = Option<Instant>;

/// Nanoseconds on the clock that only goes forward.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How long this thread has run so far: what others do on the machine does not count.
#[cfg(any(test, fuzzing))]
pub(crate) fn run_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A timeout as a deadline. One that the clock cannot reach (centuries) is no deadline at all.
pub(crate) fn deadline_after(timeout: Duration) -> Deadline {
    Instant::now().checked_add(timeout)
}
