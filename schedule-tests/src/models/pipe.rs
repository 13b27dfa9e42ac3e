//! A one-way pipe of values or byte messages. Producers and consumers follow each other, and any of
//! them may be killed at any access.
//!
//! Messages are received in order, whole, and once. One is missing only if a consumer was killed
//! while it read it. A consumer learns of a new producer before it gets that producer's messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{Ordering, fence};
use crate::raw::event_count::EventCount;
use crate::raw::owner::Owner;
use crate::raw::spsc::record_ring::{MIN_WORDS, Record, RecordReader, RecordWriter};
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter, StoreKind};
use crate::raw::spsc::{Consumer, Positions, Producer};
use crate::world::{self, NewParticipant, Random, Scene, Settings};

type Value = [u64; 2];

const PRODUCER: usize = 0;
const CONSUMER: usize = 1;

#[derive(Clone)]
struct Pipe {
    tail: Word,
    head: Word,
    roles: [(Word, [Word; 2]); 2],
    /// What each side sleeps on.
    events: [Futex; 2],
    data: Words,
    capacity: u64,
    of_bytes: bool,
    expected: Rc<RefCell<Expected>>,
}

/// What the checker knows and the pipe does not.
#[derive(Default)]
struct Expected {
    /// For each message whether it was certainly sent. While it is being sent it may be published
    /// or not.
    sent: BTreeMap<u64, bool>,
    received: Vec<u64>,
    /// The generation of the last producer that joined.
    last_producer: u64,
    generations: [u64; 2],
    current: [usize; 2],
    pending: [u64; 2],
    killed_consumers: usize,
}

enum Writer {
    Values(SlotWriter<Heap, Value>),
    Bytes(RecordWriter<Heap>),
}

enum Reader {
    Values(SlotReader<Heap, Value>),
    Bytes(RecordReader<Heap>),
}

/// Bytes whose length and content depend on the message's number.
fn message(number: u64) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(8 + (number * 11 % 29) as usize).collect()
}

impl Pipe {
    fn positions(&self) -> Positions<Heap> {
        Positions { tail: self.tail.clone(), head: self.head.clone() }
    }

    fn role(&self, side: usize) -> Owner<Heap> {
        let (word, from) = &self.roles[side];
        Owner::new(word.clone(), from.clone())
    }

    fn event(&self, side: usize) -> EventCount<Heap> {
        self.events[side].event()
    }

    /// Becomes the owner of a side, under the lock of its record, as `src/pipe/connection.rs` does.
    fn take(&self, side: usize) {
        let index = if side == PRODUCER { &self.tail } else { &self.head };
        let from = index.load(Ordering::Acquire);
        self.role(side).acquire(from);
        self.event(1 - side).wake(1);
    }

    fn leave(&self, side: usize, closes: bool) {
        if closes {
            self.role(side).close();
            self.event(1 - side).wake(1);
        }
        fence(Ordering::SeqCst); // the system call that frees the lock
    }

    /// Whether that side has no owner, and none will come.
    fn is_over(&self, side: usize) -> bool {
        let expected = self.expected.borrow();
        expected.pending[side] == 0 && !world::is_alive(expected.current[side])
    }

    fn produce(&self, generation: u64, count: u64, closes: bool, mut random: Random) {
        self.expected.borrow_mut().last_producer = generation;
        self.take(PRODUCER);
        announce_missing_membarrier(&self.events);
        let (wait_event, peer_event) = (self.event(PRODUCER), self.event(CONSUMER));
        let ring = Producer::attach(self.positions(), self.capacity).expect("valid words");
        let mut writer = if self.of_bytes {
            Writer::Bytes(RecordWriter::new(ring, self.data.clone()))
        } else {
            Writer::Values(SlotWriter::new(ring, self.data.clone()))
        };
        let mut next = 0;
        while next < count {
            let batch = if self.of_bytes { 1 } else { (1 + random.below(2)).min(count - next) };
            let numbers: Vec<u64> = (next..next + batch).map(|index| generation << 16 | index).collect();
            let sent = wait(
                &wait_event,
                &mut random,
                true,
                || {},
                || {
                    self.expected.borrow_mut().sent.extend(numbers.iter().map(|number| (*number, false)));
                    let values: Vec<Value> = numbers.iter().map(|number| [*number, !number]).collect();
                    let sent = match &mut writer {
                        Writer::Values(writer) => writer.push_many(&values, StoreKind::Temporal).expect("valid words"),
                        Writer::Bytes(writer) => {
                            usize::from(writer.push(&message(numbers[0]), StoreKind::Temporal).expect("valid words"))
                        }
                    };
                    let mut expected = self.expected.borrow_mut();
                    expected.sent.extend(numbers[..sent].iter().map(|number| (*number, true)));
                    numbers[sent..].iter().for_each(|number| _ = expected.sent.remove(number));
                    (sent > 0).then_some(sent)
                },
            );
            match sent {
                Some(sent) => {
                    peer_event.notify(1);
                    world::count_by("sent", sent as u64);
                    next += sent as u64;
                }
                // The deadline has passed.
                None => break,
            }
        }
        self.leave(PRODUCER, closes);
    }

    fn consume(&self, max: u64, closes: bool, mut random: Random) {
        self.take(CONSUMER);
        announce_missing_membarrier(&self.events);
        let (wait_event, peer_event) = (self.event(CONSUMER), self.event(PRODUCER));
        let mut reader = self.reader();
        let mut last: Option<u64> = None;
        let mut change_reported = false;
        for _ in 0..max {
            let probes = random.one_in(2);
            let found = wait(
                &wait_event,
                &mut random,
                true,
                || {},
                || {
                    if probes {
                        reader.probe();
                    }
                    if let Some(number) = reader.pop() {
                        return Some(Some(number));
                    }
                    if reader.switch_producer() {
                        return Some(None);
                    }
                    None
                },
            );
            match found {
                Some(Some(number)) => {
                    peer_event.notify(1);
                    // Of several changes in a row the last one is reported, before the last
                    // producer's messages.
                    let is_last = number >> 16 == self.expected.borrow().last_producer;
                    let is_same = last.is_none_or(|last| last >> 16 == number >> 16);
                    assert!(
                        change_reported || is_same || !is_last,
                        "{number:#x} after {last:x?}, and the change of producers was not reported"
                    );
                    assert!(last.is_none_or(|last| number > last), "{number:#x} after {last:x?}");
                    (last, change_reported) = (Some(number), false);
                    self.expected.borrow_mut().received.push(number);
                    world::count("received");
                }
                Some(None) => {
                    change_reported = true;
                    world::count("producer changes");
                }
                None if self.is_over(PRODUCER) || random.one_in(3) => break,
                None => {}
            }
        }
        self.leave(CONSUMER, closes);
    }

    fn reader(&self) -> Reader {
        let ring = Consumer::attach(self.positions(), self.role(PRODUCER), self.capacity).expect("valid words");
        if self.of_bytes {
            Reader::Bytes(RecordReader::new(ring, self.data.clone(), 64))
        } else {
            Reader::Values(SlotReader::new(ring, self.data.clone()))
        }
    }
}

impl Reader {
    fn probe(&mut self) -> bool {
        match self {
            Self::Values(reader) => reader.probe(),
            Self::Bytes(reader) => reader.probe(),
        }
    }

    fn pop(&mut self) -> Option<u64> {
        match self {
            Self::Values(reader) => {
                let mut value = [0; 2];
                let popped = reader.pop(&mut value).expect("valid words");
                assert!(!popped || value[1] == !value[0], "torn: {value:x?}");
                popped.then_some(value[0])
            }
            Self::Bytes(reader) => match reader.next().expect("valid words") {
                Record::Empty => None,
                Record::Message { start, length } => {
                    let mut bytes = vec![0; length];
                    reader.copy_out(start, &mut bytes).expect("valid words");
                    let number = u64::from_le_bytes(*bytes.first_chunk().expect("a number"));
                    assert_eq!(bytes, message(number), "torn");
                    reader.release(length);
                    Some(number)
                }
                other => panic!("nobody sent {other:?}"),
            },
        }
    }

    /// Switches to the next producer if all messages of the last one are read. Returns whether it
    /// did.
    fn switch_producer(&mut self) -> bool {
        let ring = match self {
            Self::Values(reader) => &mut reader.ring,
            Self::Bytes(reader) => &mut reader.ring,
        };
        let switch_producer = ring.next_producer().is_some();
        ring.switch_producer();
        switch_producer
    }
}

struct PipeScene {
    pipe: Pipe,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let of_bytes = random.one_in(2);
    let capacity = if of_bytes { MIN_WORDS } else { random.among(&[1, 2, 4]) };
    let role = |word, even, odd| (Word::new(word), [Word::new(even), Word::new(odd)]);
    let pipe = Pipe {
        tail: Word::new("tail"),
        head: Word::new("head"),
        roles: [role("producer", "from even", "from odd"), role("consumer", "from even", "from odd")],
        events: [Futex::new("writable"), Futex::new("readable")],
        data: Words::new("data", if of_bytes { capacity as usize } else { 2 * capacity as usize }),
        capacity,
        of_bytes,
        expected: Rc::default(),
    };
    // Positions that wrap around are tried, too.
    let start = random.among(&[0, 0u64.wrapping_sub(capacity)]);
    pipe.tail.store(start, Ordering::Relaxed);
    pipe.head.store(start, Ordering::Relaxed);
    let kills = random.among(&[0, 0, 2, 8]);
    {
        let mut expected = pipe.expected.borrow_mut();
        expected.pending =
            if kills > 0 { [1 + random.below(5), 1 + random.below(4)] } else { [1 + random.below(3); 2] };
        expected.current = [usize::MAX; 2];
    }
    let fences = Fences::choose(random);
    (
        Box::new(PipeScene { pipe, fences, number: 0 }),
        Settings { concurrent: 2, max: 2, kills, timeouts: random.one_in(4) },
    )
}

impl Scene for PipeScene {
    fn has_next(&self) -> bool {
        self.pipe.expected.borrow().pending != [0, 0]
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        let mut expected = self.pipe.expected.borrow_mut();
        let is_free = |side: usize| expected.pending[side] > 0 && !world::is_alive(expected.current[side]);
        let free: Vec<usize> = [PRODUCER, CONSUMER].into_iter().filter(|&side| is_free(side)).collect();
        if free.is_empty() {
            return None;
        }
        let side = random.among(&free);
        expected.pending[side] -= 1;
        expected.generations[side] += 1;
        expected.current[side] = self.number;
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let (pipe, generation, own) =
            (self.pipe.clone(), expected.generations[side], Random::new(random.below(u64::MAX)));
        let (count, max, closes) = (1 + random.below(5), 1 + random.below(12), !random.one_in(3));
        let body = move || match side {
            PRODUCER => pipe.produce(generation, count, closes, own),
            _ => pipe.consume(max, closes, own),
        };
        Some(NewParticipant { membarrier, body: Box::new(body) })
    }

    fn killed(&mut self, id: usize) {
        let mut expected = self.pipe.expected.borrow_mut();
        expected.killed_consumers += usize::from(expected.current[CONSUMER] == id);
    }

    fn finish(&mut self) {
        // A last consumer receives what is left.
        self.pipe.take(CONSUMER);
        let mut reader = self.pipe.reader();
        loop {
            match reader.pop() {
                Some(number) => self.pipe.expected.borrow_mut().received.push(number),
                None if reader.switch_producer() => {}
                None => break,
            }
        }
        let expected = self.pipe.expected.borrow();
        let received = &expected.received;
        assert!(received.is_sorted_by(|a, b| a < b), "not in order, or twice: {received:x?}");
        let is_known = |number| expected.sent.contains_key(number);
        assert!(received.iter().all(is_known), "never sent: {received:x?} of {:x?}", expected.sent);
        let certain = expected.sent.iter().filter(|(_, is_certain)| **is_certain);
        let missing: Vec<&u64> =
            certain.map(|(number, _)| number).filter(|number| !received.contains(number)).collect();
        assert!(missing.len() <= expected.killed_consumers, "missing: {missing:x?}");
    }
}
