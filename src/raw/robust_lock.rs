//! What: a word that one participant owns, or nobody. The next owner learns whether the last one died in between. It does not wait: that is
//! `raw/event.rs`'s business.
//!
//! Bytes: one word.
//!
//! ```text
//!  63              18 17       16     15            0
//! ┌──────────────────┬────────┬──────┬───────────────┐
//! │ 0                │POISONED│ DIED │ lane + 1      │   0 in the lower quarter: free
//! └──────────────────┴────────┴──────┴───────────────┘
//! ```
//!
//! Invariants
//! - I1: the word leaves "free" by a CAS to its new owner only; while it is owned, only the owner writes it, or, once that one is dead,
//!   who repairs.
//! - I2: DIED stays until an owner who was told of it, and could mend what it guards, unlocks: a death in the middle of mending is told to the next one, too.
//! - I3: repairs are serialised, and a lane has no new holder before they are done: a dead one's word is nobody else's.
//!
//! Edges
//! - E1: `unlock` (Release), `bury` (Release) · `try_lock` (Acquire): what the last owner wrote is visible to the next.
//!
//! Crash
//! - (K1) before the CAS: nothing. After it: `bury` frees the word, DIED; also of a newcomer that would have given it straight back to those
//!   who have waited.
//! - (K2) before the store of `unlock`: as an owner. After it, before the wake-up: a sleeper's slice ends, and it looks.
//! - (K3) repairer, before or after its CAS: the next one finds the dead owner, or that there is none.
//!
//! Source: the robust mutex of POSIX, with the owner's lock in the kernel in place of a list that the owner's peers could write.

use crate::primitive::{Ordering, load_in_order};
use crate::raw::{Corrupt, Memory};

const OWNER: u64 = 0xFFFF;
const DIED: u64 = 1 << 16;
const POISONED: u64 = 1 << 17;

/// What became of earlier owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) died: bool,
    pub(crate) poisoned: bool,
}

impl History {
    fn to_bits(self) -> u64 {
        (if self.died { DIED } else { 0 }) | (if self.poisoned { POISONED } else { 0 })
    }

    fn from_bits(word: u64) -> Self {
        Self { died: word & DIED != 0, poisoned: word & POISONED != 0 }
    }
}

pub(crate) struct RobustLock<M: Memory> {
    word: M::Word,
}

impl<M: Memory> RobustLock<M> {
    pub(crate) fn new(word: M::Word) -> Self {
        Self { word }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self, lane: usize) -> Result<Option<History>, Corrupt> {
        let owned = lane as u64 + 1;
        // E1, here and below; SeqCst for readers.rs E1. Relaxed on failure: nothing is taken from there.
        match self.word.compare_exchange(0, owned, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => Ok(Some(History::default())),
            Err(seen) if seen & OWNER != 0 => Ok(None),
            Err(seen) if seen & !(DIED | POISONED) != 0 => Err(Corrupt),
            Err(seen) => {
                let taken = self.word.compare_exchange(seen, seen | owned, Ordering::SeqCst, Ordering::Relaxed); // E1
                Ok(taken.is_ok().then(|| History::from_bits(seen)))
            }
        }
    }

    /// Gives the lock back, and says what the next owner is to know. False: it was not this one's, and is left alone.
    #[inline]
    pub(crate) fn unlock(&self, lane: usize, past: History) -> bool {
        let is_own = self.owner() == Some(lane);
        if is_own {
            self.word.store(past.to_bits(), Ordering::Release); // E1
        }
        is_own
    }

    /// Who owns it.
    #[inline]
    pub(crate) fn owner(&self) -> Option<usize> {
        // Relaxed: to the owner its own store, to others a hint.
        (self.word.load(Ordering::Relaxed) & OWNER).checked_sub(1).map(|lane| lane as usize)
    }

    /// What became of earlier owners, for those who only look.
    pub(crate) fn past(&self) -> History {
        History::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// Whether nobody owns it and nobody died, in an order with the owner's: either this sees it, or it sees what was counted before this.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        load_in_order(&self.word) == 0
    }

    /// Says ahead, as the owner, what the next owner is to know.
    pub(crate) fn note(&self, lane: usize, past: History) {
        if self.owner() == Some(lane) {
            self.word.store((lane as u64 + 1) | past.to_bits(), Ordering::Relaxed); // I1: only the owner's to write
        }
    }

    /// Takes the lock from a dead lane; whether it had it.
    pub(crate) fn bury(&self, lane: usize) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        let is_theirs = seen & OWNER == lane as u64 + 1;
        // What the dead one wrote came to us through the kernel's answer about its own lock; E1 passes it on.
        is_theirs
            && self.word.compare_exchange(seen, (seen & POISONED) | DIED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
