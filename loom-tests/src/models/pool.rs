//! Models of `src/raw/pool.rs`. One word stands for the payload of a block, another for the one
//! message that names the block.

use super::*;
use crate::raw::pool::{BlockRef, Pool};

/// A pool of one block, and a slot for one message.
#[derive(Clone)]
struct PoolWorld {
    owners: SharedWords,
    payload: Shared<AtomicU64>,
    /// 0 if there is no message, else the owner word of the block that was sent.
    sent: Shared<AtomicU64>,
}

impl PoolWorld {
    fn new() -> Self {
        Self { owners: new_words(1), payload: new_word(), sent: new_word() }
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.owners.clone())
    }

    fn allocate(&self, participant: usize) -> Option<BlockRef> {
        self.pool().allocate(participant, 0, 1, 0)
    }

    fn free(&self, block: BlockRef) -> bool {
        self.pool().free(block)
    }

    /// Allocates the block, fills it and sends it.
    fn send(&self, participant: usize, value: u64) -> bool {
        let Some(block) = self.allocate(participant) else { return false };
        self.payload.store(value, Ordering::Relaxed);
        self.sent.store(block.owner, Ordering::Release);
        true
    }

    /// Reads the message and frees its block. The message is removed last, as a slot is released.
    fn receive(&self) -> Option<u64> {
        let owner = self.sent.load(Ordering::Acquire);
        if owner == 0 {
            return None;
        }
        let value = self.payload.load(Ordering::Relaxed);
        assert!(self.free(BlockRef { block: 0, owner }), "freed by somebody else");
        let _ = self.sent.compare_exchange(owner, 0, Ordering::Release, Ordering::Relaxed);
        Some(value)
    }

    /// Frees what the dead participant allocated and did not send.
    fn repair(&self, participant: usize) {
        let remove_sent = |blocks: &mut Vec<BlockRef>| {
            let sent = self.sent.load(Ordering::Acquire);
            blocks.retain(|block| block.owner != sent);
        };
        self.pool().free_unsent(participant, remove_sent, |block| {
            self.free(block);
        });
    }
}

#[test]
fn pool_contended_block_is_allocated_once() {
    model(|| {
        let world = PoolWorld::new();
        let other = spawn(&world, |world| world.allocate(OTHER));
        let blocks = [world.allocate(VICTIM), join(other)];
        assert_eq!(blocks.iter().flatten().count(), 1);
        assert_eq!(world.pool().allocated(), 1);
    });
}

/// The receiver frees a block, and so does a repairer that counts its message as lost. The next
/// owner keeps what it allocates in between.
#[test]
fn pool_block_freed_twice_second_free_is_refused() {
    model(|| {
        let world = PoolWorld::new();
        let block = world.allocate(VICTIM).unwrap();
        let again = spawn(&world, move |world| {
            let first = world.free(block);
            // The same participant again: only the generation differs.
            (first, world.allocate(VICTIM))
        });
        let second = world.free(block);
        let (first, next) = join(again);
        assert!(first ^ second, "freed {} times", u32::from(first) + u32::from(second));
        assert!(world.pool().is_allocated(next.unwrap()), "the next owner lost its block");
        assert!(!world.pool().is_allocated(block));
    });
}

#[test]
fn pool_block_is_read_before_it_is_reused() {
    model(|| {
        let world = PoolWorld::new();
        assert!(world.send(VICTIM, 1));
        let next =
            spawn(&world, |world| world.allocate(OTHER).is_some_and(|_| world.payload.load(Ordering::Relaxed) == 2));
        // The reader writes a value of its own: the next owner must find it.
        assert_eq!(world.payload.load(Ordering::Relaxed), 1);
        world.payload.store(2, Ordering::Relaxed);
        let owner = world.sent.load(Ordering::Relaxed);
        assert!(world.free(BlockRef { block: 0, owner }));
        let seen = join(next);
        assert!(seen || world.allocate(VICTIM).is_some(), "reused before it was read");
    });
}

/// A sender is killed at any access while a receiver takes what it finds. After repair the block
/// is free, or in a message.
#[test]
fn pool_sender_killed_block_is_free_or_sent() {
    for_every_kill(20, |accesses| {
        let world = PoolWorld::new();
        let victim = spawn(&world, move |world| kill_after(accesses, || assert!(world.send(VICTIM, 7))));
        let receiver = spawn(&world, |world| world.receive());
        let finished = join(victim);
        // The receiver may still be running.
        world.repair(VICTIM);
        assert!(join(receiver).is_none_or(|value| value == 7));
        if world.sent.load(Ordering::Acquire) != 0 {
            assert_eq!(world.receive(), Some(7), "the block of a message was freed");
        }
        assert!(world.allocate(OTHER).is_some(), "the block is lost");
        finished
    });
}
