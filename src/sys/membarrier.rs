//! An asymmetric full fence: free for the side that runs often, a system call for the side that is about to sleep.
//!
//! `light()` in one thread and `heavy()` in another order like two `fence(SeqCst)`, once both processes have
//! called [`register`] with success. A process that cannot take part uses real fences itself, and issues no heavy one: it passes over
//! nobody (`raw/mpmc.rs`), and makes those whom it waits for use real ones, too (`raw/event.rs` has the bit for that).

use std::sync::atomic::AtomicU32;
use std::sync::atomic::{Ordering, compiler_fence, fence};

use rustix::thread::{MembarrierCommand, membarrier};

const UNKNOWN: u32 = 0;
const REGISTERED: u32 = 1;
const UNAVAILABLE: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Makes this process take part in other processes' heavy fences; says whether it does.
pub(crate) fn register() -> bool {
    // Relaxed: the state is a cache of the kernel's answer, asking twice is harmless.
    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        let answer = match membarrier(MembarrierCommand::RegisterGlobalExpedited) {
            Ok(()) => REGISTERED,
            Err(_) => UNAVAILABLE,
        };
        STATE.store(answer, Ordering::Relaxed);
    }
    is_registered()
}

/// Whether this process takes part.
#[inline]
pub(crate) fn is_registered() -> bool {
    STATE.load(Ordering::Relaxed) == REGISTERED
}

/// Orders this thread's earlier stores before its later loads, against a [`heavy`] fence elsewhere.
#[inline]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// The other half: makes every running thread of every registered process pass a full fence. False: only this thread did.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    if !is_registered() {
        return false;
    }
    let done = membarrier(MembarrierCommand::GlobalExpedited).is_ok();
    if !done {
        // Lost after registration: a sandbox closed in.
        STATE.store(UNAVAILABLE, Ordering::Relaxed);
    }
    done
}

/// The registration does not survive a fork.
pub(super) fn forget_in_child() {
    STATE.store(UNKNOWN, Ordering::Relaxed);
}
