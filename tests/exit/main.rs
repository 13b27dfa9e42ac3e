//! The ordinary end of a process, by a return from `main` or by `exit`: the library closes what was
//! not dropped.

#[path = "../support/mod.rs"]
mod support;
#[cfg(target_arch = "x86_64")]
#[path = "../support/sweep.rs"]
mod sweep;

#[cfg(target_arch = "x86_64")]
mod crash;
mod endpoints;
mod transfer;

use std::path::Path;

use tombolo::pipe;
use tombolo::queue;

use endpoints::{
    be_busy_and_exit, enter_and_return, hold_and_return, keep_everything_and_return, linger, receive_and_return,
    send_and_return, work_and_return,
};
use support::{TestDir, child_roles, start};
use transfer::{abandon_and_return, pass_on_and_return};

child_roles![
    be_busy_and_exit,
    enter_and_return,
    hold_and_return,
    keep_everything_and_return,
    linger,
    receive_and_return,
    send_and_return,
    work_and_return,
    abandon_and_return,
    pass_on_and_return,
];

const NAME: &str = "name";

fn pipe(directory: impl AsRef<Path>) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(directory.as_ref())
}

fn jobs(directory: impl AsRef<Path>) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(3).directory(directory.as_ref())
}

fn names(test_dir: &TestDir) -> String {
    test_dir.names().to_str().unwrap().to_string()
}

/// Runs a part in a process of its own, which must succeed.
fn run(part: &str, arguments: &[&str]) {
    start(part, arguments).finish();
}
