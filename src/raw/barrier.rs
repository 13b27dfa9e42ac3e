//! What: a barrier for a fixed number of participants, used again and again. Each round of waiting
//! is a generation. A generation is released when the last participant arrives. If a participant
//! dies or gives up first, the generation breaks, and stays broken until it is reset.
//!
//! Bytes: one state word, and one arrival word for each participant: the last generation in which
//! it arrived, plus 1.
//!
//! ```text
//!  63         43 42      37  36    35       13 12          0
//! ┌─────────────┬──────────┬──────┬───────────┬─────────────┐
//! │ generation  │ history  │BROKEN│ by: a pid │ arrived     │
//! └─────────────┴──────────┴──────┴───────────┴─────────────┘
//! ```
//!
//! Invariants
//! - I1: the state word changes only by CAS. One participant arrives; the last one arrives and the
//!   next generation begins; the generation breaks; or it is reset and the next generation begins.
//! - I2: each bit of the history tells whether a past generation was released, the latest in the
//!   lowest bit. So a waiter that slept through up to six generations still learns the outcome of
//!   its own. A waiter that slept through more still learns that its generation was released.
//! - I3: a participant's arrival word is set before the participant is counted. If it is dead and
//!   its arrival word names the present generation, it may have been counted. Its generation cannot
//!   be released in either case, so it breaks.
//!
//! Edges
//! - E1: `arrive`: CAS state, AcqRel · `outcome`, the next `arrive`: load state, Acquire. What each
//!   participant did before it arrived is visible to all after the release.
//! - E2: `arrive`: CAS arrival word, then CAS state, both AcqRel · `release_dead`: load state,
//!   Acquire, then the arrival word. A thread that sees a participant counted sees its arrival
//!   word.
//!
//! Crash
//! - (M1) after the arrival word, before it is counted: repair breaks the generation, unless others
//!   complete it first.
//! - (M2) after it is counted: repair breaks the generation, and the others learn the pid. If the
//!   last participant arrives before anybody checks, the generation is released.
//! - (M3) the last participant, after its CAS, before it wakes the others: the generation is
//!   released. The sleepers find that when their sleep times out.
//!
//! Source: the sense-reversing barrier, with a generation in place of the sense. Breaking is as in
//! Python's `threading.Barrier`.

use crate::primitive::Ordering;
use crate::raw::{Corrupt, Memory};

const ARRIVED: u64 = (1 << 13) - 1;
const PID_SHIFT: u32 = 13;
const PID: u64 = (1 << 23) - 1;
const BROKEN: u64 = 1 << 36;
const HISTORY_SHIFT: u32 = 37;
const HISTORY_BITS: u32 = 6;
const HISTORY: u64 = (1 << HISTORY_BITS) - 1;
const GENERATION_SHIFT: u32 = 43;
const GENERATION: u64 = (1 << (64 - GENERATION_SHIFT)) - 1;

/// The most participants that a barrier can wait for.
pub(crate) const MAX_PARTIES: u64 = ARRIVED;

/// The decoded state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) arrived: u64,
    pub(crate) broken_by: Option<u64>,
    history: u64,
    generation: u64,
}

impl State {
    fn from_bits(word: u64) -> Self {
        Self {
            arrived: word & ARRIVED,
            broken_by: (word & BROKEN != 0).then_some(word >> PID_SHIFT & PID),
            history: word >> HISTORY_SHIFT & HISTORY,
            generation: word >> GENERATION_SHIFT,
        }
    }

    fn to_bits(self) -> u64 {
        debug_assert!(self.history <= HISTORY && self.generation <= GENERATION);
        let broken = self.broken_by.map_or(0, |pid| BROKEN | ((pid & PID) << PID_SHIFT));
        (self.arrived & ARRIVED) | broken | (self.history << HISTORY_SHIFT) | (self.generation << GENERATION_SHIFT)
    }

    /// The first state of the next generation.
    fn next(self, was_released: bool) -> Self {
        Self {
            arrived: 0,
            broken_by: None,
            history: ((self.history << 1) | u64::from(was_released)) & HISTORY,
            generation: self.generation.wrapping_add(1) & GENERATION,
        }
    }

    /// What an arrival word holds for this generation.
    fn arrival(self) -> u64 {
        self.generation + 1
    }
}

/// The result of arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// This was the last participant: the generation is released.
    Released,
    /// The generation waits for others. `index` participants arrived before this one.
    Waiting {
        generation: u64,
        index: u64,
    },
    Broken {
        by: u64,
    },
}

/// The outcome of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Released,
    /// Broken by the process with this pid, or reset if it is 0.
    Broken {
        by: u64,
    },
}

pub(crate) struct Barrier<M: Memory> {
    word: M::Word,
    arrivals: M::Words,
    parties: u64,
}

impl<M: Memory> Barrier<M> {
    pub(crate) fn new(word: M::Word, arrivals: M::Words, parties: u64) -> Self {
        Self { word, arrivals, parties }
    }

    pub(crate) fn state(&self) -> State {
        State::from_bits(self.load())
    }

    fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire) // E1
    }

    /// Replaces the word `old`, which must be as loaded: a corrupt word need not be what its
    /// decoded state encodes to.
    fn replace(&self, old: u64, new: State) -> bool {
        // Relaxed on failure: the caller loads the word again.
        self.word.compare_exchange(old, new.to_bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok() // E1, E2
    }

    /// Counts one more arrival.
    pub(crate) fn arrive(&self, participant: usize) -> Result<Arrival, Corrupt> {
        let arrival = self.arrivals.get(participant).ok_or(Corrupt)?;
        loop {
            let previous = arrival.load(Ordering::Acquire); // E2
            let word = self.load();
            let state = State::from_bits(word);
            if let Some(by) = state.broken_by {
                return Ok(Arrival::Broken { by });
            }
            if state.arrived >= self.parties {
                return Err(Corrupt);
            }
            let own = state.arrival();
            // I3. Another thread of this participant may have recorded a later generation
            // meanwhile. That must stand. Relaxed on failure: the loop loads the word again.
            if arrival.compare_exchange(previous, own, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue; // E2
            }
            if state.arrived + 1 == self.parties {
                if self.replace(word, state.next(true)) {
                    return Ok(Arrival::Released);
                }
            } else if self.replace(word, State { arrived: state.arrived + 1, ..state }) {
                return Ok(Arrival::Waiting { generation: state.generation, index: state.arrived });
            }
        }
    }

    /// Returns the outcome of a generation that the caller waits for.
    pub(crate) fn outcome(&self, generation: u64) -> Outcome {
        let state = self.state();
        match (state.generation.wrapping_sub(generation) & GENERATION, state.broken_by) {
            (0, None) => Outcome::Open,
            (0, Some(by)) => Outcome::Broken { by },
            (past, _) if past <= u64::from(HISTORY_BITS) && state.history >> (past - 1) & 1 == 0 => {
                Outcome::Broken { by: 0 }
            }
            _ => Outcome::Released,
        }
    }

    /// Breaks a generation, or the present one if `generation` is `None`. Returns whether it did:
    /// a generation that is over or broken stays as it is.
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

    /// Begins the next generation. Those that wait for the present one learn that it broke.
    pub(crate) fn reset(&self) {
        loop {
            let word = self.load();
            let state = State::from_bits(word);
            let is_fresh = state.arrived == 0 && state.broken_by.is_none();
            if is_fresh || self.replace(word, state.next(false)) {
                return;
            }
        }
    }

    /// Breaks the present generation if a dead participant arrived in it, and returns whether it
    /// did. Clears the arrival word for the next process that registers as this participant.
    pub(crate) fn release_dead(&self, participant: usize, pid: u64) -> bool {
        let state = self.state(); // E2
        let Some(arrival) = self.arrivals.get(participant) else { return false };
        let broke = arrival.load(Ordering::Acquire) == state.arrival() && self.abort(Some(state.generation), pid); // E2
        arrival.store(0, Ordering::Relaxed); // the kernel's lock passes it on to the next process
        broke
    }

    /// The participants that arrived in the present generation.
    pub(crate) fn participants(&self) -> impl Iterator<Item = usize> {
        let present = self.state().arrival();
        let arrivals = self.arrivals.iter().enumerate();
        // Relaxed: an overview, which may be outdated at once.
        arrivals.filter(move |(_, arrival)| arrival.load(Ordering::Relaxed) == present).map(|(index, _)| index)
    }
}
