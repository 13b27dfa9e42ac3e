//! The facade: the algorithms get their atomics, fences, sleeping and copying from here only.
//!
//! `loom-tests` and `schedule-tests` compile `raw/` against stand-ins for this file, so the
//! algorithms can use only what is named here.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use std::time::Duration;

use crate::sys::futex::{AnyWait, wait_any};

/// A load in the single order of all sequentially consistent operations.
///
/// loom knows no such order of accesses, but one of fences, so its stand-in for this puts a fence
/// before the load. After a sequentially consistent read-modify-write that is equivalent.
#[inline]
pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

pub(crate) use crate::sys::copy::{
    REGISTER_COPY_MAX, WORD, load_bytes, load_short, load_value_into, prefetch_to_read, prefetch_to_write, store_bytes,
    store_nontemporal, store_short, store_value,
};
pub(crate) use crate::sys::futex::{
    wait as futex_wait, wait_either as futex_wait_either, wait_signalled as futex_wait_signalled, wake as futex_wake,
};

/// Sleeps while each of several words has its expected value, for at most `limit`. Returns false if
/// the system cannot do that.
pub(crate) fn futex_wait_any<'a>(words: impl Iterator<Item = (&'a AtomicU32, u32)>, limit: Duration) -> bool {
    wait_any(words, limit) != AnyWait::Unsupported
}

pub(crate) use crate::sys::membarrier::{heavy as heavy_fence, is_registered as has_light_fence, light as light_fence};
