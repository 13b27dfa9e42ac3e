//! Participants and repairers are killed at any access. Repair frees every slot, counts a lost
//! message once, and leaves the claims of the living alone.

use super::*;

/// A producer is killed while a consumer receives. Repair frees every slot and loses nothing.
#[test]
fn mpmc_producer_killed_nothing_is_lost() {
    for_every_kill(60, |accesses| {
        let world = MpmcWorld::new();
        let victim = spawn(&world, move |world| {
            let mut ring = world.ring(1);
            let mut sent = 0;
            let finished = kill_after(accesses, || {
                for n in 1..=2 {
                    assert_eq!(push(&mut ring, n), Push::Done(1));
                    sent = n;
                }
            });
            (finished, sent)
        });
        let mut ring = world.ring(0);
        let mut all: Vec<u64> = (0..2).filter_map(|_| pop(&mut ring)).collect();
        let (finished, sent) = join(victim);
        assert!(world.repair(&[0]), "nobody was in the way");
        all.extend(world.drain_whole());
        let seen = all.len() as u64;
        assert!(all.iter().copied().eq(1..=seen), "{all:?}");
        assert!(seen == sent || seen == sent + 1, "{sent} sent, {seen} seen");
        assert_eq!(world.lost(), 0, "a message that was never sent is not lost");
        finished
    });
}

/// A consumer is killed while another one receives and a producer laps them. Each message is
/// received once or counted as lost.
#[test]
fn mpmc_consumer_killed_messages_are_received_or_counted_lost() {
    for_every_kill(60, |accesses| {
        let world = MpmcWorld::new();
        let mut ring = world.ring(0);
        for n in 1..=2 {
            assert_eq!(push(&mut ring, n), Push::Done(1));
        }
        let victim = spawn(&world, move |world| {
            let mut ring = world.ring(1);
            let mut received = Vec::new();
            let finished = kill_after(accesses, || {
                for _ in 0..2 {
                    received.extend(pop(&mut ring));
                }
            });
            (finished, received)
        });
        let first = pop(&mut ring);
        let third = push(&mut ring, 3);
        let (finished, received) = join(victim);
        assert!(world.repair(&[0]), "nobody was in the way");
        let mut all = world.all_received(first.into_iter().chain(received));
        all.dedup();
        let sent = if third == Push::Done(1) { 3 } else { 2 };
        let missing = sent - all.len() as u64;
        // The victim may have released a message and been killed before it could return it.
        assert!(world.lost() <= missing && missing <= world.lost() + 1, "{missing} missing, {} lost", world.lost());
        assert!(!finished || missing == 0);
        finished
    });
}

/// A producer of a batch is killed beside a consumer. What was published is received in order, and
/// no slot is missing.
#[test]
fn mpmc_batch_killed_in_push_published_part_arrives_in_order() {
    for_every_kill(60, |accesses| {
        let world = MpmcWorld::new();
        let victim = spawn(&world, move |world| {
            let mut ring = world.ring(1);
            kill_after(accesses, || {
                let _ = ring.push_many(2, |i, payload| store_message(payload, 1 + i));
            })
        });
        let mut ring = world.ring(0);
        let mut all: Vec<u64> = (0..2).filter_map(|_| pop(&mut ring)).collect();
        let finished = join(victim);
        assert!(world.repair(&[0]), "nobody was in the way");
        all.extend(world.drain_whole());
        let seen = all.len() as u64;
        assert!(all.iter().copied().eq(1..=seen), "{all:?}");
        assert_eq!(world.lost(), 0, "a message that was never sent is not lost");
        finished
    });
}

/// A consumer of a batch is killed beside a producer. Each message is received or lost, and no slot
/// is missing.
#[test]
fn mpmc_batch_killed_in_pop_messages_are_received_or_counted_lost() {
    for_every_kill(60, |accesses| {
        let world = MpmcWorld::new();
        let mut ring = world.ring(0);
        push_batch(&mut ring, 2, |refused| panic!("{refused:?}"));
        let victim = spawn(&world, move |world| {
            let mut ring = world.ring(1);
            let mut received = 0;
            let finished = kill_after(accesses, || {
                let _ = ring.pop_many(2, |_, _| received += 1);
            });
            (finished, received)
        });
        push(&mut ring, 3);
        let (finished, received) = join(victim);
        assert!(world.repair(&[0]), "nobody was in the way");
        assert!(world.lost() <= 2 && world.lost() + received >= 2 - world.drain_whole().len().min(2) as u64);
        finished
    });
}

/// A repairer is killed and the next one goes on, while a live participant laps them.
fn repairer_killed(die: fn(&MpmcWorld, usize), lost: u64) {
    for_every_kill(90, move |accesses| {
        let world = MpmcWorld::new();
        push(&mut world.ring(0), 1);
        die(&world, 2);
        let mut ring = world.ring(0);
        assert_eq!(push(&mut ring, 2), if lost == 1 { Push::Done(1) } else { Push::Full });
        let popped = pop(&mut ring);
        // The slot of the dead is in the way of this one.
        let alive = thread::spawn(move || push(&mut ring, 3));
        let finished = kill_after(accesses, || {
            world.repair(&[0]);
        });
        let sent = join(alive);
        assert!(world.repair(&[0]));
        assert_eq!((popped, world.lost()), (Some(if lost == 1 { 2 } else { 1 }), lost), "a loss is counted once");
        let expected: &[u64] = if sent == Push::Done(1) { &[3] } else { &[] };
        assert_eq!(world.drain_whole(), expected);
        finished
    });
}

#[test]
fn mpmc_repairer_of_a_consumer_killed_loss_is_counted_once() {
    repairer_killed(die_receiving, 1);
}

#[test]
fn mpmc_repairer_of_a_producer_killed_nothing_is_lost() {
    repairer_killed(die_sending, 0);
}

/// An intent of a dead participant that had the position of slot 0, or both positions, in mind.
fn leave_intent(world: &MpmcWorld, participant: usize, positions: u64) {
    world.intents[participant].store(1 << 6 | positions, Ordering::Relaxed);
}

/// A slow consumer keeps its message and a slow producer its slot, though a dead participant had
/// the same message in mind.
#[test]
fn mpmc_repair_leaves_live_claims_alone() {
    model(|| {
        let world = MpmcWorld::new();
        push(&mut world.ring(0), 1);
        leave_intent(&world, 2, 1);
        let alive = spawn(&world, |world| pop(&mut world.ring(1)));
        let other = spawn(&world, |world| {
            let mut ring = world.ring(0);
            (push(&mut ring, 2), push(&mut ring, 3))
        });
        world.repair(&[0, 1]);
        assert_eq!(join(alive), Some(1));
        let sent = join(other);
        assert!(world.repair(&[0, 1]), "nobody is in the way any more");
        assert_eq!(world.lost(), 0, "counted as lost, and received");
        let expected = 1 + u64::from(sent.1 == Push::Done(1));
        assert_eq!(sent.0, Push::Done(1));
        assert_eq!(world.drain_whole().len() as u64, expected);
    });
}

/// A batch keeps what it has not finished from being repaired, up to its last position.
#[test]
fn mpmc_repair_leaves_a_live_batch_alone() {
    model(|| {
        let world = MpmcWorld::new();
        push_batch(&mut world.ring(0), 2, |refused| panic!("{refused:?}"));
        leave_intent(&world, 2, 2);
        let alive = spawn(&world, |world| {
            let mut popped = Vec::new();
            let outcome = world.ring(1).pop_many(2, |_, payload| popped.push(load_message(payload)));
            assert_eq!(outcome, Ok(Pop::Done(2)));
            popped
        });
        world.repair(&[0, 1]);
        assert_eq!(join(alive), [1, 2]);
        assert!(world.repair(&[0, 1]), "nobody is in the way any more");
        assert_eq!(world.lost(), 0, "counted as lost, and received");
        assert_eq!(world.drain_whole(), []);
    });
}

/// A live participant is in the middle of a batch. Another one is killed at the slot of the batch's
/// first message, which is already in use again.
#[test]
fn mpmc_repair_frees_slots_that_a_live_batch_has_finished() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut ring, mut slow) = (world.ring(0), world.ring(1));
        let outcome = slow.push_many(2, |index, payload| {
            if index == 1 {
                assert_eq!(pop(&mut ring), Some(1));
                die_sending(&world, 2);
                assert!(world.repair(&[0, 1]), "put off for a batch that has finished that slot");
            }
            store_message(payload, 1 + index);
        });
        assert_eq!(outcome, Ok(Push::Done(2)));
        assert_eq!(pop(&mut ring), Some(2));
        push(&mut ring, 3);
        push(&mut ring, 4);
        let outcome = slow.pop_many(2, |index, payload| {
            assert_eq!(load_message(payload), 3 + index);
            if index == 1 {
                push(&mut ring, 5);
                die_receiving(&world, 2);
                assert!(world.repair(&[0, 1]), "put off for a batch that has finished that slot");
            }
        });
        assert_eq!(outcome, Ok(Pop::Done(2)));
        assert_eq!(world.lost(), 1);
        assert_eq!(world.drain_whole(), []);
    });
}

/// A repairer is killed while the participant that it suspects finishes. What the repair log says
/// must not be counted later, when the slot is in quarantine for another reason.
#[test]
fn mpmc_repairer_killed_in_doubt_received_message_is_not_counted_lost() {
    for_every_kill(120, |accesses| {
        let world = MpmcWorld::new();
        let mut ring = world.ring(0);
        push(&mut ring, 1);
        leave_intent(&world, 2, 1); // dead, and not the owner of the message
        let alive = spawn(&world, |world| {
            let mut ring = world.ring(1);
            assert_eq!(pop(&mut ring), Some(1));
            // Its next intent replaces the cleared one.
            assert_eq!(push(&mut ring, 2), Push::Done(1));
        });
        let finished = kill_after(accesses, || {
            world.repair(&[0, 1]);
        });
        join(alive);
        assert_eq!(pop(&mut ring), Some(2));
        die_sending(&world, 1); // in the slot of the first message
        push(&mut ring, 3);
        assert_eq!(pop(&mut ring), Some(3), "the slot of the dead is skipped");
        assert!(world.repair(&[0]));
        assert_eq!(world.lost(), 0, "counted as lost, and received");
        assert_eq!(world.drain_whole(), []);
        finished
    });
}

#[test]
fn mpmc_two_killed_at_one_slot_loss_is_counted_once() {
    model(|| {
        let world = MpmcWorld::new();
        push(&mut world.ring(0), 1);
        die_receiving(&world, 2);
        leave_intent(&world, 1, 1);
        assert!(world.repair(&[0]));
        assert_eq!(world.lost(), 1);
        assert_eq!(world.drain_whole(), []);
    });
}
