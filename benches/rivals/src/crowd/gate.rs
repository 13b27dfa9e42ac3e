//! Where participants meet, in threads or in processes, and where their results come together.

use std::array;
use std::hint::spin_loop;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use anyhow::{Error, Result, ensure};

use crate::harness::latency::now;
use crate::harness::payload::Check;
use crate::shared::Plain;

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

/// No message that counts has such a number.
pub const STOPS: u64 = u64::MAX - 1;

/// Looks at a closed gate before sleeping before it.
const LOOKS: u32 = 2000;

#[repr(C, align(64))]
pub struct Gate {
    /// The process that waits for all of this.
    leader: AtomicU32,
    arrived: AtomicU32,
    meetings: AtomicU32,
    /// When each meeting was over.
    stamps: [AtomicU64; 3],
    results: [Results; 2],
}

/// What came of a phase.
struct Results {
    /// Producers that have sent their share.
    done: AtomicU64,
    seen: AtomicU64,
    sum: AtomicU64,
    /// When the last consumer was told to stop.
    ended: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Plain for Gate {}

impl Gate {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            leader: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            meetings: AtomicU32::new(0),
            stamps: array::from_fn(|_| zero()),
            results: array::from_fn(|_| Results { done: zero(), seen: zero(), sum: zero(), ended: zero() }),
        }
    }

    /// Makes this process the leader of those that share the gate.
    pub fn lead(&self) {
        self.leader.store(process::id(), Relaxed);
    }

    /// Dies with the leader.
    pub fn follow(&self) -> Result<()> {
        // SAFETY: plain system calls.
        let parent = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::getppid()
        };
        ensure!(parent as u32 == self.leader.load(Relaxed), "the first process has ended");
        Ok(())
    }

    /// Waits for all others.
    pub fn meet(&self, participants: usize) {
        let meeting = self.meetings.load(Acquire);
        if self.arrived.fetch_add(1, AcqRel) + 1 == participants as u32 {
            self.arrived.store(0, Relaxed);
            self.stamps[meeting as usize].store(now(), Relaxed);
            self.meetings.store(meeting + 1, Release);
            futex(&self.meetings, libc::FUTEX_WAKE, i32::MAX as u32);
        }
        for _ in 0..LOOKS {
            if self.meetings.load(Acquire) != meeting {
                return;
            }
            spin_loop();
        }
        while self.meetings.load(Acquire) == meeting {
            futex(&self.meetings, libc::FUTEX_WAIT, meeting);
        }
    }

    /// Whether this producer is the last one of `producers` to have sent its share.
    pub fn is_last(&self, phase: Phase, producers: usize) -> bool {
        self.results[phase as usize].done.fetch_add(1, AcqRel) + 1 == producers as u64
    }

    /// Takes a consumer's result.
    pub fn add(&self, phase: Phase, check: &Check) {
        let results = &self.results[phase as usize];
        results.ended.fetch_max(now(), Relaxed);
        let (seen, sum) = check.tally();
        results.seen.fetch_add(seen, Relaxed);
        results.sum.fetch_add(sum, Relaxed);
    }

    /// Whether each of so many messages of so many words arrived once, and whole.
    pub fn verify(&self, phase: Phase, messages: u64, words: usize) -> Result<()> {
        let results = &self.results[phase as usize];
        let (seen, sum) = (results.seen.load(Relaxed), results.sum.load(Relaxed));
        ensure!(seen == messages, "{seen} messages arrived of {messages}");
        Check::of(seen, sum).verify(words).map_err(Error::msg)
    }

    /// How long the timed phase took, from the moment when all had come.
    pub fn elapsed(&self) -> Duration {
        let ended = self.results[Phase::Timed as usize].ended.load(Relaxed);
        Duration::from_nanos(ended - self.stamps[Phase::Timed as usize].load(Relaxed))
    }
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call; every outcome is fine, callers look again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, forever) };
}
