//! What: a ring of fixed-size slots, one value each.
//!
//! Bytes: slot i is at word `i * stride`, where `stride` is the size of a value in words, rounded
//! up. Position p is in slot `p mod capacity`. The capacity is a power of two.
//!
//! Invariants: those of `spsc/mod.rs`, the unit being a slot.
//!
//! Edges: those of `spsc/mod.rs`. Payload words are Relaxed between them.
//!
//! Crash: as in `spsc/mod.rs`. A batch is published by one store: all of it, or nothing.
//!
//! Source: as in `spsc/mod.rs`.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::primitive::{
    AtomicU64, WORD, load_bytes, load_value_into, prefetch_to_read, prefetch_to_write, store_bytes, store_nontemporal,
    store_value,
};
use crate::raw::spsc::{Consumer, Producer};
use crate::raw::{Corrupt, Memory};

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// Through the cache: best if the reader's core is near, or the reader is late.
    Temporal,
    /// Past the cache.
    NonTemporal,
}

pub struct SlotWriter<M: Memory, T> {
    pub(crate) ring: Producer<M>,
    data: M::Words,
    /// How many slots ahead to prefetch.
    slots_ahead: u64,
    values: PhantomData<fn(T)>,
}

pub struct SlotReader<M: Memory, T> {
    pub(crate) ring: Consumer<M>,
    data: M::Words,
    /// How many slots ahead to prefetch.
    slots_ahead: u64,
    values: PhantomData<fn() -> T>,
}

impl<M: Memory, T: Pod> SlotWriter<M, T> {
    /// Pushes a value. Returns false if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, value: &T, kind: StoreKind) -> Result<bool, Corrupt> {
        if self.ring.writable(1)? == 0 {
            return Ok(false);
        }
        let (position, capacity) = (self.ring.position(), self.ring.capacity());
        let slot = slot::<T>(&self.data, position, capacity).ok_or(Corrupt)?;
        if prefetch_distance::<T>().is_some() {
            prefetch_words::<T>(position, capacity, self.ring.cached(), self.slots_ahead)
                .for_each(|word| prefetch_to_write(&self.data, word));
        }
        match kind {
            StoreKind::Temporal => store_value(slot, value),
            StoreKind::NonTemporal => store_nontemporal(slot, bytemuck::bytes_of(value)),
        }
        self.ring.publish(1);
        Ok(true)
    }
}

impl<M: Memory, T: Pod> SlotReader<M, T> {
    /// Pops a value into `value`. Returns false if the ring is empty.
    #[inline]
    pub(crate) fn pop(&mut self, value: &mut T) -> Result<bool, Corrupt> {
        self.pop_if(value, |_| true)
    }

    /// Copies a value into `value`, and pops it if `may_pop` says so. Returns whether it did.
    #[inline(always)]
    pub(crate) fn pop_if(&mut self, value: &mut T, may_pop: impl FnOnce(&T) -> bool) -> Result<bool, Corrupt> {
        if self.ring.readable(1)? == 0 {
            return Ok(false);
        }
        let (position, capacity) = (self.ring.position(), self.ring.capacity());
        let slot = slot::<T>(&self.data, position, capacity).ok_or(Corrupt)?;
        if prefetch_distance::<T>().is_some() {
            prefetch_words::<T>(position, capacity, self.ring.cached(), self.slots_ahead)
                .for_each(|word| prefetch_to_read(&self.data, word));
        }
        load_value_into(slot, value);
        if !may_pop(value) {
            return Ok(false);
        }
        self.ring.release(1);
        Ok(true)
    }
}

/// The number of words that a value takes up in a slot.
pub(crate) const fn stride<T>() -> usize {
    size_of::<T>().div_ceil(WORD)
}

/// The words of a position's slot.
#[inline(always)]
fn slot<T>(data: &[AtomicU64], position: u64, capacity: u64) -> Option<&[AtomicU64]> {
    debug_assert!(capacity.is_power_of_two());
    let start = (position & capacity.wrapping_sub(1)) as usize * stride::<T>();
    data.get(start..start + stride::<T>())
}

/// The number of a position's slot.
#[inline(always)]
fn slot_index(position: u64, capacity: u64) -> u64 {
    debug_assert!(capacity.is_power_of_two());
    position & capacity.wrapping_sub(1)
}

/// The first word and the number of the contiguous slots among `count` from `position` on.
#[inline]
fn contiguous_range<T>(position: u64, capacity: u64, count: u64) -> (usize, u64) {
    debug_assert!(count <= capacity);
    let first = slot_index(position, capacity);
    (first as usize * stride::<T>(), count.min(capacity.wrapping_sub(first)))
}

/// The words and the number of the contiguous slots among `count` from `position` on.
#[inline]
fn contiguous<T>(data: &[AtomicU64], position: u64, capacity: u64, count: u64) -> Option<(&[AtomicU64], u64)> {
    let (start, count) = contiguous_range::<T>(position, capacity, count);
    data.get(start..start + count as usize * stride::<T>()).map(|words| (words, count))
}

/// The processor sees a value of more words as a stream, and prefetches it. Smaller ones need
/// prefetching and pacing.
const PREFETCH_LIMIT: usize = 128;

/// How many slots ahead to prefetch: sixteen cache lines. `None` for the smallest values, of which
/// several share a line, and for the largest.
const fn prefetch_distance<T>() -> Option<u64> {
    match stride::<T>() {
        stride @ 4..=PREFETCH_LIMIT => Some((PREFETCH_LIMIT / stride) as u64),
        _ => None,
    }
}

/// The same for a ring of that capacity. A short ring never has that many slots cached.
fn slots_ahead<T>(capacity: u64) -> u64 {
    prefetch_distance::<T>().filter(|distance| capacity >= 4 * distance.max(&16)).unwrap_or(u64::MAX)
}

/// About one word of each cache line of the slot to prefetch, if that many slots are cached.
#[inline(always)]
fn prefetch_words<T>(position: u64, capacity: u64, cached: u64, slots_ahead: u64) -> impl Iterator<Item = usize> {
    let slot = slot_index(position.wrapping_add(slots_ahead), capacity);
    let first = (slot as usize).wrapping_mul(stride::<T>());
    let words = if cached > slots_ahead { stride::<T>() } else { 0 };
    (0..words).step_by(8).map(move |word| first.wrapping_add(word))
}

/// Stores values into contiguous slots. If there are no gaps between the slots, that is one copy.
#[inline]
fn store_contiguous<T: Pod>(words: &[AtomicU64], values: &[T], kind: StoreKind) {
    if size_of::<T>().is_multiple_of(WORD) {
        let bytes = bytemuck::cast_slice(values);
        match kind {
            StoreKind::Temporal => store_bytes(words, bytes),
            StoreKind::NonTemporal => store_nontemporal(words, bytes),
        }
    } else {
        for (slot, value) in words.chunks_exact(stride::<T>().max(1)).zip(values) {
            store_value(slot, value);
        }
    }
}

#[inline]
fn load_contiguous<T: Pod>(words: &[AtomicU64], values: &mut [T]) {
    if size_of::<T>().is_multiple_of(WORD) {
        load_bytes(words, bytemuck::cast_slice_mut(values));
    } else {
        for (slot, value) in words.chunks_exact(stride::<T>().max(1)).zip(values) {
            load_value_into(slot, value);
        }
    }
}

impl<M: Memory, T: Pod> SlotWriter<M, T> {
    pub(crate) fn new(mut ring: Producer<M>, data: M::Words) -> Self {
        if stride::<T>() <= PREFETCH_LIMIT {
            ring.enable_pacing();
        }
        let slots_ahead = slots_ahead::<T>(ring.capacity());
        Self { ring, data, slots_ahead, values: PhantomData }
    }

    /// The words of the ring, for access in place.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    /// Pushes as many of `values` as fit, published at once. Returns how many.
    #[inline]
    pub(crate) fn push_many(&mut self, values: &[T], kind: StoreKind) -> Result<usize, Corrupt> {
        let count = self.ring.writable(values.len() as u64)?.min(values.len() as u64);
        let (values, _) = values.split_at_checked(count as usize).ok_or(Corrupt)?;
        let mut done = 0;
        while let Some(rest) = values.get(done as usize..).filter(|rest| !rest.is_empty()) {
            let position = self.ring.position().wrapping_add(done);
            let (words, fit) =
                contiguous::<T>(&self.data, position, self.ring.capacity(), rest.len() as u64).ok_or(Corrupt)?;
            let (rest, _) = rest.split_at_checked(fit as usize).ok_or(Corrupt)?;
            store_contiguous(words, rest, kind);
            done += fit;
        }
        if done > 0 {
            self.ring.publish(done);
        }
        Ok(done as usize)
    }

    /// Returns the first word and the number of up to `count` free contiguous slots, to be filled
    /// in place.
    #[inline]
    pub(crate) fn reserve(&mut self, count: u64) -> Result<(usize, u64), Corrupt> {
        let writable = self.ring.writable(count)?.min(count);
        Ok(contiguous_range::<T>(self.ring.position(), self.ring.capacity(), writable))
    }
}

impl<M: Memory, T: Pod> SlotReader<M, T> {
    pub(crate) fn new(mut ring: Consumer<M>, data: M::Words) -> Self {
        if stride::<T>() <= PREFETCH_LIMIT {
            ring.enable_pacing();
        }
        let slots_ahead = slots_ahead::<T>(ring.capacity());
        Self { ring, data, slots_ahead, values: PhantomData }
    }

    /// The words of the ring, for access in place.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    /// Returns whether there is a value. The cheapest check, for polling: it prefetches the value,
    /// so that its line arrives together with the position.
    #[inline(always)]
    pub(crate) fn probe(&mut self) -> bool {
        let slot = slot_index(self.ring.position(), self.ring.capacity());
        prefetch_to_read(&self.data, (slot as usize).wrapping_mul(stride::<T>()));
        self.ring.probe()
    }

    /// Pops as many values as there are and `values` holds. Returns how many.
    #[inline]
    pub(crate) fn pop_many(&mut self, values: &mut [T]) -> Result<usize, Corrupt> {
        let count = self.ring.readable(values.len() as u64)?.min(values.len() as u64);
        let mut done = 0;
        while done < count {
            let position = self.ring.position().wrapping_add(done);
            let (words, fit) =
                contiguous::<T>(&self.data, position, self.ring.capacity(), count - done).ok_or(Corrupt)?;
            load_contiguous(words, values.get_mut(done as usize..(done + fit) as usize).ok_or(Corrupt)?);
            done += fit;
        }
        if done > 0 {
            self.ring.release(done);
        }
        Ok(done as usize)
    }

    /// Returns the first word and the number of up to `count` filled contiguous slots, to be read
    /// in place.
    #[inline]
    pub(crate) fn peek(&mut self, count: u64) -> Result<(usize, u64), Corrupt> {
        let readable = self.ring.readable(count)?.min(count);
        Ok(contiguous_range::<T>(self.ring.position(), self.ring.capacity(), readable))
    }
}
