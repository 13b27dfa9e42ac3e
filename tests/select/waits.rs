//! How a wait chooses, blocks and ends.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::TestDir;
use tombolo::select::{SelectError, Selector, Source};
use tombolo::{Namespace, RecvError, WaitStrategy, pipe, queue};

const ALL: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::SpinThenPark, WaitStrategy::Park];
const MOMENT: Duration = Duration::from_millis(5);

fn pipes(count: usize) -> (Vec<pipe::Sender<u64>>, Vec<pipe::Receiver<u64>>) {
    (0..count).map(|_| pipe::Options::<u64>::new().capacity(4).create().unwrap()).unzip()
}

fn dyn_sources(receivers: &mut [pipe::Receiver<u64>]) -> Vec<&mut dyn Source> {
    receivers.iter_mut().map(|receiver| receiver as &mut dyn Source).collect()
}

#[test]
fn selector_without_sources_returns_at_once() {
    let mut selector = Selector::new();
    assert_eq!(selector.wait(&mut []), Err(SelectError::NoSources));
    assert_eq!(selector.try_wait(&mut []), Err(SelectError::NoSources));
    assert_eq!(selector.wait_timeout(&mut [], Duration::MAX), Err(SelectError::NoSources));
    assert!(SelectError::NoSources.to_string().contains("at least one"));
}

#[test]
fn selector_nothing_ready_times_out() {
    let _watchdog = TestDir::new();
    let (_senders, mut receivers) = pipes(3);
    for wait in ALL {
        let mut selector = Selector::new().wait_strategy(wait);
        let mut sources = dyn_sources(&mut receivers);
        assert_eq!(selector.try_wait(&mut sources), Err(SelectError::NotReady));
        let begin = Instant::now();
        assert_eq!(selector.wait_timeout(&mut sources, MOMENT), Err(SelectError::TimedOut));
        assert_eq!(selector.wait_deadline(&mut sources, Some(begin)), Err(SelectError::TimedOut));
        assert!(begin.elapsed() >= MOMENT);
    }
}

#[test]
fn selector_blocked_each_strategy_is_woken() {
    let _watchdog = TestDir::new();
    for wait in ALL {
        let (mut senders, mut receivers) = pipes(3);
        let (done, next) = mpsc::channel();
        thread::scope(|scope| {
            let senders = &mut senders;
            scope.spawn(move || {
                for index in [2, 0, 1] {
                    thread::sleep(MOMENT);
                    senders[index].send(index as u64).unwrap();
                    next.recv().unwrap();
                }
                next.recv().unwrap(); // the senders stay until the last one is received
            });
            let mut selector = Selector::new().wait_strategy(wait);
            for expected in [2, 0, 1] {
                let found = selector.wait(&mut dyn_sources(&mut receivers)).unwrap();
                assert_eq!((found, receivers[found].try_recv()), (expected, Ok(expected as u64)));
                done.send(()).unwrap();
            }
            done.send(()).unwrap();
        });
    }
}

#[test]
fn selector_fair_each_ready_source_has_its_turn() {
    let (mut senders, mut receivers) = pipes(4);
    senders.iter_mut().for_each(|sender| sender.send_many(&[1; 4]).map(drop).unwrap());
    let mut selector = Selector::new();
    let found: Vec<_> = (0..8).map(|_| selector.wait(&mut dyn_sources(&mut receivers)).unwrap()).collect();
    assert_eq!(found, [0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn selector_in_order_prefers_earlier_sources() {
    let (mut senders, mut receivers) = pipes(3);
    senders[1].send(1).unwrap();
    senders[2].send(2).unwrap();
    let mut selector = Selector::in_order();
    for expected in [1, 2] {
        for _ in 0..3 {
            assert_eq!(selector.wait(&mut dyn_sources(&mut receivers)), Ok(expected));
        }
        receivers[expected].try_recv().unwrap();
    }
    assert_eq!(selector.try_wait(&mut dyn_sources(&mut receivers)), Err(SelectError::NotReady));
}

/// A source that is ready only by a full attempt must not starve behind one that is always ready.
#[test]
fn selector_busy_source_end_of_another_is_returned() {
    let (mut senders, mut receivers) = pipes(5);
    senders.remove(3);
    senders[0].send(1).unwrap();
    let mut selector = Selector::new();
    let found = (0..20).find(|_| selector.wait(&mut dyn_sources(&mut receivers)) == Ok(3));
    assert!(found.is_some());
    assert_eq!(receivers[3].try_recv(), Err(RecvError::Closed));
}

#[test]
fn selector_two_handles_of_one_source_both_work() {
    let _watchdog = TestDir::new();
    let (mut tx, mut one) = queue::Options::<u64>::new().create_channel().unwrap();
    let mut two = one.try_clone().unwrap();
    let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..100 {
                tx.send(number).unwrap();
                if number % 10 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        for number in 0..100 {
            let received = match selector.wait(&mut [&mut one, &mut two]).unwrap() {
                0 => one.try_recv(),
                _ => two.try_recv(),
            };
            assert_eq!(received, Ok(number));
        }
    });
}

/// More sources than the kernel can sleep on at once.
#[test]
fn selector_of_many_sources_finds_each() {
    let _watchdog = TestDir::new();
    let (mut senders, mut receivers) = pipes(200);
    thread::scope(|scope| {
        scope.spawn(|| {
            for (number, sender) in senders.iter_mut().enumerate().rev() {
                if number % 50 == 0 {
                    thread::sleep(Duration::from_millis(3));
                }
                sender.send(number as u64).unwrap();
            }
        });
        let mut selector = Selector::new();
        let mut found: Vec<_> = (0..200)
            .map(|_| {
                let found = selector.wait(&mut dyn_sources(&mut receivers)).unwrap();
                assert_eq!(receivers[found].try_recv(), Ok(found as u64));
                found
            })
            .collect();
        found.sort();
        assert!(found.into_iter().eq(0..200));
    });
}

#[test]
fn selector_of_4096_sources_finds_each_and_their_end() {
    let _watchdog = TestDir::new();
    let builder = (0..4096).fold(Namespace::builder(), |builder, number| builder.event(&number.to_string()));
    let namespace = builder.create().unwrap();
    let mut events: Vec<_> = (0..4096).map(|number| namespace.event(&number.to_string()).unwrap()).collect();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut wait = |selector: &mut Selector| {
        let mut sources: Vec<&mut dyn Source> = events.iter_mut().map(|event| event as &mut dyn Source).collect();
        sources.push(&mut rx);
        selector.wait(&mut sources)
    };
    let mut selector = Selector::new();
    thread::scope(|scope| {
        for chosen in [0, 126, 127, 4095, 2000] {
            let event = namespace.event(&chosen.to_string()).unwrap();
            scope.spawn({
                let event = event.clone();
                move || {
                    thread::sleep(Duration::from_millis(3));
                    event.set().unwrap();
                }
            });
            assert_eq!(wait(&mut selector), Ok(chosen));
            event.clear().unwrap();
        }
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(3));
            drop(tx);
        });
        assert_eq!(wait(&mut selector), Ok(4096));
    });
    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
}

#[test]
fn selector_list_changes_between_waits_still_finds() {
    let (mut senders, mut receivers) = pipes(6);
    let mut selector = Selector::new();
    senders[5].send(1).unwrap();
    assert_eq!(selector.wait(&mut dyn_sources(&mut receivers)), Ok(5));
    receivers[5].try_recv().unwrap();
    senders[1].send(1).unwrap();
    assert_eq!(selector.wait(&mut dyn_sources(&mut receivers[..2])), Ok(1));
    assert_eq!(selector.wait(&mut dyn_sources(&mut receivers[1..2])), Ok(0));
}
