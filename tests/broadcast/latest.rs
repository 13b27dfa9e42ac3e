//! Latest values: snapshots, and the stream behind them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::broadcast::{Observer, Options, Policy, Snapshot, Subscriber};
use tombolo::{Endpoint, ErrorKind, RecvError, SendError, Shareable};

use crate::support::{Random, SharedCounters, TestDir, start, stress_random};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn snapshot_has_the_latest_of_each_key_and_the_stream_goes_on_behind_it() {
    for policy in [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 4 }] {
        let options = Options::<u64>::new().keys(5).capacity(8).policy(policy);
        let (mut publisher, mut first) = options.create().unwrap();
        assert!(first.snapshot().unwrap().is_empty());
        for (key, value) in [(0, 10), (4, 40), (0, 11)] {
            publisher.publish_key(key, value).unwrap();
        }
        let mut late = publisher.subscriber().unwrap();
        let snapshot = late.snapshot().unwrap();
        assert_eq!([0, 1, 4, 5].map(|key| snapshot.get(key).copied()), [Some(11), None, Some(40), None]);
        assert_eq!((snapshot.len(), snapshot.sequences()), (2, &[3][..]));
        let entries = snapshot.iter().map(|latest| (latest.key, latest.publisher, latest.sequence, latest.value));
        assert!(entries.eq([(0, 0, 2, 11), (4, 0, 1, 40)]));
        assert_eq!(late.try_recv_key(), Err(RecvError::Empty));
        publisher.publish_key(1, 50).unwrap();
        assert_eq!([late.recv_key(), late.try_recv_key()], [Ok((1, 50)), Err(RecvError::Empty)]);
        // The first has all of them in its stream, unless it takes a snapshot instead.
        assert_eq!(first.try_recv_key(), Ok((0, 10)));
        assert_eq!(first.try_recv(), Ok(40));
        assert_eq!(first.snapshot().unwrap().len(), 3);
        assert_eq!(first.recv_key_timeout(SHORT), Err(RecvError::TimedOut));
    }
}

#[test]
fn snapshot_of_a_subscriber_that_lagged_has_what_it_missed() {
    let options = Options::<u64>::new().keys(3).capacity(2).policy(Policy::Lossy);
    let (mut publisher, mut subscriber) = options.create().unwrap();
    for number in 0..30 {
        publisher.publish_key(number as usize % 3, number).unwrap();
    }
    assert_eq!(subscriber.try_recv_key(), Err(RecvError::Lagged { missed: 28 }));
    let snapshot = subscriber.snapshot().unwrap();
    assert!(snapshot.iter().map(|latest| latest.value).eq([27, 28, 29]));
    publisher.publish_key(1, 30).unwrap();
    assert_eq!([subscriber.recv_key(), subscriber.try_recv_key()], [Ok((1, 30)), Err(RecvError::Empty)]);
}

#[test]
fn subscriber_with_a_snapshot_ahead_of_its_stream_is_not_passed_on() {
    let options = Options::<u64>::new().keys(1).capacity(1024).policy(Policy::Lossy);
    let (mut publisher, mut subscriber) = options.create().unwrap();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !has_ended.load(Ordering::Relaxed) {
                publisher.publish_key(0, number).unwrap();
                number += 1;
            }
        });
        for _ in 0..2000 {
            let taken = subscriber.snapshot().unwrap().get(0).copied();
            match subscriber.into_fd() {
                Ok(passed) => subscriber = options.from_fd(passed).unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                    assert!(error.to_string().contains("snapshot"), "{error}");
                    has_ended.store(true, Ordering::Relaxed);
                    return;
                }
            }
            let next = loop {
                match subscriber.recv() {
                    Err(RecvError::Lagged { .. }) => {}
                    received => break received.unwrap(),
                }
            };
            assert!(taken.is_none_or(|taken| next > taken), "{next} after {taken:?}");
        }
        has_ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn publisher_that_comes_again_has_its_place_and_its_keys() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().keys(1).max_publishers(3).directory(dir.names());
    let mut subscriber = options.subscriber("name").unwrap();
    for number in 0..6 {
        let mut publisher = options.publisher("name").unwrap();
        publisher.publish_key(0, number).unwrap();
        // Leaves, or dies.
        if number % 2 == 0 { drop(publisher) } else { publisher.abandon().unwrap() }
    }
    let snapshot = subscriber.snapshot().unwrap();
    assert_eq!((snapshot.len(), snapshot.get(0).copied()), (1, Some(5)));
    drop(options.publisher("name").unwrap());
    assert_eq!(subscriber.recv(), Err(RecvError::Closed), "not the death of the one before");
}

#[test]
fn snapshot_of_an_evicted_subscriber_needs_a_rejoin() {
    let options = Options::<u64>::new().keys(1).capacity(8).policy(Policy::EvictSlow { lag: 4 });
    let (mut publisher, mut slow) = options.create().unwrap();
    (0..10).for_each(|number| publisher.try_publish_key(0, number).unwrap());
    assert_eq!(slow.snapshot().unwrap_err(), RecvError::Evicted);
    assert_eq!(slow.rejoin(), Ok(10));
    assert_eq!(slow.snapshot().unwrap().get(0), Some(&9));
    publisher.publish_key(0, 10).unwrap();
    assert_eq!(slow.recv_key(), Ok((0, 10)));
}

#[test]
fn snapshot_frees_the_slots_of_what_it_supersedes() {
    let (mut publisher, mut subscriber) = Options::<u64>::new().keys(2).capacity(2).create().unwrap();
    for number in 0..2 {
        publisher.publish_key(0, number).unwrap();
    }
    assert_eq!(publisher.try_publish_key(0, 2), Err(SendError::Full));
    assert_eq!(publisher.publish_key_timeout(0, 2, SHORT), Err(SendError::TimedOut));
    thread::scope(|scope| {
        let blocked = scope.spawn(|| publisher.publish_key_deadline(1, 2, None));
        thread::sleep(SHORT);
        let snapshot = subscriber.snapshot().unwrap();
        assert_eq!(snapshot.get(0), Some(&1));
        assert_eq!(blocked.join().unwrap(), Ok(()));
        // It goes on while the snapshot is taken, so its value may be in it.
        let next = if snapshot.get(1) == Some(&2) { Err(RecvError::Empty) } else { Ok((1, 2)) };
        assert_eq!(subscriber.try_recv_key(), next);
    });
}

#[test]
fn snapshot_has_an_entry_for_each_publisher() {
    let options = Options::<u64>::new().keys(2).max_publishers(3);
    let (mut first, mut subscriber) = options.create().unwrap();
    let mut second = first.try_clone().unwrap();
    first.publish_key(0, 1).unwrap();
    second.publish_key(0, 2).unwrap();
    second.publish_key(1, 3).unwrap();
    drop(second); // its values stay
    let snapshot = subscriber.snapshot().unwrap();
    let of_key = |key| snapshot.of_key(key).iter().map(|latest| (latest.publisher, latest.value)).collect::<Vec<_>>();
    assert_eq!([of_key(0), of_key(1), of_key(2)], [vec![(0, 1), (1, 2)], vec![(1, 3)], vec![]]);
    assert_eq!(snapshot.sequences(), [1, 2, 0]);
    assert_eq!((&snapshot).into_iter().count(), snapshot.into_iter().count());
}

#[test]
fn values_with_keys_come_in_batches() {
    let (mut publisher, mut subscriber) = Options::<u64>::new().keys(4).create().unwrap();
    (0..6).for_each(|number| publisher.publish_key(number as usize % 4, number).unwrap());
    let mut values = [99; 8];
    assert_eq!(subscriber.recv_many(&mut values), Ok(6));
    assert_eq!(values, [0, 1, 2, 3, 4, 5, 99, 99]);
}

#[test]
fn snapshot_that_fails_leaves_the_stream_as_it_was() {
    let dir = TestDir::new();
    let numbers = Options::<u8>::new().keys(3).capacity(8).type_tag("").directory(dir.names());
    // For the subscriber they are truth values, of which 2 is none.
    let truths = Options::<bool>::new().keys(3).capacity(8).type_tag("").directory(dir.names());
    let mut publisher = numbers.publisher("name").unwrap();
    let mut subscriber = truths.subscriber("name").unwrap();
    for (key, value) in [(0, 1), (2, 0), (1, 2), (0, 0)] {
        publisher.publish_key(key, value).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(subscriber.snapshot().unwrap_err(), RecvError::InvalidValue);
    }
    assert_eq!([subscriber.try_recv_key(), subscriber.try_recv_key()], [Ok((0, true)), Ok((2, false))]);
    assert_eq!(subscriber.try_recv_key(), Err(RecvError::InvalidValue));
    // A later snapshot that fails does not take back an earlier one.
    publisher.publish_key(1, 1).unwrap();
    assert_eq!(subscriber.snapshot().unwrap().get(1), Some(&true));
    publisher.publish_key(0, 2).unwrap();
    publisher.publish_key(2, 1).unwrap();
    assert_eq!(subscriber.snapshot().unwrap_err(), RecvError::InvalidValue);
    assert_eq!(subscriber.try_recv_key(), Err(RecvError::InvalidValue));
    assert_eq!([subscriber.try_recv_key(), subscriber.try_recv_key()], [Ok((2, true)), Err(RecvError::Empty)]);
}

#[test]
fn observer_of_values_with_keys_gets_the_values() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().keys(5).history(2).directory(dir.names());
    let mut publisher = options.publisher("name").unwrap();
    publisher.publish_key(3, 30).unwrap();
    publisher.publish_key(4, 40).unwrap();
    let mut observer = options.observer("name").unwrap();
    assert_eq!(observer.recv(), Ok(30));
    assert_eq!([observer.try_recv_key(), observer.try_recv_key()], [Ok((4, 40)), Err(RecvError::Empty)]);
    assert_eq!(observer.recv_key_timeout(SHORT), Err(RecvError::TimedOut));
    drop(publisher);
    assert_eq!(observer.recv_key(), Err(RecvError::Closed));
}

#[test]
fn observer_snapshot_has_the_latest_and_changes_nothing() {
    let dir = TestDir::new();
    for policy in [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 4 }] {
        let options = Options::<u64>::new().keys(3).capacity(8).history(2).max_publishers(2).policy(policy);
        let options = options.directory(dir.names());
        let mut publisher = options.publisher("name").unwrap();
        let mut second = options.publisher("name").unwrap();
        let mut observer = options.observer("name").unwrap();
        assert!(observer.snapshot().unwrap().is_empty());
        for (key, value) in [(0, 10), (2, 20), (0, 11)] {
            publisher.publish_key(key, value).unwrap();
        }
        second.publish_key(2, 21).unwrap();
        let before = fs::read(dir.names().join("name")).unwrap();
        let snapshot = observer.snapshot().unwrap();
        assert!(before == fs::read(dir.names().join("name")).unwrap(), "the region has changed");
        let entries = snapshot.iter().map(|latest| (latest.key, latest.publisher, latest.sequence, latest.value));
        assert!(entries.eq([(0, 0, 2, 11), (2, 0, 1, 20), (2, 1, 0, 21)]));
        assert_eq!(snapshot.sequences(), [3, 1]);
        // The stream goes on behind it, and a lag can be made good.
        assert_eq!(observer.try_recv_key(), Err(RecvError::Empty));
        publisher.publish_key(1, 30).unwrap();
        assert_eq!([observer.recv_key(), observer.try_recv_key()], [Ok((1, 30)), Err(RecvError::Empty)]);
        (0..20).for_each(|number| publisher.publish_key(1, number).unwrap());
        assert!(matches!(observer.try_recv_key(), Err(RecvError::Lagged { .. })));
        assert_eq!(observer.snapshot().unwrap().get(1), Some(&19));
        assert_eq!(observer.try_recv(), Err(RecvError::Empty));
    }
    let options = Options::<u64>::new().directory(dir.names());
    let _publisher = options.publisher("without").unwrap();
    let mut observer = options.observer("without").unwrap();
    assert_eq!(observer.snapshot().unwrap_err(), RecvError::NoKeys);
    assert_eq!(observer.try_recv_key(), Err(RecvError::NoKeys));
}

/// All mappings of the region in this process are read-only: a store would end it.
#[test]
fn observer_takes_snapshots_from_a_mapping_that_cannot_be_written() {
    let dir = TestDir::new();
    let options = Options::<[u64; 25]>::new().keys(KEYS).directory(dir.names());
    let mut publisher = options.publisher("name").unwrap();
    (0..3).for_each(|number| publisher.publish_key(4, <[u64; 25]>::new(4, number)).unwrap());
    publisher.abandon().unwrap();
    let mut observer = options.observer("name").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let name = dir.names().join("name");
    let found: Vec<&str> = maps.lines().filter(|line| line.ends_with(name.to_str().unwrap())).collect();
    assert!(!found.is_empty() && found.iter().all(|line| line.contains(" r--s ")), "{found:?}");
    assert_eq!(observer.snapshot().unwrap().get(4).map(<[u64; 25]>::key_and_number), Some((4, 2)));
}

#[test]
fn invalid_key_is_refused() {
    let (mut publisher, mut subscriber) = Options::<u64>::new().keys(5).create().unwrap();
    let error = publisher.publish_key(5, 0).unwrap_err();
    assert_eq!(error, SendError::InvalidKey { key: 5, keys: 5 });
    assert!(error.to_string().contains("key 5") && error.to_string().contains("5 keys"), "{error}");
    assert_eq!(publisher.try_publish_key(usize::MAX, 0), Err(SendError::InvalidKey { key: usize::MAX, keys: 5 }));
    assert_eq!([publisher.publish(1), publisher.try_publish(1)], [Err(SendError::KeyMissing); 2]);
    assert_eq!(publisher.publish_many(&[1, 2]), Err(SendError::KeyMissing));
    assert_eq!(subscriber.try_recv(), Err(RecvError::Empty));

    let (mut publisher, mut subscriber) = Options::<u64>::new().create().unwrap();
    let error = publisher.publish_key(0, 0).unwrap_err();
    assert_eq!(error, SendError::InvalidKey { key: 0, keys: 0 });
    assert!(error.to_string().contains("without keys"), "{error}");
    publisher.publish(1).unwrap();
    assert_eq!(subscriber.snapshot().unwrap_err(), RecvError::NoKeys);
    assert_eq!(subscriber.try_recv_key(), Err(RecvError::NoKeys));
    assert_eq!(subscriber.try_recv(), Ok(1));
}

#[test]
fn broadcast_of_other_keys_is_refused() {
    let dir = TestDir::new();
    let options = Options::<u64>::new().directory(dir.names());
    let _publisher = options.clone().keys(5).publisher("name").unwrap();
    for keys in [0, 4, 6] {
        let error = options.clone().keys(keys).subscriber("name").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert!(error.to_string().contains(&format!("found 5 keys, expected {keys} keys")), "{error}");
    }
    options.subscriber("name").unwrap().snapshot().unwrap();
    let error = options.clone().keys(1 << 40).create().unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidOptions && error.to_string().contains("keys"), "{error}");
}

/// The strategies check what they see.
#[test]
fn tick_fan_out_example_succeeds() {
    let own = std::env::current_exe().unwrap();
    let example = own.ancestors().nth(2).unwrap().join("examples/tick_fan_out");
    if !example.exists() {
        // `cargo test` builds the examples before it runs anything, unless it is told which test.
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", "tick_fan_out"]).status();
        assert!(built.unwrap().success());
    }
    let run = Command::new(example).output().unwrap();
    let (output, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{output}{errors}");
    for line in ["late: began with 500 prices", "steady: ", "stopped: ", "publisher: "] {
        assert!(output.contains(line), "{output}{errors}");
    }
}

// ---- publishers killed at random -------------------------------------------------------------------

const KEYS: usize = 7;

/// A value of one word, or of 25, that encodes its key and its number within the key.
trait Tick: Shareable {
    fn new(key: usize, number: u64) -> Self;
    fn key_and_number(&self) -> (usize, u64);
}

impl Tick for u64 {
    fn new(key: usize, number: u64) -> Self {
        number << 8 | key as u64
    }

    fn key_and_number(&self) -> (usize, u64) {
        ((self & 0xff) as usize, self >> 8)
    }
}

impl Tick for [u64; 25] {
    fn new(key: usize, number: u64) -> Self {
        std::array::from_fn(|index| u64::new(key, number).wrapping_mul(2 * index as u64 + 1))
    }

    fn key_and_number(&self) -> (usize, u64) {
        let (key, number) = self[0].key_and_number();
        assert_eq!(*self, Self::new(key, number), "torn");
        (key, number)
    }
}

fn options<T: Tick>(names: &Path, policy: &str) -> Options<T> {
    let policy = if policy == "lossy" { Policy::Lossy } else { Policy::Lossless };
    Options::new().keys(KEYS).capacity(2).policy(policy).wait_for_successor().directory(names)
}

/// The number of each key that comes next, as one subscriber knows it.
#[derive(Default)]
struct Oracle {
    next: BTreeMap<usize, u64>,
    /// Messages were missed since the last snapshot.
    has_lagged: bool,
}

/// A subscriber, or an observer.
trait Follower<T> {
    fn snapshot(&mut self) -> Result<Snapshot<T>, RecvError>;
    fn recv_key_timeout(&mut self, timeout: Duration) -> Result<(usize, T), RecvError>;
}

macro_rules! follower {
    ($Follower:ident) => {
        impl<T: Tick> Follower<T> for $Follower<T> {
            fn snapshot(&mut self) -> Result<Snapshot<T>, RecvError> {
                $Follower::snapshot(self)
            }

            fn recv_key_timeout(&mut self, timeout: Duration) -> Result<(usize, T), RecvError> {
                $Follower::recv_key_timeout(self, timeout)
            }
        }
    };
}

follower!(Subscriber);
follower!(Observer);

impl Oracle {
    fn snapshot<T: Tick>(&mut self, subscriber: &mut impl Follower<T>) {
        let snapshot = subscriber.snapshot().unwrap();
        for latest in &snapshot {
            let (key, number) = latest.value.key_and_number();
            assert_eq!(key, latest.key);
            let next = self.next.insert(key, number + 1).unwrap_or(0);
            assert!(number + 1 >= next, "key {key}: {number} in a snapshot, after {next}");
        }
        assert!(self.next.len() == snapshot.len(), "the snapshot lacks a key");
        self.has_lagged = false;
    }

    /// Returns whether there was a message.
    fn receive<T: Tick>(&mut self, subscriber: &mut impl Follower<T>) -> bool {
        match subscriber.recv_key_timeout(SHORT) {
            Ok((key, value)) => {
                let (encoded, number) = value.key_and_number();
                assert_eq!(key, encoded);
                let next = self.next.entry(key).or_default();
                let is_next = number == *next || self.has_lagged && number > *next;
                assert!(is_next, "key {key}: {number} instead of {next}");
                *next = number + 1;
                true
            }
            Err(RecvError::Lagged { .. }) => {
                self.has_lagged = true;
                false
            }
            Err(error) => {
                assert_eq!(error, RecvError::TimedOut);
                false
            }
        }
    }
}

pub(crate) fn latest_publisher(arguments: &[String]) {
    if arguments[2] == "8" { publish::<u64>(arguments) } else { publish::<[u64; 25]>(arguments) }
}

/// Publishes the next number of each key, until it is killed. It goes on where the last publisher
/// stopped, which it knows from a snapshot.
fn publish<T: Tick>(arguments: &[String]) {
    let mut publisher = options::<T>(Path::new(&arguments[0]), &arguments[1]).publisher("name").unwrap();
    let mut oracle = Oracle::default();
    oracle.snapshot(&mut publisher.subscriber().unwrap());
    let mut random = Random(u64::from(std::process::id()) << 1 | 1);
    loop {
        let key = random.below(KEYS as u64) as usize;
        let next = oracle.next.entry(key).or_default();
        publisher.publish_key(key, T::new(key, *next)).unwrap();
        *next += 1;
    }
}

pub(crate) fn latest_follower(arguments: &[String]) {
    if arguments[2] == "8" { follow::<u64>(arguments) } else { follow::<[u64; 25]>(arguments) }
}

/// Joins late again and again, takes a snapshot, reads on, and now and then takes another.
fn follow<T: Tick>(arguments: &[String]) {
    let options = options::<T>(Path::new(&arguments[0]), &arguments[1]);
    let counters = SharedCounters::at(Path::new(&arguments[3]));
    let mut random = Random(u64::from(std::process::id()) << 1 | 1);
    while counters.word(0).load(Ordering::SeqCst) == 0 {
        match arguments[4].as_str() {
            "subscriber" => follow_for_a_while(&mut options.subscriber("name").unwrap(), &counters, &mut random),
            _ => follow_for_a_while(&mut options.observer("name").unwrap(), &counters, &mut random),
        }
    }
}

fn follow_for_a_while<T: Tick>(follower: &mut impl Follower<T>, counters: &SharedCounters, random: &mut Random) {
    let mut oracle = Oracle::default();
    for _ in 0..=random.below(3) {
        oracle.snapshot(follower);
        let received = (0..random.below(50)).filter(|_| oracle.receive(follower)).count();
        counters.word(1).fetch_add(received as u64, Ordering::SeqCst);
    }
    counters.word(2).fetch_add(1, Ordering::SeqCst);
}

/// Kills publishers at random, each with a successor, while late joiners and one that is always
/// there check what they get.
fn publishers_killed<T: Tick>(policy: &str, size: &str, deaths: u64) {
    let dir = TestDir::new();
    let (names, counters) = (dir.names(), dir.file("counters"));
    let mut subscriber = options::<T>(&names, policy).subscriber("name").unwrap();
    let mut oracle = Oracle::default();
    let shared = SharedCounters::at(&counters);
    let arguments = [names.to_str().unwrap(), policy, size, counters.to_str().unwrap()];
    let followers = ["subscriber", "observer"].map(|kind| {
        let arguments = [&arguments[..], &[kind]].concat();
        start("latest_follower", &arguments)
    });
    let mut random = stress_random(0x1a7e57);
    for _ in 0..deaths {
        let publisher = start("latest_publisher", &arguments);
        let mut left = 1 + random.below(500);
        while left > 0 {
            if oracle.has_lagged {
                oracle.snapshot(&mut subscriber);
                left -= 1;
            }
            left -= u64::from(oracle.receive(&mut subscriber)).min(left);
        }
        publisher.kill();
        if policy == "lossless" {
            // What the dead publisher has published, and what its successor is to publish first.
            while oracle.receive(&mut subscriber) {}
        }
    }
    shared.word(0).store(1, Ordering::SeqCst);
    followers.into_iter().for_each(|follower| follower.finish());
    assert!(shared.word(1).load(Ordering::SeqCst) > deaths && shared.word(2).load(Ordering::SeqCst) > 2);
}

#[test]
fn publishers_killed_at_random_late_joiners_see_neither_gap_nor_repetition() {
    publishers_killed::<u64>("lossless", "8", 50);
    publishers_killed::<[u64; 25]>("lossless", "200", 50);
    publishers_killed::<u64>("lossy", "8", 50);
    publishers_killed::<[u64; 25]>("lossy", "200", 50);
}
