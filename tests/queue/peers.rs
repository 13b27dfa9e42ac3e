//! `wait_for_peer`: a sender waits until there is a receiver, and a receiver until there is a sender.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::processes::{MOMENT, NAME, enter, start_joined, values};
use crate::support::{TestDir, alone, fork};
use tombolo::queue::{self, JoinError};
use tombolo::{ErrorKind, RecvError, SendError};

const NONE: Duration = Duration::ZERO;

#[test]
fn sender_wait_for_peer_returns_when_a_living_receiver_is_there() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).sender(NAME).unwrap();
    let another = tx.try_clone().unwrap();
    for round in 0..3 {
        let error = tx.wait_for_peer(MOMENT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "another sender is no peer");
        assert!(error.to_string().contains("wait for a receiver of the region \"name\": found none"), "{error}");
        let waiting = thread::spawn(move || tx.wait_for_peer(Duration::MAX).map(|()| tx));
        let receiver = start_joined(&test_dir, "stay_as_receiver");
        tx = waiting.join().unwrap().unwrap();
        receiver.signal(libc::SIGSTOP);
        assert!(tx.wait_for_peer(NONE).is_ok(), "it may go on");
        receiver.kill();
        assert!(tx.wait_for_peer(MOMENT).is_err(), "in round {round}");
    }
    let rx = another.receiver().unwrap();
    assert!(tx.wait_for_peer(NONE).is_ok(), "one of this process counts");
    drop(rx);
    assert_eq!(tx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::TimedOut, "it has left");
}

#[test]
fn receiver_wait_for_peer_after_the_end_returns_for_next_sender() {
    let test_dir = TestDir::new();
    let options = queue::Options::bytes().directory(test_dir.names());
    let mut rx = options.receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap();
    rx.wait_for_peer(NONE).unwrap();
    tx.send("first").unwrap();
    tx.close().unwrap();
    assert_eq!(rx.wait_for_peer(MOMENT).unwrap_err().kind(), ErrorKind::TimedOut, "its run is closed");
    let mut message = Vec::new();
    assert_eq!((rx.recv(&mut message), rx.recv(&mut message)), (Ok(5), Err(RecvError::Closed)));
    let waiting = thread::spawn(move || rx.wait_for_peer(Duration::MAX).map(|()| rx));
    let mut next = options.sender(NAME).unwrap();
    rx = waiting.join().unwrap().unwrap();
    next.send("second").unwrap();
    assert_eq!(rx.recv(&mut message), Ok(6), "no end before it");
}

/// All workers are gone for a while, and their jobs are not.
#[test]
fn sender_wait_for_peer_after_all_workers_died_joins_with_the_next() {
    let test_dir = TestDir::new();
    let mut tx = values(&test_dir).capacity(4).sender(NAME).unwrap();
    tx.send_many(&[1, 2, 3, 4]).unwrap();
    start_joined(&test_dir, "work_on_one_and_stay").kill();
    assert_eq!((tx.join(), tx.send(5), tx.send(6)), (Err(JoinError::PeerDied), Ok(()), Ok(())));
    assert_eq!(tx.send(7), Err(SendError::PeerDied));
    let waiting = thread::spawn(move || {
        tx.wait_for_peer(Duration::MAX).unwrap();
        (tx.join(), tx.join())
    });
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    for job in 3..=6 {
        assert_eq!((rx.recv(), rx.task_done()), (Ok(job), Ok(())));
    }
    assert_eq!(waiting.join().unwrap(), (Err(JoinError::TasksLost { count: 1 }), Ok(())));
}

#[test]
fn wait_for_peer_name_removed_returns_name_removed() {
    let test_dir = TestDir::new();
    let mut rx = values(&test_dir).receiver(NAME).unwrap();
    fs::remove_file(test_dir.names().join(NAME)).unwrap();
    assert_eq!(rx.wait_for_peer(Duration::MAX).unwrap_err().kind(), ErrorKind::NameRemoved);
}

#[test]
fn wait_for_peer_in_forked_child_returns_forked() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let child = fork(&alone, || {
        assert_eq!(tx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(rx.wait_for_peer(NONE).unwrap_err().kind(), ErrorKind::Forked);
    });
    child.finish();
}

/// More of them than one call asks the kernel about.
#[test]
fn wait_for_peer_many_killed_before_finds_the_living_one() {
    let test_dir = TestDir::new();
    let options = values(&test_dir).max_participants(200);
    let mut rx = options.receiver(NAME).unwrap();
    enter(&test_dir, "join_often_and_be_killed", &[]).wait();
    let mut tx = options.sender(NAME).unwrap();
    rx.wait_for_peer(Duration::MAX).unwrap();
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

pub fn join_often_and_be_killed(arguments: &[String]) {
    let (options, _) = crate::processes::from_arguments(arguments);
    let _senders: Vec<_> = (0..150).map(|_| options.sender(NAME).unwrap()).collect();
    // SAFETY: we mean it.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}
