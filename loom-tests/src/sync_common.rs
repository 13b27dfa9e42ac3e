//! What both twins share: copying word by word, and dying on command.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{AtomicU64, O, with_life};

pub(crate) const WORD: usize = size_of::<u64>();

pub(crate) fn store_bytes(target: &[AtomicU64], source: &[u8]) {
    for (word, bytes) in target.iter().zip(source.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(value), O::Relaxed);
    }
}

pub(crate) fn stream_bytes(target: &[AtomicU64], source: &[u8]) {
    store_bytes(target, source);
}

pub(crate) fn load_bytes(source: &[AtomicU64], target: &mut [u8]) {
    for (bytes, word) in target.chunks_mut(WORD).zip(source) {
        let value = word.load(O::Relaxed).to_ne_bytes();
        bytes.copy_from_slice(&value[..bytes.len()]);
    }
}

pub(crate) fn store_value<T: bytemuck::Pod>(target: &[AtomicU64], value: &T) {
    store_bytes(target, bytemuck::bytes_of(value));
}

pub(crate) fn load_value_into<T: bytemuck::Pod>(source: &[AtomicU64], value: &mut T) {
    load_bytes(source, bytemuck::bytes_of_mut(value));
}

/// A hint, and no access.
pub(crate) fn prefetch_to_read(_: &[AtomicU64], _: usize) {}

pub(crate) fn prefetch_to_write(_: &[AtomicU64], _: usize) {}

struct Killed;

/// One shared access. The last one that a victim is allowed is the one before the kill.
pub(super) fn tick() {
    let alive = with_life(|life| {
        let left = life.get();
        life.set(left.saturating_sub(usize::from(left != usize::MAX)));
        left > 0
    });
    if !alive {
        resume_unwind(Box::new(Killed));
    }
}

/// Runs `victim` until it is about to make its access number `accesses`; says whether it got to its end before.
pub(crate) fn crash_after(accesses: usize, victim: impl FnOnce()) -> bool {
    with_life(|life| life.set(accesses));
    let outcome = catch_unwind(AssertUnwindSafe(victim));
    with_life(|life| life.set(usize::MAX));
    match outcome {
        Ok(()) => true,
        Err(payload) if payload.is::<Killed>() => false,
        Err(payload) => resume_unwind(payload),
    }
}
