//! What: a number of permits. Anybody can acquire and anybody can release. Permits have no owner,
//! so those of a dead process stay acquired. Where that matters, `raw/pool.rs` counts by owner.
//!
//! Bytes: one word, the permits that are available.
//!
//! Invariants
//! - I1: the word is at most [`MAX_PERMITS`], and changes by single CASes.
//!
//! Edges
//! - E1: `release`: CAS, AcqRel · `try_acquire`: CAS, AcqRel. What was done before a permit was
//!   released is visible to the one that acquires it, through whatever others acquired and released
//!   in between (they are all CASes).
//!
//! Crash
//! - (N1) before the CAS: nothing happened. After it: all of it did.
//! - (N2) after releasing, before the wake-up: a sleep times out, and the sleeper checks.
//!
//! Source: Dijkstra; sem_overview(7).

use crate::primitive::Ordering;
use crate::raw::{Corrupt, Memory};

/// The most permits that a semaphore can have.
pub(crate) const MAX_PERMITS: u64 = i32::MAX as u64;

pub(crate) struct Semaphore<M: Memory> {
    word: M::Word,
}

impl<M: Memory> Semaphore<M> {
    pub(crate) fn new(word: M::Word) -> Self {
        Self { word }
    }

    /// Acquires `count` permits, all or none.
    #[inline]
    pub(crate) fn try_acquire(&self, count: u64) -> Result<bool, Corrupt> {
        let mut seen = self.available()?;
        while seen >= count {
            // Relaxed on failure: the next CAS decides.
            match self.word.compare_exchange(seen, seen - count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(true), // E1
                Err(now) => seen = now,
            }
        }
        Ok(false)
    }

    /// Releases `count` permits. Returns false, and does nothing, if there would be too many.
    #[inline]
    pub(crate) fn release(&self, count: u64) -> Result<bool, Corrupt> {
        let mut seen = self.available()?;
        while count <= MAX_PERMITS.saturating_sub(seen) {
            // Relaxed on failure: the next CAS decides.
            match self.word.compare_exchange(seen, seen + count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(true), // E1
                Err(now) => seen = now,
            }
        }
        Ok(false)
    }

    #[inline]
    pub(crate) fn available(&self) -> Result<u64, Corrupt> {
        let seen = self.word.load(Ordering::Relaxed); // a CAS decides
        if seen <= MAX_PERMITS { Ok(seen) } else { Err(Corrupt) }
    }
}
