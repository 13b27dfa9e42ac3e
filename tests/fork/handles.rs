//! Endpoints and guards that a child has inherited, and those that it opens itself.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::pipe;
use tombolo::sync::Mutex;
use tombolo::{ErrorKind, RecvError, SendError};

use crate::support::{SharedCounters, TestDir, alone, fork};

const NAME: &str = "name";

fn values(test_dir: &TestDir) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(test_dir.names())
}

/// Lives until the test has ended.
fn live_on(test_dir: &TestDir) {
    while test_dir.names().exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn fork_inherited_endpoints_are_refused_and_dropped_without_effect() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let rx = values(&test_dir).receiver(NAME).unwrap();
    let (mut byte_tx, mut byte_rx) = pipe::Options::bytes().create().unwrap();
    tx.send(1).unwrap();
    let mut ends = Some((tx, rx));
    let child = fork(&alone, || {
        let (mut tx, mut rx) = ends.take().unwrap();
        assert_eq!((tx.send(9), tx.try_send(9)), (Err(SendError::Forked), Err(SendError::Forked)));
        assert_eq!((rx.recv(), rx.try_recv()), (Err(RecvError::Forked), Err(RecvError::Forked)));
        assert_eq!(rx.poll(Duration::ZERO), Err(RecvError::Forked));
        assert_eq!(tx.wait_for_peer(Duration::ZERO).unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(rx.wait_for_peer(Duration::ZERO).unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(byte_tx.send(b"9"), Err(SendError::Forked));
        assert_eq!(byte_rx.recv(&mut Vec::new()), Err(RecvError::Forked));
        drop((tx, rx));
    });
    child.finish();
    let (mut tx, mut rx) = ends.unwrap();
    tx.send(2).unwrap();
    drop(tx);
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Err(RecvError::Closed)));
    drop(rx);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn fork_child_opens_endpoints_of_its_own() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    let child = fork(&alone, || {
        assert_eq!(rx.recv(), Err(RecvError::Forked));
        values(&test_dir).sender(NAME).unwrap().send(1).unwrap();
    });
    child.finish();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
}

#[test]
fn fork_parent_killed_death_is_reported_while_child_lives() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let parent = fork(&alone, || {
        let mut tx = values(&test_dir).sender(NAME).unwrap();
        tx.send(1).unwrap();
        // SAFETY: the child does nothing but wait, and the test ends it.
        let child = unsafe { libc::fork() };
        if child == 0 {
            live_on(&test_dir);
            // SAFETY: ends the child without touching what it shares with others.
            unsafe { libc::_exit(0) };
        }
        counters.word(1).store(child as u64, Ordering::SeqCst);
        counters.meet(0, 2);
        live_on(&test_dir);
    });
    counters.meet(0, 2);
    let child = counters.word(1).load(Ordering::SeqCst) as libc::pid_t;
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    parent.kill();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    // SAFETY: a process of ours that has not been waited for by anybody.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child did not live on");
}

#[test]
fn fork_parent_left_endpoint_is_free_while_child_lives() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    let tx = values(&test_dir).sender(NAME).unwrap();
    let _child = fork(&alone, || live_on(&test_dir));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop((tx, rx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn fork_guard_leaked_by_child_leaves_lock_of_parent() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let lock = Mutex::new(1_u64).unwrap();
    let mut guard = Some(lock.lock().unwrap());
    let child = fork(&alone, || {
        counters.meet(0, 2); // the parent has leaked its own
        let mut guard = guard.take().unwrap();
        guard.poison();
        guard.keep_locked();
    });
    guard.take().unwrap().keep_locked();
    counters.meet(0, 2);
    child.finish();
    lock.unlock().unwrap();
    assert!(lock.lock().is_ok(), "the child has poisoned its parent's lock");
}
