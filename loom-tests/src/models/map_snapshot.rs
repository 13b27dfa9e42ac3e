//! Models of `src/raw/map/snapshot.rs`. The map has two buckets of one key each, so that a snapshot
//! can be of two moments. A value is one word.

use super::*;
use crate::raw::map::snapshot::NoSnapshot;
use crate::raw::map::{BlockSize, Entry, HEADER, INTENT, Key, Look, Map, MapWords};

const KEYS: [[u8; 1]; 2] = [[b'a'], [b'b']];
const STRIDE: usize = HEADER + 1 + 1;
const PARTICIPANTS: usize = 3;
/// The first bits of a head that are its generation, and its length.
const GENERATION: u64 = 1 << 28;
const LENGTH: u64 = 1 << 24;

#[derive(Clone)]
struct TwoBuckets {
    heads: SharedWords,
    owners: SharedWords,
    blocks: SharedWords,
    intents: SharedWords,
}

fn copy_value(entry: &Entry<'_>) -> u64 {
    entry.value().1.first().map_or(0, |word| word.load(Ordering::Relaxed))
}

impl TwoBuckets {
    /// Key 0 has 1 and key 1 has 2, each in a bucket of its own.
    fn new(blocks: usize) -> Self {
        let (heads, owners, intents) = (new_words(2), new_words(blocks), new_words(PARTICIPANTS * INTENT));
        let world = Self { heads, owners, blocks: new_words(blocks * STRIDE), intents };
        world.add(VICTIM, 0, 1);
        world.add(VICTIM, 1, 2);
        world
    }

    fn map(&self) -> Map<Heap> {
        let words = MapWords {
            heads: self.heads.clone(),
            owners: self.owners.clone(),
            blocks: self.blocks.clone(),
            intents: self.intents.clone(),
        };
        Map::new(words, &[BlockSize { words: STRIDE, count: self.owners.len() as u64, spare: 0, extent: 0 }])
    }

    fn add(&self, participant: usize, number: usize, more: u64) {
        let (map, key) = (self.map(), Key { bytes: &KEYS[number], hash: number as u32 });
        let mut writer = map.writer(participant, participant, ());
        let mut look = Look::EMPTY;
        loop {
            let found = map.look(&mut look, key, copy_value, |_| {}).expect("a valid bucket");
            let sum = found.unwrap_or(0) + more;
            if map.insert(&mut writer, &look, key, &sum.to_ne_bytes()).expect("room") {
                return;
            }
        }
    }

    /// What a commit does that removes the only entry of a bucket, but for its blocks.
    fn commit_empty(&self, bucket: usize) {
        let head = self.heads[bucket].load(Ordering::Relaxed);
        self.heads[bucket].store((head & !(GENERATION - 1)) + GENERATION, Ordering::Release);
    }

    fn snapshot(&self) -> Vec<u64> {
        self.map().snapshot(copy_value, |_| {}).expect("a snapshot")
    }
}

/// One writer adds 10 to the first bucket and then to the second, another 100 the other way round.
/// What is in the second bucket by the one is in the first, and the other way round.
#[test]
fn map_snapshot_of_two_buckets_is_of_one_moment() {
    large_model(|| {
        let world = TwoBuckets::new(6);
        let one = spawn(&world, |world| [0, 1].map(|number| world.add(OTHER, number, 10)));
        let other = spawn(&world, |world| [1, 0].map(|number| world.add(THIRD, number, 100)));
        let seen = world.snapshot();
        join(one);
        join(other);
        let &[first, second] = seen.as_slice() else { panic!("not two entries: {seen:?}") };
        assert!(second % 100 < 12 || first % 100 == 11, "of two moments: {seen:?}");
        assert!(first < 101 || second >= 102, "of two moments: {seen:?}");
        assert_eq!(world.snapshot(), [111, 112]);
    });
}

/// Two writers know nothing of each other. Their changes have one order for all snapshots.
#[test]
fn map_snapshots_by_two_one_has_all_that_the_other_has() {
    large_model(|| {
        let world = TwoBuckets::new(2);
        let one = spawn(&world, |world| world.commit_empty(0));
        let other = spawn(&world, |world| world.commit_empty(1));
        let second = spawn(&world, |world| world.snapshot());
        let own = world.snapshot();
        join(one);
        join(other);
        let seen = [own, join(second)];
        assert!(!(seen.contains(&vec![1]) && seen.contains(&vec![2])), "in two orders: {seen:?}");
        assert_eq!(world.snapshot(), []);
    });
}

#[test]
fn map_snapshot_always_overtaken_gives_up() {
    if BOUNDS_ACCESSES {
        return; // loom follows fewer accesses than it takes to give up
    }
    model(|| {
        let world = TwoBuckets::new(2);
        let change = || {
            let head = world.heads[0].load(Ordering::Relaxed);
            world.heads[0].store(head + GENERATION, Ordering::Relaxed);
        };
        let mut copied = 0;
        let copy = |entry: &Entry<'_>| {
            copied += 1;
            if copied == 2 {
                change();
            }
            copy_value(entry)
        };
        let passes = Note::new(0);
        let outcome = world.map().snapshot(copy, |_| {
            passes.set(passes.get() + 1);
            change();
        });
        assert_eq!((outcome, passes.get()), (Err(NoSnapshot::Overtaken), 256));
    });
}

/// Heads may have any value.
#[test]
fn map_snapshot_of_invalid_words_ends() {
    model(|| {
        let world = TwoBuckets::new(2);
        world.heads[1].store(LENGTH | 7, Ordering::Relaxed);
        assert_eq!(world.map().snapshot(copy_value, |_| {}), Err(NoSnapshot::Corrupt));
    });
}
