//! A value of a plain type in a cell of an object, copied in and out; and what readers do whom a writer laps.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::object::lock::Handle;
use crate::object::table::Buffers;
use crate::primitive::{AtomicU64, Ordering, WORD, load_value, load_value_into, spin_loop, store_value};
use crate::raw::seqlock::{CONTROL, SeqLock};
use crate::region::words::{Word, Words};

/// The words of one cell.
pub(crate) struct SeqCell<T> {
    control: Words,
    buffers: Words,
    shape: Buffers,
    content: PhantomData<fn(T) -> T>,
}

impl<T: Pod> SeqCell<T> {
    /// The object's cell, with its control words at `control`.
    pub(crate) fn new(handle: &Handle, control: usize) -> Self {
        let shape = handle.plan.buffers(handle.lanes());
        Self {
            control: handle.words(control, CONTROL),
            buffers: handle.words(shape.at, shape.stride * shape.count),
            shape,
            content: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn cell(&self) -> Result<SeqLock<'_>, SyncError> {
        let cell = SeqLock::new(&self.control, &self.buffers, self.shape.stride, self.shape.count as u64);
        cell.ok_or(SyncError::Corrupt)
    }

    /// The last version and its number; `lapped` runs after each attempt that a writer spoiled.
    #[inline(always)]
    pub(crate) fn load(&self, lapped: impl FnMut(u32)) -> Result<(T, u64), SyncError> {
        if size_of::<T>() == 0 {
            return Ok((T::zeroed(), 0));
        }
        Ok(self.cell()?.read(load_value, lapped)?)
    }

    /// As [`load`](Self::load), in place; says the number.
    #[inline]
    pub(crate) fn load_into(&self, value: &mut T, lapped: impl FnMut(u32)) -> Result<u64, SyncError> {
        if size_of::<T>() == 0 {
            return Ok(0);
        }
        let copy = |words: &[AtomicU64]| load_value_into(words, value);
        Ok(self.cell()?.read(copy, lapped)?.1)
    }

    /// For who holds the right to write: nobody but a hostile one spoils the attempt.
    #[inline(always)]
    pub(crate) fn load_held(&self) -> Result<T, SyncError> {
        if size_of::<T>() == 0 {
            return Ok(T::zeroed());
        }
        self.cell()?.try_read(load_value).map(|(value, _)| value).map_err(|_| SyncError::Corrupt)
    }

    /// For who holds the right to write.
    #[inline(always)]
    pub(crate) fn store(&self, value: &T) -> Result<u64, SyncError> {
        Ok(self.cell()?.write(|words| store_value(words, value)))
    }
}

/// A word by which readers ask a writer at full speed for a pause.
pub(crate) struct BackoffRequest(Word);

/// Attempts that a reader makes before it asks.
const LAPS: u32 = 8;

/// Stores between two looks at whether a reader asks.
const COURTESY: u64 = 16;

impl BackoffRequest {
    pub(crate) fn new(word: Word) -> Self {
        Self(word)
    }

    /// A reader was lapped once more.
    #[cold]
    pub(crate) fn lapped(&self, laps: u32) {
        if laps >= LAPS {
            self.0.store(1, Ordering::Relaxed); // a request, not an order
        }
        spin_loop();
    }

    /// A writer has stored that version, of so many bytes.
    #[inline(always)]
    pub(crate) fn heed(&self, version: u64, size: usize) {
        if version.is_multiple_of(COURTESY) && self.0.load(Ordering::Relaxed) != 0 {
            self.pause(size);
        }
    }

    /// As long as a reader needs, be it on a far core. Bounded, whoever asks how often.
    #[cold]
    fn pause(&self, size: usize) {
        self.0.store(0, Ordering::Relaxed);
        for _ in 0..100 + size / WORD {
            spin_loop();
        }
    }
}
