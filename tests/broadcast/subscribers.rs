//! Joining, reading, ending.

use std::thread;
use std::time::Duration;

use tombolo::broadcast::{Options, Policy};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::support::TestDir;

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn subscribers_of_one_publisher_each_see_everything() {
    let (mut publisher, mut first) = Options::<u64>::new().capacity(4).create().unwrap();
    let mut second = publisher.subscriber().unwrap();
    for number in 0..100 {
        publisher.publish(number).unwrap();
        assert_eq!([first.recv(), second.try_recv()], [Ok(number), Ok(number)]);
    }
    assert_eq!(first.try_recv(), Err(RecvError::Empty));
    assert_eq!(first.recv_timeout(SHORT), Err(RecvError::TimedOut));
    publisher.publish(100).unwrap();
    drop(publisher);
    assert_eq!([first.recv(), first.recv()], [Ok(100), Err(RecvError::Closed)]);
    assert_eq!(second.iter().map(Result::unwrap).collect::<Vec<_>>(), [100]);
}

#[test]
fn subscriber_tells_how_much_was_published_before() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().history(2).max_publishers(2).directory(dir.names());
    let mut publisher = options.publisher("name").unwrap();
    let first = options.subscriber("name").unwrap();
    (0..5).for_each(|number| publisher.publish(number).unwrap());
    let mut other = publisher.try_clone().unwrap();
    (0..3).for_each(|number| other.publish(number).unwrap());
    let late = options.subscriber("name").unwrap();
    let mut latest = options.clone().replay(0).subscriber("name").unwrap();
    assert_eq!([&first, &late, &latest].map(|one| one.published_before()), [0, 3 + 1, 5 + 3]);
    publisher.publish(5).unwrap();
    assert_eq!((latest.recv(), latest.published_before()), (Ok(5), 8), "what it receives does not count");
    publisher.publish(6).unwrap();
    other.publish(3).unwrap();
    assert_eq!((latest.rejoin(), latest.published_before()), (Ok(2), 11));
}

#[test]
fn subscriber_that_joins_late_gets_the_history() {
    let dir = TestDir::new();
    for capacity in [2, 4, 8] {
        let options = Options::<u64>::new().capacity(capacity).history(capacity / 2).directory(dir.names());
        let mut publisher = options.publisher("name").unwrap();
        for number in 0..21 {
            publisher.publish(number).unwrap();
        }
        let mut late = options.subscriber("name").unwrap();
        let mut later = options.clone().replay(0).subscriber("name").unwrap();
        let mut with_one = options.clone().replay(1).subscriber("name").unwrap();
        publisher.publish(21).unwrap();
        let kept: Vec<u64> = late.try_iter().map(Result::unwrap).collect();
        assert!(kept.iter().copied().eq(21 - capacity as u64 / 2..22), "{kept:?}");
        assert_eq!([later.try_recv(), later.try_recv()], [Ok(21), Err(RecvError::Empty)]);
        assert_eq!([with_one.try_recv(), with_one.try_recv()], [Ok(20), Ok(21)]);
    }
}

#[test]
fn subscriber_that_joins_after_the_end_waits_for_the_next_publisher() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().history(2).directory(dir.names());
    let mut first = options.subscriber("name").unwrap();
    assert_eq!(first.try_recv(), Err(RecvError::Empty));
    let mut publisher = options.publisher("name").unwrap();
    publisher.publish(1).unwrap();
    drop(publisher);
    let mut late = options.subscriber("name").unwrap();
    assert_eq!([first.recv(), first.recv()], [Ok(1), Err(RecvError::Closed)]);
    assert_eq!([late.recv(), late.recv_timeout(SHORT)], [Ok(1), Err(RecvError::TimedOut)]);
    let mut publisher = options.publisher("name").unwrap();
    assert_eq!(first.try_recv(), Err(RecvError::Empty));
    publisher.publish(2).unwrap();
    assert_eq!([first.recv(), late.recv()], [Ok(2), Ok(2)]);
    drop(publisher);
    assert_eq!([first.recv(), late.recv()], [Err(RecvError::Closed); 2]);
}

/// No liveness check is needed for those that leave in good order.
#[test]
fn subscriber_that_tries_sees_the_end_at_once() {
    let (publisher, mut subscriber) = Options::<u64>::new().create().unwrap();
    let mut other = subscriber.try_clone().unwrap();
    assert_eq!([subscriber.try_recv(), other.try_recv()], [Err(RecvError::Empty); 2]);
    drop(publisher);
    assert_eq!([subscriber.try_recv(), other.try_recv()], [Err(RecvError::Closed); 2]);
    let mut publisher = subscriber.publisher().unwrap();
    assert_eq!([subscriber.try_recv(), other.try_recv()], [Err(RecvError::Empty); 2]);
    publisher.publish(1).unwrap();
    assert_eq!([subscriber.try_recv(), other.try_recv()], [Ok(1); 2]);
}

#[test]
fn subscriber_with_wait_for_successor_sees_no_end() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().directory(dir.names());
    let mut subscriber = options.clone().wait_for_successor().subscriber("name").unwrap();
    for number in 0..3 {
        options.publisher("name").unwrap().publish(number).unwrap();
    }
    assert_eq!([subscriber.recv(), subscriber.recv(), subscriber.recv()], [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(subscriber.recv_timeout(SHORT), Err(RecvError::TimedOut));
}

#[test]
fn byte_messages_of_all_lengths_arrive_whole() {
    let options = Options::bytes().slot_bytes(16).capacity(64).max_message_bytes(500);
    let (mut publisher, mut subscriber) = options.create().unwrap();
    let mut message = Vec::new();
    for length in (0..=500).chain([16, 0, 17, 500]) {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        publisher.publish(&bytes).unwrap();
        assert_eq!(subscriber.recv(&mut message), Ok(length));
        assert!(message == bytes, "{length}");
    }
    assert_eq!(publisher.publish([0; 501]), Err(SendError::TooLarge { length: 501, limit: 500 }));
    publisher.publish([7; 40]).unwrap();
    assert_eq!(subscriber.recv_into(&mut [0; 39]), Err(RecvError::BufferTooSmall { needed: 40 }));
    let mut buffer = [0; 40];
    assert_eq!(subscriber.recv_into(&mut buffer), Ok(40));
    assert_eq!(buffer, [7; 40]);
}

#[test]
fn byte_subscriber_that_lags_goes_on_with_a_whole_message() {
    let options = Options::bytes().slot_bytes(16).capacity(16).max_message_bytes(104).policy(Policy::Lossy);
    let (mut publisher, mut subscriber) = options.create().unwrap();
    let mut message = Vec::new();
    let mut missed = 0;
    for round in 0..200_u8 {
        for number in 0..5 {
            publisher.publish(vec![round; usize::from(round % 100) + number]).unwrap();
        }
        loop {
            match subscriber.try_recv(&mut message) {
                Ok(_) => assert!(message.iter().all(|&byte| byte == round), "{round}: {message:?}"),
                Err(RecvError::Lagged { missed: slots }) => missed += slots,
                Err(error) => break assert_eq!(error, RecvError::Empty),
            }
        }
    }
    assert!(missed > 0);
}

#[test]
fn call_that_must_not_block_returns_within_a_long_rest() {
    let dir = TestDir::new();
    let options = Options::bytes().slot_bytes(8).max_message_bytes(1 << 20).history(1 << 16).directory(dir.names());
    let mut publisher = options.publisher("name").unwrap();
    publisher.publish(vec![7; 1 << 20]).unwrap();
    publisher.publish([8]).unwrap();
    let mut late = options.subscriber("name").unwrap();
    let mut observer = options.observer("name").unwrap();
    let mut message = Vec::new();
    // The rest of the first message has 65,535 slots.
    let calls = (1..).find(|_| late.try_recv(&mut message) != Err(RecvError::Empty)).unwrap();
    assert!(calls > 10 && message == [8], "{calls}");
    let calls = (1..).find(|_| observer.try_recv(&mut message) != Err(RecvError::Empty)).unwrap();
    assert!(calls > 10 && message == [8], "{calls}");
}

#[test]
fn values_come_in_batches() {
    let (mut publisher, mut subscriber) = Options::<u64>::new().capacity(8).create().unwrap();
    let values: Vec<u64> = (0..20).collect();
    assert_eq!(publisher.publish_many(&values), Ok(8));
    assert_eq!(publisher.try_publish_many(&values), Err(SendError::Full));
    assert_eq!(publisher.publish_many(&[]), Ok(0));
    let mut received = [99; 5];
    assert_eq!(subscriber.recv_many(&mut received), Ok(5));
    assert_eq!(received, [0, 1, 2, 3, 4]);
    assert_eq!(publisher.publish_many(&values[8..]), Ok(5));
    assert_eq!(subscriber.recv_many(&mut received), Ok(5));
    assert_eq!(received, [5, 6, 7, 8, 9]);
    assert_eq!(subscriber.recv_many(&mut []), Ok(0));
}

#[test]
fn place_of_a_subscriber_that_left_is_free() {
    let (publisher, subscriber) = Options::<u64>::new().max_subscribers(1).create().unwrap();
    let error = publisher.subscriber().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
    assert!(error.to_string().contains("max_subscribers"), "{error}");
    drop(subscriber);
    for _ in 0..100 {
        drop(publisher.subscriber().unwrap());
    }
    let error = publisher.try_clone().unwrap_err();
    assert!(error.to_string().contains("max_publishers"), "{error}");
}

/// A message that is overwritten in the middle of a batch: what was received before it is returned,
/// and the lag by the next call.
#[test]
fn byte_batch_cut_short_by_a_lag_loses_nothing() {
    const LENGTH: usize = 64 << 10;
    let options = Options::bytes().slot_bytes(LENGTH).capacity(8).max_message_bytes(LENGTH).policy(Policy::Lossy);
    let (mut publisher, subscriber) = options.create().unwrap();
    let (mut cut_short, mut next) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut message = vec![0; LENGTH];
            for number in 0_u64.. {
                message[..8].copy_from_slice(&number.to_le_bytes());
                publisher.publish(&message).unwrap();
                if publisher.subscribers() == 0 {
                    break;
                }
            }
        });
        let mut subscriber = subscriber; // dropped in the end, whatever happens
        let mut messages = vec![Vec::new(); 8];
        let mut is_cut_short = false;
        for _ in 0..100_000 {
            match subscriber.recv_many(&mut messages) {
                Ok(count) => {
                    for message in &messages[..count] {
                        assert_eq!(message.first_chunk().map(|number| u64::from_le_bytes(*number)), Some(next));
                        next += 1;
                    }
                    is_cut_short = count > 0;
                }
                Err(RecvError::Lagged { missed }) => {
                    next += missed;
                    cut_short += u64::from(is_cut_short);
                    is_cut_short = false;
                }
                Err(error) => panic!("{error}"),
            }
            if cut_short >= 500 {
                break;
            }
        }
    });
    assert!(cut_short > 0, "nothing was overwritten within a batch");
}
