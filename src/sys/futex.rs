//! Sleeping on a shared 32-bit word.
//!
//! Never with the private flag: a private futex is keyed by address space, so a wake-up from
//! another process would find no sleeper.

use std::num::NonZeroU32;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Sleeps while `*word == expected`, for at most `limit`. May wake for no reason: the caller checks
/// again.
///
/// A signal does not prolong the sleep, because the deadline is fixed on entry.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let until = absolute(limit);
    while wait_until(word, expected, &until) == Err(Errno::INTR) {}
}

/// Like [`wait`], but a signal ends the sleep. Returns whether one did.
pub(crate) fn wait_signalled(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    wait_until(word, expected, &absolute(limit)) == Err(Errno::INTR)
}

fn wait_until(word: &AtomicU32, expected: u32, until: &Timespec) -> Result<(), Errno> {
    futex::wait_bitset(word, Flags::empty(), expected, Some(until), NonZeroU32::MAX)
}

/// Sleeps while both words have their expected values, for at most `limit`. May wake for no reason,
/// and a wake-up at the first word may have been spent on it whatever ended it. If `until_signal`,
/// a signal ends the sleep, too. Returns whether one did.
///
/// Where the kernel cannot sleep on two words this sleeps on the first one, and looks at the second
/// after each [`SLICE`]. So it does for a signal: after one whose handler has SA_RESTART the kernel
/// resumes futex_waitv, but no sleep on one word that has a limit.
pub(crate) fn wait_either(words: [(&AtomicU32, u32); 2], limit: Duration, until_signal: bool) -> bool {
    if !until_signal && wait_any(words, limit) != AnyWait::Unsupported {
        return false;
    }
    let [(word, expected), _] = words;
    let until = Instant::now().checked_add(limit);
    loop {
        // Relaxed: the caller looks itself.
        let has_changed = words.iter().any(|(word, expected)| word.load(Ordering::Relaxed) != *expected);
        let rest = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()).min(SLICE));
        if has_changed || rest.is_zero() {
            return false;
        }
        match wait_until(word, expected, &absolute(rest)) {
            Ok(()) => return false,
            Err(Errno::INTR) if until_signal => return true,
            Err(_) => {}
        }
    }
}

/// How long a change of the second word can go unnoticed without futex_waitv.
const SLICE: Duration = Duration::from_millis(1);

/// Wakes up to `count` sleepers. Returns how many it woke.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel reads the count as an int: above i32::MAX it would wake one.
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

/// The most words that [`wait_any`] can sleep on at once: FUTEX_WAITV_MAX.
pub(crate) const MAX_WORDS: usize = 128;

/// How a sleep on several words ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnyWait {
    /// Woken, at the word with this index. A wake-up at another word may have been spent on it,
    /// too.
    Woken(usize),
    /// A word had another value. The kernel looks at one word after the other, so a wake-up at an
    /// earlier word may have been spent on this call.
    Changed,
    TimedOut,
    /// A signal was caught. As for `Changed`, a wake-up may have been spent on it.
    Interrupted,
    /// The kernel has no futex_waitv (before Linux 5.16), or a sandbox refuses it, or there is no
    /// memory for it now.
    Unsupported,
}

/// Sleeps while each word has its expected value, for at most `limit`. May wake for no reason.
///
/// The first [`MAX_WORDS`] words count.
pub(crate) fn wait_any<'a>(words: impl IntoIterator<Item = (&'a AtomicU32, u32)>, limit: Duration) -> AnyWait {
    if !HAS_WAITV.load(Ordering::Relaxed) {
        return AnyWait::Unsupported;
    }
    let mut waits = [Wait::new(); MAX_WORDS];
    let mut count = 0;
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = expected.into();
        wait.uaddr = WaitPtr::new(ptr::from_ref(word).cast_mut().cast());
        wait.flags = WaitFlags::SIZE_U32; // not private
        count += 1;
    }
    let waits = waits.get(..count).unwrap_or_default();
    match futex::waitv(waits, WaitvFlags::empty(), Some(&absolute(limit)), ClockId::Monotonic) {
        Ok(index) => AnyWait::Woken(index),
        Err(Errno::TIMEDOUT) => AnyWait::TimedOut,
        Err(Errno::INTR) => AnyWait::Interrupted,
        Err(Errno::AGAIN) => AnyWait::Changed,
        Err(Errno::NOMEM) => AnyWait::Unsupported,
        // A sandbox chooses its error itself.
        Err(_) => {
            HAS_WAITV.store(false, Ordering::Relaxed);
            AnyWait::Unsupported
        }
    }
}

/// Whether the kernel is worth asking for futex_waitv. Relaxed: nothing is ordered by it.
static HAS_WAITV: AtomicBool = AtomicBool::new(true);

/// For tests: from here on this process behaves as on a kernel without futex_waitv.
#[cfg(feature = "__test-hooks")]
pub fn disable_waitv() {
    HAS_WAITV.store(false, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    fn sleep_on(words: &[AtomicU32], limit: Duration) -> AnyWait {
        wait_any(words.iter().map(|word| (word, 0)), limit)
    }

    #[test]
    fn wait_any_word_differs_returns_at_once() {
        let words = [AtomicU32::new(0), AtomicU32::new(1)];
        assert!(matches!(sleep_on(&words, LONG), AnyWait::Changed | AnyWait::Unsupported));
    }

    #[test]
    fn wait_any_nobody_wakes_times_out() {
        let words = [const { AtomicU32::new(0) }; MAX_WORDS];
        let ended = sleep_on(&words, Duration::from_millis(1));
        assert!(matches!(ended, AnyWait::TimedOut | AnyWait::Unsupported), "{ended:?}");
    }

    #[test]
    fn wait_any_one_is_woken_returns_its_index() {
        let words = [const { AtomicU32::new(0) }; 3];
        if sleep_on(&words, Duration::ZERO) == AnyWait::Unsupported {
            println!("SKIPPED: no futex_waitv here");
            return;
        }
        let done = AtomicU32::new(0);
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    wake(&words[2], 1);
                }
            });
            let ended = sleep_on(&words, LONG);
            done.store(1, Ordering::Relaxed);
            ended
        });
        assert_eq!(ended, AnyWait::Woken(2));
    }
}
