//! Names: which processes may open one, what a successor takes over, when a name is removed, and
//! what may replace it.

#[path = "../support/mod.rs"]
mod support;

mod lifecycle;
mod peers;
mod stale;
mod succession;

use std::path::Path;

use tombolo::pipe;

use lifecycle::{race_as_receiver, stay_with_an_endpoint};
use peers::{
    exit_slowly, hold_much_memory_and_stay, send_as_client_and_stay, send_numbers_and_end,
    send_to_small_queue_and_stay, send_with_much_memory_and_stay,
};
use stale::{recreate_as_receiver, resume_as_receiver, send_one_and_stay, stay_in_a_namespace, stay_in_a_queue};
use succession::{receive_one_and_stay, stream_as_receiver, stream_as_sender};
use support::{Process, SharedCounters, TestDir, child_roles, start};

child_roles!(
    send_three_and_stay,
    exit_slowly,
    hold_much_memory_and_stay,
    send_as_client_and_stay,
    send_numbers_and_end,
    send_to_small_queue_and_stay,
    send_with_much_memory_and_stay,
    race_as_receiver,
    stay_with_an_endpoint,
    recreate_as_receiver,
    resume_as_receiver,
    send_one_and_stay,
    stay_in_a_namespace,
    stay_in_a_queue,
    receive_one_and_stay,
    stream_as_receiver,
    stream_as_sender,
);

/// The name that every test opens, in a directory of its own.
const NAME: &str = "name";

fn values(test_dir: &TestDir) -> pipe::Options<u64> {
    pipe::Options::new().directory(test_dir.names())
}

/// The options and the counters of a process that [`start_in`] has started.
fn surroundings(arguments: &[String]) -> (pipe::Options<u64>, SharedCounters) {
    (pipe::Options::new().directory(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])))
}

/// Starts a process that runs `part`, and waits until that calls [`stay`].
fn start_in(test_dir: &TestDir, part: &str) -> Process {
    let process = start(part, &[test_dir.names().to_str().unwrap(), test_dir.file("counters").to_str().unwrap()]);
    counters(test_dir).meet(0, 2);
    process
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Tells the test that this process is ready, and waits to be killed.
fn stay(counters: &SharedCounters) {
    counters.meet(0, 2);
    loop {
        std::thread::park();
    }
}

/// A sender with three messages that were not received.
fn send_three_and_stay(arguments: &[String]) {
    let (options, counters) = surroundings(arguments);
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    stay(&counters);
}
