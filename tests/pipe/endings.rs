//! What one side learns when the other leaves, dies or never arrives.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use tombolo::pipe::{self, Receiver, Sender};
use tombolo::spawn::{self, CommandExt};
use tombolo::{Endpoint, RecvError, SendError};

use crate::support::TestDir;
use crate::{comes_back, start_with};

/// Leaves, or dies.
fn end(how: &str) {
    if how == "dying" {
        // SAFETY: we mean it.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

pub fn send_and_end(arguments: &[String]) {
    let mut tx: Sender<u64> = spawn::take("peer").unwrap();
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    end(&arguments[0]);
}

pub fn receive_one_and_end(arguments: &[String]) {
    let mut rx: Receiver<u64> = spawn::take("peer").unwrap();
    assert_eq!(rx.recv(), Ok(1));
    end(&arguments[0]);
}

#[test]
fn receiver_sender_gone_returns_messages_then_end() {
    let _sandbox = TestDir::new();
    for (how, expected) in [("leaving", RecvError::Closed), ("dying", RecvError::PeerDied)] {
        let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        start_with(tx, "send_and_end", &[how]).wait();
        assert_eq!(rx.poll(Duration::MAX), Ok(true));
        assert_eq!((rx.recv(), rx.try_recv()), (Ok(1), Ok(2)));
        assert_eq!(rx.poll(Duration::MAX), Ok(true), "an end is something, too");
        assert_eq!((rx.recv(), rx.recv(), rx.try_recv()), (Err(expected), Err(expected), Err(expected)));
        assert_eq!(rx.recv_timeout(Duration::ZERO), Err(expected));
    }
}

#[test]
fn sender_receiver_gone_returns_how_it_ended() {
    let _sandbox = TestDir::new();
    for (how, expected) in [("leaving", SendError::Closed), ("dying", SendError::PeerDied)] {
        let (mut tx, rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
        tx.send(1).unwrap();
        start_with(rx, "receive_one_and_end", &[how]).wait();
        let error = (0..=2).find_map(|number| tx.send(number).err()).unwrap();
        assert_eq!((error, tx.send(3)), (expected, Err(expected)));
    }
}

#[test]
fn pipe_peer_killed_either_endpoint_returns_peer_died() {
    let _sandbox = TestDir::new();
    let (ours, theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    for (given, mut kept) in
        [(ours, theirs), tombolo::pipe::Options::bytes().create_duplex().map(|(ours, theirs)| (theirs, ours)).unwrap()]
    {
        let child = start_with(given, "echo", &[]);
        comes_back(&mut kept, 10);
        child.kill();
        assert_eq!(kept.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    }
}

#[test]
fn endpoint_never_taken_peer_does_not_wait() {
    let _sandbox = TestDir::new();
    // The command cannot be started: the endpoint counts as closed.
    let (mut ours, theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    let spawner = Command::new("/nonexistent").pass("peer", theirs).unwrap();
    assert_eq!(spawner.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::Closed));
    // The child never takes it: the endpoint dies with the child.
    let (mut ours, theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    start_with(theirs, "do_nothing", &[]).finish();
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    // The descriptor is closed: the endpoint is dead at once.
    let (mut ours, theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    drop(theirs.into_fd().unwrap());
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    let (ours, mut theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    drop(ours.into_fd().unwrap());
    assert_eq!(theirs.recv(&mut Vec::new()), Err(RecvError::PeerDied));
}

pub fn do_nothing(_: &[String]) {}

#[test]
fn receiver_iterators_end_with_the_sender() {
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    tx.send_many(&[1, 2]).unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [Ok(1), Ok(2)]);
    assert_eq!(rx.try_iter().next(), None, "nothing is there, and it does not block");
    tx.send(3).unwrap();
    tx.abandon().unwrap();
    assert_eq!((&mut rx).into_iter().collect::<Vec<_>>(), [Ok(3), Err(RecvError::PeerDied)]);
    assert_eq!(rx.into_iter().collect::<Vec<_>>(), [Err(RecvError::PeerDied)]);

    let (mut tx, mut rx) = pipe::Options::bytes().create().unwrap();
    tx.send(b"last").unwrap();
    drop(tx);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [Ok(b"last".to_vec())]);
    assert_eq!(rx.into_iter().next(), None);
}

#[test]
fn endpoint_converts_to_descriptor_unless_split() {
    let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let tx: Sender<u64> = OwnedFd::try_from(tx).unwrap().try_into().unwrap();
    drop((tx, rx));
    let (one, _other) = pipe::Options::bytes().create_duplex().unwrap();
    let (tx, _rx) = one.split();
    assert!(OwnedFd::try_from(tx).unwrap_err().to_string().contains("half of a pipe"));
}
