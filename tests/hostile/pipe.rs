//! Hostile peers of pipes.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tombolo::pipe::{self, BytePipe, ByteReceiver, ByteSender, Receiver, Sender};
use tombolo::{RecvError, SendError};

use crate::support::{Random, TestDir};
use crate::{Intruder, NAME, REGION_STATE, SHORT, under_attack};

/// Positions of words in the region of a one-way pipe, as docs/layout.md has them.
const TAIL: usize = 128;
const PRODUCER_OWNER: usize = 129;
const PRODUCER_START: usize = 130;
const HEAD: usize = 144;
const CONSUMER_OWNER: usize = 145;
const CONTROL: Range<usize> = REGION_STATE..192;
const DATA: usize = 192;

const MESSAGE: u64 = 1 << 56;
const BEGIN: u64 = 2 << 56;
const FRAGMENT: u64 = 3 << 56;
const PADDING: u64 = 4 << 56;

/// A ring of 16 words.
fn bytes(test_dir: &TestDir) -> pipe::Options<[u8]> {
    pipe::Options::bytes().capacity_bytes(128).max_message_bytes(1000).directory(test_dir.names())
}

fn values(test_dir: &TestDir) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(test_dir.names())
}

fn one_direction(options: &pipe::Options<u64>, test_dir: &TestDir) -> (Sender<u64>, Receiver<u64>, Intruder) {
    let (tx, rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    (tx, rx, Intruder::at(&test_dir.names().join(NAME)))
}

fn one_way_bytes(options: &pipe::Options<[u8]>, test_dir: &TestDir) -> (ByteSender, ByteReceiver, Intruder) {
    let (tx, rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    (tx, rx, Intruder::at(&test_dir.names().join(NAME)))
}

// ---- invalid words --------------------------------------------------------------------------------------------------

#[test]
fn receiver_tail_out_of_bounds_returns_corrupt() {
    for invalid in [5, 1 << 40, u64::MAX, 1] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = one_direction(&values(&test_dir), &test_dir);
        tx.send_many(&[1, 2]).unwrap();
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
        intruder.set(TAIL, if invalid == 5 { 2 + 5 } else { invalid });
        for _ in 0..3 {
            assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::Corrupt));
            assert_eq!(rx.poll(SHORT), Err(RecvError::Corrupt));
            assert_eq!(rx.try_recv_many(&mut [0; 100]), Err(RecvError::Corrupt));
        }
    }
}

#[test]
fn sender_head_out_of_bounds_returns_corrupt() {
    for invalid in [0, 1, 7, 1 << 40, u64::MAX] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = one_direction(&values(&test_dir), &test_dir);
        tx.send_many(&[1, 2, 3, 4]).unwrap();
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
        tx.send_many(&[5, 6]).unwrap();
        intruder.set(HEAD, invalid);
        for _ in 0..3 {
            assert_eq!(tx.send_timeout(7, SHORT), Err(SendError::Corrupt));
            assert_eq!(tx.try_send_many(&[7, 8]), Err(SendError::Corrupt));
        }
    }
}

#[test]
fn receiver_record_invalid_returns_corrupt() {
    for (records, published) in [
        (&[MESSAGE | 1 << 40, 0][..], 2),
        (&[MESSAGE | 8, 0], 1),     // longer than what is published
        (&[MESSAGE | 128, 0], 16),  // longer than the ring
        (&[MESSAGE | 1001, 0], 16), // longer than the limit
        (&[0, 0], 2),
        (&[9 << 56, 0], 2),
        (&[u64::MAX, 0], 2),
        (&[PADDING, 0], 2),
        (&[PADDING | 1, MESSAGE], 2), // not to the end of the ring
        (&[PADDING | 16, 0], 15),     // not published
        (&[FRAGMENT, 0], 2),          // empty
        (&[BEGIN | 1001, 0], 2),
        (&[BEGIN | 1 << 50, 0], 2),
        (&[BEGIN | 8, FRAGMENT | 9, 0, 0], 4), // more than announced
    ] {
        let test_dir = TestDir::new();
        let (_tx, mut rx, intruder) = one_way_bytes(&bytes(&test_dir), &test_dir);
        records.iter().zip(DATA..).for_each(|(record, at)| intruder.set(at, *record));
        intruder.set(TAIL, published);
        assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::Corrupt), "{records:x?}");
        assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::Corrupt), "{records:x?}");
    }
}

#[test]
fn receiver_padding_only_returns_empty() {
    let test_dir = TestDir::new();
    let (_tx, mut rx, intruder) = one_way_bytes(&bytes(&test_dir), &test_dir);
    intruder.set(DATA, PADDING | 16);
    for lap in 1..100 {
        intruder.set(TAIL, lap * 16);
        assert_eq!(rx.try_recv(&mut Vec::new()), Err(RecvError::Empty));
    }
}

#[test]
fn receiver_huge_message_announced_allocates_what_arrived() {
    let test_dir = TestDir::new();
    let options = bytes(&test_dir).max_message_bytes(1 << 55);
    let (_tx, mut rx, intruder) = one_way_bytes(&options, &test_dir);
    intruder.set(DATA, BEGIN | 1 << 55);
    intruder.set(DATA + 1, FRAGMENT | 8);
    intruder.set(TAIL, 3);
    assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::TimedOut));
}

#[test]
fn receiver_orphan_fragments_end_in_corrupt() {
    let test_dir = TestDir::new();
    let (_tx, mut rx, intruder) = one_way_bytes(&bytes(&test_dir), &test_dir);
    (0..16).step_by(2).for_each(|at| intruder.set(DATA + at, FRAGMENT | 8));
    let corrupt = (1..1000).find(|lap| {
        intruder.set(TAIL, lap * 16);
        match rx.try_recv(&mut Vec::new()) {
            Err(RecvError::Empty | RecvError::MessageLost) => false,
            Err(RecvError::Corrupt) => true,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(corrupt, Some(1000 / 64 + 1));
}

#[test]
fn pipe_owner_words_invalid_calls_return() {
    let test_dir = TestDir::new();
    let (_tx, mut rx, intruder) = one_direction(&values(&test_dir), &test_dir);
    intruder.set(PRODUCER_START, 1000);
    intruder.set(PRODUCER_START + 1, 1000);
    intruder.set(PRODUCER_OWNER, 7 << 3 | 1);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::Corrupt));

    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = one_direction(&values(&test_dir), &test_dir);
    for owner in [u64::MAX, 0, 3, u64::MAX << 3, 1 << 3 | 2, 5 << 3 | 7] {
        intruder.set(PRODUCER_OWNER, owner);
        intruder.set(CONSUMER_OWNER, owner);
        let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.try_recv());
        let _ = (0..5).map(|number| tx.send_timeout(number, SHORT)).collect::<Vec<_>>();
    }
}

// ---- an attacker that does not stop ---------------------------------------------------------------------------------

/// Writes anything anywhere, mostly where it matters.
pub fn corrupt_pipe(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let at = match random.below(4) {
            0 => random.below((intruder.words() - REGION_STATE) as u64) as usize + REGION_STATE,
            1 => random.below(CONTROL.len() as u64) as usize + CONTROL.start,
            2 => [TAIL, HEAD, PRODUCER_OWNER, PRODUCER_START, CONSUMER_OWNER][random.below(5) as usize],
            _ => random.below((intruder.words() - DATA) as u64) as usize + DATA,
        };
        let value = match random.below(5) {
            0 => random.next(),
            1 => random.below(64),
            2 => random.below(6) << 56 | random.below(64),
            3 => intruder.get(at).wrapping_add(random.below(8)),
            _ => intruder.get(if at < HEAD { HEAD } else { TAIL }).wrapping_add(random.below(5)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Publishes beginnings of large messages as fast as they are read.
pub fn announce_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    (DATA..DATA + 16).for_each(|at| intruder.set(at, BEGIN | 1));
    loop {
        intruder.set(TAIL, intruder.get(HEAD) + 16);
    }
}

/// Joins again and again, each time as a new sender.
pub fn rejoin_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    loop {
        let epoch = intruder.get(PRODUCER_OWNER) >> 3;
        intruder.set(PRODUCER_START, intruder.get(TAIL));
        intruder.set(PRODUCER_OWNER, if epoch == 0 { 5 << 3 | 1 } else { 1 });
    }
}

fn send_and_receive(tx: &mut ByteSender, rx: &mut ByteReceiver, random: &mut Random) {
    let mut received = Vec::new();
    let sent = vec![0xAB; random.below(200) as usize];
    let _ = tx.send_timeout(&sent, SHORT);
    let _ = tx.try_send(&sent);
    let _ = rx.recv_timeout(&mut received, SHORT);
    assert!(received.len() <= 1000, "the limit holds");
    let _ = (rx.poll(SHORT), rx.try_recv(&mut received), rx.try_recv_into(&mut [0; 10]));
}

fn send_and_receive_values(tx: &mut Sender<u64>, rx: &mut Receiver<u64>) {
    let _ = (tx.send_timeout(1, SHORT), tx.try_send(2), tx.try_send_many(&[3; 10]));
    let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.try_recv(), rx.try_recv_many(&mut [0; 10]));
}

#[test]
fn pipe_of_bytes_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_pipe",
        |test_dir| one_way_bytes(&bytes(test_dir), test_dir),
        |(tx, rx, _), random| send_and_receive(tx, rx, random),
    );
}

#[test]
fn pipe_of_values_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_pipe",
        |test_dir| one_direction(&values(test_dir), test_dir),
        |(tx, rx, _), _| send_and_receive_values(tx, rx),
    );
}

#[test]
fn pipe_duplex_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_pipe",
        |test_dir| [(); 2].map(|()| bytes(test_dir).open(NAME).unwrap()),
        |[ours, theirs]: &mut [BytePipe; 2], random| {
            send_and_receive(&mut ours.tx, &mut theirs.rx, random);
            send_and_receive(&mut theirs.tx, &mut ours.rx, random);
        },
    );
}

/// A process that joins meanwhile is refused or admitted, and can leave again.
#[test]
fn pipe_corrupted_while_peers_join_and_leave_calls_return() {
    under_attack(
        "corrupt_pipe",
        |test_dir| (one_direction(&values(test_dir), test_dir), values(test_dir).must_exist()),
        |((_, rx, _), options), _| {
            let _ = rx.try_recv();
            let _ = options.receiver(NAME).map(|mut rx| rx.recv_timeout(SHORT));
            let _ = options.sender(NAME).map(|mut tx| tx.send_timeout(1, SHORT));
        },
    );
}

#[test]
fn receiver_endless_announcements_calls_return() {
    under_attack(
        "announce_endlessly",
        |test_dir| one_way_bytes(&bytes(test_dir), test_dir),
        |(_, rx, intruder), _| {
            let mut received = Vec::new();
            let _ = (rx.recv_timeout(&mut received, SHORT), rx.poll(SHORT));
            let before = intruder.get(HEAD);
            let _ = rx.try_recv(&mut received);
            let read = intruder.get(HEAD) - before;
            assert!(read <= 2048, "one call that does not wait read {read} words of a ring of 16");
        },
    );
}

#[test]
fn receiver_endless_successors_calls_return() {
    under_attack(
        "rejoin_endlessly",
        |test_dir| one_direction(&values(test_dir), test_dir),
        |(_, rx, _), _| {
            let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.poll(Duration::ZERO), rx.try_recv());
        },
    );
}
