//! What is sent is received once and in order, and the answers Empty and Full are exact.

use super::*;

/// One producer sends two messages, two consumers take what they find.
fn one_to_two(patience: u32) {
    large_model(move || {
        let world = MpmcWorld::near_the_wrap(patience);
        let consumers = spawn_each(&world, [1, 2], |world, participant| pop(&mut world.ring(participant)));
        let mut ring = world.ring(0);
        // Full is a valid answer: a slow consumer can still hold a slot.
        let sent = (1..=2).take_while(|n| push(&mut ring, *n) == Push::Done(1)).count() as u64;
        let mut all: Vec<u64> = join_all(consumers).into_iter().flatten().collect();
        let rest = world.drain_whole();
        assert!(rest.is_sorted(), "out of order");
        all.extend(rest);
        all.sort();
        assert!(all.iter().copied().eq(1..=sent), "{sent} sent, {all:?} received");
    });
}

#[test]
fn mpmc_one_producer_two_consumers_no_patience_deliver_once() {
    one_to_two(0);
}

#[test]
fn mpmc_one_producer_two_consumers_some_patience_deliver_once() {
    one_to_two(1);
}

/// Two producers and one consumer, over the wrap.
fn two_to_one(patience: u32) {
    model(move || {
        let world = MpmcWorld::near_the_wrap(patience);
        let producers = spawn_each(&world, [1, 2], |world, n| push(&mut world.ring(n as usize), n));
        let mut ring = world.ring(0);
        let received: Vec<u64> = (0..2).filter_map(|_| pop(&mut ring)).collect();
        assert_eq!(join_all(producers), [Push::Done(1); 2], "full with one message");
        assert_eq!(world.all_received(received), [1, 2]);
    });
}

#[test]
fn mpmc_two_producers_one_consumer_no_patience_deliver_once() {
    two_to_one(0);
}

#[test]
fn mpmc_two_producers_one_consumer_some_patience_deliver_once() {
    two_to_one(1);
}

#[test]
fn mpmc_two_producers_two_consumers_deliver_once() {
    large_model(|| {
        let world = MpmcWorld::new();
        let producer = spawn(&world, |world| push(&mut world.ring(1), 1));
        let consumer = spawn(&world, |world| pop(&mut world.ring(2)));
        let mut ring = world.ring(0);
        assert_eq!(push(&mut ring, 2), Push::Done(1));
        let received = pop(&mut ring);
        assert_eq!(join(producer), Push::Done(1), "full with one message and one slot");
        let received = received.into_iter().chain(join(consumer));
        assert_eq!(world.all_received(received), [1, 2]);
    });
}

/// Empty is never the answer while a complete message is in the ring, even behind one that is not
/// complete.
#[test]
fn mpmc_complete_message_present_pop_is_not_empty() {
    model(|| {
        let world = MpmcWorld::new();
        let slow = spawn(&world, |world| push(&mut world.ring(1), 1));
        let mut ring = world.ring(0);
        assert_eq!(push(&mut ring, 2), Push::Done(1));
        assert!(pop(&mut ring).is_some(), "empty with a message in it");
        assert_eq!(join(slow), Push::Done(1));
    });
}

/// Full is not the answer while a slot is free, whichever slot that is meanwhile.
#[test]
fn mpmc_free_slot_present_push_is_not_full() {
    model(|| {
        let world = MpmcWorld::new();
        let (mut ring, mut slow) = (world.ring(0), world.ring(1));
        push(&mut ring, 1);
        push(&mut ring, 2);
        let mut other = None;
        let outcome = slow.pop(|_| {
            assert_eq!(pop(&mut ring), Some(2));
            other = Some(spawn(&world, |world| push(&mut world.ring(2), 3)));
        });
        assert_eq!(outcome, Ok(Pop::Done(1)));
        push(&mut ring, 4);
        assert_eq!(join(other.unwrap()), Push::Done(1), "full with a free slot all the time");
    });
}

/// A batch stays in order and its messages stay whole, though its slots are skipped in between.
#[test]
fn mpmc_batches_in_a_short_ring_keep_order() {
    model(|| {
        let world = MpmcWorld::new();
        let producer = spawn(&world, |world| push_batch(&mut world.ring(1), 3, |_| spin_loop()));
        let mut ring = world.ring(0);
        let mut all = Vec::new();
        while all.len() < 3 {
            if !matches!(ring.pop_many(2, |_, payload| all.push(load_message(payload))).unwrap(), Pop::Done(_)) {
                spin_loop();
            }
        }
        join(producer);
        assert_eq!(all, [1, 2, 3]);
    });
}

/// One message wakes one sleeper, two wake two.
#[test]
fn mpmc_two_sleeping_consumers_are_both_woken() {
    large_model(|| {
        let world = (MpmcWorld::new(), new_futex());
        let consumers = spawn_each(&world, [1, 2], |(world, readable), participant| {
            let mut ring = world.ring(participant);
            block_on(&event(&readable), || pop(&mut ring))
        });
        let mut ring = world.0.ring(0);
        for n in 1..=2 {
            spin_until(|| push(&mut ring, n) == Push::Done(1));
            event(&world.1).notify(1);
        }
        assert_eq!(join_all(consumers).into_iter().sum::<u64>(), 3);
    });
}
