//! Shared memory as words: atomics in a mapping, and a hold on the mapping.
//!
//! Invariants behind the unsafe code
//! - I1: a mapping lives as long as any handle into it. A handle's range was checked against the
//!   mapping's length.
//! - I2: shared bytes are reached through atomics only, or as zero_copy.rs of pipe/, queue/ and
//!   broadcast/ say.
//! - I3: futex words are 32-bit atomics, and never loaded or stored as the 64-bit ones of a `Words`
//!   range. Everything else is 64-bit.

#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::primitive::{AtomicU32, AtomicU64, WORD};
use crate::raw::Memory;
use crate::sys::file::{self, FileId};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::mapping::Mapping;

/// A mapping as words.
pub(super) struct MappingInner {
    pub(super) map: Mapping,
    start: NonNull<AtomicU64>,
    pub(super) id: FileId,
}

// SAFETY: an address and a length; what is behind them is reached through atomics (I2).
unsafe impl Send for MappingInner {}
// SAFETY: as above.
unsafe impl Sync for MappingInner {}

impl MappingInner {
    pub(super) fn new(file: &ForkGuardedFd, length: usize, id: FileId) -> io::Result<Self> {
        // Through a description of its own: a mapping keeps its description open, and any lock
        // taken through it.
        Self::of(Mapping::new(file::reopen(file)?, length)?, id)
    }

    /// For loads only: a store to its words is a fault.
    pub(super) fn read_only(file: &ForkGuardedFd, length: usize, id: FileId) -> io::Result<Self> {
        Self::of(Mapping::read_only(file, length)?, id)
    }

    fn of(map: Mapping, id: FileId) -> io::Result<Self> {
        let start = NonNull::new(map.start().cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { map, start, id })
    }

    /// Where the file is mapped.
    pub(super) fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// A range of the mapping's words.
    ///
    /// # Panics
    ///
    /// If it does not lie in the mapping: every layout is checked before it gets here.
    pub(super) fn words(self: &Arc<Self>, start: usize, length: usize) -> Words {
        let words = self.map.len() / WORD;
        assert!(start <= words && length <= words - start, "I1: {start}+{length}");
        // SAFETY: inside the mapping, as just checked.
        Words { start: unsafe { self.start.add(start) }, length, _mapping: Arc::clone(self) }
    }
}

/// A range of shared words, and a hold on their mapping.
#[derive(Clone)]
pub struct Words {
    start: NonNull<AtomicU64>,
    length: usize,
    _mapping: Arc<MappingInner>,
}

// SAFETY: like `Arc<[AtomicU64]>`, which it stands for.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The address of the first word, for zero_copy.rs of pipe/, queue/ and broadcast/.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: I1, I3; mappings are page-aligned.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

/// One shared word.
#[derive(Clone)]
pub struct Word(pub(super) Words);

impl Deref for Word {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: I1, a range of one.
        unsafe { self.0.start.as_ref() }
    }
}

/// One shared 32-bit word to sleep on.
#[derive(Clone)]
pub struct Futex(pub(super) Words);

impl Deref for Futex {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        // SAFETY: I1, I3, a range of eight bytes.
        unsafe { self.0.start.cast().as_ref() }
    }
}

/// The algorithms' memory, in a mapping.
pub struct Mapped;

impl Memory for Mapped {
    type Word = Word;
    type Words = Words;
    type Futex = Futex;
}
