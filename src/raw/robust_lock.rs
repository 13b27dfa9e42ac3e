//! What: a word that one participant owns, or nobody. The next owner learns whether the last one
//! died as the owner. The lock does not wait: see `raw/event_count.rs`.
//!
//! Bytes: one word.
//!
//! ```text
//!  63              18 17       16     15                0
//! ┌──────────────────┬────────┬──────┬───────────────────┐
//! │ 0                │POISONED│ DIED │ participant + 1   │   0 in the lower part: free
//! └──────────────────┴────────┴──────┴───────────────────┘
//! ```
//!
//! Invariants
//! - I1: the word leaves "free" only by a CAS to its new owner. While it is owned, only the owner
//!   writes it, or, once that one is dead, the repairer.
//! - I2: DIED stays until an owner that learned of it, and could repair what the lock guards,
//!   unlocks. If that owner dies, too, the next one learns of it as well.
//! - I3: repairs are serialised, and a participant's index is not reused before they are done. So
//!   the word of a dead participant is nobody else's.
//!
//! Edges
//! - E1: `unlock`: store, Release; `release_dead`: CAS, AcqRel · `try_lock`: CAS, Acquire. What the
//!   last owner wrote is visible to the next.
//!
//! Crash
//! - (K1) before the CAS: nothing happened. After it: `release_dead` frees the word and sets DIED.
//!   So it does for a new caller that only wanted to unlock at once, for the waiters' sake.
//! - (K2) before the store of `unlock`: as an owner. After it, before the wake-up: a sleep times
//!   out, and the sleeper checks.
//! - (K3) repairer, before or after its CAS: the next repairer finds the dead owner, or none.
//!
//! Source: the robust mutex of POSIX. A lock in the kernel, held by each participant, replaces the
//! list of locks that POSIX keeps in the owner's memory, where its peers could write.

use crate::primitive::{Ordering, load_in_order};
use crate::raw::{Corrupt, Memory};

const OWNER: u64 = 0xFFFF;
const DIED: u64 = 1 << 16;
const POISONED: u64 = 1 << 17;

/// What happened to earlier owners.
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

/// What the word of an owner has in its lower part.
#[inline]
fn owned(participant: usize) -> u64 {
    debug_assert!((participant as u64) < OWNER);
    participant as u64 + 1
}

pub(crate) struct RobustLock<M: Memory> {
    word: M::Word,
}

impl<M: Memory> RobustLock<M> {
    pub(crate) fn new(word: M::Word) -> Self {
        Self { word }
    }

    /// Acquires the lock if it is free. Returns what happened to earlier owners.
    #[inline]
    pub(crate) fn try_lock(&self, participant: usize) -> Result<Option<History>, Corrupt> {
        let owned = owned(participant);
        // E1. SeqCst: for reader_counts.rs E1. Relaxed on failure: nothing is taken from there.
        match self.word.compare_exchange(0, owned, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => Ok(Some(History::default())),
            Err(seen) if seen & OWNER != 0 => Ok(None),
            Err(seen) if seen & !(DIED | POISONED) != 0 => Err(Corrupt),
            Err(seen) => {
                // E1, and the same orderings for the same reasons.
                let locked = self.word.compare_exchange(seen, seen | owned, Ordering::SeqCst, Ordering::Relaxed);
                Ok(locked.is_ok().then(|| History::from_bits(seen)))
            }
        }
    }

    /// Unlocks, and leaves the history for the next owner. Returns false, and does nothing, if this
    /// participant is not the owner.
    #[inline]
    pub(crate) fn unlock(&self, participant: usize, history: History) -> bool {
        let is_own = self.owner() == Some(participant);
        if is_own {
            self.word.store(history.to_bits(), Ordering::Release); // E1
        }
        is_own
    }

    #[inline]
    pub(crate) fn owner(&self) -> Option<usize> {
        // Relaxed: to the owner its own store, to others a hint.
        (self.word.load(Ordering::Relaxed) & OWNER).checked_sub(1).map(|participant| participant as usize)
    }

    /// What happened to earlier owners, for an observer.
    pub(crate) fn history(&self) -> History {
        History::from_bits(self.word.load(Ordering::Relaxed)) // an overview
    }

    /// Returns whether the lock is free, nobody died, and it is not poisoned. In one order with the
    /// owner's CAS: either this sees the owner, or the owner sees what was counted before this.
    #[inline]
    pub(crate) fn is_pristine(&self) -> bool {
        load_in_order(&self.word) == 0 // E1 of reader_counts.rs
    }

    /// As the owner, sets the history that the next owner gets.
    pub(crate) fn set_history(&self, participant: usize, history: History) {
        if self.owner() == Some(participant) {
            self.word.store(owned(participant) | history.to_bits(), Ordering::Relaxed); // I1: only the owner writes it
        }
    }

    /// Frees the lock of a dead participant. Returns whether it was the owner.
    pub(crate) fn release_dead(&self, participant: usize) -> bool {
        let seen = self.word.load(Ordering::Relaxed); // the CAS decides
        let is_theirs = seen & OWNER == owned(participant);
        // What the dead one wrote came to us through the kernel's answer about its lock. E1 passes
        // it on. Relaxed on failure: nothing is taken from there.
        is_theirs
            && self.word.compare_exchange(seen, (seen & POISONED) | DIED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
