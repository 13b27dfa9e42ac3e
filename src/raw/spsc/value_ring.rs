//! What: a ring of fixed-size slots, one value each.
//!
//! Bytes: slot i at word `i * stride`, `stride` = the value's size in words, rounded up; position p is in slot
//! `p mod capacity`, capacity a power of two.
//!
//! Invariants: those of `spsc.rs`, the unit being a slot.
//! Edges: those of `spsc.rs`; payload words are Relaxed between them.
//! Crash: those of `spsc.rs`; a batch is published by one store, so all of it or nothing.
//! Source: as `spsc.rs`.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::primitive::{
    AtomicU64, WORD, load_bytes, load_value_into, prefetch_to_read, prefetch_to_write, store_bytes, store_value,
    stream_bytes,
};
use crate::raw::spsc::{Consumer, Producer};
use crate::raw::{Corrupt, Memory};

/// How a payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// Into the cache: right when the reader is near, or late.
    Temporal,
    /// Past the cache.
    NonTemporal,
}

/// The words that a value takes up in a slot.
pub(crate) const fn stride<T>() -> usize {
    size_of::<T>().div_ceil(WORD)
}

/// The words of up to `count` slots from `position` on, as far as they are contiguous.
#[inline]
fn run<T>(data: &[AtomicU64], position: u64, capacity: u64, count: u64) -> Option<(&[AtomicU64], u64)> {
    debug_assert!(capacity.is_power_of_two());
    let first = position & capacity.wrapping_sub(1);
    let count = count.min(capacity.wrapping_sub(first));
    let start = first as usize * stride::<T>();
    data.get(start..start + count as usize * stride::<T>()).map(|words| (words, count))
}

/// A value of more words is a stream to the processor. Below, lines have to be asked for, and the other side's heels to be kept off.
const STREAM: usize = 128;

/// How many slots further on the one is whose lines are asked for while one is copied: sixteen lines. Of smaller values several
/// come with one line.
const fn distance<T>() -> Option<u64> {
    match stride::<T>() {
        stride @ 4..=STREAM => Some((STREAM / stride) as u64),
        _ => None,
    }
}

/// The same for this ring: in a short one there is nothing ahead, and never so many are known of.
fn ahead<T>(capacity: u64) -> u64 {
    distance::<T>().filter(|distance| capacity >= 4 * distance.max(&16)).unwrap_or(u64::MAX)
}

/// A word of each line, or nearly, of the slot `ahead` of `position`, if so many are known of.
#[inline(always)]
fn lines_ahead<T>(position: u64, capacity: u64, known: u64, ahead: u64) -> impl Iterator<Item = usize> {
    let slot = position.wrapping_add(ahead) & capacity.wrapping_sub(1);
    let first = (slot as usize).wrapping_mul(stride::<T>());
    let words = if distance::<T>().is_some() && known > ahead { stride::<T>() } else { 0 };
    (0..words).step_by(8).map(move |word| first.wrapping_add(word))
}

pub struct SlotWriter<M: Memory, T> {
    pub(crate) ring: Producer<M>,
    data: M::Words,
    ahead: u64,
    values: PhantomData<fn(T)>,
}

impl<M: Memory, T: Pod> SlotWriter<M, T> {
    pub(crate) fn new(mut ring: Producer<M>, data: M::Words) -> Self {
        if stride::<T>() <= STREAM {
            ring.keep_off();
        }
        let ahead = ahead::<T>(ring.capacity());
        Self { ring, data, ahead, values: PhantomData }
    }

    /// The words of the ring, for in-place access.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    /// False: full.
    #[inline]
    pub(crate) fn push(&mut self, value: &T, how: StoreKind) -> Result<bool, Corrupt> {
        if self.ring.room(1)? == 0 {
            return Ok(false);
        }
        let (slot, _) = run::<T>(&self.data, self.ring.position(), self.ring.capacity(), 1).ok_or(Corrupt)?;
        lines_ahead::<T>(self.ring.position(), self.ring.capacity(), self.ring.known(), self.ahead)
            .for_each(|word| prefetch_to_write(&self.data, word));
        match how {
            StoreKind::Temporal => store_value(slot, value),
            StoreKind::NonTemporal => stream_bytes(slot, bytemuck::bytes_of(value)),
        }
        self.ring.publish(1);
        Ok(true)
    }

    /// As many of `values` as there is room for, published at once; says how many.
    #[inline]
    pub(crate) fn push_many(&mut self, values: &[T], how: StoreKind) -> Result<usize, Corrupt> {
        let count = self.ring.room(values.len() as u64)?.min(values.len() as u64);
        let (values, _) = values.split_at_checked(count as usize).ok_or(Corrupt)?;
        let mut done = 0;
        while let Some(rest) = values.get(done as usize..).filter(|rest| !rest.is_empty()) {
            let position = self.ring.position().wrapping_add(done);
            let (words, fit) =
                run::<T>(&self.data, position, self.ring.capacity(), rest.len() as u64).ok_or(Corrupt)?;
            let (rest, _) = rest.split_at_checked(fit as usize).ok_or(Corrupt)?;
            store_run(words, rest, how);
            done += fit;
        }
        if done > 0 {
            self.ring.publish(done);
        }
        Ok(done as usize)
    }

    /// The word range of up to `count` free contiguous slots, to be filled in place.
    #[inline]
    pub(crate) fn reserve(&mut self, count: u64) -> Result<(usize, u64), Corrupt> {
        let room = self.ring.room(count)?.min(count);
        span::<T>(self.ring.position(), self.ring.capacity(), room)
    }
}

/// Without gaps between the slots a run is one copy.
#[inline]
fn store_run<T: Pod>(words: &[AtomicU64], values: &[T], how: StoreKind) {
    if size_of::<T>().is_multiple_of(WORD) {
        let bytes = bytemuck::cast_slice(values);
        match how {
            StoreKind::Temporal => store_bytes(words, bytes),
            StoreKind::NonTemporal => stream_bytes(words, bytes),
        }
    } else {
        for (slot, value) in words.chunks_exact(stride::<T>().max(1)).zip(values) {
            store_value(slot, value);
        }
    }
}

#[inline]
fn load_run<T: Pod>(words: &[AtomicU64], values: &mut [T]) {
    if size_of::<T>().is_multiple_of(WORD) {
        load_bytes(words, bytemuck::cast_slice_mut(values));
    } else {
        for (slot, value) in words.chunks_exact(stride::<T>().max(1)).zip(values) {
            load_value_into(slot, value);
        }
    }
}

/// First word and number of contiguous slots.
#[inline]
fn span<T>(position: u64, capacity: u64, count: u64) -> Result<(usize, u64), Corrupt> {
    let first = position & capacity.wrapping_sub(1);
    Ok((first as usize * stride::<T>(), count.min(capacity.wrapping_sub(first))))
}

pub struct SlotReader<M: Memory, T> {
    pub(crate) ring: Consumer<M>,
    data: M::Words,
    ahead: u64,
    values: PhantomData<fn() -> T>,
}

impl<M: Memory, T: Pod> SlotReader<M, T> {
    pub(crate) fn new(mut ring: Consumer<M>, data: M::Words) -> Self {
        if stride::<T>() <= STREAM {
            ring.keep_off();
        }
        let ahead = ahead::<T>(ring.capacity());
        Self { ring, data, ahead, values: PhantomData }
    }

    /// The words of the ring, for in-place access.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    /// Whether there is a value, by the quickest look, for who polls. Asks for the value's line as well, so that it comes together with the
    /// index.
    #[inline(always)]
    pub(crate) fn glance(&mut self) -> bool {
        let slot = self.ring.position() & self.ring.capacity().wrapping_sub(1);
        prefetch_to_read(&self.data, (slot as usize).wrapping_mul(stride::<T>()));
        self.ring.glance()
    }

    /// Fills in `value`. False: empty.
    #[inline]
    pub(crate) fn pop(&mut self, value: &mut T) -> Result<bool, Corrupt> {
        if self.ring.ready(1)? == 0 {
            return Ok(false);
        }
        let (slot, _) = run::<T>(&self.data, self.ring.position(), self.ring.capacity(), 1).ok_or(Corrupt)?;
        lines_ahead::<T>(self.ring.position(), self.ring.capacity(), self.ring.known(), self.ahead)
            .for_each(|word| prefetch_to_read(&self.data, word));
        load_value_into(slot, value);
        self.ring.release(1);
        Ok(true)
    }

    /// As many as there are and `values` holds; says how many.
    #[inline]
    pub(crate) fn pop_many(&mut self, values: &mut [T]) -> Result<usize, Corrupt> {
        let count = self.ring.ready(values.len() as u64)?.min(values.len() as u64);
        let mut done = 0;
        while done < count {
            let position = self.ring.position().wrapping_add(done);
            let (words, fit) = run::<T>(&self.data, position, self.ring.capacity(), count - done).ok_or(Corrupt)?;
            load_run(words, values.get_mut(done as usize..(done + fit) as usize).ok_or(Corrupt)?);
            done += fit;
        }
        if done > 0 {
            self.ring.release(done);
        }
        Ok(done as usize)
    }

    /// The word range of up to `count` filled contiguous slots, to be read in place.
    #[inline]
    pub(crate) fn peek(&mut self, count: u64) -> Result<(usize, u64), Corrupt> {
        let ready = self.ring.ready(count)?.min(count);
        span::<T>(self.ring.position(), self.ring.capacity(), ready)
    }
}
