//! Processes that exit with endpoints that are not theirs alone: inherited, abandoned, or passed
//! on.

use std::fs::File;
use std::mem::forget;
use std::process::{Command, Stdio};
use std::time::Duration;

use tombolo::{Endpoint, ErrorKind, RecvError};

use crate::support::{TestDir, alone, fork, start};
use crate::{NAME, jobs, names, pipe, run};

#[test]
fn exit_of_forked_child_keeps_endpoints_of_parent() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    let mut tx = pipe(test_dir.names()).sender(NAME).unwrap();
    let results = jobs(test_dir.names()).receiver("queue").unwrap();
    // SAFETY: runs the handlers of this process in the child, which is what this is about.
    fork(&alone, || unsafe { libc::exit(0) }).finish();
    tx.send(1).unwrap();
    assert_eq!((rx.recv(), results.stats().receivers), (Ok(1), 1));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn exit_of_forked_child_closes_its_own_endpoints() {
    let (alone, test_dir) = (alone(), TestDir::new());
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    let parents = pipe(test_dir.names()).receiver("other").unwrap();
    fork(&alone, || {
        let mut tx = pipe(test_dir.names()).sender(NAME).unwrap();
        tx.send(1).unwrap();
        forget(tx);
        // SAFETY: ends the child.
        unsafe { libc::exit(0) };
    })
    .finish();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
    drop(parents);
}

pub fn abandon_and_return(arguments: &[String]) {
    let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
    tx.send(1).unwrap();
    tx.abandon().unwrap();
    let work = jobs(&arguments[0]).sender("queue").unwrap();
    work.abandon().unwrap();
}

#[test]
fn exit_after_abandon_is_reported_as_death() {
    let test_dir = TestDir::new();
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    let mut results = jobs(test_dir.names()).receiver("queue").unwrap();
    run("abandon_and_return", &[&names(&test_dir)]);
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert_eq!(results.recv(), Err(RecvError::PeerDied));
    // The same in a process that goes on.
    let tx = pipe(test_dir.names()).sender(NAME).unwrap();
    tx.abandon().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    let (half, _other) = tombolo::pipe::Options::bytes().create_duplex().unwrap().0.split();
    assert_eq!(half.abandon().unwrap_err().kind(), ErrorKind::InvalidOptions);
}

/// An endpoint in transit belongs to the process that has its descriptor, not to the one that ends.
pub fn pass_on_and_return(arguments: &[String]) {
    let tx = pipe(&arguments[0]).sender(NAME).unwrap();
    let descriptor = tx.into_fd().unwrap();
    // A program that inherits the descriptor, and ends when its input does.
    let mut cat = Command::new("cat");
    cat.stdin(File::open(&arguments[1]).unwrap()).stdout(Stdio::from(descriptor));
    forget(cat.spawn().unwrap());
}

#[test]
fn exit_with_endpoint_in_transit_does_not_close_it() {
    let test_dir = TestDir::new();
    let fifo = test_dir.file("fifo");
    let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let mut rx = pipe(test_dir.names()).receiver(NAME).unwrap();
    let child = start("pass_on_and_return", &[&names(&test_dir), fifo.to_str().unwrap()]);
    let input = File::options().write(true).open(&fifo).unwrap();
    child.finish();
    assert_eq!(rx.recv_timeout(Duration::from_millis(150)), Err(RecvError::TimedOut));
    drop(input);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}
