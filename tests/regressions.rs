//! Cases that once went wrong.

use std::time::Duration;

use tombolo::pipe::{self, BytePipe, ByteReceiver, ByteSender, Pipe, Receiver};
use tombolo::sync::{LockError, SyncError};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError, SendError};

mod support;
use support::TestDir;

const SHORT: Duration = Duration::from_millis(5);

/// An endpoint whose descriptor is closed without being taken counts as dead.
fn die(end: impl Endpoint) {
    drop(end.into_fd().unwrap());
}

#[test]
fn receiver_short_waits_learn_of_death() {
    let (tx, mut rx) = pipe::Options::bytes().create().unwrap();
    die(tx);
    let end = (0..1000).find_map(|_| match rx.recv_timeout(&mut Vec::new(), SHORT) {
        Err(RecvError::TimedOut) => None,
        end => Some(end),
    });
    assert_eq!(end, Some(Err(RecvError::PeerDied)));
}

#[test]
fn receiver_batch_before_death_returns_messages_first() {
    let (mut tx, mut rx) = pipe::Options::bytes().create().unwrap();
    tx.send(b"last").unwrap();
    die(tx);
    let mut messages = [Vec::new(), Vec::new()];
    assert_eq!(rx.recv_many(&mut messages), Ok(1));
    assert_eq!(rx.recv_many(&mut messages), Err(RecvError::PeerDied));
}

#[test]
fn sender_batch_stops_at_message_over_limit() {
    let (mut tx, mut rx) = pipe::Options::bytes().max_message_bytes(10).create().unwrap();
    assert_eq!(tx.send_many(&[[0; 20]]), Err(SendError::TooLarge { length: 20, limit: 10 }));
    assert_eq!(tx.send_many(&[&[1; 10][..], &[2; 20]]), Ok(1));
    assert_eq!(rx.recv(&mut Vec::new()), Ok(10));
}

#[test]
fn receiver_smaller_message_limit_is_refused() {
    let test_dir = TestDir::new();
    let options = pipe::Options::bytes().directory(test_dir.names());
    let _tx = options.sender("x").unwrap();
    let refused = options.clone().max_message_bytes(16).receiver("x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongType);
    options.receiver("x").unwrap();
}

#[test]
fn receiver_successor_of_half_read_message_returns_lost() {
    let test_dir = TestDir::new();
    let options = pipe::Options::bytes().capacity_bytes(1024).directory(test_dir.names());
    let mut tx = options.sender("x").unwrap();
    let mut first = options.receiver("x").unwrap();
    tx.send([1; 600]).unwrap();
    // The timeout has passed before the call: the receiver takes the beginning and gives up.
    assert_eq!(first.recv_timeout(&mut Vec::new(), Duration::ZERO), Err(RecvError::TimedOut));
    drop(first);
    let mut second = options.receiver("x").unwrap();
    tx.send(b"whole").unwrap();
    let mut message = Vec::new();
    assert_eq!(second.recv(&mut message), Err(RecvError::MessageLost));
    assert_eq!(second.recv(&mut message), Ok(5));
    assert_eq!(message, b"whole");
}

#[test]
fn descriptor_taken_twice_is_refused() {
    let options = pipe::Options::<u64>::new();
    let (_tx, rx) = options.create().unwrap();
    let descriptor = rx.into_fd().unwrap();
    let _first: Receiver<u64> = options.from_fd(descriptor.try_clone().unwrap()).unwrap();
    let second = options.from_fd::<Receiver<u64>>(descriptor).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::InvalidOptions);
}

#[test]
fn pipe_halves_of_two_pipes_are_not_transferred() {
    let (a, _a) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    let (b, _b) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    let chimera = BytePipe { tx: a.tx, rx: b.rx };
    assert_eq!(chimera.into_fd().unwrap_err().kind(), ErrorKind::InvalidOptions);
}

#[test]
fn sender_transferred_keeps_its_name() {
    let test_dir = TestDir::new();
    let options = pipe::Options::bytes().directory(test_dir.names());
    let tx = options.sender("x").unwrap();
    let rx = options.receiver("x").unwrap();
    let tx: ByteSender = options.from_fd(tx.into_fd().unwrap()).unwrap();
    assert_eq!(tx.name(), Some("x"));
    drop((rx, tx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn directory_unlink_of_other_file_needs_force() {
    let test_dir = TestDir::new();
    let directory = Directory::at(test_dir.names());
    drop(pipe::Options::bytes().directory(test_dir.names()).sender("x").unwrap());
    std::fs::write(test_dir.names().join("x"), "no region").unwrap();
    assert_eq!(directory.unlink("x", false).unwrap_err().kind(), ErrorKind::NotARegion);
    directory.unlink("x", true).unwrap();
    assert_eq!(directory.unlink("x", true).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn error_debug_prints_whole_message() {
    let error = pipe::Options::bytes().sender("a/b").unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    assert!(error.to_string().contains("choose another name"));
}

#[test]
fn error_of_call_debug_prints_variant_and_message() {
    let shown = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let too_large = SendError::TooLarge { length: 9, limit: 4 };
    assert_eq!(shown(&too_large), "TooLarge (the message has 9 bytes, where at most 4 are accepted)");
    assert_eq!(shown(&RecvError::TimedOut), "TimedOut (no message came before the deadline)");
    assert_eq!(shown(&SyncError::BarrierBroken { pid: 0 }), "BarrierBroken (the barrier was reset)");
    let broken = shown(&SyncError::BarrierBroken { pid: 7 });
    assert!(broken.starts_with("BarrierBroken (the barrier was broken by process 7"), "{broken}");
    let failed = LockError::<()>::Failed(SyncError::WouldDeadlock);
    assert_eq!(shown(&failed), "Failed(WouldDeadlock (this thread holds it already))");
    assert!(shown(&LockError::OwnerDied(())).starts_with("OwnerDied(..) (the lock is acquired"));
}

#[test]
fn endpoints_are_send_and_debug() {
    fn moves<T: Send + std::fmt::Debug>() {}
    moves::<ByteSender>();
    moves::<ByteReceiver>();
    moves::<BytePipe>();
    moves::<Pipe<[u64; 3]>>();
    moves::<tombolo::pipe::ZeroCopySender<u64>>();
    moves::<tombolo::Error>();
}

#[test]
fn pipe_options_not_honoured_are_reported() {
    let options = pipe::Options::bytes().capacity_bytes(1000).huge_pages().prefault().lock_memory();
    let (mut tx, mut rx) = options.create().unwrap();
    assert!(tx.warnings().iter().any(|warning| warning.contains("the capacity is 1024, not 1000")));
    tx.send(b"works").unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(5));
    println!("{:?}", tx.warnings());
}
