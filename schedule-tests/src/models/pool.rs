//! The pool alone, with participants whose indices differ in their upper bits only. No block has
//! two owners, and a repair frees all that the dead participant had, and nothing else.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Heap, Words};
use crate::primitive::Ordering;
use crate::raw::pool::{BlockRef, Pool};
use crate::world::{self, NewParticipant, Random, Scene, Settings, try_lock, unlock};

/// The lock that makes repairs run one at a time.
const REPAIR: usize = 0;

const RECORDS: &[usize] = &[0, 1, 255, 256, 257, 511, 4094, 4095];

#[derive(Clone)]
struct Blocks {
    owners: Words,
    content: Words,
    dead: Rc<RefCell<Vec<usize>>>,
}

impl Blocks {
    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.owners.clone())
    }

    fn run(&self, id: usize, mut random: Random) {
        let (pool, record, blocks) = (self.pool(), RECORDS[id], self.owners.len() as u64);
        let mut held: Vec<(BlockRef, u64)> = Vec::new();
        for number in 0..4 + random.below(12) {
            let mine = (id as u64) << 32 | number;
            match random.below(3) {
                0 => self.repair(),
                1 if !held.is_empty() => {
                    let (block, content) = held.swap_remove(random.below(held.len() as u64) as usize);
                    let found = self.content[block.block as usize].load(Ordering::Relaxed);
                    assert_eq!(found, content, "somebody else has written there");
                    assert!(pool.free(block), "somebody else has freed it");
                    assert!(!pool.free(block), "it is freed twice");
                }
                _ => {
                    if let Some(block) = pool.allocate(record, 0, blocks, random.below(blocks)) {
                        self.content[block.block as usize].store(mine, Ordering::Relaxed);
                        held.push((block, mine));
                    }
                }
            }
            assert_eq!(pool.owned_by(record).count(), held.len(), "the blocks of a participant");
        }
        for (block, _) in held {
            assert!(pool.free(block), "somebody else has freed it");
        }
    }

    fn repair(&self) {
        if !try_lock(REPAIR) {
            return;
        }
        let (pool, dead) = (self.pool(), self.dead.borrow().clone());
        for record in dead {
            pool.free_unsent(record, |_| {}, |block| _ = pool.free(block));
            world::count("repairs");
        }
        unlock(REPAIR);
    }
}

struct PoolScene {
    blocks: Blocks,
    number: usize,
    total: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let count = 1 + random.below(6) as usize;
    let (owners, content) = (Words::new("owner", count), Words::new("content", count));
    let blocks = Blocks { owners, content, dead: Rc::default() };
    let total = 2 + random.below(RECORDS.len() as u64 - 1) as usize;
    let kills = random.among(&[0, 1, 2]);
    (Box::new(PoolScene { blocks, number: 0, total }), Settings { concurrent: 4, max: 4, kills, timeouts: false })
}

impl Scene for PoolScene {
    fn has_next(&self) -> bool {
        self.number < self.total
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        let (blocks, id, own) = (self.blocks.clone(), self.number, Random::new(random.below(u64::MAX)));
        self.number += 1;
        Some(NewParticipant { membarrier: true, body: Box::new(move || blocks.run(id, own)) })
    }

    fn killed(&mut self, id: usize) {
        self.blocks.dead.borrow_mut().push(RECORDS[id]);
    }

    fn finish(&mut self) {
        self.blocks.repair();
        assert_eq!(self.blocks.pool().allocated(), 0, "a block is missing");
    }
}
