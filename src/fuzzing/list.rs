//! The algorithm of a list, on the heap. While its words are intact it must agree with a vector,
//! and lose no block, whichever writer is repaired. Once a word was changed, only bounds and an end
//! are promised.

use std::ops::Range;
use std::sync::Arc;

use super::assert_in_time;
use super::heap::{Cells, DATA, Heap, Word, Words};
use super::input::{Input, payload};
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::raw::list::{List, ListWords, Look, Refused, Shape, View, Writer};

const WRITERS: usize = 2;

struct Harness {
    /// The root, owners, blocks, records.
    groups: [Arc<Cells>; 4],
    list: List<Heap>,
    shape: Shape,
    writers: [Writer; WRITERS],
    /// Each element follows from a number.
    expected: Vec<u64>,
    /// From before the last change.
    outdated: Option<Look>,
    is_intact: bool,
}

/// Drives a list.
pub fn list(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let (width, per_chunk) = (usize::from(setup & 3).max(1), u64::from(setup >> 2 & 7) + 1);
    let capacity = u64::from(input.byte()) % 60 + 1;
    let mut shape = Shape { capacity, width, per_chunk, per_change: 3, writers: WRITERS };
    if setup >> 5 > 0 {
        shape.per_change = shape.linked_chunks().max(3) as usize;
    }
    let lengths = [1, shape.blocks() as usize, shape.block_words(), shape.record_words()];
    let groups = lengths.map(|length| Cells::new(DATA + length));
    let part = |group: usize| Words(Arc::clone(&groups[group]));
    let root = Word(Arc::clone(&groups[0]), DATA);
    let list = List::new(ListWords { root, owners: part(1), blocks: part(2), records: part(3) }, shape);
    let writers = [0, 1].map(|number| list.writer(number));
    let mut harness = Harness { groups, list, shape, writers, expected: Vec::new(), outdated: None, is_intact: true };
    while let Some(op) = input.next_op() {
        assert_in_time(|| harness.step(op, &mut input));
    }
}

fn element(number: u64, width: usize) -> impl Iterator<Item = u64> {
    let bytes = payload(number, width as u64 * 8);
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>().into_iter()
}

/// The words of these elements.
fn words(view: &View<'_, Heap>, elements: Range<u64>) -> Result<Vec<u64>, Refused> {
    let mut found = Vec::new();
    view.visit(elements, |words| {
        found.extend(words.iter().map(|word| word.load(Relaxed)));
        Ok(())
    })?;
    Ok(found)
}

impl Harness {
    fn step(&mut self, op: u8, input: &mut Input) {
        let side = usize::from(op >> 7);
        let Ok(length) = self.list.read(|view| Ok(view.len()), |_| {}) else {
            assert!(!self.is_intact);
            return if op % 16 > 12 {
                self.corrupt(input)
            };
        };
        assert!(!self.is_intact || length == self.expected.len() as u64);
        let at = |input: &mut Input| input.short() % length.saturating_add(1);
        match op % 16 {
            // Of one element at most.
            op @ 0..=3 => {
                let at = at(input);
                let end = at.saturating_add(u64::from(op & 1)).min(length);
                self.splice(side, at..end, u64::from(op >> 1), input);
            }
            4..=5 => {
                let count = u64::from(input.byte()) % 64;
                self.splice(side, length..length, count, input);
            }
            6..=7 => {
                let at = at(input);
                let end = at.saturating_add(u64::from(input.byte())).min(length);
                let count = u64::from(input.byte()) % 64;
                self.splice(side, at..end, count, input);
            }
            8 => {
                let at = at(input);
                self.splice(side, at..length, 0, input);
            }
            9 => {
                let at = at(input);
                let end = at.saturating_add(u64::from(input.byte())).min(length);
                let found = self.list.read(|view| words(view, at..end), |_| {});
                if self.is_intact {
                    assert_eq!(found, Ok(self.expected_words(at as usize..end as usize)));
                }
            }
            10 => self.list.repair(side..side + 1),
            11 => self.check(),
            12 => self.commit_outdated(side),
            _ => self.corrupt(input),
        }
    }

    fn expected_words(&self, elements: Range<usize>) -> Vec<u64> {
        self.expected[elements].iter().flat_map(|&number| element(number, self.shape.width)).collect()
    }

    /// Replaces these elements by `count` others.
    fn splice(&mut self, side: usize, elements: Range<u64>, count: u64, input: &mut Input) {
        let first = u64::from(input.byte());
        let width = self.shape.width;
        let store = |nth, words: &[AtomicU64]| {
            assert_eq!(words.len(), width);
            words.iter().zip(element(first + nth, width)).for_each(|(word, value)| word.store(value, Relaxed));
        };
        let Ok((look, length)) = self.list.look(|view| Ok(view.len()), |_| {}) else {
            return assert!(!self.is_intact);
        };
        let (removed, is_end) = (elements.end - elements.start, elements.end == length);
        let spliced = self.list.splice(&mut self.writers[side], &look, elements.clone(), count, store);
        if !self.is_intact {
            return;
        }
        let has_room = length - removed + count <= self.shape.capacity;
        let concerns_few = removed.max(count) <= 1;
        match spliced {
            Ok(is_done) => {
                assert!(is_done && has_room, "nobody came in between");
                self.expected.splice(elements.start as usize..elements.end as usize, first..first + count);
                self.outdated = Some(look);
            }
            // All blocks are free but those that are linked.
            Err(Refused::Full) => assert!(!has_room || !concerns_few && !is_end),
            Err(Refused::TooLarge) => assert!(!concerns_few && self.shape.per_change == 3),
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// A change that comes too late is not made.
    fn commit_outdated(&mut self, side: usize) {
        if let Some(look) = &self.outdated {
            let spliced = self.list.splice(&mut self.writers[side], look, 0..0, 1, |_, _| {});
            assert!(!self.is_intact || spliced == Ok(false), "{spliced:?}");
        }
    }

    fn check(&self) {
        let read = self.list.read(|view| Ok((words(view, 0..view.len())?, view.blocks())), |_| {});
        if self.is_intact {
            let (found, blocks) = read.expect("an intact list");
            assert_eq!(found, self.expected_words(0..self.expected.len()));
            assert_eq!(self.list.allocated(), blocks);
            assert!(blocks <= self.shape.linked_chunks() + 1);
        }
    }

    /// Changes a word now, or in the middle of one of the next operations.
    fn corrupt(&mut self, input: &mut Input) {
        self.is_intact = false;
        let group = &self.groups[usize::from(input.byte()) % self.groups.len()];
        let index = DATA + usize::try_from(input.short()).unwrap_or(0) % (group.words.len() - DATA);
        let value = match input.byte() % 4 {
            // A root, or an entry of a directory.
            0 => u64::from(input.byte()) << 16 | u64::from(input.byte() % 8),
            1 => u64::from(input.byte()) << 40 | u64::from(input.byte()),
            _ => input.invalid_value(group.words[index].load(Relaxed)),
        };
        group.plan_store(input.byte() % 16, index, value);
    }
}
