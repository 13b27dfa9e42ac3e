//! Models of `src/raw/broadcast`: one publisher's track, its subscribers and their cursors.

use super::*;
use crate::primitive::fence;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::cursor::{Cursor, CursorState};
use crate::raw::broadcast::producer::{Gate, Producer, Slowest};

/// One track with the cursors of its subscribers, and their locks of the kernel. The message at
/// position p is ten times p + 1, plus its publisher.
#[derive(Clone)]
struct TrackWorld {
    tail: Shared<AtomicU64>,
    begun: Shared<AtomicU64>,
    slots: SharedWords,
    subscribers: Vec<SubscriberWords>,
    capacity: u64,
    gate: Gate,
    history: u64,
}

#[derive(Clone)]
struct SubscriberWords {
    state: Shared<AtomicU64>,
    next: Shared<AtomicU64>,
    lock: Shared<AtomicU64>,
}

impl SubscriberWords {
    fn new() -> Self {
        Self { state: new_word(), next: new_word(), lock: new_word() }
    }

    fn cursor(&self) -> Cursor<Heap> {
        Cursor { state: self.state.clone(), next: self.next.clone() }
    }

    /// Asks the kernel, which knows the last state of the lock.
    fn is_locked(&self) -> bool {
        self.lock.fetch_or(0, Ordering::AcqRel) != 0
    }

    fn take_lock(&self) {
        assert_eq!(self.lock.fetch_or(1, Ordering::AcqRel), 0, "the lock is held");
    }

    /// As the kernel does when the holder is dead.
    fn release_lock(&self) {
        self.lock.fetch_and(0, Ordering::AcqRel);
    }
}

impl TrackWorld {
    fn new(subscribers: usize, capacity: u64, gate: Gate, history: u64) -> Self {
        Self {
            tail: new_word(),
            begun: new_word(),
            slots: new_payload(&vec![0; 2 * capacity as usize]),
            subscribers: (0..subscribers).map(|_| SubscriberWords::new()).collect(),
            capacity,
            gate,
            history,
        }
    }

    fn track(&self) -> Track<Heap> {
        let (tail, begun, slots) = (self.tail.clone(), self.begun.clone(), self.slots.clone());
        Track { tail, begun, slots, capacity: self.capacity, stride: 2 }
    }

    fn cursor(&self, index: usize) -> Cursor<Heap> {
        self.subscribers[index].cursor()
    }

    fn publisher(&self, number: usize) -> Publisher {
        let producer = Producer::attach(self.track(), self.gate, self.history).unwrap();
        let cursors = self.subscribers.iter().map(SubscriberWords::cursor).collect();
        Publisher { producer, cursors, world: self.clone(), number, evicted_at: None }
    }

    fn observer(&self, replay: u64) -> Subscriber {
        Subscriber::new(Consumer::observer(self.track(), replay))
    }

    fn subscribe(&self, index: usize, replay: u64) -> Subscriber {
        let (state, position) = self.cursor(index).activate(&self.tail, replay).unwrap();
        let is_gated = self.gate != Gate::Open;
        Subscriber::new(Consumer::new(self.track(), self.cursor(index), state, position, is_gated))
    }

    /// Evicts a subscriber that had that state if it is dead. The load of the state came before.
    fn evict_dead(&self, index: usize, seen: CursorState) {
        fence(Ordering::SeqCst); // E7
        if !self.subscribers[index].is_locked() {
            self.cursor(index).evict(seen);
        }
    }
}

struct Publisher {
    producer: Producer<Heap>,
    cursors: Vec<Cursor<Heap>>,
    world: TrackWorld,
    number: usize,
    /// The tail when it evicted somebody for being slow.
    evicted_at: Option<u64>,
}

impl Publisher {
    fn position(&self) -> u64 {
        self.producer.position()
    }

    fn scan(&mut self, want: u64) -> Option<Slowest> {
        let tail = self.position();
        self.producer.scan(&self.cursors, want, |_| self.evicted_at = Some(tail))
    }

    /// Publishes so many messages together if there is room. If there is none, and a cursor is the
    /// reason, evicts its subscriber if it is dead. Returns whether it has published.
    fn publish(&mut self, count: u64) -> bool {
        if self.producer.room() < count {
            let slowest = self.scan(count);
            if self.producer.room() < count {
                let Some(slowest) = slowest else { return false };
                self.world.evict_dead(slowest.index, slowest.state);
                self.scan(count);
            }
        }
        let (position, number) = (self.position(), self.number as u64);
        let fill = |index: u64, words: &[AtomicU64]| store_message(words, 10 * (position + index + 1) + number);
        self.producer.room() >= count && self.producer.publish(count, fill).is_ok()
    }

    /// Publishes one message at a time.
    fn publish_some(&mut self, count: u64) -> u64 {
        (0..count).take_while(|_| self.publish(1)).count() as u64
    }
}

/// What a subscriber has read: positions with their publishers, in order, and how many it missed.
struct Subscriber {
    consumer: Consumer<Heap>,
    /// The position at which it has joined.
    from: u64,
    read: Vec<(u64, u64)>,
    missed: u64,
    is_evicted: bool,
}

impl Subscriber {
    fn new(consumer: Consumer<Heap>) -> Self {
        let from = consumer.position();
        Self { consumer, from, read: Vec::new(), missed: 0, is_evicted: false }
    }

    /// Reads what there is, at most that many messages. Returns how many.
    fn read(&mut self, max: u64) -> u64 {
        let before = self.consumer.position();
        let copy = |published: Published<'_, Heap>| {
            let count = published.count().min(max);
            Ok((count, (0..count).map(|index| copy_message(published.slot(index).unwrap())).collect::<Vec<_>>()))
        };
        let count = match self.consumer.read(copy).expect("valid words") {
            Read::Empty => 0,
            Read::Lagged(missed) => {
                assert!(missed > 0, "missed nothing");
                self.missed += missed;
                assert_eq!(self.consumer.position(), before + missed);
                return 0;
            }
            Read::Evicted => {
                self.is_evicted = true;
                0
            }
            Read::Message(messages) => {
                for (message, position) in messages.iter().zip(before..) {
                    let number = number(*message);
                    assert_eq!(number / 10, position + 1, "another position's message");
                    self.read.push((position, number % 10));
                }
                messages.len() as u64
            }
        };
        assert_eq!(self.consumer.position(), before + count);
        count
    }

    fn read_times<const READS: usize>(mut self) -> Self {
        (0..READS).for_each(|_| _ = self.read(1));
        self
    }

    /// Reads all that there is, after all threads have ended. Returns its position.
    fn drain(&mut self) -> u64 {
        while !self.is_evicted && self.consumer.probe() {
            let before = (self.missed, self.read.len());
            self.read(1);
            assert!(self.is_evicted || before != (self.missed, self.read.len()), "no progress");
        }
        self.consumer.position()
    }

    fn positions(&self) -> impl Iterator<Item = u64> {
        self.read.iter().map(|(position, _)| *position)
    }

    /// Reads the rest. It must have read each message from there to the tail.
    fn assert_lossless(mut self, tail: u64) {
        let from = self.from;
        assert_eq!(self.drain(), tail, "evicted: {}", self.is_evicted);
        assert!(self.positions().eq(from..tail), "from {from} to {tail}: {:?}", self.read);
        assert_eq!(self.missed, 0);
    }

    /// Reads the rest. Of what it has not read yet it misses exactly what was overwritten.
    fn assert_lossy(mut self, world: &TrackWorld) {
        let from = self.from;
        let tail = world.tail.load(Ordering::Acquire);
        let oldest = world.begun.load(Ordering::Acquire).saturating_sub(world.capacity);
        let (position, missed) = (self.consumer.position(), self.missed);
        assert_eq!(self.drain(), tail);
        assert_eq!(self.missed - missed, oldest.saturating_sub(position), "missed since {position}");
        assert_eq!(self.read.len() as u64 + self.missed, tail - from, "from {from} to {tail}: {:?}", self.read);
    }
}

// ---- not gated ----

/// One thread publishes `count` messages while another reads, twice, at most `max`.
fn publish_and_read(count: u64, max: u64) {
    model(move || {
        let world = TrackWorld::new(0, 2, Gate::Open, 0);
        let mut publisher = world.publisher(OTHER);
        let publisher = spawn(&world, move |_| assert_eq!(publisher.publish_some(count), count));
        let mut reader = world.observer(0);
        let reader = spawn(&world, move |_| (reader.read(max), reader.read(max), reader).2);
        join(publisher);
        join(reader).assert_lossy(&world);
    });
}

#[test]
fn broadcast_lossy_reader_overtaken_knows_what_it_missed() {
    publish_and_read(4, 1);
}

#[test]
fn broadcast_lossy_reader_overtaken_reads_on_up_to_the_tail() {
    publish_and_read(3, 2);
}

/// A subscriber whose cursor is only shown reads two messages at a time from a track that is
/// published in batches.
#[test]
fn broadcast_lossy_batches_are_read_whole_or_missed() {
    model(|| {
        let world = TrackWorld::new(1, 4, Gate::Open, 0);
        let mut publisher = world.publisher(OTHER);
        assert_eq!(publisher.producer.room(), 2, "a batch leaves less than half of the ring");
        let mut reader = world.subscribe(0, 0);
        let publisher = spawn(&world, move |_| (0..3).for_each(|_| assert!(publisher.publish(2))));
        let reader = spawn(&world, move |_| (reader.read(2), reader.read(2), reader).2);
        join(publisher);
        let reader = join(reader);
        assert_eq!(world.cursor(0).next(), reader.consumer.position());
        reader.assert_lossy(&world);
    });
}

/// A newcomer may ask for more history than there is.
#[test]
fn broadcast_lossy_newcomer_gets_what_is_left_of_the_history() {
    model(|| {
        let world = TrackWorld::new(0, 2, Gate::Open, 0);
        let mut publisher = world.publisher(OTHER);
        publisher.publish_some(2);
        let publisher = spawn(&world, move |_| assert_eq!(publisher.publish_some(2), 2));
        let reader = spawn(&world, |world| world.observer(2).read_times::<2>());
        join(publisher);
        join(reader).assert_lossy(&world);
    });
}

/// A publisher is killed at any access, and its successor publishes one more message, while another
/// thread reads `READS` times.
fn killed_publish_and_read<const READS: usize>(gate: Gate, batches: &'static [u64]) {
    for_every_kill(40, move |accesses| {
        let world = TrackWorld::new(0, 2, gate, 0);
        let publishers = spawn(&world, move |world| {
            let published = Note::new(0);
            let finished = kill_after(accesses, || {
                let mut publisher = world.publisher(VICTIM);
                for count in batches {
                    assert!(publisher.publish(*count));
                    published.set(publisher.position());
                }
            });
            // The right to publish came from the kernel.
            let mut successor = world.publisher(OTHER);
            assert_eq!(successor.position(), published.get(), "more, or less, than was published");
            assert!(successor.publish(1));
            (finished, published.get())
        });
        let reader = spawn(&world, |world| world.observer(0).read_times::<READS>());
        let (finished, published) = join(publishers);
        let mut reader = join(reader);
        while reader.read(1) > 0 || reader.consumer.probe() {}
        for (position, publisher) in &reader.read {
            let expected = if *position < published { VICTIM } else { OTHER };
            assert_eq!(*publisher, expected as u64, "of position {position}");
        }
        reader.assert_lossy(&world);
        finished
    });
}

/// The successor is another process. Its first store tells as much as the last one of the
/// predecessor.
#[test]
fn broadcast_lossy_successor_elsewhere_reader_finds_the_tail() {
    large_model(|| {
        let world = TrackWorld::new(0, 2, Gate::Open, 0);
        let predecessor = spawn(&world, |world| assert_eq!(world.publisher(VICTIM).publish_some(3), 3));
        let reader = spawn(&world, |world| world.observer(0).read_times::<2>());
        join(predecessor);
        assert!(world.publisher(OTHER).publish(1));
        join(reader).assert_lossy(&world);
    });
}

#[test]
fn broadcast_lossy_publisher_killed_reader_sees_no_torn_message() {
    killed_publish_and_read::<2>(Gate::Open, &[1, 1, 1]);
}

/// The batch that is not finished overwrites more than the successor publishes.
#[test]
fn broadcast_publisher_killed_in_a_batch_observer_sees_no_torn_message() {
    killed_publish_and_read::<1>(Gate::Wait, &[1, 2]);
}

// ---- gated ----

/// Beside a publisher that waits for its subscribers, somebody reads without a cursor.
#[test]
fn broadcast_observer_of_a_gated_track_knows_what_it_missed() {
    model(|| {
        let world = TrackWorld::new(0, 2, Gate::Wait, 0);
        let mut publisher = world.publisher(OTHER);
        assert!(publisher.publish(1));
        let reader = world.observer(1);
        let publisher = spawn(&world, move |_| assert!(publisher.publish(2) && publisher.publish(1)));
        let reader = spawn(&world, |_| reader.read_times::<2>());
        join(publisher);
        join(reader).assert_lossy(&world);
    });
}

#[test]
fn broadcast_gated_unread_messages_are_not_overwritten() {
    model(|| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let reader = world.subscribe(0, 0);
        let publisher = spawn(&world, move |_| (publisher.publish_some(4), publisher).1);
        let reader = spawn(&world, |_| reader.read_times::<2>());
        let (mut publisher, mut reader) = (join(publisher), join(reader));
        assert!(publisher.position() >= 2, "not even the free slots were used");
        reader.drain();
        assert!(publisher.publish(2), "what was read still blocks the publisher");
        reader.assert_lossless(publisher.position());
    });
}

/// A subscriber reads several messages and then takes them off together.
#[test]
fn broadcast_gated_batch_is_read_before_it_is_overwritten() {
    model(|| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let mut reader = world.subscribe(0, 0);
        assert!(publisher.publish(2));
        let publisher = spawn(&world, move |_| (publisher.publish(2), publisher).1);
        let reader = spawn(&world, move |_| {
            assert_eq!(reader.read(2), 2);
            reader.read(2);
            reader
        });
        let publisher = join(publisher);
        join(reader).assert_lossless(publisher.position());
    });
}

/// The publisher waits for the slower one of two.
#[test]
fn broadcast_gated_two_subscribers_read_all() {
    model(|| {
        let world = TrackWorld::new(2, 2, Gate::Wait, 0);
        world.subscribers.iter().for_each(SubscriberWords::take_lock);
        let mut publisher = world.publisher(OTHER);
        let readers = [0, 1].map(|index| world.subscribe(index, 0));
        assert!(publisher.publish(2));
        let [first, second] = readers;
        let first = spawn(&world, |_| first.read_times::<2>());
        let second = spawn(&world, |_| second.read_times::<1>());
        let publisher = spawn(&world, move |_| (publisher.publish_some(2), publisher).1);
        let tail = join(publisher).position();
        assert!(tail <= 3, "the second has read one message");
        join(first).assert_lossless(tail);
        join(second).assert_lossless(tail);
    });
}

/// A subscriber joins while messages are published. Before, another one had the cursor.
fn join_while_publishing(history: u64) {
    model(move || {
        let world = TrackWorld::new(1, 2, Gate::Wait, history);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let mut former = world.subscribe(0, 0);
        publisher.publish_some(2);
        former.drain();
        let (cursor, state) = former.consumer.cursor().unwrap();
        cursor.free(state);
        let publisher = spawn(&world, move |_| (publisher.publish_some(3), publisher).1);
        let newcomer = spawn(&world, move |world| world.subscribe(0, history).read_times::<1>());
        let publisher = join(publisher);
        let newcomer = join(newcomer);
        assert!(newcomer.from + history >= 2, "more history than it asked for");
        newcomer.assert_lossless(publisher.position());
    });
}

#[test]
fn broadcast_gated_newcomer_misses_nothing_from_where_it_joined() {
    join_while_publishing(0);
}

#[test]
fn broadcast_gated_newcomer_gets_the_history() {
    join_while_publishing(1);
}

#[test]
fn broadcast_gated_subscriber_that_left_blocks_nobody() {
    model(|| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let publisher = spawn(&world, move |_| (publisher.publish_some(3), publisher).1);
        let leaving = spawn(&world, |world| {
            let mut leaving = world.subscribe(0, 0);
            leaving.read(1);
            let (cursor, state) = leaving.consumer.cursor().unwrap();
            cursor.free(state);
        });
        let mut publisher = join(publisher);
        join(leaving);
        assert_eq!(publisher.publish_some(3), 3, "blocked by nobody");
    });
}

/// Without subscribers, a newcomer finds the history that it may ask for.
#[test]
fn broadcast_gated_history_is_kept_for_newcomers() {
    model(|| {
        let world = TrackWorld::new(1, 4, Gate::Wait, 2);
        let mut publisher = world.publisher(OTHER);
        assert_eq!(publisher.producer.batch_limit(), 2);
        (0..2).for_each(|_| assert!(publisher.publish(2)));
        // It is killed in the next batch.
        kill_after(6, || _ = publisher.publish(2));
        world.subscribers[0].take_lock();
        world.subscribe(0, 2).assert_lossless(4);
    });
}

// ---- eviction ----

#[test]
fn broadcast_evicted_subscriber_reads_no_other_message() {
    model(|| {
        let world = TrackWorld::new(1, 2, Gate::Evict { lag: 2 }, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let reader = world.subscribe(0, 0);
        let publisher = spawn(&world, move |_| {
            assert_eq!(publisher.publish_some(4), 4, "waits for a slow subscriber");
            publisher
        });
        let reader = spawn(&world, |_| reader.read_times::<2>());
        let (publisher, mut reader) = (join(publisher), join(reader));
        let tail = reader.drain();
        assert_eq!(reader.is_evicted, publisher.evicted_at.is_some());
        assert!(reader.is_evicted || tail == 4);
        assert!(reader.positions().eq(0..reader.read.len() as u64));
    });
}

/// A message of several slots needs room that a subscriber within its limit would hold back.
#[test]
fn broadcast_slow_subscriber_is_evicted_for_a_long_message() {
    model(|| {
        let world = TrackWorld::new(1, 4, Gate::Evict { lag: 3 }, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let mut reader = world.subscribe(0, 0);
        assert!(publisher.publish(1) && publisher.publish(2));
        assert_eq!(publisher.evicted_at, None, "evicted for a lag of 3");
        assert_eq!(publisher.producer.room(), 0, "it lags by 3, and nobody looks");
        reader.read(1);
        assert!(publisher.publish(2), "waits for a slow subscriber");
        assert_eq!(publisher.evicted_at, Some(3));
        reader.read(1);
        assert!(reader.is_evicted);
    });
}

/// A third participant evicts a subscriber while it reads, and the publisher makes use of it.
#[test]
fn broadcast_evicted_by_a_third_subscriber_reads_no_other_message() {
    large_model(|| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let mut reader = world.subscribe(0, 0);
        publisher.publish_some(2);
        let third = spawn(&world, |world| {
            let (state, _) = world.cursor(0).protected().unwrap();
            assert!(world.cursor(0).evict(state));
        });
        let publisher = spawn(&world, move |_| publisher.publish_some(2));
        let reader = spawn(&world, move |_| (reader.read(2), reader).1);
        join(third);
        join(publisher);
        let reader = join(reader);
        assert!(reader.read.len() != 1 && reader.positions().eq(0..reader.read.len() as u64));
    });
}

/// A subscriber that joins is not slow because it was slow to join. `published` messages are there
/// before.
fn join_where_slow_ones_are_evicted(lag: u64, published: u64, count: u64) {
    model(move || {
        let world = TrackWorld::new(1, 2, Gate::Evict { lag }, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        publisher.publish_some(published);
        let publisher = spawn(&world, move |_| (publisher.publish_some(count), publisher).1);
        let newcomer = spawn(&world, |world| world.subscribe(0, 0));
        let (publisher, newcomer) = (join(publisher), join(newcomer));
        let (cursor, state) = newcomer.consumer.cursor().unwrap();
        if cursor.has_changed(state) {
            let tail = publisher.evicted_at.expect("evicted by nobody");
            assert!(tail > newcomer.consumer.position(), "it has read all, and is evicted for being slow");
        } else {
            newcomer.assert_lossless(publisher.position());
        }
    });
}

#[test]
fn broadcast_newcomer_that_keeps_up_is_not_evicted() {
    join_where_slow_ones_are_evicted(1, 0, 2);
}

/// The publisher wants to evict a newcomer that has just found its position.
#[test]
fn broadcast_newcomer_found_slow_too_late_is_not_overtaken() {
    join_where_slow_ones_are_evicted(2, 0, 4);
}

/// A subscriber is killed at any access, and another one takes its place, while the publisher finds
/// out that it is dead.
#[test]
fn broadcast_gated_subscriber_killed_newcomer_is_not_evicted_for_it() {
    for_every_kill(20, |accesses| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        world.subscribers[0].take_lock();
        let mut publisher = world.publisher(OTHER);
        let mut victim = world.subscribe(0, 0);
        assert!(publisher.publish(2));
        let publisher = spawn(&world, move |_| (publisher.publish(1), publisher).1);
        let subscribers = spawn(&world, move |world| {
            let finished = kill_after(accesses, || _ = victim.read(1));
            world.subscribers[0].release_lock();
            world.subscribers[0].take_lock();
            (finished, world.subscribe(0, 0))
        });
        let mut publisher = join(publisher);
        let (finished, newcomer) = join(subscribers);
        assert!(publisher.publish(1), "blocked by a dead subscriber");
        newcomer.assert_lossless(publisher.position());
        finished
    });
}

/// Nobody takes the place of a subscriber that was killed. The publisher goes on without it.
#[test]
fn broadcast_gated_subscriber_killed_publisher_goes_on() {
    for_every_kill(40, |accesses| {
        let world = TrackWorld::new(1, 2, Gate::Wait, 0);
        let mut publisher = world.publisher(OTHER);
        world.subscribers[0].take_lock();
        let publisher = spawn(&world, move |_| (publisher.publish_some(2), publisher).1);
        let victim = spawn(&world, move |world| {
            let finished = kill_after(accesses, || _ = world.subscribe(0, 0).read_times::<2>());
            world.subscribers[0].release_lock();
            finished
        });
        let (mut publisher, finished) = (join(publisher), join(victim));
        assert_eq!(publisher.publish_some(3), 3, "blocked by a dead subscriber");
        finished
    });
}
