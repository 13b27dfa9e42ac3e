//! The facade: the only place from which the algorithms get atomics, fences, sleeping and copying.
//!
//! The loom models compile `raw/` against a twin of this file, so what is not named here cannot be used there.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A load that stands in the one order of all sequentially consistent operations.
///
/// loom knows no such order of accesses, but of fences: the models' twin of this has one before the load. After a read-modify-write
/// of this order that is the same.
#[inline]
pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

pub(crate) use crate::sys::copy::{
    SHORT, WORD, load_bytes, load_short, load_value, load_value_into, prefetch_to_read, prefetch_to_write, store_bytes,
    store_short, store_value, stream_bytes,
};
pub(crate) use crate::sys::futex::{wait as futex_wait, wake as futex_wake};
pub(crate) use crate::sys::membarrier::{heavy as heavy_fence, is_registered as has_light_fence, light as light_fence};
