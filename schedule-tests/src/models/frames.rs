//! The frames of one track of a broadcast. Publishers follow each other, fill frames, or take one
//! and do not publish it. Subscribers copy from frames, or hold leases of several, even after they
//! have left. Any of them may be killed at any access.
//!
//! No frame is filled while a live subscriber has a lease of it. Each subscriber reads every message
//! from where it joined, whole and once, or knows how many it missed. The leases of a dead one come
//! back, by a publisher that needs a frame or a newcomer in the same place, and no frame is lost.
//! Nobody sleeps while there is something to read, or a frame.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::Corrupt;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Read};
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::frames::{FramePool, Leases};
use crate::raw::broadcast::producer::{Gate, Producer};
use crate::world::{self, NewParticipant, Random, Scene, Settings, is_locked, try_lock, unlock};

/// Subscribers at the same time. File locks below are theirs.
const RECORDS: usize = 3;
/// Their bits in the leases: in two words.
const BITS: [usize; RECORDS] = [0, 63, 64];
const LEASE_WORDS: usize = 2;
/// Of a slot: the frame plus 1, or 0, and the content of the message.
const STRIDE: usize = 2;
/// The content of the message, and its complement.
const FRAME_WORDS: usize = 2;

#[derive(Clone)]
struct Broadcast {
    tail: Word,
    begun: Word,
    slots: Words,
    states: Vec<Word>,
    next: Vec<Word>,
    leases: Words,
    frames: Vec<Words>,
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
    /// By frame and record: the participant that has a lease.
    leased: BTreeMap<(u64, usize), usize>,
    /// Publishers and subscribers that are still to start.
    pending: [u64; 2],
    generation: u64,
    publisher: Option<usize>,
}

/// A frame that a subscriber holds, and what is in it.
#[derive(Clone, Copy)]
struct Held {
    frame: u64,
    content: u64,
}

fn content(position: u64, generation: u64) -> u64 {
    position << 16 | generation
}

fn load(words: &[AtomicU64]) -> [u64; 2] {
    std::array::from_fn(|word| words[word].load(Ordering::Relaxed))
}

fn frame_of(slot: &[AtomicU64]) -> Option<u64> {
    slot[0].load(Ordering::Relaxed).checked_sub(1)
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

    fn leases(&self) -> Leases<Heap> {
        Leases { words: self.leases.clone(), stride: LEASE_WORDS, count: self.frames.len() as u64 }
    }

    fn attach(&self) -> (Producer<Heap>, FramePool<Heap>) {
        let producer = Producer::attach(self.track(), self.gate, self.history).expect("valid words");
        let pool = FramePool::attach(self.leases(), &producer, frame_of);
        (producer, pool)
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
        let publisher = RefCell::new(self.attach());
        for _ in 0..count {
            let (needs_frame, has_deadline) = (!random.one_in(4), random.one_in(3));
            let attempt = || {
                let (producer, pool) = &mut *publisher.borrow_mut();
                producer.scan(&cursors, 1, |_| world::count("evicted as slow"));
                match needs_frame {
                    true => pool.take(producer).map(Some),
                    false => (producer.room() > 0).then_some(None),
                }
            };
            let check = || {
                if needs_frame {
                    self.clear_dead_leases();
                }
                self.evict_slowest_if_dead(&cursors);
            };
            let Some(frame) = wait(&room, &mut random, has_deadline, check, attempt) else { break };
            let (producer, pool) = &mut *publisher.borrow_mut();
            if let Some(frame) = frame {
                self.fill(frame, content(producer.position(), generation));
                if random.one_in(6) {
                    world::count("frames not published");
                    continue;
                }
            }
            self.publish_one(producer, pool, frame, generation);
            published.notify(u32::MAX);
            world::count("published");
        }
    }

    /// Fills a frame that was taken.
    fn fill(&self, frame: u64, content: u64) {
        for (&(_, record), id) in self.expected.borrow().leased.range((frame, 0)..=(frame, RECORDS)) {
            assert!(!world::is_alive(*id), "frame {frame} was taken, which {id} of record {record} reads");
        }
        let words = &self.frames[frame as usize];
        words[0].store(content, Ordering::Relaxed);
        words[1].store(!content, Ordering::Relaxed);
    }

    fn publish_one(
        &self,
        producer: &mut Producer<Heap>,
        pool: &mut FramePool<Heap>,
        frame: Option<u64>,
        generation: u64,
    ) {
        let position = producer.position();
        self.expected.borrow_mut().publishers.insert(position, generation);
        let fill = |slot: &[AtomicU64]| {
            slot[0].store(frame.map_or(0, |frame| frame + 1), Ordering::Relaxed);
            slot[1].store(content(position, generation), Ordering::Relaxed);
        };
        match frame {
            Some(frame) => pool.publish(producer, frame, fill),
            None => producer.publish(1, |_, slot| fill(slot)),
        }
        .expect("valid words");
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

    /// As `src/broadcast/state.rs` does: under the lock of the participant, so that no newcomer takes
    /// its place meanwhile.
    fn clear_dead_leases(&self) {
        for bit in self.leases().holders() {
            let record = BITS.iter().position(|&other| other == bit).expect("a lease of nobody");
            if try_lock(record) {
                self.forget_leases(record);
                self.leases().clear_all(bit);
                unlock(record);
                world::count("leases of the dead cleared");
            }
        }
    }

    // ---- subscribers ----

    fn subscribe(&self, max: u64, mut random: Random) {
        announce_missing_membarrier([&self.room, &self.published]);
        let Some(record) = (0..RECORDS).find(|record| try_lock(*record)) else { return };
        let (cursor, leases) = (self.cursor(record), self.leases());
        self.forget_leases(record);
        leases.clear_all(BITS[record]);
        assert_eq!(leases.held(BITS[record]), 0, "a newcomer has leases");
        let replay = random.below(self.history + 1);
        let (state, position) = cursor.activate(&self.tail, replay).expect("valid words");
        self.room.event().wake(u32::MAX);
        let consumer = Consumer::new(self.track(), cursor, state, position, self.gate != Gate::Open);
        let mut held = Vec::new();
        let is_evicted = self.read_many(consumer, record, max, &mut held, &mut random);
        let gives_back_first = random.one_in(2);
        if gives_back_first {
            held.drain(..).for_each(|held| self.give_back(record, held));
        }
        if !is_evicted {
            self.cursor(record).free(state);
            self.room.event().wake(u32::MAX);
        }
        // The lock is kept as long as there are leases.
        held.drain(..).for_each(|held| self.give_back(record, held));
        unlock(record);
        world::count("subscribers");
    }

    /// Reads up to `max` times. Returns whether it was evicted.
    fn read_many(
        &self,
        mut consumer: Consumer<Heap>,
        record: usize,
        max: u64,
        held: &mut Vec<Held>,
        random: &mut Random,
    ) -> bool {
        for _ in 0..max {
            let (before, copies) = (consumer.position(), random.one_in(3));
            let most_held = if random.one_in(3) { 0 } else { random.below(3) as usize };
            let attempt = || match self.read(&mut consumer, record, copies) {
                Ok(Read::Empty) => None,
                found => Some(found.expect("valid words")),
            };
            match wait(&self.published.event(), random, true, || {}, attempt) {
                Some(Read::Message((slot, leased))) => {
                    assert_eq!(slot >> 16, before, "another position's message");
                    assert_eq!(consumer.position(), before + 1);
                    self.expected.borrow_mut().read.push((before, slot & 0xFFFF));
                    self.room.event().notify(1);
                    held.extend(leased);
                    world::count(if leased.is_some() { "leased" } else { "copied" });
                }
                Some(Read::Lagged(missed)) => {
                    assert!(self.gate == Gate::Open && missed > 0, "{missed} missed");
                    assert_eq!(consumer.position(), before + missed);
                    self.room.event().notify(1); // a lease was there for a moment
                    world::count_by("missed", missed);
                }
                Some(Read::Evicted) => {
                    assert!(matches!(self.gate, Gate::Evict { .. }), "a live subscriber was evicted");
                    self.room.event().notify(1);
                    held.iter().for_each(|held| self.look(*held));
                    world::count("evictions found");
                    return true;
                }
                Some(Read::Empty) => unreachable!("the attempt waits"),
                None if self.is_over() || random.one_in(3) => break,
                None => {}
            }
            held.iter().for_each(|held| self.look(*held));
            while held.len() > most_held {
                let at = random.below(held.len() as u64) as usize;
                self.give_back(record, held.swap_remove(at));
            }
        }
        false
    }

    /// Reads one message: its content, and the frame that it has leased for it.
    fn read(
        &self,
        consumer: &mut Consumer<Heap>,
        record: usize,
        copies: bool,
    ) -> Result<Read<(u64, Option<Held>)>, Corrupt> {
        // A frame without a lease is overwritten only after begun was stored, like a slot. A cursor
        // protects slots only as long as it is not moved.
        let read = consumer.read(|published| {
            let [name, content] = load(published.slot(0).expect("a slot"));
            let Some(frame) = name.checked_sub(1) else { return Ok((1, (content, None, None))) };
            if !copies {
                return Ok((0, (content, Some(frame), None)));
            }
            // It may be the name of another message.
            let words = self.frames.get(frame as usize).ok_or(Corrupt)?;
            Ok((1, (content, None, Some(load(words)))))
        })?;
        let (content, frame, copied) = match read {
            Read::Message(found) => found,
            Read::Empty => return Ok(Read::Empty),
            Read::Lagged(missed) => return Ok(Read::Lagged(missed)),
            Read::Evicted => return Ok(Read::Evicted),
        };
        if let Some(copied) = copied {
            assert_eq!(copied, [content, !content], "a frame was copied that was filled again");
        }
        let Some(frame) = frame else { return Ok(Read::Message((content, None))) };
        let held = Held { frame, content };
        let leased = consumer.lease(&self.leases(), BITS[record], frame)?;
        Ok(match leased {
            Read::Message(()) => {
                self.expected.borrow_mut().leased.insert((frame, record), world::me());
                Read::Message((content, Some(held)))
            }
            Read::Empty => panic!("a lease that is neither there nor overtaken"),
            Read::Lagged(missed) => Read::Lagged(missed),
            Read::Evicted => Read::Evicted,
        })
    }

    /// What is leased stays as it is.
    fn look(&self, held: Held) {
        let found = load(&self.frames[held.frame as usize]);
        assert_eq!(found, [held.content, !held.content], "frame {} was filled again", held.frame);
    }

    fn give_back(&self, record: usize, held: Held) {
        self.look(held);
        self.expected.borrow_mut().leased.remove(&(held.frame, record));
        self.leases().clear(held.frame, BITS[record]);
        self.room.event().notify(1);
    }

    /// The last holder of the record is gone.
    fn forget_leases(&self, record: usize) {
        self.expected.borrow_mut().leased.retain(|&(_, of), id| {
            assert!(of != record || !world::is_alive(*id), "{id} lost its lock of record {record}");
            of != record
        });
    }
}

struct FramesScene {
    broadcast: Broadcast,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let capacity = random.among(&[2, 4, 8]);
    // History is less than the capacity, and less than the number of frames.
    let history = random.below(capacity / 2 + 1);
    let frames = history + 1 + random.below(4);
    let lag = history + 1 + random.below(capacity - history);
    let gate = random.among(&[Gate::Open, Gate::Wait, Gate::Wait, Gate::Evict { lag }]);
    let broadcast = Broadcast {
        tail: Word::new("tail"),
        begun: Word::new("begun"),
        slots: Words::new("slot", capacity as usize * STRIDE),
        states: (0..RECORDS).map(|_| Word::new("state")).collect(),
        next: (0..RECORDS).map(|_| Word::new("next")).collect(),
        leases: Words::new("leases", frames as usize * LEASE_WORDS),
        frames: (0..frames).map(|_| Words::new("frame", FRAME_WORDS)).collect(),
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
        Box::new(FramesScene { broadcast, fences, number: 0 }),
        Settings { concurrent, max: 2 + RECORDS, kills, timeouts: random.one_in(4) },
    )
}

impl Scene for FramesScene {
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
        let count = 1 + random.below(12);
        let body: Box<dyn FnOnce()> = if side == 0 {
            expected.publisher = Some(self.number);
            expected.generation += 1;
            let generation = expected.generation;
            Box::new(move || broadcast.publish(generation, count, own))
        } else {
            Box::new(move || broadcast.subscribe(count, own))
        };
        self.number += 1;
        Some(NewParticipant { membarrier, body })
    }

    fn finish(&mut self) {
        let broadcast = &self.broadcast;
        let (tail, cursors, leases) = (broadcast.tail.load(Ordering::Acquire), broadcast.cursors(), broadcast.leases());
        for (position, generation) in &broadcast.expected.borrow().read {
            assert!(*position < tail, "{position} was read, and {tail} were published");
            assert_eq!(broadcast.expected.borrow().publishers[position], *generation, "of position {position}");
        }
        assert!(world::has_killed() || leases.leased() == 0, "a lease that nobody has given back");
        broadcast.clear_dead_leases();
        assert_eq!(leases.leased(), 0, "a lease that cannot be cleared");
        for cursor in &cursors {
            if let Some((state, _)) = cursor.protected() {
                assert!(world::has_killed(), "a cursor that nobody has freed");
                assert!(cursor.evict(state));
            }
        }
        // A last publisher never waits for a frame.
        let (mut producer, mut pool) = broadcast.attach();
        for _ in 0..2 * broadcast.frames.len() as u64 + broadcast.capacity {
            producer.scan(&cursors, 1, |_| {});
            let frame = pool.take(&mut producer).expect("no frame, and nobody reads");
            broadcast.fill(frame, content(producer.position(), 0xFFFF));
            broadcast.publish_one(&mut producer, &mut pool, Some(frame), 0xFFFF);
        }
        // The last messages that must be kept are.
        let replay = broadcast.history.max(1);
        let mut observer = Consumer::observer(broadcast.track(), replay);
        for position in producer.position() - replay..producer.position() {
            let read = observer.read(|published| Ok((1, load(published.slot(0).expect("a slot")))));
            if broadcast.gate == Gate::Open && matches!(read, Ok(Read::Lagged(_))) {
                break; // it has given them up
            }
            let Ok(Read::Message([name, slot])) = read else { panic!("{read:?} at {position}") };
            assert_eq!(slot, content(position, 0xFFFF));
            assert_eq!(load(&broadcast.frames[name as usize - 1]), [slot, !slot], "a frame that a slot names");
        }
    }
}
