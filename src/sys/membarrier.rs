//! An asymmetric full fence: free for the side that runs often, and a system call for the side that
//! is about to sleep.
//!
//! `light()` in one thread and `heavy()` in another order like two `fence(SeqCst)`, if both
//! processes have called [`register`] with success. Without membarrier(2) a process uses full
//! fences and never quarantines slots (`raw/mpmc`), and it sets a bit that makes its peers use full
//! fences, too (`raw/event_count.rs`).
//!
//! The kernel does not reach every processor. If a processor becomes idle after this process ran
//! there, and the process registers then, its threads go on there without a mark. Until another
//! process has run there, barriers skip that processor. So a heavy fence also waits until every
//! store that was in a store buffer is visible. See docs/decisions/0023-store-buffers.md.
//!
//! Source: the asymmetric fences of folly. For the wait: Morrison and Afek, Temporally bounding TSO
//! for fence-free asymmetric synchronization (ASPLOS 2015).

use std::hint::spin_loop;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::{Ordering, compiler_fence, fence};

use rustix::thread::{MembarrierCommand, membarrier};

use crate::sys::clock;

const UNKNOWN: u32 = 0;
const REGISTERED: u32 = 1;
const UNAVAILABLE: u32 = 2;

/// How long a store may stay in a store buffer, in nanoseconds. Measured: less than a microsecond,
/// with forty stores to lines that are in no cache before it. On a machine with three busy programs
/// for each core it was once more than five.
const DRAIN_TIME: u64 = 10_000;

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Makes this process take part in other processes' heavy fences. Returns whether it does.
pub(crate) fn register() -> bool {
    // Relaxed: the state is a cache of the kernel's answer. Asking twice is harmless.
    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        let answer = match membarrier(MembarrierCommand::RegisterGlobalExpedited) {
            Ok(()) => REGISTERED,
            Err(_) => UNAVAILABLE,
        };
        STATE.store(answer, Ordering::Relaxed);
    }
    is_registered()
}

/// Returns whether this process takes part.
#[inline]
pub(crate) fn is_registered() -> bool {
    STATE.load(Ordering::Relaxed) == REGISTERED // a cache
}

/// Orders this thread's earlier stores before its later loads, in a pair with a [`heavy`] fence
/// elsewhere.
#[inline]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// The other half: makes every running thread of every registered process execute a full fence.
/// Returns false if the kernel does not do that for this process.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    let start = clock::now();
    let done = barrier();
    wait_for_store_buffers(start);
    done
}

fn barrier() -> bool {
    if !is_registered() {
        return false;
    }
    let done = membarrier(MembarrierCommand::GlobalExpedited).is_ok();
    if !done {
        // Refused after the registration: the process has entered a sandbox. Relaxed: a cache.
        STATE.store(UNAVAILABLE, Ordering::Relaxed);
    }
    done
}

/// Waits until stores that were in any store buffer at `start` are visible.
fn wait_for_store_buffers(start: u64) {
    while clock::now().wrapping_sub(start) < DRAIN_TIME {
        spin_loop();
    }
    fence(Ordering::SeqCst); // before the loads that follow
}

/// What a heavy fence is to a processor that the kernel does not reach.
#[cfg(feature = "__test-hooks")]
pub fn heavy_that_reaches_nobody() {
    fence(Ordering::SeqCst);
    wait_for_store_buffers(clock::now());
}

/// Forgets the registration, which does not survive a fork.
pub(super) fn forget_in_child() {
    // Relaxed: the child has one thread.
    STATE.store(UNKNOWN, Ordering::Relaxed);
}
