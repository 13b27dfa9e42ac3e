//! Models of `src/raw/list.rs`. A chunk has one or two elements, so that a short list has several,
//! and blocks are used again at once. An element is a message of two words.

use super::*;
use crate::raw::list::{List, ListWords, Refused, Shape, View};

const WRITERS: usize = 3;
const WIDTH: usize = 2;
/// Chunks that one change can replace or make.
const FEW: usize = 3;

#[derive(Clone)]
struct ListWorld {
    root: Shared<AtomicU64>,
    owners: SharedWords,
    blocks: SharedWords,
    records: SharedWords,
    shape: Shape,
}

/// What becomes of a list: the elements from one position to another are replaced by these.
type Change = (u64, u64, Vec<u64>);

/// All elements, torn or not.
fn copy_elements(view: &View<'_, Heap>, from: u64, to: u64) -> Result<Vec<[u64; 2]>, Refused> {
    let mut copied = Vec::new();
    view.visit(from..to, |words| {
        copied.extend(words.chunks_exact(WIDTH).map(copy_message));
        Ok(())
    })?;
    Ok(copied)
}

fn numbers(copied: Vec<[u64; 2]>) -> Vec<u64> {
    copied.into_iter().map(number).collect()
}

impl ListWorld {
    /// With the elements 1, 2, …, in blocks of their `owner`.
    fn new(capacity: u64, per_chunk: u64, elements: u64, owner: usize) -> Self {
        let shape = Shape { capacity, width: WIDTH, per_chunk, per_change: FEW, writers: WRITERS };
        let world = Self {
            root: new_word(),
            owners: new_words(shape.blocks() as usize),
            blocks: new_words(shape.block_words()),
            records: new_words(shape.record_words()),
            shape,
        };
        let elements: Vec<u64> = (1..=elements).collect();
        for part in elements.chunks(FEW) {
            world.change(owner, |now| (now.len() as u64, now.len() as u64, part.to_vec())).unwrap();
        }
        world
    }

    fn list(&self) -> List<Heap> {
        let words = ListWords {
            root: self.root.clone(),
            owners: self.owners.clone(),
            blocks: self.blocks.clone(),
            records: self.records.clone(),
        };
        List::new(words, self.shape)
    }

    /// Looks at all elements and changes some of them, until nobody comes in between.
    fn change(&self, writer: usize, mut plan: impl FnMut(&[u64]) -> Change) -> Result<Vec<u64>, Refused> {
        let list = self.list();
        let mut writer = list.writer(writer);
        loop {
            let (look, copied) = list.look(|view| copy_elements(view, 0, view.len()), |_| {})?;
            let before = numbers(copied);
            let (from, to, new) = plan(&before);
            let store = |nth: u64, words: &[AtomicU64]| store_message(words, new[nth as usize]);
            if list.splice(&mut writer, &look, from..to, new.len() as u64, store)? {
                return Ok(before);
            }
        }
    }

    fn push(&self, writer: usize, element: u64) -> Result<(), Refused> {
        self.change(writer, |now| (now.len() as u64, now.len() as u64, vec![element])).map(drop)
    }

    fn set(&self, writer: usize, at: u64, element: u64) {
        self.change(writer, |_| (at, at + 1, vec![element])).expect("a valid list");
    }

    fn add(&self, writer: usize, at: u64, more: u64) {
        self.change(writer, |now| (at, at + 1, vec![now[at as usize] + more])).expect("a valid list");
    }

    fn remove(&self, writer: usize, at: u64) {
        self.change(writer, |_| (at, at + 1, vec![])).expect("a valid list");
    }

    fn get(&self, at: u64) -> u64 {
        // No pause between attempts: after one, loom would show the next attempt newer words.
        numbers(self.list().read(|view| copy_elements(view, at, at + 1), |_| {}).expect("a valid list"))[0]
    }

    fn elements(&self) -> Vec<u64> {
        numbers(self.list().read(|view| copy_elements(view, 0, view.len()), |_| {}).expect("a valid list"))
    }

    fn repair(&self, writer: usize) {
        self.list().repair(writer..writer + 1);
    }

    /// What is there, and that no block is lost. Nobody is at work.
    fn assert_sound(&self) -> Vec<u64> {
        let elements = self.elements();
        let list = self.list();
        let blocks = list.read(|view| Ok(view.blocks()), |_| {}).expect("a valid list");
        assert_eq!(list.allocated(), blocks, "blocks are lost, or free and in use");
        elements
    }
}

/// The second change uses the chunk of the first value again.
#[test]
fn list_element_set_twice_reader_sees_one_whole_value() {
    model(|| {
        let world = ListWorld::new(1, 1, 1, OTHER);
        let writer = spawn(&world, |world| {
            world.set(OTHER, 0, 2);
            world.set(OTHER, 0, 3);
        });
        let read = world.get(0);
        join(writer);
        assert!(matches!(read, 1..=3), "{read}");
        assert_eq!(world.assert_sound(), [3]);
    });
}

/// A writer that has looked at the list before it changed uses a block again that a reader is at.
#[test]
fn list_block_used_again_by_late_writer_reader_sees_one_whole_value() {
    large_model(|| {
        let world = ListWorld::new(1, 1, 1, OTHER);
        let (look, ()) = world.list().look(|_| Ok(()), |_| {}).unwrap();
        let other = spawn(&world, |world| world.set(OTHER, 0, 2));
        let late = spawn(&world, move |world| {
            let list = world.list();
            let store = |_, words: &[AtomicU64]| store_message(words, 3);
            list.splice(&mut list.writer(THIRD), &look, 0..1, 1, store).expect("a valid list");
        });
        let read = world.get(0);
        join(other);
        join(late);
        assert!(matches!(read, 1..=3), "{read}");
        assert_eq!(world.assert_sound(), [2]);
    });
}

/// The list has become shorter, and the directory that a writer has seen is used again. That is no
/// invalid list.
#[test]
fn list_shortened_while_a_late_writer_builds_it_is_overtaken() {
    large_model(|| {
        let world = ListWorld::new(2, 1, 2, OTHER);
        let list = world.list();
        let (look, ()) = list.look(|_| Ok(()), |_| {}).unwrap();
        let other = spawn(&world, |world| {
            world.remove(OTHER, 0);
            world.remove(OTHER, 0);
        });
        let store = |_, words: &[AtomicU64]| store_message(words, 7);
        let outcome = list.splice(&mut list.writer(THIRD), &look, 1..2, 1, store);
        join(other);
        assert!(outcome.is_ok(), "{outcome:?}");
        world.assert_sound();
    });
}

/// All elements that a reader copies are of one moment.
#[test]
fn list_elements_removed_and_added_reader_sees_one_moment() {
    large_model(|| {
        let world = ListWorld::new(3, 2, 3, OTHER);
        let writer = spawn(&world, |world| {
            world.remove(OTHER, 0);
            world.push(OTHER, 4).unwrap();
        });
        let seen = world.elements();
        join(writer);
        let moments = [vec![1, 2, 3], vec![2, 3], vec![2, 3, 4]];
        assert!(moments.contains(&seen), "{seen:?}");
        assert_eq!(world.assert_sound(), moments[2]);
    });
}

/// Two writers push one after the other. A reader that sees the second element sees the first, too.
#[test]
fn list_pushed_by_two_both_elements_are_there() {
    model(|| {
        let world = ListWorld::new(2, 1, 0, OTHER);
        let first = spawn(&world, |world| world.push(OTHER, 1).unwrap());
        let second = spawn(&world, |world| world.push(THIRD, 2).unwrap());
        let seen = world.elements();
        join(first);
        join(second);
        let elements = world.assert_sound();
        assert!(elements == [1, 2] || elements == [2, 1], "{elements:?}");
        assert_eq!(seen, elements[..seen.len()]);
    });
}

#[test]
fn list_element_changed_by_two_no_change_is_lost() {
    large_model(|| {
        let world = ListWorld::new(1, 1, 1, THIRD);
        let other = spawn(&world, |world| world.add(OTHER, 0, 10));
        world.add(VICTIM, 0, 100);
        join(other);
        assert_eq!(world.assert_sound(), [111]);
    });
}

#[test]
fn list_full_push_is_refused_and_nothing_is_lost() {
    model(|| {
        let world = ListWorld::new(2, 1, 1, THIRD);
        let other = spawn(&world, |world| world.push(OTHER, 2));
        let own = world.push(VICTIM, 2);
        let outcomes = [own, join(other)];
        assert!(outcomes.contains(&Err(Refused::Full)) && outcomes.contains(&Ok(())), "{outcomes:?}");
        assert_eq!(world.assert_sound(), [1, 2]);
        assert_eq!(world.change(VICTIM, |_| (0, 2, vec![3, 4, 5])), Err(Refused::Full));
        assert_eq!(world.assert_sound(), [1, 2]);
    });
}

#[test]
fn list_change_of_too_many_chunks_is_refused_and_nothing_is_lost() {
    for (from, to, count) in [(0, 4, 0), (0, 0, 4), (1, 4, 3)] {
        model(move || {
            let world = ListWorld::new(8, 1, 4, THIRD);
            let outcome = world.change(VICTIM, |_| (from, to, vec![7; count]));
            if to - from > 3 || count > 3 {
                assert_eq!(outcome, Err(Refused::TooLarge));
                assert_eq!(world.assert_sound(), [1, 2, 3, 4]);
            } else {
                assert_eq!(world.assert_sound(), [1, 7, 7, 7]);
            }
        });
    }
}

/// What a victim does before it is killed.
#[derive(Clone, Copy)]
enum Last {
    Set,
    Push,
    Remove,
}

impl Last {
    fn run(self, world: &ListWorld) {
        match self {
            Self::Set => world.set(VICTIM, 0, 7),
            Self::Push => world.push(VICTIM, 7).unwrap(),
            Self::Remove => world.remove(VICTIM, 1),
        }
    }

    fn after(self) -> Vec<u64> {
        match self {
            Self::Set => vec![7, 2, 3],
            Self::Push => vec![1, 2, 3, 7],
            Self::Remove => vec![1, 3],
        }
    }
}

/// A writer is killed at any access. The change is made or not, nothing else is, and no block is
/// lost. The repairer is killed, too.
#[test]
fn list_writer_killed_change_is_whole_or_not_there() {
    for last in [Last::Set, Last::Push, Last::Remove] {
        for_every_kill(150, move |accesses| {
            let world = ListWorld::new(4, 2, 3, OTHER);
            let is_done = Note::new(false);
            let finished = kill_after(accesses, || {
                last.run(&world);
                is_done.set(true);
            });
            // Two repairers die on the way, elsewhere for each death of the writer.
            let _ = kill_after(accesses * 5 % 24, || world.repair(VICTIM));
            let _ = kill_after(accesses * 7 % 24, || world.repair(VICTIM));
            world.repair(VICTIM);
            let elements = world.assert_sound();
            assert!(elements == last.after() || (!is_done.get() && elements == [1, 2, 3]), "{elements:?}");
            finished
        });
    }
}

/// A writer is killed at any access of a commit, while another one replaces what it has committed.
#[test]
fn list_writer_killed_while_another_writes_no_block_is_lost() {
    for_every_kill_in(large_model, 80, |accesses| {
        let world = ListWorld::new(1, 1, 1, OTHER);
        let list = world.list();
        let mut writer = list.writer(VICTIM);
        let (look, ()) = list.look(|_| Ok(()), |_| {}).unwrap();
        let other = spawn(&world, |world| world.add(OTHER, 0, 10));
        let outcome = Note::new(None);
        let finished = kill_after(accesses, || {
            let store = |_, words: &[AtomicU64]| store_message(words, 100);
            outcome.set(Some(list.splice(&mut writer, &look, 0..1, 1, store)));
        });
        world.repair(VICTIM);
        join(other);
        let elements = world.assert_sound();
        match outcome.get() {
            Some(Ok(true)) => assert_eq!(elements, [110]),
            Some(_) => assert_eq!(elements, [11]),
            None => assert!(elements == [110] || elements == [11], "{elements:?}"),
        }
        finished
    });
}

/// A writer is killed at any access, and its repairer, too. The record names blocks that another
/// writer has allocated and linked when the next repairer goes on.
#[test]
fn list_record_names_blocks_that_were_used_again_they_stay() {
    for steps in 0..20 {
        for_every_kill(120, move |accesses| {
            let world = ListWorld::new(2, 1, 1, OTHER);
            let finished = kill_after(accesses, || world.add(VICTIM, 0, 100));
            let _ = kill_after(steps, || world.repair(VICTIM));
            world.push(OTHER, 8).unwrap();
            world.repair(VICTIM);
            let elements = world.assert_sound();
            assert!(elements == [1, 8] || elements == [101, 8], "{elements:?}");
            finished
        });
    }
}

/// How often a test repeats something. loom allows a thousand accesses.
fn repetitions(many: usize, few: usize) -> usize {
    if BOUNDS_ACCESSES { few } else { many }
}

/// The operations on a list of each shape leave what the same ones on a vector do.
#[test]
fn list_compared_with_vector_elements_are_the_same() {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for (capacity, per_chunk) in [(0, 1), (1, 1), (1, 4), (5, 1), (7, 2), (20, 3), (40, 8)] {
        let plan: Vec<_> =
            (0..repetitions(150, 2)).map(|_| [random(1 << 20), random(1 << 20), random(1 << 20)]).collect();
        model(move || {
            let mut world = ListWorld::new(capacity, per_chunk, 0, OTHER);
            world.shape.per_change = 100;
            world.records = new_words(world.shape.record_words());
            let mut expected: Vec<u64> = Vec::new();
            for &[kind, at, more] in &plan {
                let length = expected.len() as u64;
                let at = at % (length + 1);
                let (from, to, new) = match kind % 8 {
                    0 | 1 => (length, length, 1),
                    2 => (at, at, 1),
                    3 => (at, length.min(at + 1), 1),
                    4 => (at, length.min(at + 1), 0),
                    5 => (at, length.min(at + more % 9), more % 3),
                    _ => (at, at, more % (3 * per_chunk)),
                };
                let new: Vec<u64> = (0..new).map(|nth| kind + nth).collect();
                let is_full = length - (to - from) + new.len() as u64 > capacity;
                let writer = (kind % 3) as usize;
                let outcome = world.change(writer, |_| (from, to, new.clone()));
                if is_full {
                    assert_eq!(outcome, Err(Refused::Full));
                } else {
                    assert_eq!(outcome.as_ref(), Ok(&expected));
                    expected.splice(from as usize..to as usize, new);
                }
                assert_eq!(world.assert_sound(), expected);
            }
            for (at, &element) in (0..).zip(&expected) {
                assert_eq!(world.get(at), element);
            }
        });
    }
}

/// A reader that a writer overtakes each time gives up, and so does a writer that looks.
#[test]
fn list_overtaken_each_time_reader_gives_up() {
    if BOUNDS_ACCESSES {
        return; // loom allows a thousand accesses
    }
    model(|| {
        let world = ListWorld::new(1, 1, 1, OTHER);
        let list = world.list();
        let mut looks = 0;
        let read = list.read(
            |_| {
                looks += 1;
                world.set(OTHER, 0, looks);
                Ok(())
            },
            |_| {},
        );
        assert_eq!((read, looks), (Err(Refused::Overtaken), 1 << 14));
        assert_eq!(world.assert_sound(), [looks]);
    });
}

/// Any word may have any value: every operation ends, and none panics.
#[test]
fn list_words_are_arbitrary_operations_end() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    for _ in 0..200 {
        let seeds: Vec<u64> = (0..3 * repetitions(32, 2)).map(|_| random()).collect();
        model(move || {
            let world = ListWorld::new(6, 2, repetitions(5, 2) as u64, OTHER);
            let list = world.list();
            let mut writer = list.writer(VICTIM);
            for seed in seeds.chunks(3) {
                let words = match seed[0] % 6 {
                    0 => &world.owners,
                    1 => &world.records,
                    _ => &world.blocks,
                };
                let word = [((seed[1] % 4) << 40) | (seed[1] % 7), seed[1] << (seed[0] % 33)][(seed[2] % 2) as usize];
                words[(seed[0] >> 4) as usize % words.len()].store(word, Ordering::Relaxed);
                if seed[2] % 16 == 0 {
                    world.root.0.store(seed[2] >> 8, Ordering::Relaxed);
                }
                let copy = |view: &View<'_, Heap>| copy_elements(view, 0, view.len().min(100));
                let _ = list.read(copy, |_| {});
                let _ = list.read(|view| copy_elements(view, 3, 4), |_| {});
                if let Ok((look, _)) = list.look(|view| Ok(view.len()), |_| {}) {
                    let (from, to) = (seed[0] % 7, seed[1] % 7);
                    let _ = list.splice(&mut writer, &look, from..to, seed[2] % 3, |_, words| store_message(words, 1));
                }
                list.repair(0..WRITERS);
            }
        });
    }
}
