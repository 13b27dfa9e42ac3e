//! The ring of one publisher with keys, and snapshots of their latest values, on the heap.

use std::array;
use std::sync::Arc;

use super::assert_in_time;
use super::broadcast_ring::{BEGUN, HeapTrack, STRIDE, Subscriber};
use super::heap::{Cells, DATA, Heap, TAIL, Words};
use super::input::Input;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::raw::Corrupt;
use crate::raw::broadcast::consumer::{Published, Read};
use crate::raw::broadcast::latest::{BUFFERS, HEADER_WORDS, Latest, Seen, words_of_key};
use crate::raw::broadcast::producer::{Gate, Producer};
use crate::raw::seqlock::CONTROL;

const VALUE_WORDS: usize = 1;

struct Keys {
    track: HeapTrack,
    /// The latest values, from [`DATA`] on.
    cells: Arc<Cells>,
    keys: u64,
}

/// Drives `raw/broadcast/latest.rs`.
pub fn broadcast_latest(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let keys = 1 + u64::from(input.byte()) % 5;
    let gate = if setup & 8 == 0 { Gate::Open } else { Gate::Wait };
    let keys = Keys {
        track: HeapTrack::new(2 << (setup >> 1 & 3), 0, gate),
        cells: Cells::new(DATA + keys as usize * words_of_key(VALUE_WORDS)),
        keys,
    };
    if setup & 1 == 0 { Correct::new(&keys, &mut input).run(&mut input) } else { hostile(&keys, &mut input) }
}

impl Keys {
    fn latest(&self) -> Latest<Heap> {
        Latest::new(Words(Arc::clone(&self.cells)), self.keys, VALUE_WORDS)
    }

    /// Where a key's latest value is in the cells.
    fn index_of(&self, key: u64) -> usize {
        DATA + key as usize * words_of_key(VALUE_WORDS)
    }
}

fn copy(published: &Published<'_, Heap>) -> Result<(u64, Option<[u64; STRIDE]>), Corrupt> {
    let slot = published.slot(0).expect("at least one");
    Ok((1, Some(array::from_fn(|word| slot[word].load(Relaxed)))))
}

struct Reader {
    subscriber: Subscriber,
    /// What the last snapshot has, to the library.
    seen: Option<Seen>,
    /// The same, to the model: the end of what it has of each key.
    covered: Vec<u64>,
}

impl Reader {
    fn read(&mut self) -> Result<Read<Option<[u64; STRIDE]>>, Corrupt> {
        let consumer = &mut self.subscriber.consumer;
        let Some(seen) = &mut self.seen else { return consumer.read(|published| copy(&published)) };
        let read = seen.read(consumer, |published| copy(&published))?;
        if seen.is_over(consumer) {
            self.seen = None;
        }
        Ok(match read {
            Read::Message(message) => Read::Message(message.flatten()),
            Read::Lagged(missed) => Read::Lagged(missed),
            Read::Empty => Read::Empty,
            Read::Evicted => Read::Evicted,
        })
    }
}

// ---- correct ----

struct Correct<'a> {
    keys: &'a Keys,
    /// `None`: it was killed.
    producer: Option<Producer<Heap>>,
    /// A subscriber and an observer.
    readers: [Reader; 2],
    first: u64,
    /// The key of each message, from the position `first` on.
    published: Vec<u64>,
    /// By key: the position of its latest value.
    latest: Vec<Option<u64>>,
    /// The key of the message whose publisher was killed before it stored tail.
    unfinished: Option<u64>,
}

impl<'a> Correct<'a> {
    fn new(keys: &'a Keys, input: &mut Input) -> Self {
        let first = input.word() >> 3;
        keys.track.cells.store(TAIL, first);
        keys.track.cells.store(BEGUN, first);
        let reader = |subscriber| Reader { subscriber, seen: None, covered: vec![0; keys.keys as usize] };
        Self {
            keys,
            producer: None,
            readers: [keys.track.subscribe(0, 0).expect("valid words"), keys.track.observe(0)].map(reader),
            first,
            published: Vec::new(),
            latest: vec![None; keys.keys as usize],
            unfinished: None,
        }
    }

    fn tail(&self) -> u64 {
        self.first + self.published.len() as u64
    }

    fn run(mut self, input: &mut Input) {
        while let Some(op) = input.next_op() {
            match op % 8 {
                0..3 => _ = self.publish(op.into()),
                3 => self.kill(op.into(), input.byte()),
                4 | 5 => self.snapshot(usize::from(op >> 4 & 1), op & 0x80 != 0, input),
                _ => self.read(usize::from(op >> 4 & 1)),
            }
        }
        self.publish(0);
        for index in 0..self.readers.len() {
            while self.readers[index].subscriber.position < self.tail() {
                self.read(index);
            }
        }
    }

    /// Makes room for one message. Returns false if the subscriber is too far behind.
    fn has_room(&mut self) -> bool {
        let Keys { track, .. } = self.keys;
        let tail = self.tail();
        let producer = self.producer.get_or_insert_with(|| track.producer().expect("valid words"));
        let unfinished = self.unfinished.take();
        assert_eq!(producer.finish(&self.keys.latest()), Ok(unfinished.is_some()));
        self.published.extend(unfinished);
        assert_eq!(producer.position(), tail + u64::from(unfinished.is_some()));
        if producer.room() == 0 {
            producer.scan(&track.cursors(), 1, |_| panic!("it evicts nobody"));
        }
        let behind = producer.position() - self.readers[0].subscriber.position;
        let has_room = producer.room() > 0;
        assert!(has_room || track.gate == Gate::Wait && behind == track.capacity);
        has_room
    }

    fn publish(&mut self, op: u64) -> bool {
        if !self.has_room() {
            return false;
        }
        let (key, position) = (op / 8 % self.keys.keys, self.tail());
        let producer = self.producer.as_mut().expect("has_room attaches it");
        let published = producer.publish_key(&self.keys.latest(), key, |value| value[0].store(!position, Relaxed));
        published.expect("valid words");
        self.published.push(key);
        self.latest[key as usize] = Some(position);
        true
    }

    /// Publishes up to some step.
    fn kill(&mut self, op: u64, step: u8) {
        let (key, position, cells) = (op / 8 % self.keys.keys, self.tail(), &self.keys.track.cells);
        if step & 1 == 0 {
            if self.publish(op) {
                let position = self.tail() - 1;
                cells.store(TAIL, position);
                self.unfinished = self.published.pop();
            }
        } else if self.has_room() && self.tail() == position {
            // It has begun a version, and has written some of it.
            cells.store(BEGUN, position + 1);
            cells.store(DATA + (position % self.keys.track.capacity) as usize * STRIDE, key);
            let (latest, of_key) = (&self.keys.cells, self.keys.index_of(key));
            let version = latest.load(of_key) + 1;
            latest.store(of_key + 1, version);
            let buffer = (version % BUFFERS) as usize * (HEADER_WORDS + VALUE_WORDS);
            latest.store(of_key + CONTROL + buffer, position);
        }
        self.producer = None;
    }

    fn snapshot(&mut self, index: usize, fails: bool, input: &mut Input) {
        let latest = self.keys.latest();
        let mut seen = Seen::with_keys(self.keys.keys).expect("memory");
        let start = self.tail();
        assert_eq!(seen.begin(&mut self.readers[index].subscriber.consumer), Ok(true));
        assert_eq!(seen.start(), start);
        let mut covered = Vec::new();
        for key in 0..self.keys.keys {
            // Publishing goes on meanwhile.
            let op = input.byte();
            (0..op & 3).for_each(|_| _ = self.publish(op.into()));
            let loaded = seen.load(&latest, key, |value| Ok(value[0].load(Relaxed))).expect("valid words");
            assert_eq!(loaded, self.latest[key as usize].map(|position| (position, !position)));
            covered.push(loaded.map_or(0, |(position, _)| position + 1));
        }
        let reader = &mut self.readers[index];
        assert_eq!(seen.end(&mut reader.subscriber.consumer), Ok(()));
        if !fails {
            reader.seen = seen.go_on(&mut reader.subscriber.consumer);
            (reader.subscriber.position, reader.covered) = (start, covered);
        }
        assert_eq!(reader.subscriber.consumer.position(), reader.subscriber.position);
    }

    fn read(&mut self, index: usize) {
        let (tail, begun) = (self.tail(), self.keys.track.cells.load(BEGUN));
        let reader = &mut self.readers[index];
        let is_gated = index == 0 && self.keys.track.gate == Gate::Wait;
        let before = reader.subscriber.position;
        let overwritten = if is_gated { 0 } else { (begun - before).saturating_sub(self.keys.track.capacity) };
        let key_of = |position: u64| self.published[(position - self.first) as usize];
        let found = reader.read().expect("valid words");
        let is_covered = |position: &u64| *position < reader.covered[key_of(*position) as usize];
        reader.subscriber.position = match found {
            Read::Evicted => panic!("a live subscriber was evicted"),
            Read::Empty => {
                assert_eq!(before, tail);
                before
            }
            Read::Lagged(missed) => {
                assert!(missed == overwritten && missed > 0, "{missed} and not {overwritten}");
                before + missed
            }
            Read::Message(message) => {
                assert_eq!(overwritten, 0, "they were overwritten");
                match message {
                    Some([key, value]) => {
                        let position = (before..tail).find(|position| !is_covered(position)).expect("a message");
                        assert_eq!((key, value), (key_of(position), !position));
                        position + 1
                    }
                    None => {
                        let after = reader.subscriber.consumer.position();
                        assert!(before < after && after <= tail && (before..after).all(|it| is_covered(&it)));
                        after
                    }
                }
            }
        };
        assert_eq!(reader.subscriber.consumer.position(), reader.subscriber.position);
    }
}

// ---- hostile ----

fn hostile(keys: &Keys, input: &mut Input) {
    let (track, latest) = (&keys.track, keys.latest());
    let tail = input.word();
    track.cells.store(TAIL, tail);
    track.cells.store(BEGUN, tail.wrapping_add(u64::from(input.byte()) % (track.capacity + 2)));
    let Ok(mut producer) = track.producer() else { return };
    let mut reader = Reader { subscriber: track.observe(input.short()), seen: None, covered: Vec::new() };
    while let Some(op) = input.next_op() {
        let key = u64::from(op) / 8 % (keys.keys + 1);
        assert_in_time(|| match op % 8 {
            0 => {
                if producer.room() > 0 {
                    let published = producer.publish_key(&latest, key, fill);
                    assert!(published.is_ok() || key == keys.keys, "a key that there is");
                }
            }
            1 => _ = producer.finish(&latest),
            2 => {
                if let Ok(successor) = track.producer() {
                    producer = successor;
                }
            }
            3 => reader.subscriber = track.subscribe(0, 0).unwrap_or_else(|Corrupt| track.observe(1)),
            4 => {
                let mut seen = Seen::with_keys(keys.keys).expect("memory");
                let before = reader.subscriber.consumer.position();
                let consumer = &mut reader.subscriber.consumer;
                let began = seen.begin(consumer);
                let load = |key| seen.load(&latest, key, |value| Ok(value[0].load(Relaxed))).map(drop);
                let loaded = began.and_then(|_| (0..keys.keys).try_for_each(load));
                let ended = loaded.and_then(|()| seen.end(consumer));
                assert_eq!(consumer.position(), before, "it has moved before the end");
                if ended.is_ok() {
                    let start = seen.start();
                    reader.seen = seen.go_on(consumer);
                    assert_eq!(consumer.position(), start);
                }
            }
            5 | 6 => {
                let before = reader.subscriber.consumer.position();
                let found = reader.read();
                let after = reader.subscriber.consumer.position();
                match found {
                    Ok(Read::Message(message)) => {
                        let moved = after.wrapping_sub(before);
                        assert!(moved <= track.capacity && (moved > 0 || message.is_none()));
                    }
                    Ok(Read::Lagged(missed)) => assert_eq!(after.wrapping_sub(before), missed),
                    Ok(Read::Empty | Read::Evicted) => assert_eq!(after, before),
                    Err(Corrupt) => {}
                }
            }
            _ => {
                let cells = [&track.cells, &keys.cells, &track.cursors, &keys.cells][usize::from(op >> 6)];
                let at = usize::from(input.byte()) % cells.words.len();
                let value = input.invalid_value(cells.load(at));
                cells.plan_store(input.byte() % 16, at, value);
            }
        });
    }
}

fn fill(value: &[AtomicU64]) {
    assert_eq!(value.len(), VALUE_WORDS);
    value[0].store(7, Relaxed);
}
