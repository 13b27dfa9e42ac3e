//! Sleeping on a shared 32-bit word.
//!
//! Never with the private flag: a private futex is keyed by address space, so a wake-up from
//! another process would find no sleeper.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Sleeps while `*word == expected`, for at most `limit`. May wake for no reason: the caller checks
/// again.
///
/// A signal does not prolong the sleep, because the deadline is fixed on entry.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let until = absolute(limit);
    while futex::wait_bitset(word, Flags::empty(), expected, Some(&until), NonZeroU32::MAX) == Err(Errno::INTR) {}
}

/// Wakes up to `count` sleepers. Returns how many it woke.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel reads the count as an int: above i32::MAX it would wake one.
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

fn absolute(limit: Duration) -> Timespec {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_nsec + i64::from(limit.subsec_nanos());
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now.tv_sec.saturating_add(seconds).saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}
