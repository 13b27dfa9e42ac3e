//! The models. Each is a small world of two or three threads, with assertions along the way.
//!
//! A thread that dies does so in `kill_after`. Repair runs in the same thread afterwards, because
//! it runs after the kernel has reported the death. Where the fence of an event count would hide
//! that an ordering is missing, a thread spins instead of sleeping. Only one thread spins at a
//! time: with several, loom does not terminate. Assertions that matter run after all threads are
//! joined, because leaving the model's own thread unfinished counts as a preemption.

mod barrier;
mod broadcast;
mod broadcast_frames;
mod event_count;
mod interrupt;
mod latest;
mod list;
mod map;
mod map_snapshot;
mod mpmc;
mod owner;
mod pacing;
mod pool;
mod reader_counts;
mod redelivery;
mod robust_lock;
mod rpc;
mod select;
mod semaphore;
mod seqlock;
mod spsc;

use std::time::Duration;

use crate::primitive::{
    Arc, AtomicU32, AtomicU64, BOUNDS_ACCESSES, Ordering, heavy_fence, kill_after, large_model, model,
    model_without_membarrier, spin_loop, thread, with_budget,
};
use crate::raw::Memory;
use crate::raw::event_count::EventCount;

// The participants of a model.
const VICTIM: usize = 0;
const OTHER: usize = 1;
const THIRD: usize = 2;

/// The count that wakes every sleeper.
const ALL: u32 = u32::MAX;

/// What a test remembers of a victim.
type Note<T> = std::cell::Cell<T>;

/// The shared memory of a model: each word is an allocation of its own.
struct Heap;

impl Memory for Heap {
    type Word = Shared<AtomicU64>;
    type Words = SharedWords;
    type Futex = Shared<AtomicU32>;
}

struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone)]
struct SharedWords(Arc<Vec<AtomicU64>>);

impl std::ops::Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

fn new_word() -> Shared<AtomicU64> {
    Shared(Arc::new(AtomicU64::new(0)))
}

fn new_words(count: usize) -> SharedWords {
    SharedWords(Arc::new((0..count).map(|_| AtomicU64::new(0)).collect()))
}

/// Words that no thread both loads and stores.
fn new_payload(values: &[u64]) -> SharedWords {
    SharedWords(Arc::new(values.iter().copied().map(AtomicU64::payload).collect()))
}

fn new_futex() -> Shared<AtomicU32> {
    Shared(Arc::new(AtomicU32::new(0)))
}

fn event(futex: &Shared<AtomicU32>) -> EventCount<Heap> {
    EventCount::new(futex.clone())
}

/// A message of two words that must stay together.
fn message(number: u64) -> [u64; 2] {
    [number, !number]
}

/// The number of a message, which must not be torn.
fn number(message: [u64; 2]) -> u64 {
    assert_eq!(message[1], !message[0], "torn");
    message[0]
}

fn store_message(words: &[AtomicU64], number: u64) {
    for (word, value) in words.iter().zip(message(number)) {
        word.store(value, Ordering::Relaxed);
    }
}

fn copy_message(words: &[AtomicU64]) -> [u64; 2] {
    std::array::from_fn(|i| words[i].load(Ordering::Relaxed))
}

fn load_message(words: &[AtomicU64]) -> u64 {
    number(copy_message(words))
}

/// Starts a thread with a clone of the world.
fn spawn<W: Clone + Send + 'static, T: Send + 'static>(
    world: &W,
    body: impl FnOnce(W) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || body(world))
}

/// Starts a thread for each input.
fn spawn_each<W: Clone + Send + 'static, I: Send + 'static, T: Send + 'static, const N: usize>(
    world: &W,
    inputs: [I; N],
    body: impl Fn(W, I) -> T + Clone + Send + 'static,
) -> [thread::JoinHandle<T>; N] {
    inputs.map(|input| {
        let body = body.clone();
        spawn(world, move |world| body(world, input))
    })
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap()
}

fn join_all<T, const N: usize>(threads: [thread::JoinHandle<T>; N]) -> [T; N] {
    threads.map(join)
}

fn spin_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        spin_loop();
    }
}

/// Spins until an attempt succeeds.
fn spin_for<R>(mut attempt: impl FnMut() -> Option<R>) -> R {
    loop {
        match attempt() {
            Some(done) => return done,
            None => spin_loop(),
        }
    }
}

/// Blocks as an endpoint does: try, listen, try again, sleep.
fn block_on<R>(event: &EventCount<Heap>, mut attempt: impl FnMut() -> Option<R>) -> R {
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        let key = event.listen();
        if let Some(done) = attempt() {
            return done;
        }
        event.wait(key, Duration::MAX);
    }
}

/// Blocks until a flag has at least that value.
fn block_on_flag(event: &EventCount<Heap>, flag: &AtomicU64, value: u64) {
    block_on(event, || (flag.load(Ordering::Acquire) >= value).then_some(()));
}

/// Runs a model for every access before which its victim can be killed, until the victim finishes
/// in all interleavings. `body` returns whether the victim finished; `limit` bounds its accesses.
fn for_every_kill(limit: usize, body: impl Fn(usize) -> bool + Send + Sync + Clone + 'static) {
    for_every_kill_in(model, limit, body);
}

/// Does the same in a model of that kind.
fn for_every_kill_in(
    model: impl Fn(Box<dyn Fn() + Send + Sync>),
    limit: usize,
    body: impl Fn(usize) -> bool + Send + Sync + Clone + 'static,
) {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let survives = |accesses| {
        let survives = std::sync::Arc::new(AtomicBool::new(true));
        let (body, killed) = (body.clone(), survives.clone());
        model(Box::new(move || {
            if !body(accesses) {
                killed.store(false, SeqCst);
            }
        }));
        survives.load(SeqCst)
    };
    let survived = (0..limit).any(survives);
    assert!(survived || !BOUNDS_ACCESSES, "the victim makes more than {limit} accesses: raise the limit");
}
