//! Models of `src/raw/redelivery.rs`. One word stands for the payload of a block, another for the
//! slot with the one message that names the block. The victim, or nobody, has claimed it.

use super::*;
use crate::raw::mpmc::{Ring, RingWords};
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::redelivery::{Deliveries, Standing, delivery_count, standing};

#[derive(Clone)]
struct RedeliveryWorld {
    owners: SharedWords,
    requeued: Shared<AtomicU64>,
    payload: Shared<AtomicU64>,
    /// 0 if there is no message, else the owner word of the block that was sent.
    sent: Shared<AtomicU64>,
    limit: u64,
}

impl RedeliveryWorld {
    fn new(limit: u64) -> Self {
        Self { owners: new_words(1), requeued: new_word(), payload: new_word(), sent: new_word(), limit }
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::with_counts(self.owners.clone())
    }

    fn deliveries(&self) -> Deliveries<Heap> {
        Deliveries::new(self.owners.clone(), self.requeued.clone(), self.limit)
    }

    fn allocate(&self, participant: usize) -> Option<BlockRef> {
        self.pool().allocate(participant, 0, 1, 0)
    }

    fn send(&self, participant: usize, value: u64) {
        let block = self.allocate(participant).expect("a free block");
        self.payload.store(value, Ordering::Relaxed);
        self.sent.store(block.owner, Ordering::Release);
    }

    /// The message in the slot, which the caller has claimed.
    fn claimed(&self) -> Option<BlockRef> {
        let owner = self.sent.load(Ordering::Acquire);
        (owner != 0).then_some(BlockRef { block: 0, owner })
    }

    /// Holds the message and then removes it from the slot.
    fn receive(&self, participant: usize) -> Option<BlockRef> {
        let message = self.claimed()?;
        let held = self.deliveries().hold(message, participant);
        self.sent.store(0, Ordering::Release);
        Some(held.expect("the message of a living claimer was taken"))
    }

    fn take(&self, participant: usize) -> Option<BlockRef> {
        self.deliveries().take_requeued(participant, |block| block)
    }

    /// Repairs a receiver that had claimed the message, as `queue/repair.rs` does.
    fn repair(&self, participant: usize) {
        if let Some(message) = self.claimed() {
            self.deliveries().requeue_claimed(message);
            self.sent.store(0, Ordering::Release);
        }
        self.release_held(participant);
    }

    /// The part of it that is about blocks.
    fn release_held(&self, participant: usize) {
        self.deliveries().requeue_all(participant, 0..1);
        self.deliveries().announce();
        self.free_unsent(participant);
    }

    fn free_unsent(&self, participant: usize) {
        let pool = self.pool();
        let remove_sent = |blocks: &mut Vec<BlockRef>| {
            let sent = self.sent.load(Ordering::Acquire);
            blocks.retain(|block| block.owner != sent);
        };
        pool.free_unsent(participant, remove_sent, |block| {
            pool.free(block);
        });
    }

    fn finish(&self, held: BlockRef) {
        assert!(self.deliveries().finish(held), "taken from a living holder");
    }

    fn standing(&self) -> Standing {
        standing(self.owners[0].load(Ordering::Acquire))
    }

    /// Nothing is left of the message: the block is free, and another sender gets it.
    fn assert_done(&self) {
        assert_eq!(self.standing(), Standing::Free);
        assert!(self.take(THIRD).is_none(), "delivered after it was done");
        assert!(self.allocate(THIRD).is_some(), "the block is lost");
    }
}

/// A receiver is killed at any access: before it holds the message, before it releases the slot,
/// while it works, after it has finished. Another receiver looks for the message meanwhile.
#[test]
fn redelivery_receiver_killed_message_is_done_or_delivered_again() {
    for_every_kill(20, |accesses| {
        let world = RedeliveryWorld::new(3);
        world.send(OTHER, 7);
        let other = spawn(&world, |world| world.take(OTHER));
        let is_done = Note::new(false);
        let finished = kill_after(accesses, || {
            let held = world.receive(VICTIM).unwrap();
            assert_eq!((world.payload.load(Ordering::Relaxed), delivery_count(held.owner)), (7, 1));
            world.finish(held);
            is_done.set(true);
        });
        world.repair(VICTIM);
        let found = join(other).or_else(|| world.take(THIRD));
        match found {
            None => assert!(is_done.get() || world.standing() == Standing::Free, "a message was lost"),
            Some(held) => {
                assert!(!is_done.get(), "delivered after it was done");
                assert_eq!((world.payload.load(Ordering::Relaxed), delivery_count(held.owner)), (7, 2));
                world.finish(held);
            }
        }
        world.assert_done();
        finished
    });
}

/// The repairer is killed at any access, and so is the next one, while another receiver takes what
/// is there already and finishes it. The sender of the message then fills the block again.
#[test]
fn redelivery_repairer_killed_message_is_delivered_once() {
    for has_held in [false, true] {
        for_every_kill(24, move |accesses| {
            let world = RedeliveryWorld::new(3);
            world.deliveries().announce(); // of an earlier message: what is requeued can be taken at once
            world.send(OTHER, 7);
            if has_held {
                // Killed before it has released the slot.
                let claimed = world.claimed().unwrap();
                assert!(world.deliveries().hold(claimed, VICTIM).is_some());
            }
            let other = spawn(&world, |world| {
                let held = world.take(OTHER)?;
                let found = (world.payload.load(Ordering::Relaxed), delivery_count(held.owner));
                world.finish(held);
                Some((found, world.allocate(OTHER).expect("a free block")))
            });
            let finished = kill_after(accesses, || world.repair(VICTIM));
            let _ = kill_after(accesses / 2, || world.repair(VICTIM));
            world.repair(VICTIM);
            let second = match join(other) {
                Some((first, again)) => {
                    assert!(world.take(THIRD).is_none(), "delivered twice");
                    assert!(world.pool().free(again), "the sender has lost its block");
                    first
                }
                None => {
                    let held = world.take(THIRD).expect("a message was lost");
                    world.finish(held);
                    (7, delivery_count(held.owner))
                }
            };
            assert_eq!(second, (7, 2));
            world.assert_done();
            finished
        });
    }
}

/// The victim held the message twice, and its limit is two deliveries.
#[test]
fn redelivery_limit_reached_message_is_dead_letter() {
    for_every_kill(24, |accesses| {
        let world = RedeliveryWorld::new(2);
        world.send(OTHER, 7);
        let first = world.receive(VICTIM).unwrap();
        assert!(world.deliveries().requeue(first), "set aside too soon");
        assert!(world.take(VICTIM).is_some());
        let reader = spawn(&world, |world| {
            let letter = world.deliveries().dead_letters().next()?;
            let value = world.payload.load(Ordering::Relaxed);
            world.deliveries().is_dead_letter(letter).then_some(value)
        });
        let finished = kill_after(accesses, || world.repair(VICTIM));
        world.repair(VICTIM);
        assert!(join(reader).is_none_or(|value| value == 7));
        assert!(world.take(THIRD).is_none(), "delivered too often");
        let letter = world.deliveries().dead_letters().next().expect("a dead letter");
        assert_eq!(delivery_count(letter.owner), 2);
        let taken = world.deliveries().remove(letter, THIRD).unwrap();
        assert!(world.pool().free(taken));
        world.assert_done();
        finished
    });
}

#[test]
fn redelivery_contended_message_is_taken_once() {
    model(|| {
        let world = RedeliveryWorld::new(9);
        world.send(VICTIM, 7);
        let held = world.receive(VICTIM).unwrap();
        assert!(world.deliveries().requeue(held));
        let other = spawn(&world, |world| world.take(OTHER));
        let taken = [world.take(THIRD), join(other)];
        assert_eq!(taken.iter().flatten().count(), 1);
        assert!(taken.into_iter().flatten().all(|held| world.deliveries().finish(held)), "taken from its holder");
        world.assert_done();
    });
}

/// A receiver that finds nothing clears SOME while another one gives its message back.
#[test]
fn redelivery_requeued_while_scanned_message_is_found() {
    model(|| {
        let world = RedeliveryWorld::new(9);
        world.send(OTHER, 7);
        let held = world.receive(VICTIM).unwrap();
        world.deliveries().announce(); // of an earlier message
        let scanner = spawn(&world, |world| world.take(OTHER));
        assert!(world.deliveries().requeue(held));
        let found = join(scanner).or_else(|| world.take(THIRD));
        assert_eq!(found.map(|held| delivery_count(held.owner)), Some(2), "nobody finds the message");
    });
}

/// A receiver is killed while it gives its message back.
#[test]
fn redelivery_killed_while_requeueing_message_is_found() {
    for_every_kill(12, |accesses| {
        let world = RedeliveryWorld::new(9);
        world.send(OTHER, 7);
        let held = world.receive(VICTIM).unwrap();
        let other = spawn(&world, |world| world.take(OTHER));
        let finished = kill_after(accesses, || {
            world.deliveries().requeue(held);
        });
        world.repair(VICTIM);
        let found = join(other).or_else(|| world.take(THIRD));
        assert_eq!(found.map(|held| delivery_count(held.owner)), Some(2), "nobody finds the message");
        finished
    });
}

/// What the dead receiver has seen of the message, the next one sees.
#[test]
fn redelivery_message_is_whole_for_next_receiver() {
    for (is_repaired, is_held) in [(false, true), (true, true), (true, false)] {
        model(move || {
            let world = RedeliveryWorld::new(9);
            world.deliveries().announce(); // of an earlier message: it orders nothing about this one
            let victim = spawn(&world, move |world| {
                world.send(VICTIM, 7);
                let held = if is_held { world.receive(VICTIM) } else { None };
                if let Some(held) = held.filter(|_| !is_repaired) {
                    world.deliveries().requeue(held);
                }
            });
            let check = |world: &RedeliveryWorld| {
                let taken = world.take(THIRD);
                assert!(taken.is_none() || world.payload.load(Ordering::Relaxed) == 7, "not the whole message");
                taken
            };
            let other = spawn(&world, move |world| check(&world).is_some());
            if is_repaired {
                // As a repairer that scans: nothing else orders it after the victim.
                if let Some(message) = world.claimed().filter(|_| !is_held) {
                    world.deliveries().requeue_claimed(message);
                }
                world.deliveries().requeue_all(VICTIM, 0..1);
            }
            join(other);
            join(victim);
        });
    }
}

#[test]
fn redelivery_block_is_read_before_it_is_reused() {
    model(|| {
        let world = RedeliveryWorld::new(9);
        world.send(VICTIM, 1);
        let held = world.receive(OTHER).unwrap();
        let next =
            spawn(&world, |world| world.allocate(VICTIM).is_none_or(|_| world.payload.load(Ordering::Relaxed) == 2));
        assert_eq!(world.payload.load(Ordering::Relaxed), 1);
        world.payload.store(2, Ordering::Relaxed);
        world.finish(held);
        assert!(join(next), "reused before it was read");
    });
}

/// A sender is dead, and repaired before, while or after a receiver holds its message.
#[test]
fn redelivery_sender_repaired_receiver_keeps_message() {
    model(|| {
        let world = RedeliveryWorld::new(9);
        world.send(VICTIM, 7);
        let receiver = spawn(&world, |world| world.receive(OTHER));
        world.free_unsent(VICTIM);
        let held = join(receiver).unwrap();
        world.release_held(VICTIM);
        assert!(world.allocate(THIRD).is_none(), "the block of a receiver is free");
        world.finish(held);
        world.assert_done();
    });
}

/// Two take a dead letter: one to remove it, which dies at any access, one to have it delivered.
#[test]
fn redelivery_dead_letter_taken_by_two_is_handled_once() {
    for_every_kill(8, |accesses| {
        let world = RedeliveryWorld::new(1);
        world.send(OTHER, 7);
        let held = world.receive(OTHER).unwrap();
        assert!(!world.deliveries().requeue(held));
        let letter = world.deliveries().dead_letters().next().unwrap();
        let other = spawn(&world, move |world| world.deliveries().redrive(letter));
        let finished = kill_after(accesses, || {
            if let Some(taken) = world.deliveries().remove(letter, VICTIM) {
                world.pool().free(taken);
            }
        });
        let is_redriven = join(other);
        world.release_held(VICTIM);
        match world.take(THIRD) {
            Some(held) => {
                assert!(is_redriven && delivery_count(held.owner) == 1);
                world.finish(held);
            }
            None => assert!(!is_redriven, "a message was lost"),
        }
        world.assert_done();
        finished
    });
}

#[test]
fn redelivery_dead_letter_is_whole_for_reader() {
    model(|| {
        let world = RedeliveryWorld::new(1);
        let receiver = spawn(&world, |world| {
            world.send(VICTIM, 7);
            let held = world.receive(VICTIM).unwrap();
            assert!(!world.deliveries().requeue(held));
        });
        let letter = world.deliveries().dead_letters().next();
        let read = world.payload.load(Ordering::Relaxed);
        join(receiver);
        assert!(letter.is_none() || read == 7, "not the whole message");
    });
}

#[test]
fn redelivery_dead_letter_redriven_message_is_found() {
    model(|| {
        let world = RedeliveryWorld::new(1);
        world.send(OTHER, 7);
        let held = world.receive(OTHER).unwrap();
        assert!(!world.deliveries().requeue(held));
        let other = spawn(&world, |world| world.take(OTHER));
        let letter = world.deliveries().dead_letters().next().unwrap();
        assert!(world.deliveries().redrive(letter));
        let found = join(other).or_else(|| world.take(THIRD));
        assert_eq!(found.map(|held| delivery_count(held.owner)), Some(1), "nobody finds the message");
    });
}

/// A dead letter is removed, and a sender fills its block, while another one reads it.
#[test]
fn redelivery_dead_letter_read_while_removed_is_whole_or_gone() {
    model(|| {
        let world = RedeliveryWorld::new(1);
        world.send(OTHER, 7);
        let held = world.receive(OTHER).unwrap();
        assert!(!world.deliveries().requeue(held));
        let letter = world.deliveries().dead_letters().next().unwrap();
        let remover = spawn(&world, move |world| {
            let taken = world.deliveries().remove(letter, OTHER).unwrap();
            world.finish(taken);
            let _ = world.allocate(OTHER).unwrap();
            Deliveries::<Heap>::fence_before_write();
            world.payload.store(8, Ordering::Relaxed);
        });
        let read = world.payload.load(Ordering::Relaxed);
        let is_whole = world.deliveries().is_dead_letter(letter);
        join(remover);
        assert!(read == 7 || !is_whole, "a later message as the dead letter");
    });
}

/// A receiver is killed while it releases the memory of a message that is done.
#[test]
fn redelivery_killed_after_end_message_is_not_delivered_again() {
    for_every_kill(12, |accesses| {
        let world = RedeliveryWorld::new(9);
        world.send(OTHER, 7);
        let held = world.receive(VICTIM).unwrap();
        let other = spawn(&world, |world| world.take(OTHER).map(|held| (held, world.payload.load(Ordering::Relaxed))));
        let finished = kill_after(accesses, || {
            let ended = world.deliveries().end(held).unwrap();
            world.payload.store(0, Ordering::Relaxed);
            assert!(world.pool().free(ended), "somebody has freed the block");
        });
        world.repair(VICTIM);
        let found = join(other).or_else(|| world.take(THIRD).map(|held| (held, world.payload.load(Ordering::Relaxed))));
        if let Some((held, value)) = found {
            assert_eq!(value, 7, "delivered without its memory");
            world.finish(held);
        }
        world.assert_done();
        finished
    });
}

/// A ring with one message, which names the block of a world.
#[derive(Clone)]
struct JoinWorld {
    blocks: RedeliveryWorld,
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    slots: SharedWords,
    marks: SharedWords,
    intent: Shared<AtomicU64>,
    /// What the receiver does.
    work: Shared<AtomicU64>,
    /// 1: it takes part.
    is_receiver: Shared<AtomicU64>,
}

impl JoinWorld {
    fn new(limit: u64) -> Self {
        let blocks = RedeliveryWorld::new(limit);
        let (slots, marks) = (new_words(2 * 2), new_words(2));
        let (tail, head, intent, work, is_receiver) = (new_word(), new_word(), new_word(), new_word(), new_word());
        is_receiver.store(1, Ordering::Relaxed);
        let world = Self { blocks, tail, head, slots, marks, intent, work, is_receiver };
        world.words().format();
        let block = world.blocks.allocate(OTHER).unwrap();
        let mut sender = Ring::new(world.words(), 0, new_word(), 1000);
        sender.push(|payload| payload[0].store(block.owner, Ordering::Relaxed)).unwrap();
        world
    }

    fn words(&self) -> RingWords<Heap> {
        let (tail, head) = (self.tail.clone(), self.head.clone());
        let (slots, marks) = (self.slots.clone(), self.marks.clone());
        RingWords { tail, head, slots, marks, capacity: 2, stride: 2 }
    }

    fn receive(&self) -> BlockRef {
        let (mut ring, deliveries) = (Ring::new(self.words(), 0, self.intent.clone(), 1000), self.blocks.deliveries());
        let mut held = None;
        let hold = |payload: &[AtomicU64]| {
            held = deliveries.hold(BlockRef { block: 0, owner: payload[0].load(Ordering::Relaxed) }, VICTIM);
        };
        ring.pop(hold).unwrap();
        held.expect("a message")
    }

    /// What a receiver that has seen the ring empty does before it concludes that this is the end.
    /// `None`: the ring is not empty.
    fn may_redeliver_to(&self, participant: usize) -> Option<bool> {
        let words = self.words();
        let is_claimed = |head| Ring::<Heap>::claimed_before(&self.intent, head);
        let decide = || {
            self.blocks.deliveries().may_redeliver_to(
                Some(participant),
                || words.head_position(),
                is_claimed,
                |_| self.is_receiver.load(Ordering::Acquire) == 1,
            )
        };
        (words.len() == 0).then(decide)
    }

    fn dead_letters_if_done(&self) -> Option<u64> {
        let is_claimed = || Ring::<Heap>::claimed_before(&self.intent, 1);
        self.blocks.deliveries().dead_letters_if_done(1, || self.words().head_position(), is_claimed, |_| 0)
    }
}

#[test]
fn redelivery_joined_message_is_done() {
    model(|| {
        let world = JoinWorld::new(9);
        let receiver = spawn(&world, |world| {
            let held = world.receive();
            world.work.store(1, Ordering::Relaxed);
            world.blocks.finish(held);
        });
        let joined = world.dead_letters_if_done();
        let work = world.work.load(Ordering::Relaxed);
        join(receiver);
        assert!(joined.is_none() || work == 1, "joined before the message was done");
        assert_eq!(world.dead_letters_if_done(), Some(0));
    });
}

/// It becomes a dead letter, or is requeued and taken by another one that is not done.
#[test]
fn redelivery_joined_message_is_given_back() {
    for limit in [1, 2] {
        model(move || {
            let world = JoinWorld::new(limit);
            let receiver = spawn(&world, |world| {
                let held = world.receive();
                world.blocks.deliveries().requeue(held);
                world.blocks.take(OTHER)
            });
            let joined = world.dead_letters_if_done();
            join(receiver);
            assert!(joined.is_none() || limit == 1 && joined == Some(1), "joined before the message was done");
            assert_eq!(world.dead_letters_if_done(), (limit == 1).then_some(1));
        });
    }
}

/// The senders have left. A receiver is killed at any access, and repaired later: until then
/// another one that finds the ring empty waits, unless the message is done.
#[test]
fn redelivery_receiver_killed_other_sees_no_end_before_its_message() {
    for_every_kill(30, |accesses| {
        let world = JoinWorld::new(9);
        let is_done = Note::new(false);
        let finished = kill_after(accesses, || {
            let held = world.receive();
            is_done.set(true);
            world.blocks.finish(held);
        });
        assert!(world.may_redeliver_to(OTHER) != Some(false) || is_done.get(), "an end before the message");
        finished
    });
}

/// The receiver works meanwhile, and either finishes the message or leaves without.
#[test]
fn redelivery_end_seen_while_received_is_after_the_message() {
    for leaves in [false, true] {
        model(move || {
            let world = JoinWorld::new(9);
            let receiver = spawn(&world, move |world| {
                let held = world.receive();
                if leaves {
                    world.blocks.deliveries().requeue_all(VICTIM, 0..1);
                    world.is_receiver.store(0, Ordering::Release);
                    return;
                }
                world.work.store(1, Ordering::Relaxed);
                world.blocks.finish(held);
            });
            let may_come = world.may_redeliver_to(OTHER);
            let work = world.work.load(Ordering::Relaxed);
            join(receiver);
            assert!(may_come != Some(false) || !leaves && work == 1, "an end before the message is done");
            assert_eq!(world.may_redeliver_to(OTHER), Some(leaves));
        });
    }
}

/// A third process repairs a dead receiver while another one looks whether this is the end. The
/// holder does not wait for itself, and every one for what is requeued.
#[test]
fn redelivery_end_seen_while_repaired_is_after_the_message() {
    model(|| {
        let world = JoinWorld::new(9);
        world.receive();
        assert_eq!(world.may_redeliver_to(VICTIM), Some(false), "it waits for itself");
        let repairer = spawn(&world, |world| {
            world.blocks.deliveries().requeue_all(VICTIM, 0..1);
        });
        assert_eq!(world.may_redeliver_to(OTHER), Some(true), "an end before the message");
        join(repairer);
        assert_eq!(world.may_redeliver_to(VICTIM), Some(true));
        assert!(world.blocks.take(THIRD).is_some(), "it waits for a message that nobody finds");
    });
}

/// An owner word of a damaged region names a participant that is none: nobody waits for it.
#[test]
fn redelivery_held_by_nobody_is_not_waited_for() {
    model(|| {
        let world = JoinWorld::new(9);
        world.receive();
        world.is_receiver.store(0, Ordering::Relaxed);
        assert_eq!(world.may_redeliver_to(OTHER), Some(false));
    });
}
