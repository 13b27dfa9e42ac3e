//! A run lasts from the first producer that joins an unused or closed queue to the close. These
//! models run the shipping code; `tests/runs.rs` visits all states of the whole protocol.

use super::*;

/// What was sent before the close is received, nothing is sent after it, nothing is left behind.
#[test]
fn mpmc_closed_during_send_message_is_received_or_refused() {
    model(|| {
        let world = MpmcWorld::new();
        let sender = spawn(&world, |world| push(&mut world.ring(1), 1));
        let closer = spawn(&world, |world| assert!(world.words().close(Some(0)).unwrap().is_some()));
        let mut ring = world.ring(0);
        let mut received = 0;
        loop {
            match ring.pop(|payload| assert_eq!(load_message(payload), 1)).unwrap() {
                Pop::Done(_) => received += 1,
                Pop::Drained => break,
                Pop::Empty => spin_loop(),
            }
        }
        join(closer);
        match join(sender) {
            Push::Done(1) => assert_eq!(received, 1, "sent, and never received"),
            other => assert_eq!((other, received), (Push::Closed, 0)),
        }
        assert_eq!(world.words().close(None), Ok(None), "closed twice");
    });
}

/// Two participants close the same run while a third one joins. If it joined after the close it
/// can send: a close ends only its own run.
#[test]
fn mpmc_close_of_an_earlier_run_leaves_the_next_open() {
    model(|| {
        let world = MpmcWorld::new();
        let closers = spawn_each(&world, [(), ()], |world, ()| world.words().close(Some(0)).unwrap().is_some());
        let run = world.join(0);
        let outcome = push(&mut world.ring_in(run, 0), 1);
        assert!(outcome == Push::Done(1) || run == 0 && outcome == Push::Closed, "{outcome:?} in run {run}");
        let [first, second] = join_all(closers);
        assert_ne!(first, second, "exactly one of them has closed it");
        assert_eq!(world.words().is_closed(), run == 0);
    });
}

/// A producer of a closed run sends nothing into the next one. What it sent before comes first.
#[test]
fn mpmc_next_run_begins_behind_the_last_message() {
    model(|| {
        let world = MpmcWorld::new();
        let old = spawn(&world, |world| push(&mut world.ring(1), 1));
        assert_eq!(world.words().close(None).map(|end| end.is_some()), Ok(true));
        assert_eq!(world.join(0), 1);
        let mut ring = world.ring_in(1, 0);
        assert_eq!(push(&mut ring, 2), Push::Done(1));
        let mut all: Vec<u64> = pop(&mut ring).into_iter().collect();
        let expected: &[u64] = match join(old) {
            Push::Done(1) => &[1, 2],
            refused => {
                assert_eq!(refused, Push::Closed);
                &[2]
            }
        };
        all.extend(pop(&mut ring));
        assert_eq!(all, expected);
    });
}

/// A consumer that sees an open run also sees the producer that began it, and waits for it.
#[test]
fn mpmc_run_seen_open_has_a_producer() {
    model(|| {
        let world = MpmcWorld::new();
        world.words().close(None).unwrap();
        let sender = spawn(&world, |world| assert_eq!(world.join(1), 1));
        let now = world.words().load_tail();
        assert!(now.is_closed() || world.has_producer(), "a run without a producer");
        join(sender);
        assert!(world.has_producer());
    });
}

/// A producer of a closed run is still sending when the last producer of the next run leaves. The
/// consumer that is told of the end has that message, or has skipped it for good.
#[test]
fn mpmc_last_producer_leaves_earlier_send_is_received_or_refused() {
    model(|| {
        let world = MpmcWorld::new();
        let old = spawn(&world, |world| push(&mut world.ring(1), 1));
        world.words().close(None).unwrap();
        world.join(0);
        world.leave(0);
        let mut ring = world.ring(2);
        let mut received = Vec::new();
        loop {
            match pop(&mut ring) {
                Some(n) => received.push(n),
                None if world.has_producer() => spin_loop(),
                None if world.words().drain() == Ok(Drain::Empty) => break,
                None => spin_loop(),
            }
        }
        let sent: &[u64] = if join(old) == Push::Done(1) { &[1] } else { &[] };
        assert_eq!(received, sent);
        assert_eq!(world.words().len(), 0);
    });
}

/// A producer leaves after its last message. A consumer that finds no producer finds the message.
#[test]
fn mpmc_producer_leaves_its_last_message_is_received() {
    model(|| {
        let world = MpmcWorld::new();
        world.join(1);
        let sender = spawn(&world, |world| {
            assert_eq!(push(&mut world.ring(1), 1), Push::Done(1));
            world.leave(1);
        });
        let mut ring = world.ring(0);
        let mut received = Vec::new();
        loop {
            // In this order, as a queue's receiver does: first the producers, then the messages.
            let has_producer = world.has_producer();
            match pop(&mut ring) {
                Some(n) => received.push(n),
                None if !has_producer && world.words().drain() == Ok(Drain::Empty) => break,
                None => spin_loop(),
            }
        }
        assert_eq!(received, [1]);
        join(sender);
    });
}

/// A producer that joins between two runs is killed at any access. The next one joins an open run,
/// and sends.
#[test]
fn mpmc_joining_producer_killed_next_one_sends() {
    for_every_kill(40, |accesses| {
        let world = MpmcWorld::new();
        world.words().close(None).unwrap();
        let victim = spawn(&world, move |world| {
            kill_after(accesses, || {
                let run = world.join(1);
                assert_eq!(push(&mut world.ring_in(run, 1), 1), Push::Done(1));
            })
        });
        let first = pop(&mut world.ring(0));
        let finished = join(victim);
        assert!(world.repair(&[0]), "nobody was in the way");
        world.leave(1);
        assert_eq!(world.join(0), 1, "the run was begun, or is begun now");
        let mut ring = world.ring_in(1, 0);
        assert_eq!(push(&mut ring, 2), Push::Done(1));
        let all: Vec<u64> = first.into_iter().chain(std::iter::from_fn(|| pop(&mut ring))).collect();
        assert!(all == [2] && !finished || all == [1, 2], "{all:?}");
        finished
    });
}
