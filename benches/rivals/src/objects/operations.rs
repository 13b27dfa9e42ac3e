//! What participants do, the same for all objects.

use std::cell::UnsafeCell;
use std::hint::black_box;

use super::run::Participant;
use crate::case::{Case, Section, Work};
use crate::harness::payload::{Fill, Words};

/// Bytes without synchronisation: participants synchronise themselves, or accept torn values.
#[repr(transparent)]
pub struct UncheckedCell<T>(UnsafeCell<T>);

// SAFETY: see above; it is only copied in and out as a whole.
unsafe impl<T: Send> Sync for UncheckedCell<T> {}

impl<T: Copy> UncheckedCell<T> {
    /// The compiler cannot leave it out, though nothing here reads it.
    #[inline(always)]
    pub fn store(&self, value: &T) {
        // SAFETY: both are valid, and do not overlap.
        unsafe { black_box(self.0.get()).copy_from_nonoverlapping(value, 1) };
        black_box(self.0.get());
    }

    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: it is valid.
        unsafe { black_box(self.0.get()).read() }
    }
}

/// Returns the first value of all.
pub fn first<const N: usize>() -> [u64; N] {
    Fill::default().message()
}

/// Stores one value after the other.
#[inline(always)]
pub fn store_all<const N: usize>(participant: &Participant, mut store: impl FnMut(&[u64; N])) {
    let mut fill = Fill::from(1);
    let mut value = first::<N>();
    participant.repeat(|| {
        fill.overwrite(&mut value);
        store(black_box(&value));
    });
}

/// Loads value after value, and reads every word.
#[inline(always)]
pub fn load_all<const N: usize, E>(participant: &Participant, mut load: impl FnMut() -> Result<[u64; N], E>) {
    participant.repeat(|| match load() {
        Ok(value) => check_value(participant, black_box(&value)),
        Err(_) => participant.count_failed(),
    });
}

#[inline(always)]
pub fn check_value<const N: usize>(participant: &Participant, value: &[u64; N]) {
    let words = N as u64;
    let whole = value.number().wrapping_mul(words).wrapping_add(words * (words - 1) / 2);
    if value.sum() != whole {
        participant.count_torn();
    }
}

/// About 100 ns of work.
#[inline(always)]
fn compute() {
    for step in 0..200_u32 {
        black_box(step);
    }
}

/// Takes a lock, does the work of the case under it, and releases it.
#[inline(always)]
pub fn lock_all<G>(participant: &Participant, case: &Case, mut lock: impl FnMut() -> G, mut count: impl FnMut(&mut G)) {
    match case.work {
        Work::Lock(Section::Add | Section::Read | Section::Write) => participant.repeat(|| count(&mut lock())),
        Work::Lock(Section::Compute) => participant.repeat(|| {
            let guard = lock();
            compute();
            drop(guard);
            compute();
        }),
        _ => participant.repeat(|| {
            let guard = lock();
            black_box(());
            drop(guard);
        }),
    }
}
