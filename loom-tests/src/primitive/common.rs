//! What both stand-ins share: the methods of an atomic, sleeps without signals, and the kill after a
//! number of accesses.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::{AtomicU32, futex_wait, futex_wait_any, with_budget};

/// The methods of an atomic of values of type `$value`. Each goes through `self.access()`, which
/// counts the access and returns the atomic itself.
macro_rules! atomic_methods {
    ($value:ty) => {
        pub(crate) fn load(&self, ordering: Ordering) -> $value {
            self.access().load(ordering)
        }

        pub(crate) fn store(&self, value: $value, ordering: Ordering) {
            self.access().store(value, ordering);
        }

        pub(crate) fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
            self.access().fetch_add(value, ordering)
        }

        pub(crate) fn fetch_sub(&self, value: $value, ordering: Ordering) -> $value {
            self.access().fetch_sub(value, ordering)
        }

        pub(crate) fn fetch_or(&self, value: $value, ordering: Ordering) -> $value {
            self.access().fetch_or(value, ordering)
        }

        pub(crate) fn fetch_and(&self, value: $value, ordering: Ordering) -> $value {
            self.access().fetch_and(value, ordering)
        }

        pub(crate) fn compare_exchange(
            &self,
            old: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            self.access().compare_exchange(old, new, success, failure)
        }
    };
}

pub(super) use atomic_methods;

/// There are no signals.
pub(crate) fn futex_wait_either(words: [(&AtomicU32, u32); 2], limit: Duration, _: bool) -> bool {
    futex_wait_any(words.into_iter(), limit);
    false
}

/// Likewise.
pub(crate) fn futex_wait_signalled(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    futex_wait(word, expected, limit);
    false
}

/// The payload of the unwinding that stands for a kill.
struct Killed;

/// Counts one shared access. Kills the thread instead if its budget is used up.
pub(super) fn count_access() {
    let is_alive = with_budget(|budget| {
        let remaining = budget.get();
        budget.set(remaining.saturating_sub(usize::from(remaining != usize::MAX)));
        remaining > 0
    });
    if !is_alive {
        resume_unwind(Box::new(Killed));
    }
}

/// Runs `victim`, and kills it when it is about to make one shared access more than `accesses`.
/// Returns whether it finished before that.
pub(crate) fn kill_after(accesses: usize, victim: impl FnOnce()) -> bool {
    with_budget(|budget| budget.set(accesses));
    let outcome = catch_unwind(AssertUnwindSafe(victim));
    with_budget(|budget| budget.set(usize::MAX));
    match outcome {
        Ok(()) => true,
        Err(payload) if payload.is::<Killed>() => false,
        Err(payload) => resume_unwind(payload),
    }
}
