//! A value of a plain type in a cell of an object, copied in and out.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::latch::Handle;
use crate::raw::cell::{CONTROL, Cell};
use crate::region::Words;
use crate::sync::{AtomicU64, load_bytes, store_bytes};
use crate::table::Buffers;

/// The words of one cell.
pub(crate) struct Kept<T> {
    control: Words,
    buffers: Words,
    shape: Buffers,
    content: PhantomData<fn(T) -> T>,
}

impl<T: Pod> Kept<T> {
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

    #[inline]
    pub(crate) fn cell(&self) -> Result<Cell<'_>, SyncError> {
        let cell = Cell::new(&self.control, &self.buffers, self.shape.stride, self.shape.count as u64);
        cell.ok_or(SyncError::Corrupt)
    }

    /// The last version and its number; `lapped` runs after each attempt that a writer spoiled.
    #[inline]
    pub(crate) fn load(&self, lapped: impl FnMut(u32)) -> Result<(T, u64), SyncError> {
        if size_of::<T>() == 0 {
            return Ok((T::zeroed(), 0));
        }
        Ok(self.cell()?.read(value_in, lapped)?)
    }

    /// For who holds the right to write.
    #[inline]
    pub(crate) fn store(&self, value: &T) -> Result<u64, SyncError> {
        Ok(self.cell()?.write(|words| put_value(words, value)))
    }
}

#[inline]
pub(crate) fn value_in<T: Pod>(words: &[AtomicU64]) -> T {
    let mut value = T::zeroed();
    load_bytes(words, bytemuck::bytes_of_mut(&mut value));
    value
}

#[inline]
pub(crate) fn put_value<T: Pod>(words: &[AtomicU64], value: &T) {
    store_bytes(words, bytemuck::bytes_of(value));
}
