//! What: which process owns one side of a ring, over all the processes that ever did. The word says
//! that there was no owner yet, that one is here, or that the last one left cleanly. It never says
//! that one died: an owner is dead if the kernel has freed its lock and the word is still OPEN.
//!
//! Bytes: three words on the owner's cache line of the ring.
//!
//! ```text
//!  word:  63             33             3                  2          1   0
//!        ┌───────────────┬──────────────┬──────────────────┬────────┐
//!        │ deaths        │ epoch        │ PREDECESSOR_DIED │ state  │   0 VACANT  1 OPEN  2 CLOSED
//!        └───────────────┴──────────────┴──────────────────┴────────┘
//!  start: two words. The owner of epoch e began at ring position start[e mod 2].
//! ```
//!
//! Invariants
//! - I1: only the holder of the participant's kernel lock writes the words, so plain stores
//!   suffice.
//! - I2: epoch counts the owners. Deaths counts those whose successor found the word still OPEN.
//!   PREDECESSOR_DIED means that the last death counted was the owner's direct predecessor.
//! - I3: what the owner of epoch e published lies at positions >= its start, and before the start
//!   of its successor.
//! - I4: the start of epoch e is not overwritten before the word holds epoch e + 1.
//!
//! Edges
//! - E1: `acquire`, `close`: store word, Release · `state`: load word, Acquire. A process that
//!   sees the new word sees the start, and everything that a closing owner published before.
//! - E2: `acquire`: store start, Release · `start_position`: load start, fence Acquire, load word
//!   again. A process that reads a start that is newer than its epoch sees that the
//!   epoch has passed.
//!
//! Crash
//! - before the word is stored: there was no owner. The next one stores the same start again.
//! - after `acquire`, before `close`: the word is OPEN and the lock is free. The peer reports
//!   `PeerDied`, and a successor counts the death.
//! - after `close`, before its lock is free: the word is CLOSED, which is an end of stream.
//!
//! Source: our own. Epochs are the usual way to tell a successor from its predecessor.

use crate::primitive::{Ordering, fence};
use crate::raw::Memory;

const STATE: u64 = 0b11;
const PREDECESSOR_DIED: u64 = 0b100;
const EPOCH_SHIFT: u32 = 3;
const DEATHS_SHIFT: u32 = 33;
const COUNT: u64 = (1 << 30) - 1;

const VACANT: u64 = 0;
const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// The owner word, as loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerState(u64);

impl OwnerState {
    /// The state once the next owner has come.
    fn next(self) -> Self {
        let died = u64::from(self.is_open());
        let deaths = self.deaths().wrapping_add(died) & COUNT;
        let epoch = self.epoch().wrapping_add(1) & COUNT;
        Self((deaths << DEATHS_SHIFT) | (epoch << EPOCH_SHIFT) | (died * PREDECESSOR_DIED) | OPEN)
    }

    /// What this state tells of the owner before.
    pub(crate) fn previous(self) -> Self {
        let died = u64::from(self.0 & PREDECESSOR_DIED != 0);
        let deaths = self.deaths().wrapping_sub(died) & COUNT;
        let epoch = self.epoch().wrapping_sub(1) & COUNT;
        Self((deaths << DEATHS_SHIFT) | (epoch << EPOCH_SHIFT))
    }

    /// Returns how many owners came since an earlier state, and how many of their predecessors
    /// died.
    pub(crate) fn changes_since(self, earlier: Self) -> (u64, u64) {
        let difference = |now: u64, then: u64| now.wrapping_sub(then) & COUNT;
        (difference(self.epoch(), earlier.epoch()), difference(self.deaths(), earlier.deaths()))
    }

    pub(crate) fn is_open(self) -> bool {
        self.0 & STATE == OPEN
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & STATE == CLOSED
    }

    /// The number of owners so far, including this one; 0 if there was none.
    pub(crate) fn epoch(self) -> u64 {
        (self.0 >> EPOCH_SHIFT) & COUNT
    }

    /// The number of dead owners that have a successor.
    fn deaths(self) -> u64 {
        (self.0 >> DEATHS_SHIFT) & COUNT
    }
}

pub(crate) struct Owner<M: Memory> {
    word: M::Word,
    start: [M::Word; 2],
}

impl<M: Memory> Owner<M> {
    pub(crate) fn new(word: M::Word, start: [M::Word; 2]) -> Self {
        Self { word, start }
    }

    /// Becomes the owner, from ring position `start` on. The caller holds the participant's lock
    /// (I1).
    pub(crate) fn acquire(&self, start: u64) {
        let next = self.state().next();
        self.start_of(next.epoch()).store(start, Ordering::Release); // E2
        self.word.store(next.0, Ordering::Release); // E1
    }

    /// Leaves, after the last publication.
    pub(crate) fn close(&self) {
        let kept = self.state().0 & !STATE;
        self.word.store(kept | CLOSED, Ordering::Release); // E1
    }

    #[inline]
    pub(crate) fn state(&self) -> OwnerState {
        OwnerState(self.word.load(Ordering::Acquire)) // E1
    }

    /// Returns the owner and the position where it began, or `None` if owners are changing right
    /// now.
    pub(crate) fn start_position(&self) -> Option<(OwnerState, u64)> {
        let state = self.state();
        let start = self.start_of(state.epoch()).load(Ordering::Relaxed); // ordered by the fence
        fence(Ordering::Acquire); // E2
        (self.state() == state).then_some((state, start))
    }

    fn start_of(&self, epoch: u64) -> &M::Word {
        let [even, odd] = &self.start;
        if epoch.is_multiple_of(2) { even } else { odd }
    }
}

const _: () = assert!(VACANT == 0, "a new, zeroed region has no owners");
