//! The ring of one publisher whose messages lie in frames, on the heap.

use std::array;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::assert_in_time;
use super::broadcast_ring::{BEGUN, HeapTrack, STRIDE, Subscriber};
use super::heap::{Cells, DATA, Heap, TAIL, Words};
use super::input::Input;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::raw::Corrupt;
use crate::raw::broadcast::consumer::Read;
use crate::raw::broadcast::frames::{FramePool, Leases};
use crate::raw::broadcast::producer::{Gate, Producer};

const READERS: usize = 2;

struct Frames {
    track: HeapTrack,
    /// One word for each frame, from [`DATA`] on.
    leases: Arc<Cells>,
    count: u64,
}

/// Drives `raw/broadcast/frames.rs`.
pub fn broadcast_frames(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let count = 1 + u64::from(input.byte()) % 6;
    let gate = if setup & 8 == 0 { Gate::Open } else { Gate::Wait };
    let frames = Frames {
        track: HeapTrack::new(2 << (setup >> 1 & 3), 0, gate),
        leases: Cells::new(DATA + count as usize),
        count,
    };
    if setup & 1 == 0 { Correct::new(&frames, &mut input).run(&mut input) } else { hostile(&frames, &mut input) }
}

impl Frames {
    fn leases(&self) -> Leases<Heap> {
        Leases { words: Words(Arc::clone(&self.leases)), stride: 1, count: self.count }
    }

    fn publisher(&self) -> Result<Publisher, Corrupt> {
        let producer = self.track.producer()?;
        let pool = FramePool::attach(self.leases(), &producer, |slot| Some(slot[0].load(Relaxed)));
        Ok(Publisher { producer, pool })
    }
}

struct Publisher {
    producer: Producer<Heap>,
    pool: FramePool<Heap>,
}

/// The frame that the next slot names, and the other word of that slot.
fn peek(subscriber: &mut Subscriber) -> Result<Read<[u64; STRIDE]>, Corrupt> {
    subscriber.consumer.read(|published| {
        let slot = published.slot(0).expect("at least one");
        Ok((0, array::from_fn(|word| slot[word].load(Relaxed))))
    })
}

fn fill(slot: &[AtomicU64], frame: u64, position: u64) {
    slot[0].store(frame, Relaxed);
    slot[1].store(!position, Relaxed);
}

// ---- correct ----

struct Reader {
    subscriber: Subscriber,
    /// The frames that it holds, with their positions.
    held: BTreeMap<u64, u64>,
}

struct Correct<'a> {
    frames: &'a Frames,
    /// `None`: it was killed.
    publisher: Option<Publisher>,
    readers: [Reader; READERS],
    first: u64,
    /// The frame of each message, from the position `first` on.
    published: Vec<u64>,
    /// The position of the message that lies in each frame.
    contents: Vec<Option<u64>>,
}

impl<'a> Correct<'a> {
    fn new(frames: &'a Frames, input: &mut Input) -> Self {
        let first = input.word() >> 3;
        frames.track.cells.store(TAIL, first);
        frames.track.cells.store(BEGUN, first);
        // As in a track that has been in use: no frame is named.
        (0..frames.track.capacity as usize).for_each(|slot| frames.track.cells.store(DATA + slot * STRIDE, u64::MAX));
        Self {
            frames,
            publisher: None,
            readers: array::from_fn(|index| Self::join(frames, index)),
            first,
            published: Vec::new(),
            contents: vec![None; frames.count as usize],
        }
    }

    fn join(frames: &Frames, index: usize) -> Reader {
        Reader { subscriber: frames.track.subscribe(index, 0).expect("valid words"), held: BTreeMap::new() }
    }

    fn tail(&self) -> u64 {
        self.first + self.published.len() as u64
    }

    fn run(mut self, input: &mut Input) {
        while let Some(op) = input.next_op() {
            let index = usize::from(op >> 4) % READERS;
            match op % 8 {
                0..3 => self.publish(),
                3 => self.kill(op & 0x80 != 0),
                4 => {
                    let held = &mut self.readers[index].held;
                    let chosen = held.keys().nth(usize::from(input.byte()) % held.len().max(1)).copied();
                    if let Some(frame) = chosen {
                        held.remove(&frame);
                        self.frames.leases().clear(frame, index);
                    }
                }
                // It is killed, and another one takes its place.
                5 if op & 0xC0 == 0xC0 => {
                    let state = self.readers[index].subscriber.state.expect("a subscriber");
                    self.frames.track.cursor(index).evict(state);
                    self.frames.leases().clear_all(index);
                    self.readers[index] = Self::join(self.frames, index);
                    assert_eq!(self.readers[index].subscriber.position, self.tail());
                }
                _ => self.read(index, op >> 6),
            }
            let leases = self.frames.leases();
            for (index, reader) in self.readers.iter().enumerate() {
                assert_eq!(leases.held(index), reader.held.len() as u64);
                for (&frame, position) in &reader.held {
                    assert_eq!(self.contents[frame as usize], Some(*position), "a frame was filled while it was read");
                }
            }
        }
        for index in 0..READERS {
            while self.readers[index].subscriber.position < self.tail() {
                self.read(index, 0);
            }
        }
    }

    /// Takes a frame and fills it. `None`: it has to wait.
    fn take(&mut self) -> Option<u64> {
        let Frames { track, .. } = self.frames;
        let Publisher { producer, pool } =
            self.publisher.get_or_insert_with(|| self.frames.publisher().expect("valid words"));
        producer.scan(&track.cursors(), track.capacity, |_| panic!("it evicts nobody"));
        if producer.room() == 0 {
            assert!(track.gate == Gate::Wait);
            return None;
        }
        let taken = pool.take(producer);
        let begun = track.cells.load(BEGUN);
        let is_held = |frame: u64| self.readers.iter().any(|reader| reader.held.contains_key(&frame));
        let tail = self.first + self.published.len() as u64;
        let protected = self.readers.iter().map(|reader| reader.subscriber.position).min().unwrap_or(tail);
        let Some(frame) = taken else {
            // With a gate, also those that are not read yet.
            let unread = &self.published[(protected - self.first) as usize..];
            let is_busy = |frame| is_held(frame) || track.gate == Gate::Wait && unread.contains(&frame);
            assert!((0..self.frames.count).all(is_busy), "there is a free frame");
            return None;
        };
        assert!(frame < self.frames.count && !is_held(frame), "{frame} is read");
        let oldest = begun.saturating_sub(track.capacity).max(self.first);
        let is_named = (oldest..tail).any(|position| self.published[(position - self.first) as usize] == frame);
        assert!(!is_named, "{frame} is named by a slot that can be read");
        assert!(track.gate == Gate::Open || begun <= protected + track.capacity, "it gave up what is not read");
        self.contents[frame as usize] = Some(tail);
        Some(frame)
    }

    fn publish(&mut self) {
        let (Some(frame), position) = (self.take(), self.tail()) else { return };
        let Publisher { producer, pool } = self.publisher.as_mut().expect("take attaches it");
        pool.publish(producer, frame, |slot| fill(slot, frame, position)).expect("valid words");
        self.published.push(frame);
    }

    /// It has filled a frame, and perhaps the slot.
    fn kill(&mut self, has_filled_slot: bool) {
        if let (Some(frame), true) = (self.take(), has_filled_slot) {
            let slot = DATA + (self.tail() % self.frames.track.capacity) as usize * STRIDE;
            self.frames.track.cells.store(slot, frame);
        }
        self.publisher = None;
    }

    /// Takes a lease of the next frame. Meanwhile that many are published.
    fn read(&mut self, index: usize, meanwhile: u8) {
        let (capacity, is_gated) = (self.frames.track.capacity, self.frames.track.gate == Gate::Wait);
        let position = self.readers[index].subscriber.position;
        let overwritten = |frames: &Frames| match is_gated {
            true => 0,
            false => (frames.track.cells.load(BEGUN) - position).saturating_sub(capacity),
        };
        let missed = match peek(&mut self.readers[index].subscriber).expect("valid words") {
            Read::Evicted => panic!("a live subscriber was evicted"),
            Read::Empty => return assert_eq!(position, self.tail()),
            Read::Lagged(missed) => missed,
            Read::Message([frame, value]) => {
                assert_eq!(overwritten(self.frames), 0);
                assert_eq!((frame, value), (self.published[(position - self.first) as usize], !position));
                (0..meanwhile).for_each(|_| self.publish());
                let leases = self.frames.leases();
                let reader = &mut self.readers[index];
                match reader.subscriber.consumer.lease(&leases, index, frame).expect("valid words") {
                    Read::Message(()) => {
                        assert_eq!(overwritten(self.frames), 0);
                        assert_eq!(reader.held.insert(frame, position), None);
                        reader.subscriber.position += 1;
                        return;
                    }
                    Read::Lagged(missed) => missed,
                    found => panic!("{found:?}"),
                }
            }
        };
        assert!(missed > 0 && missed == overwritten(self.frames), "{missed} missed");
        self.readers[index].subscriber.position += missed;
    }
}

// ---- hostile ----

fn hostile(frames: &Frames, input: &mut Input) {
    let (track, leases) = (&frames.track, frames.leases());
    let tail = input.word();
    track.cells.store(TAIL, tail);
    track.cells.store(BEGUN, tail.wrapping_add(u64::from(input.byte()) % (track.capacity + 2)));
    let Ok(mut publisher) = frames.publisher() else { return };
    let mut subscriber = track.observe(input.short());
    while let Some(op) = input.next_op() {
        let index = usize::from(op >> 4) % READERS;
        assert_in_time(|| match op % 8 {
            0 | 1 => {
                let Publisher { producer, pool } = &mut publisher;
                if producer.room() > 0
                    && let Some(frame) = pool.take(producer)
                {
                    assert!(frame < frames.count);
                    assert!(pool.publish(producer, frame, |slot| fill(slot, frame, 7)).is_ok());
                }
            }
            2 => {
                if let Ok(successor) = frames.publisher() {
                    publisher = successor;
                }
            }
            3 => subscriber = track.subscribe(index, 0).unwrap_or_else(|Corrupt| track.observe(1)),
            4 => leases.clear(input.byte().into(), input.byte().into()),
            5 => {
                leases.clear_all(index);
                assert!(leases.held(index) <= frames.count && leases.holders().all(|index| index < 64));
            }
            6 => {
                if let Ok(Read::Message([frame, _])) = peek(&mut subscriber) {
                    let before = subscriber.consumer.position();
                    let leased = subscriber.consumer.lease(&leases, index, frame);
                    let after = subscriber.consumer.position();
                    match leased {
                        Ok(Read::Message(())) => assert!(frame < frames.count && after == before.wrapping_add(1)),
                        Ok(Read::Lagged(missed)) => assert_eq!(after.wrapping_sub(before), missed),
                        Ok(Read::Empty | Read::Evicted) | Err(Corrupt) => assert_eq!(after, before),
                    }
                }
            }
            _ => {
                let cells = [&track.cells, &frames.leases, &track.cursors, &track.cells][usize::from(op >> 6)];
                let at = usize::from(input.byte()) % cells.words.len();
                let value = input.invalid_value(cells.load(at));
                cells.plan_store(input.byte() % 16, at, value);
            }
        });
    }
}
