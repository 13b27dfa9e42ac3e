//! What: who reads, beside a [`Lock`] of who writes. Each reading participant has a bit, so a dead reader is known, and
//! let go.
//!
//! Bytes: one bit for each lane, in words of 64.
//!
//! Invariants
//! - I1: a participant reads only while its bit is set and it has, after setting it, found the lock quiet.
//! - I2: a writer writes only while it owns the lock and has, after taking it, found every bit clear.
//!
//! Edges
//! - E1: reader: set bit, then look at the lock · writer: take the lock, then look at the bits. All but the last are read-modify-writes, of
//!   which those of the lock stand in one order: the reader's comes first, and the writer sees its bit, or it finds the writer.
//! - E2: `leave`: clear bit, Release · `is_empty`: load bits, Acquire: the readers are done before the writer begins.
//!
//! Crash
//! - (S1) reader, with its bit set: `leave` on its behalf; it has changed nothing.
//! - (S2) reader, after clearing it, before the wake-up: the writer's slice ends, and it looks.
//! - writer: as the lock's.
//!
//! Source: the reader indicators of Hsieh and Weihl's big-reader locks, as a bit set.

use crate::raw::Memory;
use crate::raw::lock::Lock;
use crate::sync::Ordering;

/// Lanes in a word.
const LANES: usize = 64;

pub(crate) struct Readers<M: Memory> {
    bits: M::Words,
}

impl<M: Memory> Readers<M> {
    pub(crate) fn new(bits: M::Words) -> Self {
        Self { bits }
    }

    /// Words for so many lanes.
    pub(crate) fn words(lanes: usize) -> usize {
        lanes.div_ceil(LANES)
    }

    /// Begins to read, unless somebody writes, wants to, or died doing so.
    #[inline]
    pub(crate) fn try_enter(&self, lane: usize, lock: &Lock<M>) -> bool {
        self.mark(lane);
        let entered = lock.is_quiet(); // E1
        if !entered {
            self.leave(lane);
        }
        entered
    }

    /// Begins to read, as the owner of the lock, which is to be given back after this.
    #[inline]
    pub(crate) fn mark(&self, lane: usize) {
        if let Some(word) = self.bits.get(lane / LANES) {
            word.fetch_or(1 << (lane % LANES), Ordering::AcqRel); // E1
        }
    }

    /// Reads no more; whether it was reading.
    #[inline]
    pub(crate) fn leave(&self, lane: usize) -> bool {
        let bit = 1 << (lane % LANES);
        self.bits.get(lane / LANES).is_some_and(|word| word.fetch_and(!bit, Ordering::Release) & bit != 0) // E2
    }

    /// Whether nobody reads.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| word.load(Ordering::Acquire) == 0) // E1, E2
    }

    /// Who reads.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = usize> {
        let words = self.bits.iter().enumerate();
        words.flat_map(|(index, word)| {
            let bits = word.load(Ordering::Relaxed); // to look at only
            (0..LANES).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| index * LANES + bit)
        })
    }
}
