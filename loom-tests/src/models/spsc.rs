//! Models of `src/raw/spsc`: the ring of values and the ring of byte messages.

use super::*;
use crate::raw::owner::Owner;
use crate::raw::spsc::record_ring::{Record, RecordReader, RecordWriter};
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter, StoreKind};
use crate::raw::spsc::{Consumer, Positions, Producer};

/// A value of two words that must stay together.
pub(super) type Value = [u64; 2];

/// One ring with everything that its two sides share.
#[derive(Clone)]
pub(super) struct RingWorld {
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    pub(super) owner: Shared<AtomicU64>,
    start: [Shared<AtomicU64>; 2],
    data: SharedWords,
    capacity: u64,
    readable: Shared<AtomicU32>,
    writable: Shared<AtomicU32>,
}

impl RingWorld {
    /// A ring of `capacity` positions with `stride` words each.
    pub(super) fn new(capacity: u64, stride: usize) -> Self {
        Self {
            tail: new_word(),
            head: new_word(),
            owner: new_word(),
            start: [new_word(), new_word()],
            data: new_payload(&vec![0; capacity as usize * stride]),
            capacity,
            readable: new_futex(),
            writable: new_futex(),
        }
    }

    fn positions(&self) -> Positions<Heap> {
        Positions { tail: self.tail.clone(), head: self.head.clone() }
    }

    pub(super) fn owner(&self) -> Owner<Heap> {
        Owner::new(self.owner.clone(), self.start.clone())
    }

    fn producer(&self) -> Producer<Heap> {
        Producer::attach(self.positions(), self.capacity).unwrap()
    }

    fn consumer(&self) -> Consumer<Heap> {
        Consumer::attach(self.positions(), self.owner(), self.capacity).unwrap()
    }

    pub(super) fn writer<T: bytemuck::Pod>(&self) -> SlotWriter<Heap, T> {
        SlotWriter::new(self.producer(), self.data.clone())
    }

    pub(super) fn reader<T: bytemuck::Pod>(&self) -> SlotReader<Heap, T> {
        SlotReader::new(self.consumer(), self.data.clone())
    }

    pub(super) fn readable(&self) -> EventCount<Heap> {
        event(&self.readable)
    }

    fn writable(&self) -> EventCount<Heap> {
        event(&self.writable)
    }

    /// Becomes the producer, under the lock that the kernel frees at a death.
    pub(super) fn become_producer(&self) {
        self.owner().acquire(self.tail.load(Ordering::Acquire));
    }
}

pub(super) fn push<T: bytemuck::Pod>(writer: &mut SlotWriter<Heap, T>, value: &T) -> bool {
    writer.push(value, StoreKind::Temporal).unwrap()
}

pub(super) fn pop<T: bytemuck::Pod>(reader: &mut SlotReader<Heap, T>) -> Option<T> {
    let mut value = T::zeroed();
    reader.pop(&mut value).unwrap().then_some(value)
}

/// Sends the messages 1 to `count`, and calls `when_full` whenever the ring is full.
pub(super) fn spawn_sender(world: &RingWorld, count: u64, when_full: fn(&Producer<Heap>)) -> thread::JoinHandle<()> {
    spawn(world, move |world| {
        let mut writer = world.writer();
        for n in 1..=count {
            while !push(&mut writer, &message(n)) {
                when_full(&writer.ring);
            }
        }
    })
}

#[test]
fn value_ring_wrap_delivers_in_order_and_untorn() {
    model(|| {
        let world = RingWorld::new(2, 2);
        let sender = spawn_sender(&world, 3, |_| spin_loop());
        let mut reader = world.reader();
        for n in 1..=3 {
            assert_eq!(number(spin_for(|| pop(&mut reader))), n);
        }
        join(sender);
    });
}

#[test]
fn value_ring_of_one_slot_delivers_in_order() {
    model(|| {
        let world = RingWorld::new(1, 1);
        let sender = spawn(&world, |world| {
            let mut writer = world.writer::<u64>();
            (1..=2).for_each(|n| spin_until(|| push(&mut writer, &n)));
        });
        let mut reader = world.reader::<u64>();
        for n in 1..=2 {
            assert_eq!(spin_for(|| pop(&mut reader)), n);
        }
        join(sender);
    });
}

/// Both sides poll as they do in the first turns of a wait.
#[test]
fn value_ring_probe_finds_only_whole_messages() {
    model(|| {
        let world = RingWorld::new(1, 2);
        let sender = spawn_sender(&world, 2, |ring| spin_until(|| ring.has_advanced()));
        let mut reader = world.reader();
        for n in 1..=2 {
            spin_until(|| reader.probe());
            assert_eq!(pop(&mut reader).map(number), Some(n));
        }
        join(sender);
    });
}

/// A probe accepts no index that moved back, and none that is more than a capacity ahead.
#[test]
fn value_ring_probe_ignores_an_invalid_tail() {
    model(|| {
        let world = RingWorld::new(4, 2);
        world.become_producer();
        let (mut writer, mut reader) = (world.writer(), world.reader::<Value>());
        for n in 1..=2 {
            push(&mut writer, &message(n));
        }
        assert!(reader.probe());
        for invalid in [0, 1, 5, u64::MAX] {
            world.tail.store(invalid, Ordering::Relaxed);
            assert!(reader.probe());
            assert_eq!(reader.ring.cached(), 2);
        }
    });
}

#[test]
fn value_ring_batch_is_published_at_once() {
    model(|| {
        let world = RingWorld::new(2, 2);
        let sender = spawn(&world, |world| {
            assert_eq!(world.writer().push_many(&[message(1), message(2)], StoreKind::Temporal).unwrap(), 2);
        });
        let mut reader = world.reader();
        let mut values = [[0; 2]; 2];
        let count = reader.pop_many(&mut values).unwrap();
        assert!(count == 0 || count == 2, "half a batch");
        for (value, n) in values.into_iter().take(count).zip(1..) {
            assert_eq!(number(value), n);
        }
        join(sender);
    });
}

#[test]
fn value_ring_blocked_sides_lose_no_wake_up() {
    model(|| {
        let world = RingWorld::new(1, 1);
        let sender = spawn(&world, |world| {
            let (mut writer, readable, writable) = (world.writer::<u64>(), world.readable(), world.writable());
            for n in 1..=2 {
                block_on(&writable, || push(&mut writer, &n).then_some(()));
                readable.notify(1);
            }
        });
        let (mut reader, readable, writable) = (world.reader::<u64>(), world.readable(), world.writable());
        for n in 1..=2 {
            assert_eq!(block_on(&readable, || pop(&mut reader)), n);
            writable.notify(1);
        }
        join(sender);
    });
}

/// A consumer is killed at any access and a successor takes its place, while the producer writes.
#[test]
fn value_ring_consumer_killed_successor_gets_the_rest_once() {
    for_every_kill(40, |accesses| {
        let world = RingWorld::new(1, 2);
        let sender = spawn_sender(&world, 2, |_| spin_loop());
        let mut received = Vec::new();
        let finished = kill_after(accesses, || {
            let mut reader = world.reader::<Value>();
            for _ in 0..2 {
                received.extend(pop(&mut reader).map(number));
            }
        });
        let by_first = received.len() as u64;
        assert!(received.iter().copied().eq(1..=by_first));
        let mut reader = world.reader::<Value>();
        let mut next = None;
        while next != Some(3) {
            match pop(&mut reader).map(number) {
                Some(n) => {
                    match next {
                        None => assert!(n > by_first && n <= by_first + 2, "{n} after the first had {by_first}"),
                        Some(expected) => assert_eq!(n, expected),
                    }
                    next = Some(n + 1);
                }
                // The first consumer may have been killed after it released the last message.
                None if next.is_none() && reader.ring.position() == 2 => break,
                None => spin_loop(),
            }
        }
        join(sender);
        finished
    });
}

#[test]
fn record_ring_wrap_delivers_records_and_fragments() {
    model(|| {
        let world = RingWorld::new(16, 1);
        // Start near the end, so that a record does not fit before it.
        world.tail.store(13, Ordering::Relaxed);
        world.head.store(13, Ordering::Relaxed);
        let sender = spawn(&world, |world| {
            let mut writer = RecordWriter::new(world.producer(), world.data.clone());
            assert!(writer.push(&[1; 20], StoreKind::Temporal).unwrap());
            assert!(writer.begin_fragmented(12).unwrap());
            let first = writer.push_fragment(&[2; 12], StoreKind::Temporal).unwrap().unwrap();
            assert!(first > 0);
            if first < 12 {
                assert!(writer.push_fragment(&[2; 12][first..], StoreKind::Temporal).unwrap().is_some());
            }
        });
        let mut reader = RecordReader::new(world.consumer(), world.data.clone(), 100);
        let (mut seen, mut assembled) = (0, 0);
        while assembled < 12 {
            match reader.next().unwrap() {
                Record::Empty => spin_loop(),
                Record::Message { start, length } => {
                    let mut bytes = [0; 20];
                    reader.copy_out(start, &mut bytes[..length]).unwrap();
                    assert_eq!((seen, length, bytes), (0, 20, [1; 20]));
                    reader.release(length);
                    seen = 1;
                }
                Record::Begin { length } => {
                    assert_eq!((seen, length), (1, 12));
                    reader.release(0);
                    seen = 2;
                }
                Record::Fragment { start, length } => {
                    let mut bytes = [0; 12];
                    reader.copy_out(start, &mut bytes[..length]).unwrap();
                    assert!(seen == 2 && bytes[..length].iter().all(|&byte| byte == 2));
                    reader.release(length);
                    assembled += length;
                }
            }
        }
        join(sender);
    });
}
