//! Where the processes of a test meet that wait without blocking, and peers for several such tests.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::{WaitStrategy, pipe, queue};

use crate::support::{Process, SharedCounters, TestDir, start};

pub const NAME: &str = "name";

pub fn values(names: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(names)
}

pub fn jobs(names: &Path) -> queue::Options<u64> {
    queue::Options::new().capacity(4).directory(names)
}

pub fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process in `role`. Its arguments are the directory of names, the file of the counters,
/// and `more`.
pub fn enter_with(test_dir: &TestDir, role: &str, more: &[&str]) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[&[names.to_str().unwrap(), counters.to_str().unwrap()], more].concat())
}

pub fn enter(test_dir: &TestDir, role: &str) -> Process {
    enter_with(test_dir, role, &[])
}

pub fn send_and_be_killed(arguments: &[String]) {
    let mut tx = values(Path::new(&arguments[0])).sender(NAME).unwrap();
    tx.send(7).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

/// Sleeps without end if no wake-up comes.
pub fn receive_one_of_a_queue(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = jobs(Path::new(&arguments[0])).wait(WaitStrategy::Park).receiver(NAME).unwrap();
    counters.word(0).store(1, Ordering::SeqCst);
    assert_eq!(rx.recv(), Ok(7));
}
