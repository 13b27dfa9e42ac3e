//! Shared memory on the heap, for algorithms of `raw/` that are driven without a region.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::primitive::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::raw::Memory;

/// Where the words of a ring are in [`Cells`]: its control block, then its data.
pub(super) const TAIL: usize = 0;
pub(super) const HEAD: usize = 1;
pub(super) const OWNER: usize = 2;
pub(super) const START: usize = 3;
pub(super) const DATA: usize = 5;

/// Shared memory on the heap.
pub(super) struct Heap;

impl Memory for Heap {
    type Word = Word;
    type Words = Words;
    type Futex = Arc<AtomicU32>;
}

/// Words on the heap, those of the control block before the data. One of them can be made to change
/// between two accesses, as a peer that runs at the same time would change it.
pub(super) struct Cells {
    pub(super) words: Vec<AtomicU64>,
    planned: Mutex<Option<PlannedWrite>>,
}

struct PlannedWrite {
    /// The accesses that come before it.
    delay: u8,
    index: usize,
    value: u64,
}

impl Cells {
    pub(super) fn new(words: usize) -> Arc<Self> {
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words, planned: Mutex::new(None) })
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.words[index].load(Relaxed)
    }

    pub(super) fn store(&self, index: usize, value: u64) {
        self.words[index].store(value, Relaxed);
    }

    /// Stores `value` after `delay` more accesses.
    pub(super) fn plan_store(&self, delay: u8, index: usize, value: u64) {
        let planned = PlannedWrite { delay, index, value };
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned);
    }

    /// Counts an access, and makes the planned change when it is due.
    pub(super) fn accessed(&self) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *planned {
            Some(PlannedWrite { delay: 0, index, value }) => {
                self.store(*index, *value);
                *planned = None;
            }
            Some(PlannedWrite { delay, .. }) => *delay -= 1,
            None => {}
        }
    }
}

/// One of the words. Each use counts as an access.
pub(super) struct Word(pub(super) Arc<Cells>, pub(super) usize);

impl Deref for Word {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        self.0.accessed();
        &self.0.words[self.1]
    }
}

/// The words from [`DATA`] on. Each use counts as an access.
pub(super) struct Words(pub(super) Arc<Cells>);

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        self.0.accessed();
        &self.0.words[DATA..]
    }
}
