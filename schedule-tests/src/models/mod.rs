//! What the participants do, and what must hold.

mod broadcast;
mod event;
mod frames;
mod latest;
mod objects;
mod pipe;
mod pool;
mod queue;

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::primitive::{AtomicU32, AtomicU64};
use crate::raw::Memory;
use crate::raw::event_count::EventCount;
use crate::world::{self, Random, Scene, Settings, Sleep};

pub struct Model {
    pub name: &'static str,
    pub(crate) build: fn(&mut Random) -> (Box<dyn Scene>, Settings),
}

pub const MODELS: &[Model] = &[
    Model { name: "broadcast", build: broadcast::build },
    Model { name: "broadcast_frames", build: frames::build },
    Model { name: "broadcast_latest", build: latest::build },
    Model { name: "event", build: event::build },
    Model { name: "pipe", build: pipe::build },
    Model { name: "pool", build: pool::build },
    Model { name: "queue", build: queue::build },
    Model { name: "queue_in_place", build: queue::build_in_place },
    Model { name: "objects", build: objects::build },
];

/// Shared memory on the heap.
pub(crate) struct Heap;

impl Memory for Heap {
    type Word = Word;
    type Words = Words;
    type Futex = Futex;
}

#[derive(Clone)]
pub(crate) struct Word(Rc<AtomicU64>);

impl Word {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Rc::new(AtomicU64::named(name, 0)))
    }
}

impl Deref for Word {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

#[derive(Clone)]
pub(crate) struct Words(Rc<[AtomicU64]>);

impl Words {
    pub(crate) fn new(name: &'static str, count: usize) -> Self {
        Self((0..count).map(|index| AtomicU64::named(name, index)).collect())
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

#[derive(Clone)]
pub(crate) struct Futex(Rc<AtomicU32>);

impl Futex {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Rc::new(AtomicU32::named(name)))
    }

    pub(crate) fn event(&self) -> EventCount<Heap> {
        EventCount::new(self.clone())
    }
}

impl Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// Blocks until `attempt` succeeds, as `src/wait` does with `WaitStrategy::Park`. After a sleep
/// that timed out it calls `check_liveness`. Returns None if it has a deadline and gives up.
///
/// # Panics
///
/// Panics if only the time limit could end the sleep, although an attempt would have succeeded and
/// nobody was killed.
pub(crate) fn wait<R>(
    wait_event: &EventCount<Heap>,
    random: &mut Random,
    has_deadline: bool,
    mut check_liveness: impl FnMut(),
    mut attempt: impl FnMut() -> Option<R>,
) -> Option<R> {
    loop {
        let done = attempt();
        if done.is_some() {
            return done;
        }
        let key = wait_event.listen();
        let done = attempt();
        if done.is_some() {
            return done;
        }
        wait_event.wait(key, Duration::MAX);
        match world::end_of_sleep() {
            Sleep::Woken => {}
            Sleep::TimedOut => {
                check_liveness();
                if has_deadline && random.one_in(2) {
                    return attempt();
                }
            }
            Sleep::Stuck => {
                let done = attempt();
                if done.is_some() {
                    assert!(world::has_killed(), "all were asleep, and {} had something to do", world::me());
                }
                world::finish_look();
                if done.is_some() {
                    return done;
                }
                check_liveness();
                if has_deadline {
                    return attempt();
                }
            }
        }
    }
}

/// Makes the peers of a newcomer without membarrier(2) use full fences from here on.
///
/// A peer that looked for FENCES just before must have emptied its store buffer before the newcomer
/// goes to sleep. No instruction enforces that. A store leaves the buffer within a microsecond,
/// joining takes longer, and the liveness interval would bound the delay.
pub(crate) fn announce_missing_membarrier<'a>(events: impl IntoIterator<Item = &'a Futex>) {
    if !world::has_membarrier() {
        events.into_iter().for_each(|futex| futex.event().require_fences());
        world::flush_all();
    }
}

/// The participants that have membarrier(2): all, or some.
#[derive(Clone, Copy)]
pub(crate) struct Fences(u64);

impl Fences {
    pub(crate) fn choose(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self(0),
            1 | 2 => Self(random.below(1 << 16)),
            _ => Self(u64::MAX),
        }
    }

    pub(crate) fn has_membarrier(self, number: usize) -> bool {
        self.0 >> (number % 16) & 1 != 0
    }
}
