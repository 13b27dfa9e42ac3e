//! Messages written and read in place.

use tombolo::pipe::{self, ByteReceiver, ByteSender, Receiver, Sender};
use tombolo::spawn::{self, CommandExt};
use tombolo::{ErrorKind, RecvError};

use crate::odd_length;
use crate::support::{Process, TestDir, command, message};

type Block = [u64; 4];

pub fn send_in_place(_: &[String]) {
    // SAFETY: both processes are ours and use the region through the library.
    let mut tx = unsafe { spawn::take::<Sender<Block>>("values").unwrap().into_zero_copy().unwrap() };
    tx.reserve(3).unwrap()[0] = [99; 4]; // not committed: sends nothing
    let mut next = 0;
    while next < 1000 {
        let mut blocks = tx.reserve(3).unwrap();
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
        let mut room = tx.reserve(sent.len() + 8).unwrap();
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
            assert_eq!(rx.peek(1).unwrap()[0][0], expected);
            rx.peek(1).unwrap().release();
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
        assert!(*rx.peek().unwrap() == expected[..]);
        let received = rx.peek().unwrap();
        assert!(*received == expected[..], "a peek takes nothing");
        received.release();
    }
    assert_eq!(rx.peek().err(), Some(RecvError::Closed));
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
fn zero_copy_value_with_gaps_is_refused() {
    let (tx, _rx) = pipe::Options::<[u8; 3]>::new().create().unwrap();
    // SAFETY: both ends are ours.
    let error = unsafe { tx.into_zero_copy() }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("multiple of 8"), "{error}");
}
