//! Both directions at once, and pipes as streams of bytes.

use std::io::{self, Read, Write};
use std::thread;

use tombolo::pipe::{self, BytePipe};
use tombolo::spawn;
use tombolo::{Endpoint, ErrorKind, RecvError, SendError};

use crate::support::{Random, TestDir, message};
use crate::{comes_back, pipe_to, small};

fn exchange(pipe: BytePipe) {
    let (mut tx, mut rx) = pipe.split();
    thread::scope(|scope| {
        scope.spawn(|| (0..20).for_each(|number| tx.send(message(number, 200_000)).unwrap()));
        let mut received = Vec::new();
        for number in 0..20 {
            assert_eq!(rx.recv(&mut received), Ok(200_000));
            assert!(received == message(number, 200_000), "message {number}");
        }
    });
}

pub fn exchange_large(_: &[String]) {
    exchange(spawn::take("peer").unwrap());
}

#[test]
fn pipe_both_directions_at_once_carry_large_messages() {
    let _sandbox = TestDir::new();
    let (pipe, child) = pipe_to(&small(), "exchange_large", &[]);
    exchange(pipe);
    child.finish();
}

#[test]
fn pipe_half_dropped_other_half_works() {
    let _sandbox = TestDir::new();
    let (ours, mut theirs) = tombolo::pipe::Options::bytes().create_duplex().unwrap();
    let (tx, mut rx) = ours.split();
    drop(tx);
    assert_eq!(theirs.recv(&mut Vec::new()), Err(RecvError::Closed));
    theirs.send(b"still").unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(5));
    assert_eq!(rx.into_fd().unwrap_err().kind(), ErrorKind::InvalidOptions, "half a pipe cannot be transferred");
    assert_eq!(theirs.send(b"gone"), Err(SendError::Closed));
}

pub fn echo_stream(_: &[String]) {
    let (tx, rx) = spawn::take::<BytePipe>("peer").unwrap().split();
    io::copy(&mut pipe::io::Reader::new(rx), &mut pipe::io::Writer::new(tx)).unwrap();
}

#[test]
fn byte_reader_writer_leaves_reads_everything() {
    let _sandbox = TestDir::new();
    let (pipe, child) = pipe_to(&small(), "echo_stream", &[]);
    let (tx, rx) = pipe.split();
    let sent = message(1, 1_000_003);
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = pipe::io::Writer::new(tx);
            let mut random = Random(1);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(random.below(9000) as usize));
                writer.write_all(piece).unwrap();
                rest = after;
            }
            writer.flush().unwrap();
        });
        pipe::io::Reader::new(rx).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent);
    child.finish();
}

#[test]
fn byte_reader_writer_killed_fails() {
    let _sandbox = TestDir::new();
    let (mut pipe, child) = pipe_to(&small(), "echo", &[]);
    comes_back(&mut pipe, 10);
    child.kill();
    let (_tx, rx) = pipe.split();
    let error = pipe::io::Reader::new(rx).read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
