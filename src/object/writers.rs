//! Threads of this process that change a collection: each has an intent record of its own, and
//! waits a little for blocks that others have, or frees what the dead have left.

use std::thread;
use std::time::{Duration, Instant};

use crate::object::Handle;
use crate::primitive::{AtomicU64, Ordering, spin_loop};

/// Attempts after which a thread lets others run before each.
const SPINS: u32 = 16;

/// Between two attempts.
#[inline]
pub(super) fn pause(attempt: u32) {
    if attempt < SPINS { spin_loop() } else { thread::yield_now() }
}

/// How long a call waits for blocks that others have.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Refusals after which it sleeps before each attempt, twice as long each time.
const YIELDS: u32 = 8;
const MIN_SLEEP: Duration = Duration::from_micros(50);
const MAX_SLEEP: Duration = Duration::from_millis(10);

/// The refusals of one call, which found no block because others have some.
#[derive(Default)]
pub(super) struct Refusals {
    count: u32,
    since: Option<Instant>,
}

impl Refusals {
    /// Waits a little, then lets the call try again. Before it sleeps, it frees what those
    /// participants have left that are dead. Returns false if the call has waited long enough.
    #[cold]
    pub(super) fn wait(&mut self, handle: &Handle, in_progress: impl Iterator<Item = usize>) -> bool {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        self.count += 1;
        if self.count <= YIELDS {
            thread::yield_now();
            return true;
        }
        free_dead(handle, in_progress);
        let doubled = 1 << (self.count - YIELDS - 1).min(u8::BITS);
        thread::sleep((MIN_SLEEP * doubled).min(MAX_SLEEP));
        waited < MAX_WAIT
    }
}

/// Frees what those participants have left that are dead.
#[cold]
pub(super) fn free_dead(handle: &Handle, in_progress: impl Iterator<Item = usize>) {
    let mut participants: Vec<_> = in_progress.collect();
    participants.dedup();
    let _ = handle.membership.check_liveness(participants); // the next attempt shows what it has freed
}

/// Runs `commit` with a writer that begins where the last one with this record found free blocks.
/// `recent` leads to the numbers of those blocks in a writer, `hints` keeps them in between.
#[inline]
pub(super) fn with_hints<W, R>(
    mut writer: W,
    hints: Option<&[AtomicU64]>,
    recent: impl Fn(&mut W) -> &mut [u64],
    commit: impl FnOnce(&mut W) -> R,
) -> R {
    let hints = hints.unwrap_or_default();
    for (own, hint) in recent(&mut writer).iter_mut().zip(hints) {
        *own = hint.load(Ordering::Relaxed); // private
    }
    let committed = commit(&mut writer);
    for (own, hint) in recent(&mut writer).iter().zip(hints) {
        hint.store(*own, Ordering::Relaxed); // private
    }
    committed
}

/// One of the intent records of this process, until dropped.
pub(super) struct Claim<'a> {
    writers: &'a AtomicU64,
    pub(super) number: u32,
}

impl<'a> Claim<'a> {
    /// Takes one of `count` records. `writers` has a bit for each that is taken.
    #[inline]
    pub(super) fn new(writers: &'a AtomicU64, count: usize) -> Self {
        let all = (1 << count) - 1;
        let mut attempt = 0;
        let mut taken = writers.load(Ordering::Relaxed); // the CAS decides
        loop {
            if taken & all == all {
                pause(attempt);
                attempt = attempt.saturating_add(1);
                taken = writers.load(Ordering::Relaxed); // as above
                continue;
            }
            let number = taken.trailing_ones();
            // edge: object-writers
            match writers.compare_exchange_weak(taken, taken | 1 << number, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Self { writers, number },
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        self.writers.fetch_and(!(1 << self.number), Ordering::Release); // edge: object-writers
    }
}
