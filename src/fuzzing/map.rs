//! The algorithm of a map, on the heap. While its words are intact it must agree with a map of std,
//! and lose no block, whichever process is repaired. Once a word was changed, only bounds and an
//! end are promised.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assert_in_time;
use super::heap::{Cells, DATA, Heap, Words};
use super::input::{Input, payload};
use crate::primitive::{Ordering::Relaxed, load_short};
use crate::raw::map::{BlockSize, Entry, INTENT, Key, Look, MAX_CHAIN, Map, MapWords, Refusal, Writer};

const PARTICIPANTS: usize = 2;
/// There is one key of each length below this.
const KEYS: u64 = 20;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

struct Harness {
    /// Heads, owners, blocks, intent records.
    groups: [Arc<Cells>; 4],
    map: Map<Heap>,
    writers: [Writer<()>; PARTICIPANTS],
    buckets: usize,
    entries: u64,
    spare: u64,
    expected: Model,
    is_intact: bool,
}

/// Drives a map.
pub fn map(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let buckets = 1 << (setup & 3);
    let sizes = [(4, setup >> 2 & 3), (8, setup >> 4 & 3), (40, setup >> 6 & 3)];
    let sizes = sizes.map(|(words, count)| {
        let entries = u64::from(count) * 2 + 1;
        BlockSize { words, count: 2 * entries, spare: entries, extent: 0 }
    });
    let blocks: usize = sizes.iter().map(|size| size.count as usize).sum();
    let words: usize = sizes.iter().map(|size| size.count as usize * size.words).sum();
    let groups = [buckets, blocks, words, PARTICIPANTS * INTENT].map(|length| Cells::new(DATA + length));
    let part = |group: usize| Words(Arc::clone(&groups[group]));
    let map = Map::new(MapWords { heads: part(0), owners: part(1), blocks: part(2), intents: part(3) }, &sizes);
    map.fill_spares();
    let writers = [0, 1].map(|participant| map.writer(participant, participant, ()));
    let (entries, spare) = sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.count - size.spare, sum.1 + size.spare));
    let expected = Model::new();
    let mut harness = Harness { groups, map, writers, buckets, entries, spare, expected, is_intact: true };
    while let Some(op) = input.next_op() {
        assert_in_time(|| harness.step(op, &mut input));
    }
}

fn bytes((length, words): (usize, &[crate::primitive::AtomicU64])) -> Vec<u8> {
    assert!(length <= words.len() * 8, "{length} bytes in {} words", words.len());
    let mut bytes = vec![0; length];
    load_short(words, &mut bytes);
    bytes
}

fn copy(entry: &Entry<'_>) -> (Vec<u8>, Vec<u8>) {
    (bytes(entry.key()), bytes(entry.value()))
}

impl Harness {
    fn step(&mut self, op: u8, input: &mut Input) {
        let side = usize::from(op >> 7);
        let name = payload(7, u64::from(input.byte()) % KEYS);
        let key = Key { bytes: &name, hash: name.len() as u32 * 5 };
        match op % 16 {
            0..=4 => {
                let value = payload(input.short(), u64::from(input.byte()) % 64 * 5);
                self.insert(side, key, &value);
            }
            5..=7 => self.remove(side, key),
            8 => {
                let found = self.map.read(key, copy, |_| {}).map(|found| found.map(|(_, value)| value));
                assert!(!self.is_intact || found == Ok(self.expected.get(&name).cloned()));
            }
            9 => self.clear(side, usize::from(input.byte()) % self.buckets),
            10 => {
                let repaired = self.map.repair(side, side..side + 1, &());
                assert!(!self.is_intact || repaired.is_ok());
            }
            11 => self.check(),
            _ => self.corrupt(input),
        }
    }

    fn insert(&mut self, side: usize, key: Key<'_>, value: &[u8]) {
        let mut look = Look::EMPTY;
        let Ok(found) = self.map.look(&mut look, key, copy, |_| {}) else { return assert!(!self.is_intact) };
        let inserted = self.map.insert(&mut self.writers[side], &look, key, value);
        if !self.is_intact {
            return;
        }
        assert_eq!(found.map(|(_, value)| value).as_ref(), self.expected.get(key.bytes));
        match inserted {
            Ok(is_done) => {
                assert!(is_done, "nobody came in between");
                self.expected.insert(key.bytes.to_vec(), value.to_vec());
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Full),
        }
    }

    fn remove(&mut self, side: usize, key: Key<'_>) {
        let mut look = Look::EMPTY;
        let Ok(_) = self.map.look(&mut look, key, copy, |_| {}) else { return assert!(!self.is_intact) };
        if look.has_found() {
            let removed = self.map.remove(&mut self.writers[side], &look);
            if self.is_intact {
                // Also if no block is free.
                assert_eq!((removed, self.expected.remove(key.bytes).is_some()), (Ok(true), true));
            }
        }
    }

    fn clear(&mut self, side: usize, bucket: usize) {
        let Ok(look) = self.map.look_at_bucket(bucket, |_| {}) else { return assert!(!self.is_intact) };
        let removed = self.map.remove(&mut self.writers[side], &look);
        assert!(!self.is_intact || removed == Ok(true), "{removed:?}");
        let buckets = self.buckets;
        self.expected.retain(|key, _| key.len() * 5 % buckets != bucket);
    }

    fn check(&self) {
        assert!(self.map.len() <= self.buckets * MAX_CHAIN);
        let read = (0..self.buckets).map(|bucket| self.map.read_bucket(bucket, copy, |_| {}));
        let read: Vec<_> = read.collect();
        let snapshot = self.map.snapshot(copy, |_| {});
        if self.is_intact {
            assert_eq!(snapshot.map(Model::from_iter).as_ref(), Ok(&self.expected));
            let found: Vec<_> = read.into_iter().flat_map(|entries| entries.expect("an intact bucket")).collect();
            assert_eq!(found.len(), self.expected.len());
            assert_eq!(found.into_iter().collect::<Model>(), self.expected);
            assert_eq!((self.map.allocated(), self.map.spare()), (self.expected.len() as u64, self.spare));
            assert!(self.map.allocated() <= self.entries);
        }
    }

    /// Changes a word now, or in the middle of one of the next operations.
    fn corrupt(&mut self, input: &mut Input) {
        self.is_intact = false;
        let group = &self.groups[usize::from(input.byte()) % self.groups.len()];
        let index = DATA + usize::try_from(input.short()).unwrap_or(0) % (group.words.len() - DATA);
        let value = match input.byte() % 4 {
            // A head, or the first word of a block.
            0 => u64::from(input.byte()) << 24 | u64::from(input.byte() % 32),
            1 => u64::from(input.byte()) << 32,
            _ => input.invalid_value(group.words[index].load(Relaxed)),
        };
        group.plan_store(input.byte() % 16, index, value);
    }
}
