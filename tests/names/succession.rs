//! Endpoints whose process has died: what their successors take over, and what the other side
//! hears.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::pipe;
use tombolo::{Endpoint, RecvError, SendError};

use crate::support::{Random, SharedCounters, TestDir, alone, message, number_of, start};
use crate::{NAME, counters, start_in, stay, surroundings, values};

pub fn receive_one_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    stay(&counters);
}

#[test]
fn sender_killed_messages_are_received_and_successor_opens() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_three_and_stay").kill();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(4).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "between the messages of the two");
    assert_eq!(rx.recv(), Ok(4));
}

#[test]
fn sender_killed_successor_opens_before_receiver() {
    let test_dir = TestDir::new();
    start_in(&test_dir, "send_three_and_stay").kill();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(4).unwrap();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(rx.recv(), Ok(4));
}

#[test]
fn receiver_killed_successor_receives_the_rest() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).capacity(4).sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    start_in(&test_dir, "receive_one_and_stay").kill();
    assert_eq!((tx.send(4), tx.send(5)), (Ok(()), Ok(())));
    assert_eq!(tx.send(6), Err(SendError::PeerDied));
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    assert_eq!(rx.iter().take(4).collect::<Result<Vec<_>, _>>().unwrap(), [2, 3, 4, 5]);
    tx.send(6).unwrap();
    assert_eq!(rx.recv(), Ok(6));
}

#[test]
fn sender_died_after_poll_each_death_is_reported() {
    // Alone: a copy of the descriptor in the fork of another test would be alive.
    let (_alone, test_dir) = (alone(), TestDir::new());
    let options = values(&test_dir);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 1..=3 {
        let mut tx = options.sender(NAME).unwrap();
        assert_eq!(rx.poll(Duration::ZERO), Ok(false), "the end of the previous sender was reported");
        tx.send(number).unwrap();
        drop(tx.into_fd().unwrap()); // a descriptor that no process takes is a death
        let mut successor = options.sender(NAME).unwrap();
        successor.send(10 * number).unwrap();
        assert_eq!(rx.recv(), Ok(number));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_eq!(rx.recv(), Ok(10 * number));
        drop(successor);
        assert_eq!(rx.recv(), Err(RecvError::Closed));
    }
}

#[test]
fn sender_died_many_times_messages_are_received_in_order() {
    // Alone: a copy of the descriptor in the fork of another test would be alive.
    let (_alone, test_dir) = (alone(), TestDir::new());
    let options = values(&test_dir);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 0..5 {
        let mut tx = options.sender(NAME).unwrap();
        tx.send(number).unwrap();
        drop(tx.into_fd().unwrap());
    }
    // Senders that come and go between two checks may be reported as one.
    let mut received = Vec::new();
    let mut ends = 0;
    while ends == 0 || received.len() < 5 {
        match rx.recv() {
            Ok(number) => received.push(number),
            Err(RecvError::PeerDied) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(received, [0, 1, 2, 3, 4]);
}

/// The word of the counters for the number of a message that was received out of order.
const MISPLACED: usize = 0;

#[test]
fn endpoints_killed_many_times_next_pair_works() {
    let test_dir = TestDir::new();
    let arguments = [&test_dir.names(), &test_dir.file("counters")].map(|path| path.to_str().unwrap().to_string());
    let arguments = arguments.each_ref().map(String::as_str);
    let mut random = Random(20);
    for _ in 0..20 {
        let sender = start("stream_as_sender", &arguments);
        let receiver = start("stream_as_receiver", &arguments);
        thread::sleep(Duration::from_micros(random.below(30_000)));
        sender.kill();
        thread::sleep(Duration::from_micros(random.below(2_000)));
        receiver.kill();
    }
    assert_eq!(counters(&test_dir).word(MISPLACED).load(Ordering::SeqCst), 0, "a message out of order");
    let options = pipe::Options::bytes().capacity_bytes(1024).directory(test_dir.names());
    let mut rx = options.receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap();
    let mut received = Vec::new();
    // The last sender may have left a full ring.
    loop {
        match rx.try_recv(&mut received) {
            Err(RecvError::Empty) => break,
            Ok(_) | Err(RecvError::PeerDied | RecvError::MessageLost) => {}
            Err(error) => panic!("{error}"),
        }
    }
    tx.send(message(u64::MAX, 500)).unwrap();
    assert_eq!(rx.recv(&mut received), Ok(500));
    assert_eq!(number_of(&received), u64::MAX);
    drop((tx, rx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

pub fn stream_as_sender(arguments: &[String]) {
    let options = pipe::Options::bytes().capacity_bytes(1024).directory(&arguments[0]);
    let mut tx = options.sender(NAME).unwrap();
    for number in 0.. {
        let message = message(number, 8 + (number * 61 % 1500) as usize);
        while let Err(error) = tx.send(&message) {
            assert_eq!(error, SendError::PeerDied);
        }
    }
}

pub fn stream_as_receiver(arguments: &[String]) {
    let options = pipe::Options::bytes().capacity_bytes(1024).directory(&arguments[0]);
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = options.receiver(NAME).unwrap();
    let mut received = Vec::new();
    let mut expected = None;
    loop {
        match rx.recv(&mut received) {
            Ok(_) => {
                let number = number_of(&received);
                // The next sender starts again at 0. If two died between two checks, nothing else
                // tells.
                if expected.is_some_and(|expected| number != expected && number != 0) {
                    // The process may be killed before it has panicked.
                    counters.word(MISPLACED).store(number, Ordering::SeqCst);
                    panic!("{number} is not {expected:?}");
                }
                expected = Some(number + 1);
            }
            // A sender may have been killed in the middle of a message longer than the ring.
            Err(RecvError::PeerDied | RecvError::MessageLost) => expected = None,
            Err(error) => panic!("{error}"),
        }
    }
}
