//! An event count and a stock of items. A participant that adds items notifies as many waiters as
//! it added items, and nobody sleeps while there are items.
//!
//! Items are published by plain stores: a locked instruction would do the work of the fences.

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::Ordering;
use crate::raw::event_count::EventCount;
use crate::world::{self, NewParticipant, Random, Scene, Settings};

#[derive(Clone)]
struct Stock {
    /// Items that each participant has added so far.
    added: Words,
    removed: Word,
    event: Futex,
}

impl Stock {
    fn left(&self) -> u64 {
        let added: u64 = self.added.iter().map(|word| word.load(Ordering::Acquire)).sum();
        added - self.removed.load(Ordering::Relaxed)
    }

    fn try_remove(&self) -> bool {
        loop {
            let removed = self.removed.load(Ordering::Relaxed);
            let added: u64 = self.added.iter().map(|word| word.load(Ordering::Acquire)).sum();
            // If it has grown meanwhile, there may be more items.
            if added <= removed && self.removed.load(Ordering::Relaxed) == removed {
                return false;
            }
            let swap = |more| self.removed.compare_exchange(removed, more, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if added > removed && swap(removed + 1) {
                return true;
            }
        }
    }

    fn event(&self) -> EventCount<Heap> {
        announce_missing_membarrier([&self.event]);
        self.event.event()
    }

    fn add(&self, mut random: Random, times: u64) {
        let event = self.event();
        let mut left = times;
        while left > 0 {
            let count = left.min(if random.one_in(4) { 2 } else { 1 });
            left -= count;
            let own = &self.added[world::me()];
            own.store(own.load(Ordering::Relaxed) + count, Ordering::Release);
            world::count_by("brought", count);
            // Repair wakes without looking at the word.
            if random.one_in(4) { event.wake(count as u32) } else { event.notify(count as u32) }
        }
    }

    fn remove(&self, mut random: Random, times: u64) {
        let event = self.event();
        for _ in 0..times {
            let has_deadline = random.one_in(6);
            let one = || self.try_remove().then_some(());
            if wait(&event, &mut random, has_deadline, || {}, one).is_some() {
                world::count("fetched");
            } else {
                // A wake-up may have come together with the deadline.
                world::count("gave up");
            }
        }
    }
}

struct EventScene {
    stock: Stock,
    bodies: Vec<(bool, u64)>,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let participants = 1 + random.below(4);
    let mut bodies: Vec<(bool, u64)> = (0..participants).map(|_| (false, 1 + random.below(4))).collect();
    // As many items as are wanted, so that each wake-up is needed.
    let mut wanted: u64 = bodies.iter().map(|(_, times)| times).sum();
    let add = 1 + random.below(3);
    for left in (1..=add).rev() {
        let share = if left == 1 { wanted } else { random.below(wanted + 1) };
        bodies.push((true, share));
        wanted -= share;
    }
    let concurrent = bodies.len();
    let added = Words::new("brought", concurrent);
    let stock = Stock { added, removed: Word::new("fetched"), event: Futex::new("event") };
    let scene = EventScene { stock, bodies, fences: Fences::choose(random), number: 0 };
    (Box::new(scene), Settings { concurrent, max: concurrent, kills: 0, timeouts: random.one_in(4) })
}

impl Scene for EventScene {
    fn has_next(&self) -> bool {
        !self.bodies.is_empty()
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        let (adds, times) = self.bodies.swap_remove(random.below(self.bodies.len() as u64) as usize);
        let (stock, own) = (self.stock.clone(), Random::new(random.below(u64::MAX)));
        let body = move || if adds { stock.add(own, times) } else { stock.remove(own, times) };
        self.number += 1;
        let membarrier = self.fences.has_membarrier(self.number);
        Some(NewParticipant { membarrier, body: Box::new(body) })
    }

    fn finish(&mut self) {
        world::count_by("left", self.stock.left());
    }
}
