//! Every system call and every instruction that Rust has no safe word for.
//!
//! The rest of the crate sees small safe functions; nothing in here knows what a region or a ring is.

pub(crate) mod barrier;
pub(crate) mod copy;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod process;

use std::time::{Duration, Instant};

/// When a wait ends; `None` waits for ever.
pub(crate) type Deadline = Option<Instant>;

/// A timeout as a deadline. One that the clock cannot reach (centuries) is no deadline at all.
pub(crate) fn deadline_after(timeout: Duration) -> Deadline {
    Instant::now().checked_add(timeout)
}
