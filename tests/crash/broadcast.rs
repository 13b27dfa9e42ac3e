//! The crash sweep of broadcasts.

use std::mem::forget;
use std::path::Path;
use std::time::Duration;

use tombolo::broadcast::{Options, Policy, Publisher, Subscriber};
use tombolo::{Directory, Endpoint, OnStale, RecvError, WaitStrategy};

use crate::support;
use crate::sweep::{NAME, sweep};

type Value = [u64; 3];

const CAPACITY: u64 = 4;
const SHORT: Duration = Duration::from_millis(50);

/// Two subscribers, so that the survivor or its successor is one and the victim the other.
fn values(names: &Path) -> Options<Value> {
    Options::new().capacity(CAPACITY as usize).max_subscribers(2).wait(WaitStrategy::Park).directory(names)
}

fn bytes(names: &Path) -> Options<[u8]> {
    Options::bytes().slot_bytes(16).capacity(16).max_message_bytes(100).max_subscribers(2).directory(names)
}

// ---- what survivors and successors do --------------------------------------------------------------------------------

/// What is there. Then how it ended, and whatever `Lagged` counts before.
fn drain(subscriber: &mut Subscriber<Value>) -> (Vec<u64>, u64, RecvError) {
    let (mut received, mut missed) = (Vec::new(), 0);
    loop {
        match subscriber.recv_timeout(SHORT) {
            Ok(value) => {
                assert_eq!(value, [value[0]; 3], "torn");
                received.push(value[0]);
            }
            Err(RecvError::Lagged { missed: more }) => missed += more,
            Err(end) => return (received, missed, end),
        }
    }
}

/// A successor of the dead publisher publishes more than the ring holds, and leaves.
fn succeed_publisher(options: &Options<Value>, mut subscriber: Subscriber<Value>) {
    let mut publisher = options.publisher(NAME).unwrap();
    for number in 100..100 + 3 * CAPACITY {
        publisher.publish([number; 3]).unwrap();
        assert_eq!(subscriber.recv(), Ok([number; 3]));
    }
    drop(publisher);
    assert_eq!(subscriber.recv(), Err(RecvError::Closed));
}

/// A successor of the dead subscriber receives everything from then on, and nobody holds the
/// publisher back.
fn succeed_subscriber(options: &Options<Value>, mut publisher: Publisher<Value>) {
    (0..2 * CAPACITY).for_each(|number| publisher.publish([number; 3]).unwrap());
    let mut successors = [(); 2].map(|()| options.subscriber(NAME));
    let there = successors.iter_mut().filter_map(|successor| successor.as_mut().ok());
    let mut there: Vec<_> = there.collect();
    assert!(!there.is_empty());
    for number in 100..100 + 3 * CAPACITY {
        publisher.publish([number; 3]).unwrap();
        for successor in &mut there {
            assert_eq!(successor.recv(), Ok([number; 3]));
        }
    }
    drop(publisher);
    assert_eq!(there[0].recv(), Err(RecvError::Closed));
}

/// Two processes that know nothing of the crash open the name, and it works.
fn start_over(options: &Options<Value>) {
    let mut subscriber = options.clone().replay(0).subscriber(NAME).unwrap();
    let mut publisher = options.publisher(NAME).unwrap();
    publisher.publish([7; 3]).unwrap();
    drop(publisher);
    let heard: Vec<_> =
        (0..3).map(|_| subscriber.recv()).take_while(|heard| *heard != Err(RecvError::Closed)).collect();
    assert_eq!(heard, [Ok([7; 3])]);
}

fn publisher_with(options: &Options<Value>, numbers: impl IntoIterator<Item = u64>) -> Publisher<Value> {
    let mut publisher = options.publisher(NAME).unwrap();
    numbers.into_iter().for_each(|number| publisher.publish([number; 3]).unwrap());
    publisher
}

// ---- publishing ------------------------------------------------------------------------------------------------------

/// raw/broadcast/mod.rs: begun, the payload, tail.
#[test]
fn publisher_killed_publishing_value_arrives_or_not() {
    for policy in [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 3 }] {
        let options = |names: &Path| values(names).policy(policy);
        let swept = sweep(
            |names| options(names).subscriber(NAME).unwrap(),
            |names| {
                let mut publisher = publisher_with(&options(names), [1]);
                move || {
                    publisher.publish([2; 3]).unwrap();
                    forget(publisher);
                }
            },
            |names, mut subscriber| {
                let (received, missed, end) = drain(&mut subscriber);
                assert!(received == [1] || received == [1, 2], "{received:?}");
                assert_eq!((missed, end), (0, RecvError::PeerDied));
                succeed_publisher(&options(names), subscriber);
            },
        );
        swept.covers(0, 5);
        assert!(swept.calls == 0 || swept.calls == usize::MAX, "a system call, though there was room");
    }
}

/// raw/broadcast/mod.rs: a batch is published as a whole.
#[test]
fn publisher_killed_publishing_batch_all_arrive_or_none() {
    let swept = sweep(
        |names| values(names).subscriber(NAME).unwrap(),
        |names| {
            let mut publisher = publisher_with(&values(names), [1]);
            move || {
                assert_eq!(publisher.publish_many(&[[2; 3], [3; 3], [4; 3]]), Ok(3));
                forget(publisher);
            }
        },
        |names, mut subscriber| {
            let (received, missed, end) = drain(&mut subscriber);
            assert!(received == [1] || received == [1, 2, 3, 4], "{received:?}");
            assert_eq!((missed, end), (0, RecvError::PeerDied));
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(0, 11);
}

/// raw/broadcast/mod.rs: once begun is stored, the oldest message is missed. Its slot is written
/// over again by the successor.
#[test]
fn publisher_killed_overwriting_what_is_lost_is_counted() {
    for batch in [1, 2] {
        let options = |names: &Path| values(names).policy(Policy::Lossy);
        let swept = sweep(
            |names| options(names).subscriber(NAME).unwrap(),
            |names| {
                let mut publisher = publisher_with(&options(names), 1..=CAPACITY);
                let more = [[5; 3], [6; 3]];
                move || {
                    assert_eq!(publisher.publish_many(&more[..batch]), Ok(batch));
                    forget(publisher);
                }
            },
            |names, mut subscriber| {
                let (received, missed, end) = drain(&mut subscriber);
                assert_eq!(end, RecvError::PeerDied);
                assert!(missed == 0 || missed == batch as u64, "{missed} missed");
                let last = received.last().copied().unwrap();
                assert!(last == CAPACITY || last == CAPACITY + batch as u64 && missed > 0);
                assert!(received.iter().copied().eq(1 + missed..=last), "{missed} missed, then {received:?}");
                succeed_publisher(&options(names), subscriber);
            },
        );
        swept.covers(0, 2 + 3 * batch);
    }
}

/// broadcast/slots.rs: the slots of a message are published together.
#[test]
fn publisher_killed_publishing_bytes_message_arrives_whole_or_not() {
    let sent = support::message(1, 70);
    let swept = sweep(
        |names| bytes(names).subscriber(NAME).unwrap(),
        |names| {
            let mut publisher = bytes(names).publisher(NAME).unwrap();
            let sent = sent.clone();
            move || {
                publisher.publish(&sent).unwrap();
                forget(publisher);
            }
        },
        |names, mut subscriber| {
            let received: Vec<_> = subscriber.iter().map_while(Result::ok).collect();
            assert!(received.is_empty() || received == [&sent[..]], "{received:?}");
            let mut message = Vec::new();
            assert_eq!(subscriber.recv(&mut message), Err(RecvError::PeerDied));
            let mut successor = bytes(names).publisher(NAME).unwrap();
            successor.publish(b"successor").unwrap();
            assert_eq!((subscriber.recv(&mut message), &message[..]), (Ok(9), &b"successor"[..]));
        },
    );
    swept.covers(0, 14);
}

// ---- receiving -------------------------------------------------------------------------------------------------------

/// raw/broadcast/cursor.rs: before and after next.
#[test]
fn subscriber_killed_receiving_publisher_goes_on() {
    let swept = sweep(
        |names| publisher_with(&values(names).history(2), [1, 2]),
        |names| {
            let mut subscriber = values(names).subscriber(NAME).unwrap();
            move || {
                assert_eq!([subscriber.recv(), subscriber.recv()], [Ok([1; 3]), Ok([2; 3])]);
                forget(subscriber);
            }
        },
        |names, publisher| {
            let mut next = values(names).subscriber(NAME).unwrap();
            assert_eq!([next.recv(), next.recv()], [Ok([1; 3]), Ok([2; 3])], "it has the history for itself");
            drop(next);
            succeed_subscriber(&values(names).replay(0), publisher);
        },
    );
    swept.covers(0, 2);
}

// ---- joining, taking over --------------------------------------------------------------------------------------------

/// broadcast/membership.rs broadcast-join-1 to -4a.
#[test]
fn publisher_killed_joining_next_one_publishes() {
    let swept = sweep(
        |names| values(names).subscriber(NAME).unwrap(),
        |names| {
            let options = values(names);
            move || forget(options.publisher(NAME).unwrap())
        },
        |names, mut subscriber| {
            let (received, missed, end) = drain(&mut subscriber);
            assert!(received.is_empty() && missed == 0);
            assert!([RecvError::TimedOut, RecvError::PeerDied].contains(&end), "{end}");
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(8, 6);
}

/// The victim takes the place of a publisher that was killed in the middle of a message, and
/// publishes.
#[test]
fn publisher_killed_taking_over_next_one_goes_on_at_the_same_position() {
    let swept = sweep(
        |names| {
            let subscriber = values(names).subscriber(NAME).unwrap();
            publisher_with(&values(names), [1, 2]).abandon().unwrap();
            subscriber
        },
        |names| {
            let options = values(names);
            move || {
                let mut publisher = options.publisher(NAME).unwrap();
                publisher.publish([3; 3]).unwrap();
                forget(publisher);
            }
        },
        |names, mut subscriber| {
            let (received, missed, end) = drain(&mut subscriber);
            assert!(received == [1, 2] || received == [1, 2, 3], "{received:?}");
            assert_eq!((missed, end), (0, RecvError::PeerDied));
            let sent = Directory::at(names).inspect(NAME).unwrap().rings[0].sent;
            assert_eq!(sent, received.len() as u64);
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(8, 10);
}

/// broadcast/membership.rs broadcast-join-4b, -4c.
#[test]
fn subscriber_killed_joining_publisher_goes_on() {
    for publishers in [1, 2] {
        let options = |names: &Path| values(names).max_publishers(publishers);
        let swept = sweep(
            |names| publisher_with(&options(names), 1..=3),
            |names| {
                let options = options(names);
                move || forget(options.subscriber(NAME).unwrap())
            },
            |names, publisher| succeed_subscriber(&options(names), publisher),
        );
        swept.covers(8, 7 + 3 * publishers);
    }
}

/// The place that the victim takes has the active cursor of a dead subscriber, which the publisher
/// waits for.
#[test]
fn subscriber_killed_taking_over_publisher_goes_on() {
    let options = |names: &Path| values(names).max_subscribers(1);
    let swept = sweep(
        |names| {
            let publisher = publisher_with(&options(names), [1, 2]);
            options(names).subscriber(NAME).unwrap().abandon().unwrap();
            publisher
        },
        |names| {
            let options = options(names);
            move || {
                let mut subscriber = options.subscriber(NAME).unwrap();
                assert_eq!(subscriber.try_recv(), Err(RecvError::Empty), "nothing of its predecessor");
                forget(subscriber);
            }
        },
        |names, publisher| succeed_subscriber(&options(names), publisher),
    );
    swept.covers(8, 8);
}

// ---- evicting and rejoining ------------------------------------------------------------------------------------------

/// The victim waits for room, finds its slowest subscriber dead and evicts it.
#[test]
fn publisher_killed_evicting_a_dead_subscriber_next_one_publishes() {
    let swept = sweep(
        |names| {
            let subscriber = values(names).subscriber(NAME).unwrap();
            values(names).subscriber(NAME).unwrap().abandon().unwrap();
            subscriber
        },
        |names| {
            let mut publisher = publisher_with(&values(names), 1..=CAPACITY);
            move || {
                // Still full: the survivor has read nothing, so only the dead one is found.
                let _ = publisher.publish_timeout([5; 3], Duration::from_millis(45));
                forget(publisher);
            }
        },
        |names, mut subscriber| {
            let (received, missed, end) = drain(&mut subscriber);
            assert!(received.iter().copied().eq(1..=CAPACITY), "{received:?}");
            assert_eq!((missed, end), (0, RecvError::PeerDied));
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(2, 0);
}

/// The same without a survivor that is as slow, so that the victim publishes in the end.
#[test]
fn publisher_killed_after_it_evicted_message_arrives_or_not() {
    let swept = sweep(
        |_| (),
        |names| {
            values(names).subscriber(NAME).unwrap().abandon().unwrap();
            let mut publisher = publisher_with(&values(names).history(2), 1..=CAPACITY);
            move || {
                publisher.publish([5; 3]).unwrap();
                forget(publisher);
            }
        },
        |names, ()| {
            let mut subscriber = values(names).subscriber(NAME).unwrap();
            let (received, ..) = drain(&mut subscriber);
            assert!(received.is_empty() || received == [4] || received == [5], "{received:?}");
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(2, 5);
}

/// The victim evicts the survivor, which has read nothing.
#[test]
fn publisher_killed_evicting_a_slow_subscriber_it_is_evicted_or_not() {
    let options = |names: &Path| values(names).policy(Policy::EvictSlow { lag: 3 });
    let swept = sweep(
        |names| options(names).subscriber(NAME).unwrap(),
        |names| {
            let mut publisher = publisher_with(&options(names), 1..=3);
            move || {
                publisher.publish([4; 3]).unwrap();
                forget(publisher);
            }
        },
        |names, mut subscriber| {
            let (received, missed, end) = drain(&mut subscriber);
            assert_eq!(missed, 0);
            match end {
                RecvError::Evicted => {
                    assert!(received.is_empty(), "{received:?}");
                    assert!(matches!(subscriber.rejoin(), Ok(3 | 4)));
                }
                end => assert!(end == RecvError::PeerDied && received == [1, 2, 3], "{end}, {received:?}"),
            }
            succeed_publisher(&options(names), subscriber);
        },
    );
    swept.covers(0, 6);
}

#[test]
fn subscriber_killed_rejoining_publisher_goes_on() {
    let swept = sweep(
        |names| values(names).publisher(NAME).unwrap(),
        |names| {
            let mut subscriber = values(names).subscriber(NAME).unwrap();
            move || {
                subscriber.rejoin().unwrap();
                forget(subscriber);
            }
        },
        |names, publisher| succeed_subscriber(&values(names), publisher),
    );
    swept.covers(0, 2);
}

/// broadcast/state.rs: the victim evicts the dead from outside.
#[test]
fn repairer_killed_evicting_publisher_goes_on() {
    let swept = sweep(
        |names| {
            let publisher = publisher_with(&values(names), []);
            (0..2).for_each(|_| values(names).subscriber(NAME).unwrap().abandon().unwrap());
            publisher
        },
        |names| {
            let directory = Directory::at(names);
            move || assert_eq!(directory.repair(NAME).unwrap(), 2)
        },
        |names, publisher| succeed_subscriber(&values(names), publisher),
    );
    swept.covers(4, 2);
}

// ---- leaving ---------------------------------------------------------------------------------------------------------

/// broadcast/membership.rs broadcast-leave-2 to -4.
#[test]
fn publisher_killed_leaving_its_end_is_reported() {
    let swept = sweep(
        |names| values(names).subscriber(NAME).unwrap(),
        |names| {
            let publisher = publisher_with(&values(names), [1]);
            move || drop(publisher)
        },
        |names, mut subscriber| {
            assert_eq!(subscriber.recv(), Ok([1; 3]));
            let end = subscriber.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            succeed_publisher(&values(names), subscriber);
        },
    );
    swept.covers(4, 2);
}

/// broadcast/membership.rs broadcast-leave-1 to -4.
#[test]
fn subscriber_killed_leaving_publisher_goes_on() {
    for publishers in [1, 2] {
        let options = |names: &Path| values(names).max_publishers(publishers);
        let swept = sweep(
            |names| publisher_with(&options(names), []),
            |names| {
                let subscriber = options(names).subscriber(NAME).unwrap();
                move || drop(subscriber)
            },
            |names, publisher| succeed_subscriber(&options(names), publisher),
        );
        swept.covers(4, 2 + publishers);
    }
}

/// region/lifecycle.rs leave-4 to leave-6.
#[test]
fn broadcast_last_participant_killed_leaving_name_works_again() {
    let swept = sweep(
        |_| (),
        |names| {
            let publisher = publisher_with(&values(names), [1]);
            move || drop(publisher)
        },
        |names, ()| start_over(&values(names)),
    );
    swept.covers(6, 3);
}

#[test]
fn broadcast_creator_or_replacer_killed_name_works_again() {
    for is_stale in [false, true] {
        let swept = sweep(
            |names| {
                if is_stale {
                    publisher_with(&values(names), [1]).abandon().unwrap();
                }
            },
            |names| {
                let options = values(names).on_stale(OnStale::Recreate);
                move || forget(options.publisher(NAME).unwrap())
            },
            |names, ()| start_over(&values(names)),
        );
        swept.covers(12, 0);
    }
}
