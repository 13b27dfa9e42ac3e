//! A name from the first process that opens it to the last that leaves it.

use std::time::{Duration, Instant};

use tombolo::pipe::Pipe;
use tombolo::{Directory, Endpoint, ErrorKind, RecvError, SendError};

use crate::support::TestDir;
use crate::{NAME, counters, start_in, stay, surroundings, values};

pub fn stay_with_an_endpoint(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let _endpoint = options.open(NAME).unwrap();
    stay(&counters);
}

#[test]
fn name_left_by_both_is_removed() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    assert_eq!(options.clone().must_exist().sender(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    let mut tx = options.clone().create_new().sender(NAME).unwrap();
    assert_eq!(options.clone().create_new().receiver(NAME).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut rx = options.clone().must_exist().receiver(NAME).unwrap();
    assert_eq!((tx.name(), rx.name()), (Some(NAME), Some(NAME)));
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(test_dir.leftovers(), [NAME], "the receiver is still there");
    assert_eq!(rx.recv(), Ok(1));
    drop(rx);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn name_with_waiting_message_is_kept() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    options.sender(NAME).unwrap().send(1).unwrap();
    assert_eq!(test_dir.leftovers(), [NAME]);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
    drop(rx);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn name_endpoint_dropped_can_be_opened_again() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 0..3 {
        let mut tx = options.sender(NAME).unwrap();
        tx.send(number).unwrap();
        drop(tx);
        assert_eq!((rx.recv(), rx.recv()), (Ok(number), Err(RecvError::Closed)));
    }
    let mut tx = options.sender(NAME).unwrap();
    for number in 0..3 {
        drop(rx);
        assert_eq!(tx.send(number), Err(SendError::Closed));
        rx = options.receiver(NAME).unwrap();
        tx.send(number).unwrap();
        assert_eq!(rx.recv(), Ok(number));
    }
}

#[test]
fn name_opened_by_two_at_once_leads_to_one_region() {
    let test_dir = TestDir::new();
    let (options, counters) = (values(&test_dir), counters(&test_dir));
    let other = start_in(&test_dir, "race_as_receiver");
    for round in 0..RACES {
        counters.meet(1, 2);
        let mut tx = options.sender(&format!("race-{round}")).unwrap();
        tx.send(round).unwrap();
        counters.meet(2, 2);
        spin(round % 20);
        drop(tx); // while the receiver does the same
        counters.meet(3, 2);
        assert_eq!(test_dir.leftovers(), [""; 0], "in round {round}");
    }
    other.finish();
}

const RACES: u64 = 1000;

/// Takes a few microseconds, so that in some round the two processes meet at each point of their
/// ways.
fn spin(microseconds: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(microseconds) {}
}

pub fn race_as_receiver(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    counters.meet(0, 2);
    for round in 0..RACES {
        counters.meet(1, 2);
        let mut rx = options.receiver(&format!("race-{round}")).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        counters.meet(2, 2);
        spin(round % 21);
        drop(rx);
        counters.meet(3, 2);
    }
}

#[test]
fn name_invalid_is_refused() {
    let test_dir = TestDir::new();
    let long = "x".repeat(201);
    for name in ["", "a/b", "/", "..", ".", ".x", "a\nb", "nul\0", &long] {
        let error = values(&test_dir).sender(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name:?}");
        assert!(error.to_string().contains("choose another name"), "{error}");
    }
    for name in ["x", &long[1..], "a b", "ümläut", "-", "a..b"] {
        values(&test_dir).create_new().sender(name).unwrap();
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn name_endpoint_in_use_is_refused_with_pid() {
    let test_dir = TestDir::new();
    let other = start_in(&test_dir, "send_three_and_stay");
    let pid = other.pid() as u64;
    let error = values(&test_dir).sender(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EndpointInUse { pid });
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    let error = Directory::at(test_dir.names()).unlink(NAME, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse { pid });
    other.signal(libc::SIGSTOP);
    let error = values(&test_dir).sender(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EndpointInUse { pid }, "a stopped process is not dead");
}

#[test]
fn name_duplex_opens_twice_and_no_more() {
    let test_dir = TestDir::new();
    let _other = start_in(&test_dir, "stay_with_an_endpoint");
    let ours: Pipe<u64> = values(&test_dir).open(NAME).unwrap();
    let pid = u64::from(std::process::id());
    assert_eq!(values(&test_dir).open(NAME).unwrap_err().kind(), ErrorKind::EndpointInUse { pid });
    drop(ours);
}

#[test]
fn name_unlinked_by_force_is_free_and_its_users_go_on() {
    let test_dir = TestDir::new();
    let options = values(&test_dir);
    let (mut old_tx, mut old_rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    Directory::at(test_dir.names()).unlink(NAME, true).unwrap();
    let (mut tx, mut rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    old_tx.send(1).unwrap();
    tx.send(2).unwrap();
    assert_eq!((old_rx.recv(), rx.recv()), (Ok(1), Ok(2)));
    drop((old_tx, old_rx));
    assert_eq!(test_dir.leftovers(), [NAME], "the new region has the name now");
}
