//! One track of a broadcast. Publishers follow each other, subscribers of all kinds come and go, and
//! any of them may be killed at any access.
//!
//! Each subscriber reads every message from where it joined, whole and once, or knows how many it
//! missed. Where publishers wait, nothing is overwritten that a live subscriber has not read, and
//! nobody is evicted but the dead. Where they evict, they never wait, and nobody is evicted that did
//! not lag. Nobody sleeps while there is something to read, or room.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::producer::{Gate, Producer};
use crate::world::{self, NewParticipant, Random, Scene, Settings, is_locked, try_lock, unlock};

/// Subscribers with cursors at the same time. File locks below are theirs.
const RECORDS: usize = 3;
/// A number and its complement.
const STRIDE: usize = 2;
/// The most messages that are published or read together.
const MAX_BATCH: u64 = 3;

#[derive(Clone)]
struct Broadcast {
    tail: Word,
    begun: Word,
    slots: Words,
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
    /// The publisher that has last begun each position.
    publishers: BTreeMap<u64, u64>,
    /// What was read: the positions with their publishers.
    read: Vec<(u64, u64)>,
    /// The participant and the position of each subscriber that the publisher may not overtake.
    protected: BTreeMap<usize, (usize, u64)>,
    /// The position behind the messages for which each subscriber was evicted as slow, by record.
    evicted: BTreeMap<usize, u64>,
    /// Publishers and subscribers that are still to start.
    pending: [u64; 2],
    generation: u64,
    publisher: Option<usize>,
}

fn content(position: u64, generation: u64) -> u64 {
    position << 16 | generation
}

impl Broadcast {
    fn track(&self) -> Track<Heap> {
        let (tail, begun, slots) = (self.tail.clone(), self.begun.clone(), self.slots.clone());
        Track { tail, begun, slots, capacity: self.capacity, stride: STRIDE }
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

    fn publish(&self, generation: u64, count: u64, mut random: Random) {
        announce_missing_membarrier([&self.room, &self.published]);
        let (room, published, cursors) = (self.room.event(), self.published.event(), self.cursors());
        let producer = Producer::attach(self.track(), self.gate, self.history).expect("valid words");
        let producer = RefCell::new(producer);
        for _ in 0..count {
            let limit = producer.borrow().batch_limit().min(MAX_BATCH);
            let want = 1 + random.below(limit);
            let attempt = || self.publish_batch(&mut producer.borrow_mut(), &cursors, generation, want).then_some(());
            let has_deadline = random.one_in(3);
            if wait(&room, &mut random, has_deadline, || self.evict_slowest_if_dead(&cursors), attempt).is_none() {
                break;
            }
            published.notify(u32::MAX);
            world::count_by("published", want);
        }
    }

    fn publish_batch(
        &self,
        producer: &mut Producer<Heap>,
        cursors: &[Cursor<Heap>],
        generation: u64,
        want: u64,
    ) -> bool {
        let position = producer.position();
        if producer.room() < want {
            producer.scan(cursors, want, |record| {
                let mut expected = self.expected.borrow_mut();
                expected.evicted.insert(record, position + want);
                expected.protected.remove(&record);
                world::count("evicted as slow");
            });
        }
        if producer.room() < want {
            assert!(self.gate == Gate::Wait, "a publisher waits for a slow subscriber");
            return false;
        }
        let end = position + want;
        {
            let mut expected = self.expected.borrow_mut();
            expected.publishers.extend((position..end).map(|position| (position, generation)));
            for (id, read) in expected.protected.values() {
                let is_safe = end <= read + self.capacity;
                assert!(is_safe || !world::is_alive(*id), "{end} overwrites what {id} has not read from {read} on");
            }
        }
        let fill = |number: u64, slot: &[AtomicU64]| {
            let content = content(position + number, generation);
            slot[0].store(content, Ordering::Relaxed);
            slot[1].store(!content, Ordering::Relaxed);
        };
        producer.publish(want, fill).expect("valid words");
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
            // It may ask for more than is kept.
            let replay = random.among(&[replay, self.capacity]);
            self.read_many(Consumer::observer(self.track(), replay), None, max, random);
            world::count("observers");
            return;
        }
        let Some(record) = (0..RECORDS).find(|record| try_lock(*record)) else { return };
        let cursor = self.cursor(record);
        self.expected.borrow_mut().evicted.remove(&record);
        let (state, position) = cursor.activate(&self.tail, replay).expect("valid words");
        let is_gated = self.gate != Gate::Open;
        if is_gated && !cursor.has_changed(state) {
            self.expected.borrow_mut().protected.insert(record, (world::me(), position));
        }
        self.room.event().wake(u32::MAX);
        let consumer = Consumer::new(self.track(), cursor, state, position, is_gated);
        if self.read_many(consumer, Some(record), max, random) {
            self.expected.borrow_mut().protected.remove(&record);
            self.cursor(record).free(state);
            self.room.event().wake(u32::MAX);
        }
        unlock(record);
        world::count("subscribers");
    }

    /// Reads up to `max` times. Returns false if it was evicted.
    fn read_many(&self, mut consumer: Consumer<Heap>, record: Option<usize>, max: u64, mut random: Random) -> bool {
        let (is_gated, from) = (record.is_some() && self.gate != Gate::Open, consumer.position());
        for _ in 0..max {
            let before = consumer.position();
            let want = 1 + random.below(MAX_BATCH);
            let attempt = || match consumer.read_many(want, |published| self.copy(published, record, before, want)) {
                Ok(Read::Empty) => None,
                found => Some(found.expect("valid words")),
            };
            match wait(&self.published.event(), &mut random, true, || {}, attempt) {
                Some(Read::Message(contents)) => {
                    for (content, position) in contents.iter().zip(before..) {
                        assert_eq!(content[1], !content[0], "torn: {content:x?}");
                        assert_eq!(content[0] >> 16, position, "another position's message");
                        self.expected.borrow_mut().read.push((position, content[0] & 0xFFFF));
                    }
                    assert_eq!(consumer.position(), before + contents.len() as u64);
                    world::count_by("read", contents.len() as u64);
                    if is_gated {
                        self.room.event().notify(1);
                    }
                }
                Some(Read::Lagged(missed)) => {
                    assert!(!is_gated && missed > 0, "{missed} missed");
                    assert_eq!(consumer.position(), before + missed);
                    world::count_by("missed", missed);
                }
                Some(Read::Evicted) => {
                    self.check_eviction(record, from);
                    return false;
                }
                Some(Read::Empty) => unreachable!("the attempt waits"),
                None if self.is_over() || random.one_in(3) => break,
                None => {}
            }
        }
        true
    }

    fn copy(
        &self,
        published: Published<'_, Heap>,
        record: Option<usize>,
        position: u64,
        max: u64,
    ) -> Result<(u64, Vec<[u64; STRIDE]>), crate::raw::Corrupt> {
        let count = published.count().min(max);
        let load = |slot: &[AtomicU64]| std::array::from_fn(|word| slot[word].load(Ordering::Relaxed));
        let contents = (0..count).map(|number| load(published.slot(number).expect("a slot"))).collect();
        // From here on the cursor may move at any time.
        let mut expected = self.expected.borrow_mut();
        if let Some((_, read)) = record.and_then(|record| expected.protected.get_mut(&record)) {
            *read = position + count;
        }
        Ok((count, contents))
    }

    /// A subscriber that has joined at `from` was evicted. What it has read since may be too new for
    /// the publisher.
    fn check_eviction(&self, record: Option<usize>, from: u64) {
        let Gate::Evict { lag } = self.gate else { panic!("a live subscriber was evicted") };
        let end = record.and_then(|record| self.expected.borrow().evicted.get(&record).copied());
        let end = end.expect("a live subscriber was evicted as dead");
        assert!(end > from + lag, "evicted before {end}, although it joined at {from}");
        world::count("evictions found");
    }
}

struct BroadcastScene {
    broadcast: Broadcast,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let capacity = random.among(&[2, 4, 8]);
    let history = random.below(capacity / 2 + 1);
    let lag = (history + MAX_BATCH).min(capacity);
    let lag = lag + random.below(capacity - lag + 1);
    let gate = random.among(&[Gate::Open, Gate::Wait, Gate::Wait, Gate::Evict { lag }]);
    let broadcast = Broadcast {
        tail: Word::new("tail"),
        begun: Word::new("begun"),
        slots: Words::new("slot", capacity as usize * STRIDE),
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
    broadcast.expected.borrow_mut().pending = [1 + random.below(1 + kills.min(3)), 1 + random.below(4 + kills)];
    let fences = Fences::choose(random);
    let concurrent = 2 + random.below(3) as usize;
    (
        Box::new(BroadcastScene { broadcast, fences, number: 0 }),
        Settings { concurrent, max: 2 + RECORDS, kills, timeouts: random.one_in(4) },
    )
}

impl Scene for BroadcastScene {
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
        let broadcast = &self.broadcast;
        let (tail, cursors) = (broadcast.tail.load(Ordering::Acquire), broadcast.cursors());
        for (position, generation) in &broadcast.expected.borrow().read {
            assert!(*position < tail, "{position} was read, and {tail} were published");
            assert_eq!(broadcast.expected.borrow().publishers[position], *generation, "of position {position}");
        }
        for (record, cursor) in cursors.iter().enumerate() {
            if let Some((state, _)) = cursor.protected() {
                assert!(world::has_killed() && !is_locked(record), "a cursor that nobody has freed");
                assert!(cursor.evict(state));
            }
        }
        // A last publisher finds all the room there can be, and an observer all that is kept.
        let mut producer = Producer::attach(broadcast.track(), broadcast.gate, broadcast.history).expect("valid words");
        let want = producer.batch_limit();
        broadcast.publish_batch(&mut producer, &cursors, 0xFFFF, want);
        assert_eq!(producer.position(), tail + want, "no room, and no subscribers");
        let mut observer = Consumer::observer(broadcast.track(), broadcast.history + want);
        let begun = broadcast.begun.load(Ordering::Acquire);
        let oldest = begun.saturating_sub(broadcast.capacity);
        let mut missed = 0;
        while observer.position() < tail + want {
            let before = observer.position();
            match observer.read_many(want, |published| broadcast.copy(published, None, before, want)) {
                Ok(Read::Message(contents)) => {
                    let expected = broadcast.expected.borrow();
                    for (content, position) in contents.iter().zip(before..) {
                        let kept = self::content(position, expected.publishers[&position]);
                        assert_eq!(*content, [kept, !kept], "at {position}");
                    }
                }
                Ok(Read::Lagged(more)) => missed += more,
                other => panic!("{other:?} at {before} of {tail}"),
            }
        }
        let from = (tail + want).saturating_sub(broadcast.history + want);
        assert_eq!(missed, oldest.saturating_sub(from), "missed from {from} on, with {begun} begun");
    }
}
