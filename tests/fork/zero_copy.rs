//! Reservations, peeks and frames that were open at the fork: the child has a copy, and the copy does
//! nothing.

use std::time::Duration;

use tombolo::queue::Blocks;
use tombolo::{SendError, pipe, queue};

use crate::support::{TestDir, alone, fork};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn fork_reserved_values_are_committed_by_parent_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let (tx, mut rx) = pipe::Options::<u64>::new().capacity(4).create().unwrap();
    // SAFETY: both ends are ours, and the child writes nothing.
    let mut tx = unsafe { tx.into_zero_copy().unwrap() };
    let mut slots = tx.reserve(2).unwrap();
    slots.copy_from_slice(&[1, 2]);
    let mut slots = Some(slots);
    fork(&alone, || slots.take().unwrap().commit(2)).finish();
    assert!(rx.recv_timeout(SHORT).is_err(), "the child has sent in its parent's name");
    slots.take().unwrap().commit(1);
    assert_eq!((rx.recv(), rx.try_recv().ok()), (Ok(1), None));
    tx.into_inner().send(3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

#[test]
fn fork_peeked_values_are_released_by_parent_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
    // SAFETY: both ends are ours.
    let mut rx = unsafe { rx.into_zero_copy().unwrap() };
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    for release_first in [false, true] {
        let mut values = Some(rx.peek(2).unwrap());
        fork(&alone, || {
            let values = values.take().unwrap();
            if release_first { values.release_first(1) } else { values.release() }
        })
        .finish();
        assert!(tx.send_timeout(3, SHORT).is_err(), "the child has received in its parent's name");
        assert_eq!(*values.unwrap(), [1, 2]);
    }
    rx.peek(2).unwrap().release();
    tx.send(3).unwrap();
    assert_eq!(rx.into_inner().recv(), Ok(3));
}

#[test]
fn fork_reserved_message_is_committed_by_parent_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let (tx, mut rx) = pipe::Options::bytes().create().unwrap();
    // SAFETY: both ends are ours, and the child writes nothing.
    let mut tx = unsafe { tx.into_zero_copy() };
    let mut room = tx.reserve(8).unwrap();
    room.copy_from_slice(b"from us.");
    let mut room = Some(room);
    fork(&alone, || room.take().unwrap().commit(8)).finish();
    assert!(rx.recv_timeout(&mut Vec::new(), SHORT).is_err(), "the child has sent in its parent's name");
    room.take().unwrap().commit(7);
    let mut received = Vec::new();
    assert_eq!(rx.recv(&mut received), Ok(7));
    assert_eq!(received, b"from us");
}

#[test]
fn fork_peeked_message_is_released_by_parent_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let (mut tx, rx) = pipe::Options::bytes().capacity_bytes(4096).create().unwrap();
    // SAFETY: both ends are ours.
    let mut rx = unsafe { rx.into_zero_copy() };
    let first = vec![1; tx.max_inline_bytes()];
    tx.send(&first).unwrap();
    while tx.try_send(b"more").is_ok() {}
    let mut message = Some(rx.peek().unwrap());
    fork(&alone, || message.take().unwrap().release()).finish();
    assert!(tx.try_send(b"more").is_err(), "the child has received in its parent's name");
    assert_eq!(&**message.as_ref().unwrap(), &first);
    message.unwrap().release();
    assert_eq!(&*rx.peek().unwrap(), b"more");
    tx.try_send(b"more").unwrap();
}

#[test]
fn fork_frames_are_sent_and_dropped_by_parent_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let options = queue::Options::bytes().blocks(Blocks { count: 2, bytes: 4096 }).max_message_bytes(4096);
    let (tx, rx) = options.create_channel().unwrap();
    // SAFETY: both ends are ours, and the child writes nothing.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    let mut frame = tx.loan(4096).unwrap();
    frame.fill(1);
    let mut frame = Some(frame);
    fork(&alone, || assert_eq!(frame.take().unwrap().send(), Err(SendError::Forked))).finish();
    assert!(rx.recv_frame_timeout(SHORT).is_err(), "the child has sent in its parent's name");
    frame.take().unwrap().send().unwrap();
    let mut received = Some(rx.recv_frame().unwrap());
    fork(&alone, || drop(received.take())).finish();
    assert_eq!(tx.get_ref().stats().used_blocks, 1, "the child has freed its parent's block");
    assert_eq!(*received.unwrap(), [1; 4096]);
    assert_eq!(tx.get_ref().stats().used_blocks, 0);
}
