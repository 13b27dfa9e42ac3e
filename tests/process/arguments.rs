//! What travels to the function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tombolo::broadcast;
use tombolo::pipe::{self, BytePipe, Pipe, Receiver, Sender};
use tombolo::process::Process;
use tombolo::queue;
use tombolo::sync::{Mutex, Semaphore};
use tombolo::{Namespace, RecvError};

use crate::support::TestDir;

fn square((mut tx, number): (Sender<u64>, u64)) {
    tx.send(number * number).unwrap();
}

#[test]
fn sender_in_arguments_child_sends() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let worker = Process::spawn(square, (tx, 12)).unwrap();
    assert_eq!(rx.recv(), Ok(144));
    assert_eq!(worker.join(), Ok(()));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}
