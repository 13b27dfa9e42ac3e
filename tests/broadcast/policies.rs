//! What becomes of subscribers that do not keep up.

use std::thread;
use std::time::Duration;

use tombolo::broadcast::{Options, Policy};
use tombolo::inspect::ParticipantStatus;
use tombolo::{Endpoint, ErrorKind, RecvError, SendError};

use crate::support::TestDir;

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn lossless_publisher_waits_for_the_slowest() {
    for capacity in [2, 4, 16] {
        let (mut publisher, mut slow) = Options::<u64>::new().capacity(capacity).create().unwrap();
        let mut fast = publisher.subscriber().unwrap();
        for number in 0..capacity as u64 {
            publisher.publish(number).unwrap();
            assert_eq!(fast.recv(), Ok(number));
        }
        assert_eq!(publisher.try_publish(99), Err(SendError::Full));
        assert_eq!(publisher.publish_timeout(99, SHORT), Err(SendError::TimedOut));
        let slowest = publisher.slowest().unwrap();
        assert_eq!((slowest.pid, slowest.lag), (u64::from(std::process::id()), capacity as u64));
        assert_eq!(slowest.status, ParticipantStatus::Alive);
        assert!(slowest.process_name.is_some());
        thread::scope(|scope| {
            let blocked = scope.spawn(|| publisher.publish(capacity as u64));
            thread::sleep(SHORT);
            assert_eq!(slow.recv(), Ok(0));
            assert_eq!(blocked.join().unwrap(), Ok(()));
        });
        assert!(slow.try_iter().map(Result::unwrap).eq(1..=capacity as u64));
    }
}

#[test]
fn lossless_publisher_without_subscribers_never_waits() {
    for (capacity, history) in [(2, 0), (2, 1), (8, 4)] {
        let options = Options::<u64>::new().capacity(capacity).history(history);
        let (mut publisher, subscriber) = options.create().unwrap();
        drop(subscriber);
        for number in 0..100 {
            publisher.try_publish(number).unwrap();
        }
        assert!(publisher.slowest().is_none());
        assert_eq!(publisher.subscribers(), 0);
        assert_eq!(publisher.wait_for_subscribers(0, SHORT), Ok(()));
        assert_eq!(publisher.wait_for_subscribers(1, SHORT), Err(SendError::TimedOut));
    }
}

#[test]
fn publisher_that_waits_too_long_can_evict_the_slowest() {
    let (mut publisher, mut slow) = Options::<u64>::new().capacity(2).create().unwrap();
    let mut fast = publisher.subscriber().unwrap();
    for number in 0..6 {
        if publisher.publish_timeout(number, SHORT) == Err(SendError::TimedOut) {
            assert_eq!(publisher.evict_slowest().unwrap().lag, 2);
            publisher.publish(number).unwrap();
        }
        assert_eq!(fast.recv(), Ok(number));
    }
    assert_eq!(slow.recv(), Err(RecvError::Evicted));
    slow.rejoin().unwrap();
    publisher.publish(6).unwrap();
    assert_eq!([slow.recv(), fast.recv()], [Ok(6); 2]);
    let (mut publisher, _subscriber) = Options::<u64>::new().policy(Policy::Lossy).create().unwrap();
    assert!(publisher.evict_slowest().is_none());
}

#[test]
fn publisher_waits_until_there_are_enough_subscribers() {
    let (mut publisher, first) = Options::<u64>::new().create().unwrap();
    assert_eq!(publisher.wait_for_subscribers(1, SHORT), Ok(()));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| publisher.wait_for_subscribers(3, Duration::MAX));
        thread::sleep(SHORT);
        let more = [first.try_clone().unwrap(), first.try_clone().unwrap()];
        assert_eq!(waiting.join().unwrap(), Ok(()));
        drop(more);
    });
    assert_eq!(publisher.subscribers(), 1);
}

#[test]
fn lossy_subscriber_is_told_how_many_it_missed() {
    for capacity in [2, 4, 64] {
        let options = Options::<u64>::new().capacity(capacity).policy(Policy::Lossy);
        let (mut publisher, mut subscriber) = options.create().unwrap();
        let capacity = capacity as u64;
        for lag in 0..3 * capacity {
            let start = lag * 1000;
            // Whatever number comes first, what it missed and what it got are all.
            for number in start..start + lag {
                publisher.publish(number).unwrap();
            }
            let mut next = start;
            while let Some(received) = subscriber.try_iter().next() {
                match received {
                    Ok(number) => next = if number == next { number + 1 } else { panic!("{number}, not {next}") },
                    Err(RecvError::Lagged { missed }) => {
                        assert_eq!(missed, lag - capacity);
                        next += missed;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(next, start + lag);
        }
    }
}

#[test]
fn batch_longer_than_the_ring_leaves_half_of_it_to_lossy_subscribers() {
    for capacity in [2, 8] {
        let options = Options::<u64>::new().capacity(capacity).policy(Policy::Lossy);
        let (mut publisher, mut subscriber) = options.create().unwrap();
        let values: Vec<u64> = (0..100).collect();
        assert_eq!(publisher.publish_many(&values), Ok(capacity / 2));
        assert!(subscriber.try_iter().map(Result::unwrap).eq(0..capacity as u64 / 2));
        let mut next = capacity / 2;
        while next < values.len() {
            next += publisher.publish_many(&values[next..]).unwrap();
        }
        let left = subscriber.try_iter().last().unwrap();
        assert_eq!(left, Ok(99));
    }
}

#[test]
fn slow_subscriber_is_evicted_and_can_rejoin() {
    let options = Options::<u64>::new().capacity(8).policy(Policy::EvictSlow { lag: 4 });
    let (mut publisher, mut slow) = options.create().unwrap();
    let mut fast = publisher.subscriber().unwrap();
    for number in 0..50 {
        publisher.try_publish(number).unwrap();
        assert_eq!(fast.recv(), Ok(number));
    }
    assert_eq!([slow.recv(), slow.try_recv()], [Err(RecvError::Evicted); 2]);
    assert_eq!(slow.rejoin(), Ok(50), "it is told how many it has missed");
    publisher.publish(50).unwrap();
    assert_eq!([slow.recv(), fast.recv()], [Ok(50), Ok(50)]);
    for number in 51..55 {
        publisher.publish(number).unwrap();
    }
    assert!(slow.try_iter().map(Result::unwrap).eq(51..55), "a lag of the limit less 1 is allowed");
    assert_eq!(slow.rejoin(), Ok(0));
}

#[test]
fn evicting_publisher_of_long_messages_never_waits() {
    let options =
        Options::bytes().slot_bytes(8).capacity(32).max_message_bytes(40).policy(Policy::EvictSlow { lag: 8 });
    let (mut publisher, mut slow) = options.create().unwrap();
    for round in 0..100 {
        for slots in [1, 5, 3, 2] {
            publisher.try_publish(vec![round; slots * 8]).unwrap();
        }
    }
    assert_eq!(slow.try_recv(&mut Vec::new()), Err(RecvError::Evicted));
}

#[test]
fn broadcast_of_another_policy_or_type_is_refused() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().policy(Policy::Lossy).directory(dir.names());
    let _publisher = options.publisher("name").unwrap();
    let error = options.clone().policy(Policy::Lossless).subscriber("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.to_string().contains("found lossy, expected lossless"), "{error}");
    let error = Options::<f64>::new().directory(dir.names()).subscriber("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    let error = tombolo::queue::Options::<u64>::new().directory(dir.names()).receiver("name").unwrap_err();
    assert!(error.to_string().contains("a broadcast"), "{error}");
    Options::<u64>::new().directory(dir.names()).subscriber("name").unwrap();
}

#[test]
fn numbers_that_differ_from_those_asked_for_are_reported() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().history(2).policy(Policy::EvictSlow { lag: 8 }).directory(dir.names());
    let _publisher = options.publisher("name").unwrap();
    let other = options.clone().history(3).capacity(64).max_subscribers(5).policy(Policy::EvictSlow { lag: 9 });
    let warnings = other.subscriber("name").unwrap().warnings().join("; ");
    for expected in
        ["capacity is 1024, not 64", "history is 2, not 3", "subscribers is 64, not 5", "evicted is 8, not 9"]
    {
        assert!(warnings.contains(expected), "{warnings}");
    }
    assert_eq!(Options::<u64>::new().directory(dir.names()).subscriber("name").unwrap().warnings(), [""; 0]);
}

#[test]
fn invalid_options_are_refused() {
    let new = Options::<u64>::new;
    for (options, what) in [
        (new().capacity(0), "capacity"),
        (new().max_publishers(0), "publishers"),
        (new().max_publishers(5000), "publishers"),
        (new().max_subscribers(0), "subscribers"),
        (new().max_subscribers(4097), "subscribers"),
        (new().history(1 << 60), "history"),
        (new().policy(Policy::EvictSlow { lag: 0 }), "lag"),
        (new().history(9).policy(Policy::EvictSlow { lag: 9 }), "lag"),
        (new().capacity(1 << 50), "capacity"),
    ] {
        let error = options.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
