//! Processes that exec: for the others they are dead, with everything that they held.

mod support;

use std::iter;
use std::mem::forget;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use support::{Process, TestDir, child_roles, command};
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::{LockError, Mutex};
use tombolo::{Directory, Namespace, RecvError, SendError};

child_roles![hold_and_exec, receive_and_exec, reload_queue, reload_pipe, change_sides, receive];

const NAME: &str = "name";

fn pipe(directory: &str) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(directory)
}

fn jobs(directory: &str) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(4).directory(directory)
}

fn directories(test_dir: &TestDir) -> [String; 3] {
    ["pipe", "queue", "lock"].map(|kind| test_dir.file(kind).to_str().unwrap().to_string())
}

fn lock(directory: &str) -> Mutex<u64> {
    let plan = Namespace::builder().mutex("lock", 0_u64).max_participants(2);
    plan.directory(directory).open(NAME).unwrap().mutex("lock").unwrap()
}

/// Becomes a program that lives until its input ends.
fn become_cat() {
    panic!("{}", Command::new("cat").stdout(Stdio::null()).exec());
}

fn hold_and_exec(arguments: &[String]) {
    let [in_pipe, in_queue, in_lock] = arguments else { panic!("{arguments:?}") };
    let mut tx = pipe(in_pipe).sender(NAME).unwrap();
    let mut work = jobs(in_queue).sender(NAME).unwrap();
    let lock = lock(in_lock);
    forget(lock.lock().unwrap());
    work.send(1).unwrap();
    tx.send(1).unwrap();
    become_cat();
}

#[test]
fn exec_sender_and_lock_owner_is_reported_dead() {
    let test_dir = TestDir::new();
    let [in_pipe, in_queue, in_lock] = directories(&test_dir);
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    let mut results = jobs(&in_queue).receiver(NAME).unwrap();
    let lock = lock(&in_lock);
    let mut command = command("hold_and_exec", &[&in_pipe, &in_queue, &in_lock]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert_eq!((results.recv(), results.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    // Others can take its place, and its participant record can be used again.
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    let all: Vec<_> = (0..3).map(|_| jobs(&in_queue).sender(NAME).unwrap()).collect();
    tx.send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    assert_eq!(child.try_wait().unwrap(), None, "it lives");
    drop((child.stdin.take(), all));
    child.wait().unwrap();
}

fn receive_and_exec(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    become_cat();
}

#[test]
fn exec_receiver_is_reported_dead() {
    let test_dir = TestDir::new();
    let [in_pipe, ..] = directories(&test_dir);
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    let mut child = command("receive_and_exec", &[&in_pipe]).stdin(Stdio::piped()).spawn().unwrap();
    tx.send(1).unwrap();
    let error = (2..).find_map(|number| tx.send(number).err());
    assert_eq!(error, Some(SendError::PeerDied));
    assert_eq!(child.try_wait().unwrap(), None, "it lives");
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Opens its endpoint and execs itself again, as often as the arguments say.
fn reload(part: &str, arguments: &[String], open: impl FnOnce()) {
    let left: u32 = arguments[1].parse().unwrap();
    open();
    if left > 0 {
        let left = (left - 1).to_string();
        panic!("{}", command(part, &[&arguments[0], &left]).exec());
    }
}

fn reload_queue(arguments: &[String]) {
    reload("reload_queue", arguments, || {
        let mut tx = jobs(&arguments[0]).sender(NAME).unwrap_or_else(|error| panic!("{}: {error}", arguments[1]));
        let _ = tx.try_send(1);
        forget(tx);
    });
}

#[test]
fn exec_repeated_by_queue_sender_uses_one_participant() {
    let test_dir = TestDir::new();
    let [_, in_queue, _] = directories(&test_dir);
    let mut rx = jobs(&in_queue).receiver(NAME).unwrap();
    Process::from(command("reload_queue", &[&in_queue, "20"]).spawn().unwrap()).finish();
    assert!(rx.iter().count() >= 4, "what the queue held was kept");
    assert_eq!(rx.recv(), Err(RecvError::Closed), "the last one came to an ordinary end");
}

fn reload_pipe(arguments: &[String]) {
    reload("reload_pipe", arguments, || {
        let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
        tx.send(arguments[1].parse::<u64>().unwrap()).unwrap();
        forget(tx);
    });
}

#[test]
fn exec_then_reopened_pipe_endpoint_succeeds_its_predecessor() {
    let test_dir = TestDir::new();
    let [in_pipe, ..] = directories(&test_dir);
    let mut rx = pipe(&in_pipe).receiver(NAME).unwrap();
    let child = Process::from(command("reload_pipe", &[&in_pipe, "10"]).spawn().unwrap());
    let (mut numbers, mut deaths) = (Vec::new(), 0);
    loop {
        match rx.recv() {
            Ok(number) => numbers.push(number),
            Err(RecvError::PeerDied) => deaths += 1,
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error} after {numbers:?}"),
        }
    }
    assert!(numbers.into_iter().eq((0..=10).rev()));
    assert!(deaths > 0, "that of the last one at least");
    child.finish();
}

/// Is the sender until it execs, and the receiver from then on.
fn change_sides(arguments: &[String]) {
    forget(pipe(&arguments[0]).sender(NAME).unwrap());
    panic!("{}", command("receive", &[&arguments[0]]).exec());
}

fn receive(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    // The death that it may hear of is that of the program it was before.
    let first = iter::repeat_with(|| rx.recv()).find(|heard| *heard != Err(RecvError::PeerDied));
    assert_eq!((first, rx.recv()), (Some(Ok(1)), Err(RecvError::Closed)));
}

#[test]
fn exec_then_mapped_again_region_holds_no_earlier_endpoint() {
    let test_dir = TestDir::new();
    let [in_pipe, ..] = directories(&test_dir);
    let child = Process::from(command("change_sides", &[&in_pipe]).spawn().unwrap());
    let receiver = || Directory::at(&in_pipe).inspect(NAME).is_ok_and(|seen| seen.participants[1].joins == 1);
    support::until(receiver);
    let mut tx = pipe(&in_pipe).sender(NAME).unwrap();
    tx.send(1).unwrap();
    drop(tx);
    child.finish();
}
