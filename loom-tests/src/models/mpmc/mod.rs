//! Models of `src/raw/mpmc`.
//!
//! - `delivery`: what is sent is received once, in order, and nobody sleeps through it.
//! - `quarantine`: slots that are skipped because their owner is slow.
//! - `runs`: senders that join, close and leave.
//! - `repair`: participants, and repairers, that are killed.

mod delivery;
mod quarantine;
mod repair;
mod runs;

use super::*;
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::raw::mpmc::tail::RUNS;
use crate::raw::mpmc::{Drain, Pop, Push, Ring, RingWords};

const PARTICIPANTS: usize = 3;

/// A ring with two payload words in each slot, and its participants.
#[derive(Clone)]
struct MpmcWorld {
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    slots: SharedWords,
    marks: SharedWords,
    intents: [Shared<AtomicU64>; PARTICIPANTS],
    /// For each participant the producer's run plus 1, or 0 if no producer is there.
    runs: [Shared<AtomicU64>; PARTICIPANTS],
    lost: Shared<AtomicU64>,
    verdict: Shared<AtomicU64>,
    count: Shared<AtomicU64>,
    capacity: u64,
    patience: u32,
}

impl MpmcWorld {
    /// Two slots, and no patience: a slow participant is skipped at once.
    fn new() -> Self {
        Self::with(2, 0)
    }

    fn with(capacity: u64, patience: u32) -> Self {
        let slot = |_| [AtomicU64::new(0), AtomicU64::payload(0), AtomicU64::payload(0)];
        let world = Self {
            tail: new_word(),
            head: new_word(),
            slots: SharedWords(Arc::new((0..capacity).flat_map(slot).collect())),
            marks: new_words(capacity as usize),
            intents: std::array::from_fn(|_| new_word()),
            runs: std::array::from_fn(|_| new_word()),
            lost: new_word(),
            verdict: new_word(),
            count: new_word(),
            capacity,
            patience,
        };
        world.words().format();
        world
    }

    /// The first lap is almost over, so that two messages wrap around.
    fn near_the_wrap(patience: u32) -> Self {
        let world = Self::with(2, patience);
        let mut ring = world.ring(0);
        assert_eq!(push(&mut ring, 9), Push::Done(1));
        assert_eq!(pop(&mut ring), Some(9));
        world
    }

    fn words(&self) -> RingWords<Heap> {
        let (tail, head) = (self.tail.clone(), self.head.clone());
        let (slots, marks) = (self.slots.clone(), self.marks.clone());
        RingWords { tail, head, slots, marks, capacity: self.capacity, stride: 3 }
    }

    fn ring(&self, participant: usize) -> Ring<Heap> {
        self.ring_in(0, participant)
    }

    fn ring_in(&self, run: u64, participant: usize) -> Ring<Heap> {
        Ring::new(self.words(), run, self.intents[participant].clone(), self.patience)
    }

    /// A producer joins, announced as that participant. Returns its run.
    fn join(&self, participant: usize) -> u64 {
        let announce = |run, _| self.runs[participant].store(run + 1, Ordering::Release);
        self.words().join(|last| Some((last + 1) % RUNS), announce).unwrap().unwrap()
    }

    fn leave(&self, participant: usize) {
        self.runs[participant].store(0, Ordering::Release);
    }

    /// Whether a producer of the open run is there.
    fn has_producer(&self) -> bool {
        let now = self.words().load_tail();
        !now.is_closed() && self.runs.iter().any(|run| run.load(Ordering::Acquire) == now.run() + 1)
    }

    /// Repairs all participants except the live ones. Returns whether no repair was put off.
    fn repair(&self, alive: &[usize]) -> bool {
        let words = self.words();
        let log = RepairLog {
            lost: self.lost.clone(),
            pending_position: self.verdict.clone(),
            pending_lost: self.count.clone(),
        };
        let repair = Repair {
            words: &words,
            log: &log,
            intents: &|participant| self.intents.get(participant).cloned(),
            is_alive: &|participant| Some(alive.contains(&participant)),
            spend: &|_| true,
        };
        repair.resume().unwrap();
        let dead: Vec<usize> = (0..PARTICIPANTS).filter(|participant| !alive.contains(participant)).collect();
        repair.release_dead(&dead, |_| {}).into_iter().all(|is_whole| is_whole)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// Asserts that all is quiet: no intent is left, and every slot can be used again. Returns the
    /// messages that were left in the ring.
    fn drain_whole(&self) -> Vec<u64> {
        for intent in &self.intents {
            assert_eq!(intent.load(Ordering::Acquire), 0, "an intent outlived its claim");
        }
        let mut ring = self.ring(0);
        let left = std::iter::from_fn(|| pop(&mut ring)).collect();
        for _ in 0..self.capacity {
            assert_eq!(push(&mut ring, 77), Push::Done(1), "a slot is missing");
        }
        assert_eq!(push(&mut ring, 77), Push::Full);
        left
    }

    /// Completes `received` with what is left in the ring, sorted.
    fn all_received(&self, received: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut all: Vec<u64> = received.into_iter().chain(self.drain_whole()).collect();
        all.sort();
        all
    }
}

fn push(ring: &mut Ring<Heap>, n: u64) -> Push {
    ring.push(|payload| store_message(payload, n)).unwrap()
}

/// None if there is nothing, for now or for good.
fn pop(ring: &mut Ring<Heap>) -> Option<u64> {
    let mut popped = None;
    match ring.pop(|payload| popped = Some(load_message(payload))).unwrap() {
        Pop::Done(1) => popped,
        _ => None,
    }
}

/// Sends 1 to `last` in as few batches as possible, and calls `refused` with every refusal.
fn push_batch(ring: &mut Ring<Heap>, last: u64, refused: impl Fn(Push)) {
    let mut sent = 0;
    while sent < last {
        match ring.push_many(last - sent, |i, payload| store_message(payload, sent + 1 + i)).unwrap() {
            Push::Done(count) => sent += count,
            other => refused(other),
        }
    }
}

/// Is killed as that participant between the claim of a slot and the payload.
fn die_sending(world: &MpmcWorld, participant: usize) {
    let mut ring = world.ring(participant);
    let finished = kill_after(usize::MAX, || {
        let _ = ring.push(|_| with_budget(|budget| budget.set(0)));
    });
    assert!(!finished);
}

/// Is killed as that participant while it reads a message.
fn die_receiving(world: &MpmcWorld, participant: usize) {
    let mut ring = world.ring(participant);
    let finished = kill_after(usize::MAX, || {
        let _ = ring.pop(|_| with_budget(|budget| budget.set(0)));
    });
    assert!(!finished);
}
