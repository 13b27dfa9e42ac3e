//! SIGKILL at a random moment under load. The receiver gets a prefix of what a killed sender meant
//! to send, the successor of a killed receiver gets a suffix, and the survivor learns of the death.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::support::{SharedCounters, TestDir, message, number_of, start, stress_factor, stress_random, until};
use tombolo::pipe;
use tombolo::{RecvError, SendError};

const NAME: &str = "stress";
const ROUNDS: u64 = 30;

type Value = [u64; 5];

fn bytes(names: &str) -> pipe::Options<[u8]> {
    pipe::Options::bytes().capacity_bytes(4096).directory(names)
}

fn values(names: &str) -> pipe::Options<Value> {
    pipe::Options::new().capacity(64).directory(names)
}

/// Message number `number`: mostly short, some longer than half the ring or than the ring.
fn nth(number: u64) -> Vec<u8> {
    let length = match number % 64 {
        62 => 3000,
        63 => 10_000,
        _ => 8 + (number * 37 % 200) as usize,
    };
    message(number, length)
}

fn nth_value(number: u64) -> Value {
    std::array::from_fn(|index| number.wrapping_mul(index as u64 * 2 + 1))
}

fn number_of_value(value: Value) -> u64 {
    assert_eq!(value, nth_value(value[0]), "torn");
    value[0]
}

/// Where a victim stores its progress: messages that are sent or received for certain.
struct Progress(SharedCounters);

impl Progress {
    fn at(path: &str) -> Self {
        Self(SharedCounters::at(Path::new(path)))
    }

    fn set(&self, count: u64) {
        self.0.word(0).store(count, Ordering::SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.word(0).load(Ordering::SeqCst)
    }
}

pub fn send_pipe_bytes(arguments: &[String]) {
    let progress = Progress::at(&arguments[1]);
    let mut tx = bytes(&arguments[0]).sender(NAME).unwrap();
    for number in 0.. {
        tx.send(nth(number)).unwrap();
        progress.set(number + 1);
    }
}

pub fn send_pipe_values(arguments: &[String]) {
    let progress = Progress::at(&arguments[1]);
    let mut tx = values(&arguments[0]).sender(NAME).unwrap();
    for number in 0.. {
        tx.send(nth_value(number)).unwrap();
        progress.set(number + 1);
    }
}

pub fn receive_pipe_bytes(arguments: &[String]) {
    let progress = Progress::at(&arguments[1]);
    let mut rx = bytes(&arguments[0]).receiver(NAME).unwrap();
    for (message, number) in rx.iter().map_while(Result::ok).zip(0..) {
        assert_eq!(number_of(&message), number);
        progress.set(number + 1);
    }
}

pub fn receive_pipe_values(arguments: &[String]) {
    let progress = Progress::at(&arguments[1]);
    let mut rx = values(&arguments[0]).receiver(NAME).unwrap();
    for (value, number) in rx.iter().map_while(Result::ok).zip(0..) {
        assert_eq!(number_of_value(value), number);
        progress.set(number + 1);
    }
}

/// Runs `survivor` against a process in `role`, which is killed soon after it has begun.
/// `survivor` returns when it has learnt of the death; `after` gets what it returned and the
/// progress of the victim.
fn stress<S: Send>(role: &str, survivor: impl Fn(&str) -> S + Sync, after: impl Fn(&str, S, u64)) {
    let mut random = stress_random(0x5EED);
    for round in 0..ROUNDS * stress_factor() {
        let test_dir = TestDir::new();
        let (names, counters) = (test_dir.names(), test_dir.file("counters"));
        let (names, counters) = (names.to_str().unwrap(), counters.to_str().unwrap());
        let progress = Progress::at(counters);
        let delay = Duration::from_micros(random.below(1 << (round % 15)));
        let left = thread::scope(|scope| {
            let survivor = scope.spawn(|| survivor(names));
            let victim = start(role, &[names, counters]);
            until(|| progress.get() > 0);
            thread::sleep(delay);
            victim.kill();
            survivor.join().unwrap()
        });
        after(names, left, progress.get());
        assert_eq!(test_dir.leftovers(), [""; 0]);
    }
}

/// All that the sender had finished has arrived, and at most the message in progress.
fn check_prefix(received: u64, sent: u64) {
    assert!(received == sent || received == sent + 1, "{received} received of {sent} sent");
}

/// What the dead receiver left goes to its successor; at most one message is gone.
fn check_suffix(sent: u64, taken: u64, rest: impl Iterator<Item = u64>) {
    let rest: Vec<_> = rest.collect();
    let first = rest.first().copied().unwrap_or(sent);
    assert!(first == taken || first == taken + 1, "{first} comes after {taken}");
    assert!(rest.into_iter().eq(first..sent), "gaps between {first} and {sent}");
}

#[test]
fn sender_of_bytes_killed_receiver_gets_prefix() {
    stress(
        "send_pipe_bytes",
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            let received = rx
                .iter()
                .map_while(Result::ok)
                .zip(0..)
                .map(|(message, number)| assert_eq!(number_of(&message), number))
                .count();
            assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::PeerDied));
            received as u64
        },
        |_, received, sent| check_prefix(received, sent),
    );
}

#[test]
fn sender_of_values_killed_receiver_gets_prefix() {
    stress(
        "send_pipe_values",
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            let received = rx
                .iter()
                .map_while(Result::ok)
                .zip(0..)
                .map(|(value, number)| assert_eq!(number_of_value(value), number))
                .count();
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            received as u64
        },
        |_, received, sent| check_prefix(received, sent),
    );
}

#[test]
fn receiver_of_bytes_killed_successor_gets_suffix() {
    stress(
        "receive_pipe_bytes",
        |names| {
            let mut tx = bytes(names).sender(NAME).unwrap();
            let (sent, error) = (0..).find_map(|number| Some((number, tx.send(nth(number)).err()?))).unwrap();
            assert_eq!(error, SendError::PeerDied);
            (tx, sent)
        },
        |names, (tx, sent), taken| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            drop(tx);
            let messages = rx.iter().filter(|message| *message != Err(RecvError::MessageLost));
            check_suffix(sent, taken, messages.map(|message| number_of(&message.unwrap())));
            assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
        },
    );
}

#[test]
fn receiver_of_values_killed_successor_gets_suffix() {
    stress(
        "receive_pipe_values",
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            let (sent, error) = (0..).find_map(|number| Some((number, tx.send(nth_value(number)).err()?))).unwrap();
            assert_eq!(error, SendError::PeerDied);
            (tx, sent)
        },
        |names, (tx, sent), taken| {
            let mut rx = values(names).receiver(NAME).unwrap();
            drop(tx);
            check_suffix(sent, taken, rx.iter().map(|value| number_of_value(value.unwrap())));
            assert_eq!(rx.recv(), Err(RecvError::Closed));
        },
    );
}
