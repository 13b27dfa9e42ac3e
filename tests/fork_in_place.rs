//! What a process had begun when it forked: the child has a copy of the handle, and can bring
//! nothing to its end.

mod support;

use std::time::Duration;

use support::{Board, Sandbox, alone, fork};
use tombolo::{Mutex, PipeOptions};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn slots_reserved_before_a_fork_are_committed_by_the_parent_only() {
    let (alone, _sandbox) = (alone(), Sandbox::new());
    let (tx, mut rx) = PipeOptions::values::<u64>().capacity(4).one_way().unwrap();
    // SAFETY: both ends are ours, and the child writes nothing.
    let mut tx = unsafe { tx.trust().unwrap() };
    let mut slots = tx.reserve(2).unwrap();
    slots.copy_from_slice(&[1, 2]);
    let mut slots = Some(slots);
    fork(&alone, || slots.take().unwrap().commit(2)).finish();
    assert!(rx.recv_timeout(SHORT).is_err(), "the child has sent in its parent's name");
    slots.take().unwrap().commit(1);
    assert_eq!((rx.recv(), rx.try_recv().ok()), (Ok(1), None));
    tx.into_inner().send(&3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

#[test]
fn values_peeked_at_before_a_fork_are_released_by_the_parent_only() {
    let (alone, _sandbox) = (alone(), Sandbox::new());
    let (mut tx, rx) = PipeOptions::values::<u64>().capacity(2).one_way().unwrap();
    // SAFETY: both ends are ours.
    let mut rx = unsafe { rx.trust().unwrap() };
    assert_eq!(tx.send_many(&[1, 2]), Ok(2));
    for release_first in [false, true] {
        let mut values = Some(rx.peek(2).unwrap());
        fork(&alone, || {
            let values = values.take().unwrap();
            if release_first { values.release_first(1) } else { values.release() }
        })
        .finish();
        assert!(tx.send_timeout(&3, SHORT).is_err(), "the child has received in its parent's name");
        assert_eq!(*values.unwrap(), [1, 2]);
    }
    rx.peek(2).unwrap().release();
    tx.send(&3).unwrap();
    assert_eq!(rx.into_inner().recv(), Ok(3));
}

#[test]
fn room_reserved_before_a_fork_is_committed_by_the_parent_only() {
    let (alone, _sandbox) = (alone(), Sandbox::new());
    let (tx, mut rx) = PipeOptions::bytes().one_way().unwrap();
    // SAFETY: both ends are ours, and the child writes nothing.
    let mut tx = unsafe { tx.trust() };
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
fn a_message_peeked_at_before_a_fork_is_released_by_the_parent_only() {
    let (alone, _sandbox) = (alone(), Sandbox::new());
    let (mut tx, rx) = PipeOptions::bytes().capacity_len(4096).one_way().unwrap();
    // SAFETY: both ends are ours.
    let mut rx = unsafe { rx.trust() };
    let first = vec![1; tx.inline_max_len()];
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
fn a_guard_leaked_in_a_child_says_nothing_about_the_parents_lock() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let board = Board::at(&sandbox.file("board"));
    let lock = Mutex::new(1_u64).unwrap();
    let mut guard = Some(lock.lock().unwrap());
    let child = fork(&alone, || {
        board.meet(0, 2); // the parent has leaked its own
        let mut guard = guard.take().unwrap();
        guard.poison();
        guard.leak();
    });
    guard.take().unwrap().leak();
    board.meet(0, 2);
    child.finish();
    lock.unlock().unwrap();
    assert!(lock.lock().is_ok(), "the child has poisoned its parent's lock");
}
