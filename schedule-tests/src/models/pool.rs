//! The pool alone, with lanes whose numbers differ in their upper bits only: nobody gets a place that another has, and a repair
//! takes back what the dead lane had, all of it and nothing else.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Heap, Words};
use crate::raw::pool::{Pool, Token};
use crate::sync::Ordering;
use crate::world::{self, Conduct, Newcomer, Random, Scene, try_lock, unlock};

/// Repairs are one at a time.
const REPAIR: usize = 0;

const LANES: &[usize] = &[0, 1, 255, 256, 257, 511, 4094, 4095];

#[derive(Clone)]
struct Places {
    owners: Words,
    content: Words,
    dead: Rc<RefCell<Vec<usize>>>,
}

impl Places {
    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.owners.clone())
    }

    fn live(&self, who: usize, mut random: Random) {
        let (pool, lane, places) = (self.pool(), LANES[who], self.owners.len() as u64);
        let mut tokens: Vec<(Token, u64)> = Vec::new();
        for number in 0..4 + random.below(12) {
            let mine = (who as u64) << 32 | number;
            match random.below(3) {
                0 => self.repair(),
                1 if !tokens.is_empty() => {
                    let (token, content) = tokens.swap_remove(random.below(tokens.len() as u64) as usize);
                    let found = self.content[token.place as usize].load(Ordering::Relaxed);
                    assert_eq!(found, content, "somebody else has written there");
                    assert!(pool.give_back(token), "somebody else has given it back");
                    assert!(!pool.give_back(token), "it is given back twice");
                }
                _ => {
                    if let Some(token) = pool.take(lane, 0, places, random.below(places)) {
                        self.content[token.place as usize].store(mine, Ordering::Relaxed);
                        tokens.push((token, mine));
                    }
                }
            }
            assert_eq!(pool.of(lane).count(), tokens.len(), "what a lane has");
        }
        for (token, _) in tokens {
            assert!(pool.give_back(token), "somebody else has given it back");
        }
    }

    fn repair(&self) {
        if !try_lock(REPAIR) {
            return;
        }
        let (pool, dead) = (self.pool(), self.dead.borrow().clone());
        for lane in dead {
            pool.reclaim(lane, |_| {}, |token| _ = pool.give_back(token));
            world::count("repairs");
        }
        unlock(REPAIR);
    }
}

struct PoolScene {
    places: Places,
    number: usize,
    total: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
    let count = 1 + random.below(6) as usize;
    let (owners, content) = (Words::new("owner", count), Words::new("content", count));
    let places = Places { owners, content, dead: Rc::default() };
    let total = 2 + random.below(LANES.len() as u64 - 1) as usize;
    let kills = random.among(&[0, 1, 2]);
    (Box::new(PoolScene { places, number: 0, total }), Conduct { at_once: 4, most: 4, kills, slices: false })
}

impl Scene for PoolScene {
    fn has_more(&self) -> bool {
        self.number < self.total
    }

    fn next(&mut self, random: &mut Random) -> Option<Newcomer> {
        let (places, who, own) = (self.places.clone(), self.number, Random::new(random.below(u64::MAX)));
        self.number += 1;
        Some(Newcomer { membarrier: true, life: Box::new(move || places.live(who, own)) })
    }

    fn killed(&mut self, who: usize) {
        self.places.dead.borrow_mut().push(LANES[who]);
    }

    fn finish(&mut self) {
        self.places.repair();
        assert_eq!(self.places.pool().taken(), 0, "a place is missing");
    }
}
