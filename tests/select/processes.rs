//! Selectors whose sources belong to other processes, which are killed and stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{
    Process, Random, SharedCounters, TestDir, alone, command, fork, stress_factor, stress_random, until,
};
use rustix::process::{PidfdFlags, pidfd_open};
use tombolo::select::{Descriptor, SelectError, Selector, Source};
use tombolo::spawn::{self, CommandExt};
use tombolo::{RecvError, SendError, WaitStrategy, pipe, queue};

pub fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

fn counters_at(path: &str) -> SharedCounters {
    SharedCounters::at(path.as_ref())
}

/// Starts a process that takes an endpoint as "end".
pub fn start_with<E: tombolo::Endpoint + 'static>(test_dir: &TestDir, role: &str, end: E) -> Process {
    let path = test_dir.file("counters");
    command(role, &[path.to_str().unwrap()]).pass("end", end).unwrap().spawn().unwrap().into()
}

/// Sends one value and stays.
pub fn send_once_and_stay(arguments: &[String]) {
    let mut tx: pipe::Sender<u64> = spawn::take("end").unwrap();
    tx.send(1).unwrap();
    counters_at(&arguments[0]).meet(0, 2);
    thread::sleep(Duration::MAX);
}

/// Sends without end.
pub fn send_endlessly(_: &[String]) {
    let mut tx: queue::Sender<u64> = spawn::take("end").unwrap();
    let mut random = Random(u64::from(std::process::id()) | 1);
    loop {
        if tx.send(1).is_err() {
            return;
        }
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
    }
}

/// Has the receiving end and does not receive.
pub fn hold_endpoints(arguments: &[String]) {
    let _rx: pipe::Receiver<u64> = spawn::take("end").unwrap();
    counters_at(&arguments[0]).meet(0, 2);
    thread::sleep(Duration::MAX);
}

/// Selects over two receivers without end, and receives. Counts what it has received.
pub fn select_and_receive(arguments: &[String]) {
    let mut one: queue::Receiver<u64> = spawn::take("end").unwrap();
    let mut two: queue::Receiver<u64> = spawn::take("other").unwrap();
    let counters = counters_at(&arguments[0]);
    let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
    loop {
        let rx = match selector.wait(&mut [&mut one, &mut two]).unwrap() {
            0 => &mut one,
            _ => &mut two,
        };
        match rx.try_recv() {
            Ok(_) => _ = counters.word(1).fetch_add(1, Ordering::SeqCst),
            Err(RecvError::Empty) => {}
            Err(_) => return,
        }
    }
}

/// A selector waits for a sender that is killed, and for another source that is never ready.
pub fn notice_a_death_beside(other: &mut (dyn Source + Send)) {
    let test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let sender = start_with(&test_dir, "send_once_and_stay", tx);
    counters(&test_dir).meet(0, 2);
    let mut selector = Selector::new();
    assert_eq!(selector.wait(&mut [&mut *other, &mut rx]), Ok(1));
    assert_eq!(rx.try_recv(), Ok(1));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (selector.wait(&mut [other, &mut rx]), rx.try_recv()));
        thread::sleep(Duration::from_millis(10));
        sender.kill();
        assert_eq!(waiting.join().unwrap(), (Ok(1), Err(RecvError::PeerDied)));
    });
}

#[test]
fn selector_sender_killed_returns_its_source() {
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    notice_a_death_beside(&mut rx);
}

#[test]
fn selector_receiver_killed_sender_is_returned() {
    let test_dir = TestDir::new();
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    let receiver = start_with(&test_dir, "hold_endpoints", rx);
    counters(&test_dir).meet(0, 2);
    tx.send(1).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (Selector::new().wait(&mut [&mut tx]), tx.try_send(2)));
        thread::sleep(Duration::from_millis(10));
        receiver.kill();
        assert_eq!(waiting.join().unwrap(), (Ok(0), Err(SendError::PeerDied)));
    });
}

/// A pidfd is a source like any other descriptor.
#[test]
fn selector_of_a_child_returns_its_end() {
    let test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let child = start_with(&test_dir, "send_once_and_stay", tx);
    counters(&test_dir).meet(0, 2);
    let pid = rustix::process::Pid::from_raw(child.pid()).unwrap();
    let mut ended = Descriptor::readable(pidfd_open(pid, PidfdFlags::empty()).unwrap());
    let mut selector = Selector::in_order();
    assert_eq!(selector.wait(&mut [&mut ended, &mut rx]), Ok(1));
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(selector.try_wait(&mut [&mut ended]), Err(SelectError::NotReady));
    child.signal(libc::SIGKILL);
    assert_eq!(selector.wait(&mut [&mut ended]), Ok(0));
}

/// The kernel is asked about some sources at a time.
#[test]
fn selector_of_many_sources_sender_killed_returns_its_source() {
    let test_dir = TestDir::new();
    let (_senders, mut receivers): (Vec<_>, Vec<_>) =
        (0..200).map(|_| pipe::Options::<u64>::new().capacity(1).create().unwrap()).unzip();
    let (tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let sender = start_with(&test_dir, "send_once_and_stay", tx);
    counters(&test_dir).meet(0, 2);
    receivers.push(rx);
    assert_eq!(receivers[200].try_recv(), Ok(1));
    sender.kill();
    let mut sources: Vec<_> = receivers.iter_mut().map(|receiver| receiver as &mut dyn Source).collect();
    assert_eq!(Selector::new().wait(&mut sources), Ok(200));
    assert_eq!(receivers[200].try_recv(), Err(RecvError::PeerDied));
}

/// While one source is always ready.
#[test]
fn selector_busy_source_death_of_another_is_returned() {
    let test_dir = TestDir::new();
    let (mut busy_tx, mut busy) = pipe::Options::<u64>::new().create().unwrap();
    busy_tx.send(1).unwrap();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let sender = start_with(&test_dir, "send_once_and_stay", tx);
    counters(&test_dir).meet(0, 2);
    assert_eq!(rx.try_recv(), Ok(1));
    sender.kill();
    let mut selector = Selector::new();
    until(|| selector.wait(&mut [&mut busy, &mut rx]) == Ok(1));
    assert_eq!(rx.try_recv(), Err(RecvError::PeerDied));
}

#[test]
fn selector_sender_stopped_other_sources_are_returned() {
    let test_dir = TestDir::new();
    let (stopped_tx, mut stopped_rx) = queue::Options::<u64>::new().capacity(4).create_channel().unwrap();
    let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let sender = start_with(&test_dir, "send_endlessly", stopped_tx);
    assert_eq!(stopped_rx.recv(), Ok(1));
    sender.signal(libc::SIGSTOP);
    while stopped_rx.try_recv().is_ok() {}
    let mut selector = Selector::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(10));
            tx.send(7).unwrap();
            thread::sleep(Duration::from_millis(200));
        });
        assert_eq!(selector.wait(&mut [&mut stopped_rx, &mut rx]), Ok(1));
        assert_eq!(rx.try_recv(), Ok(7));
    });
    sender.signal(libc::SIGCONT);
    assert_eq!(selector.wait(&mut [&mut stopped_rx]), Ok(0));
    stopped_rx.try_recv().unwrap();
    sender.kill();
}

#[test]
fn selector_in_forked_child_sources_say_so() {
    let alone = alone();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let child = fork(&alone, || {
        assert_eq!(Selector::new().wait(&mut [&mut rx]), Ok(0));
        assert_eq!(rx.try_recv(), Err(RecvError::Forked));
    });
    child.finish();
    tx.send(1).unwrap();
    assert_eq!(Selector::new().wait(&mut [&mut rx]), Ok(0));
}

/// Without futex_waitv every wait still ends.
#[test]
fn selector_without_futex_waitv_is_woken() {
    let alone = alone();
    let _watchdog = TestDir::new();
    let child = fork(&alone, || {
        tombolo::test_hooks::disable_waitv();
        tombolo::test_hooks::disable_liveness_interval();
        let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        let (mut other_tx, mut other_rx) = pipe::Options::<u64>::new().create().unwrap();
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        let received = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..30 {
                    until(|| received.load(Ordering::SeqCst) == number);
                    thread::sleep(Duration::from_millis(2)); // the selector sleeps
                    if number % 3 == 0 { tx.send(number).unwrap() } else { other_tx.send(number).unwrap() }
                }
                until(|| received.load(Ordering::SeqCst) == 30);
            });
            for number in 0..30 {
                let found = match selector.wait(&mut [&mut rx, &mut other_rx]).unwrap() {
                    0 => rx.try_recv(),
                    _ => other_rx.try_recv(),
                };
                assert_eq!(found, Ok(number));
                received.store(number + 1, Ordering::SeqCst);
            }
        });
    });
    child.finish();
}

/// Senders are stopped, continued and killed while selectors and a plain receiver wait for them.
/// What was sent is received, and nobody sleeps beside a message.
#[test]
fn selectors_under_fire_receive_everything() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let options = queue::Options::<u64>::new().capacity(8).max_participants(32);
    let (mut tx, rx) = options.create_channel().unwrap();
    let (mut other_tx, other_rx) = options.create_channel().unwrap();
    let start_selector = || -> Process {
        let path = test_dir.file("counters");
        let command = command("select_and_receive", &[path.to_str().unwrap()]);
        let spawner = command.pass("end", rx.try_clone().unwrap()).unwrap();
        spawner.pass("other", other_rx.try_clone().unwrap()).unwrap().spawn().unwrap().into()
    };
    let mut random = stress_random(18);
    let mut selectors: Vec<Process> = (0..2).map(|_| start_selector()).collect();
    let mut senders: Vec<Process> =
        [&tx, &other_tx].map(|tx| start_with(&test_dir, "send_endlessly", tx.try_clone().unwrap())).into();
    for round in 0..20 * stress_factor() {
        thread::sleep(Duration::from_micros(500 + random.below(4000)));
        let victim = random.below(2) as usize;
        match random.below(4) {
            0 => {
                let victim = std::mem::replace(
                    &mut senders[victim],
                    start_with(&test_dir, "send_endlessly", [&tx, &other_tx][victim].try_clone().unwrap()),
                );
                victim.kill();
            }
            1 => std::mem::replace(&mut selectors[victim], start_selector()).kill(),
            _ => {
                let victim = if random.below(2) == 0 { &senders[victim] } else { &selectors[victim] };
                victim.signal(libc::SIGSTOP);
                thread::sleep(Duration::from_micros(random.below(2000)));
                victim.signal(libc::SIGCONT);
            }
        }
        let before = counters.word(1).load(Ordering::SeqCst);
        until(|| counters.word(1).load(Ordering::SeqCst) > before);
        if round % 8 == 0 {
            tx.send(1).unwrap();
            other_tx.send(1).unwrap();
        }
    }
    senders.into_iter().for_each(Process::kill);
    // Everything is received although nobody else sends any more.
    until(|| tx.is_empty() && other_tx.is_empty());
    selectors.into_iter().for_each(Process::kill);
}
