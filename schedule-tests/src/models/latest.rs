//! The latest values of one track of a broadcast, by key. Publishers follow each other. Subscribers
//! and observers take snapshots, give some up half-way, and read on. Any of them may be killed at
//! any access.
//!
//! A snapshot and the stream after it have each message of a key once, in order, and whole, but for
//! those that the snapshot replaces, and those that the subscriber knows it has missed. What a dead
//! publisher has stored as the latest value and not published is published by its successor.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Corrupt;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::latest::{Latest, Seen, split_slot, words_of_key};
use crate::raw::broadcast::producer::{Gate, Producer};
use crate::world::{self, NewParticipant, Random, Scene, Settings, is_locked, try_lock, unlock};

/// Subscribers with cursors at the same time. File locks below are theirs.
const RECORDS: usize = 3;
const KEYS: u64 = 3;
/// The content of a message, and its complement.
const VALUE_WORDS: usize = 2;
const STRIDE: usize = 4;

#[derive(Clone)]
struct Broadcast {
    tail: Word,
    begun: Word,
    slots: Words,
    latest: Words,
    states: Vec<Word>,
    next: Vec<Word>,
    capacity: u64,
    history: u64,
    gate: Gate,
    /// What the publisher sleeps on, and what subscribers sleep on.
    room: Futex,
    published: Futex,
    expected: Rc<RefCell<Expected>>,
}

/// What the checker knows and the track does not.
#[derive(Default)]
struct Expected {
    /// The key and the publisher of each position, as last begun.
    messages: BTreeMap<u64, Message>,
    /// What each subscriber has found, from the position on where it joined.
    journals: Vec<Rc<Journal>>,
    /// Publishers and subscribers that are still to start.
    pending: [u64; 2],
    generation: u64,
    publisher: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    key: u64,
    generation: u64,
}

#[derive(Debug)]
enum Found {
    Message {
        position: u64,
        message: Message,
    },
    /// Messages that were overwritten.
    Missed {
        from: u64,
        to: u64,
    },
    /// By key: the position of the value, and its publisher.
    Snapshot {
        start: u64,
        latest: Vec<Option<(u64, u64)>>,
    },
}

/// What a subscriber has found. It stays if the subscriber is killed.
struct Journal {
    from: u64,
    found: RefCell<Vec<Found>>,
    /// How far it has read.
    end: Cell<u64>,
}

/// A number that says everything about a message.
fn content(position: u64, Message { key, generation }: Message) -> u64 {
    position << 16 | key << 8 | generation
}

fn message(content: u64) -> (u64, Message) {
    (content >> 16, Message { key: content >> 8 & 0xFF, generation: content & 0xFF })
}

fn store(words: &[AtomicU64], content: u64) {
    words[0].store(content, Ordering::Relaxed);
    words[1].store(!content, Ordering::Relaxed);
}

fn load(words: &[AtomicU64]) -> [u64; VALUE_WORDS] {
    std::array::from_fn(|word| words[word].load(Ordering::Relaxed))
}

/// A subscriber's or an observer's side of the track, as `src/broadcast/track_reader.rs` has it.
struct Reader {
    consumer: Consumer<Heap>,
    seen: Option<Seen>,
    is_gated: bool,
    has_cursor: bool,
    journal: Rc<Journal>,
}

impl Broadcast {
    fn track(&self) -> Track<Heap> {
        let (tail, begun, slots) = (self.tail.clone(), self.begun.clone(), self.slots.clone());
        Track { tail, begun, slots, capacity: self.capacity, stride: STRIDE }
    }

    fn latest(&self) -> Latest<Heap> {
        Latest::new(self.latest.clone(), KEYS, VALUE_WORDS)
    }

    fn cursor(&self, record: usize) -> Cursor<Heap> {
        Cursor { state: self.states[record].clone(), next: self.next[record].clone() }
    }

    fn cursors(&self) -> Vec<Cursor<Heap>> {
        (0..RECORDS).map(|record| self.cursor(record)).collect()
    }

    /// Whether no publisher is there, and none will come.
    fn is_over(&self) -> bool {
        let expected = self.expected.borrow();
        expected.pending[0] == 0 && expected.publisher.is_none_or(|id| !world::is_alive(id))
    }

    // ---- publishers ----

    /// A publisher that has done what its predecessor did not come to do.
    fn attach(&self) -> Producer<Heap> {
        let mut producer = Producer::attach(self.track(), self.gate, self.history).expect("valid words");
        if producer.finish(&self.latest()).expect("valid words") {
            self.published.event().notify(u32::MAX);
            world::count("finished");
        }
        producer
    }

    fn publish(&self, generation: u64, count: u64, mut random: Random) {
        announce_missing_membarrier([&self.room, &self.published]);
        let (room, published, cursors) = (self.room.event(), self.published.event(), self.cursors());
        let producer = RefCell::new(self.attach());
        for _ in 0..count {
            let message = Message { key: random.below(KEYS), generation };
            let attempt = || self.publish_key(&mut producer.borrow_mut(), &cursors, message).then_some(());
            let has_deadline = random.one_in(3);
            if wait(&room, &mut random, has_deadline, || self.evict_slowest_if_dead(&cursors), attempt).is_none() {
                break;
            }
            published.notify(u32::MAX);
            world::count("published");
        }
    }

    fn publish_key(&self, producer: &mut Producer<Heap>, cursors: &[Cursor<Heap>], message: Message) -> bool {
        if producer.room() == 0 {
            producer.scan(cursors, 1, |_| world::count("evicted as slow"));
        }
        if producer.room() == 0 {
            assert!(self.gate == Gate::Wait, "a publisher waits for a slow subscriber");
            return false;
        }
        let position = producer.position();
        self.expected.borrow_mut().messages.insert(position, message);
        let fill = |value: &[AtomicU64]| store(value, content(position, message));
        producer.publish_key(&self.latest(), message.key, fill).expect("valid words");
        true
    }

    /// As `src/broadcast/publish_half.rs` does.
    fn evict_slowest_if_dead(&self, cursors: &[Cursor<Heap>]) {
        let active = cursors.iter().enumerate().filter_map(|(record, cursor)| Some((record, cursor.protected()?)));
        let Some((record, (state, _))) = active.min_by_key(|&(_, (_, next))| next) else { return };
        fence(Ordering::SeqCst); // E7
        if !is_locked(record) && cursors[record].evict(state) {
            world::count("evicted as dead");
        }
    }

    // ---- subscribers ----

    fn subscribe(&self, max: u64, has_cursor: bool, mut random: Random) {
        announce_missing_membarrier([&self.room, &self.published]);
        let replay = random.below(self.history + 1);
        if !has_cursor {
            let reader = self.reader(Consumer::observer(self.track(), replay), false);
            self.read_many(reader, max, random);
            world::count("observers");
            return;
        }
        let Some(record) = (0..RECORDS).find(|record| try_lock(*record)) else { return };
        let cursor = self.cursor(record);
        let (state, position) = cursor.activate(&self.tail, replay).expect("valid words");
        self.room.event().wake(u32::MAX);
        let consumer = Consumer::new(self.track(), cursor, state, position, self.gate != Gate::Open);
        if self.read_many(self.reader(consumer, true), max, random) {
            self.cursor(record).free(state);
            self.room.event().wake(u32::MAX);
        }
        unlock(record);
        world::count("subscribers");
    }

    fn reader(&self, consumer: Consumer<Heap>, has_cursor: bool) -> Reader {
        let from = consumer.position();
        let journal = Rc::new(Journal { from, found: RefCell::default(), end: Cell::new(from) });
        self.expected.borrow_mut().journals.push(Rc::clone(&journal));
        Reader { consumer, seen: None, is_gated: has_cursor && self.gate != Gate::Open, has_cursor, journal }
    }

    /// Takes snapshots and reads, up to `max` times. Returns false if it was evicted.
    fn read_many(&self, mut reader: Reader, max: u64, mut random: Random) -> bool {
        for _ in 0..max {
            if random.one_in(3) && !self.take_snapshot(&mut reader, random.one_in(4).then(|| random.below(KEYS))) {
                return false;
            }
            let attempt = || match self.read(&mut reader).expect("valid words") {
                Read::Empty => None,
                found => Some(found),
            };
            match wait(&self.published.event(), &mut random, true, || {}, attempt) {
                Some(Read::Message(_)) => self.notify_room(&reader),
                Some(Read::Lagged(missed)) => assert!(!reader.is_gated && missed > 0, "{missed} missed"),
                Some(Read::Evicted) => {
                    self.check_eviction(&reader);
                    return false;
                }
                Some(Read::Empty) => unreachable!("the attempt waits"),
                None if self.is_over() || random.one_in(3) => break,
                None => {}
            }
        }
        true
    }

    fn check_eviction(&self, reader: &Reader) {
        let may_be = reader.has_cursor && matches!(self.gate, Gate::Evict { .. });
        assert!(may_be, "a live subscriber was evicted");
        world::count("evictions found");
    }

    fn notify_room(&self, reader: &Reader) {
        if reader.is_gated {
            self.room.event().notify(1);
        }
    }

    /// Reads one message that the last snapshot does not have.
    fn read(&self, reader: &mut Reader) -> Result<Read<()>, Corrupt> {
        while let Some(seen) = &mut reader.seen {
            let before = reader.consumer.position();
            let read = seen.read(&mut reader.consumer, copy)?;
            if seen.is_over(&reader.consumer) {
                reader.seen = None;
            }
            let Read::Message(None) = read else {
                let (Read::Message(found), end) = (flatten(read), reader.consumer.position()) else {
                    return Ok(self.note_other(reader, before, flatten(read)));
                };
                self.note(reader, end - 1, found);
                world::count_by("passed over", end - 1 - before);
                return Ok(Read::Message(()));
            };
            reader.journal.end.set(reader.consumer.position());
            world::count_by("passed over", reader.consumer.position() - before);
            self.notify_room(reader);
        }
        let before = reader.consumer.position();
        match reader.consumer.read(copy)? {
            Read::Message(found) => {
                self.note(reader, before, found);
                Ok(Read::Message(()))
            }
            other => Ok(self.note_other(reader, before, other)),
        }
    }

    fn note(&self, reader: &Reader, position: u64, (key, value): (u64, [u64; VALUE_WORDS])) {
        let (of, message) = message(value[0]);
        assert_eq!(value[1], !value[0], "torn: {value:x?}");
        assert_eq!((of, message.key), (position, key), "another message");
        reader.journal.found.borrow_mut().push(Found::Message { position, message });
        reader.journal.end.set(reader.consumer.position());
        world::count("read");
    }

    fn note_other<R>(&self, reader: &Reader, from: u64, read: Read<R>) -> Read<()> {
        match read {
            Read::Lagged(missed) => {
                let to = reader.consumer.position();
                assert_eq!(to, from + missed);
                reader.journal.found.borrow_mut().push(Found::Missed { from, to });
                reader.journal.end.set(to);
                world::count_by("missed", missed);
                Read::Lagged(missed)
            }
            Read::Evicted => Read::Evicted,
            Read::Empty | Read::Message(_) => Read::Empty,
        }
    }

    /// Takes a snapshot, as `src/broadcast/track_reader.rs` does, or gives it up before a key.
    /// Returns false if the subscriber was evicted.
    fn take_snapshot(&self, reader: &mut Reader, gives_up_before: Option<u64>) -> bool {
        let mut snapshot = Seen::with_keys(KEYS).expect("memory");
        if !snapshot.begin(&mut reader.consumer).expect("valid words") {
            self.check_eviction(reader);
            return false;
        }
        let latest = self.latest();
        let mut found = Vec::new();
        for key in 0..KEYS {
            if gives_up_before == Some(key) {
                world::count("snapshots given up");
                return true;
            }
            let loaded = snapshot.load(&latest, key, |words| Ok(load(words))).expect("valid words");
            found.push(loaded.map(|(position, value)| {
                let (of, message) = message(value[0]);
                assert_eq!(value[1], !value[0], "torn: {value:x?}");
                assert_eq!((of, message.key), (position, key), "another message's value");
                (position, message.generation)
            }));
        }
        snapshot.end(&mut reader.consumer).expect("valid words");
        let start = snapshot.start();
        // Together with the position. A kill in between leaves a snapshot that nobody has seen.
        reader.seen = snapshot.go_on(&mut reader.consumer);
        reader.journal.found.borrow_mut().push(Found::Snapshot { start, latest: found });
        reader.journal.end.set(start);
        self.notify_room(reader);
        world::count("snapshots");
        true
    }
}

/// The key and the value of the first slot.
fn copy(published: Published<'_, Heap>) -> Result<(u64, (u64, [u64; VALUE_WORDS])), Corrupt> {
    let (key, value) = split_slot(published.slot(0).expect("a slot"))?;
    Ok((1, (key, load(value))))
}

fn flatten<R: Copy>(read: Read<Option<R>>) -> Read<R> {
    match read {
        Read::Message(found) => found.map_or(Read::Empty, Read::Message),
        Read::Empty => Read::Empty,
        Read::Lagged(missed) => Read::Lagged(missed),
        Read::Evicted => Read::Evicted,
    }
}

impl Journal {
    /// Checks it against all messages of the track.
    fn check(&self, messages: &BTreeMap<u64, Message>) {
        // By key: the first position that is still to come.
        let mut next = [self.from; KEYS as usize];
        let mut missed: Vec<(u64, u64)> = Vec::new();
        let of_key = |key: u64, from: u64, to: u64| {
            let range = messages.range(from..to.max(from));
            range.filter(move |(_, message)| message.key == key).map(|(position, _)| *position)
        };
        let check_gap = |missed: &[(u64, u64)], key: u64, from: u64, to: u64| {
            for position in of_key(key, from, to) {
                let is_missed = missed.iter().any(|(from, to)| (*from..*to).contains(&position));
                assert!(is_missed, "{position} of key {key} was never delivered: {:?}", self.found);
            }
        };
        for found in self.found.borrow().iter() {
            match found {
                Found::Message { position, message } => {
                    assert_eq!(messages.get(position), Some(message), "at {position}");
                    let next = &mut next[message.key as usize];
                    assert!(*position >= *next, "{position} was delivered again: {:?}", self.found);
                    check_gap(&missed, message.key, *next, *position);
                    *next = position + 1;
                }
                Found::Missed { from, to } => missed.push((*from, *to)),
                Found::Snapshot { start, latest } => {
                    for ((key, latest), next) in (0..).zip(latest).zip(&mut next) {
                        let last = of_key(key, 0, *start).next_back().map_or(0, |position| position + 1);
                        let end = latest.map_or(0, |(position, _)| position + 1);
                        assert!(end >= last, "the snapshot has an old value of key {key}: {:?}", self.found);
                        if let Some((position, generation)) = *latest {
                            let found = Message { key, generation };
                            assert_eq!(messages.get(&position), Some(&found), "of the snapshot");
                            let was_read = of_key(key, self.from, *next).next_back().map_or(0, |position| position + 1);
                            assert!(end >= was_read, "{position} was replaced before: {:?}", self.found);
                        }
                        *next = (*next).max(end).max(*start);
                    }
                }
            }
        }
        (0..KEYS).zip(next).for_each(|(key, next)| check_gap(&missed, key, next, self.end.get()));
    }
}

struct LatestScene {
    broadcast: Broadcast,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let capacity = random.among(&[2, 4, 8]);
    let history = random.below(capacity / 2 + 1);
    let lag = history + 1 + random.below(capacity - history);
    let gate = random.among(&[Gate::Open, Gate::Open, Gate::Wait, Gate::Wait, Gate::Evict { lag }]);
    let broadcast = Broadcast {
        tail: Word::new("tail"),
        begun: Word::new("begun"),
        slots: Words::new("slot", capacity as usize * STRIDE),
        latest: Words::new("latest", KEYS as usize * words_of_key(VALUE_WORDS)),
        states: (0..RECORDS).map(|_| Word::new("state")).collect(),
        next: (0..RECORDS).map(|_| Word::new("next")).collect(),
        capacity,
        history,
        gate,
        room: Futex::new("room"),
        published: Futex::new("published"),
        expected: Rc::default(),
    };
    let kills = random.among(&[0, 0, 2, 6]);
    broadcast.expected.borrow_mut().pending = [1 + random.below(2 + kills), 1 + random.below(3 + kills / 2)];
    let fences = Fences::choose(random);
    let concurrent = 2 + random.below(3) as usize;
    (
        Box::new(LatestScene { broadcast, fences, number: 0 }),
        Settings { concurrent, max: 2 + RECORDS, kills, timeouts: random.one_in(4) },
    )
}

impl Scene for LatestScene {
    fn has_next(&self) -> bool {
        self.broadcast.expected.borrow().pending != [0, 0]
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        let mut expected = self.broadcast.expected.borrow_mut();
        let publisher_ends = expected.publisher.is_none_or(|id| !world::is_alive(id));
        let may_start = [publisher_ends && expected.pending[0] > 0, expected.pending[1] > 0];
        let sides: Vec<usize> = (0..2).filter(|&side| may_start[side]).collect();
        if sides.is_empty() {
            return None;
        }
        let side = random.among(&sides);
        expected.pending[side] -= 1;
        let membarrier = self.fences.has_membarrier(self.number);
        let (broadcast, own) = (self.broadcast.clone(), Random::new(random.below(u64::MAX)));
        let body: Box<dyn FnOnce()> = if side == 0 {
            expected.publisher = Some(self.number);
            expected.generation += 1;
            let (generation, count) = (expected.generation, 1 + random.below(12));
            Box::new(move || broadcast.publish(generation, count, own))
        } else {
            let (max, has_cursor) = (1 + random.below(12), !random.one_in(4));
            Box::new(move || broadcast.subscribe(max, has_cursor, own))
        };
        self.number += 1;
        Some(NewParticipant { membarrier, body })
    }

    fn finish(&mut self) {
        let (broadcast, cursors) = (&self.broadcast, self.broadcast.cursors());
        for cursor in &cursors {
            if let Some((state, _)) = cursor.protected() {
                assert!(world::has_killed(), "a cursor that nobody has freed");
                assert!(cursor.evict(state));
            }
        }
        // A last publisher finishes what is left, and a last observer finds the last of each key.
        let mut producer = broadcast.attach();
        let tail = producer.position();
        let is_published = |messages: &mut BTreeMap<u64, Message>| messages.retain(|position, _| *position < tail);
        is_published(&mut broadcast.expected.borrow_mut().messages);
        let mut reader = broadcast.reader(Consumer::observer(broadcast.track(), 0), false);
        assert!(broadcast.take_snapshot(&mut reader, None));
        for key in 0..KEYS {
            assert!(broadcast.publish_key(&mut producer, &cursors, Message { key, generation: 0xFF }));
            assert_eq!(broadcast.read(&mut reader), Ok(Read::Message(())), "of key {key}");
        }
        let expected = broadcast.expected.borrow();
        expected.journals.iter().for_each(|journal| journal.check(&expected.messages));
    }
}
