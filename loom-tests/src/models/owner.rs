//! Models of `src/raw/owner.rs`: the owner of a side of a ring, and how a successor is told
//! from the owner before it.

use super::spsc::{RingWorld, Value, pop, push};
use super::*;

/// Closing comes after the last message, so a receiver that sees the close finds the message.
#[test]
fn owner_closed_receiver_drains_first() {
    model(|| {
        let world = RingWorld::new(2, 2);
        world.become_producer();
        let sender = spawn(&world, |world| {
            assert!(push(&mut world.writer(), &message(1)));
            // No notification in between: its fence would hide a close that publishes nothing.
            world.owner().close();
            world.readable().wake(1);
        });
        let (mut reader, owner, readable) = (world.reader(), world.owner(), world.readable());
        let next = || {
            block_on(&readable, || match pop(&mut reader) {
                Some(message) => Some(Some(number(message))),
                None if owner.state().is_closed() => Some(pop(&mut reader).map(number)),
                None => None,
            })
        };
        let received: Vec<u64> = std::iter::from_fn(next).collect();
        assert_eq!(received, [1], "the end overtook a message");
        join(sender);
    });
}

/// A producer is killed at any access and a successor takes its place, while the consumer reads.
fn producer_killed(probes: bool) {
    for_every_kill(40, move |accesses| {
        let world = RingWorld::new(4, 2);
        world.become_producer();
        let mut reader = world.reader::<Value>();
        let producers = spawn(&world, move |world| {
            let finished = kill_after(accesses, || {
                let mut writer = world.writer();
                for n in 1..=2 {
                    assert!(push(&mut writer, &message(n)));
                }
            });
            // The kernel frees the producer's lock, and the successor takes it.
            world.become_producer();
            assert!(push(&mut world.writer(), &message(10)));
            finished
        });

        let (mut last, mut succeeded) = (0, false);
        while last != 10 {
            if probes {
                reader.probe();
            }
            if let Some(n) = pop(&mut reader).map(number) {
                assert!(n == last + 1 || n == 10, "{n} after {last}");
                assert_eq!(n == 10, succeeded, "a message on the wrong side of the boundary");
                last = n;
            } else if let Some(change) = reader.ring.next_producer() {
                assert_eq!(change.next.changes_since(change.ended), (1, 1), "one joined, one died");
                assert!(!succeeded);
                reader.ring.switch_producer();
                succeeded = true;
            } else {
                spin_loop();
            }
        }
        join(producers)
    });
}

#[test]
fn owner_producer_killed_successor_is_told_apart() {
    producer_killed(false);
}

#[test]
fn owner_producer_killed_probe_stops_at_the_boundary() {
    producer_killed(true);
}

/// If a corrupt owner word hid the successor, a consumer would read on past its first position,
/// and never find that position again.
#[test]
fn owner_word_set_back_successor_is_still_seen() {
    model(|| {
        let world = RingWorld::new(4, 2);
        world.become_producer();
        let (mut writer, mut reader) = (world.writer(), world.reader());
        push(&mut writer, &message(1));
        let first = world.owner.load(Ordering::Relaxed);
        world.become_producer();
        assert_eq!(reader.ring.readable(1), Ok(1), "up to the boundary");
        // An invalid word: it says that the first producer goes on and never had a successor.
        world.owner.store(first, Ordering::Relaxed);
        push(&mut writer, &message(2));
        assert_eq!(pop(&mut reader).map(number), Some(1));
        assert!(!reader.probe());
        assert!(reader.ring.next_producer().is_some());
    });
}

/// The event count's bit orders nothing by itself: a side that sees it reads the owner word.
#[test]
fn owner_closed_bit_and_word_are_seen_in_the_end() {
    model(|| {
        let world = RingWorld::new(1, 1);
        world.owner().acquire(0);
        let leaver = spawn(&world, |world| {
            world.owner().close();
            world.readable().set_peer_left(true);
        });
        let (readable, owner) = (world.readable(), world.owner());
        if readable.peer_has_left() {
            // The owner word may lag behind.
            let _ = owner.state().is_closed();
        }
        join(leaver);
        assert!(readable.peer_has_left() && owner.state().is_closed());
    });
}
