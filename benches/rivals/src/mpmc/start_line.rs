//! Where participants, in threads or in processes, wait for each other and add up their results.

use std::array;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use anyhow::{Error, Result, ensure};

use crate::harness::payload::Check;
use crate::latency::{Latency, now};
use crate::shared_memory::{Plain, futex_wait, futex_wake};

/// Untimed messages go first: they touch every page and wake every CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Timed,
}

impl Phase {
    pub const ALL: [Self; 2] = [Self::WarmUp, Self::Timed];

    /// The number of the messages that end this phase.
    pub fn stop(self) -> u64 {
        u64::MAX - self as u64
    }
}

/// No message that counts has this number or a higher one.
pub const FIRST_STOP: u64 = u64::MAX - 1;

const SPINS_BEFORE_SLEEP: u32 = 2000;

#[repr(C, align(64))]
pub struct StartLine {
    arrived: AtomicU32,
    starts: AtomicU32,
    /// When each start was given. The first is that to connect.
    stamps: [AtomicU64; 4],
    results: [Results; 2],
    /// p50 and p99 of what the producer did.
    latency: [AtomicU64; 2],
}

/// The results of one phase.
struct Results {
    /// Producers that have sent their share.
    done: AtomicU64,
    seen: AtomicU64,
    sum: AtomicU64,
    /// When the last consumer was told to stop.
    ended: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Plain for StartLine {}

impl StartLine {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            arrived: AtomicU32::new(0),
            starts: AtomicU32::new(0),
            stamps: array::from_fn(|_| zero()),
            results: array::from_fn(|_| Results { done: zero(), seen: zero(), sum: zero(), ended: zero() }),
            latency: [zero(), zero()],
        }
    }

    /// Blocks until all participants have come.
    pub fn wait_for_all(&self, participants: usize) {
        let start = self.starts.load(Acquire);
        if self.arrived.fetch_add(1, AcqRel) + 1 == participants as u32 {
            self.arrived.store(0, Relaxed);
            self.stamps[start as usize].store(now(), Relaxed);
            self.starts.store(start + 1, Release);
            futex_wake(&self.starts, i32::MAX);
        }
        for _ in 0..SPINS_BEFORE_SLEEP {
            if self.starts.load(Acquire) != start {
                return;
            }
            spin_loop();
        }
        while self.starts.load(Acquire) == start {
            futex_wait(&self.starts, start);
        }
    }

    /// Counts a producer that has sent its share; returns whether it is the last one.
    pub fn is_last(&self, phase: Phase, producers: usize) -> bool {
        self.results[phase as usize].done.fetch_add(1, AcqRel) + 1 == producers as u64
    }

    /// Adds the result of a consumer.
    pub fn add(&self, phase: Phase, check: &Check) {
        let results = &self.results[phase as usize];
        results.ended.fetch_max(now(), Relaxed);
        let (seen, sum) = check.tally();
        results.seen.fetch_add(seen, Relaxed);
        results.sum.fetch_add(sum, Relaxed);
    }

    /// Checks that each of `messages` messages arrived whole, and so many times.
    pub fn verify(&self, phase: Phase, messages: u64, words: usize, copies: u64) -> Result<()> {
        let (seen, expected) = (self.seen(phase), messages * copies);
        ensure!(seen == expected, "{seen} messages arrived of {expected}");
        let sum = self.results[phase as usize].sum.load(Relaxed);
        Check::of(seen, sum).verify_copies(words, copies).map_err(Error::msg)
    }

    /// Returns how many messages arrived.
    pub fn seen(&self, phase: Phase) -> u64 {
        self.results[phase as usize].seen.load(Relaxed)
    }

    /// Records how long the producer took for a message.
    pub fn record_latency(&self, latency: &Latency) {
        for (place, q) in self.latency.iter().zip([0.5, 0.99]) {
            place.store(latency.quantile(q), Relaxed);
        }
    }

    /// Returns what [`record_latency`](Self::record_latency) recorded: p50 and p99.
    pub fn latency(&self) -> [u64; 2] {
        self.latency.each_ref().map(|place| place.load(Relaxed))
    }

    /// Returns how long the timed phase took, from its start on.
    pub fn elapsed(&self) -> Duration {
        let ended = self.results[Phase::Timed as usize].ended.load(Relaxed);
        Duration::from_nanos(ended - self.stamps[1 + Phase::Timed as usize].load(Relaxed))
    }
}
