//! What the participants do, and what must hold.

mod event;
mod objects;
mod pipe;
mod pool;
mod queue;

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::raw::Memory;
use crate::raw::event::Event;
use crate::sync::{AtomicU32, AtomicU64};
use crate::world::{self, Conduct, Random, Scene, Sleep};

pub struct Model {
    pub name: &'static str,
    pub(crate) build: fn(&mut Random) -> (Box<dyn Scene>, Conduct),
}

pub const MODELS: &[Model] = &[
    Model { name: "event", build: event::build },
    Model { name: "pipe", build: pipe::build },
    Model { name: "pool", build: pool::build },
    Model { name: "queue", build: queue::build },
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

    pub(crate) fn event(&self) -> Event<Heap> {
        Event::new(self.clone())
    }
}

impl Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// Waits as `src/wait.rs` does with `Wait::Park`. After a sleep that time has ended, `ask` asks about the others, and who has
/// a deadline may give up: None.
///
/// **Panics** where only time could end the sleep, although there was something to do and nobody was killed.
pub(crate) fn wait<R>(
    ear: &Event<Heap>,
    random: &mut Random,
    has_deadline: bool,
    mut ask: impl FnMut(),
    mut attempt: impl FnMut() -> Option<R>,
) -> Option<R> {
    loop {
        let done = attempt();
        if done.is_some() {
            return done;
        }
        let ticket = ear.listen();
        let done = attempt();
        if done.is_some() {
            return done;
        }
        ear.wait(ticket, Duration::MAX);
        match world::end_of_sleep() {
            Sleep::Woken => {}
            Sleep::TimedOut => {
                ask();
                if has_deadline && random.one_in(2) {
                    return attempt();
                }
            }
            Sleep::Stuck => {
                let done = attempt();
                if done.is_some() {
                    assert!(world::was_anybody_killed(), "all were asleep, and {} had something to do", world::me());
                }
                world::has_looked();
                if done.is_some() {
                    return done;
                }
                ask();
                if has_deadline {
                    return attempt();
                }
            }
        }
    }
}

/// What a newcomer without membarrier(2) does: from here on its peers use fences of their own.
///
/// A peer that has looked for FENCES just before must have got its stores out of its buffer before the newcomer goes to sleep.
/// No instruction sees to that. A store leaves the buffer within a microsecond, joining takes longer, and the end of a slice
/// would bound the harm.
pub(crate) fn prepare<'a>(events: impl IntoIterator<Item = &'a Futex>) {
    if !world::has_membarrier() {
        events.into_iter().for_each(|futex| futex.event().require_fences());
        world::let_all_stores_out();
    }
}

/// Who takes part in the asymmetric fence: all, or some.
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
