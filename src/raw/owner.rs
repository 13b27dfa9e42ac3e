//! What: who plays one side of a ring, over the generations of processes that do: never anybody, one that is
//! here, one that has left cleanly. That one died is never written: it is the kernel's word (a free lock) against
//! this one (still OPEN).
//!
//! Bytes: three words on the owner's line of the ring.
//!
//! ```text
//!  word: 63             33             3      2          1   0
//!       ┌───────────────┬──────────────┬─────────────┬────────┐
//!       │ deaths        │ epoch        │ AFTER_DEATH │ state  │   state: 0 VACANT  1 OPEN  2 CLOSED
//!       └───────────────┴──────────────┴─────────────┴────────┘
//!  from: two words; that of epoch e is from[e mod 2], the owner's ring position when it came
//! ```
//!
//! Invariants
//! - I1: only the holder of the seat's kernel lock writes the words, so plain stores do.
//! - I2: epoch counts those who came, deaths counts those of them whose successor found them not closed;
//!   AFTER_DEATH: the last one counted was the owner's own predecessor.
//! - I3: what the owner of epoch e published lies at positions >= its `from`, and before its successor's.
//! - I4: `from` of epoch e is not touched again before epoch e + 1 is in the word.
//!
//! Edges
//! - E1: `take`/`close` store the word (Release) · `view` loads it (Acquire): `from` and everything that a closing
//!   owner published before are visible to whoever sees the new word.
//! - E2: `take` stores `from` (Release) · `origin` loads it, fence (Acquire), loads the word again: who reads a `from`
//!   that is newer than its epoch sees that the epoch has passed.
//!
//! Crash
//! - dies before the word is stored: nobody came. The next one writes the same `from` again.
//! - dies after `take`, before `close`: OPEN with a free lock: the peer reports `PeerDied`, a successor counts the death.
//! - dies after `close`, before its lock is gone: CLOSED counts, it is an end of stream.
//!
//! Source: our own; epochs are the usual guard against mistaking a successor for its predecessor.

use crate::primitive::{Ordering, fence};
use crate::raw::Memory;

const STATE: u64 = 0b11;
const AFTER_DEATH: u64 = 0b100;
const EPOCH_SHIFT: u32 = 3;
const DEATHS_SHIFT: u32 = 33;
const COUNT: u64 = (1 << 30) - 1;

const VACANT: u64 = 0;
const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// One reading of the role word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View(u64);

impl View {
    /// The owner who comes after this view.
    fn next(self) -> Self {
        let died = u64::from(self.is_open());
        let deaths = self.deaths().wrapping_add(died) & COUNT;
        let epoch = self.epoch().wrapping_add(1) & COUNT;
        Self((deaths << DEATHS_SHIFT) | (epoch << EPOCH_SHIFT) | (died * AFTER_DEATH) | OPEN)
    }

    /// What can be told of the owner before this one.
    pub(crate) fn previous(self) -> Self {
        let died = u64::from(self.0 & AFTER_DEATH != 0);
        let deaths = self.deaths().wrapping_sub(died) & COUNT;
        let epoch = self.epoch().wrapping_sub(1) & COUNT;
        Self((deaths << DEATHS_SHIFT) | (epoch << EPOCH_SHIFT))
    }

    /// How many came, and how many of those that are over died, between an earlier view and this one.
    pub(crate) fn since(self, earlier: Self) -> (u64, u64) {
        let difference = |now: u64, then: u64| now.wrapping_sub(then) & COUNT;
        (difference(self.epoch(), earlier.epoch()), difference(self.deaths(), earlier.deaths()))
    }

    pub(crate) fn is_open(self) -> bool {
        self.0 & STATE == OPEN
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & STATE == CLOSED
    }

    /// 0: nobody has ever come.
    pub(crate) fn epoch(self) -> u64 {
        (self.0 >> EPOCH_SHIFT) & COUNT
    }

    /// How many have died here and were succeeded.
    fn deaths(self) -> u64 {
        (self.0 >> DEATHS_SHIFT) & COUNT
    }
}

pub(crate) struct Owner<M: Memory> {
    word: M::Word,
    from: [M::Word; 2],
}

impl<M: Memory> Owner<M> {
    pub(crate) fn new(word: M::Word, from: [M::Word; 2]) -> Self {
        Self { word, from }
    }

    /// Becomes the owner, at ring position `from`. The caller holds the seat's lock (I1).
    pub(crate) fn take(&self, from: u64) {
        let next = self.view().next();
        self.origin_of(next.epoch()).store(from, Ordering::Release); // E2
        self.word.store(next.0, Ordering::Release); // E1
    }

    /// Leaves, after the last publication.
    pub(crate) fn close(&self) {
        let kept = self.view().0 & !STATE;
        self.word.store(kept | CLOSED, Ordering::Release); // E1
    }

    #[inline]
    pub(crate) fn view(&self) -> View {
        View(self.word.load(Ordering::Acquire)) // E1
    }

    /// The owner and where it began; none if owners are changing right now.
    pub(crate) fn origin(&self) -> Option<(View, u64)> {
        let view = self.view();
        let from = self.origin_of(view.epoch()).load(Ordering::Relaxed);
        fence(Ordering::Acquire); // E2
        (self.view() == view).then_some((view, from))
    }

    fn origin_of(&self, epoch: u64) -> &M::Word {
        let [even, odd] = &self.from;
        if epoch.is_multiple_of(2) { even } else { odd }
    }
}

const _: () = assert!(VACANT == 0, "a fresh, zeroed region has no owners");
