//! What: a number of permits, which anybody may take and anybody may give. Permits belong to nobody, so those of the dead stay taken;
//! where that matters, `raw/pool.rs` counts by owner.
//!
//! Bytes: one word, the permits that can be taken now.
//!
//! Invariants
//! - I1: the word is at most [`MOST`]; it is taken from, and given to, by single CASes.
//!
//! Edges
//! - E1: `release` (Release) · `try_acquire` (Acquire): what was done before a permit was given is visible to who takes it, through whatever
//!   others took and gave in between (they are all CASes).
//!
//! Crash
//! - (N1) before the CAS: nothing happened. After it: it did.
//! - (N2) after giving, before the wake-up: a sleeper's slice ends, and it looks.
//!
//! Source: Dijkstra; sem_overview(7).

use crate::primitive::Ordering;
use crate::raw::{Corrupt, Memory};

/// Permits that there can be.
pub(crate) const MOST: u64 = i32::MAX as u64;

pub(crate) struct Semaphore<M: Memory> {
    word: M::Word,
}

impl<M: Memory> Semaphore<M> {
    pub(crate) fn new(word: M::Word) -> Self {
        Self { word }
    }

    /// Takes so many permits, all or none.
    #[inline]
    pub(crate) fn try_acquire(&self, count: u64) -> Result<bool, Corrupt> {
        let mut seen = self.available()?; // the CAS decides
        while seen >= count {
            match self.word.compare_exchange(seen, seen - count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(true), // E1
                Err(now) => seen = now,
            }
        }
        Ok(false)
    }

    /// Gives so many permits. False: there would be too many.
    #[inline]
    pub(crate) fn release(&self, count: u64) -> Result<bool, Corrupt> {
        let mut seen = self.available()?;
        while count <= MOST.saturating_sub(seen) {
            match self.word.compare_exchange(seen, seen + count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(true), // E1
                Err(now) => seen = now,
            }
        }
        Ok(false)
    }

    #[inline]
    pub(crate) fn available(&self) -> Result<u64, Corrupt> {
        let seen = self.word.load(Ordering::Relaxed);
        if seen <= MOST { Ok(seen) } else { Err(Corrupt) }
    }
}
