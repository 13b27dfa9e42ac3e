//! Hostile peers of broadcasts.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::broadcast::{
    ByteObserver, BytePublisher, ByteSubscriber, Observer, Options, Policy, Publisher, Subscriber,
};
use tombolo::{Directory, Endpoint, ErrorKind, RecvError};

use crate::support::{Random, TestDir, until};
use crate::{Intruder, NAME, REGION_STATE, SHORT, attack, soon, under_attack};

/// Positions of words in the region of a broadcast for two publishers and four subscribers, as
/// docs/layout.md has them.
mod words {
    pub const CAPACITY: usize = 8;
    pub const PUBLISHED: usize = 64;
    pub const COUNTERS: [usize; 3] = [80, 81, 82];
    pub const FIRST_RECORD: usize = 112;
    pub const RECORD_WORDS: usize = 8;
    pub const PUBLISHERS: usize = 2;
    pub const SUBSCRIBERS: usize = 4;
    pub const TRACKS: usize = FIRST_RECORD + (PUBLISHERS + SUBSCRIBERS) * RECORD_WORDS;
    pub const TRACK_WORDS: usize = 32;
    pub const TAIL: usize = 0;
    pub const BEGUN: usize = 1;
    pub const ROOM: usize = 16;
    pub const CURSORS: usize = TRACKS + PUBLISHERS * TRACK_WORDS;
    pub const CURSOR_WORDS: usize = 16;
    pub const STATE: usize = 0;
    pub const NEXT: usize = 1;
    pub const DATA: usize = CURSORS + PUBLISHERS * SUBSCRIBERS * CURSOR_WORDS;
    /// A slot of byte messages: a header and two words of payload.
    pub const BYTE_STRIDE: usize = 3;
    pub const CONTINUED: u64 = 1 << 63;

    pub fn record(index: usize, word: usize) -> usize {
        FIRST_RECORD + index * RECORD_WORDS + word
    }

    pub fn track(index: usize, word: usize) -> usize {
        TRACKS + index * TRACK_WORDS + word
    }

    pub fn cursor(track: usize, subscriber: usize, word: usize) -> usize {
        CURSORS + (track * SUBSCRIBERS + subscriber) * CURSOR_WORDS + word
    }
}

const POLICIES: [Policy; 3] = [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: 6 }];
const INVALID: [u64; 12] = [0, 1, 2, 3, 7, 100, 1 << 40, (1 << 62) - 1, 1 << 63, u64::MAX - 8, u64::MAX - 1, u64::MAX];

fn of_values(test_dir: &TestDir, policy: Policy) -> Options<u64> {
    let options = Options::new().capacity(8).max_publishers(words::PUBLISHERS).max_subscribers(words::SUBSCRIBERS);
    options.history(2).policy(policy).directory(test_dir.names())
}

fn of_bytes(test_dir: &TestDir, policy: Policy, capacity: usize) -> Options<[u8]> {
    let options = Options::bytes().slot_bytes(16).capacity(capacity).max_message_bytes(60);
    let options = options.max_publishers(words::PUBLISHERS);
    options.max_subscribers(words::SUBSCRIBERS).policy(policy).directory(test_dir.names())
}

/// A publisher, participant 0, and a subscriber, participant 2.
struct Values {
    options: Options<u64>,
    directory: Directory,
    publisher: Publisher<u64>,
    subscriber: Subscriber<u64>,
    observer: Observer<u64>,
    intruder: Intruder,
}

impl Values {
    fn new(test_dir: &TestDir, policy: Policy) -> Self {
        let options = of_values(test_dir, policy);
        let (publisher, subscriber) = (options.publisher(NAME).unwrap(), options.subscriber(NAME).unwrap());
        let observer = options.observer(NAME).unwrap();
        let intruder = Intruder::at(&test_dir.names().join(NAME));
        Self {
            options: options.must_exist(),
            directory: Directory::at(test_dir.names()),
            publisher,
            subscriber,
            observer,
            intruder,
        }
    }

    /// Every call that does not block for ever.
    fn use_all(&mut self) {
        let Self { publisher, subscriber, observer, .. } = self;
        let _ = (soon(|| publisher.try_publish(1)), soon(|| publisher.publish_timeout(2, SHORT)));
        let _ = (soon(|| publisher.try_publish_many(&[3; 20])), soon(|| publisher.try_publish_many(&[])));
        let _ = (soon(|| subscriber.try_recv()), soon(|| subscriber.recv_timeout(SHORT)));
        let _ = (soon(|| subscriber.try_recv_many(&mut [0; 20])), soon(|| subscriber.poll(SHORT)));
        let _ = (soon(|| observer.try_recv()), soon(|| observer.recv_timeout(SHORT)));
        assert!(subscriber.len() <= 16 && observer.len() <= 16, "{} {}", subscriber.len(), observer.len());
        assert!(soon(|| publisher.slowest()).is_none_or(|slowest| slowest.lag <= 8));
        let _ = (soon(|| publisher.wait_for_subscribers(1, SHORT)), publisher.subscribers(), subscriber.is_empty());
    }

    /// Those that join, and look from outside.
    fn join_all(&mut self) {
        for mut publisher in
            [soon(|| self.subscriber.publisher()), soon(|| self.options.publisher(NAME))].into_iter().flatten()
        {
            let _ = (soon(|| publisher.try_publish(1)), soon(|| publisher.publish_timeout(2, SHORT)));
        }
        for mut subscriber in
            [soon(|| self.publisher.subscriber()), soon(|| self.options.subscriber(NAME))].into_iter().flatten()
        {
            let _ = (soon(|| subscriber.try_recv()), soon(|| subscriber.recv_timeout(SHORT)));
            let passed = soon(|| subscriber.into_fd())
                .and_then(|descriptor| self.options.from_fd::<Subscriber<u64>>(descriptor));
            drop(passed.map(|mut subscriber| soon(|| subscriber.recv_timeout(SHORT))));
        }
        let _ = (
            soon(|| self.subscriber.rejoin()),
            soon(|| self.directory.inspect(NAME)),
            soon(|| self.directory.repair(NAME)),
        );
        let _ = soon(|| self.options.observer(NAME)).map(|mut observer| soon(|| observer.recv_timeout(SHORT)));
    }
}

/// The same for byte messages.
struct Bytes {
    publisher: BytePublisher,
    subscriber: ByteSubscriber,
    observer: ByteObserver,
    intruder: Intruder,
}

impl Bytes {
    fn new(test_dir: &TestDir, policy: Policy) -> Self {
        Self::of(of_bytes(test_dir, policy, 8), test_dir)
    }

    fn of(options: Options<[u8]>, test_dir: &TestDir) -> Self {
        let (publisher, subscriber) = (options.publisher(NAME).unwrap(), options.subscriber(NAME).unwrap());
        let observer = options.observer(NAME).unwrap();
        let intruder = Intruder::at(&test_dir.names().join(NAME));
        Self { publisher, subscriber, observer, intruder }
    }

    fn use_all(&mut self, random: &mut Random) {
        let Self { publisher, subscriber, observer, .. } = self;
        let sent = vec![0xAB; random.below(61) as usize];
        let _ = (soon(|| publisher.try_publish(&sent)), soon(|| publisher.publish_timeout(&sent, SHORT)));
        let mut received = Vec::new();
        for _ in 0..2 {
            let _ =
                (soon(|| subscriber.try_recv(&mut received)), soon(|| subscriber.recv_timeout(&mut received, SHORT)));
            assert!(received.len() <= 60, "the limit holds");
            let _ = (soon(|| observer.try_recv(&mut received)), soon(|| observer.recv_timeout(&mut received, SHORT)));
            assert!(received.len() <= 60, "the limit holds");
        }
        let _ = soon(|| subscriber.try_recv_into(&mut [0; 30]));
        let mut batch = vec![Vec::new(); 5];
        if soon(|| subscriber.poll(SHORT)) == Ok(true) && subscriber.len() > 8 {
            let _ = soon(|| subscriber.recv_many(&mut batch));
        }
    }
}

// ---- invalid words ---------------------------------------------------------------------------------------------------

#[test]
fn broadcast_positions_invalid_calls_return() {
    for policy in POLICIES {
        for word in [words::TAIL, words::BEGUN] {
            for invalid in INVALID {
                let test_dir = TestDir::new();
                let mut values = Values::new(&test_dir, policy);
                assert_eq!((values.publisher.try_publish_many(&[1, 2, 3]), values.subscriber.recv()), (Ok(3), Ok(1)));
                values.intruder.set(words::track(0, word), invalid);
                (0..3).for_each(|_| values.use_all());
                // Of the place where publishers join.
                values.intruder.set(words::track(1, word), invalid);
                values.join_all();
                values.use_all();

                let test_dir = TestDir::new();
                let mut bytes = Bytes::new(&test_dir, policy);
                bytes.publisher.try_publish([1; 40]).unwrap();
                bytes.intruder.set(words::track(0, word), invalid);
                (0..3).for_each(|_| bytes.use_all(&mut Random(invalid | 1)));
            }
        }
    }
}

/// Positions never wrap: a publisher that never waits would find no room at the end of them.
#[test]
fn publisher_that_joins_near_the_last_position_is_refused() {
    for policy in POLICIES {
        for position in [1 << 63, u64::MAX - 8, u64::MAX] {
            let test_dir = TestDir::new();
            let values = Values::new(&test_dir, policy);
            for word in [words::TAIL, words::BEGUN] {
                values.intruder.set(words::track(1, word), position);
            }
            let error = soon(|| values.options.publisher(NAME)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    }
}

#[test]
fn broadcast_cursors_invalid_calls_return() {
    for policy in POLICIES {
        for word in [words::STATE, words::NEXT] {
            for invalid in INVALID {
                let test_dir = TestDir::new();
                let mut values = Values::new(&test_dir, policy);
                let _ = values.publisher.try_publish_many(&[1, 2, 3]);
                (0..4).for_each(|subscriber| values.intruder.set(words::cursor(0, subscriber, word), invalid));
                (0..3).for_each(|_| values.use_all());
                (0..4).for_each(|subscriber| values.intruder.set(words::cursor(1, subscriber, word), invalid));
                values.join_all();
                values.use_all();
            }
        }
    }
}

#[test]
fn broadcast_records_and_counters_invalid_calls_return() {
    for invalid in [0, 1, 4, 1 << 40, u64::MAX] {
        for index in words::COUNTERS.into_iter().chain((0..words::RECORD_WORDS).map(|word| words::record(0, word))) {
            let test_dir = TestDir::new();
            let mut values = Values::new(&test_dir, Policy::Lossless);
            values.intruder.set(index, invalid);
            values.intruder.set(index.max(words::FIRST_RECORD) + 2 * words::RECORD_WORDS, invalid);
            values.use_all();
            values.join_all();
        }
    }
}

#[test]
fn byte_subscriber_slot_header_invalid_returns_corrupt_or_goes_on() {
    for policy in POLICIES {
        for (header, expected) in [
            (61, Some(RecvError::Corrupt)), // longer than the longest
            (33, Some(RecvError::Corrupt)), // longer than what is published
            (1 << 40, Some(RecvError::Corrupt)),
            (words::CONTINUED - 1, Some(RecvError::Corrupt)),
            (words::CONTINUED, None), // the rest of a message: skipped
            (u64::MAX, None),
        ] {
            let test_dir = TestDir::new();
            let mut bytes = Bytes::new(&test_dir, policy);
            bytes.publisher.try_publish([1; 16]).unwrap();
            bytes.publisher.try_publish([2; 16]).unwrap();
            bytes.intruder.set(words::DATA, header);
            let mut message = Vec::new();
            match expected {
                Some(error) => assert_eq!(soon(|| bytes.subscriber.try_recv(&mut message)), Err(error)),
                None => assert_eq!((bytes.subscriber.try_recv(&mut message), message[0]), (Ok(16), 2)),
            }
            (0..3).for_each(|_| bytes.use_all(&mut Random(header | 1)));
        }
    }
}

// ---- attackers that do not stop --------------------------------------------------------------------------------------

/// Writes anything anywhere in a broadcast, mostly where it matters.
pub fn corrupt_broadcast(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    let near = |random: &mut Random| {
        let tail = intruder.get(words::track(random.below(2) as usize, words::TAIL));
        tail.wrapping_add(random.below(33)).wrapping_sub(16)
    };
    loop {
        let (publisher, subscriber) = (random.below(2) as usize, random.below(4) as usize);
        let at = match random.below(10) {
            0 => random.below((intruder.words() - REGION_STATE) as u64) as usize + REGION_STATE,
            1 => words::PUBLISHED,
            2 => words::COUNTERS[random.below(3) as usize],
            3 => words::record(random.below(6) as usize, random.below(8) as usize),
            4 => words::track(publisher, words::TAIL),
            5 => words::track(publisher, words::BEGUN),
            6 => words::track(publisher, words::ROOM),
            7 => words::cursor(publisher, subscriber, words::STATE),
            8 => words::cursor(publisher, subscriber, words::NEXT),
            _ => words::DATA + random.below(60) as usize,
        };
        let value = match random.below(8) {
            0 => random.next(),
            1 => random.below(64),
            2..5 => near(&mut random),
            5 => words::CONTINUED | random.below(8),
            6 => intruder.get(at) & !3 | random.below(4),
            _ => intruder.get(at).wrapping_add(random.below(8)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Has the rest of a message ready wherever subscribers arrive, however fast they are.
pub fn publish_rests_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let capacity = intruder.get(words::CAPACITY);
    let slots = 0..capacity as usize;
    slots.for_each(|slot| intruder.set(words::DATA + slot * words::BYTE_STRIDE, words::CONTINUED | 1));
    loop {
        // Never backwards: that would be noticed. Never too far: that, too.
        let end = intruder.get(words::cursor(0, 0, words::NEXT)) + capacity;
        intruder.word(words::track(0, words::BEGUN)).fetch_max(end, Ordering::SeqCst);
        intruder.word(words::track(0, words::TAIL)).fetch_max(end, Ordering::SeqCst);
    }
}

#[test]
fn broadcast_of_values_corrupted_constantly_calls_return() {
    for policy in POLICIES {
        under_attack("corrupt_broadcast", |test_dir| Values::new(test_dir, policy), |values, _| values.use_all());
    }
}

#[test]
fn broadcast_of_bytes_corrupted_constantly_calls_return() {
    for policy in POLICIES {
        under_attack(
            "corrupt_broadcast",
            |test_dir| Bytes::new(test_dir, policy),
            |bytes, random| bytes.use_all(random),
        );
    }
}

#[test]
fn broadcast_corrupted_while_others_join_and_leave_calls_return() {
    for policy in POLICIES {
        under_attack("corrupt_broadcast", |test_dir| Values::new(test_dir, policy), |values, _| values.join_all());
    }
}

#[test]
fn byte_subscriber_fed_with_rests_endlessly_calls_return() {
    for policy in POLICIES {
        let test_dir = TestDir::new();
        let mut bytes = Bytes::of(of_bytes(&test_dir, policy, 1 << 16), &test_dir);
        let attacker = attack(&test_dir, "publish_rests_endlessly", 1);
        until(|| bytes.intruder.get(words::track(0, words::TAIL)) > 0);
        let mut message = Vec::new();
        for _ in 0..100 {
            let tried = soon(|| bytes.subscriber.try_recv(&mut message));
            assert!(matches!(tried, Err(RecvError::Corrupt | RecvError::Empty)), "{tried:?}");
            assert_eq!(soon(|| bytes.subscriber.recv(&mut message)), Err(RecvError::Corrupt));
            let _ = soon(|| bytes.observer.recv_timeout(&mut message, SHORT));
        }
        attacker.kill();
    }
}
