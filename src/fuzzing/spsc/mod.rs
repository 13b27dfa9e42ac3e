//! The ring with one producer and one consumer, on the heap.

pub(super) mod byte_ring;
pub(super) mod value_ring;

use std::collections::VecDeque;
use std::sync::Arc;

use super::heap::{Cells, DATA, HEAD, Heap, OWNER, START, TAIL, Word, Words};
use super::input::Input;
use crate::primitive::Ordering::Relaxed;
use crate::raw::Corrupt;
use crate::raw::owner::Owner;
use crate::raw::spsc::{Consumer, Positions, Producer};

/// One ring. Its data is exactly as long as it must be.
pub(super) struct HeapRing {
    cells: Arc<Cells>,
    pub(super) capacity: u64,
}

impl HeapRing {
    pub(super) fn new(capacity: u64, stride: usize) -> Self {
        Self { cells: Cells::new(DATA + capacity as usize * stride), capacity }
    }

    /// Sets both indices to `position`. Nothing owns either side yet.
    pub(super) fn empty_at(self, position: u64) -> Self {
        self.cells.store(TAIL, position);
        self.cells.store(HEAD, position);
        self
    }

    /// Reads head, the distance to tail, the owner, the distance to the start positions, and a
    /// number of data words with the words themselves.
    pub(super) fn filled(self, input: &mut Input) -> Self {
        let head = input.word();
        self.cells.store(HEAD, head);
        self.cells.store(TAIL, head.wrapping_add(input.word()));
        self.cells.store(OWNER, input.word());
        let start = head.wrapping_add(input.word());
        (START..DATA).for_each(|index| self.cells.store(index, start));
        let count = usize::from(input.byte()).min(self.data_words());
        (DATA..DATA + count).for_each(|index| self.cells.store(index, input.word()));
        self
    }

    pub(super) fn data_words(&self) -> usize {
        self.cells.words.len() - DATA
    }

    pub(super) fn data(&self) -> Words {
        Words(Arc::clone(&self.cells))
    }

    pub(super) fn word(&self, index: usize) -> Word {
        Word(Arc::clone(&self.cells), index)
    }

    pub(super) fn positions(&self) -> Positions<Heap> {
        Positions { tail: self.word(TAIL), head: self.word(HEAD) }
    }

    pub(super) fn owner(&self) -> Owner<Heap> {
        Owner::new(self.word(OWNER), [self.word(START), self.word(START + 1)])
    }

    pub(super) fn producer(&self) -> Result<Producer<Heap>, Corrupt> {
        Producer::attach(self.positions(), self.capacity)
    }

    pub(super) fn consumer(&self) -> Result<Consumer<Heap>, Corrupt> {
        Consumer::attach(self.positions(), self.owner(), self.capacity)
    }

    /// Takes the producer's side over, as a new sender does.
    pub(super) fn acquire_producer(&self) -> Producer<Heap> {
        self.owner().acquire(self.word(TAIL).load(Relaxed));
        self.producer().expect("valid indices")
    }

    /// Changes a word, at once or after `delay` accesses.
    pub(super) fn corrupt_word(&self, delay: u8, input: &mut Input) {
        let index = usize::from(input.byte()) % self.cells.words.len();
        let value = input.invalid_value(self.cells.load(index));
        self.cells.plan_store(delay, index, value);
        if delay == 0 {
            self.cells.accessed();
        }
    }

    /// Asserts I1 of `raw/spsc/mod.rs` on each side's cached indices, whatever the shared words
    /// say.
    pub(super) fn check_bounds(&self, producer: &mut Producer<Heap>, consumer: &mut Consumer<Heap>, want: u64) {
        for want in [0, want] {
            assert!(producer.writable(want).unwrap_or(0) <= self.capacity, "more room than ring");
            assert!(consumer.readable(want).unwrap_or(0) <= self.capacity, "more messages than ring");
        }
    }
}

/// What a correct reader must get. Entries carry the generation of their producer. A producer that
/// came and went unseen counts as its predecessor.
pub(super) struct Expected<E> {
    pub(super) queue: VecDeque<(u64, E)>,
    /// The generation of the present producer.
    pub(super) writing: u64,
    /// The generation that the reader is at.
    pub(super) reading: u64,
    /// The latest generation from which an entry was read.
    seen: u64,
}

impl<E> Expected<E> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), writing: 1, reading: 1, seen: 0 }
    }

    pub(super) fn push(&mut self, entry: E) {
        self.queue.push_back((self.writing, entry));
    }

    pub(super) fn pop(&mut self) -> E {
        let (generation, entry) = self.queue.pop_front().expect("the reader got more than was sent");
        self.seen = generation;
        entry
    }

    /// Asserts that a probe finds only what exists, and misses nothing of the last producer.
    pub(super) fn check_probe(&self, found: bool) {
        if found || self.reading == self.writing {
            assert_eq!(found, !self.queue.is_empty(), "the probe is wrong");
        }
    }

    /// A new reader starts with the oldest producer that left something.
    pub(super) fn attach_reader(&mut self) {
        self.reading = self.queue.front().map_or(self.writing, |(generation, _)| *generation);
        self.seen = 0;
    }

    /// The reader found nothing: correct only at the end, or between two producers.
    pub(super) fn switch_producer(&mut self, consumer: &mut Consumer<Heap>) {
        let Some(change) = consumer.next_producer() else {
            assert!(self.queue.is_empty() && self.reading == self.writing, "stuck before the end");
            return;
        };
        consumer.switch_producer();
        let next = change.next.epoch();
        assert!(next <= self.writing && (next > self.reading || self.seen == 0), "not a successor");
        assert!(self.seen < next, "a successor's message came before its announcement");
        assert!(self.queue.front().is_none_or(|(generation, _)| *generation >= next), "announced too early");
        self.reading = next;
    }
}

/// An operation with this bit is preceded by a probe.
pub(super) const PROBE: u8 = 0x80;
