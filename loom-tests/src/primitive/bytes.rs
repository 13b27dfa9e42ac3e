//! Copies between bytes and words, one word per access, and prefetches. Every stand-in for the
//! facade uses them.

use super::{AtomicU64, Ordering};

pub(crate) const WORD: usize = size_of::<u64>();

pub(crate) fn store_bytes(target: &[AtomicU64], source: &[u8]) {
    for (word, bytes) in target.iter().zip(source.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
    }
}

pub(crate) fn store_nontemporal(target: &[AtomicU64], source: &[u8]) {
    store_bytes(target, source);
}

pub(crate) fn load_bytes(source: &[AtomicU64], target: &mut [u8]) {
    for (bytes, word) in target.chunks_mut(WORD).zip(source) {
        let value = word.load(Ordering::Relaxed).to_ne_bytes();
        bytes.copy_from_slice(&value[..bytes.len()]);
    }
}

pub(crate) fn store_value<T: bytemuck::Pod>(target: &[AtomicU64], value: &T) {
    store_bytes(target, bytemuck::bytes_of(value));
}

pub(crate) fn load_value_into<T: bytemuck::Pod>(source: &[AtomicU64], value: &mut T) {
    load_bytes(source, bytemuck::bytes_of_mut(value));
}

/// A hint, not an access.
pub(crate) fn prefetch_to_read(_: &[AtomicU64], _: usize) {}

pub(crate) fn prefetch_to_write(_: &[AtomicU64], _: usize) {}
