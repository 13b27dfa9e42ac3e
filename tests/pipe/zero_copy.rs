//! Messages written and read in place.

use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use tombolo::pipe::{self, ByteReceiver, ByteSender, Receiver, Sender};
use tombolo::spawn::{self, CommandExt};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::support::{Process, TestDir, command, message};
use crate::{odd_length, start_with};

type Block = [u64; 4];

const MOMENT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

pub fn send_in_place(_: &[String]) {
    // SAFETY: both processes are ours and use the region through the library.
    let mut tx = unsafe { spawn::take::<Sender<Block>>("values").unwrap().into_zero_copy().unwrap() };
    tx.reserve(3).unwrap()[0] = [99; 4]; // not committed: sends nothing
    let mut next = 0;
    while next < 1000 {
        let mut blocks = tx.reserve_timeout(3, LONG).unwrap();
        for (block, number) in blocks.iter_mut().zip(next..) {
            *block = [number; 4];
        }
        let count = blocks.len().min(2);
        blocks.commit(count);
        next += count as u64;
    }
    drop(tx);
    // SAFETY: as above.
    let mut tx = unsafe { spawn::take::<ByteSender>("bytes").unwrap().into_zero_copy() };
    for number in 0..1000 {
        tx.reserve(50).unwrap()[0] = 99; // not committed: sends nothing
        let sent = message(number, odd_length(number) / 2);
        let mut room = tx.reserve_deadline(sent.len() + 8, Some(Instant::now() + LONG)).unwrap();
        room[..sent.len()].copy_from_slice(&sent);
        room.commit(sent.len());
    }
}

pub fn receive_in_place(_: &[String]) {
    // SAFETY: as in the sender.
    let mut rx = unsafe { spawn::take::<Receiver<Block>>("values").unwrap().into_zero_copy().unwrap() };
    let mut expected = 0;
    while let Ok(blocks) = rx.peek(3) {
        let count = blocks.len().min(2);
        assert!(blocks.iter().zip(expected..).all(|(block, number)| *block == [number; 4]));
        if expected % 3 == 0 {
            // Not released: the blocks stay.
            assert_eq!(rx.try_peek(1).unwrap()[0][0], expected);
            rx.peek_timeout(1, LONG).unwrap().release();
            expected += 1;
        } else {
            blocks.release_first(count);
            expected += count as u64;
        }
    }
    assert!(expected >= 1000);
    // SAFETY: as above.
    let mut rx = unsafe { spawn::take::<ByteReceiver>("bytes").unwrap().into_zero_copy() };
    for number in 0..1000 {
        let expected = message(number, odd_length(number) / 2);
        assert!(*rx.peek_timeout(LONG).unwrap() == expected[..]);
        let received = rx.try_peek().unwrap();
        assert!(*received == expected[..], "a peek takes nothing");
        received.release();
    }
    assert_eq!(rx.peek().err(), Some(RecvError::Closed));
    assert_eq!(rx.try_peek().err(), Some(RecvError::Closed));
}

#[test]
fn zero_copy_messages_arrive_in_order() {
    let _sandbox = TestDir::new();
    let (tx, rx) = pipe::Options::<Block>::new().capacity(8).create().unwrap();
    let (byte_tx, byte_rx) = pipe::Options::bytes().capacity_bytes(1024).create().unwrap();
    let sender =
        command("send_in_place", &[]).pass("values", tx).unwrap().pass("bytes", byte_tx).unwrap().spawn().unwrap();
    let sender = Process::from(sender);
    let receiver =
        command("receive_in_place", &[]).pass("values", rx).unwrap().pass("bytes", byte_rx).unwrap().spawn().unwrap();
    Process::from(receiver).finish();
    sender.finish();
}

#[test]
fn zero_copy_forms_without_room_or_message_return() {
    let _sandbox = TestDir::new();
    let deadline = || Some(Instant::now() + MOMENT);
    for capacity in [1, 2] {
        let (tx, rx) = pipe::Options::<Block>::new().capacity(capacity).create().unwrap();
        // SAFETY: both ends are ours.
        let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
        assert_eq!(rx.poll(MOMENT), Ok(false));
        assert_eq!(rx.try_peek(1).err(), Some(RecvError::Empty));
        assert_eq!(rx.peek_timeout(1, MOMENT).err(), Some(RecvError::TimedOut));
        assert_eq!(rx.peek_deadline(1, deadline()).err(), Some(RecvError::TimedOut));
        assert_eq!(rx.try_peek(0).unwrap().len(), 0);
        for number in 0..capacity as u64 {
            let mut slots = tx.try_reserve(1).unwrap();
            slots[0] = [number; 4];
            slots.commit(1);
        }
        assert_eq!(tx.try_reserve(1).err(), Some(SendError::Full));
        assert_eq!(tx.reserve_timeout(1, MOMENT).err(), Some(SendError::TimedOut));
        assert_eq!(tx.reserve_deadline(1, deadline()).err(), Some(SendError::TimedOut));
        assert_eq!(rx.poll(MOMENT), Ok(true));
        let values = rx.peek_deadline(8, None).unwrap();
        assert_eq!((values.len(), values[0]), (capacity, [0; 4]));
        values.release_first(1);
        tx.reserve_deadline(1, None).unwrap().commit(1);
        drop(tx);
        rx.try_peek(8).unwrap().release();
        while let Ok(rest) = rx.try_peek(8) {
            rest.release();
        }
        assert_eq!(rx.peek_timeout(1, LONG).err(), Some(RecvError::Closed));
    }
}

#[test]
fn zero_copy_message_of_any_length_forms_return() {
    let _sandbox = TestDir::new();
    let (tx, rx) = pipe::Options::bytes().capacity_bytes(1024).create().unwrap();
    // SAFETY: both ends are ours.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy(), rx.into_zero_copy()) };
    let limit = tx.max_inline_bytes();
    assert_eq!(rx.poll(MOMENT), Ok(false));
    for length in [0, 1, 3, limit] {
        assert_eq!(rx.try_peek().err(), Some(RecvError::Empty));
        assert_eq!(rx.peek_timeout(MOMENT).err(), Some(RecvError::TimedOut));
        assert_eq!(rx.peek_deadline(Some(Instant::now())).err(), Some(RecvError::TimedOut));
        let mut room = tx.try_reserve(length).unwrap();
        assert!(room.as_ptr().addr().is_multiple_of(8));
        room.fill(length as u8);
        room.commit(length);
        assert_eq!(rx.poll(MOMENT), Ok(true));
        let message = rx.try_peek().unwrap();
        assert!(message.as_ptr().addr().is_multiple_of(8));
        assert!(message.len() == length && message.iter().all(|&byte| byte == length as u8));
        message.release();
    }
    for length in [limit + 1, 3 << 20, usize::MAX] {
        assert_eq!(tx.try_reserve(length).err(), Some(SendError::TooLarge { length, limit }));
        assert_eq!(tx.reserve_timeout(length, LONG).err(), Some(SendError::TooLarge { length, limit }));
    }
    while let Ok(room) = tx.try_reserve(limit) {
        room.commit(limit);
    }
    assert_eq!(tx.try_reserve(limit).err(), Some(SendError::Full));
    assert_eq!(tx.reserve_timeout(limit, MOMENT).err(), Some(SendError::TimedOut));
    assert_eq!(tx.reserve_deadline(limit, Some(Instant::now())).err(), Some(SendError::TimedOut));
    drop(rx);
    assert_eq!(tx.try_reserve(1).err(), Some(SendError::Closed));
}

pub fn hold_in_place(_: &[String]) {
    // SAFETY: both processes are ours and use the region through the library.
    let mut tx = unsafe { spawn::take::<ByteSender>("peer").unwrap().into_zero_copy() };
    tx.reserve(3).unwrap().commit(3);
    let room = tx.reserve(3); // never committed
    thread::sleep(LONG);
    drop(room);
}

#[test]
fn zero_copy_peek_with_timeout_sender_killed_returns_peer_died() {
    let _sandbox = TestDir::new();
    let (tx, rx) = pipe::Options::bytes().create().unwrap();
    let child = start_with(tx, "hold_in_place", &[]);
    // SAFETY: both processes are ours and use the region through the library.
    let mut rx = unsafe { rx.into_zero_copy() };
    rx.peek_timeout(LONG).unwrap().release();
    assert_eq!(rx.peek_timeout(MOMENT).err(), Some(RecvError::TimedOut), "it has nothing more, and lives");
    child.kill();
    assert_eq!(rx.peek_timeout(LONG).err(), Some(RecvError::PeerDied));
    assert_eq!(rx.try_peek().err(), Some(RecvError::PeerDied));
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable, tombolo::Shareable)]
struct Line([u8; 64]);

#[test]
fn zero_copy_slots_are_aligned_as_their_type() {
    let (tx, rx) = pipe::Options::<Line>::new().capacity(2).create().unwrap();
    // SAFETY: both ends are ours.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    for _ in 0..5 {
        let slots = tx.reserve(1).unwrap();
        assert!(slots.as_ptr().is_aligned());
        slots.commit(1);
        let values = rx.peek(1).unwrap();
        assert!(values.as_ptr().is_aligned());
        values.release();
    }
}

#[test]
fn zero_copy_value_with_gaps_is_refused() {
    let (tx, _rx) = pipe::Options::<[u8; 3]>::new().create().unwrap();
    // SAFETY: both ends are ours.
    let error = unsafe { tx.into_zero_copy() }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("multiple of 8"), "{error}");
}
