//! Who takes part. A new contender is a file here and a line in `all`.

mod bare;
mod mmap_sync;
mod pthread;
mod threads;
mod tombolo;

use std::cell::UnsafeCell;
use std::hint::black_box;

use crate::case::{Case, Section, Work};
use crate::harness::payload::{Fill, Words};
use crate::play::{Job, Sample, Stage};

pub trait Contender {
    fn name(&self) -> &'static str;
    fn can(&self, case: &Case) -> bool;
    /// Hands its object to `job.threads` or `job.processes`.
    fn run(&self, job: &Job) -> anyhow::Result<Sample>;
}

/// In the order of the tables.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(tombolo::Tombolo),
        Box::new(tombolo::Writer),
        Box::new(tombolo::Bounded),
        Box::new(mmap_sync::MmapSync),
        Box::new(threads::SeqLock),
        Box::new(bare::Copy),
        Box::new(bare::Xadd),
        Box::new(pthread::Plain),
        Box::new(pthread::Robust),
        Box::new(pthread::Semaphores),
        Box::new(threads::ParkingLot),
        Box::new(threads::Std),
    ]
}

/// Bytes that participants write and read as if they were alone: they see to it, or bear with what comes of it.
#[repr(transparent)]
struct Bare<T>(UnsafeCell<T>);

// SAFETY: see above; it is only copied in and out as a whole.
unsafe impl<T: Send> Sync for Bare<T> {}

impl<T: ::std::marker::Copy> Bare<T> {
    /// The compiler cannot leave it out, though nobody here reads it.
    #[inline(always)]
    fn store(&self, value: &T) {
        // SAFETY: both are there, and apart.
        unsafe { black_box(self.0.get()).copy_from_nonoverlapping(value, 1) };
        black_box(self.0.get());
    }

    #[inline(always)]
    fn load(&self) -> T {
        // SAFETY: it is there.
        unsafe { black_box(self.0.get()).read() }
    }
}

/// The first value of all.
fn first<const N: usize>() -> [u64; N] {
    Fill::default().message()
}

/// Stores one value after the other.
#[inline(always)]
fn store_all<const N: usize>(stage: &Stage, mut store: impl FnMut(&[u64; N])) {
    let mut fill = Fill::from(1);
    let mut value = first::<N>();
    stage.run(|| {
        fill.overwrite(&mut value);
        store(black_box(&value));
    });
}

/// Loads value after value, and looks at every word.
#[inline(always)]
fn load_all<const N: usize, E>(stage: &Stage, mut load: impl FnMut() -> Result<[u64; N], E>) {
    stage.run(|| match load() {
        Ok(value) => look_at(stage, black_box(&value)),
        Err(_) => stage.refused(),
    });
}

#[inline(always)]
fn look_at<const N: usize>(stage: &Stage, value: &[u64; N]) {
    let words = N as u64;
    let whole = value.number().wrapping_mul(words).wrapping_add(words * (words - 1) / 2);
    if value.sum() != whole {
        stage.torn();
    }
}

/// About 100 ns of work.
#[inline(always)]
fn compute() {
    for step in 0..200_u32 {
        black_box(step);
    }
}

/// Takes a lock, does what is to be done under it, and gives it back.
#[inline(always)]
fn lock_all<G>(stage: &Stage, case: &Case, mut lock: impl FnMut() -> G, mut count: impl FnMut(&mut G)) {
    match case.work {
        Work::Lock(Section::Add | Section::Read | Section::Write) => stage.run(|| count(&mut lock())),
        Work::Lock(Section::Compute) => stage.run(|| {
            let guard = lock();
            compute();
            drop(guard);
            compute();
        }),
        _ => stage.run(|| {
            let guard = lock();
            black_box(());
            drop(guard);
        }),
    }
}

/// Runs `$run` with `$N` as the words of the case's value.
macro_rules! with_words {
    ($case:expr, $N:ident => $run:expr) => {
        with_words!($case, $N => $run, 1 8 32 128 512)
    };
    ($case:expr, $N:ident => $run:expr, $($words:literal)*) => {
        match $case.words() {
            $($words => {
                const $N: usize = $words;
                $run
            })*
            words => unreachable!("no value of {words} words"),
        }
    };
}
use with_words;
