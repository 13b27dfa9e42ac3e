//! Descriptors of endpoints for event loops: readable while there may be something, armed by a
//! fruitless try, and nothing left behind.

#[path = "support/peers.rs"]
mod peers;
mod support;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use peers::{NAME, counters, enter, enter_with, jobs, receive_one_of_a_queue, send_and_be_killed, values};
use support::{Process, SharedCounters, TestDir, alone, child_roles, fork, start, until};
use tombolo::rpc::CallError;
use tombolo::{ErrorKind, Readiness, RecvError, SendError, pipe, rpc};

child_roles!(
    send_when_told,
    send_and_be_killed,
    receive_one_of_a_queue,
    reply_when_told,
    follow_replies_only,
    wait_without_waitv,
    send_a_stream_without_system_calls,
    arm_300_descriptors,
    spend_a_wake_up_on_a_descriptor,
    block_beside_an_armed_descriptor,
);

/// Whether the descriptor is readable within `timeout` milliseconds.
fn is_readable_within(readiness: &Readiness, timeout: i32) -> bool {
    let mut poll = libc::pollfd { fd: readiness.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut poll, 1, timeout) == 1 }
}

fn is_readable(readiness: &Readiness) -> bool {
    is_readable_within(readiness, 0)
}

fn wait_until_readable(readiness: &Readiness) {
    assert!(is_readable_within(readiness, -1));
}

/// Receives the next value, or an end, as an event loop does.
fn receive(rx: &mut pipe::Receiver<u64>, readiness: &Readiness) -> Result<u64, RecvError> {
    loop {
        match rx.try_recv() {
            Err(RecvError::Empty) => wait_until_readable(readiness),
            received => return received,
        }
    }
}

/// The threads of this process with the waiter thread's name.
fn waiter_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.unwrap().path().join("comm"));
    names.map(name).filter(|name| name.as_deref().unwrap_or_default() == "tombolo-wait\n").count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn send_when_told(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = values(Path::new(&arguments[0])).sender(NAME).unwrap();
    for value in 0..100 {
        until(|| counters.word(0).load(Ordering::SeqCst) > value);
        tx.send(value).unwrap();
    }
}

#[test]
fn pipe_receiver_readiness_follows_each_message_and_the_end() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let counters = counters(&test_dir);
    let mut rx = values(&test_dir.names()).receiver(NAME).unwrap();
    let sender = enter(&test_dir, "send_when_told");
    let readiness = rx.readiness().unwrap();
    assert!(is_readable(&readiness), "nobody has tried yet");
    for value in 0..100 {
        // A liveness check can make it readable for a moment.
        until(|| {
            assert_eq!(rx.try_recv(), Err(RecvError::Empty));
            !is_readable(&readiness)
        });
        counters.word(0).store(value + 1, Ordering::SeqCst);
        assert_eq!(receive(&mut rx, &readiness), Ok(value));
    }
    assert_eq!(receive(&mut rx, &readiness), Err(RecvError::Closed));
    assert!(is_readable(&readiness), "the end stays");
    sender.finish();
}

fn block_beside_an_armed_descriptor(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = values(Path::new(&arguments[0])).wait(tombolo::WaitStrategy::Park).receiver(NAME).unwrap();
    let readiness = rx.readiness().unwrap();
    for value in 0..100 {
        assert_eq!(rx.try_recv(), Err(RecvError::Empty));
        thread::sleep(Duration::from_millis(1)); // the waiter thread sleeps first
        let teller = thread::spawn({
            let file = arguments[1].clone();
            move || {
                thread::sleep(Duration::from_millis(1));
                SharedCounters::at(Path::new(&file)).word(0).store(value + 1, Ordering::SeqCst);
            }
        });
        assert_eq!(rx.recv(), Ok(value));
        teller.join().unwrap();
    }
    assert_eq!(counters.word(0).load(Ordering::SeqCst), 100);
    drop(readiness);
}

#[test]
fn pipe_receiver_blocks_beside_its_armed_readiness_and_is_woken() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let receiver = enter(&test_dir, "block_beside_an_armed_descriptor");
    let sender = enter(&test_dir, "send_when_told");
    receiver.finish();
    sender.finish();
}

#[test]
fn pipe_receiver_dropped_readiness_becomes_readable() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let readiness = rx.readiness().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    drop(rx);
    wait_until_readable(&readiness);
}

#[test]
fn pipe_receiver_sender_killed_readiness_leads_to_peer_died() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let mut rx = values(&test_dir.names()).receiver(NAME).unwrap();
    let readiness = rx.readiness().unwrap();
    let sender = enter(&test_dir, "send_and_be_killed");
    assert_eq!(receive(&mut rx, &readiness), Ok(7));
    // While it waits, so that only a check of the waiter thread can tell.
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        sender.kill();
    });
    assert_eq!(receive(&mut rx, &readiness), Err(RecvError::PeerDied));
    killer.join().unwrap();
}

#[test]
fn pipe_sender_full_readiness_follows_room() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
    let readiness = tx.readiness().unwrap();
    while tx.try_send(1) != Err(SendError::Full) {}
    thread::scope(|scope| {
        scope.spawn(|| (0..1002).for_each(|_| assert_eq!(rx.recv(), Ok(1))));
        let mut sent = 2;
        while sent < 1002 {
            match tx.try_send(1) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => wait_until_readable(&readiness),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

fn reply_when_told(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut responder = rpc::Options::<u64, u64>::new().directory(&arguments[0]).responder(NAME).unwrap();
    for value in 0..100 {
        let request = responder.recv().unwrap();
        until(|| counters.word(0).load(Ordering::SeqCst) > value);
        request.reply(value).unwrap();
    }
}

/// Finishes a request as an event loop does.
fn finish(caller: &mut rpc::Caller<u64, u64>, readiness: &Readiness) -> Result<u64, CallError> {
    loop {
        match caller.try_finish() {
            Err(CallError::NotReady) => wait_until_readable(readiness),
            finished => return finished,
        }
    }
}

#[test]
fn caller_readiness_follows_each_reply_and_the_end() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let counters = counters(&test_dir);
    let mut caller = rpc::Options::<u64, u64>::new().directory(test_dir.names()).caller(NAME).unwrap();
    let responder = enter(&test_dir, "reply_when_told");
    let readiness = caller.readiness().unwrap();
    for value in 0..100 {
        // A liveness check can make it readable for a moment, and so can the first request.
        until(|| {
            assert_eq!(caller.try_finish(), Err(CallError::NoRequest));
            !is_readable(&readiness)
        });
        caller.start(value).unwrap();
        until(|| {
            assert_eq!(caller.try_finish(), Err(CallError::NotReady));
            !is_readable(&readiness)
        });
        counters.word(0).store(value + 1, Ordering::SeqCst);
        assert_eq!(finish(&mut caller, &readiness), Ok(value));
    }
    responder.finish();
    caller.start(100).unwrap();
    assert_eq!(finish(&mut caller, &readiness), Err(CallError::Closed));
}

/// No liveness check makes it readable. The reply does, also if nobody has tried since the request
/// was made.
fn follow_replies_only(_: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    let readiness = caller.readiness().unwrap();
    for value in 0..100 {
        assert_eq!(caller.try_finish(), Err(CallError::NoRequest));
        caller.start(value).unwrap();
        if value % 2 == 0 {
            assert_eq!(caller.try_finish(), Err(CallError::NotReady));
            assert!(!is_readable(&readiness));
        }
        responder.try_recv().unwrap().reply(value).unwrap();
        wait_until_readable(&readiness);
        assert_eq!(finish(&mut caller, &readiness), Ok(value));
    }
}

#[test]
fn caller_readiness_without_liveness_checks_follows_each_reply() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    start("follow_replies_only", &[]).finish();
}

/// Sends a message whose wake-up goes to a descriptor in this process, which gives up without
/// taking it, while another process sleeps without end for one.
fn spend_a_wake_up_on_a_descriptor(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let names = Path::new(&arguments[0]);
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = jobs(names).sender(NAME).unwrap();
    let mut rx = jobs(names).receiver(NAME).unwrap();
    let readiness = rx.readiness().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    assert!(!is_readable(&readiness));
    // The thread sleeps first, so the kernel wakes it first.
    thread::sleep(Duration::from_millis(5));
    let other = start("receive_one_of_a_queue", &[&arguments[0], &arguments[1]]);
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(50));
    if arguments[2] == "armed readiness" {
        drop(readiness);
        tx.send(7).unwrap();
        other.finish();
        return;
    }
    tx.send(7).unwrap();
    wait_until_readable(&readiness);
    if arguments[2] == "readiness" {
        drop(readiness);
        other.finish();
    } else {
        drop(rx);
        other.finish();
    }
}

#[test]
fn queue_receiver_or_its_readiness_dropped_wakes_another_receiver() {
    for dropped in ["readiness", "receiver", "armed readiness"] {
        let (_alone, test_dir) = (alone(), TestDir::new());
        enter_with(&test_dir, "spend_a_wake_up_on_a_descriptor", &[dropped]).finish();
    }
}

fn wait_without_waitv(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    tombolo::test_hooks::disable_waitv();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = values(Path::new(&arguments[0])).receiver(NAME).unwrap();
    let readiness = rx.readiness().unwrap();
    for value in 0..100 {
        counters.word(0).store(value + 1, Ordering::SeqCst);
        assert_eq!(receive(&mut rx, &readiness), Ok(value));
    }
    assert_eq!(receive(&mut rx, &readiness), Err(RecvError::Closed));
}

#[test]
fn pipe_receiver_kernel_without_waitv_readiness_follows_by_polling() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let receiver = enter(&test_dir, "wait_without_waitv");
    let sender = enter(&test_dir, "send_when_told");
    receiver.finish();
    sender.finish();
}

const STREAM: u64 = 100_000;

fn send_a_stream_without_system_calls(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = pipe::Options::<u64>::new().capacity(1 << 17).directory(&arguments[0]).sender(NAME).unwrap();
    tx.send(0).unwrap();
    counters.meet(0, 2);
    tx.send(1).unwrap(); // clears the bit by which the receiver listened
    // From here on this thread may make no system call but the one that ends it.
    // SAFETY: allows read, write, exit and sigreturn only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) }, 0);
    for value in 2..STREAM {
        tx.send(value).unwrap();
    }
    // Neither drops nor flushes anything: that would be a system call.
    // SAFETY: ends this thread, and the process is killed.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

#[test]
fn pipe_sender_of_a_readable_receiver_makes_no_system_call() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let counters = counters(&test_dir);
    let mut rx = pipe::Options::<u64>::new().capacity(1 << 17).directory(test_dir.names()).receiver(NAME).unwrap();
    let readiness = rx.readiness().unwrap();
    let sender = enter(&test_dir, "send_a_stream_without_system_calls");
    // The first message made it readable: it is not armed until a fruitless try.
    assert_eq!(receive(&mut rx, &readiness), Ok(0));
    counters.meet(0, 2);
    for value in 1..STREAM {
        until(|| match rx.poll(Duration::ZERO) {
            Ok(is_there) => is_there,
            Err(error) => panic!("after {value}: {error}"),
        });
        assert_eq!(rx.try_recv(), Ok(value));
    }
    sender.kill();
}

#[test]
fn waiter_thread_starts_late_serves_127_and_ends() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    start("arm_300_descriptors", &[]).finish();
}

fn arm_300_descriptors(_: &[String]) {
    // A liveness check would make a descriptor readable.
    tombolo::test_hooks::disable_liveness_interval();
    let before = descriptors();
    let mut pipes: Vec<_> = (0..300).map(|_| pipe::Options::<u64>::new().capacity(1).create().unwrap()).collect();
    let with_pipes = descriptors();
    let readiness: Vec<_> = pipes.iter_mut().map(|(_, rx)| rx.readiness().unwrap()).collect();
    assert_eq!(descriptors() - with_pipes, 300);
    assert_eq!(waiter_threads(), 0, "nothing has been armed");
    for (index, (_, rx)) in pipes.iter_mut().enumerate() {
        assert_eq!(rx.try_recv(), Err(RecvError::Empty));
        until(|| waiter_threads() == index / 127 + 1); // a thread names itself
    }
    for (index, ((tx, rx), readiness)) in pipes.iter_mut().zip(&readiness).enumerate() {
        tx.send(index as u64).unwrap();
        assert_eq!(receive(rx, readiness), Ok(index as u64));
    }
    drop(readiness);
    drop(pipes);
    assert_eq!(descriptors(), before);
    until(|| waiter_threads() == 0);
}

#[test]
fn forked_child_has_no_waiter_thread_and_begins_anew() {
    let (alone, _test_dir) = (alone(), TestDir::new());
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let readiness = rx.readiness().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    let mut inherited = (Some(rx), Some(readiness));
    let child: Process = fork(&alone, || {
        let (mut rx, readiness) = (inherited.0.take().unwrap(), inherited.1.take().unwrap());
        assert_eq!(waiter_threads(), 0);
        assert_eq!(rx.readiness().unwrap_err().kind(), ErrorKind::Forked);
        drop(readiness);
        drop(rx);
        let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        let readiness = rx.readiness().unwrap();
        assert_eq!(rx.try_recv(), Err(RecvError::Empty));
        until(|| waiter_threads() == 1);
        tx.send(1).unwrap();
        assert_eq!(receive(&mut rx, &readiness), Ok(1));
    });
    child.finish();
    let (mut rx, readiness) = (inherited.0.unwrap(), inherited.1.unwrap());
    tx.send(2).unwrap();
    wait_until_readable(&readiness);
    assert_eq!(rx.try_recv(), Ok(2));
}
