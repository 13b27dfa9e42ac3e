//! Selectors with descriptors among their sources. Here no sleep ends by itself, so a missing
//! wake-up is a test that hangs: that is set for a whole process, hence the forked children.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::processes::notice_a_death_beside;
use crate::support::{TestDir, alone, fork, sleeps, until};
use tombolo::select::{Descriptor, SelectError, Selector, Source};
use tombolo::{RecvError, WaitStrategy, pipe};

const ROUNDS: u64 = 60;

/// A selector that sleeps beside a socket is woken by a message.
fn receive_beside(
    socket: &UnixStream,
    selector: &mut Selector,
    mut tx: pipe::Sender<u64>,
    mut rx: pipe::Receiver<u64>,
) {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(5)); // the selector sleeps
            tx.send(1).unwrap();
        });
        assert_eq!(selector.wait(&mut [&mut Descriptor::readable(socket), &mut rx]), Ok(1));
        assert_eq!(rx.try_recv(), Ok(1));
    });
}

/// A selector waits for `count` pipes and a socket, and gets a message through each third of them.
fn receive_from_pipes_and_a_socket(count: usize) {
    tombolo::test_hooks::disable_liveness_interval();
    let (mut senders, mut receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| pipe::Options::<u64>::new().capacity(1).create().unwrap()).unzip();
    let (mut theirs, mut ours) = UnixStream::pair().unwrap();
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..ROUNDS {
                until(|| received.load(Ordering::SeqCst) == number);
                thread::sleep(Duration::from_millis(2)); // the selector sleeps
                match senders.get_mut(number as usize * 3 % (count + 1)) {
                    Some(sender) => sender.send(number).unwrap(),
                    None => theirs.write_all(&[number as u8]).unwrap(),
                }
            }
            until(|| received.load(Ordering::SeqCst) == ROUNDS);
        });
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        for number in 0..ROUNDS {
            let mut socket = Descriptor::readable(&ours);
            let mut sources: Vec<&mut dyn Source> = receivers.iter_mut().map(|rx| rx as &mut dyn Source).collect();
            sources.push(&mut socket);
            let found = selector.wait(&mut sources).unwrap();
            assert_eq!(found, number as usize * 3 % (count + 1));
            match receivers.get_mut(found) {
                Some(rx) => assert_eq!(rx.try_recv(), Ok(number)),
                None => {
                    let mut byte = [0];
                    ours.read_exact(&mut byte).unwrap();
                    assert_eq!(byte, [number as u8]);
                }
            }
            received.store(number + 1, Ordering::SeqCst);
        }
    });
}

#[test]
fn selector_of_pipes_and_a_socket_is_woken_by_each() {
    let alone = alone();
    let _watchdog = TestDir::new();
    for count in [1, 4] {
        fork(&alone, || receive_from_pipes_and_a_socket(count)).finish();
    }
}

/// More than one waiter thread sleeps on.
#[test]
fn selector_of_many_pipes_and_a_socket_is_woken_by_each() {
    let alone = alone();
    let _watchdog = TestDir::new();
    fork(&alone, || receive_from_pipes_and_a_socket(200)).finish();
}

#[test]
fn selector_of_pipes_and_a_socket_without_futex_waitv_is_woken_by_each() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let child = fork(&alone, || {
        tombolo::test_hooks::disable_waitv();
        receive_from_pipes_and_a_socket(4);
    });
    child.finish();
}

fn limit_descriptors(count: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: this process only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Not even the descriptor can be made that the waiter thread writes to.
#[test]
fn selector_of_pipes_and_a_socket_without_more_descriptors_is_woken() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let child = fork(&alone, || {
        tombolo::test_hooks::disable_liveness_interval();
        let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
        let (_theirs, ours) = UnixStream::pair().unwrap();
        limit_descriptors(3);
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        receive_beside(&ours, &mut selector, tx, rx);
    });
    child.finish();
}

#[test]
fn selector_beside_a_descriptor_sender_killed_returns_its_source() {
    let (_theirs, ours) = UnixStream::pair().unwrap();
    notice_a_death_beside(&mut Descriptor::readable(&ours));
}

#[test]
fn selector_beside_a_descriptor_is_interrupted() {
    let _watchdog = TestDir::new();
    let (_theirs, ours) = UnixStream::pair().unwrap();
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let handle = tombolo::interrupt_handle();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(5)); // the selector sleeps
            handle.interrupt();
        });
        let ended = Selector::new().wait(&mut [&mut Descriptor::readable(&ours), &mut rx]);
        assert_eq!(ended, Err(SelectError::Interrupted));
    });
}

/// The child has neither the thread nor the descriptor of its parent.
#[test]
fn selector_used_before_a_fork_child_is_woken() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let (_theirs, ours) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
    let moment = Duration::from_millis(1);
    let ended = selector.wait_timeout(&mut [&mut Descriptor::readable(&ours), &mut rx], moment);
    assert_eq!(ended, Err(SelectError::TimedOut));
    let child = fork(&alone, || {
        tombolo::test_hooks::disable_liveness_interval();
        let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
        receive_beside(&ours, &mut selector, tx, rx);
    });
    child.finish();
}

/// The kernel refuses to poll more descriptors at once than a process may have.
#[test]
fn selector_of_more_descriptors_than_allowed_sleeps_and_finds() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let child = fork(&alone, || {
        let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        limit_descriptors(3);
        let mut sockets = [(); 4].map(|()| Descriptor::readable(&ours));
        let mut sources: Vec<&mut dyn Source> = sockets.iter_mut().map(|socket| socket as &mut dyn Source).collect();
        sources.push(&mut rx);
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        let before = sleeps();
        let ended = selector.wait_timeout(&mut sources, Duration::from_millis(500));
        assert_eq!(ended, Err(SelectError::TimedOut));
        assert!(sleeps() - before >= 5, "a busy loop");
        theirs.write_all(&[1]).unwrap();
        assert!(selector.wait(&mut sources).unwrap() < 4);
    });
    child.finish();
}

#[test]
fn descriptor_of_a_process_that_may_have_none_is_ready() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let child = fork(&alone, || {
        let (_theirs, ours) = UnixStream::pair().unwrap();
        limit_descriptors(0);
        assert_eq!(Selector::new().wait(&mut [&mut Descriptor::readable(&ours)]), Ok(0));
    });
    child.finish();
}

/// In the child it is closed.
#[test]
fn descriptor_of_a_readiness_of_the_parent_is_ready() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let readiness = rx.readiness().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    let child = fork(&alone, || {
        assert_eq!(Selector::new().wait(&mut [&mut Descriptor::readable(&readiness)]), Ok(0));
    });
    child.finish();
}
