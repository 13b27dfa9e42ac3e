//! How long sending and receiving wait.

use std::thread;
use std::time::Duration;

use tombolo::pipe::{self, Receiver};
use tombolo::spawn;
use tombolo::{RecvError, SendError};

use crate::support::{TestDir, message};
use crate::{CAPACITY, pipe_to, small, start_with};

const NONE: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(1);

pub fn receive_slowly(_: &[String]) {
    let mut rx: Receiver<u64> = spawn::take("peer").unwrap();
    for number in 0..3 {
        thread::sleep(Duration::from_millis(50));
        assert_eq!(rx.recv(), Ok(number));
    }
}

#[test]
fn sender_ring_full_waits_until_timeout() {
    let _sandbox = TestDir::new();
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    tx.send(0).unwrap();
    assert_eq!(tx.try_send(9), Err(SendError::Full));
    assert_eq!(tx.send_timeout(9, NONE), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout(9, SHORT), Err(SendError::TimedOut));
    let child = start_with(rx, "receive_slowly", &[]);
    assert_eq!(tx.send_timeout(1, Duration::MAX), Ok(()));
    assert_eq!(tx.send(2), Ok(()));
    child.finish();

    let (mut tx, mut rx) = small().create().unwrap();
    let large = message(1, 2 * CAPACITY);
    assert_eq!(tx.send_timeout(&large, NONE), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout(&large, SHORT), Err(SendError::TimedOut));
    assert_eq!(rx.try_recv(&mut Vec::new()), Err(RecvError::Empty), "what was sent of it is dropped");
    tx.send(b"next").unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(4));
}

#[test]
fn receiver_ring_empty_waits_until_timeout() {
    let _sandbox = TestDir::new();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    assert_eq!(rx.recv_timeout(NONE), Err(RecvError::TimedOut));
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    assert_eq!((rx.poll(NONE), rx.poll(SHORT)), (Ok(false), Ok(false)));
    tx.send(1).unwrap();
    assert_eq!((rx.poll(NONE), rx.poll(Duration::MAX)), (Ok(true), Ok(true)));
    assert_eq!(rx.recv_timeout(NONE), Ok(1), "what is there needs no waiting");
    tx.send(2).unwrap();
    assert_eq!(rx.recv_timeout(Duration::MAX), Ok(2));

    let (mut pipe, child) = pipe_to(&small(), "echo", &[]);
    let mut received = Vec::new();
    assert_eq!(pipe.recv_timeout(&mut received, SHORT), Err(RecvError::TimedOut));
    pipe.send(b"late").unwrap();
    assert_eq!(pipe.recv_timeout(&mut received, Duration::MAX), Ok(4));
    drop(pipe);
    child.finish();
}
