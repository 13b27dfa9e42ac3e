//! The library against arbitrary bytes: one body for the fuzzer (`fuzz/`) and for the replay of its corpora
//! (`corpus.rs`). Not part of the API.
//!
//! An input is a set-up and a script of operations. Rings are driven in two ways: *honest*, where both sides keep the
//! protocol and a plain queue says what must come out; *hostile*, where words change under both sides, between operations
//! and between any two accesses of one, and only bounds and an end are promised. A function panics if, and only if, a promise is broken.

#[cfg(test)]
mod corpus;
mod mpmc;
mod objects;
mod queue;
mod raw_objects;
mod table;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytemuck::Pod;

pub use mpmc::mpmc_ring;
pub use objects::objects;
pub use queue::queue_region;
pub use table::open_table;

use crate::error::RecvError;
use crate::pipe::connection;
use crate::pipe::{self, BytePipe, Pipe, PipeEndpoint};
use crate::primitive::{AtomicU32, AtomicU64, Ordering::Relaxed, WORD};
use crate::raw::owner::Owner;
use crate::raw::spsc::record_ring::{self, MIN_WORDS, RecordReader, RecordWriter, max_inline_bytes};
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter, StoreKind, stride};
use crate::raw::spsc::{Consumer, Indices, Producer};
use crate::raw::{Corrupt, Memory};
use crate::region::Region;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::layout::namespace::ENTRY_WORDS;
use crate::region::layout::pipe::PipeLayout;
use crate::region::layout::pipe::ring;
use crate::region::layout::queue::QueueLayout;
use crate::region::layout::queue::{control, own};
use crate::region::layout::{Layout, header, participant};

/// What one input may take, in time of its thread: no lie is worth more. With the compiler's checks some times as much.
const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 50 });

fn in_time(run: impl FnOnce()) {
    let began = crate::sys::clock::run_time();
    run();
    let took = crate::sys::clock::run_time() - began;
    assert!(took <= MOST, "an input took {took:?}");
}

/// An input, read from its front; behind its end all is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (front, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        std::array::from_fn(|i| front.get(i).copied().unwrap_or(0))
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn short(&mut self) -> u64 {
        u16::from_le_bytes(self.bytes()).into()
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// The next operation; the script ends with the input, so every script ends.
    fn op(&mut self) -> Option<u8> {
        (!self.0.is_empty()).then(|| self.byte())
    }

    /// What a scribbler may put in the place of `now`: anything, something near it, what looks like a record.
    fn lie(&mut self, now: u64) -> u64 {
        match self.byte() % 3 {
            0 => self.word(),
            1 => now.wrapping_add_signed(i8::from_le_bytes(self.bytes()).into()),
            _ => u64::from(self.byte()) << 56 | self.short(),
        }
    }

    fn stores(&mut self) -> StoreKind {
        if self.byte() & 1 == 0 { StoreKind::Temporal } else { StoreKind::NonTemporal }
    }
}

/// `length` bytes that differ from message to message.
fn payload(number: u64, length: u64) -> Vec<u8> {
    (0..length).map(|i| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 8 * 7)) as u8 ^ i as u8).collect()
}

fn value<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&payload(number, size_of::<T>() as u64))
}

/// A header of 64 words, then the length of the file that it claims to describe.
pub fn open_header(data: &[u8]) {
    let mut input = Input(data);
    let words: [u64; header::WORDS] = std::array::from_fn(|_| input.word());
    let length = input.word();
    let Ok(layout) = Layout::parse(&words, length, "a fuzzed header") else { return };

    let written = layout.header();
    for index in (header::VERSION..header::WORDS).filter(|&index| index != header::REGION_STATE) {
        assert_eq!(
            words[index],
            written.get(index).copied().unwrap_or(0),
            "word {index} is none that we write: {layout:?}"
        );
    }
    assert_eq!(layout.size(), length);
    assert!(layout.kind() == RegionKind::Namespace || layout.capacity().is_power_of_two());
    let mapped = layout.mapped() / WORD as u64;
    assert!(layout.mapped() <= length && layout.mapped() > 0, "{layout:?}");
    let mut end = header::WORDS as u64;
    let mut area = |what: &str, (start, words): (usize, usize)| {
        assert!(start as u64 >= end, "{what} begins at {start}, inside of what comes before it: {layout:?}");
        end = (start as u64).checked_add(words as u64).expect("no overflow");
        assert!(end <= mapped, "{what} ends at {end}, the mapping at {mapped}: {layout:?}");
    };
    let participants = 0..layout.participants();
    match &layout {
        Layout::Pipe(pipe) => {
            assert!(matches!(pipe.directions, 1 | 2));
            participants.for_each(|i| area("a participant", (layout.participant(i), participant::WORDS)));
            let needed = match pipe.element {
                ElementType::Bytes => pipe.capacity / WORD as u64,
                ElementType::Value { size, .. } => pipe.capacity * size.div_ceil(WORD as u64),
            };
            let rings = 0..pipe.directions as usize;
            rings.clone().for_each(|i| area("a control block", (PipeLayout::ring(i), ring::WORDS)));
            for i in rings {
                area("a ring", pipe.data(i));
                assert!(pipe.data(i).1 as u64 >= needed);
            }
        }
        Layout::Queue(queue) => {
            area("the control block", (QueueLayout::CONTROL, control::WORDS));
            participants.for_each(|i| area("a participant", (layout.participant(i), own::WORDS)));
            area("the owners", queue.owners());
            area("the slots", queue.slots());
            area("the blocks", queue.blocks());
            assert!(queue.slots().1 as u64 >= queue.capacity * queue.stride() as u64);
            assert!(queue.element == ElementType::Bytes || queue.all_blocks() == 0, "values in a pool: {layout:?}");
            assert_extents(&layout, queue);
        }
        Layout::Namespace(namespace) => {
            participants.for_each(|i| area("a participant", (layout.participant(i), own::WORDS)));
            area("the table", (namespace.entry(0), namespace.objects as usize * ENTRY_WORDS));
            area("the objects", (namespace.first_object(), namespace.object_words as usize));
        }
    }
    if let ElementType::Value { size, align, .. } = layout.element() {
        assert!(align.is_power_of_two() && align <= 128 && size.is_multiple_of(align), "no such type: {layout:?}");
    }

    let mut again = [0; header::WORDS];
    again[..header::USED].copy_from_slice(&written);
    again[header::MAGIC] = header::MAGIC_NUMBER;
    assert_eq!(Layout::parse(&again, length, "its copy").expect("what we write we read"), layout);
}

/// The first and the last stand for all: each has room for the longest message, and a block can hold it.
fn assert_extents(layout: &Layout, queue: &QueueLayout) {
    let (geometry, limit) = (queue.geometry, queue.max_message_bytes);
    let longest = if geometry.extents == 0 { geometry.inline_bytes.max(geometry.block_bytes) } else { u64::MAX };
    assert!(queue.element != ElementType::Bytes || limit <= longest, "messages without a place: {layout:?}");
    for index in [0, geometry.extents.wrapping_sub(1)].into_iter().filter(|&index| index < geometry.extents) {
        let start = queue.extent(index);
        let expected = index.checked_mul(limit).and_then(|before| before.checked_add(layout.mapped()));
        assert!(expected.is_some_and(|expected| start >= expected), "extent {index} is inside of another: {layout:?}");
        let end = start.checked_add(limit).expect("no overflow");
        assert!(end <= layout.size(), "extent {index} ends at {end}: {layout:?}");
    }
}

/// Shared memory on the heap.
struct Heap;

impl Memory for Heap {
    type Word = Word;
    type Words = Words;
    type Futex = Arc<AtomicU32>;
}

/// The words of one ring, control before data, and a change planned for between two accesses, as a peer that
/// runs at the same time would make it.
struct Cells {
    words: Vec<AtomicU64>,
    planned: Mutex<Option<Planned>>,
}

struct Planned {
    /// So many accesses from now.
    delay: u8,
    index: usize,
    value: u64,
}

impl Cells {
    fn accessed(&self) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *planned {
            Some(Planned { delay: 0, index, value }) => {
                self.words[*index].store(*value, Relaxed);
                *planned = None;
            }
            Some(Planned { delay, .. }) => *delay -= 1,
            None => {}
        }
    }
}

struct Word(Arc<Cells>, usize);

impl Deref for Word {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        self.0.accessed();
        &self.0.words[self.1]
    }
}

struct Words(Arc<Cells>);

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        self.0.accessed();
        &self.0.words[DATA..]
    }
}

const TAIL: usize = 0;
const HEAD: usize = 1;
const ROLE: usize = 2;
const FROM: usize = 3;
const DATA: usize = 5;

/// One ring; its data is exactly as long as it must be.
struct Ring {
    cells: Arc<Cells>,
    capacity: u64,
}

impl Ring {
    fn new(capacity: u64, stride: usize) -> Self {
        let words = (0..DATA + capacity as usize * stride).map(|_| AtomicU64::new(0)).collect();
        Self { cells: Arc::new(Cells { words, planned: Mutex::new(None) }), capacity }
    }

    /// Both indices at the same place, and nobody there yet.
    fn empty_at(self, position: u64) -> Self {
        self.set(TAIL, position);
        self.set(HEAD, position);
        self
    }

    /// Head, distance to tail, role, distance to from, then so many words of data.
    fn filled(self, input: &mut Input) -> Self {
        let head = input.word();
        self.set(HEAD, head);
        self.set(TAIL, head.wrapping_add(input.word()));
        self.set(ROLE, input.word());
        let from = head.wrapping_add(input.word());
        (FROM..DATA).for_each(|index| self.set(index, from));
        let count = usize::from(input.byte()).min(self.words());
        (DATA..DATA + count).for_each(|index| self.set(index, input.word()));
        self
    }

    fn set(&self, index: usize, value: u64) {
        self.cells.words[index].store(value, Relaxed);
    }

    fn words(&self) -> usize {
        self.cells.words.len() - DATA
    }

    fn data(&self) -> Words {
        Words(Arc::clone(&self.cells))
    }

    fn word(&self, index: usize) -> Word {
        Word(Arc::clone(&self.cells), index)
    }

    fn indices(&self) -> Indices<Heap> {
        Indices { tail: self.word(TAIL), head: self.word(HEAD) }
    }

    fn role(&self) -> Owner<Heap> {
        Owner::new(self.word(ROLE), [self.word(FROM), self.word(FROM + 1)])
    }

    fn producer(&self) -> Result<Producer<Heap>, Corrupt> {
        Producer::attach(self.indices(), self.capacity)
    }

    fn consumer(&self) -> Result<Consumer<Heap>, Corrupt> {
        Consumer::attach(self.indices(), self.role(), self.capacity)
    }

    /// A producer comes, the way a seat's new owner does.
    fn take(&self) -> Producer<Heap> {
        self.role().acquire(self.word(TAIL).load(Relaxed));
        self.producer().expect("honest indices")
    }

    /// Changes a word, at once or after some accesses.
    fn scribble(&self, delay: u8, input: &mut Input) {
        let index = usize::from(input.byte()) % self.cells.words.len();
        let value = input.lie(self.cells.words[index].load(Relaxed));
        *self.cells.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Planned { delay, index, value });
        if delay == 0 {
            self.cells.accessed();
        }
    }

    /// I1 of `raw/spsc.rs`, as each side knows it, whatever the shared words say.
    fn check(&self, producer: &mut Producer<Heap>, consumer: &mut Consumer<Heap>, want: u64) {
        for want in [0, want] {
            assert!(producer.writable(want).unwrap_or(0) <= self.capacity, "more room than ring");
            assert!(consumer.readable(want).unwrap_or(0) <= self.capacity, "more messages than ring");
        }
    }
}

/// What an honest reader must get. Entries carry the generation of their producer; one that came and went
/// unseen is counted with its predecessor.
struct Model<E> {
    queue: VecDeque<(u64, E)>,
    writing: u64,
    reading: u64,
    /// The latest generation from which an entry was read.
    seen: u64,
}

impl<E> Model<E> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), writing: 1, reading: 1, seen: 0 }
    }

    fn push(&mut self, entry: E) {
        self.queue.push_back((self.writing, entry));
    }

    fn pop(&mut self) -> E {
        let (generation, entry) = self.queue.pop_front().expect("the reader got more than was sent");
        self.seen = generation;
        entry
    }

    /// A probe finds only what exists. It finds all of it if the reader is at the last producer.
    fn check_probe(&self, found: bool) {
        if found || self.reading == self.writing {
            assert_eq!(found, !self.queue.is_empty(), "the probe is wrong");
        }
    }

    /// A new reader starts with whom it finds.
    fn adopt(&mut self) {
        self.reading = self.queue.front().map_or(self.writing, |(generation, _)| *generation);
        self.seen = 0;
    }

    /// The reader has nothing to read: right only at the end, or between two producers.
    fn turn(&mut self, consumer: &mut Consumer<Heap>) {
        let Some(succession) = consumer.next_producer() else {
            assert!(self.queue.is_empty() && self.reading == self.writing, "stuck before the end");
            return;
        };
        consumer.switch_producer();
        let next = succession.next.epoch();
        assert!(next <= self.writing && (next > self.reading || self.seen == 0), "not a successor");
        assert!(self.seen < next, "a successor's message came before its announcement");
        assert!(self.queue.front().is_none_or(|(generation, _)| *generation >= next), "announced too early");
        self.reading = next;
    }
}

/// An operation with this bit is preceded by a probe.
const PROBE: u8 = 0x80;

/// Length-prefixed records (`raw/records.rs`) on the heap.
pub fn byte_ring(data: &[u8]) {
    let mut input = Input(data);
    let setup = input.byte();
    let ring = Ring::new(MIN_WORDS << (setup >> 1 & 3), 1);
    if setup & 1 == 0 {
        let position = input.word();
        honest_records(&ring.empty_at(position), &mut input);
    } else {
        let limit = input.short();
        hostile_records(&ring.filled(&mut input), limit, &mut input);
    }
}

/// The words of a record with so many bytes of payload.
fn words_for(length: usize) -> u64 {
    1 + length.div_ceil(WORD) as u64
}

#[derive(Debug, PartialEq)]
enum Record {
    Skip(u64),
    Message(Vec<u8>),
    Large(u64),
    Part(Vec<u8>),
}

impl Record {
    fn words(&self) -> u64 {
        match self {
            Self::Skip(words) => *words,
            Self::Large(_) => 1,
            Self::Message(bytes) | Self::Part(bytes) => words_for(bytes.len()),
        }
    }
}

fn honest_records(ring: &Ring, input: &mut Input) {
    const LIMIT: u64 = 1 << 12;
    let capacity = ring.capacity;
    let mut model = Model::<Record>::new();
    let mut writer = RecordWriter::new(ring.take(), ring.data());
    let mut reader = RecordReader::new(ring.consumer().expect("honest"), ring.data(), LIMIT);
    let mut rest = Vec::new();
    for number in 0.. {
        let Some(op) = input.op() else { break };
        let used: u64 = model.queue.iter().map(|(_, record)| record.words()).sum();
        let left = capacity - writer.ring.position() % capacity;
        if op & PROBE != 0 {
            model.check_probe(reader.probe());
        }
        match op % 8 {
            // A message, or several under one publication.
            0 | 1 => {
                let (mut ahead, how) = (0, input.stores());
                for extra in 0..=u64::from(op % 8) * 2 {
                    let message = payload(number + extra, input.short() % (max_inline_bytes(capacity) + 1));
                    let words = words_for(message.len());
                    let left = capacity - writer.ring.position().wrapping_add(ahead) % capacity;
                    let skip = if left < words { left } else { 0 };
                    let fits = capacity - used - ahead >= skip + words;
                    let written = writer.write(ahead, &message, how).expect("honest");
                    assert_eq!(written, fits.then_some(skip + words), "full when full, and only then");
                    if !fits {
                        break;
                    }
                    ahead += skip + words;
                    if skip > 0 {
                        model.push(Record::Skip(skip));
                    }
                    model.push(Record::Message(message));
                }
                writer.ring.publish(ahead);
            }
            2 if rest.is_empty() => {
                rest = payload(number, 1 + input.short() % LIMIT);
                if !writer.begin_fragmented(rest.len() as u64).expect("honest") {
                    assert_eq!(used, capacity);
                    rest.clear();
                } else {
                    model.push(Record::Large(rest.len() as u64));
                }
            }
            2 => rest.clear(), // given up
            3 if rest.is_empty() => {}
            3 => match writer.push_fragment(&rest, input.stores()).expect("honest") {
                None => assert!(capacity - used < writer.fragment_words(rest.len())),
                Some(0) => model.push(Record::Skip(left)),
                Some(count) => {
                    let part = Record::Part(rest.drain(..count).collect());
                    assert!(part.words() <= left.min(capacity - used));
                    model.push(part);
                }
            },
            4 | 5 => read_honestly(&mut reader, &mut model),
            6 => {
                writer = RecordWriter::new(ring.take(), ring.data());
                model.writing += 1;
                rest.clear();
            }
            _ => {
                reader = RecordReader::new(ring.consumer().expect("honest"), ring.data(), LIMIT);
                model.adopt();
            }
        }
    }
    while !model.queue.is_empty() || model.reading < model.writing {
        read_honestly(&mut reader, &mut model);
    }
    assert_eq!(reader.next(), Ok(record_ring::Record::Empty));
}

fn read_honestly(reader: &mut RecordReader<Heap>, model: &mut Model<Record>) {
    let before = reader.ring.position();
    let next = reader.next().expect("nobody lied");
    let skipped = reader.ring.position().wrapping_sub(before);
    if skipped > 0 {
        assert_eq!(model.pop(), Record::Skip(skipped));
    }
    let copy = |start, length| {
        let mut bytes = vec![0; length];
        reader.copy_out(start, &mut bytes).expect("in range");
        bytes
    };
    let (record, length) = match next {
        record_ring::Record::Empty => return model.turn(&mut reader.ring),
        record_ring::Record::Message { start, length } => (Record::Message(copy(start, length)), length),
        record_ring::Record::Begin { length } => (Record::Large(length), 0),
        record_ring::Record::Fragment { start, length } => (Record::Part(copy(start, length)), length),
    };
    assert_eq!(record, model.pop());
    reader.release(length);
}

fn hostile_records(ring: &Ring, limit: u64, input: &mut Input) {
    let writer = |ring: &Ring| Ok::<_, Corrupt>(RecordWriter::new(ring.producer()?, ring.data()));
    let reader = |ring: &Ring| Ok::<_, Corrupt>(RecordReader::new(ring.consumer()?, ring.data(), limit));
    let (Ok(mut tx), Ok(mut rx)) = (writer(ring), reader(ring)) else { return };
    for number in 0.. {
        let Some(op) = input.op() else { break };
        if op & PROBE != 0 {
            let _ = (tx.ring.has_advanced(), rx.probe()); // what they believed is checked with everything else
        }
        match op % 10 {
            0 => drop(tx.push(&payload(number, input.short() % (ring.capacity * 8)), input.stores())),
            1 => {
                let length = input.short() % (ring.capacity * 8);
                if let Ok(Some(slot)) = tx.reserve(0, length) {
                    assert!(slot.start + (length as usize).div_ceil(WORD) <= ring.words(), "{slot:?} of {length}");
                    let words = tx.write_headers(0, slot, length);
                    tx.ring.publish(words);
                }
            }
            2 => drop(tx.begin_fragmented(input.word())),
            3 => {
                let rest = payload(number, 1 + input.short() % 2048);
                if let Ok(Some(count)) = tx.push_fragment(&rest, input.stores()) {
                    assert!(count <= rest.len());
                }
            }
            4 | 5 => read_warily(ring, &mut rx, limit, op & 1 == 0),
            6 => rx.ring.switch_producer(),
            7 => match input.byte() & 1 {
                0 => tx = writer(ring).unwrap_or(tx),
                _ => rx = reader(ring).unwrap_or(rx),
            },
            8 => ring.scribble(0, input),
            _ => ring.scribble(1 + input.byte() % 8, input),
        }
        ring.check(&mut tx.ring, &mut rx.ring, input.word());
    }
}

fn read_warily(ring: &Ring, reader: &mut RecordReader<Heap>, limit: u64, release: bool) {
    let before = reader.ring.position();
    let next = reader.next();
    let skipped = reader.ring.position().wrapping_sub(before);
    assert!(skipped == 0 || skipped == ring.capacity - before % ring.capacity, "skipped {skipped}");
    let length = match next {
        Ok(record_ring::Record::Empty) | Err(Corrupt) => return,
        Ok(record_ring::Record::Begin { length }) => {
            assert!(length <= limit);
            0
        }
        Ok(record_ring::Record::Message { start, length } | record_ring::Record::Fragment { start, length }) => {
            assert!(length as u64 <= limit && start + length.div_ceil(WORD) <= ring.words(), "{next:?}");
            reader.copy_out(start, &mut vec![0; length]).expect("in range");
            length
        }
    };
    let words = words_for(length);
    assert!(reader.ring.readable(words).is_ok_and(|ready| ready >= words), "read past what is published");
    if release {
        reader.release(length);
    }
}

/// Slots of one type (`raw/slots.rs`) on the heap.
pub fn value_ring(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => slots::<u64>(&mut input),
        1 => slots::<[u8; 3]>(&mut input),
        _ => slots::<[u64; 9]>(&mut input),
    }
}

fn slots<T: Pod + PartialEq + Debug>(input: &mut Input) {
    let setup = input.byte();
    let ring = Ring::new(1 << (setup >> 1 & 3), stride::<T>());
    if setup & 1 == 0 {
        let position = input.word();
        honest_slots::<T>(&ring.empty_at(position), input);
    } else {
        hostile_slots::<T>(&ring.filled(input), input);
    }
}

fn honest_slots<T: Pod + PartialEq + Debug>(ring: &Ring, input: &mut Input) {
    let mut model = Model::<T>::new();
    let mut writer = SlotWriter::<_, T>::new(ring.take(), ring.data());
    let mut reader = SlotReader::<_, T>::new(ring.consumer().expect("honest"), ring.data());
    let mut number = 0;
    while let Some(op) = input.op() {
        number += 16;
        let room = ring.capacity as usize - model.queue.len();
        if op & PROBE != 0 {
            model.check_probe(reader.probe());
        }
        match op % 6 {
            0 => {
                let pushed = writer.push(&value(number), input.stores()).expect("honest");
                assert_eq!(pushed, room > 0, "full when full, and only then");
                if pushed {
                    model.push(value::<T>(number));
                }
            }
            1 => {
                let values: Vec<T> = (0..u64::from(input.byte() % 12)).map(|i| value(number + i)).collect();
                let pushed = writer.push_many(&values, input.stores()).expect("honest");
                assert_eq!(pushed, room.min(values.len()));
                values.into_iter().take(pushed).for_each(|value| model.push(value));
            }
            2 | 3 => read_slots(&mut reader, &mut model, usize::from(op % 6 - 2) * usize::from(input.byte() % 12)),
            4 => {
                writer = SlotWriter::new(ring.take(), ring.data());
                model.writing += 1;
            }
            _ => {
                reader = SlotReader::new(ring.consumer().expect("honest"), ring.data());
                model.adopt();
            }
        }
    }
    while !model.queue.is_empty() || model.reading < model.writing {
        read_slots(&mut reader, &mut model, 0);
    }
    assert_eq!(reader.pop(&mut T::zeroed()), Ok(false));
}

/// One value, or up to `count` of them.
fn read_slots<T: Pod + PartialEq + Debug>(reader: &mut SlotReader<Heap, T>, model: &mut Model<T>, count: usize) {
    let mut values: Vec<T> = vec![T::zeroed(); count];
    if count > 0 {
        let read = reader.pop_many(&mut values).expect("nobody lied");
        values.truncate(read);
    } else {
        let mut value = T::zeroed();
        values.extend(reader.pop(&mut value).expect("nobody lied").then_some(value));
    }
    if values.is_empty() {
        model.turn(&mut reader.ring);
    }
    values.into_iter().for_each(|value| assert_eq!(value, model.pop()));
}

fn hostile_slots<T: Pod + PartialEq + Debug>(ring: &Ring, input: &mut Input) {
    let writer = |ring: &Ring| Ok::<_, Corrupt>(SlotWriter::<_, T>::new(ring.producer()?, ring.data()));
    let reader = |ring: &Ring| Ok::<_, Corrupt>(SlotReader::<_, T>::new(ring.consumer()?, ring.data()));
    let (Ok(mut tx), Ok(mut rx)) = (writer(ring), reader(ring)) else { return };
    let in_range = |(start, count): (usize, u64)| start + count as usize * stride::<T>() <= ring.words();
    while let Some(op) = input.op() {
        if op & PROBE != 0 {
            let _ = (tx.ring.has_advanced(), rx.probe()); // what they believed is checked with everything else
        }
        match op % 10 {
            0 => drop(tx.push(&value(7), input.stores())),
            1 => {
                let values = vec![value::<T>(8); (input.byte() % 24).into()];
                assert!(tx.push_many(&values, input.stores()).unwrap_or(0) <= values.len());
            }
            2 => assert!(tx.reserve(input.word()).map_or(true, in_range)),
            3 => drop(rx.pop(&mut T::zeroed())),
            4 => {
                let mut values = vec![value::<T>(9); (input.byte() % 24).into()];
                assert!(rx.pop_many(&mut values).unwrap_or(0) <= values.len().min(ring.capacity as usize));
            }
            5 => assert!(rx.peek(input.word()).map_or(true, in_range)),
            6 => rx.ring.switch_producer(),
            7 => match input.byte() & 1 {
                0 => tx = writer(ring).unwrap_or(tx),
                _ => rx = reader(ring).unwrap_or(rx),
            },
            8 => ring.scribble(0, input),
            _ => ring.scribble(1 + input.byte() % 8, input),
        }
        ring.check(&mut tx.ring, &mut rx.ring, input.word());
    }
}

/// A real pipe, any word of whose region may change at any time.
pub fn whole_pipe(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => {
            let options = pipe::Options::bytes().capacity_bytes(256).max_message_bytes(LIMIT);
            drive(&mut input, &options, options.create_duplex().expect(SMALL), use_bytes);
        }
        1 => {
            let options = pipe::Options::<u64>::new().capacity(4);
            drive(&mut input, &options, options.create_duplex().expect(SMALL), use_values);
        }
        _ => {
            let options = pipe::Options::<[u64; 9]>::new().capacity(2);
            drive(&mut input, &options, options.create_duplex().expect(SMALL), use_values);
        }
    }
}

const SMALL: &str = "memory for a small pipe";

const LIMIT: usize = 1000;

fn drive<E: PipeEndpoint>(
    input: &mut Input,
    options: &pipe::Options<E::Message>,
    (one, other): (E, E),
    act: fn(&mut E, u8, &mut Input, Duration),
) {
    let region = one.registration().region().reopen().expect("a descriptor");
    let mut ends = [Some(one), Some(other)];
    let mut naps = 4;
    while let Some(op) = input.op() {
        let side = usize::from(op >> 7);
        match op % 16 {
            0..=4 => scribble(&region, input),
            5 => ends[side] = None,
            // To a descriptor and back; what cannot be picked up again is dead to its peer.
            6 => {
                let file = ends[side].take().and_then(|end| end.into_fd().ok());
                ends[side] = file.and_then(|file| options.from_fd(file).ok());
            }
            7 => drop((
                region.participants().status(side),
                region.participants().pid(side),
                region.participants().joins(side),
                connection::queued_for(&region, side),
            )),
            op => {
                let Some(end) = &mut ends[side] else { continue };
                let patience = Duration::from_millis(u64::from(op >= 12 && naps > 0));
                naps -= patience.as_millis() as u32;
                act(end, op, input, patience);
            }
        }
    }
}

fn scribble(region: &Region, input: &mut Input) {
    let layout = region.layout();
    let index = input.short() as usize % (layout.size() as usize / WORD);
    let is_futex = (0..connection::layout(region).directions as usize)
        .any(|i| [ring::READABLE, ring::WRITABLE].iter().any(|word| PipeLayout::ring(i) + word == index));
    if is_futex {
        let word = region.futex(index);
        word.store(input.lie(word.load(Relaxed).into()) as u32, Relaxed);
    } else {
        let word = region.word(index);
        word.store(input.lie(word.load(Relaxed)), Relaxed);
    }
}

fn use_bytes(end: &mut BytePipe, op: u8, input: &mut Input, patience: Duration) {
    let mut message = Vec::new();
    let mut buffer = [0; 64];
    match op {
        8 => drop(end.tx.try_send(&payload(1, input.short() % 130))),
        9 => {
            let messages: [_; 3] = std::array::from_fn(|i| payload(i as u64, (input.byte() % 120).into()));
            // It would wait without end for room for the first, so there must be some, where nothing moves but we.
            if end.tx.half.writer.reserve(0, 120).is_ok_and(|slot| slot.is_some()) {
                assert_ne!(end.tx.send_many(&messages), Ok(0));
            }
        }
        10 => check_received(end.rx.try_recv(&mut message), &message),
        11 => match end.rx.try_recv_into(&mut buffer) {
            Err(RecvError::BufferTooSmall { needed }) => assert!(needed > buffer.len() && needed <= LIMIT),
            done => assert!(done.unwrap_or(0) <= buffer.len()),
        },
        12 => drop(end.poll(patience)),
        13 => drop(end.send_timeout(&payload(2, input.short() % (LIMIT as u64 + 2)), patience)),
        _ => check_received(end.recv_timeout(&mut message, patience), &message),
    }
}

fn check_received(received: Result<usize, RecvError>, message: &[u8]) {
    assert!(received.is_err() || received == Ok(message.len()) && message.len() <= LIMIT);
}

fn use_values<T: Pod>(end: &mut Pipe<T>, op: u8, input: &mut Input, patience: Duration) {
    let mut values: Vec<T> = (0..u64::from(input.byte() % 8)).map(value).collect();
    match op {
        8 => drop(end.tx.try_send(value::<T>(1))),
        9 => assert!(end.tx.try_send_many(&values).unwrap_or(0) <= values.len()),
        10 => drop(end.rx.try_recv()),
        11 => assert!(end.rx.try_recv_many(&mut values).unwrap_or(0) <= values.len()),
        12 => drop(end.poll(patience)),
        13 => drop(end.send_timeout(value::<T>(2), patience)),
        _ => drop(end.recv_timeout(patience)),
    }
}
