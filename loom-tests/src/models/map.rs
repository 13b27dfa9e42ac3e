//! Models of `src/raw/map.rs`. The map has one bucket, so that all keys meet, and as few blocks as
//! will do, so that they are used again at once. A value is a message of two words.

use super::*;
use crate::raw::map::Refusal::{self, Busy, Full, LooksFull};
use crate::raw::map::{
    ALLOCATED, BlockSize, Entry, Extents, HEADER, INTENT, Key, Look, MAX_CHAIN, Map, MapWords, Writer,
};

const KEYS: [[u8; 1]; 4] = [[b'a'], [b'b'], [b'c'], [b'd']];
/// Words of an entry.
const STRIDE: usize = HEADER + 1 + 2;
const PARTICIPANTS: usize = 3;

#[derive(Clone)]
struct MapWorld {
    heads: SharedWords,
    owners: SharedWords,
    blocks: SharedWords,
    intents: SharedWords,
    /// Of two words for each block, if values are there.
    extents: HeapExtents,
    count: usize,
    spare: usize,
}

/// An extent that has no memory has zeros, which are no value.
#[derive(Clone)]
struct HeapExtents(Option<SharedWords>);

impl HeapExtents {
    fn words(&self, extent: u64) -> &[AtomicU64] {
        &self.0.as_ref().expect("a long value")[extent as usize * 2..][..2]
    }

    fn load(&self, extent: u64) -> [u64; 2] {
        std::array::from_fn(|i| self.words(extent)[i].load(Ordering::Relaxed))
    }

    fn store(&self, extent: u64, words: [u64; 2]) {
        self.words(extent).iter().zip(words).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
}

impl Extents for HeapExtents {
    fn write(&self, extent: u64, value: &[u8]) -> bool {
        let words = value.chunks(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
        self.store(extent, words.collect::<Vec<_>>().try_into().unwrap());
        true
    }

    fn copy(&self, from: u64, to: u64, length: usize) -> bool {
        assert!(length <= 16);
        self.store(to, self.load(from));
        true
    }

    fn give_back(&self, extent: u64) {
        self.store(extent, [0; 2]);
    }
}

fn key(number: usize) -> Key<'static> {
    Key { bytes: &KEYS[number], hash: number as u32 }
}

fn value(number: u64) -> [u8; 16] {
    let [one, two] = message(number);
    std::array::from_fn(|i| if i < 8 { one.to_ne_bytes()[i] } else { two.to_ne_bytes()[i - 8] })
}

/// The number of a whole value.
fn checked((length, copied): (usize, [u64; 2])) -> u64 {
    assert_eq!(length, 16, "another entry's length");
    number(copied)
}

impl MapWorld {
    /// With the keys 0, 1, … already there, of values 1, 2, …, in blocks of their `owner`.
    fn new(blocks: usize, keys: usize, owner: usize) -> Self {
        Self::with_spare(0, blocks, keys, owner)
    }

    /// The same, with some spare ones among the blocks.
    fn with_spare(spare: usize, blocks: usize, keys: usize, owner: usize) -> Self {
        Self::of(false, spare, blocks, keys, owner)
    }

    /// The same, with values in extents.
    fn long(spare: usize, blocks: usize, keys: usize, owner: usize) -> Self {
        Self::of(true, spare, blocks, keys, owner)
    }

    fn of(is_long: bool, spare: usize, blocks: usize, keys: usize, owner: usize) -> Self {
        let world = Self {
            heads: new_words(1),
            owners: new_words(blocks),
            blocks: new_words(blocks * STRIDE),
            intents: new_words(PARTICIPANTS * INTENT),
            extents: HeapExtents(is_long.then(|| new_words(blocks * 2))),
            count: blocks,
            spare,
        };
        world.map().fill_spares();
        for number in 0..keys {
            world.put(owner, number, 1 + number as u64).unwrap();
        }
        world
    }

    fn map(&self) -> Map<Heap> {
        let words = MapWords {
            heads: self.heads.clone(),
            owners: self.owners.clone(),
            blocks: self.blocks.clone(),
            intents: self.intents.clone(),
        };
        let extent = if self.extents.0.is_some() { 16 } else { 0 };
        let (count, spare) = (self.count as u64, self.spare as u64);
        Map::new(words, &[BlockSize { words: STRIDE, count, spare, extent }])
    }

    fn copy_value(&self, entry: &Entry<'_>) -> (usize, [u64; 2]) {
        let (length, words) = entry.value();
        let word = |i: usize| words.get(i).map_or(0, |word| word.load(Ordering::Relaxed));
        (length, entry.extent().map_or_else(|| std::array::from_fn(word), |extent| self.extents.load(extent)))
    }

    fn get(&self, number: usize) -> Option<u64> {
        // No pause between attempts: after one, loom would show the next attempt newer words.
        self.map().read(key(number), |entry| self.copy_value(entry), |_| {}).expect("a valid bucket").map(checked)
    }

    /// Looks for a key and changes it, until nobody comes in between.
    fn change<R>(
        &self,
        participant: usize,
        number: usize,
        mut change: impl FnMut(&Map<Heap>, &mut Writer<HeapExtents>, Look, Option<u64>) -> Result<Option<R>, Refusal>,
    ) -> Result<R, Refusal> {
        let map = self.map();
        let mut writer = map.writer(participant, participant, self.extents.clone());
        loop {
            let copy = |entry: &Entry<'_>| self.copy_value(entry);
            let mut look = Look::EMPTY;
            let found = map.look(&mut look, key(number), copy, |_| {}).expect("a valid bucket");
            if let Some(done) = change(&map, &mut writer, look, found.map(checked))? {
                return Ok(done);
            }
        }
    }

    /// Returns the value before.
    fn put(&self, participant: usize, number: usize, new: u64) -> Result<Option<u64>, Refusal> {
        self.change(participant, number, |map, writer, look, found| {
            Ok(map.insert(writer, &look, key(number), &value(new))?.then_some(found))
        })
    }

    /// Tries again while others have what it needs.
    fn put_or_wait(&self, participant: usize, number: usize, new: u64) -> Result<Option<u64>, Refusal> {
        loop {
            match self.put(participant, number, new) {
                Err(Busy | LooksFull) => spin_loop(),
                done => return done,
            }
        }
    }

    fn add(&self, participant: usize, number: usize, more: u64) -> Result<(), Refusal> {
        self.change(participant, number, |map, writer, look, found| {
            let sum = found.unwrap_or(0) + more;
            Ok(map.insert(writer, &look, key(number), &value(sum))?.then_some(()))
        })
    }

    /// Returns the value that was removed.
    fn remove(&self, participant: usize, number: usize) -> Result<Option<u64>, Refusal> {
        self.change(participant, number, |map, writer, look, found| {
            let is_done = !look.has_found() || map.remove(writer, &look)?;
            Ok(is_done.then_some(found))
        })
    }

    fn clear(&self, participant: usize) {
        let map = self.map();
        let mut writer = map.writer(participant, participant, self.extents.clone());
        loop {
            let look = map.look_at_bucket(0, |_| {}).expect("a valid bucket");
            if !look.has_found() || map.remove(&mut writer, &look) == Ok(true) {
                return;
            }
        }
    }

    fn repair(&self, participant: usize) {
        self.map().repair(participant, participant..participant + 1, &self.extents).expect("a valid bucket");
    }

    /// All keys and values, in order, as one look sees them.
    fn entries(&self) -> Vec<(usize, u64)> {
        let copy = |entry: &Entry<'_>| (entry.key().1[0].load(Ordering::Relaxed), self.copy_value(entry));
        let copied = self.map().read_bucket(0, copy, |_| {}).expect("a valid bucket");
        let index = |key: u64| KEYS.iter().position(|bytes| u64::from_ne_bytes(padded(bytes)) == key).unwrap();
        let mut entries: Vec<_> = copied.into_iter().map(|(key, value)| (index(key), checked(value))).collect();
        entries.sort_unstable();
        assert!(entries.windows(2).all(|pair| pair[0].0 != pair[1].0), "a key twice: {entries:?}");
        entries
    }

    /// That there is no room for a new key, and as many spare blocks as at first.
    fn assert_full(&self) {
        assert_eq!(self.put_or_wait(THIRD, 3, 9), Err(Full));
        assert_eq!(self.assert_sound().len(), self.count - self.spare);
    }

    /// What is there, and that no block is lost. Nobody is at work.
    fn assert_sound(&self) -> Vec<(usize, u64)> {
        let entries = self.entries();
        assert_eq!(self.map().len(), entries.len());
        assert_eq!(self.map().allocated(), entries.len() as u64, "blocks are lost, or free and in use");
        assert_eq!(self.map().spare(), self.spare as u64, "spare blocks are lost");
        if self.extents.0.is_some() {
            let used = (0..self.count as u64).filter(|&extent| self.extents.load(extent) != [0; 2]).count();
            assert_eq!(used, entries.len(), "an extent without a value has memory");
        }
        entries
    }
}

fn padded(bytes: &[u8]) -> [u8; 8] {
    std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0))
}

/// The second replacement uses the block of the first value again.
#[test]
fn map_value_replaced_twice_reader_sees_one_whole_value() {
    model(|| {
        let world = MapWorld::new(2, 1, OTHER);
        let writer = spawn(&world, |world| {
            assert_eq!(world.put(OTHER, 0, 2), Ok(Some(1)));
            assert_eq!(world.put(OTHER, 0, 3), Ok(Some(2)));
        });
        let read = world.get(0);
        join(writer);
        assert!(matches!(read, Some(1..=3)), "{read:?}");
        assert_eq!(world.assert_sound(), [(0, 3)]);
    });
}

/// The entry in front of the one that is removed is copied, and the next key gets the block of the
/// original.
#[test]
fn map_entry_removed_reader_finds_the_others() {
    for read in [0, 2] {
        model(move || {
            let world = MapWorld::new(4, 3, OTHER);
            let writer = spawn(&world, |world| {
                assert_eq!(world.remove(OTHER, 1), Ok(Some(2)));
                assert_eq!(world.put(OTHER, 3, 4), Ok(None));
            });
            assert_eq!(world.get(read), Some(1 + read as u64));
            join(writer);
            assert_eq!(world.assert_sound(), [(0, 1), (2, 3), (3, 4)]);
        });
    }
}

/// Two participants insert one after the other. A reader that sees the second one's entry sees the
/// first one's, too.
#[test]
fn map_key_inserted_reader_sees_whole_entries() {
    model(|| {
        let world = MapWorld::new(2, 0, OTHER);
        let first = spawn(&world, |world| assert_eq!(world.put(OTHER, 0, 1), Ok(None)));
        let second = spawn(&world, |world| assert_eq!(world.put(THIRD, 1, 2), Ok(None)));
        let seen = world.entries();
        join(first);
        join(second);
        assert!(seen.iter().all(|entry| [(0, 1), (1, 2)].contains(entry)), "{seen:?}");
        assert_eq!(world.assert_sound(), [(0, 1), (1, 2)]);
    });
}

#[test]
fn map_entry_removed_key_is_gone_for_good() {
    model(|| {
        let world = MapWorld::new(2, 1, OTHER);
        let writer = spawn(&world, |world| {
            assert_eq!(world.remove(OTHER, 0), Ok(Some(1)));
            assert_eq!(world.put(OTHER, 1, 2), Ok(None));
        });
        let seen = [world.get(0), world.get(0)];
        join(writer);
        assert!(matches!(seen, [Some(1), Some(1) | None] | [None, None]), "{seen:?}");
        assert_eq!(world.assert_sound(), [(1, 2)]);
    });
}

/// A whole bucket is one look: both entries are of the same moment.
#[test]
fn map_bucket_read_is_of_one_moment() {
    model(|| {
        let world = MapWorld::new(4, 2, OTHER);
        let writer = spawn(&world, |world| {
            assert_eq!(world.put(OTHER, 1, 5), Ok(Some(2)));
            assert_eq!(world.put(OTHER, 0, 4), Ok(Some(1)));
        });
        let seen = world.entries();
        join(writer);
        let moments = [[(0, 1), (1, 2)], [(0, 1), (1, 5)], [(0, 4), (1, 5)]];
        assert!(moments.iter().any(|moment| seen == moment), "{seen:?}");
        assert_eq!(world.assert_sound(), moments[2]);
    });
}

#[test]
fn map_value_changed_by_two_no_change_is_lost() {
    model(|| {
        let world = MapWorld::new(3, 1, THIRD);
        let other = spawn(&world, |world| world.add(OTHER, 0, 10).unwrap());
        world.add(VICTIM, 0, 100).unwrap();
        join(other);
        assert_eq!(world.assert_sound(), [(0, 111)]);
    });
}

#[test]
fn map_key_inserted_by_two_is_there_once() {
    model(|| {
        let world = MapWorld::new(3, 0, THIRD);
        let other = spawn(&world, |world| world.put(OTHER, 0, 10).unwrap());
        let before = [world.put(VICTIM, 0, 20).unwrap(), join(other)];
        let expected = match before {
            [None, Some(20)] => 10,
            [Some(10), None] => 20,
            _ => panic!("{before:?}"),
        };
        assert_eq!(world.assert_sound(), [(0, expected)]);
    });
}

/// Both change the same chain, at different keys.
#[test]
fn map_neighbours_changed_by_two_both_changes_stay() {
    for is_removed in [false, true] {
        model(move || {
            let world = MapWorld::new(6, 2, THIRD);
            let other = spawn(&world, |world| world.put(OTHER, 1, 9).unwrap());
            if is_removed {
                assert_eq!(world.remove(VICTIM, 0), Ok(Some(1)));
            } else {
                assert_eq!(world.put(VICTIM, 0, 8), Ok(Some(1)));
            }
            assert_eq!(join(other), Some(2));
            let entries = world.assert_sound();
            assert_eq!(entries, if is_removed { vec![(1, 9)] } else { vec![(0, 8), (1, 9)] });
        });
    }
}

#[test]
fn map_cleared_while_inserting_no_block_is_lost() {
    model(|| {
        let world = MapWorld::new(3, 2, THIRD);
        let other = spawn(&world, |world| world.put(OTHER, 2, 9).unwrap());
        world.clear(VICTIM);
        assert_eq!(join(other), None);
        let entries = world.assert_sound();
        assert!(entries.is_empty() || entries == [(2, 9)], "{entries:?}");
    });
}

#[test]
fn map_full_insert_is_refused_and_nothing_is_lost() {
    model(|| {
        let world = MapWorld::new(2, 1, THIRD);
        let other = spawn(&world, |world| world.put_or_wait(OTHER, 1, 2));
        let own = world.put_or_wait(VICTIM, 2, 3);
        let outcomes = [own, join(other)];
        assert!(outcomes.contains(&Err(Full)) && outcomes.contains(&Ok(None)), "{outcomes:?}");
        assert_eq!(world.assert_sound().len(), 2);
    });
}

/// A head that claims a number of entries, all of them one block that names itself: a walk visits as
/// many as the head says, and a bucket of fifteen takes no more.
#[test]
fn map_bucket_of_fifteen_insert_is_refused() {
    for (length, expected) in [(MAX_CHAIN, Err(Full)), (MAX_CHAIN - 1, Ok(None))] {
        model(move || {
            let world = MapWorld::new(2, 0, OTHER);
            world.heads[0].store((length as u64) << 24, Ordering::Relaxed);
            assert_eq!(world.put(OTHER, 0, 1), expected);
            assert_eq!(world.map().len(), MAX_CHAIN);
            assert_eq!(world.map().allocated(), u64::from(expected.is_ok()));
        });
    }
}

/// To remove the last entry takes copies of two, and there is a block for one.
#[test]
fn map_without_blocks_for_copies_remove_is_refused_and_nothing_is_lost() {
    model(|| {
        let world = MapWorld::new(4, 3, OTHER);
        assert_eq!(world.remove(OTHER, 0), Err(Full));
        assert_eq!(world.assert_sound().len(), 3);
        assert_eq!(world.remove(OTHER, 1), Ok(Some(2)));
        assert_eq!(world.assert_sound(), [(0, 1), (2, 3)]);
    });
}

/// No block is free. What takes copies has spare blocks, and afterwards there are as many as before.
#[test]
fn map_full_entry_behind_others_changes_with_spare_blocks() {
    model(|| {
        let world = MapWorld::with_spare(2, 5, 3, OTHER);
        assert_eq!(world.put(OTHER, 3, 9), Err(Full));
        assert_eq!(world.put(OTHER, 1, 7), Ok(Some(2)));
        assert_eq!(world.assert_sound(), [(0, 1), (1, 7), (2, 3)]);
        assert_eq!(world.remove(OTHER, 0), Ok(Some(1)));
        assert_eq!(world.put(OTHER, 3, 9), Ok(None));
        assert_eq!(world.put(OTHER, 0, 9), Err(Full));
        assert_eq!(world.assert_sound(), [(1, 7), (2, 3), (3, 9)]);
    });
}

/// Two participants use the same spare block, one after the other.
#[test]
fn map_spare_block_used_again_reader_sees_whole_values() {
    large_model(|| {
        let world = MapWorld::with_spare(1, 2, 1, OTHER);
        let first = spawn(&world, |world| world.put(OTHER, 0, 2).is_ok());
        let second = spawn(&world, |world| world.put(THIRD, 0, 3).is_ok());
        let read = world.get(0);
        let is_done = [join(first), join(second)];
        assert!(is_done.contains(&true) && matches!(read, Some(1..=3)), "{is_done:?}, {read:?}");
        assert_eq!(world.assert_sound().len(), 1);
    });
}

/// What a victim does before it is killed.
#[derive(Clone, Copy)]
enum Last {
    Insert,
    Replace,
    /// With an entry in front of it.
    ReplaceBehind,
    RemoveBehind,
    Clear,
}

impl Last {
    fn run(self, world: &MapWorld) {
        match self {
            Self::Insert => drop(world.put(VICTIM, 2, 7).unwrap()),
            Self::Replace => drop(world.put(VICTIM, 1, 7).unwrap()),
            Self::ReplaceBehind => drop(world.put(VICTIM, 0, 7).unwrap()),
            Self::RemoveBehind => drop(world.remove(VICTIM, 0).unwrap()),
            Self::Clear => world.clear(VICTIM),
        }
    }

    fn before(self) -> Vec<(usize, u64)> {
        vec![(0, 1), (1, 2)]
    }

    fn after(self) -> Vec<(usize, u64)> {
        match self {
            Self::Insert => vec![(0, 1), (1, 2), (2, 7)],
            Self::Replace => vec![(0, 1), (1, 7)],
            Self::ReplaceBehind => vec![(0, 7), (1, 2)],
            Self::RemoveBehind => vec![(1, 2)],
            Self::Clear => vec![],
        }
    }
}

/// A writer is killed at any access. The change is made or not, nothing else is, and no block is
/// lost. The repairer is killed, too.
fn killed_writer(last: Last) {
    killed_writer_in(last, || MapWorld::new(5, 2, OTHER));
}

fn killed_writer_in(last: Last, world: fn() -> MapWorld) {
    for_every_kill(150, move |accesses| {
        let world = world();
        let is_done = Note::new(false);
        let finished = kill_after(accesses, || {
            last.run(&world);
            is_done.set(true);
        });
        // Two repairers die on the way, elsewhere for each death of the writer.
        let _ = kill_after(accesses * 5 % 32, || world.repair(VICTIM));
        let _ = kill_after(accesses * 7 % 32, || world.repair(VICTIM));
        world.repair(VICTIM);
        let entries = world.assert_sound();
        assert!(entries == last.after() || (!is_done.get() && entries == last.before()), "{entries:?}");
        finished
    });
}

/// The same where no block is free.
#[test]
fn map_writer_killed_with_spare_blocks_they_are_spare_again() {
    writer_killed_with_spare_blocks(false);
    writer_killed_with_spare_blocks(true);
}

fn writer_killed_with_spare_blocks(is_long: bool) {
    for_every_kill(150, move |accesses| {
        let world = MapWorld::of(is_long, 2, 4, 2, OTHER);
        let finished = kill_after(accesses, || _ = world.put(VICTIM, 0, 7).unwrap());
        world.repair(VICTIM);
        let entries = world.assert_sound();
        assert!(entries == [(0, 7), (1, 2)] || (!finished && entries == [(0, 1), (1, 2)]), "{entries:?}");
        finished
    });
}

/// A writer is killed at any access, and repaired while another one writes. No block is free: what
/// the dead one had is spare at once, and not for a new key.
#[test]
fn map_writer_killed_with_spare_blocks_while_another_writes_none_is_missing() {
    for number in [0, 1] {
        for_every_kill_in(large_model, 80, move |accesses| {
            let world = MapWorld::with_spare(1, 2, 1, OTHER);
            let other = spawn(&world, move |world| world.put(OTHER, number, 8).is_ok());
            let finished = kill_after(accesses, || _ = world.put(VICTIM, 0, 7));
            world.repair(VICTIM);
            let is_done = join(other);
            assert!(!is_done || number == 0, "a new key got a spare block");
            world.assert_full();
            finished
        });
    }
}

/// A writer that looks for spare blocks beyond those that are needed sees one after the other, while
/// another writer takes one and returns another one.
#[test]
fn map_spare_block_moves_meanwhile_it_does_not_look_like_two() {
    model(|| {
        let world = MapWorld::with_spare(1, 2, 1, OTHER);
        let other = spawn(&world, |world| world.put(OTHER, 0, 2));
        assert!(world.put(VICTIM, 1, 9).is_err());
        assert_eq!(join(other), Ok(Some(1)));
        assert_eq!(world.assert_sound(), [(0, 2)]);
    });
}

/// A repairer has made more blocks spare than there were. Two writers free what is too many.
#[test]
fn map_too_many_spare_blocks_two_writers_leave_enough() {
    model(|| {
        let world = MapWorld::with_spare(1, 3, 1, OTHER);
        let spare = world.owners[2].load(Ordering::Relaxed);
        world.owners[1].store(spare, Ordering::Relaxed);
        let other = spawn(&world, |world| world.put_or_wait(OTHER, 1, 2));
        let own = world.put_or_wait(VICTIM, 2, 3);
        let outcomes = [own, join(other)];
        assert!(outcomes.contains(&Err(Full)) && outcomes.contains(&Ok(None)), "{outcomes:?}");
        world.assert_full();
    });
}

#[test]
fn map_writer_killed_inserting_change_is_whole_or_not_there() {
    killed_writer(Last::Insert);
}

#[test]
fn map_writer_killed_replacing_change_is_whole_or_not_there() {
    killed_writer(Last::Replace);
    killed_writer(Last::ReplaceBehind);
}

#[test]
fn map_writer_killed_removing_change_is_whole_or_not_there() {
    killed_writer(Last::RemoveBehind);
    killed_writer(Last::Clear);
}

/// The same with values in extents: their memory is given back.
#[test]
fn map_writer_killed_changing_long_values_change_is_whole_and_memory_is_given_back() {
    for last in [Last::Insert, Last::Replace, Last::ReplaceBehind, Last::RemoveBehind, Last::Clear] {
        killed_writer_in(last, || MapWorld::long(0, 5, 2, OTHER));
    }
}

#[test]
fn map_long_value_replaced_twice_reader_sees_one_whole_value() {
    model(|| {
        let world = MapWorld::long(0, 2, 1, OTHER);
        let writer = spawn(&world, |world| {
            assert_eq!(world.put(OTHER, 0, 2), Ok(Some(1)));
            assert_eq!(world.put(OTHER, 0, 3), Ok(Some(2)));
        });
        let read = world.get(0);
        join(writer);
        assert!(matches!(read, Some(1..=3)), "{read:?}");
        assert_eq!(world.assert_sound(), [(0, 3)]);
    });
}

/// A long value is removed, and its memory given back.
#[test]
fn map_long_value_removed_reader_sees_it_whole_or_not() {
    model(|| {
        let world = MapWorld::long(0, 2, 1, OTHER);
        let writer = spawn(&world, |world| assert_eq!(world.remove(OTHER, 0), Ok(Some(1))));
        let read = world.get(0);
        join(writer);
        assert!(matches!(read, Some(1) | None), "{read:?}");
        assert_eq!(world.assert_sound(), []);
    });
}

/// A writer is killed at any access, and repaired while another one changes the same bucket and
/// takes the blocks that become free.
#[test]
fn map_writer_killed_and_repaired_while_another_writes_no_block_is_lost() {
    for_every_kill_in(large_model, 160, |accesses| {
        let world = MapWorld::new(3, 1, OTHER);
        let other = spawn(&world, |world| world.put(OTHER, 1, 9).is_ok());
        let is_done = Note::new(false);
        let finished = kill_after(accesses, || {
            // Full: the other one has moved a free block past the search.
            is_done.set(world.put(VICTIM, 0, 7).is_ok());
        });
        world.repair(VICTIM);
        let has_other = join(other);
        let entries = world.assert_sound();
        assert!(matches!(entries.first(), Some((0, 1 | 7))), "{entries:?}");
        assert_eq!(entries.get(1), has_other.then_some(&(1, 9)));
        assert!(!is_done.get() || entries[0] == (0, 7));
        finished
    });
}

/// The dead participant's blocks are linked. While its repair runs, another writer unlinks one of
/// them, and a third allocates whatever is free. All three may free that block; one does.
#[test]
fn map_linked_block_of_the_dead_is_freed_once() {
    large_model(|| {
        let world = MapWorld::new(2, 1, VICTIM);
        // It was killed after its commit: block 0 is still in its record.
        world.intents[VICTIM * INTENT + ALLOCATED].store(1, Ordering::Relaxed);
        let other = spawn(&world, |world| world.put(OTHER, 0, 5));
        let repairer = spawn(&world, |world| world.repair(VICTIM));
        let third = spawn(&world, |world| world.put(THIRD, 1, 9));
        join(repairer);
        let (other, third) = (join(other), join(third));
        let mut expected = vec![(0, if other.is_ok() { 5 } else { 1 })];
        expected.extend(third.is_ok().then_some((1, 9)));
        assert_eq!(world.assert_sound(), expected);
    });
}

/// A writer died before its commit. The block that its intent names is unlinked by another one,
/// repaired, and used for another key. Nobody gives back the memory of what is there then.
#[test]
fn map_long_value_unlinked_while_repaired_memory_is_given_back_once() {
    model(|| {
        let world = MapWorld::long(0, 2, 1, OTHER);
        let intent = &world.intents[VICTIM * INTENT..];
        intent[2].store(world.owners[0].load(Ordering::Relaxed), Ordering::Relaxed);
        intent[0].store(1, Ordering::Relaxed);
        let other = spawn(&world, |world| world.put(OTHER, 0, 5));
        world.repair(VICTIM);
        let third = world.put(THIRD, 1, 9);
        let mut expected = vec![(0, if join(other).is_ok() { 5 } else { 1 })];
        expected.extend(third.is_ok().then_some((1, 9)));
        assert_eq!(world.assert_sound(), expected);
    });
}

/// A writer died after its commit. Its intent names a block that another one, which is alive, has
/// allocated again when the next repairer goes on.
#[test]
fn map_intent_names_a_block_that_was_used_again_it_stays() {
    for_every_kill_in(large_model, 60, |accesses| {
        let world = MapWorld::new(2, 1, OTHER);
        let finished = kill_after(accesses, || {
            let _ = world.put(VICTIM, 0, 7);
        });
        let other = spawn(&world, |world| world.put(OTHER, 1, 9));
        let _ = kill_after(accesses / 2, || world.repair(VICTIM));
        world.repair(VICTIM);
        let has_other = join(other).is_ok();
        assert_eq!(world.assert_sound().get(1), has_other.then_some(&(1, 9)));
        finished
    });
}

/// A writer is killed while it stores its second intent. Half of a reference to its block and half of
/// the first intent's would name a block that another writer has allocated and not yet linked.
#[test]
fn map_writer_killed_storing_its_intent_no_other_block_is_freed() {
    for_every_kill(60, |accesses| {
        let world = MapWorld::new(3, 0, OTHER);
        // Key 1 is in block 0 in its first use, and key 0 in block 1 in its second use.
        for number in [1, 0, 0, 0] {
            world.put(OTHER, number, 5).unwrap();
        }
        world.put(VICTIM, 0, 6).unwrap();
        world.remove(OTHER, 0).unwrap();
        let finished = kill_after(accesses, || {
            let _ = world.put(VICTIM, 1, 7);
        });
        world.put(OTHER, 1, 8).unwrap();
        let other = spawn(&world, |world| world.put(OTHER, 2, 9).is_ok());
        world.repair(VICTIM);
        let has_other = join(other);
        let entries = world.assert_sound();
        assert_eq!((entries[0], entries.get(1)), ((1, 8), has_other.then_some(&(2, 9))));
        finished
    });
}

/// A repairer frees a block that a writer is about to free, and the next one to use it writes while
/// a reader is still there.
#[test]
fn map_block_freed_by_repair_reader_sees_no_torn_value() {
    large_model(|| {
        let world = MapWorld::new(2, 1, VICTIM);
        let writer = spawn(&world, |world| {
            // Killed after the commit, before it frees anything: repair does.
            let map = world.map();
            let mut writer = map.writer(OTHER, OTHER, world.extents.clone());
            let mut look = Look::EMPTY;
            map.look(&mut look, key(0), |entry| world.copy_value(entry), |_| {}).unwrap();
            // 20 accesses reach the commit; a kill before or after it is fine, too.
            let _ = kill_after(20, || {
                let _ = map.insert(&mut writer, &look, key(0), &value(5));
            });
            world.repair(OTHER);
            let _ = world.put(THIRD, 0, 6);
        });
        let read = world.get(0);
        join(writer);
        assert!(matches!(read, Some(1 | 5 | 6)), "{read:?}");
        assert_eq!(world.assert_sound().len(), 1);
    });
}

/// Any word may have any value: every operation ends, and none panics.
#[test]
fn map_words_are_arbitrary_operations_end() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    for _ in 0..200 {
        let seeds: Vec<u64> = (0..64).map(|_| random()).collect();
        let body = move || {
            let world = MapWorld::new(3, 2, OTHER);
            for (at, seed) in seeds.chunks(2).enumerate() {
                let words = match seed[0] % 4 {
                    0 => &world.heads,
                    1 => &world.owners,
                    2 => &world.intents,
                    _ => &world.blocks,
                };
                let small = seed[1] % 32;
                let word = if at % 2 == 0 { (small << 24) | (seed[0] % 5) } else { seed[1] << (seed[0] % 33) };
                words[(seed[0] >> 4) as usize % words.len()].store(word, Ordering::Relaxed);
            }
            let map = world.map();
            let mut writer = map.writer(VICTIM, VICTIM, world.extents.clone());
            let copy = |entry: &Entry<'_>| (entry.key().1.len(), world.copy_value(entry));
            let _ = map.read(key(0), copy, |_| {});
            let _ = map.read_bucket(0, copy, |_| {});
            let mut look = Look::EMPTY;
            if map.look(&mut look, key(1), copy, |_| {}).is_ok() {
                let _ = map.insert(&mut writer, &look, key(1), &value(4));
            }
            if let Ok(look) = map.look_at_bucket(0, |_| {}) {
                let _ = map.remove(&mut writer, &look);
            }
            let _ = map.repair(VICTIM, 0..PARTICIPANTS, &world.extents);
            assert!(map.len() <= 15);
        };
        model(body);
    }
}
