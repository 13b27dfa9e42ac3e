//! Forks that are not followed by an exec, and descriptors that are closed behind the library's back.

mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use support::{Board, Sandbox, alone, fork};
use tombolo::{Directory, ErrorKind, PipeOptions, RecvError, SendError, Standing};

const NAME: &str = "name";

fn values(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(sandbox.names())
}

/// Outlives whoever started it, but not the test.
fn live_on(sandbox: &Sandbox) {
    while sandbox.names().exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn inherited_handles_are_refused_and_dropping_them_disturbs_nobody() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    let rx = values(&sandbox).receiver(NAME).unwrap();
    let (mut byte_tx, mut byte_rx) = PipeOptions::bytes().one_way().unwrap();
    tx.send(&1).unwrap();
    let mut ends = Some((tx, rx));
    let child = fork(&alone, || {
        let (mut tx, mut rx) = ends.take().unwrap();
        assert_eq!((tx.send(&9), tx.try_send(&9)), (Err(SendError::Forked), Err(SendError::Forked)));
        assert_eq!((rx.recv(), rx.try_recv()), (Err(RecvError::Forked), Err(RecvError::Forked)));
        assert_eq!(rx.poll(Duration::ZERO), Err(RecvError::Forked));
        assert_eq!(byte_tx.send(b"9"), Err(SendError::Forked));
        assert_eq!(byte_rx.recv(&mut Vec::new()), Err(RecvError::Forked));
        drop((tx, rx));
    });
    child.finish();
    let (mut tx, mut rx) = ends.unwrap();
    tx.send(&2).unwrap();
    drop(tx);
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Err(RecvError::Closed)));
    drop(rx);
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn a_child_can_open_handles_of_its_own() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    let child = fork(&alone, || {
        assert_eq!(rx.recv(), Err(RecvError::Forked));
        values(&sandbox).sender(NAME).unwrap().send(&1).unwrap();
    });
    child.finish();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
}

#[test]
fn a_death_is_noticed_although_a_child_lives_on() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let board = Board::at(&sandbox.file("board"));
    let parent = fork(&alone, || {
        let mut tx = values(&sandbox).sender(NAME).unwrap();
        tx.send(&1).unwrap();
        // SAFETY: the child does nothing but wait, and the test ends it.
        let child = unsafe { libc::fork() };
        if child == 0 {
            live_on(&sandbox);
            // SAFETY: ends the child without touching what it shares with others.
            unsafe { libc::_exit(0) };
        }
        board.word(1).store(child as u64, Ordering::SeqCst);
        board.meet(0, 2);
        live_on(&sandbox);
    });
    board.meet(0, 2);
    let child = board.word(1).load(Ordering::SeqCst) as libc::pid_t;
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    parent.kill();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    tx.send(&2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    // SAFETY: a process of ours that has not been waited for by anybody.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child did not live on");
}

#[test]
fn a_child_does_not_keep_a_seat_that_its_parent_has_left() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    let tx = values(&sandbox).sender(NAME).unwrap();
    let _child = fork(&alone, || live_on(&sandbox));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop((tx, rx));
    assert_eq!(sandbox.litter(), [""; 0]);
}

/// Closes what belongs to others.
fn close_everything() {
    // SAFETY: nothing here uses a descriptor any more.
    assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
}

#[test]
fn a_sender_that_closes_its_descriptors_without_dying_has_lost_its_lock() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let board = Board::at(&sandbox.file("board"));
    let careless = fork(&alone, || {
        let mut tx = values(&sandbox).sender(NAME).unwrap();
        tx.send(&1).unwrap();
        close_everything();
        board.meet(0, 2);
        live_on(&sandbox);
    });
    board.meet(0, 2);
    let pid = careless.pid() as u64;
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Err(RecvError::LockLost));
    let error = values(&sandbox).sender(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockLost { pid });
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    let inspection = Directory::at(sandbox.names()).inspect(NAME).unwrap();
    assert_eq!(inspection.participants[0].standing, Standing::LockLost);
    careless.kill();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "now it is dead");
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    tx.send(&2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
}

#[test]
fn a_receiver_that_closes_its_descriptors_without_dying_has_lost_its_lock() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let board = Board::at(&sandbox.file("board"));
    let careless = fork(&alone, || {
        let _rx = values(&sandbox).receiver(NAME).unwrap();
        close_everything();
        board.meet(0, 2);
        live_on(&sandbox);
    });
    board.meet(0, 2);
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    let error = (0..10).find_map(|number| tx.send(&number).err());
    assert_eq!(error, Some(SendError::LockLost));
    careless.kill();
    assert_eq!(tx.send(&9), Err(SendError::PeerDied));
}
