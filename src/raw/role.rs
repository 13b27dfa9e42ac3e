//! What: who plays one side of a ring, over the generations of processes that do: never anybody, one that is
//! here, one that has left cleanly. That one died is never written: it is the kernel's word (a free lock) against
//! this one (still OPEN).
//!
//! Bytes: two words on the owner's line of the ring.
//!
//! ```text
//!  word: 63                          3      2          1   0
//!       ┌─────────────────────────────┬──────────────┬───────┐
//!       │ epoch: how many have come   │ AFTER_DEATH  │ state │   state: 0 VACANT  1 OPEN  2 CLOSED
//!       └─────────────────────────────┴──────────────┴───────┘
//!  from: the owner's ring position when it came
//! ```
//!
//! Invariants
//! - I1: only the holder of the seat's kernel lock writes the two words, so plain stores do.
//! - I2: epoch grows by one with every taking; AFTER_DEATH says that the predecessor had not closed.
//! - I3: what the owner of epoch e published lies at positions >= its `from`.
//!
//! Edges
//! - E1: `take`/`close` store the word (Release) · `view` loads it (Acquire): `from` and everything that a closing
//!   owner published before are visible to whoever sees the new word.
//!
//! Crash
//! - dies before the word is stored: nobody came; `from` alone means nothing.
//! - dies after `take`, before `close`: OPEN with a free lock: the peer reports `PeerDied`, a successor sets AFTER_DEATH.
//! - dies after `close`, before its lock is gone: CLOSED counts, it is an end of stream.
//!
//! Source: our own; the epoch is the usual guard against mistaking a successor for its predecessor.

use crate::raw::Memory;
use crate::sync::Ordering;

const STATE: u64 = 0b011;
const AFTER_DEATH: u64 = 0b100;
const EPOCH_SHIFT: u32 = 3;

const VACANT: u64 = 0;
const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// One reading of the role word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View(u64);

impl View {
    pub(crate) fn is_open(self) -> bool {
        self.0 & STATE == OPEN
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & STATE == CLOSED
    }

    /// The predecessor of this owner had not closed when this one came.
    pub(crate) fn came_after_death(self) -> bool {
        self.0 & AFTER_DEATH != 0
    }

    pub(crate) fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }
}

pub(crate) struct Role<M: Memory> {
    word: M::Word,
    from: M::Word,
}

impl<M: Memory> Role<M> {
    pub(crate) fn new(word: M::Word, from: M::Word) -> Self {
        Self { word, from }
    }

    /// Becomes the owner, at ring position `from`. The caller holds the seat's lock (I1).
    pub(crate) fn take(&self, from: u64) {
        let before = self.view();
        let after_death = if before.is_open() { AFTER_DEATH } else { 0 };
        let epoch = before.epoch().wrapping_add(1) << EPOCH_SHIFT;
        self.from.store(from, Ordering::Relaxed); // ordered by the next store
        self.word.store(epoch | after_death | OPEN, Ordering::Release); // E1
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

    /// Where the owner of the last seen view began; meaningful only after [`view`](Self::view).
    pub(crate) fn from(&self) -> u64 {
        self.from.load(Ordering::Relaxed) // ordered by E1
    }
}

const _: () = assert!(VACANT == 0, "a fresh, zeroed region has no owners");
