//! One event, and a stock of goods: each who brings some wakes as many as can be served. Nobody sleeps while there are goods.

use super::{Fences, Futex, Heap, Word, prepare, wait};
use crate::raw::event::Event;
use crate::raw::semaphore::Semaphore;
use crate::world::{self, Conduct, Newcomer, Random, Scene};

#[derive(Clone)]
struct Stock {
    goods: Word,
    event: Futex,
}

impl Stock {
    fn goods(&self) -> Semaphore<Heap> {
        Semaphore::new(self.goods.clone())
    }

    fn event(&self) -> Event<Heap> {
        prepare([&self.event]);
        self.event.event()
    }

    fn bring(&self, mut random: Random, times: u64) {
        let event = self.event();
        for _ in 0..times {
            let count = if random.one_in(4) { 2 } else { 1 };
            self.goods().release(count).unwrap();
            world::count_many("brought", count);
            // A repairer wakes whatever the word says.
            if random.one_in(4) { event.wake(count as u32) } else { event.notify(count as u32) }
        }
    }

    fn fetch(&self, mut random: Random, times: u64) {
        let event = self.event();
        for _ in 0..times {
            let has_deadline = random.one_in(6);
            let one = || self.goods().try_acquire(1).unwrap().then_some(());
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
    left: u64,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
    let stock = Stock { goods: Word::new("goods"), event: Futex::new("event") };
    let participants = 2 + random.below(4);
    let mut lives: Vec<(bool, u64)> = (0..participants).map(|_| (random.one_in(2), 1 + random.below(8))).collect();
    // Nobody waits for what nobody brings.
    let wanted: u64 = lives.iter().filter(|(brings, _)| !brings).map(|(_, times)| times).sum();
    lives.push((true, 1));
    let brings = lives.iter().filter(|(brings, _)| *brings).count() as u64;
    for (_, times) in lives.iter_mut().filter(|(brings, _)| *brings) {
        *times = wanted.div_ceil(brings);
    }
    let at_once = lives.len();
    let scene = EventScene { stock, lives, fences: Fences::choose(random), number: 0, left: 0 };
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
        self.left = self.stock.goods().available().unwrap();
        world::count_many("left", self.left);
    }
}
