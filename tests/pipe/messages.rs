//! Messages of every kind and length, batches and limits.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use tombolo::Shareable;
use tombolo::pipe::{self, ByteSender, Pipe, Sender};
use tombolo::spawn;
use tombolo::{Endpoint, RecvError, SendError};

use crate::support::{Large, TestDir, large, message, on_small_stack, start};
use crate::{CAPACITY, comes_back, odd_length, pipe_to, send_back, small, start_with};

pub fn echo_by_name(arguments: &[String]) {
    send_back(small().directory(&arguments[0]).open("echo").unwrap());
}

#[test]
fn pipe_message_of_any_length_comes_back_unchanged() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let (handed_over, child) = pipe_to(&small(), "echo", &[]);
    let by_name = small().directory(&names).open("echo").unwrap();
    let second_child = start("echo_by_name", &[names.to_str().unwrap()]);
    for (mut pipe, child) in [(handed_over, child), (by_name, second_child)] {
        let inline = pipe.tx.max_inline_bytes();
        let around = |length: usize| [length - 1, length, length + 1];
        for length in
            [0, 1, 7, 8, 9].into_iter().chain(around(inline)).chain(around(CAPACITY / 2)).chain(around(CAPACITY))
        {
            comes_back(&mut pipe, length);
        }
        comes_back(&mut pipe, 10 * CAPACITY);
        drop(pipe);
        child.finish();
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn pipe_message_of_64_mib_comes_back_unchanged() {
    let _sandbox = TestDir::new();
    let (mut pipe, child) = pipe_to(&pipe::Options::bytes(), "echo", &[]);
    comes_back(&mut pipe, 64 << 20);
    drop(pipe);
    child.finish();
}

#[test]
fn sender_message_over_limit_is_refused() {
    let (mut tx, mut rx) = small().max_message_bytes(100).create().unwrap();
    assert_eq!(tx.send([0; 101]), Err(SendError::TooLarge { length: 101, limit: 100 }));
    tx.send([1; 100]).unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(100));
    let (mut tx, _rx) = small().create().unwrap();
    let limit = tx.max_inline_bytes();
    assert_eq!(tx.try_send(vec![0; limit + 1]), Err(SendError::TooLarge { length: limit + 1, limit }));
    tx.try_send(vec![0; limit]).unwrap();
}

const LAPS: u64 = 20_000;

pub fn send_odd_lengths(_: &[String]) {
    let mut tx: ByteSender = spawn::take("peer").unwrap();
    for number in 0..LAPS {
        tx.send(message(number, odd_length(number))).unwrap();
    }
}

#[test]
fn pipe_many_laps_keep_message_boundaries() {
    let _sandbox = TestDir::new();
    let (tx, mut rx) = pipe::Options::bytes().capacity_bytes(1024).create().unwrap();
    let child = start_with(tx, "send_odd_lengths", &[]);
    for (received, number) in rx.iter().zip(0..LAPS) {
        assert!(received.unwrap() == message(number, odd_length(number)), "message {number}");
    }
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
    child.finish();
}

fn send_values_back<T: Pod + Shareable>() {
    let mut pipe: Pipe<T> = spawn::take("peer").unwrap();
    while let Ok(value) = pipe.recv() {
        pipe.send(value).unwrap();
    }
}

pub fn echo_u8x3(_: &[String]) {
    send_values_back::<[u8; 3]>();
}

pub fn echo_u64(_: &[String]) {
    send_values_back::<u64>();
}

pub fn echo_u64x512(_: &[String]) {
    send_values_back::<[u64; 512]>();
}

fn values_come_back<T: Pod + Shareable + Debug + PartialEq>(role: &str) {
    for capacity in [1, 2, 64] {
        let (ours, theirs) = pipe::Options::<T>::new().capacity(capacity).create_duplex().unwrap();
        assert_eq!(ours.capacity(), capacity);
        let child = start_with(theirs, role, &[]);
        let (mut tx, mut rx) = ours.split();
        thread::scope(|scope| {
            scope.spawn(|| (0..500).for_each(|number| tx.send(value::<T>(number)).unwrap()));
            (0..500).for_each(|number| assert_eq!(rx.recv(), Ok(value(number))));
        });
        drop((tx, rx));
        child.finish();
    }
}

fn value<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&message(number, size_of::<T>()))
}

#[test]
fn pipe_value_of_any_size_comes_back_unchanged() {
    let _sandbox = TestDir::new();
    values_come_back::<[u8; 3]>("echo_u8x3");
    values_come_back::<u64>("echo_u64");
    values_come_back::<[u64; 512]>("echo_u64x512");
}

#[test]
fn pipe_batch_moves_as_many_as_fit() {
    let (mut tx, mut rx) = pipe::Options::<[u8; 3]>::new().capacity(4).create().unwrap();
    let all: Vec<[u8; 3]> = (0..7).map(|number| [number; 3]).collect();
    let mut received = [[0; 3]; 3];
    assert_eq!(tx.send_many(&[]), Ok(0));
    assert_eq!(rx.recv_many(&mut []), Ok(0));
    assert_eq!(rx.try_recv_many(&mut received), Err(RecvError::Empty));
    assert_eq!(tx.send_many(&all), Ok(4));
    assert_eq!(tx.try_send_many(&all[4..]), Err(SendError::Full));
    assert_eq!(rx.recv_many(&mut received), Ok(3));
    assert_eq!(received, all[..3]);
    assert_eq!(tx.send_many(&all[4..]), Ok(3), "round the end of the ring");
    assert_eq!((rx.recv_many(&mut received), rx.try_recv()), (Ok(3), Ok(all[6])));
    assert_eq!(received, all[3..6]);

    let (mut tx, mut rx) = pipe::Options::bytes().capacity_bytes(128).create().unwrap();
    let all: Vec<_> = (0..5).map(|number| message(number, 24)).collect();
    let mut received = vec![Vec::new(); 3];
    assert_eq!(tx.send_many(&all), Ok(4));
    assert_eq!(rx.recv_many(&mut received), Ok(3));
    assert_eq!(received, all[..3]);
    assert_eq!(tx.send_many(&all[4..]), Ok(1));
    assert_eq!(rx.recv_many(&mut received), Ok(2));
    assert_eq!(received[..2], all[3..]);
}

pub fn send_small_and_large(_: &[String]) {
    let mut tx: ByteSender = spawn::take("peer").unwrap();
    tx.send(message(1, 100)).unwrap();
    tx.send(message(2, 5 * CAPACITY)).unwrap();
    tx.send(message(3, 10)).unwrap();
}

#[test]
fn receiver_buffer_too_small_keeps_message() {
    let _sandbox = TestDir::new();
    let (tx, mut rx) = small().create().unwrap();
    let child = start_with(tx, "send_small_and_large", &[]);
    for (number, length) in [(1, 100), (2, 5 * CAPACITY), (3, 10)] {
        let mut buffer = vec![0; length];
        for short in [0, 1, length - 1] {
            assert_eq!(rx.recv_into(&mut buffer[..short]), Err(RecvError::BufferTooSmall { needed: length }));
        }
        assert_eq!(rx.recv_into(&mut buffer), Ok(length));
        assert!(buffer == message(number, length));
    }
    assert_eq!(rx.recv_into(&mut []), Err(RecvError::Closed));
    child.finish();
}

pub fn send_large_values(_: &[String]) {
    let mut tx: Sender<Large> = spawn::take("peer").unwrap();
    on_small_stack(|| (1..=4).for_each(|byte| tx.send(large(byte)).unwrap()));
}

#[test]
fn pipe_value_larger_than_the_stack_is_received_in_place() {
    let _sandbox = TestDir::new();
    for capacity in [1, 2] {
        let (tx, mut rx) = pipe::Options::<Large>::new().capacity(capacity).create().unwrap();
        let child = start_with(tx, "send_large_values", &[]);
        on_small_stack(|| {
            let mut value = large(0);
            rx.recv_into(&mut value).unwrap();
            assert!(value == large(1));
            rx.recv_into_timeout(&mut value, Duration::from_secs(60)).unwrap();
            assert!(value == large(2));
            rx.recv_into_deadline(&mut value, None).unwrap();
            assert!(value == large(3));
            assert!(rx.poll(Duration::from_secs(60)).unwrap());
            rx.try_recv_into(&mut value).unwrap();
            assert!(value == large(4));
            child.finish();
            assert_eq!(rx.try_recv_into(&mut value), Err(RecvError::Closed));
            assert!(value == large(4), "unchanged");
        });
    }
}

#[test]
fn receiver_in_place_forms_without_message_time_out() {
    let moment = Duration::from_millis(5);
    let deadline = || Some(Instant::now() + moment);
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut value = 7;
    assert_eq!(rx.try_recv_into(&mut value), Err(RecvError::Empty));
    assert_eq!(rx.recv_into_timeout(&mut value, moment), Err(RecvError::TimedOut));
    assert_eq!(rx.recv_into_deadline(&mut value, deadline()), Err(RecvError::TimedOut));
    assert_eq!(value, 7);
    let (mut tx, mut rx) = small().create().unwrap();
    assert_eq!(rx.recv_into_deadline(&mut [0; 8], deadline()), Err(RecvError::TimedOut));
    tx.send("odd").unwrap();
    assert_eq!(rx.recv_into_deadline(&mut [0; 8], None), Ok(3));
}
