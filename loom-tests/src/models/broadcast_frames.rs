//! Models of `src/raw/broadcast/frames.rs`: a publisher that fills frames, and subscribers that
//! lease them.

use super::*;
use crate::primitive::fence;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Read};
use crate::raw::broadcast::cursor::Cursor;
use crate::raw::broadcast::frames::{FramePool, Leases};
use crate::raw::broadcast::producer::{Gate, Producer};

/// One track with frames. Each slot names a frame. The message at position p is p + 1.
#[derive(Clone)]
struct FrameWorld {
    tail: Shared<AtomicU64>,
    begun: Shared<AtomicU64>,
    slots: SharedWords,
    leases: SharedWords,
    frames: Vec<SharedWords>,
    state: Shared<AtomicU64>,
    next: Shared<AtomicU64>,
    gate: Gate,
}

const CAPACITY: u64 = 2;
const SUBSCRIBER: usize = 5;

impl FrameWorld {
    fn new(frames: usize, gate: Gate) -> Self {
        Self {
            tail: new_word(),
            begun: new_word(),
            slots: new_payload(&[0; 2 * CAPACITY as usize]),
            leases: new_words(frames),
            frames: (0..frames).map(|_| new_payload(&message(0))).collect(),
            state: new_word(),
            next: new_word(),
            gate,
        }
    }

    fn track(&self) -> Track<Heap> {
        let (tail, begun, slots) = (self.tail.clone(), self.begun.clone(), self.slots.clone());
        Track { tail, begun, slots, capacity: CAPACITY, stride: 2 }
    }

    fn leases(&self) -> Leases<Heap> {
        Leases { words: self.leases.clone(), stride: 1, count: self.frames.len() as u64 }
    }

    fn cursor(&self) -> Cursor<Heap> {
        Cursor { state: self.state.clone(), next: self.next.clone() }
    }

    fn publisher(&self) -> FramePublisher {
        let producer = Producer::attach(self.track(), self.gate, 0).unwrap();
        let pool = FramePool::attach(self.leases(), &producer, |slot| slot[0].load(Ordering::Relaxed).checked_sub(1));
        FramePublisher { producer, pool, cursors: vec![self.cursor()], world: self.clone() }
    }

    fn subscriber(&self) -> FrameSubscriber {
        let (state, position) = self.cursor().activate(&self.tail, 0).unwrap();
        let is_gated = self.gate != Gate::Open;
        let consumer = Consumer::new(self.track(), self.cursor(), state, position, is_gated);
        FrameSubscriber::new(self, consumer, SUBSCRIBER)
    }

    /// One of a lossy broadcast, whose cursor holds nobody back.
    fn lossy_subscriber(&self, index: usize) -> FrameSubscriber {
        assert_eq!(self.gate, Gate::Open);
        FrameSubscriber::new(self, Consumer::observer(self.track(), 0), index)
    }

    /// After all threads have ended: nobody holds a frame.
    fn assert_unleased(&self) {
        assert!(self.leases().holders().next().is_none(), "a lease is left");
    }

    /// After all threads have ended: every frame can be used, one after another.
    fn assert_free(&self) {
        self.assert_unleased();
        let mut publisher = self.publisher();
        publisher.cursors.clear();
        (0..2 * self.frames.len()).for_each(|_| assert!(publisher.publish(), "a frame is lost"));
    }
}

struct FramePublisher {
    producer: Producer<Heap>,
    pool: FramePool<Heap>,
    cursors: Vec<Cursor<Heap>>,
    world: FrameWorld,
}

impl FramePublisher {
    /// Publishes the next message, if there are room and a frame.
    fn publish(&mut self) -> bool {
        self.producer.scan(&self.cursors, 1, |_| {});
        let Some(frame) = self.pool.take(&mut self.producer) else { return false };
        store_message(&self.world.frames[frame as usize], self.producer.position() + 1);
        let fill = |slot: &[AtomicU64]| {
            // Relaxed: payload.
            slot[0].store(frame + 1, Ordering::Relaxed);
            slot[1].store(!frame, Ordering::Relaxed);
        };
        self.pool.publish(&mut self.producer, frame, fill).is_ok()
    }

    fn publish_times(mut self, count: u64) -> u64 {
        (0..count).filter(|_| self.publish()).count() as u64
    }
}

struct FrameSubscriber {
    consumer: Consumer<Heap>,
    world: FrameWorld,
    index: usize,
    read: Vec<u64>,
    missed: u64,
    is_evicted: bool,
}

impl FrameSubscriber {
    fn new(world: &FrameWorld, consumer: Consumer<Heap>, index: usize) -> Self {
        Self { consumer, world: world.clone(), index, read: Vec::new(), missed: 0, is_evicted: false }
    }

    fn found<R>(&mut self, read: Read<R>) -> Option<R> {
        match read {
            Read::Message(read) => return Some(read),
            Read::Empty => {}
            Read::Lagged(missed) => self.missed += missed,
            Read::Evicted => self.is_evicted = true,
        }
        None
    }

    /// Leases the frame of the next message, if there is one.
    fn lease(&mut self) -> Option<(u64, u64)> {
        let peek = |slot: &[AtomicU64]| [0, 1].map(|index| slot[index].load(Ordering::Relaxed));
        let read = self.consumer.read(|published| Ok((0, peek(published.slot(0).unwrap())))).unwrap();
        let [name, check] = self.found(read)?;
        let position = self.consumer.position();
        let frame = name - 1;
        assert_eq!(check, !frame, "a torn slot");
        let leased = self.consumer.lease(&self.world.leases(), self.index, frame).unwrap();
        self.found(leased).map(|()| (frame, position))
    }

    /// Receives a message, if there is one.
    fn receive(&mut self) {
        if let Some((frame, position)) = self.lease() {
            self.look(frame, position);
            self.world.leases().clear(frame, self.index);
            self.read.push(position);
        }
    }

    fn look(&self, frame: u64, position: u64) {
        assert_eq!(load_message(&self.world.frames[frame as usize]), position + 1, "a frame of another message");
    }

    fn receive_times(mut self, count: u64) -> Self {
        (0..count).for_each(|_| self.receive());
        self
    }

    /// Receives the rest. It must have received, or missed, each message.
    fn assert_complete(mut self, published: u64) {
        while !self.is_evicted && self.consumer.probe() {
            self.receive();
        }
        assert!(self.read.is_sorted());
        assert!(self.is_evicted || self.read.len() as u64 + self.missed == published, "{:?}", self.read);
        assert!(self.world.gate != Gate::Wait || self.missed == 0, "a lossless broadcast lost a message");
        self.world.assert_unleased();
    }
}

/// One thread publishes while another receives.
fn publish_and_receive(frames: usize, gate: Gate, publishes: u64, receives: u64) {
    model(move || {
        let world = FrameWorld::new(frames, gate);
        let subscriber = world.subscriber();
        let publisher = world.publisher();
        let publishing = spawn(&world, move |_| publisher.publish_times(publishes));
        let receiving = spawn(&world, move |_| subscriber.receive_times(receives));
        let published = join(publishing);
        let subscriber = join(receiving);
        assert!(published > 0);
        subscriber.assert_complete(published);
        world.assert_free();
    });
}

#[test]
fn frames_lossy_subscriber_reads_whole_messages() {
    publish_and_receive(2, Gate::Open, 3, 2);
}

#[test]
fn frames_one_lossy_subscriber_reads_whole_messages() {
    publish_and_receive(1, Gate::Open, 2, 2);
}

#[test]
fn frames_lossless_subscriber_reads_every_message() {
    publish_and_receive(2, Gate::Wait, 3, 2);
}

#[test]
fn frames_evicted_subscriber_reads_whole_messages() {
    publish_and_receive(2, Gate::Evict { lag: 1 }, 3, 2);
}

/// A subscriber holds a frame over the next message, and gives the first one back last.
#[test]
fn frames_held_out_of_order_stay_whole() {
    large_model(|| {
        let world = FrameWorld::new(3, Gate::Open);
        let mut subscriber = world.subscriber();
        let mut publisher = world.publisher();
        assert!(publisher.publish());
        let publishing = spawn(&world, move |_| publisher.publish_times(3));
        let receiving = spawn(&world, move |world| {
            let first = subscriber.lease();
            subscriber.receive();
            if let Some((frame, position)) = first {
                subscriber.look(frame, position);
                world.leases().clear(frame, SUBSCRIBER);
            }
        });
        join(publishing);
        join(receiving);
        world.assert_free();
    });
}

/// Two subscribers lease the same frame.
#[test]
fn frames_of_two_subscribers_stay_whole() {
    large_model(|| {
        let world = FrameWorld::new(1, Gate::Open);
        let mut publisher = world.publisher();
        let subscribers = [SUBSCRIBER, SUBSCRIBER + 1].map(|index| world.lossy_subscriber(index));
        assert!(publisher.publish());
        let publishing = spawn(&world, move |_| publisher.publish_times(1));
        let receiving = subscribers.map(|subscriber| spawn(&world, move |_| subscriber.receive_times(1)));
        let published = 1 + join(publishing);
        join_all(receiving).into_iter().for_each(|subscriber| subscriber.assert_complete(published));
        world.assert_free();
    });
}

/// A subscriber is killed at any access. What it held is cleared by the holder of its lock.
#[test]
fn frames_subscriber_killed_no_frame_is_lost() {
    for_every_kill(40, |accesses| {
        let world = FrameWorld::new(2, Gate::Open);
        let mut subscriber = world.subscriber();
        let publisher = world.publisher();
        let publishing = spawn(&world, move |_| publisher.publish_times(2));
        let receiving = spawn(&world, move |world| {
            let finished = kill_after(accesses, || subscriber.receive());
            // The kernel has freed the lock, and a newcomer has taken it.
            fence(Ordering::SeqCst);
            world.leases().clear_all(SUBSCRIBER);
            world.subscriber().receive_times(1);
            finished
        });
        assert!(join(publishing) > 0);
        let finished = join(receiving);
        world.assert_free();
        finished
    });
}

/// A publisher is killed at any access, also with a loan, and its successor publishes one more
/// message.
fn killed_publish_and_receive(gate: Gate) {
    for_every_kill(60, move |accesses| {
        let world = FrameWorld::new(3, gate);
        let subscriber = world.subscriber();
        let publishing = spawn(&world, move |world| {
            let finished = kill_after(accesses, || {
                let mut publisher = world.publisher();
                (0..2).for_each(|_| _ = publisher.publish());
            });
            // The right to publish came from the kernel.
            let mut successor = world.publisher();
            successor.publish();
            (finished, successor.producer.position())
        });
        let receiving = spawn(&world, move |_| subscriber.receive_times(2));
        let (finished, published) = join(publishing);
        join(receiving).assert_complete(published);
        world.assert_free();
        finished
    });
}

#[test]
fn frames_publisher_killed_lossy_subscriber_reads_whole_messages() {
    killed_publish_and_receive(Gate::Open);
}

#[test]
fn frames_publisher_killed_lossless_subscriber_reads_every_message() {
    killed_publish_and_receive(Gate::Wait);
}
