//! What: the tail word, and the runs of producers. Every producer belongs to a run. Closing a run
//! keeps its producers from sending; the next producer that joins begins the next run, behind the
//! messages of the last one.
//!
//! ```text
//!        63       62      55 54                                  0
//!       ┌────────┬──────────┬────────────────────────────────────┐
//!       │ CLOSED │ run      │ position                           │
//!       └────────┴──────────┴────────────────────────────────────┘
//! ```
//!
//! Edges: E3 at each load of tail, E8; see `mod.rs`.
//!
//! Crash: steps N1, N2 and X1 of `repair.rs`.

use super::RingWords;
use super::retry::SPIN_LIMIT;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::{Corrupt, Memory};

const CLOSED: u64 = 1 << 63;
const POSITION_BITS: u32 = 55;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// The numbers of runs. One is used again when no producer of its last run is left.
pub(crate) const RUNS: u64 = 1 << (63 - POSITION_BITS);

/// One reading of the tail word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail(u64);

impl Tail {
    #[inline(always)]
    pub(crate) fn load(tail: &AtomicU64) -> Self {
        Self(tail.load(Ordering::Acquire)) // E3, E8
    }

    /// As a hint: it orders nothing.
    #[inline(always)]
    pub(super) fn load_relaxed(tail: &AtomicU64) -> Self {
        // Relaxed: what it leads to is checked again.
        Self(tail.load(Ordering::Relaxed))
    }

    /// The run that is open, or the last one that was.
    pub(crate) fn run(self) -> u64 {
        (self.0 & !CLOSED) >> POSITION_BITS
    }

    /// Whether the last run was closed, and nobody has begun another.
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// The run and whether it is closed, as one number.
    pub(crate) fn phase(self) -> u64 {
        self.0 >> POSITION_BITS
    }

    /// The number of positions given to producers, and the next one to be given.
    #[inline(always)]
    pub(crate) fn position(self) -> u64 {
        self.0 & POSITION_MASK
    }

    fn closed(self) -> Self {
        Self(self.0 | CLOSED)
    }

    /// The same position, in a run that is open.
    fn in_run(self, run: u64) -> Self {
        Self(Run::new(run).word(self.position()))
    }
}

/// A run's number, at its place in the tail word.
#[derive(Clone, Copy)]
pub(super) struct Run(u64);

impl Run {
    pub(super) fn new(run: u64) -> Self {
        Self((run % RUNS) << POSITION_BITS)
    }

    /// The tail word while this run is open and tail is at `position`.
    #[inline(always)]
    pub(super) fn word(self, position: u64) -> u64 {
        self.0 | position
    }

    /// Where tail is, if this run is open. If not, a number that is no position: see
    /// [`Run::is_over`].
    #[inline(always)]
    pub(super) fn position(self, tail: Tail) -> u64 {
        tail.0 ^ self.0
    }

    /// Whether that position shows that the run is closed, or another one is open.
    #[inline(always)]
    pub(super) fn is_over(position: u64) -> bool {
        position >> POSITION_BITS != 0
    }
}

impl<M: Memory> RingWords<M> {
    #[inline(always)]
    pub(crate) fn load_tail(&self) -> Tail {
        Tail::load(&self.tail)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.load_tail().is_closed()
    }

    /// Makes a producer a member of the open run, or of the next one, which it begins. Returns the
    /// run's number, or `None` if all numbers are in use. Nobody else may join meanwhile.
    ///
    /// `next` chooses the number of a new run: one after the last run's that no producer has.
    /// `announce` must tell the others the run's number, and gets to know whether the run is new;
    /// it is called before that run is the producer's, and again if tail changes.
    pub(crate) fn join(
        &self,
        next: impl Fn(u64) -> Option<u64>,
        mut announce: impl FnMut(u64, bool),
    ) -> Result<Option<u64>, Corrupt> {
        for _ in 0..SPIN_LIMIT {
            let tail = self.load_tail();
            let run = if tail.is_closed() { next(tail.run()) } else { Some(tail.run()) };
            let Some(run) = run else { return Ok(None) };
            announce(run, tail.is_closed()); // N1
            let has_joined = if tail.is_closed() {
                self.swap_tail(tail, tail.in_run(run)) // N2
            } else {
                self.load_tail().phase() == tail.phase()
            };
            if has_joined {
                return Ok(Some(run));
            }
        }
        Err(Corrupt)
    }

    /// Closes the open run, or only the one given: its producers get no position from now on.
    /// Returns the position where it ends, or `None` if that run is not open.
    pub(crate) fn close(&self, only: Option<u64>) -> Result<Option<u64>, Corrupt> {
        for _ in 0..SPIN_LIMIT {
            let tail = self.load_tail();
            if tail.is_closed() || only.is_some_and(|run| run != tail.run()) {
                return Ok(None);
            }
            if self.swap_tail(tail, tail.closed()) {
                return Ok(Some(tail.position())); // X1
            }
        }
        Err(Corrupt)
    }

    /// Changes the whole word: see I9.
    fn swap_tail(&self, seen: Tail, new: Tail) -> bool {
        // Acquire, so that E3 reaches through it. Relaxed if it fails: then tail is read again.
        self.tail.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() // E3, E8
    }

    /// Whether `condition` holds, and no position was given to a producer while it was checked.
    pub(crate) fn holds_without_push(&self, condition: impl FnOnce() -> bool) -> bool {
        let before = self.load_tail().position();
        condition() && self.load_tail().position() == before
    }
}
