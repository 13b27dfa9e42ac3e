//! One event, and a stock of goods: each who brings some wakes as many as can be served. Nobody sleeps while there are goods.
//!
//! What is brought is told by plain stores: a locked instruction would do what the fences are there for.

use super::{Fences, Futex, Heap, Word, Words, prepare, wait};
use crate::raw::event::Event;
use crate::sync::Ordering;
use crate::world::{self, Conduct, Newcomer, Random, Scene};

#[derive(Clone)]
struct Stock {
    /// By participant, in all.
    brought: Words,
    fetched: Word,
    event: Futex,
}

impl Stock {
    fn left(&self) -> u64 {
        let brought: u64 = self.brought.iter().map(|word| word.load(Ordering::Acquire)).sum();
        brought - self.fetched.load(Ordering::Relaxed)
    }

    fn try_fetch(&self) -> bool {
        loop {
            let fetched = self.fetched.load(Ordering::Relaxed);
            let brought: u64 = self.brought.iter().map(|word| word.load(Ordering::Acquire)).sum();
            // If it has grown meanwhile, there may be more.
            if brought <= fetched && self.fetched.load(Ordering::Relaxed) == fetched {
                return false;
            }
            let swap = |more| self.fetched.compare_exchange(fetched, more, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if brought > fetched && swap(fetched + 1) {
                return true;
            }
        }
    }

    fn event(&self) -> Event<Heap> {
        prepare([&self.event]);
        self.event.event()
    }

    fn bring(&self, mut random: Random, times: u64) {
        let event = self.event();
        let mut left = times;
        while left > 0 {
            let count = left.min(if random.one_in(4) { 2 } else { 1 });
            left -= count;
            let own = &self.brought[world::me()];
            own.store(own.load(Ordering::Relaxed) + count, Ordering::Release);
            world::count_many("brought", count);
            // A repairer wakes whatever the word says.
            if random.one_in(4) { event.wake(count as u32) } else { event.notify(count as u32) }
        }
    }

    fn fetch(&self, mut random: Random, times: u64) {
        let event = self.event();
        for _ in 0..times {
            let has_deadline = random.one_in(6);
            let one = || self.try_fetch().then_some(());
            if wait(&event, &mut random, has_deadline, || {}, one).is_some() {
                world::count("fetched");
            } else {
                // A wake-up may have come as the deadline did; whoever gives up passes it on.
                world::count("gave up");
            }
        }
    }
}

struct EventScene {
    stock: Stock,
    lives: Vec<(bool, u64)>,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
    let participants = 1 + random.below(4);
    let mut lives: Vec<(bool, u64)> = (0..participants).map(|_| (false, 1 + random.below(4))).collect();
    // Exactly what is wanted, so that each wake-up is needed.
    let mut wanted: u64 = lives.iter().map(|(_, times)| times).sum();
    let bring = 1 + random.below(3);
    for left in (1..=bring).rev() {
        let share = if left == 1 { wanted } else { random.below(wanted + 1) };
        lives.push((true, share));
        wanted -= share;
    }
    let at_once = lives.len();
    let brought = Words::new("brought", at_once);
    let stock = Stock { brought, fetched: Word::new("fetched"), event: Futex::new("event") };
    let scene = EventScene { stock, lives, fences: Fences::choose(random), number: 0 };
    (Box::new(scene), Conduct { at_once, most: at_once, kills: 0, slices: random.one_in(4) })
}

impl Scene for EventScene {
    fn has_more(&self) -> bool {
        !self.lives.is_empty()
    }

    fn next(&mut self, random: &mut Random) -> Option<Newcomer> {
        let (brings, times) = self.lives.swap_remove(random.below(self.lives.len() as u64) as usize);
        let (stock, own) = (self.stock.clone(), Random::new(random.below(u64::MAX)));
        let life = move || if brings { stock.bring(own, times) } else { stock.fetch(own, times) };
        self.number += 1;
        let membarrier = self.fences.has_membarrier(self.number);
        Some(Newcomer { membarrier, life: Box::new(life) })
    }

    fn finish(&mut self) {
        world::count_many("left", self.stock.left());
    }
}
