//! Endpoints that were passed, and of which this process has kept a handle. (serde's feature `rc`
//! makes that easy.) The other process uses the same positions, so no call on the handle may.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tombolo::broadcast;
use tombolo::pipe::{self, BytePipe, Pipe};
use tombolo::process::Process;
use tombolo::queue;
use tombolo::rpc::{self, CallError};
use tombolo::{ErrorKind, RecvError, SendError};

use crate::support::TestDir;

/// An endpoint that this process has, too, after it was passed.
pub struct Kept<E>(Arc<Mutex<E>>);

impl<E> Kept<E> {
    pub fn new(endpoint: E) -> Self {
        Self(Arc::new(Mutex::new(endpoint)))
    }

    pub fn get(&self) -> MutexGuard<'_, E> {
        self.0.lock().unwrap()
    }
}

impl<E> Clone for Kept<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Serialize> Serialize for Kept<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, E: Deserialize<'de>> Deserialize<'de> for Kept<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        E::deserialize(deserializer).map(Self::new)
    }
}

/// Passes an endpoint to a process that closes it, and returns the handle that this one has kept.
fn pass<E: Serialize + DeserializeOwned>(endpoint: E) -> Kept<E> {
    let kept = Kept::new(endpoint);
    Process::spawn(|_: Kept<E>| {}, kept.clone()).unwrap().join().unwrap();
    kept
}

/// What cannot be passed to another process.
struct Refused;

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("refused"))
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Passes an endpoint in arguments that cannot be serialised after all.
fn pass_in_vain<E: Serialize + DeserializeOwned>(endpoint: E) -> Kept<E> {
    let kept = Kept::new(endpoint);
    let refused = Process::spawn(|_: (Kept<E>, Refused)| {}, (kept.clone(), Refused)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotSerializable, "{refused}");
    kept
}

#[test]
fn pipe_that_was_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let (tx, rx) = (pass(tx), pass(rx));
    assert_eq!(tx.get().send(1), Err(SendError::Passed));
    assert_eq!(tx.get().try_send(1), Err(SendError::Passed));
    assert_eq!(rx.get().recv(), Err(RecvError::Passed));
    assert_eq!(rx.get().try_recv(), Err(RecvError::Passed));
    let refused = tx.get().wait_for_peer(std::time::Duration::ZERO).unwrap_err();
    assert!(refused.to_string().contains("passed to another process"), "{refused}");
}

#[test]
fn byte_pipe_that_was_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (tx, rx) = pipe::Options::bytes().create().unwrap();
    let (tx, rx) = (pass(tx), pass(rx));
    assert_eq!(tx.get().send(b"message"), Err(SendError::Passed));
    assert_eq!(rx.get().recv(&mut Vec::new()), Err(RecvError::Passed));
}

#[test]
fn duplex_pipe_that_was_passed_both_directions_kept_are_refused() {
    let _test_dir = TestDir::new();
    let (_peer, pipe): (_, Pipe<u64>) = pipe::Options::<u64>::new().create_duplex().unwrap();
    let pipe = pass(pipe);
    assert_eq!(pipe.get().send(1), Err(SendError::Passed));
    assert_eq!(pipe.get().recv(), Err(RecvError::Passed));

    let (_peer, pipe): (_, BytePipe) = pipe::Options::bytes().create_duplex().unwrap();
    let pipe = pass(pipe);
    assert_eq!(pipe.get().send(b"message"), Err(SendError::Passed));
    assert_eq!(pipe.get().recv(&mut Vec::new()), Err(RecvError::Passed));
}

#[test]
fn queue_that_was_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (tx, rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let (tx, rx) = (pass(tx), pass(rx));
    assert_eq!(tx.get().send(1), Err(SendError::Passed));
    assert_eq!(tx.get().try_send(1), Err(SendError::Passed));
    assert_eq!(rx.get().recv(), Err(RecvError::Passed));
    assert_eq!(rx.get().try_recv(), Err(RecvError::Passed));
    assert_eq!(rx.get().task_done(), Err(queue::TaskDoneError::Passed));
    assert_eq!(tx.get().join(), Err(queue::JoinError::Passed));
    let refused = tx.get().try_clone().unwrap_err();
    assert!(refused.to_string().contains("passed to another process"), "{refused}");
}

#[test]
fn byte_queue_that_was_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (tx, rx) = queue::Options::bytes().max_message_bytes(1 << 16).create_channel().unwrap();
    let (tx, rx) = (pass(tx), pass(rx));
    assert_eq!(tx.get().send(b"message"), Err(SendError::Passed));
    assert_eq!(tx.get().send([7; 1 << 14]), Err(SendError::Passed));
    assert_eq!(rx.get().recv(&mut Vec::new()), Err(RecvError::Passed));
}

#[test]
fn caller_and_responder_that_were_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (caller, responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    let (caller, responder) = (pass(caller), pass(responder));
    assert_eq!(caller.get().call(1), Err(CallError::Passed));
    assert_eq!(responder.get().recv().map(|request| *request), Err(RecvError::Passed));
    let refused = caller.get().try_clone().unwrap_err();
    assert!(refused.to_string().contains("passed to another process"), "{refused}");
}

#[test]
fn broadcast_that_was_passed_handle_kept_is_refused() {
    let _test_dir = TestDir::new();
    let (publisher, subscriber) = broadcast::Options::<u64>::new().create().unwrap();
    let (publisher, subscriber) = (pass(publisher), pass(subscriber));
    assert_eq!(publisher.get().publish(1), Err(SendError::Passed));
    assert_eq!(subscriber.get().recv(), Err(RecvError::Passed));
    assert_eq!(subscriber.get().rejoin(), Err(RecvError::Passed));
    let refused = subscriber.get().try_clone().unwrap_err();
    assert!(refused.to_string().contains("passed to another process"), "{refused}");

    let (publisher, subscriber) = broadcast::Options::bytes().create().unwrap();
    let (publisher, subscriber) = (pass(publisher), pass(subscriber));
    assert_eq!(publisher.get().publish(b"message"), Err(SendError::Passed));
    assert_eq!(subscriber.get().recv(&mut Vec::new()), Err(RecvError::Passed));
}

#[test]
fn endpoints_of_a_spawn_that_failed_kept_handles_go_on() {
    let _test_dir = TestDir::new();
    let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let (tx, rx) = (pass_in_vain(tx), pass_in_vain(rx));
    tx.get().send(1).unwrap();
    assert_eq!(rx.get().recv(), Ok(1));

    let (tx, rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let (tx, rx) = (pass_in_vain(tx), pass_in_vain(rx));
    tx.get().send(2).unwrap();
    assert_eq!(rx.get().recv(), Ok(2));

    let (publisher, subscriber) = broadcast::Options::<u64>::new().create().unwrap();
    let (publisher, subscriber) = (pass_in_vain(publisher), pass_in_vain(subscriber));
    publisher.get().publish(3).unwrap();
    assert_eq!(subscriber.get().recv(), Ok(3));
}

#[test]
fn endpoint_of_a_spawn_that_failed_dropped_is_closed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    drop(pass_in_vain(tx));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn sender_that_was_kept_and_dropped_closes_nothing() {
    fn send(tx: Kept<pipe::Sender<u64>>) {
        (0..1000).for_each(|number| tx.get().send(number).unwrap());
    }
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().capacity(16).create().unwrap();
    let tx = Kept::new(tx);
    let worker = Process::spawn(send, tx.clone()).unwrap();
    drop(tx);
    assert!((0..1000).all(|number| rx.recv() == Ok(number)));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(worker.join(), Ok(()));
}
