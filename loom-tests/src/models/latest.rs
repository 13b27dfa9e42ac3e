//! Models of `src/raw/broadcast/latest.rs`: the latest values of two keys of a track.

use super::*;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{self, Consumer, Read};
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::latest::{BUFFERS, Latest, Seen, split_slot};
use crate::raw::broadcast::producer::{Gate, Producer};

const KEYS: u64 = 2;
const CAPACITY: u64 = 2;

/// A track with two keys and one subscriber. The message at position p is ten times p + 1, plus its
/// publisher.
#[derive(Clone)]
struct LatestWorld {
    tail: Shared<AtomicU64>,
    begun: Shared<AtomicU64>,
    slots: SharedWords,
    latest: SharedWords,
    state: Shared<AtomicU64>,
    next: Shared<AtomicU64>,
    gate: Gate,
}

/// The key of a message, and its publisher.
type Published = (u64, u64);

impl LatestWorld {
    fn new(gate: Gate) -> Self {
        // A successor loads the key of a slot, and the position of a latest value.
        let slot = || [AtomicU64::new(0), AtomicU64::payload(0), AtomicU64::payload(0)];
        let of_key = || [AtomicU64::new(0), AtomicU64::payload(0)].into_iter().chain((0..BUFFERS).flat_map(|_| slot()));
        Self {
            tail: new_word(),
            begun: new_word(),
            slots: SharedWords(Arc::new((0..CAPACITY).flat_map(|_| slot()).collect())),
            latest: SharedWords(Arc::new((0..KEYS).flat_map(|_| of_key()).collect())),
            state: new_word(),
            next: new_word(),
            gate,
        }
    }

    fn track(&self) -> Track<Heap> {
        let (tail, begun, slots) = (self.tail.clone(), self.begun.clone(), self.slots.clone());
        Track { tail, begun, slots, capacity: CAPACITY, stride: 3 }
    }

    fn cursor(&self) -> Cursor<Heap> {
        Cursor { state: self.state.clone(), next: self.next.clone() }
    }

    fn latest(&self) -> Latest<Heap> {
        Latest::new(self.latest.clone(), KEYS, 2)
    }

    fn publisher(&self, number: usize) -> Publisher {
        let mut producer = Producer::attach(self.track(), self.gate, 0).unwrap();
        let finished = producer.finish(&self.latest()).unwrap();
        Publisher { producer, latest: self.latest(), cursor: [self.cursor()], number: number as u64, finished }
    }

    fn subscribe(&self) -> Subscriber {
        let (state, position) = self.cursor().activate(&self.tail, 0).unwrap();
        let consumer = Consumer::new(self.track(), self.cursor(), state, position, self.gate != Gate::Open);
        Subscriber {
            consumer,
            latest: self.latest(),
            seen: None,
            covered: [0; KEYS as usize],
            snapshot_end: [0; KEYS as usize],
            got: Vec::new(),
            missed: Vec::new(),
        }
    }
}

struct Publisher {
    producer: Producer<Heap>,
    latest: Latest<Heap>,
    cursor: [Cursor<Heap>; 1],
    number: u64,
    /// Whether it has published a message of its predecessor.
    finished: bool,
}

impl Publisher {
    /// Returns whether there was room.
    fn publish(&mut self, key: u64) -> bool {
        if self.producer.room() == 0 {
            self.producer.scan(&self.cursor, 1, |_| {});
        }
        let value = 10 * (self.producer.position() + 1) + self.number;
        let fill = |words: &[AtomicU64]| store_message(words, value);
        self.producer.room() > 0 && self.producer.publish_key(&self.latest, key, fill).is_ok()
    }
}

struct Subscriber {
    consumer: Consumer<Heap>,
    latest: Latest<Heap>,
    seen: Option<Seen>,
    /// By key: messages before this position are in a snapshot, or older than what is.
    covered: [u64; KEYS as usize],
    /// The same as of the last snapshot.
    snapshot_end: [u64; KEYS as usize],
    /// Messages that it got, with their keys and publishers.
    got: Vec<(u64, Published)>,
    /// Positions that it knows that it has missed since the last snapshot.
    missed: Vec<u64>,
}

impl Subscriber {
    /// Notes a message that is new.
    fn note(&mut self, position: u64, key: u64, message: [u64; 2]) {
        let number = number(message);
        assert_eq!(number / 10, position + 1, "another position's message");
        self.got.push((position, (key, number % 10)));
    }

    fn snapshot(mut self) -> Self {
        let mut seen = Seen::with_keys(KEYS).unwrap();
        assert!(seen.begin(&mut self.consumer).expect("valid words"));
        self.missed.clear();
        for key in 0..KEYS {
            let loaded = seen.load(&self.latest, key, |words| Ok(copy_message(words)));
            let Some((position, message)) = loaded.expect("valid words") else { continue };
            let covered = self.covered[key as usize];
            assert!(position + 1 >= covered, "a snapshot goes back in time");
            if position >= covered {
                self.note(position, key, message);
            }
            self.covered[key as usize] = position + 1;
        }
        self.snapshot_end = self.covered;
        seen.end(&mut self.consumer).expect("valid words");
        self.seen = seen.go_on(&mut self.consumer);
        self
    }

    /// Reads one message. Returns whether there was any, delivered or not.
    fn read(&mut self) -> bool {
        let copy = |published: consumer::Published<'_, Heap>| {
            let (key, value) = split_slot(published.slot(0).unwrap())?;
            Ok((1, (key, copy_message(value))))
        };
        let before = self.consumer.position();
        let read = match &mut self.seen {
            Some(seen) => seen.read(&mut self.consumer, copy),
            None => self.consumer.read(|published| copy(published).map(|(used, read)| (used, Some(read)))),
        };
        match read.expect("valid words") {
            Read::Message(Some((key, message))) => {
                let position = self.consumer.position() - 1;
                assert!(position >= self.covered[key as usize], "position {position} is delivered again");
                self.note(position, key, message);
                self.covered[key as usize] = position + 1;
            }
            Read::Message(None) => {}
            Read::Empty => return false,
            Read::Lagged(missed) => self.missed.extend(before..before + missed),
            Read::Evicted => panic!("evicted"),
        }
        if self.seen.as_ref().is_some_and(|seen| seen.is_over(&self.consumer)) {
            self.seen = None;
        }
        true
    }

    fn read_times<const READS: usize>(mut self) -> Self {
        (0..READS).for_each(|_| _ = self.read());
        self
    }

    /// Reads the rest. It must have got every message, but for those of which a snapshot had a later
    /// one of the same key, and those that it knows that it has missed.
    fn assert_complete(mut self, published: &[Published]) {
        while self.read() {}
        assert_eq!(self.consumer.position(), published.len() as u64);
        for (position, message) in &self.got {
            assert_eq!(published.get(*position as usize), Some(message), "of position {position}");
        }
        for (position, message) in (0..).zip(published) {
            let is_got = self.got.contains(&(position, *message)) || self.missed.contains(&position);
            let is_replaced = self.snapshot_end[message.0 as usize] > position;
            assert!(is_got || is_replaced, "position {position} is not delivered: {:?}", self.got);
        }
    }
}

/// Publishes the keys in order while another thread takes a snapshot and reads `READS` times.
fn publish_and_follow<const READS: usize>(gate: Gate, before: &'static [u64], keys: &'static [u64]) -> impl Fn() {
    move || {
        let world = LatestWorld::new(gate);
        let mut publisher = world.publisher(OTHER);
        before.iter().for_each(|key| assert!(publisher.publish(*key)));
        let subscriber = world.subscribe();
        let publisher = spawn(&world, move |_| keys.iter().take_while(|key| publisher.publish(**key)).count());
        let subscriber = spawn(&world, |_| subscriber.snapshot().read_times::<READS>());
        let count = join(publisher);
        let published: Vec<Published> = before.iter().chain(&keys[..count]).map(|key| (*key, OTHER as u64)).collect();
        join(subscriber).assert_complete(&published);
    }
}

#[test]
fn latest_gated_snapshot_and_stream_have_each_message_once() {
    model(publish_and_follow::<1>(Gate::Wait, &[0], &[1, 0]));
}

/// The snapshot can have the second of two messages, and the first not, whose key it has loaded
/// before.
#[test]
fn latest_snapshot_newer_in_one_key_stream_has_the_others() {
    model(publish_and_follow::<1>(Gate::Wait, &[], &[0, 1]));
}

#[test]
fn latest_lossy_snapshot_and_stream_have_each_message_once() {
    model(publish_and_follow::<1>(Gate::Open, &[0], &[1, 0]));
}

/// The ring is overwritten while the snapshot is taken, and a key so often that its buffers are.
#[test]
fn latest_lossy_snapshot_overtaken_subscriber_knows_what_it_missed() {
    large_model(publish_and_follow::<0>(Gate::Open, &[0], &[0, 0, 0, 0]));
}

#[test]
fn latest_second_snapshot_replaces_the_first() {
    model(|| {
        let world = LatestWorld::new(Gate::Open);
        let mut publisher = world.publisher(OTHER);
        let subscriber = world.subscribe();
        let publisher = spawn(&world, move |_| [0, 1, 0].map(|key| publisher.publish(key)));
        let subscriber = spawn(&world, |_| subscriber.snapshot().read_times::<1>().snapshot().read_times::<1>());
        join(publisher);
        join(subscriber).assert_complete(&[0, 1, 0].map(|key| (key, OTHER as u64)));
    });
}

/// A publisher is killed at any access, and its successor publishes one more message.
fn killed_publish_and_follow(gate: Gate, keys: &'static [u64], next: u64) {
    for_every_kill(60, move |accesses| {
        let world = LatestWorld::new(gate);
        let subscriber = world.subscribe();
        let publishers = spawn(&world, move |world| {
            let published = Note::new(0);
            let finished = kill_after(accesses, || {
                let mut publisher = world.publisher(VICTIM);
                for key in keys {
                    assert!(publisher.publish(*key));
                    published.set(publisher.producer.position());
                }
            });
            // The right to publish came from the kernel.
            let mut successor = world.publisher(OTHER);
            let count = published.get() + u64::from(successor.finished);
            assert_eq!(successor.producer.position(), count, "more, or less, than was published");
            assert!(successor.publish(next) || gate == Gate::Wait);
            (finished, count as usize, successor.producer.position() as usize)
        });
        let subscriber = spawn(&world, |_| subscriber.snapshot());
        let ((finished, count, end), subscriber) = (join(publishers), join(subscriber));
        let mut published: Vec<Published> = keys[..count].iter().map(|key| (*key, VICTIM as u64)).collect();
        published.extend((count..end).map(|_| (next, OTHER as u64)));
        subscriber.assert_complete(&published);
        finished
    });
}

#[test]
fn latest_publisher_killed_successor_finishes_its_message() {
    killed_publish_and_follow(Gate::Open, &[1, 0], 1);
}

/// The first message of all has position 0, as has what was never written.
#[test]
fn latest_first_publisher_killed_successor_publishes_no_phantom() {
    killed_publish_and_follow(Gate::Wait, &[0], 0);
}
