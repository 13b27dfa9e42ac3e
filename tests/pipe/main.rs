//! Pipes between processes: messages, waiting, how a pipe ends, streams, zero-copy access and the
//! transfer of endpoints.

#[path = "../support/mod.rs"]
mod support;

mod endings;
mod messages;
mod serialized;
mod streams;
mod transfer;
mod waiting;
mod zero_copy;

use endings::*;
use messages::*;
use serialized::*;
use streams::*;
use support::{Process, child_roles, command, message};
use tombolo::Endpoint;
use tombolo::pipe::{self, BytePipe};
use tombolo::spawn::{self, CommandExt};
use transfer::*;
use waiting::*;
use zero_copy::*;

child_roles!(
    echo,
    echo_by_name,
    echo_u8x3,
    echo_u64,
    echo_u64x512,
    echo_stream,
    echo_jobs,
    send_odd_lengths,
    send_large_values,
    send_small_and_large,
    send_and_end,
    receive_one_and_end,
    receive_slowly,
    exchange_large,
    send_in_place,
    receive_in_place,
    hold_in_place,
    take_twice,
    receive_from_socket,
    do_nothing,
);

/// Starts a process that plays `role` with this end of a pipe.
fn start_with<E: Endpoint + 'static>(end: E, role: &str, arguments: &[&str]) -> Process {
    command(role, arguments).pass("peer", end).unwrap().spawn().unwrap().into()
}

/// A duplex pipe to a process that plays `role`.
fn pipe_to(options: &pipe::Options<[u8]>, role: &str, arguments: &[&str]) -> (BytePipe, Process) {
    let (ours, theirs) = options.create_duplex().unwrap();
    (ours, start_with(theirs, role, arguments))
}

const CAPACITY: usize = 4096;

fn small() -> pipe::Options<[u8]> {
    pipe::Options::bytes().capacity_bytes(CAPACITY)
}

fn send_back(mut pipe: BytePipe) {
    let mut received = Vec::new();
    while pipe.recv(&mut received).is_ok() {
        pipe.send(&received).unwrap();
    }
}

fn echo(_: &[String]) {
    send_back(spawn::take("peer").unwrap());
}

fn comes_back(pipe: &mut BytePipe, length: usize) {
    let sent = message(length as u64, length);
    let mut received = vec![0xEE; 3];
    pipe.send(&sent).unwrap();
    assert_eq!(pipe.recv(&mut received), Ok(length));
    assert!(received == sent, "{length} bytes came back changed");
}

fn odd_length(number: u64) -> usize {
    (number * 37 % 301) as usize
}
