//! A one-way pipe of values or of bytes, over the generations of its two sides, each of which may be killed at any access.
//!
//! Each message is received in order, whole, and once; it is missing only if a consumer was killed with it in its hands. A
//! consumer hears of a successor before it gets the successor's messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, prepare, wait};
use crate::raw::event::Event;
use crate::raw::records::{MIN_WORDS, Next, RecordReader, RecordWriter};
use crate::raw::role::Role;
use crate::raw::slots::{SlotReader, SlotWriter, Stores};
use crate::raw::spsc::{Consumer, Indices, Producer};
use crate::sync::{Ordering, fence};
use crate::world::{self, Conduct, Newcomer, Random, Scene};

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
    truth: Rc<RefCell<Truth>>,
}

/// What the judge knows.
#[derive(Default)]
struct Truth {
    /// By message: whether it was sent for certain. While it is being sent it may be published or not.
    sent: BTreeMap<u64, bool>,
    received: Vec<u64>,
    /// The last producer that has come.
    newest: u64,
    generations: [u64; 2],
    present: [usize; 2],
    to_come: [u64; 2],
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

/// Bytes of different lengths, all of which say which message they belong to.
fn message(number: u64) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(8 + (number * 11 % 29) as usize).collect()
}

impl Pipe {
    fn indices(&self) -> Indices<Heap> {
        Indices { tail: self.tail.clone(), head: self.head.clone() }
    }

    fn role(&self, side: usize) -> Role<Heap> {
        let (word, from) = &self.roles[side];
        Role::new(word.clone(), from.clone())
    }

    fn event(&self, side: usize) -> Event<Heap> {
        self.events[side].event()
    }

    /// As `Side::take` of src/link.rs, with the seat locked.
    fn take(&self, side: usize) {
        let index = if side == PRODUCER { &self.tail } else { &self.head };
        let from = index.load(Ordering::Acquire);
        self.role(side).take(from);
        self.event(1 - side).wake(1);
    }

    fn leave(&self, side: usize, closes: bool) {
        if closes {
            self.role(side).close();
            self.event(1 - side).wake(1);
        }
        fence(Ordering::SeqCst); // the system call that unlocks the seat
    }

    /// Nobody is at that side, and nobody comes any more.
    fn is_over(&self, side: usize) -> bool {
        let truth = self.truth.borrow();
        truth.to_come[side] == 0 && !world::is_alive(truth.present[side])
    }

    fn produce(&self, generation: u64, count: u64, closes: bool, mut random: Random) {
        self.truth.borrow_mut().newest = generation;
        self.take(PRODUCER);
        prepare(&self.events);
        let (ear, bell) = (self.event(PRODUCER), self.event(CONSUMER));
        let ring = Producer::adopt(self.indices(), self.capacity).expect("no damage");
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
                &ear,
                &mut random,
                true,
                || {},
                || {
                    self.truth.borrow_mut().sent.extend(numbers.iter().map(|number| (*number, false)));
                    let values: Vec<Value> = numbers.iter().map(|number| [*number, !number]).collect();
                    let sent = match &mut writer {
                        Writer::Values(writer) => writer.push_many(&values, Stores::Cached).expect("no damage"),
                        Writer::Bytes(writer) => {
                            usize::from(writer.push(&message(numbers[0]), Stores::Cached).expect("no damage"))
                        }
                    };
                    let mut truth = self.truth.borrow_mut();
                    truth.sent.extend(numbers[..sent].iter().map(|number| (*number, true)));
                    numbers[sent..].iter().for_each(|number| _ = truth.sent.remove(number));
                    (sent > 0).then_some(sent)
                },
            );
            match sent {
                Some(sent) => {
                    bell.notify(1);
                    world::count_many("sent", sent as u64);
                    next += sent as u64;
                }
                // Its deadline has passed.
                None => break,
            }
        }
        self.leave(PRODUCER, closes);
    }

    fn consume(&self, most: u64, closes: bool, mut random: Random) {
        self.take(CONSUMER);
        prepare(&self.events);
        let (ear, bell) = (self.event(CONSUMER), self.event(PRODUCER));
        let mut reader = self.reader();
        let mut last: Option<u64> = None;
        let mut was_told = false;
        for _ in 0..most {
            let glances = random.one_in(2);
            let found = wait(
                &ear,
                &mut random,
                true,
                || {},
                || {
                    if glances {
                        reader.glance();
                    }
                    if let Some(number) = reader.pop() {
                        return Some(Some(number));
                    }
                    if reader.is_succeeded() {
                        return Some(None);
                    }
                    None
                },
            );
            match found {
                Some(Some(number)) => {
                    bell.notify(1);
                    // Of several successions in a row the last one is told of, and that before the last producer's messages.
                    let is_last = number >> 16 == self.truth.borrow().newest;
                    let is_same = last.is_none_or(|last| last >> 16 == number >> 16);
                    assert!(was_told || is_same || !is_last, "{number:#x} after {last:x?}, without a word between");
                    assert!(last.is_none_or(|last| number > last), "{number:#x} after {last:x?}");
                    (last, was_told) = (Some(number), false);
                    self.truth.borrow_mut().received.push(number);
                    world::count("received");
                }
                Some(None) => {
                    was_told = true;
                    world::count("successions");
                }
                None if self.is_over(PRODUCER) || random.one_in(3) => break,
                None => {}
            }
        }
        self.leave(CONSUMER, closes);
    }

    fn reader(&self) -> Reader {
        let ring = Consumer::adopt(self.indices(), self.role(PRODUCER), self.capacity).expect("no damage");
        if self.of_bytes {
            Reader::Bytes(RecordReader::new(ring, self.data.clone(), 64))
        } else {
            Reader::Values(SlotReader::new(ring, self.data.clone()))
        }
    }
}

impl Reader {
    fn glance(&mut self) -> bool {
        match self {
            Self::Values(reader) => reader.glance(),
            Self::Bytes(reader) => reader.glance(),
        }
    }

    fn pop(&mut self) -> Option<u64> {
        match self {
            Self::Values(reader) => {
                let mut value = [0; 2];
                let popped = reader.pop(&mut value).expect("no damage");
                assert!(!popped || value[1] == !value[0], "torn: {value:x?}");
                popped.then_some(value[0])
            }
            Self::Bytes(reader) => match reader.next().expect("no damage") {
                Next::Empty => None,
                Next::Message { start, length } => {
                    let mut bytes = vec![0; length];
                    reader.copy_out(start, &mut bytes).expect("no damage");
                    let number = u64::from_le_bytes(*bytes.first_chunk().expect("a number"));
                    assert_eq!(bytes, message(number), "torn");
                    reader.release(length);
                    Some(number)
                }
                other => panic!("nobody sent {other:?}"),
            },
        }
    }

    /// Passes on to the next producer, if everything of the last one is read.
    fn is_succeeded(&mut self) -> bool {
        let ring = match self {
            Self::Values(reader) => &mut reader.ring,
            Self::Bytes(reader) => &mut reader.ring,
        };
        let is_succeeded = ring.successor().is_some();
        ring.succeed();
        is_succeeded
    }
}

struct PipeScene {
    pipe: Pipe,
    fences: Fences,
    number: usize,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
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
        truth: Rc::default(),
    };
    // Positions that wrap around, too.
    let start = random.among(&[0, 0u64.wrapping_sub(capacity)]);
    pipe.tail.store(start, Ordering::Relaxed);
    pipe.head.store(start, Ordering::Relaxed);
    let kills = random.among(&[0, 0, 2, 8]);
    {
        let mut truth = pipe.truth.borrow_mut();
        truth.to_come = if kills > 0 { [1 + random.below(5), 1 + random.below(4)] } else { [1 + random.below(3); 2] };
        truth.present = [usize::MAX; 2];
    }
    let fences = Fences::choose(random);
    (Box::new(PipeScene { pipe, fences, number: 0 }), Conduct { at_once: 2, most: 2, kills, slices: random.one_in(4) })
}

impl Scene for PipeScene {
    fn has_more(&self) -> bool {
        self.pipe.truth.borrow().to_come != [0, 0]
    }

    fn next(&mut self, random: &mut Random) -> Option<Newcomer> {
        let mut truth = self.pipe.truth.borrow_mut();
        let is_free = |side: usize| truth.to_come[side] > 0 && !world::is_alive(truth.present[side]);
        let free: Vec<usize> = [PRODUCER, CONSUMER].into_iter().filter(|&side| is_free(side)).collect();
        if free.is_empty() {
            return None;
        }
        let side = random.among(&free);
        truth.to_come[side] -= 1;
        truth.generations[side] += 1;
        truth.present[side] = self.number;
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let (pipe, generation, own) = (self.pipe.clone(), truth.generations[side], Random::new(random.below(u64::MAX)));
        let (count, most, closes) = (1 + random.below(5), 1 + random.below(12), !random.one_in(3));
        let life = move || match side {
            PRODUCER => pipe.produce(generation, count, closes, own),
            _ => pipe.consume(most, closes, own),
        };
        Some(Newcomer { membarrier, life: Box::new(life) })
    }

    fn killed(&mut self, who: usize) {
        let mut truth = self.pipe.truth.borrow_mut();
        truth.killed_consumers += usize::from(truth.present[CONSUMER] == who);
    }

    fn finish(&mut self) {
        // A last consumer takes what is left.
        self.pipe.take(CONSUMER);
        let mut reader = self.pipe.reader();
        loop {
            match reader.pop() {
                Some(number) => self.pipe.truth.borrow_mut().received.push(number),
                None if reader.is_succeeded() => {}
                None => break,
            }
        }
        let truth = self.pipe.truth.borrow();
        let received = &truth.received;
        assert!(received.is_sorted_by(|a, b| a < b), "not in order, or twice: {received:x?}");
        let is_known = |number| truth.sent.contains_key(number);
        assert!(received.iter().all(is_known), "never sent: {received:x?} of {:x?}", truth.sent);
        let certain = truth.sent.iter().filter(|(_, is_certain)| **is_certain);
        let missing: Vec<&u64> =
            certain.map(|(number, _)| number).filter(|number| !received.contains(number)).collect();
        assert!(missing.len() <= truth.killed_consumers, "missing: {missing:x?}");
    }
}
