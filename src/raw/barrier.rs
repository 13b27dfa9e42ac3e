//! What: a meeting of so many parties, again and again. Who came and died, or gave up, breaks it for all until it is reset.
//!
//! Bytes: one word, and one for each lane: the generation in which it came last, plus 1.
//!
//! ```text
//!  63         43 42      37  36    35       13 12          0
//! ┌─────────────┬──────────┬──────┬───────────┬─────────────┐
//! │ generation  │ history  │BROKEN│ by: a pid │ came so far │
//! └─────────────┴──────────┴──────┴───────────┴─────────────┘
//! ```
//!
//! Invariants
//! - I1: the word moves by CASes: one more came; the last came, and a generation begins; broken; reset, and a generation begins.
//! - I2: a bit of the history, the youngest lowest, says whether that generation met. So one who slept through the next ones still
//!   learns what became of its own; who slept through more than six is told that they met.
//! - I3: a lane's mark is set before it is counted: a dead lane whose mark is the present generation's has perhaps been counted, and is
//!   missed in any case.
//!
//! Edges
//! - E1: `arrive` (AcqRel CAS) · `outcome` (Acquire), and the next `arrive`: what each did before it came is visible to all after the meeting.
//! - E2: mark, CAS Release, then CAS, Release · `bury`: load word, Acquire, then the mark: who sees a lane counted sees its mark.
//!
//! Crash
//! - (M1) after its mark, before it is counted: repair breaks the meeting, unless others make it without.
//! - (M2) counted: repair breaks it, and the others hear who it was. If the last one comes before anybody asks, they have met with it.
//! - (M3) the last one, after its CAS, before the wake-up: they have met; a sleeper's slice ends, and it looks.
//!
//! Source: the sense-reversing barrier, with a generation for the sense; what breaks it is Python's.

use crate::primitive::Ordering;
use crate::raw::{Corrupt, Memory};

const COUNT: u64 = (1 << 13) - 1;
const BY_SHIFT: u32 = 13;
const BY: u64 = (1 << 23) - 1;
const BROKEN: u64 = 1 << 36;
const HISTORY_SHIFT: u32 = 37;
const HISTORY_BITS: u32 = 6;
const HISTORY: u64 = (1 << HISTORY_BITS) - 1;
const GENERATION_SHIFT: u32 = 43;
const GENERATION: u64 = (1 << (64 - GENERATION_SHIFT)) - 1;

/// Parties that there can be.
pub(crate) const MAX_PARTIES: u64 = COUNT;

/// The word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) came: u64,
    pub(crate) broken_by: Option<u64>,
    history: u64,
    generation: u64,
}

impl State {
    fn from_bits(word: u64) -> Self {
        Self {
            came: word & COUNT,
            broken_by: (word & BROKEN != 0).then_some(word >> BY_SHIFT & BY),
            history: word >> HISTORY_SHIFT & HISTORY,
            generation: word >> GENERATION_SHIFT,
        }
    }

    fn to_bits(self) -> u64 {
        let broken = self.broken_by.map_or(0, |pid| BROKEN | ((pid & BY) << BY_SHIFT));
        (self.came & COUNT) | broken | (self.history << HISTORY_SHIFT) | (self.generation << GENERATION_SHIFT)
    }

    /// The next generation, after this one met or did not.
    fn next(self, met: bool) -> Self {
        Self {
            came: 0,
            broken_by: None,
            history: ((self.history << 1) | u64::from(met)) & HISTORY,
            generation: self.generation.wrapping_add(1) & GENERATION,
        }
    }
}

/// What came of arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The last one: everybody goes on.
    Met,
    /// One of those who wait for that generation.
    Waits {
        generation: u64,
        index: u64,
    },
    Broken {
        by: u64,
    },
}

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Met,
    /// By this process; 0: it was reset.
    Broken {
        by: u64,
    },
}

pub(crate) struct Barrier<M: Memory> {
    word: M::Word,
    marks: M::Words,
    parties: u64,
}

impl<M: Memory> Barrier<M> {
    pub(crate) fn new(word: M::Word, marks: M::Words, parties: u64) -> Self {
        Self { word, marks, parties }
    }

    pub(crate) fn state(&self) -> State {
        State::from_bits(self.load())
    }

    fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire) // E1
    }

    /// `old` as it was loaded: what nobody writes may not be what it is taken for.
    fn replace(&self, old: u64, new: State) -> bool {
        self.word.compare_exchange(old, new.to_bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok() // E1, E2
    }

    /// One more has come.
    pub(crate) fn arrive(&self, lane: usize) -> Result<Arrival, Corrupt> {
        let mark = self.marks.get(lane).ok_or(Corrupt)?;
        loop {
            let marked = mark.load(Ordering::Acquire); // E2
            let word = self.load();
            let state = State::from_bits(word);
            if let Some(by) = state.broken_by {
                return Ok(Arrival::Broken { by });
            }
            if state.came >= self.parties {
                return Err(Corrupt);
            }
            // I3. Another thread of the lane may have marked a later generation meanwhile, which must stand.
            let own = state.generation + 1;
            if mark.compare_exchange(marked, own, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue; // E2
            }
            if state.came + 1 == self.parties {
                if self.replace(word, state.next(true)) {
                    return Ok(Arrival::Met);
                }
            } else if self.replace(word, State { came: state.came + 1, ..state }) {
                return Ok(Arrival::Waits { generation: state.generation, index: state.came });
            }
        }
    }

    /// What became of a generation that somebody waits for.
    pub(crate) fn outcome(&self, generation: u64) -> Outcome {
        let state = self.state();
        match (state.generation.wrapping_sub(generation) & GENERATION, state.broken_by) {
            (0, None) => Outcome::Open,
            (0, Some(by)) => Outcome::Broken { by },
            (past, _) if past <= u64::from(HISTORY_BITS) && state.history >> (past - 1) & 1 == 0 => {
                Outcome::Broken { by: 0 }
            }
            _ => Outcome::Met,
        }
    }

    /// Breaks a generation (none: the present one), unless it is past or broken; whether it did.
    pub(crate) fn abort(&self, generation: Option<u64>, by: u64) -> bool {
        loop {
            let word = self.load();
            let state = State::from_bits(word);
            if state.broken_by.is_some() || generation.is_some_and(|generation| generation != state.generation) {
                return false;
            }
            if self.replace(word, State { broken_by: Some(by), ..state }) {
                return true;
            }
        }
    }

    /// Begins afresh; those who wait hear that it broke.
    pub(crate) fn reset(&self) {
        loop {
            let word = self.load();
            let state = State::from_bits(word);
            let is_fresh = state.came == 0 && state.broken_by.is_none();
            if is_fresh || self.replace(word, state.next(false)) {
                return;
            }
        }
    }

    /// Breaks the present generation if a dead lane came to it; whether it did. The lane's next holder begins without a mark.
    pub(crate) fn bury(&self, lane: usize, pid: u64) -> bool {
        let generation = self.state().generation; // E2
        let Some(mark) = self.marks.get(lane) else { return false };
        let broke = mark.load(Ordering::Acquire) == generation + 1 && self.abort(Some(generation), pid); // E2
        mark.store(0, Ordering::Relaxed); // the lane's next holder sees it through the kernel's lock
        broke
    }

    /// The lanes that came to the present generation.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = usize> {
        let present = self.state().generation + 1;
        let marks = self.marks.iter().enumerate();
        marks.filter(move |(_, mark)| mark.load(Ordering::Relaxed) == present).map(|(lane, _)| lane)
    }
}
