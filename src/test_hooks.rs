//! Counters and switches for this crate's own tests.

pub use crate::sys::membarrier::heavy_that_reaches_nobody;
#[cfg(feature = "process")]
pub use crate::sys::program::pretend_build;
pub use crate::wait::{disable_futex_waitv, disable_liveness_interval};

/// What this thread has spent so far on liveness checks: requests to the kernel about locks, and
/// shared words scanned. Tests of lateness count these instead of measuring time.
pub fn liveness_effort() -> (u64, u64) {
    (crate::sys::file_lock::CALLS.get(), crate::region::repair::SCANNED.get())
}
