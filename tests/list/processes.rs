//! Several processes and one list, some of them killed in the middle of a change.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::collections::list::Options;
use tombolo::collections::{List, ListError};
use tombolo::spawn::CommandExt;
use tombolo::{Directory, Namespace, NamespaceBuilder, OnStale};

use crate::storm::{Collection, NAME, figures, storm};
use crate::support::{Process, Random, SharedCounters, TestDir, alone, command, fork, start, stress_random};

const CAPACITY: usize = 300;
/// Directories and chunks, as docs/layout.md counts them: for 8 participants, and 10 elements in a
/// chunk.
const BLOCKS: usize = (16 + 1) + (2 * 30 + 1) + 3 * 16;

/// A value that shows whether it is whole.
type Numbers = [u64; 3];

fn numbers(number: u64) -> Numbers {
    [number, !number, number.wrapping_mul(3)]
}

fn assert_whole(found: &Numbers) {
    assert_eq!(*found, numbers(found[0]), "a torn element");
}

fn plan(names: &Path) -> NamespaceBuilder {
    let options = Options::<Numbers>::new().max_length(CAPACITY);
    let notes = Options::<u64>::new().max_length(2);
    Namespace::builder().list("list", &options).list("notes", &notes).max_participants(8).directory(names)
}

/// Changes elements at random, and checks each that it sees.
fn change(list: &List<Numbers>, random: &mut Random) {
    let (index, new) = (random.below(CAPACITY as u64) as usize, numbers(random.next()));
    let done = match random.below(10) {
        0 | 1 => list.push(&new),
        2 => list.insert(index, &new),
        3 => list.set(index, &new),
        4 => list.pop().map(|found| _ = found.inspect(assert_whole)),
        5 => list.remove(index).map(|found| assert_whole(&found)),
        6 => list.extend_from_slice(&vec![new; random.below(60) as usize]),
        7 if random.below(20) == 0 => list.truncate(index),
        8 => list.to_vec().map(|all| all.iter().for_each(assert_whole)),
        _ => list.get(index).map(|found| _ = found.inspect(assert_whole)),
    };
    let is_expected =
        matches!(done, Ok(()) | Err(ListError::Full { .. } | ListError::OutOfBounds { .. } | ListError::Busy));
    assert!(is_expected, "{done:?}");
}

#[derive(Clone)]
struct ListAndNotes {
    names: PathBuf,
    list: List<Numbers>,
    notes: List<u64>,
}

impl Collection for ListAndNotes {
    fn open(names: &Path) -> Self {
        let namespace = plan(names).open(NAME).unwrap();
        let list = Self {
            names: names.into(),
            list: namespace.list("list").unwrap(),
            notes: namespace.list("notes").unwrap(),
        };
        // By the first process, before there are others.
        if list.notes.is_empty().unwrap() {
            list.notes.extend_from_slice(&[0, 0]).unwrap();
        }
        list
    }

    fn change(&self, random: &mut Random) {
        change(&self.list, random);
    }

    fn note(&self, place: u64) -> u64 {
        self.notes.get(place as usize).unwrap().unwrap()
    }

    fn set_note(&self, place: u64, number: u64) {
        while let Err(error) = self.notes.set(place as usize, &number) {
            assert_eq!(error, ListError::Busy);
        }
    }

    fn assert_nothing_is_lost(&self) {
        let elements = self.list.to_vec().unwrap();
        elements.iter().for_each(assert_whole);
        let [length, limit, linked, free] = figures(&self.names);
        assert_eq!((length, limit, linked + free), (elements.len(), CAPACITY, BLOCKS));
    }
}

/// Forks need a process without other tests.
#[test]
fn list_writers_killed_at_random_elements_are_whole_and_no_block_is_lost() {
    start("kill_writers_at_random", &[]).finish();
}

pub fn kill_writers_at_random(_: &[String]) {
    let test_dir = TestDir::new();
    let left: ListAndNotes = storm(&test_dir);
    left.list.clear().unwrap();
    left.assert_nothing_is_lost();
    // All places can be used.
    left.list.extend_from_slice(&[numbers(1); CAPACITY]).unwrap();
    assert_eq!(left.list.push(&numbers(2)), Err(ListError::Full { length: CAPACITY + 1, limit: CAPACITY }));
    left.assert_nothing_is_lost();
}

const PRODUCERS: u64 = 3;

/// Appends its numbers one after another. Notes each in a counter before and after.
pub fn push_until_killed(arguments: &[String]) {
    let namespace = Namespace::builder().directory(&arguments[0]).must_exist().open(NAME).unwrap();
    let list = namespace.list::<[u64; 2]>("list").unwrap();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let own: u64 = arguments[2].parse().unwrap();
    let done = counters.word(own as usize);
    for number in done.load(Ordering::SeqCst).. {
        match list.push(&[own, number]) {
            Ok(()) => done.store(number + 1, Ordering::SeqCst),
            Err(ListError::Full { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    loop {
        thread::park();
    }
}

/// Each producer is killed and started again at random. It repeats at most the number at which it
/// was killed.
#[test]
fn list_appended_to_by_killed_processes_loses_and_doubles_nothing() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let length = 30_000;
    let options = Options::<[u64; 2]>::new().max_length(length);
    let namespace = Namespace::builder().list("list", &options).directory(&names).open(NAME).unwrap();
    let list = namespace.list::<[u64; 2]>("list").unwrap();
    let path = test_dir.file("counters");
    let counters = SharedCounters::at(&path);
    let mut random = stress_random(3);
    let begin =
        |own: u64| start("push_until_killed", &[names.to_str().unwrap(), path.to_str().unwrap(), &own.to_string()]);
    let mut producers: Vec<_> = (0..PRODUCERS).map(|own| (own, begin(own))).collect();
    let mut kills = 0;
    while list.len().unwrap() < length {
        thread::sleep(Duration::from_micros(random.below(20_000)));
        let (own, producer) = producers.remove(random.below(PRODUCERS) as usize);
        producer.kill();
        producers.push((own, begin(own)));
        kills += 1;
    }
    producers.into_iter().for_each(|(_, producer)| producer.kill());
    let elements = list.to_vec().unwrap();
    for own in 0..PRODUCERS {
        let mut numbers: Vec<u64> = elements.iter().filter(|found| found[0] == own).map(|found| found[1]).collect();
        let appended = numbers.len() as u64;
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "producer {own}: a number is lost");
        assert!(appended - numbers.len() as u64 <= kills, "producer {own}: more twice than were killed");
        assert!(numbers.len() as u64 >= counters.word(own as usize).load(Ordering::SeqCst), "producer {own}");
    }
    Directory::at(&names).repair(NAME).unwrap();
    let [found, _, linked, free] = figures(&names);
    list.clear().unwrap();
    let [.., linked_of_none, free_then] = figures(&names);
    assert_eq!((found, linked + free), (length, linked_of_none + free_then));
}

/// Without kills: each number once, and those of one producer in order.
#[test]
fn list_appended_to_by_several_processes_keeps_the_order_of_each() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let length = 20_000;
    let options = Options::<[u64; 2]>::new().max_length(length);
    let namespace = Namespace::builder().list("list", &options).directory(&names).open(NAME).unwrap();
    let list = namespace.list::<[u64; 2]>("list").unwrap();
    let path = test_dir.file("counters");
    let _counters = SharedCounters::at(&path);
    let begin =
        |own: u64| start("push_until_killed", &[names.to_str().unwrap(), path.to_str().unwrap(), &own.to_string()]);
    let producers: Vec<_> = (0..PRODUCERS).map(begin).collect();
    let mut next = [0; PRODUCERS as usize];
    for index in 0..length {
        let [own, number] = list.wait_for(index, Duration::from_secs(60)).unwrap();
        assert_eq!(number, next[own as usize], "producer {own}");
        next[own as usize] += 1;
    }
    producers.into_iter().for_each(Process::kill);
}

/// The name stays, with all elements, when the last process was killed. The next one goes on.
#[test]
fn list_last_process_killed_next_one_finds_the_elements() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let options = Options::<[u64; 2]>::new().max_length(100);
    let plan = || Namespace::builder().list("list", &options).directory(&names);
    let first = plan().open(NAME).unwrap();
    let list = first.list::<[u64; 2]>("list").unwrap();
    let path = test_dir.file("counters");
    let _counters = SharedCounters::at(&path);
    let child = start("push_until_killed", &[names.to_str().unwrap(), path.to_str().unwrap(), "0"]);
    list.wait_for(99, Duration::from_secs(60)).unwrap();
    drop((list, first));
    child.kill();
    let next = plan().must_exist().open(NAME).unwrap();
    let list = next.list::<[u64; 2]>("list").unwrap();
    assert!(list.iter().unwrap().eq((0..100).map(|number| [0, number])));
    drop((list, next));
    assert!(test_dir.leftovers().is_empty());
    let afresh = plan().on_stale(OnStale::Recreate).open(NAME).unwrap();
    assert_eq!(afresh.list::<[u64; 2]>("list").unwrap().is_empty(), Ok(true));
}

/// Two users of one name in one process have one list, and use different intent records.
#[test]
fn list_opened_twice_is_the_same_list() {
    let test_dir = TestDir::new();
    let options = Options::<u64>::new();
    let plan = || Namespace::builder().list("list", &options).directory(test_dir.names());
    let (one, other) = (plan().open(NAME).unwrap(), plan().open(NAME).unwrap());
    let lists = [one.list::<u64>("list").unwrap(), other.list::<u64>("list").unwrap()];
    lists[0].push(&0).unwrap();
    thread::scope(|scope| {
        for list in &lists {
            for _ in 0..2 {
                scope.spawn(move || (0..5000).for_each(|_| list.update(0, |sum| sum + 1).unwrap()));
            }
        }
    });
    assert_eq!(lists[0].get(0), Ok(Some(20_000)));
}

pub fn push_passed(_: &[String]) {
    let list: List<u64> = List::take("list").unwrap();
    list.push(&u64::from(std::process::id())).unwrap();
}

#[test]
fn list_passed_to_child_is_shared() {
    let _watchdog = TestDir::new();
    let list = List::new(&Options::<u64>::new()).unwrap();
    let mut child = command("push_passed", &[]).pass("list", &list).unwrap().spawn().unwrap();
    let found = list.wait_for(0, Duration::from_secs(60)).unwrap();
    assert_eq!(found, u64::from(child.id()));
    assert!(child.wait().unwrap().success());
    assert_eq!(List::<u64>::from_fd(list.share().unwrap()).unwrap().get(0), Ok(Some(found)));
}

/// A fork needs a process without other tests.
#[test]
fn list_in_forked_child_is_read_and_not_changed() {
    let _watchdog = TestDir::new();
    start("change_in_forked_child", &[]).finish();
}

pub fn change_in_forked_child(_: &[String]) {
    let list = List::new(&Options::<u64>::new()).unwrap();
    list.push(&1).unwrap();
    let child = fork(&alone(), || {
        assert_eq!((list.get(0), list.len(), list.to_vec()), (Ok(Some(1)), Ok(1), Ok(vec![1])));
        let refused = Err(ListError::Forked);
        assert_eq!((list.push(&2), list.set(0, &2), list.clear()), (refused, refused, refused));
        assert_eq!((list.pop(), list.remove(0)), (Err(ListError::Forked), Err(ListError::Forked)));
        assert_eq!(list.wait_for(0, Duration::ZERO), Err(ListError::Forked));
    });
    child.finish();
    assert_eq!((list.push(&3), list.to_vec()), (Ok(()), Ok(vec![1, 3])));
}
