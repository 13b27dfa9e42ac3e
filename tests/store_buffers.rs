//! A heavy fence orders stores and loads on processors that membarrier(2) does not reach, too. This
//! asks the hardware, so it says something only where two threads run at the same time.

#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use std::arch::x86_64::{_mm_clflush, _mm_mfence};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::thread;

const ROUNDS: u64 = 60_000;

/// One word in a page of its own.
#[repr(align(4096))]
#[derive(Default)]
struct Word(AtomicU64);

impl Word {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Shared {
    /// Stores to lines that are in no cache: they keep what follows in the store buffer.
    slow: [Word; 32],
    light_side: Word,
    heavy_side: Word,
    /// What the light side saw of the heavy side.
    seen: Word,
    started: Word,
    finished: Word,
}

impl Shared {
    fn run_light_side(&self) {
        for round in 1..=ROUNDS {
            while self.started.0.load(Ordering::Acquire) != round {
                spin_loop();
            }
            self.slow.iter().for_each(|word| word.store(round));
            self.light_side.store(round);
            compiler_fence(Ordering::SeqCst); // the light fence
            self.seen.store(self.heavy_side.load());
            self.finished.0.store(round, Ordering::Release);
        }
    }

    /// Returns in how many rounds neither side saw the other's store.
    fn run_heavy_side(&self, heavy_fence: fn()) -> u64 {
        let mut missed = 0;
        for round in 1..=ROUNDS {
            for word in &self.slow {
                // SAFETY: the address of a word. To flush its cache line changes no value.
                unsafe { _mm_clflush(word.0.as_ptr().cast()) };
            }
            // SAFETY: a fence, which every processor of this architecture has.
            unsafe { _mm_mfence() };
            self.started.0.store(round, Ordering::Release);
            for _ in 0..round * 37 % 300 {
                spin_loop();
            }
            self.heavy_side.store(round);
            heavy_fence();
            let saw = self.light_side.load() == round;
            while self.finished.0.load(Ordering::Acquire) != round {
                spin_loop();
            }
            missed += u64::from(!saw && self.seen.load() != round);
        }
        missed
    }
}

#[test]
fn heavy_fence_without_membarrier_sees_store_or_is_seen() {
    let shared = Shared::default();
    let missed = thread::scope(|scope| {
        scope.spawn(|| shared.run_light_side());
        shared.run_heavy_side(tombolo::test_hooks::heavy_that_reaches_nobody)
    });
    assert_eq!(missed, 0, "of {ROUNDS} rounds");
}
