//! The crash sweep of the latest values of a broadcast.

use std::mem::forget;
use std::path::Path;

use crate::sweep::{NAME, sweep};
use tombolo::RecvError;
use tombolo::broadcast::{Options, Policy, Subscriber};

type Value = [u64; 2];

fn options(names: &Path, policy: Policy) -> Options<Value> {
    Options::new().keys(3).capacity(2).policy(policy).wait_for_successor().directory(names)
}

/// What a subscriber receives, by key and number, until there is nothing.
fn received(subscriber: &mut Subscriber<Value>) -> Vec<(usize, u64)> {
    let mut messages = Vec::new();
    loop {
        match subscriber.try_recv_key() {
            Ok((key, [number, check])) => messages.push((key, number | check & number)),
            Err(error) => break assert_eq!(error, RecvError::Empty),
        }
    }
    messages
}

fn latest(subscriber: &mut Subscriber<Value>) -> [Option<u64>; 3] {
    let snapshot = subscriber.snapshot().unwrap();
    [0, 1, 2].map(|key| snapshot.get(key).map(|value| value[0]))
}

/// raw/broadcast/latest.rs: after each store of a message that has a key. Whoever has seen it in a
/// snapshot finds it in the stream of the others, once there is a successor.
#[test]
fn publisher_killed_publishing_a_key_successor_publishes_what_snapshots_have() {
    for (policy, first) in [(Policy::Lossless, true), (Policy::Lossy, false)] {
        let swept = sweep(
            |names| options(names, policy).subscriber(NAME).unwrap(),
            |names| {
                let mut publisher = options(names, policy).publisher(NAME).unwrap();
                if !first {
                    publisher.publish_key(0, [1, !1]).unwrap();
                }
                move || {
                    publisher.publish_key(1, [2, !2]).unwrap();
                    forget(publisher);
                }
            },
            |names, mut survivor| {
                let mut before = received(&mut survivor);
                let mut late = options(names, policy).subscriber(NAME).unwrap();
                let snapshot = latest(&mut late);
                let one = (!first).then_some(1);
                assert!(snapshot == [one, None, None] || snapshot == [one, Some(2), None], "{snapshot:?}");
                let mut publisher = options(names, policy).publisher(NAME).unwrap();
                // The successor's own view is what all others will have.
                let own = latest(&mut publisher.subscriber().unwrap());
                assert_eq!(own, snapshot);
                before.extend(received(&mut survivor));
                let expected: Vec<_> =
                    one.map(|one| (0, one)).into_iter().chain(snapshot[1].map(|two| (1, two))).collect();
                assert_eq!(before, expected, "the stream has something else than the snapshot");
                assert_eq!(received(&mut late), [], "a repetition");
                publisher.publish_key(2, [3, !3]).unwrap();
                publisher.publish_key(1, [4, !4]).unwrap();
                assert_eq!([received(&mut survivor), received(&mut late)], [[(2, 3), (1, 4)]; 2], "{snapshot:?}");
                assert_eq!(latest(&mut late), [one, Some(4), Some(3)]);
            },
        );
        swept.covers(0, 9);
    }
}
