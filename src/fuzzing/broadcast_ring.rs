//! The ring of one publisher and several subscribers, on the heap.

use std::sync::Arc;

use super::assert_in_time;
use super::heap::{Cells, DATA, HEAD, Heap, TAIL, Word, Words};
use super::input::Input;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::raw::Corrupt;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::cursor::{Cursor, CursorState};
use crate::raw::broadcast::producer::{Gate, Producer};

/// Where the positions are in [`Cells`] that are being written.
pub(super) const BEGUN: usize = HEAD;
const SUBSCRIBERS: usize = 3;
/// The position and its complement.
pub(super) const STRIDE: usize = 2;

pub(super) struct HeapTrack {
    /// The positions, and the slots from [`DATA`] on.
    pub(super) cells: Arc<Cells>,
    /// State and position of each subscriber.
    pub(super) cursors: Arc<Cells>,
    pub(super) capacity: u64,
    history: u64,
    pub(super) gate: Gate,
}

pub(super) struct Subscriber {
    pub(super) consumer: Consumer<Heap>,
    /// Of its cursor, if it has one.
    pub(super) state: Option<CursorState>,
    /// The position to read next.
    pub(super) position: u64,
    /// Whether it was evicted for being slow.
    is_evicted: bool,
}

/// Drives `raw/broadcast/`.
pub fn broadcast_ring(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let capacity = 2 << (setup >> 1 & 3);
    let history = u64::from(input.byte()) % (capacity / 2 + 1);
    let lag = history + 1 + u64::from(input.byte()) % (capacity - history);
    let gate = [Gate::Open, Gate::Wait, Gate::Evict { lag }][usize::from(setup >> 3) % 3];
    let track = HeapTrack::new(capacity, history, gate);
    if setup & 1 == 0 {
        let position = input.word() >> 3;
        track.cells.store(TAIL, position);
        track.cells.store(BEGUN, position);
        // As in a track that has been in use: no history before the first message is asked for.
        (0..capacity).for_each(|back| track.write(position.wrapping_sub(back + 1)));
        correct(&track, &mut input);
    } else {
        hostile(&track, &mut input);
    }
}

impl HeapTrack {
    pub(super) fn new(capacity: u64, history: u64, gate: Gate) -> Self {
        let cells = Cells::new(DATA + capacity as usize * STRIDE);
        Self { cells, cursors: Cells::new(2 * SUBSCRIBERS), capacity, history, gate }
    }

    fn track(&self) -> Track<Heap> {
        let word = |index| Word(Arc::clone(&self.cells), index);
        let slots = Words(Arc::clone(&self.cells));
        Track { tail: word(TAIL), begun: word(BEGUN), slots, capacity: self.capacity, stride: STRIDE }
    }

    pub(super) fn cursor(&self, index: usize) -> Cursor<Heap> {
        let word = |offset| Word(Arc::clone(&self.cursors), 2 * index + offset);
        Cursor { state: word(0), next: word(1) }
    }

    pub(super) fn cursors(&self) -> Vec<Cursor<Heap>> {
        (0..SUBSCRIBERS).map(|index| self.cursor(index)).collect()
    }

    pub(super) fn producer(&self) -> Result<Producer<Heap>, Corrupt> {
        Producer::attach(self.track(), self.gate, self.history)
    }

    fn is_gated(&self) -> bool {
        self.gate != Gate::Open
    }

    pub(super) fn subscribe(&self, index: usize, replay: u64) -> Result<Subscriber, Corrupt> {
        let cursor = self.cursor(index);
        let (state, position) = cursor.activate(&Word(Arc::clone(&self.cells), TAIL), replay)?;
        let consumer = Consumer::new(self.track(), cursor, state, position, self.is_gated());
        Ok(Subscriber { consumer, state: Some(state), position, is_evicted: false })
    }

    pub(super) fn observe(&self, replay: u64) -> Subscriber {
        let consumer = Consumer::observer(self.track(), replay);
        let position = consumer.position();
        Subscriber { consumer, state: None, position, is_evicted: false }
    }

    /// Writes a message without publishing it.
    fn write(&self, position: u64) {
        let slot = DATA + (position % self.capacity) as usize * STRIDE;
        self.cells.store(slot, position);
        self.cells.store(slot + 1, !position);
    }
}

fn fill(position: u64, slot: &[AtomicU64]) {
    assert_eq!(slot.len(), STRIDE);
    slot[0].store(position, Relaxed);
    slot[1].store(!position, Relaxed);
}

/// The words of up to `max` messages.
fn copy(published: &Published<'_, Heap>, max: u64) -> Vec<[u64; STRIDE]> {
    assert!(published.slot(published.count()).is_none());
    let load = |slot: &[AtomicU64]| std::array::from_fn(|word| slot[word].load(Relaxed));
    (0..published.count().min(max)).map(|number| load(published.slot(number).expect("a slot"))).collect()
}

// ---- correct ----

fn correct(track: &HeapTrack, input: &mut Input) {
    let mut producer = track.producer().expect("valid words");
    let (mut tail, mut begun) = (producer.position(), producer.position());
    let mut subscribers: [Option<Subscriber>; SUBSCRIBERS] = std::array::from_fn(|_| None);
    while let Some(op) = input.next_op() {
        let index = usize::from(op >> 4) % SUBSCRIBERS;
        match op % 8 {
            0 | 1 => {
                let count = 1 + u64::from(input.byte()) % producer.batch_limit();
                if publish(track, &mut producer, &mut subscribers, count) {
                    tail += count;
                    begun = begun.max(tail);
                }
            }
            // It is killed in a batch.
            2 => {
                begun = begun.max(tail + u64::from(input.byte()) % (producer.room() + 1));
                track.cells.store(BEGUN, begun);
                (tail..begun).for_each(|position| track.write(position ^ 1 << 60));
                producer = track.producer().expect("valid words");
            }
            3 if subscribers[index].is_none() => {
                let replay = u64::from(input.byte()) % (track.history + 1);
                let subscriber = track.subscribe(index, replay).expect("valid words");
                assert_eq!(subscriber.position, tail.saturating_sub(replay));
                subscribers[index] = Some(subscriber);
            }
            4 if subscribers[index].is_none() => {
                subscribers[index] = Some(track.observe(u64::from(input.byte()) % (2 * track.capacity)));
            }
            // It leaves, or is killed and evicted.
            5 => {
                if let Some(state) = subscribers[index].take().and_then(|subscriber| subscriber.state) {
                    match op >> 6 & 1 {
                        0 => track.cursor(index).free(state),
                        _ => _ = track.cursor(index).evict(state),
                    }
                }
            }
            _ => {
                let want = 1 + u64::from(input.byte() % 8);
                subscribers[index].iter_mut().for_each(|subscriber| read(track, subscriber, want, tail, begun));
            }
        }
        assert_eq!((producer.position(), track.cells.load(BEGUN)), (tail, begun));
    }
    for subscriber in subscribers.iter_mut().flatten().filter(|subscriber| !subscriber.is_evicted) {
        while subscriber.position < tail {
            read(track, subscriber, track.capacity, tail, begun);
        }
        assert!(!subscriber.consumer.probe());
    }
}

/// Publishes if there is room, which a model knows, too. Returns whether it has.
fn publish(
    track: &HeapTrack,
    producer: &mut Producer<Heap>,
    subscribers: &mut [Option<Subscriber>; SUBSCRIBERS],
    count: u64,
) -> bool {
    let tail = producer.position();
    if producer.room() < count {
        let lags = |subscriber: &Subscriber| tail - subscriber.position;
        let mut evicted = Vec::new();
        let slowest = producer.scan(&track.cursors(), count, |index| evicted.push(index));
        let mut active = subscribers.iter_mut().enumerate().filter_map(|(index, subscriber)| {
            let subscriber = subscriber.as_mut().filter(|it| it.state.is_some() && !it.is_evicted)?;
            Some((index, subscriber))
        });
        if let Gate::Evict { lag } = track.gate {
            let slow = active.filter(|(_, subscriber)| lags(subscriber) + count > lag);
            let slow: Vec<usize> = slow.map(|(index, subscriber)| (subscriber.is_evicted = true, index).1).collect();
            assert_eq!(evicted, slow, "those that would lag by more than {lag}");
            assert!(producer.room() >= count, "it waits for a slow subscriber");
        } else {
            let behind = active.by_ref().map(|(_, subscriber)| lags(subscriber)).max();
            assert_eq!(slowest.map(|slowest| slowest.lag), behind);
            let room = track.capacity - behind.unwrap_or(0).max(track.history.min(tail));
            assert_eq!(producer.room(), room.min(producer.batch_limit()));
        }
    }
    let has_room = producer.room() >= count;
    if has_room {
        producer.publish(count, |number, slot| fill(tail + number, slot)).expect("valid words");
    }
    has_room
}

fn read(track: &HeapTrack, subscriber: &mut Subscriber, want: u64, tail: u64, begun: u64) {
    let is_gated = track.is_gated() && subscriber.state.is_some();
    let position = subscriber.position;
    assert_eq!(subscriber.consumer.probe(), position != tail);
    assert_eq!(subscriber.consumer.len(), (tail - position).min(track.capacity));
    let found = subscriber.consumer.read_many(want, |published| {
        let copied = copy(&published, want);
        Ok((copied.len() as u64, copied))
    });
    let overwritten = (begun - position).saturating_sub(track.capacity);
    match found.expect("valid words") {
        Read::Evicted => assert!(subscriber.is_evicted),
        _ if subscriber.is_evicted => panic!("a subscriber that was evicted reads on"),
        Read::Empty => assert_eq!(position, tail),
        Read::Lagged(missed) => {
            assert!(!is_gated && missed == overwritten && missed > 0, "{missed} and not {overwritten}");
            subscriber.position += missed;
        }
        Read::Message(messages) => {
            assert!(is_gated || overwritten == 0, "{overwritten} were overwritten");
            assert_eq!(messages.len() as u64, (tail - position).min(want));
            for (message, position) in messages.into_iter().zip(position..) {
                assert_eq!(message, [position, !position]);
            }
            subscriber.position += (tail - position).min(want);
        }
    }
    assert_eq!(subscriber.consumer.position(), subscriber.position);
}

// ---- hostile ----

fn hostile(track: &HeapTrack, input: &mut Input) {
    let tail = input.word();
    track.cells.store(TAIL, tail);
    track.cells.store(BEGUN, tail.wrapping_add(u64::from(input.byte()) % (track.capacity + 2)));
    (0..2 * SUBSCRIBERS).for_each(|index| track.cursors.store(index, input.word()));
    let Ok(mut producer) = track.producer() else { return };
    let mut subscriber = track.observe(input.short());
    let mut seen = track.cursor(0).state();
    while let Some(op) = input.next_op() {
        let index = usize::from(op >> 4) % SUBSCRIBERS;
        assert_in_time(|| match op % 8 {
            0 => {
                let want = u64::from(input.byte());
                let slowest = producer.scan(&track.cursors(), want, |index| assert!(index < SUBSCRIBERS));
                if let Some(slowest) = slowest {
                    assert!(slowest.index < SUBSCRIBERS && slowest.lag <= track.capacity);
                    seen = slowest.state;
                }
            }
            1 => {
                let count = u64::from(input.byte()).min(producer.room());
                assert!(count <= track.capacity);
                let filled = producer.publish(count, |number, slot| {
                    assert!(number < count);
                    fill(number, slot);
                });
                assert!(filled.is_ok());
            }
            2 => {
                if let Ok(successor) = track.producer() {
                    producer = successor;
                }
            }
            3 => subscriber = track.subscribe(index, input.short()).unwrap_or_else(|Corrupt| track.observe(1)),
            4 => subscriber = track.observe(input.word()),
            5 => _ = (track.cursor(index).evict(seen), track.cursor(index).free(seen)),
            6 => {
                let (want, used) = (input.byte().into(), input.byte().into());
                let (before, fails) = (subscriber.consumer.position(), op & 0x80 != 0);
                let found = subscriber.consumer.read_many(want, |published| {
                    assert!(published.count() <= track.capacity);
                    copy(&published, used);
                    if fails { Err(Corrupt) } else { Ok((used, ())) }
                });
                let after = subscriber.consumer.position();
                match found {
                    Ok(Read::Message(())) => assert!(!fails && after.wrapping_sub(before) <= used.min(track.capacity)),
                    Ok(Read::Lagged(missed)) => assert_eq!(after.wrapping_sub(before), missed),
                    Ok(Read::Empty | Read::Evicted) | Err(Corrupt) => assert_eq!(after, before),
                }
                assert!(subscriber.consumer.len() <= track.capacity);
            }
            _ => {
                let cells = if op & 0x80 == 0 { &track.cells } else { &track.cursors };
                let at = usize::from(input.byte()) % cells.words.len();
                let value = input.invalid_value(cells.load(at));
                cells.plan_store(input.byte() % 16, at, value);
            }
        });
    }
}
