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

    /// Allocates the block and fills it.
    fn fill(&self, participant: usize, value: u64) -> Option<BlockRef> {
        let block = self.allocate(participant)?;
        self.payload.store(value, Ordering::Relaxed);
        Some(block)
    }

    /// Allocates the block, fills it and sends it.
    fn send(&self, participant: usize, value: u64) -> bool {
        let Some(block) = self.fill(participant, value) else { return false };
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

    /// Takes the message's block over, and then removes the message.
    fn receive_in_place(&self, participant: usize) -> Option<BlockRef> {
        let owner = self.sent.load(Ordering::Acquire);
        if owner == 0 {
            return None;
        }
        let block = self.pool().take_over(BlockRef { block: 0, owner }, participant);
        assert!(block.is_some(), "freed by somebody else");
        let _ = self.sent.compare_exchange(owner, 0, Ordering::Release, Ordering::Relaxed);
        block
    }

    /// Counts the message that a dead receiver has claimed as lost, if it is still there.
    fn discard(&self, claimed: u64) {
        if self.sent.load(Ordering::Acquire) == claimed {
            self.free(BlockRef { block: 0, owner: claimed });
            let _ = self.sent.compare_exchange(claimed, 0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Frees what the dead participant allocated and did not send, or took over.
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
    for is_in_place in [false, true] {
        model(move || read_before_reused(is_in_place));
    }
}

fn read_before_reused(is_in_place: bool) {
    let world = PoolWorld::new();
    assert!(world.send(VICTIM, 1));
    let block = match is_in_place {
        true => world.receive_in_place(THIRD).unwrap(),
        false => BlockRef { block: 0, owner: world.sent.load(Ordering::Relaxed) },
    };
    let next = spawn(&world, |world| world.allocate(OTHER).is_some_and(|_| world.payload.load(Ordering::Relaxed) == 2));
    // The reader writes a value of its own: the next owner must find it.
    assert_eq!(world.payload.load(Ordering::Relaxed), 1);
    world.payload.store(2, Ordering::Relaxed);
    assert!(world.free(block));
    let seen = join(next);
    assert!(seen || world.allocate(VICTIM).is_some(), "reused before it was read");
}

/// Whoever has the index now: an earlier process of the same participant may have sent the message.
#[test]
fn pool_block_taken_over_reference_of_message_is_invalid() {
    model(|| {
        for receiver in [VICTIM, OTHER] {
            let world = PoolWorld::new();
            let sent = world.allocate(VICTIM).unwrap();
            let other = spawn(&world, move |world| world.free(sent));
            let held = world.pool().take_over(sent, receiver);
            let is_freed = join(other);
            assert!(held.is_some() ^ is_freed, "taken over and freed, or neither");
            assert!(
                !world.free(sent) && world.pool().take_over(sent, THIRD).is_none() && !world.pool().is_allocated(sent)
            );
            assert_eq!(held.is_some(), held.is_some_and(|block| world.free(block)), "the receiver has lost its block");
            assert!(world.allocate(THIRD).is_some(), "the block is lost");
        }
    });
}

/// A sender is dead, and repaired before, while or after a receiver takes its message over.
#[test]
fn pool_sender_repaired_receiver_keeps_block_taken_over() {
    model(|| {
        let world = PoolWorld::new();
        assert!(world.send(VICTIM, 7));
        let receiver = spawn(&world, |world| world.receive_in_place(OTHER));
        world.repair(VICTIM);
        let block = join(receiver).unwrap();
        world.repair(VICTIM);
        assert!(world.allocate(THIRD).is_none(), "the block of a receiver is free");
        assert_eq!(world.payload.load(Ordering::Relaxed), 7);
        assert!(world.free(block), "somebody else has freed it");
    });
}

/// A receiver is killed at any access: before it takes the block over, before it removes the
/// message, while it reads, after it has freed the block. A sender wants the block meanwhile.
#[test]
fn pool_receiver_killed_block_taken_over_is_free() {
    for_every_kill(20, |accesses| {
        let world = PoolWorld::new();
        assert!(world.send(OTHER, 7));
        let claimed = world.sent.load(Ordering::Relaxed);
        let sender = spawn(&world, |world| world.fill(THIRD, 8));
        let finished = kill_after(accesses, || {
            let block = world.receive_in_place(VICTIM).unwrap();
            assert_eq!(world.payload.load(Ordering::Relaxed), 7, "written while it was read");
            assert!(world.free(block), "freed by somebody else");
        });
        world.discard(claimed);
        world.repair(VICTIM);
        if let Some(block) = join(sender) {
            assert_eq!(world.payload.load(Ordering::Relaxed), 8);
            assert!(world.free(block), "the sender has lost its block");
        }
        assert!(world.allocate(OTHER).is_some(), "the block is lost");
        finished
    });
}

/// The repairer of a receiver that has died with a block is killed, too. The next one finishes, and
/// leaves alone what a sender has allocated meanwhile.
#[test]
fn pool_repairer_killed_block_taken_over_is_freed_once() {
    for has_removed_message in [false, true] {
        for_every_kill(20, move |accesses| {
            let world = PoolWorld::new();
            assert!(world.send(OTHER, 7));
            let claimed = world.sent.load(Ordering::Relaxed);
            assert!(world.receive_in_place(VICTIM).is_some());
            if !has_removed_message {
                world.sent.store(claimed, Ordering::Release);
            }
            let sender = spawn(&world, |world| world.allocate(THIRD));
            let repair = |world: &PoolWorld| {
                world.discard(claimed);
                world.repair(VICTIM);
            };
            let finished = kill_after(accesses, || repair(&world));
            repair(&world);
            match join(sender) {
                Some(block) => assert!(world.free(block), "the sender has lost its block"),
                None => assert!(world.allocate(OTHER).is_some(), "the block is lost"),
            }
            finished
        });
    }
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
