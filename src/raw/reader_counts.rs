//! What: who reads, beside a [`RobustLock`] of who writes. Each participant counts its readers in a place of its own, so those of a dead one
//! are known, and let go.
//!
//! Bytes: 16 bits for each lane, four lanes to a word: how often the lane's threads read.
//!
//! Invariants
//! - I1: a thread reads only while it is counted and has, after being counted, found the lock quiet; or was counted by its own hand
//!   while it had the lock, or while it read already.
//! - I2: a writer writes only while it owns the lock and has, after taking it, found every count zero.
//!
//! Edges
//! - E1: reader: count up, then look at the lock · writer: take the lock, then look at the counts. All four are sequentially consistent, and
//!   so in one order: the reader's look comes before the taking, and then the writer sees the count; or it finds the writer.
//! - E2: `leave`: count down, Release · `is_empty`: load, SeqCst: the readers are done before the writer begins.
//!
//! Crash
//! - (S1) reader, while counted: `clear` on its behalf; it has changed nothing. If it also had the lock, to be counted by its own hand,
//!   the lock buries it as any owner, and the next one is told of a death, though nothing was written.
//! - (S2) reader, after it was counted down, whether it had read or been refused, before the wake-up: the writer's slice ends, and it looks.
//! - writer: as the lock's.
//!
//! Source: the reader indicators of Hsieh and Weihl's big-reader locks, four to a word.

use crate::primitive::{Ordering, load_in_order};
use crate::raw::Memory;
use crate::raw::robust_lock::RobustLock;

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// Lanes in a word.
const LANES: usize = (u64::BITS / COUNT_BITS) as usize;

/// What came of trying to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Entered,
    Refused,
    /// Refused, but a writer may have seen it counted, and is to be woken.
    Withdrawn,
}

/// Readers that a lane can have. Far from what there is room for: those who find it exceeded have been counted for a moment, too.
pub(crate) const MAX_READERS: u64 = COUNT / 2;

/// A lane has as many readers as it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyReaders;

pub(crate) struct ReaderCounts<M: Memory> {
    counts: M::Words,
}

/// Where in its word a lane counts.
fn shift(lane: usize) -> u32 {
    (lane % LANES) as u32 * COUNT_BITS
}

impl<M: Memory> ReaderCounts<M> {
    pub(crate) fn new(counts: M::Words) -> Self {
        Self { counts }
    }

    /// Words for so many lanes.
    pub(crate) fn words(lanes: usize) -> usize {
        lanes.div_ceil(LANES)
    }

    /// Begins to read, unless somebody writes, wants to, or died doing so.
    #[inline]
    pub(crate) fn try_enter(&self, lane: usize, lock: &RobustLock<M>) -> Result<Entry, TooManyReaders> {
        // A look first: a writer is not to find all those counted who are refused.
        if !lock.is_quiet() {
            return Ok(Entry::Refused);
        }
        self.mark(lane)?;
        if lock.is_quiet() {
            return Ok(Entry::Entered); // E1
        }
        self.leave(lane);
        Ok(Entry::Withdrawn)
    }

    /// Begins to read, as one who reads already, or as the owner of the lock, which is to be given back after this.
    #[inline]
    pub(crate) fn mark(&self, lane: usize) -> Result<(), TooManyReaders> {
        let word = self.counts.get(lane / LANES).ok_or(TooManyReaders)?;
        let before = word.fetch_add(1 << shift(lane), Ordering::SeqCst) >> shift(lane) & COUNT; // E1
        if before < MAX_READERS {
            return Ok(());
        }
        self.leave(lane);
        Err(TooManyReaders)
    }

    /// Reads no more; whether nobody of its lane does.
    #[inline]
    pub(crate) fn leave(&self, lane: usize) -> bool {
        self.counts.get(lane / LANES).is_some_and(|word| {
            word.fetch_sub(1 << shift(lane), Ordering::Release) >> shift(lane) & COUNT == 1 // E2
        })
    }

    /// Lets go of all readers of a dead lane; whether there were any.
    pub(crate) fn clear(&self, lane: usize) -> bool {
        let own = COUNT << shift(lane);
        self.counts.get(lane / LANES).is_some_and(|word| word.fetch_and(!own, Ordering::Release) & own != 0) // E2
    }

    /// Whether nobody reads.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|word| load_in_order(word) == 0) // E1, E2
    }

    /// Who reads.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = usize> {
        let words = self.counts.iter().enumerate();
        words.flat_map(|(index, word)| {
            let counts = word.load(Ordering::Relaxed); // to look at only
            (index * LANES..(index + 1) * LANES).filter(move |&lane| counts >> shift(lane) & COUNT != 0)
        })
    }
}
