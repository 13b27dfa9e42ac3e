//! What: counts of readers, beside a [`RobustLock`] for writers. Each participant counts its
//! readers in a place of its own, so that those of a dead one are known and can be released.
//!
//! Bytes: 16 bits for each participant, four participants to a word: how many of its threads read.
//!
//! Invariants
//! - I1: a thread reads only if it was counted and then found the lock pristine, or if it was
//!   counted while it owned the lock or already read.
//! - I2: a writer writes only if it owns the lock and then found every count zero.
//!
//! Edges
//! - E1: reader: count up, then load lock · writer: CAS lock, then load counts. All four are
//!   sequentially consistent, and so in one order. Either the reader's load comes before the CAS,
//!   and the writer sees the count, or the reader sees the writer.
//! - E2: `count_out`, `release_dead`: count down, Release · `is_empty`: load, SeqCst. The readers
//!   are done before the writer begins.
//!
//! Crash
//! - (S1) reader, while counted: `release_dead` takes back its count. It has changed nothing. If it
//!   was counted while it owned the lock, the lock is released as for any dead owner, and the next
//!   owner learns of a death although nothing was written.
//! - (S2) reader, after it was counted out (whether it had read or found a writer), before the
//!   wake-up: the writer's sleep times out, and it checks.
//! - writer: see the lock.
//!
//! Source: the reader indicators of Hsieh and Weihl's big-reader locks, four to a word.

use crate::primitive::{Ordering, load_in_order};
use crate::raw::Memory;
use crate::raw::robust_lock::RobustLock;

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// The participants that share a word.
const PER_WORD: usize = (u64::BITS / COUNT_BITS) as usize;

/// The result of an attempt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TryEnter {
    Entered,
    /// There is a writer.
    Contended,
    /// There is a writer, which may have seen this reader counted: wake it.
    ContendedAndCounted,
}

/// The most readers of a participant. Half of what fits: readers that exceed it are counted, too,
/// for a moment.
pub(crate) const MAX_READERS: u64 = COUNT / 2;

/// The participant has [`MAX_READERS`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyReaders;

pub(crate) struct ReaderCounts<M: Memory> {
    counts: M::Words,
}

/// The position of a participant's count in its word, in bits.
fn shift(participant: usize) -> u32 {
    (participant % PER_WORD) as u32 * COUNT_BITS
}

/// A participant's count, out of its word.
fn count_in_word(word: u64, participant: usize) -> u64 {
    word >> shift(participant) & COUNT
}

impl<M: Memory> ReaderCounts<M> {
    pub(crate) fn new(counts: M::Words) -> Self {
        Self { counts }
    }

    /// The number of words for that many participants.
    pub(crate) fn words(participants: usize) -> usize {
        participants.div_ceil(PER_WORD)
    }

    /// Begins to read, unless a writer owns the lock or died as its owner.
    #[inline]
    pub(crate) fn try_enter(&self, participant: usize, lock: &RobustLock<M>) -> Result<TryEnter, TooManyReaders> {
        // Check first: readers that cannot enter should not make a writer wait.
        if !lock.is_pristine() {
            return Ok(TryEnter::Contended);
        }
        self.count_in(participant)?;
        if lock.is_pristine() {
            return Ok(TryEnter::Entered); // E1
        }
        self.count_out(participant);
        Ok(TryEnter::ContendedAndCounted)
    }

    /// Counts a reader that reads already, or that owns the lock and unlocks it after this.
    #[inline]
    pub(crate) fn count_in(&self, participant: usize) -> Result<(), TooManyReaders> {
        let word = self.counts.get(participant / PER_WORD).ok_or(TooManyReaders)?;
        let before = count_in_word(word.fetch_add(1 << shift(participant), Ordering::SeqCst), participant); // E1
        if before < MAX_READERS {
            return Ok(());
        }
        self.count_out(participant);
        Err(TooManyReaders)
    }

    /// Ends reading. Returns whether no thread of the participant reads any more.
    #[inline]
    pub(crate) fn count_out(&self, participant: usize) -> bool {
        self.counts.get(participant / PER_WORD).is_some_and(|word| {
            count_in_word(word.fetch_sub(1 << shift(participant), Ordering::Release), participant) == 1 // E2
        })
    }

    /// Takes back the counts of a dead participant. Returns whether there were any.
    pub(crate) fn release_dead(&self, participant: usize) -> bool {
        let own = COUNT << shift(participant);
        self.counts.get(participant / PER_WORD).is_some_and(|word| word.fetch_and(!own, Ordering::Release) & own != 0) // E2
    }

    /// Returns whether nobody reads.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|word| load_in_order(word) == 0) // E1, E2
    }

    /// The participants that read.
    pub(crate) fn participants(&self) -> impl Iterator<Item = usize> {
        let words = self.counts.iter().enumerate();
        words.flat_map(|(index, word)| {
            let counts = word.load(Ordering::Relaxed); // an overview, which may be outdated at once
            let sharing = index * PER_WORD..(index + 1) * PER_WORD;
            sharing.filter(move |&participant| count_in_word(counts, participant) != 0)
        })
    }
}
