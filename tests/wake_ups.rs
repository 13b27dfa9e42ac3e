//! Every wake-up arrives. Here no sleep ends by itself, so a missing wake-up is a test that hangs.
//! Otherwise it would be a delay of 20 ms that no test notices.
//!
//! A sleeping process usually notices a death when its sleep times out. Here it notices through a
//! newcomer, whose repair has to wake all processes that are affected.

mod support;

use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use support::{
    Process, Random, SharedCounters, TestDir, child_roles, message, start, stress_factor, stress_random, until,
};
use tombolo::broadcast::{self, Frames, Policy};
use tombolo::collections::{List, Map, list, map};
use tombolo::pipe;
use tombolo::queue;
use tombolo::rpc::{self, CallError};
use tombolo::select::{Descriptor, Selector, Source};
use tombolo::sync::{LockError, SyncError};
use tombolo::{Directory, Endpoint, Namespace, NamespaceBuilder, RecvError, SendError, WaitStrategy};

child_roles!(
    work_on_objects,
    meet_at_the_barrier,
    hold_a_place,
    send_nothing,
    send_nothing_through_a_pipe,
    hear_of_the_death,
    join_and_leave,
    hold_the_objects,
    take_a_request,
    make_noise,
    ask_to_go_first,
);

const NAME: &str = "name";
const ROUNDS: u64 = 3000;

/// Must be called first in each process.
fn endless() {
    tombolo::test_hooks::disable_liveness_interval();
}

fn test_dir() -> TestDir {
    endless();
    TestDir::new()
}

fn enter(test_dir: &TestDir, role: &str, more: &[&str]) -> Process {
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    start(role, &[&[names.to_str().unwrap(), counters.to_str().unwrap()], more].concat())
}

/// The directory and the counters of a process that [`enter`] has started.
fn from_arguments(arguments: &[String]) -> (PathBuf, SharedCounters) {
    endless();
    (PathBuf::from(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])))
}

fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

// ---- pipes -----------------------------------------------------------------------------------------------------------

#[test]
fn pipe_of_values_wakes_reader_and_writer() {
    let _sandbox = test_dir();
    for capacity in [1, 4] {
        let options = pipe::Options::<u64>::new().capacity(capacity).wait(WaitStrategy::Park);
        let (mut tx, mut rx) = options.create().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || (0..ROUNDS).for_each(|number| tx.send(number).unwrap()));
            assert!(rx.iter().map(Result::unwrap).eq(0..ROUNDS));
            assert_eq!(rx.recv(), Err(RecvError::Closed));
        });
        let (mut tx, mut rx) = options.create().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < ROUNDS {
                    let values: Vec<u64> = (next..(next + 7).min(ROUNDS)).collect();
                    next += tx.send_many(&values).unwrap() as u64;
                }
            });
            let (mut next, mut values) = (0, [0; 5]);
            while next < ROUNDS {
                let count = rx.recv_many(&mut values).unwrap();
                assert!(values[..count].iter().copied().eq(next..next + count as u64));
                next += count as u64;
            }
        });
    }
}

#[test]
fn pipe_of_bytes_wakes_reader_and_writer() {
    let _sandbox = test_dir();
    let (mut tx, mut rx) = pipe::Options::bytes().capacity_bytes(256).wait(WaitStrategy::Park).create().unwrap();
    let length = |number: u64| 8 + (number * 37 % if number.is_multiple_of(50) { 3000 } else { 100 }) as usize;
    thread::scope(|scope| {
        scope.spawn(move || (0..ROUNDS).for_each(|number| tx.send(message(number, length(number))).unwrap()));
        let received =
            rx.iter().zip(0..).map(|(bytes, number)| assert!(bytes.unwrap() == message(number, length(number))));
        assert_eq!(received.count() as u64, ROUNDS);
    });
}

#[test]
fn pipe_ping_pong_wakes_both_sides() {
    let _sandbox = test_dir();
    let (mut left, mut right) =
        pipe::Options::<u64>::new().capacity(2).wait(WaitStrategy::Park).create_duplex().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(number) = right.recv() {
                right.send(number + 1).unwrap();
            }
        });
        for number in 0..ROUNDS {
            left.send(number).unwrap();
            assert_eq!(left.recv(), Ok(number + 1));
        }
        drop(left);
    });
}

#[test]
fn pipe_peer_joins_or_leaves_wakes_other_side() {
    let test_dir = test_dir();
    let options = pipe::Options::<u64>::new().capacity(2).wait(WaitStrategy::Park).directory(test_dir.names());
    for _ in 0..3 {
        // The receiver sleeps before the sender comes, and when it leaves.
        let mut rx = options.receiver(NAME).unwrap();
        thread::scope(|scope| {
            let receiver = scope.spawn(move || (rx.recv(), rx.recv()));
            let_them_sleep();
            let mut tx = options.sender(NAME).unwrap();
            tx.send(1).unwrap();
            let_them_sleep();
            drop(tx);
            assert_eq!(receiver.join().unwrap(), (Ok(1), Err(RecvError::Closed)));
        });
        // The sender sleeps on a full ring when the receiver leaves.
        let (mut tx, rx) = options.create().unwrap();
        thread::scope(|scope| {
            let sender = scope.spawn(move || (0..3).find_map(|number| tx.send(number).err()));
            let_them_sleep();
            drop(rx);
            assert_eq!(sender.join().unwrap(), Some(SendError::Closed));
        });
    }
}

#[test]
fn pipe_successor_joins_wakes_wait_for_peer() {
    let test_dir = test_dir();
    let options = pipe::Options::<u64>::new().capacity(2).wait(WaitStrategy::Park).directory(test_dir.names());
    let (mut tx, mut rx) = (options.sender("tx").unwrap(), options.receiver("rx").unwrap());
    let mut pipe = options.open("pipe").unwrap();
    // The first peer, and those after one that has left.
    for _ in 0..3 {
        thread::scope(|scope| {
            let sender = scope.spawn(|| tx.wait_for_peer(Duration::MAX).unwrap());
            let receiver = scope.spawn(|| rx.wait_for_peer(Duration::MAX).unwrap());
            let both = scope.spawn(|| pipe.wait_for_peer(Duration::MAX).unwrap());
            let_them_sleep();
            let _peers =
                (options.receiver("tx").unwrap(), options.sender("rx").unwrap(), options.open("pipe").unwrap());
            sender.join().unwrap();
            receiver.join().unwrap();
            both.join().unwrap();
        });
    }
}

// ---- broadcasts ------------------------------------------------------------------------------------------------------

#[test]
fn broadcast_frame_given_back_wakes_publisher() {
    let _sandbox = test_dir();
    for policy in [Policy::Lossless, Policy::Lossy] {
        let options = broadcast::Options::bytes().policy(policy).wait(WaitStrategy::Park);
        let (mut publisher, subscriber) = options.frames(Frames { count: 2, bytes: 1000 }).create().unwrap();
        // SAFETY: both endpoints belong to this process.
        let mut subscriber = unsafe { subscriber.into_zero_copy().unwrap() };
        thread::scope(|scope| {
            scope.spawn(move || (0..ROUNDS).for_each(|number| publisher.publish(message(number, 1000)).unwrap()));
            let mut held = None;
            loop {
                match subscriber.recv_frame() {
                    // The publisher sleeps until the one before is dropped.
                    Ok(frame) => drop(held.replace(frame)),
                    Err(RecvError::Lagged { .. }) => assert_eq!(policy, Policy::Lossy),
                    Err(end) => break assert_eq!(end, RecvError::Closed),
                }
            }
            assert!(*held.unwrap() == message(ROUNDS - 1, 1000));
        });
    }
}

// ---- several things at once ------------------------------------------------------------------------------------------

/// Selectors and plain receivers share three queues. A wake-up that a selector got and did not use
/// must reach another of them.
#[test]
fn selectors_and_receivers_of_common_queues_are_woken() {
    let _sandbox = test_dir();
    let rounds = ROUNDS * stress_factor();
    let options = queue::Options::<u64>::new().capacity(4).max_participants(16).wait(WaitStrategy::Park);
    let queues: Vec<_> = (0..3).map(|_| options.create_channel().unwrap()).collect();
    let received: u64 = thread::scope(|scope| {
        let mut receivers = Vec::new();
        for chosen in [&[0, 1, 2][..], &[2, 0], &[1, 2, 0], &[0], &[2]] {
            let mut of_chosen: Vec<_> = chosen.iter().map(|&queue| queues[queue].1.try_clone().unwrap()).collect();
            receivers.push(scope.spawn(move || {
                let (mut selector, mut count) = (Selector::new().wait_strategy(WaitStrategy::Park), 0);
                while !of_chosen.is_empty() {
                    let found = match of_chosen.len() {
                        1 => 0,
                        _ => {
                            let mut sources: Vec<_> = of_chosen.iter_mut().map(|rx| rx as &mut dyn Source).collect();
                            selector.wait(&mut sources).unwrap()
                        }
                    };
                    let is_single = of_chosen.len() == 1;
                    let rx = &mut of_chosen[found];
                    match if is_single { rx.recv() } else { rx.try_recv() } {
                        Ok(_) => count += 1,
                        Err(RecvError::Empty) => {}
                        Err(RecvError::Closed) => drop(of_chosen.remove(found)),
                        Err(error) => panic!("{error}"),
                    }
                }
                count
            }));
        }
        for (mut tx, rx) in queues {
            drop(rx);
            scope.spawn(move || (0..rounds).for_each(|number| tx.send(number).unwrap()));
        }
        receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum()
    });
    assert_eq!(received, 3 * rounds);
}

fn noise(names: PathBuf) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(16).wait(WaitStrategy::Park).directory(names)
}

/// Sends a little, and then nothing until the others have played on. Here a death is noticed, so
/// that those that send next can repair the queue.
fn make_noise(arguments: &[String]) {
    let mut tx = noise(PathBuf::from(&arguments[0])).sender(NAME).unwrap();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    while (0..3).all(|number| tx.send(number).is_ok()) {
        let round = counters.word(0).load(Ordering::SeqCst);
        until(|| counters.word(0).load(Ordering::SeqCst) > round + 20);
    }
}

/// Two selectors send each other one message at a time. The senders to a third queue, which both
/// wait for, too, are killed and stopped meanwhile. All these wait for the two, so they end no sleep
/// that a missing wake-up does not end.
#[test]
fn selectors_under_fire_are_woken() {
    let test_dir = test_dir();
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let rounds = ROUNDS * stress_factor();
    let of_this_process = || queue::Options::<u64>::new().wait(WaitStrategy::Park).create_channel().unwrap();
    let ((ping, pinged), (pong, ponged)) = (of_this_process(), of_this_process());
    let noisy = noise(test_dir.names()).receiver(NAME).unwrap();
    let play = |mut tx: queue::Sender<u64>, mut rx: queue::Receiver<u64>, is_first: bool| {
        let (counters, mut noisy) = (&counters, noisy.try_clone().unwrap());
        move || {
            let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
            for round in 0..rounds {
                if is_first {
                    tx.send(round).unwrap();
                }
                while selector.wait(&mut [&mut noisy, &mut rx]).unwrap() == 0 {
                    let _ = noisy.try_recv(); // the other one may have been faster
                }
                assert_eq!(rx.try_recv(), Ok(round));
                match is_first {
                    true => counters.word(0).store(round + 1, Ordering::SeqCst),
                    false => tx.send(round).unwrap(),
                }
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(play(pong, pinged, false));
        scope.spawn(play(ping, ponged, true));
        let mut random = stress_random(19);
        let start_noise = || enter(&test_dir, "make_noise", &[]);
        let mut senders = [start_noise(), start_noise()];
        let mut next = 0;
        while next < rounds {
            until(|| counters.word(0).load(Ordering::SeqCst) >= next);
            next += random.below(200);
            let victim = &mut senders[random.below(2) as usize];
            if random.below(2) == 0 {
                std::mem::replace(victim, start_noise()).kill();
            } else {
                victim.signal(libc::SIGSTOP);
                thread::sleep(Duration::from_micros(random.below(1000)));
                victim.signal(libc::SIGCONT);
            }
        }
        senders.into_iter().for_each(Process::kill);
    });
}

/// The wake-up for the receiver of one queue goes to a selector, which sleeps longer, and which then
/// takes from the other queue. Nothing is sent after that.
#[test]
fn selector_takes_from_another_source_receiver_is_woken() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().wait(WaitStrategy::Park);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    let (mut other_tx, mut other_rx) = options.create_channel().unwrap();
    let (mut own_tx, mut own_rx) = (tx.try_clone().unwrap(), rx.try_clone().unwrap());
    for _ in 0..20 {
        thread::scope(|scope| {
            let selector = scope.spawn(|| {
                let mut selector = Selector::in_order().wait_strategy(WaitStrategy::Park);
                if selector.wait(&mut [&mut other_rx, &mut own_rx]) == Ok(1) {
                    // It was too fast: give the message back.
                    own_tx.send(own_rx.try_recv().unwrap()).unwrap();
                }
            });
            let_them_sleep();
            let receiver = scope.spawn(|| rx.recv());
            let_them_sleep();
            tx.send(1).unwrap();
            other_tx.send(2).unwrap();
            selector.join().unwrap();
            assert_eq!(receiver.join().unwrap(), Ok(1));
        });
        assert_eq!(other_rx.try_recv(), Ok(2));
    }
}

/// The same for a selector that takes from a descriptor. Now the waiter thread gets the wake-up.
#[test]
fn selector_returns_a_descriptor_receiver_is_woken() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().wait(WaitStrategy::Park);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    let (mut own_tx, mut own_rx) = (tx.try_clone().unwrap(), rx.try_clone().unwrap());
    let (mut theirs, mut ours) = UnixStream::pair().unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            let selector = scope.spawn(|| {
                let mut selector = Selector::in_order().wait_strategy(WaitStrategy::Park);
                if selector.wait(&mut [&mut Descriptor::readable(&ours), &mut own_rx]) == Ok(1) {
                    // It was too fast: give the message back.
                    own_tx.send(own_rx.try_recv().unwrap()).unwrap();
                }
            });
            let_them_sleep();
            let receiver = scope.spawn(|| rx.recv());
            let_them_sleep();
            tx.send(1).unwrap();
            theirs.write_all(&[2]).unwrap();
            selector.join().unwrap();
            assert_eq!(receiver.join().unwrap(), Ok(1));
        });
        ours.read_exact(&mut [0]).unwrap();
    }
}

/// Each message comes at another moment of the way to sleep, and nothing comes after it.
fn wake_at_any_moment(mut other: impl Source) {
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(1);
            for number in 0..ROUNDS {
                until(|| received.load(Ordering::SeqCst) == number);
                for _ in 0..random.below(100) {
                    std::hint::spin_loop();
                }
                tx.send(number).unwrap();
            }
            until(|| received.load(Ordering::SeqCst) == ROUNDS);
        });
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        for number in 0..ROUNDS {
            assert_eq!(selector.wait(&mut [&mut other, &mut rx]), Ok(1));
            assert_eq!(rx.try_recv(), Ok(number));
            received.store(number + 1, Ordering::SeqCst);
        }
    });
}

#[test]
fn selector_message_comes_at_any_moment_is_woken() {
    let _sandbox = test_dir();
    let (_tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    wake_at_any_moment(rx);
}

#[test]
fn selector_beside_a_descriptor_message_comes_at_any_moment_is_woken() {
    let _sandbox = test_dir();
    let (_theirs, ours) = UnixStream::pair().unwrap();
    wake_at_any_moment(Descriptor::readable(ours));
}

/// A selector waits for room in two full rings, and another one for what comes through them.
#[test]
fn selectors_of_senders_and_of_receivers_wake_each_other() {
    let _sandbox = test_dir();
    let (mut pipe_tx, mut pipe_rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    let (mut queue_tx, mut queue_rx) = queue::Options::<u64>::new().capacity(1).create_channel().unwrap();
    let selector = || Selector::new().wait_strategy(WaitStrategy::Park);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut selector, mut sent) = (selector(), 0);
            while sent < ROUNDS {
                let outcome = match selector.wait(&mut [&mut pipe_tx, &mut queue_tx]).unwrap() {
                    0 => pipe_tx.try_send(sent),
                    _ => queue_tx.try_send(sent),
                };
                match outcome {
                    Ok(()) => sent += 1,
                    Err(error) => assert_eq!(error, SendError::Full),
                }
            }
        });
        let (mut selector, mut received) = (selector(), 0);
        while received < ROUNDS {
            let outcome = match selector.wait(&mut [&mut queue_rx, &mut pipe_rx]).unwrap() {
                0 => queue_rx.try_recv(),
                _ => pipe_rx.try_recv(),
            };
            match outcome {
                Ok(_) => received += 1,
                Err(error) => assert_eq!(error, RecvError::Empty),
            }
        }
    });
}

/// A subscriber and a responder in one wait.
#[test]
fn selector_of_subscriber_and_responder_is_woken() {
    let _sandbox = test_dir();
    let (mut publisher, mut subscriber) = broadcast::Options::<u64>::new()
        .capacity(2)
        .policy(Policy::Lossless)
        .wait(WaitStrategy::Park)
        .create()
        .unwrap();
    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park).create().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (0..ROUNDS).for_each(|number| publisher.publish(number).unwrap()));
        scope.spawn(|| (0..ROUNDS).for_each(|number| assert_eq!(caller.call(number), Ok(number + 1))));
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        let (mut published, mut called) = (0, 0);
        while published < ROUNDS || called < ROUNDS {
            match selector.wait(&mut [&mut subscriber, &mut responder]).unwrap() {
                0 => {
                    assert_eq!(subscriber.try_recv(), Ok(published));
                    published += 1;
                }
                _ => {
                    let request = responder.try_recv().unwrap();
                    let reply = *request + 1;
                    request.reply(reply).unwrap();
                    called += 1;
                }
            }
        }
    });
}

/// Waits in a selector for a source whose descriptor is armed, and then does what makes it ready.
fn wait_beside_armed_readiness(source: &mut (dyn Source + Send), act: impl FnOnce()) {
    let_them_sleep(); // the waiter thread, before the selector does
    thread::scope(|scope| {
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        scope.spawn(move || assert_eq!(selector.wait(&mut [source]), Ok(0)));
        let_them_sleep();
        act();
    });
}

/// One wake-up is for one sleeper, and the waiter thread was there first.
#[test]
fn selector_of_endpoints_whose_readiness_is_armed_is_woken() {
    let _sandbox = test_dir();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    let _readiness = (tx.readiness().unwrap(), rx.readiness().unwrap());
    let (mut byte_tx, mut byte_rx) = pipe::Options::bytes().capacity_bytes(64).create().unwrap();
    let _of_bytes = (byte_tx.readiness().unwrap(), byte_rx.readiness().unwrap());
    let (mut queue_tx, mut queue_rx) = queue::Options::<u64>::new().capacity(1).create_channel().unwrap();
    let _of_queue = (queue_tx.readiness().unwrap(), queue_rx.readiness().unwrap());
    let options = broadcast::Options::<u64>::new().capacity(1).policy(Policy::Lossless);
    let (mut publisher, mut subscriber) = options.create().unwrap();
    let _of_broadcast = (publisher.readiness().unwrap(), subscriber.readiness().unwrap());
    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    let _of_requests = (caller.readiness().unwrap(), responder.readiness().unwrap());
    let (bytes, mut buffer) = ([7; 40], Vec::new());
    for number in 0..3 {
        // The last try of each loop arms.
        while rx.try_recv().is_ok() {}
        wait_beside_armed_readiness(&mut rx, || tx.send(number).unwrap());
        while tx.try_send(number).is_ok() {}
        wait_beside_armed_readiness(&mut tx, || assert_eq!(rx.try_recv(), Ok(number)));

        while byte_rx.try_recv(&mut buffer).is_ok() {}
        wait_beside_armed_readiness(&mut byte_rx, || byte_tx.send(bytes).unwrap());
        while byte_tx.try_send(bytes).is_ok() {}
        wait_beside_armed_readiness(&mut byte_tx, || assert_eq!(byte_rx.try_recv(&mut buffer), Ok(40)));

        while queue_rx.try_recv().is_ok() {}
        wait_beside_armed_readiness(&mut queue_rx, || queue_tx.send(number).unwrap());
        while queue_tx.try_send(number).is_ok() {}
        wait_beside_armed_readiness(&mut queue_tx, || assert_eq!(queue_rx.try_recv(), Ok(number)));

        while subscriber.try_recv().is_ok() {}
        wait_beside_armed_readiness(&mut subscriber, || publisher.publish(number).unwrap());
        while publisher.try_publish(number).is_ok() {}
        wait_beside_armed_readiness(&mut publisher, || assert_eq!(subscriber.try_recv(), Ok(number)));

        assert!(matches!(responder.try_recv(), Err(RecvError::Empty)));
        wait_beside_armed_readiness(&mut responder, || caller.start(number).unwrap());
        assert_eq!(caller.try_finish(), Err(CallError::NotReady));
        let request = responder.try_recv().unwrap();
        wait_beside_armed_readiness(&mut caller, || request.reply(number).unwrap());
        assert_eq!(caller.try_finish(), Ok(number));
    }
}

/// Two requests at a time, and a pipe beside them.
#[test]
fn selector_of_callers_is_woken_by_each_reply() {
    let _sandbox = test_dir();
    let options = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park);
    let (caller, responder) = options.create().unwrap();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(1).wait(WaitStrategy::Park).create().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut responder = responder.try_clone().unwrap();
            scope.spawn(move || assert_eq!(responder.serve(|number| number + 1), Ok(())));
        }
        drop(responder);
        scope.spawn(move || (0..ROUNDS).for_each(|number| tx.send(number).unwrap()));
        let (mut first, mut second) = (caller.try_clone().unwrap(), caller);
        let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
        let (mut replies, mut received) = ([0; 2], 0);
        first.start(0).unwrap();
        second.start(0).unwrap();
        while replies != [ROUNDS; 2] || received < ROUNDS {
            let found = selector.wait(&mut [&mut first, &mut second, &mut rx]).unwrap();
            let caller = match found {
                0 => &mut first,
                1 => &mut second,
                _ if received == ROUNDS => {
                    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
                    continue;
                }
                _ => {
                    assert_eq!(rx.try_recv(), Ok(received));
                    received += 1;
                    continue;
                }
            };
            assert_eq!(caller.try_finish(), Ok(replies[found] + 1));
            replies[found] += 1;
            if replies[found] < ROUNDS {
                caller.start(replies[found]).unwrap();
            }
        }
    });
}

// ---- queues ----------------------------------------------------------------------------------------------------------

/// Sends messages from some senders to some receivers; all of them are told the end.
fn crowd(senders: u64, receivers: u64, capacity: usize, batch: usize) {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(capacity).max_participants(16).wait(WaitStrategy::Park);
    let (tx, rx) = options.create_channel().unwrap();
    let received: u64 = thread::scope(|scope| {
        for _ in 0..senders {
            let mut tx = tx.try_clone().unwrap();
            scope.spawn(move || {
                let values = vec![1; batch];
                let mut left = ROUNDS as usize;
                while left > 0 {
                    left -= tx.send_many(&values[..batch.min(left)]).unwrap();
                }
            });
        }
        drop(tx);
        let receivers: Vec<_> = (0..receivers)
            .map(|_| {
                let mut rx = rx.try_clone().unwrap();
                scope.spawn(move || {
                    let (mut sum, mut values) = (0, vec![0; batch]);
                    loop {
                        match rx.recv_many(&mut values) {
                            Ok(count) => sum += values[..count].iter().sum::<u64>(),
                            Err(error) => {
                                assert_eq!(error, RecvError::Closed);
                                return sum;
                            }
                        }
                    }
                })
            })
            .collect();
        drop(rx);
        receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum()
    });
    assert_eq!(received, senders * ROUNDS);
}

#[test]
fn queue_message_sent_wakes_one_receiver() {
    crowd(1, 4, 64, 1);
}

#[test]
fn queue_slot_freed_wakes_one_sender() {
    crowd(4, 1, 2, 1);
}

#[test]
fn queue_senders_and_receivers_wake_each_other() {
    crowd(3, 3, 2, 1);
}

#[test]
fn queue_batch_wakes_as_many_as_it_serves() {
    crowd(3, 3, 8, 5);
}

/// What is freed may be a block or an extent, of use to different senders.
#[test]
fn queue_pool_space_freed_wakes_all_waiting_senders() {
    let _sandbox = test_dir();
    let options = queue::Options::bytes()
        .capacity(16)
        .inline_bytes(8)
        .blocks(queue::Blocks { count: 1, bytes: 64 })
        .extents(1)
        .max_message_bytes(500)
        .max_participants(16)
        .wait(WaitStrategy::Park);
    let (tx, mut rx) = options.create_channel().unwrap();
    let rounds = ROUNDS / 10;
    thread::scope(|scope| {
        for sender in 0..4 {
            let mut tx = tx.try_clone().unwrap();
            // Two messages fit into the block, two do not.
            let bytes = message(sender, if sender % 2 == 0 { 40 } else { 400 });
            scope.spawn(move || (0..rounds).for_each(|_| tx.send(&bytes).unwrap()));
        }
        drop(tx);
        assert_eq!(rx.iter().count() as u64, 4 * rounds);
    });
}

/// The first waiter cannot use a block, the second can.
#[test]
fn queue_block_freed_wakes_sender_that_can_use_it() {
    let _sandbox = test_dir();
    let options = queue::Options::bytes()
        .capacity(16)
        .inline_bytes(8)
        .blocks(queue::Blocks { count: 1, bytes: 64 })
        .extents(1)
        .max_message_bytes(500)
        .max_participants(16)
        .wait(WaitStrategy::Park);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    tx.send([1; 40]).unwrap();
    tx.send([2; 400]).unwrap();
    thread::scope(|scope| {
        let send = |bytes: Vec<u8>| {
            let mut tx = tx.try_clone().unwrap();
            scope.spawn(move || tx.send(&bytes).map(|()| tx))
        };
        let long = send(vec![3; 400]);
        let_them_sleep();
        let short = send(vec![4; 40]);
        let_them_sleep();
        let mut message = Vec::new();
        rx.recv(&mut message).unwrap();
        let first = short.join().unwrap().unwrap();
        rx.recv(&mut message).unwrap();
        let second = long.join().unwrap().unwrap();
        drop((first, second));
    });
}

#[test]
fn queue_frame_dropped_wakes_waiting_sender() {
    let _sandbox = test_dir();
    let options = queue::Options::bytes().blocks(queue::Blocks { count: 1, bytes: 4096 }).max_message_bytes(4096);
    let (tx, rx) = options.capacity(4).wait(WaitStrategy::Park).create_channel().unwrap();
    // SAFETY: both ends are ours.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    let rounds = ROUNDS / 10;
    thread::scope(|scope| {
        scope.spawn(move || (0..rounds).for_each(|_| tx.loan(4096).unwrap().send().unwrap()));
        // Received before it sleeps, and dropped when it does.
        while let Ok(frame) = rx.recv_frame() {
            thread::yield_now();
            drop(frame);
        }
    });
}

#[test]
fn queue_last_task_done_wakes_join() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(4).max_participants(8).wait(WaitStrategy::Park);
    let (mut tx, rx) = options.create_channel().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut rx = rx.try_clone().unwrap();
            scope.spawn(move || {
                while rx.recv().is_ok() {
                    rx.task_done().unwrap();
                }
            });
        }
        drop(rx);
        for _ in 0..200 {
            for number in 0..3 {
                tx.send(number).unwrap();
            }
            tx.join().unwrap();
            assert_eq!(tx.len(), 0);
        }
        drop(tx);
    });
}

/// A queue of values that redelivers, with three blocks.
fn redelivering(times: u8) -> (queue::Sender<u64>, queue::Receiver<u64>) {
    let options = queue::Options::<u64>::new().capacity(2).unfinished(1).max_participants(8).wait(WaitStrategy::Park);
    options.on_death(queue::OnDeath::Redeliver { times }).create_channel().unwrap()
}

/// Long enough to fall asleep, mostly.
const NAP: Duration = Duration::from_millis(2);

#[test]
fn redelivery_finished_wakes_sender_and_join() {
    let _sandbox = test_dir();
    let (mut tx, mut rx) = redelivering(3);
    let mut joiner = tx.try_clone().unwrap();
    for _ in 0..20 {
        for number in 0..3 {
            tx.send(number).unwrap();
            assert_eq!(rx.recv(), Ok(number));
        }
        thread::scope(|scope| {
            let sending = scope.spawn(|| tx.send(3));
            thread::sleep(NAP);
            rx.task_done().unwrap();
            sending.join().unwrap().unwrap(); // every block was taken
            assert_eq!(rx.recv(), Ok(3));
            let joining = scope.spawn(|| joiner.join());
            thread::sleep(NAP);
            (0..3).for_each(|_| rx.task_done().unwrap());
            joining.join().unwrap().unwrap();
        });
    }
}

#[test]
fn redelivery_given_back_wakes_receiver_and_join() {
    let _sandbox = test_dir();
    let (mut tx, mut rx) = redelivering(1);
    for number in 0..20 {
        let mut other = rx.try_clone().unwrap();
        tx.send(number).unwrap();
        let task = rx.recv_task().unwrap();
        thread::scope(|scope| {
            let receiving = scope.spawn(move || {
                assert_eq!((other.recv(), other.deliveries()), (Ok(number), 2));
                other
            });
            thread::sleep(NAP);
            task.give_back();
            let other = receiving.join().unwrap();
            let joining = scope.spawn(|| tx.join());
            thread::sleep(NAP);
            drop(other); // it was its last delivery
            assert_eq!(joining.join().unwrap(), Err(queue::JoinError::DeadLetters { count: 1 }));
        });
        let letter = tx.dead_letters().unwrap().next().unwrap().unwrap();
        if number % 2 == 0 {
            assert_eq!(letter.remove(), Some(number));
            continue;
        }
        thread::scope(|scope| {
            let receiving = scope.spawn(|| rx.recv());
            thread::sleep(NAP);
            assert!(letter.redrive());
            assert_eq!(receiving.join().unwrap(), Ok(number));
        });
        rx.task_done().unwrap();
    }
}

/// The last message is done, or becomes a dead letter: nothing can come any more.
#[test]
fn redelivery_last_one_finished_wakes_receivers_that_wait_for_the_end() {
    let _sandbox = test_dir();
    for number in 0..20 {
        let (mut tx, mut rx) = redelivering(0);
        let mut others = [rx.try_clone().unwrap(), rx.try_clone().unwrap()];
        tx.send(number).unwrap();
        let task = rx.recv_task().unwrap();
        drop(tx);
        thread::scope(|scope| {
            let receiving = others.each_mut().map(|other| scope.spawn(|| other.recv()));
            thread::sleep(NAP);
            if number % 2 == 0 {
                assert_eq!(task.done(), Ok(number));
            } else {
                task.give_back();
            }
            for receiving in receiving {
                assert_eq!(receiving.join().unwrap(), Err(RecvError::Closed));
            }
        });
    }
}

#[test]
fn queue_closed_wakes_everyone() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(2).max_participants(8).wait(WaitStrategy::Park);
    for is_full in [false, true] {
        let (mut tx, rx) = options.create_channel().unwrap();
        if is_full {
            while tx.try_send(0).is_ok() {}
        }
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let (mut tx, mut rx) = (tx.try_clone().unwrap(), rx.try_clone().unwrap());
                    scope.spawn(move || match is_full {
                        true => assert_eq!(tx.send(1), Err(SendError::Closed)),
                        false => assert_eq!(rx.recv(), Err(RecvError::Closed)),
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(5));
            rx.close().unwrap();
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
    }
}

/// Each of them takes only one message, so each has to be woken.
#[test]
fn queue_batch_sent_wakes_one_receiver_per_message() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(8).max_participants(8).wait(WaitStrategy::Park);
    let (mut tx, rx) = options.create_channel().unwrap();
    thread::scope(|scope| {
        // The handles stay: a receiver that leaves with an unfinished task wakes everyone.
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let mut rx = rx.try_clone().unwrap();
                scope.spawn(move || (rx.recv(), rx))
            })
            .collect();
        let_them_sleep();
        assert_eq!(tx.send_many(&[1, 2, 3, 4]), Ok(4));
        let received: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect();
        assert!(received.iter().all(|(result, _)| result.is_ok()));
    });
    drop(rx);
}

#[test]
fn queue_peer_joins_wakes_wait_for_peer() {
    let test_dir = test_dir();
    let options = queue::Options::<u64>::new().wait(WaitStrategy::Park).directory(test_dir.names());
    let (mut tx, mut rx) = (options.sender("tx").unwrap(), options.receiver("rx").unwrap());
    for _ in 0..3 {
        thread::scope(|scope| {
            let sender = scope.spawn(|| tx.wait_for_peer(Duration::MAX).unwrap());
            let receiver = scope.spawn(|| rx.wait_for_peer(Duration::MAX).unwrap());
            let_them_sleep();
            let _peers = (options.receiver("tx").unwrap(), options.sender("rx").unwrap());
            sender.join().unwrap();
            receiver.join().unwrap();
        });
    }
}

#[test]
fn queue_last_one_leaves_wakes_other_side() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(2).max_participants(8).wait(WaitStrategy::Park);
    let (tx, rx) = options.create_channel().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut rx = rx.try_clone().unwrap();
            scope.spawn(move || assert_eq!(rx.recv(), Err(RecvError::Closed)));
        }
        let_them_sleep();
        drop(tx);
    });
    let (tx, rx) = options.create_channel().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut tx = tx.try_clone().unwrap();
            scope.spawn(move || assert_eq!((0..9).find_map(|number| tx.send(number).err()), Some(SendError::Closed)));
        }
        let_them_sleep();
        drop(rx);
    });
}

// ---- broadcasts ------------------------------------------------------------------------------------------------------

#[test]
fn broadcast_message_published_or_read_wakes_everyone() {
    let _sandbox = test_dir();
    for capacity in [2, 16] {
        let options = broadcast::Options::<u64>::new().capacity(capacity).wait(WaitStrategy::Park);
        let (mut publisher, subscriber) = options.create().unwrap();
        let subscribers = [publisher.subscriber().unwrap(), publisher.subscriber().unwrap(), subscriber];
        thread::scope(|scope| {
            for mut subscriber in subscribers {
                scope.spawn(move || {
                    assert!(subscriber.iter().map(Result::unwrap).eq(0..ROUNDS));
                    assert_eq!(subscriber.recv(), Err(RecvError::Closed));
                });
            }
            (0..ROUNDS).for_each(|number| publisher.publish(number).unwrap());
            drop(publisher);
        });
    }
}

#[test]
fn broadcast_published_wakes_all_sleepers() {
    let _sandbox = test_dir();
    let options = broadcast::Options::<u64>::new().wait(WaitStrategy::Park);
    let (mut publisher, subscriber) = options.create().unwrap();
    let subscribers = [publisher.subscriber().unwrap(), publisher.subscriber().unwrap(), subscriber];
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        let received = &received;
        let sleep = |mut subscriber: broadcast::Subscriber<u64>| {
            scope.spawn(move || {
                let first = subscriber.recv();
                received.fetch_add(1, Ordering::SeqCst);
                (first, subscriber.recv())
            })
        };
        let sleepers = subscribers.map(sleep);
        let_them_sleep();
        publisher.publish(1).unwrap();
        until(|| received.load(Ordering::SeqCst) == 3);
        let_them_sleep();
        drop(publisher); // its end wakes them all, too
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), (Ok(1), Err(RecvError::Closed)));
        }
    });
}

#[test]
fn broadcast_subscriber_leaves_rejoins_or_is_evicted_wakes_publisher() {
    let test_dir = test_dir();
    let options = broadcast::Options::<u64>::new().capacity(2).max_subscribers(1).wait(WaitStrategy::Park);
    let options = options.directory(test_dir.names());
    type Act = fn(broadcast::Subscriber<u64>, &Path, &broadcast::Options<u64>);
    let acts: [Act; 4] = [
        |subscriber, _, _| drop(subscriber),
        |mut subscriber, _, _| _ = subscriber.rejoin().unwrap(),
        |subscriber, names, _| {
            subscriber.abandon().unwrap();
            let_them_sleep();
            assert_eq!(Directory::at(names).repair(NAME).unwrap(), 1);
        },
        // Another one takes the place of a dead one.
        |subscriber, _, options| {
            subscriber.abandon().unwrap();
            let_them_sleep();
            std::mem::forget(options.subscriber(NAME).unwrap());
        },
    ];
    for act in acts {
        let (mut publisher, subscriber) = (options.publisher(NAME).unwrap(), options.subscriber(NAME).unwrap());
        assert_eq!(publisher.try_publish_many(&[1, 2]), Ok(2));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| publisher.publish(3));
            let_them_sleep();
            act(subscriber, &test_dir.names(), &options);
            assert_eq!(sleeper.join().unwrap(), Ok(()));
        });
        Directory::at(test_dir.names()).unlink(NAME, true).unwrap();
    }
}

#[test]
fn broadcast_subscriber_joins_wakes_publisher_that_waits_for_one() {
    let test_dir = test_dir();
    let options = broadcast::Options::<u64>::new().wait(WaitStrategy::Park).directory(test_dir.names());
    let mut publisher = options.publisher(NAME).unwrap();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| publisher.wait_for_subscribers(1, Duration::from_secs(1 << 20)));
        let_them_sleep();
        let _subscriber = options.subscriber(NAME).unwrap();
        assert_eq!(sleeper.join().unwrap(), Ok(()));
    });
}

// ---- requests --------------------------------------------------------------------------------------------------------

#[test]
fn rpc_request_and_reply_wake_each_other() {
    let _sandbox = test_dir();
    for (callers, responders) in [(1, 1), (3, 2)] {
        let options = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park);
        let (caller, responder) = options.create().unwrap();
        thread::scope(|scope| {
            for _ in 0..responders {
                let mut responder = responder.try_clone().unwrap();
                scope.spawn(move || assert_eq!(responder.serve(|number| number + 1), Ok(())));
            }
            for _ in 0..callers {
                let mut caller = caller.try_clone().unwrap();
                scope.spawn(move || (0..ROUNDS).for_each(|number| assert_eq!(caller.call(number), Ok(number + 1))));
            }
            // Each end wakes the others.
            drop((caller, responder));
        });
    }
}

#[test]
fn rpc_responder_leaves_wakes_its_caller() {
    let _sandbox = test_dir();
    let options = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park);
    let (mut caller, mut responder) = options.create().unwrap();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| (caller.call(1), caller.call(2)));
        let_them_sleep();
        drop(responder.recv().unwrap());
        let_them_sleep();
        drop(responder);
        assert_eq!(sleeper.join().unwrap(), (Err(CallError::Dropped), Err(CallError::Closed)));
    });
}

/// The caller sleeps when the process that has its request is killed. The next responder in that
/// place, or the repair of another process, wakes it.
#[test]
fn rpc_responder_killed_and_replaced_or_repaired_wakes_its_caller() {
    for is_replaced in [false, true] {
        let test_dir = test_dir();
        let options = rpc::Options::<u64, u64>::new().max_responders(1).wait(WaitStrategy::Park);
        let options = options.directory(test_dir.names());
        let mut caller = options.caller(NAME).unwrap();
        let responder = enter(&test_dir, "take_a_request", &[]);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| caller.call(1));
            until(|| counters(&test_dir).word(0).load(Ordering::SeqCst) == 1);
            let_them_sleep();
            responder.kill();
            let next = is_replaced.then(|| options.responder(NAME).unwrap());
            if !is_replaced {
                assert_eq!(Directory::at(test_dir.names()).repair(NAME).unwrap(), 1);
            }
            assert_eq!(sleeper.join().unwrap(), Err(CallError::ResponderDied));
            drop(next);
        });
    }
}

pub fn take_a_request(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let options = rpc::Options::<u64, u64>::new().max_responders(1).wait(WaitStrategy::Park);
    let mut responder = options.directory(names).responder(NAME).unwrap();
    let _request = responder.recv().unwrap();
    counters.word(0).store(1, Ordering::SeqCst);
    loop {
        thread::park();
    }
}

#[test]
fn rpc_peer_joins_wakes_those_that_wait_for_one() {
    let test_dir = test_dir();
    let options = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park).directory(test_dir.names());
    let caller = options.caller(NAME).unwrap();
    let sleeper = thread::spawn(move || caller.wait_for_responder(Duration::MAX));
    let_them_sleep();
    let responder = options.responder(NAME).unwrap();
    assert_eq!(sleeper.join().unwrap(), Ok(()));
    let sleeper = thread::spawn(move || responder.wait_for_caller(Duration::MAX));
    let_them_sleep();
    let _caller = options.caller(NAME).unwrap();
    assert_eq!(sleeper.join().unwrap(), Ok(()));
}

// ---- objects ---------------------------------------------------------------------------------------------------------

fn plan(names: &Path) -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", [0_u64; 2])
        .reentrant_mutex("re-entrant", 0_u64)
        .rw_lock("rw", [0_u64; 2])
        .value("value", [0_u64; 2])
        .value("turn", 0_u64)
        .semaphore("semaphore", 2)
        .bounded_semaphore("bounded", 2)
        .bounded_semaphore("single", 1)
        .mutex("gate", 0_u64)
        .condvar("condition")
        .event("event")
        .once("once")
        .barrier("barrier", 3)
        .barrier("trio", 3)
        .rw_lock("reading", 0_u64)
        .max_participants(8)
        .wait(WaitStrategy::Park)
        .directory(names)
}

/// Locks, permits and stores at random.
fn work(namespace: &Namespace, seed: u64, rounds: u64) {
    let mut random = Random(seed * 2 + 1);
    let mutex = namespace.mutex::<[u64; 2]>("mutex").unwrap();
    let reentrant = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
    let rw = namespace.rw_lock::<[u64; 2]>("rw").unwrap();
    let value = namespace.value::<[u64; 2]>("value").unwrap();
    let semaphore = namespace.semaphore("semaphore").unwrap();
    let bounded = namespace.bounded_semaphore("bounded").unwrap();
    for _ in 0..rounds {
        let count = 1 + random.below(2) as u32;
        match random.below(7) {
            0 => {
                let mut guard = mutex.lock().unwrap();
                *guard = [guard[0] + 1; 2];
                thread::yield_now();
            }
            1 => {
                let guard = reentrant.lock().unwrap();
                let again = reentrant.lock().unwrap();
                again.set(&(guard.get().unwrap() + 1)).unwrap();
            }
            2 => {
                let guard = rw.read().unwrap();
                assert_eq!(guard[0], guard[1]);
                thread::yield_now();
            }
            3 => {
                let mut guard = rw.write().unwrap();
                *guard = [guard[0] + 1; 2];
                thread::yield_now();
            }
            4 => _ = value.update(|pair| *pair = [pair[0] + 1; 2]).unwrap(),
            5 => {
                semaphore.acquire_many(count).unwrap().forget();
                thread::yield_now();
                semaphore.release(count).unwrap();
            }
            _ => {
                bounded.acquire_many(count).unwrap().forget();
                thread::yield_now();
                bounded.release(count).unwrap();
            }
        }
    }
}

fn work_on_objects(arguments: &[String]) {
    let (names, _board) = from_arguments(arguments);
    let namespace = plan(&names).open(NAME).unwrap();
    let seed: u64 = arguments[2].parse().unwrap();
    thread::scope(|scope| {
        let namespace = &namespace;
        (0..2).for_each(|thread| _ = scope.spawn(move || work(namespace, seed + thread, 400)));
    });
}

#[test]
fn lock_or_permit_released_wakes_waiters() {
    let test_dir = test_dir();
    let namespace = plan(&test_dir.names()).open(NAME).unwrap();
    let others: Vec<_> = ["10", "20"].iter().map(|seed| enter(&test_dir, "work_on_objects", &[seed])).collect();
    work(&namespace, 30, 400);
    others.into_iter().for_each(Process::finish);
}

/// Nobody else would take a permit before the one that waits for two.
#[test]
fn semaphore_permit_released_wakes_waiter_for_several() {
    let test_dir = test_dir();
    let namespace = plan(&test_dir.names()).open(NAME).unwrap();
    let (semaphore, bounded) =
        (namespace.semaphore("semaphore").unwrap(), namespace.bounded_semaphore("bounded").unwrap());
    for _ in 0..100 {
        semaphore.acquire_many(2).unwrap().forget();
        bounded.acquire_many(2).unwrap().forget();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                semaphore.acquire_many(2).unwrap().forget();
                bounded.acquire_many(2).unwrap().forget();
            });
            for _ in 0..2 {
                thread::sleep(Duration::from_micros(300));
                semaphore.release(1).unwrap();
            }
            for _ in 0..2 {
                thread::sleep(Duration::from_micros(300));
                bounded.release(1).unwrap();
            }
            waiting.join().unwrap();
        });
        semaphore.release(2).unwrap();
        bounded.release(2).unwrap();
    }
}

fn permits(names: &Path) -> tombolo::sync::Semaphore {
    Namespace::builder().semaphore("permits", 0).directory(names).open(NAME).unwrap().semaphore("permits").unwrap()
}

/// Waits so long that newcomers are to let it go first.
fn ask_to_go_first(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let permits = permits(&names);
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(permits.acquire_async());
    assert!(future.as_mut().poll(&mut context).is_pending());
    thread::sleep(Duration::from_millis(3));
    assert!(future.as_mut().poll(&mut context).is_pending());
    stay(&counters);
}

/// What asked newcomers to let waiters go first was killed. So the selector's caller gets no permit
/// although the wake-up went to the selector.
#[test]
fn selector_finds_a_permit_that_is_left_to_waiters_one_is_woken() {
    let test_dir = test_dir();
    let permits = permits(&test_dir.names());
    let counters = counters(&test_dir);
    for round in 1..=10 {
        let first = enter(&test_dir, "ask_to_go_first", &[]);
        until(|| counters.word(0).load(Ordering::SeqCst) == round);
        first.kill();
        let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        let mut source = permits.clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                // From here on, for 20 ms, the next attempt of this process makes no check.
                assert_eq!(source.try_acquire().unwrap_err(), SyncError::WouldBlock);
                let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
                if selector.wait(&mut [&mut rx, &mut source]) == Ok(1) {
                    drop(source.try_acquire());
                }
            });
            thread::sleep(Duration::from_millis(5)); // it sleeps first, so the kernel wakes it first
            let waiter = scope.spawn(|| permits.acquire().unwrap().forget());
            thread::sleep(Duration::from_millis(5));
            permits.release(1).unwrap();
            waiter.join().unwrap();
            tx.send(1).unwrap();
        });
    }
}

#[test]
fn value_stored_wakes_all_waiters() {
    let test_dir = test_dir();
    let namespace = plan(&test_dir.names()).open(NAME).unwrap();
    let turn = namespace.value::<u64>("turn").unwrap();
    thread::scope(|scope| {
        for own in 1..3 {
            let turn = namespace.value::<u64>("turn").unwrap();
            scope.spawn(move || {
                let mut now = turn.load().unwrap();
                while now < 600 {
                    if now % 3 == own {
                        turn.store(&(now + 1)).unwrap();
                        now += 1;
                    } else {
                        now = turn.wait_for_change(Duration::MAX).unwrap();
                    }
                }
            });
        }
        let mut now = turn.load().unwrap();
        while now < 600 {
            if now.is_multiple_of(3) {
                turn.store(&(now + 1)).unwrap();
                now += 1;
            } else {
                now = turn.wait_for_change(Duration::MAX).unwrap();
            }
        }
    });
}

#[test]
fn condvar_event_and_once_wake_waiters() {
    let test_dir = test_dir();
    let namespace = plan(&test_dir.names()).open(NAME).unwrap();
    let (gate, condition) = (namespace.mutex::<u64>("gate").unwrap(), namespace.condvar("condition").unwrap());
    let (event, once) = (namespace.event("event").unwrap(), namespace.once("once").unwrap());
    thread::scope(|scope| {
        for own in 0..3 {
            let (gate, condition, once) = (&gate, &condition, &once);
            let event = &event;
            scope.spawn(move || {
                once.wait().unwrap();
                event.wait().unwrap();
                for round in 0..100 {
                    let turn = 3 * round + own;
                    let mut guard = condition.wait_while(gate.lock().unwrap(), |now| *now != turn).unwrap();
                    *guard += 1;
                    drop(guard);
                    condition.notify_all().unwrap();
                }
            });
        }
        let_them_sleep();
        once.call_once(|| ()).unwrap();
        let_them_sleep();
        event.set().unwrap();
    });
    // One at a time: each notification reaches one consumer.
    *gate.lock().unwrap() = 0;
    thread::scope(|scope| {
        for _ in 0..3 {
            let (gate, condition) = (&gate, &condition);
            scope.spawn(move || {
                for _ in 0..50 {
                    let mut guard = condition.wait_while(gate.lock().unwrap(), |stock| *stock == 0).unwrap();
                    *guard -= 1;
                }
            });
        }
        for _ in 0..150 {
            *gate.lock().unwrap() += 1;
            condition.notify_one().unwrap();
            thread::yield_now();
        }
    });
}

fn meet_at_the_barrier(arguments: &[String]) {
    let (names, _board) = from_arguments(arguments);
    let barrier = plan(&names).open(NAME).unwrap().barrier("barrier").unwrap();
    (0..300).for_each(|_| _ = barrier.wait().unwrap());
}

#[test]
fn barrier_last_arrival_wakes_all() {
    let test_dir = test_dir();
    let barrier = plan(&test_dir.names()).open(NAME).unwrap().barrier("barrier").unwrap();
    let others = [enter(&test_dir, "meet_at_the_barrier", &[]), enter(&test_dir, "meet_at_the_barrier", &[])];
    (0..300).for_each(|_| _ = barrier.wait().unwrap());
    others.into_iter().for_each(Process::finish);
}

// ---- repairs ---------------------------------------------------------------------------------------------------------

/// Long enough that those about to sleep almost certainly do. If they do not, the test shows less,
/// but does not fail.
fn let_them_sleep() {
    thread::sleep(Duration::from_millis(30));
}

fn pooled(names: &Path) -> queue::Options<[u8]> {
    queue::Options::bytes()
        .capacity(2)
        .inline_bytes(8)
        .blocks(queue::Blocks { count: 1, bytes: 64 })
        .max_message_bytes(64) // no longer than a block: there is no other place
        .max_participants(8)
        .wait(WaitStrategy::Park)
        .directory(names)
}

/// Takes a block for a message and sleeps until a slot is free.
fn hold_a_place(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let mut tx = pooled(&names).sender(NAME).unwrap();
    counters.meet(0, 2);
    let _ = tx.send([1; 60]);
}

#[test]
fn queue_repair_frees_pool_space_wakes_sender() {
    let test_dir = test_dir();
    let mut tx = pooled(&test_dir.names()).sender(NAME).unwrap();
    let mut rx = pooled(&test_dir.names()).receiver(NAME).unwrap();
    while tx.try_send([0; 4]).is_ok() {}
    let victim = enter(&test_dir, "hold_a_place", &[]);
    counters(&test_dir).meet(0, 2);
    until(|| rx.stats().pooled == 1);
    thread::scope(|scope| {
        let sender = scope.spawn(|| tx.send([2; 60]));
        let_them_sleep();
        victim.kill();
        drop(pooled(&test_dir.names()).receiver(NAME).unwrap());
        let mut message = Vec::new();
        while message != [2; 60] {
            rx.recv(&mut message).unwrap();
        }
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
}

fn send_nothing(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let _tx = pooled(&names).sender(NAME).unwrap();
    stay(&counters);
}

fn stay(counters: &SharedCounters) -> ! {
    counters.meet(0, 2);
    loop {
        thread::park();
    }
}

#[test]
fn queue_repair_of_last_sender_wakes_all_receivers() {
    let test_dir = test_dir();
    let victim = enter(&test_dir, "send_nothing", &[]);
    counters(&test_dir).meet(0, 2);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let mut rx = pooled(&test_dir.names()).receiver(NAME).unwrap();
                scope.spawn(move || rx.recv(&mut Vec::new()))
            })
            .collect();
        let_them_sleep();
        victim.kill();
        drop(pooled(&test_dir.names()).receiver(NAME).unwrap());
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(RecvError::PeerDied));
        }
    });
}

/// Waits with timeouts that are not endless.
fn hear_of_the_death(arguments: &[String]) {
    let (names, counters) = (PathBuf::from(&arguments[0]), SharedCounters::at(Path::new(&arguments[1])));
    let mut rx = pooled(&names).receiver(NAME).unwrap();
    counters.meet(1, 2);
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    stay(&counters);
}

/// A process that waits checks for deaths and repairs, and stays. The others learn from it that
/// something has changed.
#[test]
fn queue_repair_by_waiter_wakes_others() {
    let test_dir = test_dir();
    let victim = enter(&test_dir, "send_nothing", &[]);
    counters(&test_dir).meet(0, 2);
    let mut rx = pooled(&test_dir.names()).receiver(NAME).unwrap();
    let _asker = enter(&test_dir, "hear_of_the_death", &[]);
    counters(&test_dir).meet(1, 2);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| rx.recv(&mut Vec::new()));
        let_them_sleep();
        victim.kill();
        assert_eq!(receiver.join().unwrap(), Err(RecvError::PeerDied));
    });
}

fn send_nothing_through_a_pipe(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let _tx = pipe::Options::<u64>::new().directory(names).sender(NAME).unwrap();
    stay(&counters);
}

/// The reader learns of the killed sender through its successor.
#[test]
fn pipe_successor_joins_wakes_reader() {
    let test_dir = test_dir();
    let options = pipe::Options::<u64>::new().wait(WaitStrategy::Park).directory(test_dir.names());
    let mut rx = options.receiver(NAME).unwrap();
    let victim = enter(&test_dir, "send_nothing_through_a_pipe", &[]);
    counters(&test_dir).meet(0, 2);
    thread::scope(|scope| {
        let reader = scope.spawn(move || rx.recv());
        let_them_sleep();
        victim.kill();
        let _tx = options.sender(NAME).unwrap();
        assert_eq!(reader.join().unwrap(), Err(RecvError::PeerDied));
    });
}

fn join_and_leave(arguments: &[String]) {
    let (names, _board) = from_arguments(arguments);
    drop(plan(&names).open(NAME).unwrap());
}

fn hold_the_objects(arguments: &[String]) {
    let (names, counters) = from_arguments(arguments);
    let namespace = plan(&names).open(NAME).unwrap();
    let mutex = namespace.mutex::<[u64; 2]>("mutex").unwrap();
    let (writing, reading) = (namespace.rw_lock::<[u64; 2]>("rw").unwrap(), namespace.rw_lock("reading").unwrap());
    let _guards = (mutex.lock().unwrap(), writing.write().unwrap());
    let _reads = tombolo::sync::RwLock::<u64>::read(&reading).unwrap();
    namespace.bounded_semaphore("bounded").unwrap().acquire_many(2).unwrap().forget();
    namespace.bounded_semaphore("single").unwrap().acquire().unwrap().forget();
    thread::scope(|scope| {
        scope.spawn(|| namespace.barrier("trio").unwrap().wait());
        stay(&counters);
    });
}

/// A sleeper for each object that the victim has locked, writes, reads, holds permits of, or has
/// arrived at.
#[test]
fn namespace_repair_of_member_wakes_waiters() {
    let test_dir = test_dir();
    let namespace = plan(&test_dir.names()).open(NAME).unwrap();
    let victim = enter(&test_dir, "hold_the_objects", &[]);
    counters(&test_dir).meet(0, 2);
    thread::scope(|scope| {
        let namespace = &namespace;
        scope.spawn(|| {
            let mutex = namespace.mutex::<[u64; 2]>("mutex").unwrap();
            assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
        });
        scope.spawn(|| {
            let rw = namespace.rw_lock::<[u64; 2]>("rw").unwrap();
            assert!(matches!(rw.write(), Err(LockError::OwnerDied(_))));
        });
        scope.spawn(|| {
            let rw = namespace.rw_lock::<u64>("reading").unwrap();
            drop(rw.write().unwrap());
        });
        scope.spawn(|| namespace.bounded_semaphore("single").unwrap().acquire().unwrap().forget());
        scope.spawn(|| namespace.bounded_semaphore("bounded").unwrap().acquire_many(2).unwrap().forget());
        scope.spawn(|| {
            assert!(matches!(namespace.barrier("trio").unwrap().wait(), Err(SyncError::BarrierBroken { .. })))
        });
        let_them_sleep();
        victim.kill();
        enter(&test_dir, "join_and_leave", &[]).finish();
    });
}

// ---- maps ------------------------------------------------------------------------------------------------------------

/// Each waits for what the other one inserts, replaces or removes.
#[test]
fn map_each_kind_of_change_wakes_those_that_wait() {
    let _sandbox = test_dir();
    let map = Map::new(&map::Options::<u64, u64>::new().max_entries(2)).unwrap().with_wait(WaitStrategy::Park);
    let turn = |own: u64| {
        let other = 1 - own;
        for number in 0..ROUNDS {
            let current = (number > 0).then_some(number);
            if own == 1 {
                assert_eq!(map.wait_for_change(&other, current.as_ref(), Duration::MAX), Ok(Some(number + 1)));
            }
            map.insert(&own, &(number + 1)).unwrap();
            if own == 0 {
                assert_eq!(map.wait_for_change(&other, current.as_ref(), Duration::MAX), Ok(Some(number + 1)));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| turn(0));
        turn(1);
    });
    for clears in [false, true] {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| map.wait_for_change(&0, Some(&ROUNDS), Duration::MAX));
            thread::sleep(Duration::from_millis(20));
            if clears {
                map.clear().unwrap()
            } else {
                _ = map.remove(&0).unwrap()
            }
            assert_eq!(waiting.join().unwrap(), Ok(None));
        });
        map.insert(&0, &ROUNDS).unwrap();
    }
}

#[test]
fn list_each_kind_of_change_wakes_those_that_wait() {
    let _sandbox = test_dir();
    let list = List::new(&list::Options::<u64>::new()).unwrap().with_wait(WaitStrategy::Park);
    list.extend_from_slice(&[0, 0]).unwrap();
    let turn = |own: usize| {
        for number in 0..ROUNDS {
            let next = || assert_eq!(list.wait_for_change(1 - own, Some(&number), Duration::MAX), Ok(Some(number + 1)));
            if own == 1 {
                next();
            }
            list.set(own, &(number + 1)).unwrap();
            if own == 0 {
                next();
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| turn(0));
        turn(1);
    });
    type Change = fn(&List<u64>);
    let changes: [(Change, Option<u64>); 5] = [
        (|list| list.insert(0, &7).unwrap(), Some(7)),
        (|list| assert_eq!(list.remove(0), Ok(7)), Some(ROUNDS)),
        (|list| list.clear().unwrap(), None),
        (|list| list.push(&8).unwrap(), Some(8)),
        (|list| list.update(0, |found| found + 1).unwrap(), Some(9)),
    ];
    let mut current = Some(ROUNDS);
    for (change, next) in changes {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| list.wait_for_change(0, current.as_ref(), Duration::MAX));
            thread::sleep(Duration::from_millis(20));
            change(&list);
            assert_eq!(waiting.join().unwrap(), Ok(next));
        });
        current = next;
    }
}
