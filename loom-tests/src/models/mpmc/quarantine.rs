//! A slot is skipped because its owner is slow, and comes back when the owner is done.

use super::*;

/// A consumer holds the whole ring as one batch. A producer that keeps trying gets Full and moves
/// nothing.
#[test]
fn mpmc_full_ring_push_moves_nothing() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut ring, mut slow) = (world.ring(0), world.ring(1));
        push(&mut ring, 1);
        push(&mut ring, 2);
        let outcome = slow.pop_many(2, |index, payload| {
            assert_eq!(load_message(payload), 1 + index);
            for _ in 0..4 {
                assert_eq!(push(&mut ring, 3), if index == 0 { Push::Full } else { Push::Done(1) });
                if index == 1 {
                    break;
                }
            }
        });
        assert_eq!(outcome.unwrap(), Pop::Done(2));
        assert!(world.words().len() <= 2, "tail ran away");
        assert_eq!(pop(&mut ring), Some(3));
        assert_eq!(world.drain_whole(), []);
    });
}

/// A consumer that polls skips a slow producer's slot only if there is something behind it.
#[test]
fn mpmc_polling_consumer_skips_no_slot_for_nothing() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut slow, mut polling) = (world.ring(0), world.ring(1));
        let mut fills = 0;
        let outcome = slow.push(|payload| {
            fills += 1;
            assert_eq!(pop(&mut polling), None);
            store_message(payload, 1);
        });
        assert_eq!((outcome.unwrap(), fills), (Push::Done(1), 1));
        assert_eq!(pop(&mut polling), Some(1));
    });
}

/// A slow consumer is skipped. Its message stays whole, and its slot is used again.
#[test]
fn mpmc_slow_consumer_skipped_slot_returns() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut ring, mut slow) = (world.ring(0), world.ring(1));
        push(&mut ring, 1);
        push(&mut ring, 2);
        let outcome = slow.pop(|payload| {
            assert_eq!(pop(&mut ring), Some(2));
            assert_eq!(push(&mut ring, 3), Push::Done(1), "a free slot is beyond the slow one");
            assert_eq!(world.words().quarantined(), 1);
            assert_eq!(push(&mut ring, 4), Push::Full);
            assert_eq!(pop(&mut ring), Some(3));
            assert_eq!(push(&mut ring, 5), Push::Done(1), "and on the next lap");
            assert_eq!(load_message(payload), 1);
        });
        assert_eq!(outcome.unwrap(), Pop::Done(1));
        assert_eq!(world.drain_whole(), [5]);
    });
}

/// A slow consumer's position was skipped by producers and not yet by consumers. Its slot returns
/// while they do that.
#[test]
fn mpmc_slot_returned_while_being_skipped_messages_arrive() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut ring, mut slow) = (world.ring(0), world.ring(1));
        push(&mut ring, 1);
        push(&mut ring, 2);
        let mut other = None;
        let outcome = slow.pop(|payload| {
            assert_eq!(pop(&mut ring), Some(2));
            assert_eq!(push(&mut ring, 3), Push::Done(1));
            other = Some(spawn(&world, |world| {
                let mut ring = world.ring(2);
                (pop(&mut ring), push(&mut ring, 4), pop(&mut ring))
            }));
            assert_eq!(load_message(payload), 1);
        });
        assert_eq!(outcome, Ok(Pop::Done(1)));
        let (first, sent, second) = join(other.unwrap());
        assert_eq!((first, sent), (Some(3), Push::Done(1)));
        let rest = world.drain_whole();
        assert!(second == Some(4) && rest.is_empty(), "{second:?}, {rest:?}");
    });
}

/// A consumer skips the first half of a batch to get at what is behind it. The second half must
/// not be received first.
#[test]
fn mpmc_batch_half_skipped_keeps_order() {
    model(|| {
        let world = MpmcWorld::with(4, 0);
        let batch = spawn(&world, |world| {
            push_batch(&mut world.ring(1), 2, |refused| panic!("{refused:?} with three messages and four slots"));
        });
        let consumer = spawn(&world, |world| {
            let mut ring = world.ring(2);
            push(&mut ring, 9);
            pop(&mut ring)
        });
        join(batch);
        let all: Vec<u64> = join(consumer).into_iter().chain(world.drain_whole()).collect();
        let batch: Vec<u64> = all.iter().copied().filter(|n| *n != 9).collect();
        assert_eq!(batch, [1, 2]);
        assert_eq!(all.len(), 3);
    });
}

// The mark of slot 0 while position 0 waits for its producer.
const PROPOSED: u64 = 3 << 2;
const SKIPPED_UNSENT: u64 = 3 << 2 | 2;

fn change_mark(world: &MpmcWorld, old: u64, new: u64) -> bool {
    world.marks[0].compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// A producer publishes while `skip` skips it, step by step, and goes no further. Another consumer
/// may take the message only if it was not skipped.
fn skipped_by_hand(skip: fn(&MpmcWorld), is_proposed: bool) {
    model(move || {
        let world = MpmcWorld::new();
        let mut slow = world.ring(0);
        let mut others = Vec::new();
        let outcome = slow.push(|payload| {
            if others.is_empty() {
                assert_eq!(push(&mut world.ring(1), 2), Push::Done(1));
                if is_proposed {
                    world.marks[0].store(PROPOSED, Ordering::Relaxed);
                }
                others.push(spawn(&world, |world| pop(&mut world.ring(2))));
                others.push(spawn(&world, move |world| {
                    skip(&world);
                    None
                }));
            }
            store_message(payload, 1);
        });
        assert_eq!(outcome.unwrap(), Push::Done(1));
        let received: Vec<u64> = others.into_iter().filter_map(join).collect();
        assert_eq!(world.all_received(received), [1, 2]);
    });
}

/// The consumer has proposed the skip and looked at the slot, and now decides.
#[test]
fn mpmc_skip_proposed_message_is_received_once() {
    let decide = |world: &MpmcWorld| {
        change_mark(world, PROPOSED, SKIPPED_UNSENT);
    };
    skipped_by_hand(decide, true);
}

/// All steps: proposal, fence, look, decision.
#[test]
fn mpmc_skipped_message_is_not_received() {
    let skip = |world: &MpmcWorld| {
        if change_mark(world, 0, PROPOSED) && heavy_fence() && world.slots[0].load(Ordering::Acquire) == 0 {
            change_mark(world, PROPOSED, SKIPPED_UNSENT);
        }
    };
    skipped_by_hand(skip, false);
}

/// The owner of a claim is killed at any access after the claim, while another participant is about
/// to skip it and repair runs. Whatever that one decides then, no slot is lost.
fn killed_during_skip(claim: fn(&MpmcWorld, &mut dyn FnMut()), skip: fn(&MpmcWorld)) {
    for_every_kill(30, move |accesses| {
        let world = MpmcWorld::new();
        let victim = spawn(&world, move |world| {
            let mut claims = 0;
            let finished = kill_after(usize::MAX, || {
                claim(&world, &mut || {
                    claims += 1;
                    // If it was skipped it claims again, which is not part of this model.
                    with_budget(|budget| budget.set(if claims == 1 { accesses } else { 0 }));
                });
            });
            finished || claims > 1
        });
        let skipping = spawn(&world, move |world| skip(&world));
        let finished = join(victim);
        let is_whole = world.repair(&[0, 1]);
        join(skipping);
        assert!(is_whole || world.repair(&[0, 1]));
        world.drain_whole();
        finished
    });
}

#[test]
fn mpmc_consumer_killed_during_skip_its_slot_is_freed() {
    let claim = |world: &MpmcWorld, claimed: &mut dyn FnMut()| {
        let (mut ring, mut other) = (world.ring(2), world.ring(0));
        assert_eq!((push(&mut other, 1), push(&mut other, 2)), (Push::Done(1), Push::Done(1)));
        let _ = ring.pop(|_| {
            assert_eq!(pop(&mut other), Some(2));
            claimed();
        });
    };
    let skip = |world: &MpmcWorld| {
        let mut ring = world.ring(1);
        if world.head.load(Ordering::Acquire) == 2 {
            push(&mut ring, 3);
        }
    };
    killed_during_skip(claim, skip);
}

#[test]
fn mpmc_producer_killed_during_skip_its_slot_is_freed() {
    let claim = |world: &MpmcWorld, claimed: &mut dyn FnMut()| {
        let mut first = true;
        let _ = world.ring(2).push(|payload| {
            store_message(payload, 1);
            if std::mem::replace(&mut first, false) {
                push(&mut world.ring(0), 2);
            }
            claimed();
        });
    };
    let skip = |world: &MpmcWorld| {
        pop(&mut world.ring(1));
    };
    killed_during_skip(claim, skip);
}
