//! Processes that insert and remove, some of them killed and some stopped in the middle of it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::collections::list::Options;
use tombolo::collections::{List, ListError};
use tombolo::{Directory, Namespace};

use crate::support::{Process, Random, SharedCounters, TestDir, start, stress_factor, stress_random, until};

const NAME: &str = "list";
const CAPACITY: usize = 100;
const PROCESSES: u64 = 3;

/// A number of a process that inserts, in a text that shows whether it is whole.
fn text(own: u64, number: u64) -> String {
    format!("{own} {number} {}", "x".repeat((number % 50) as usize))
}

fn numbers(found: &str) -> (u64, u64) {
    let mut parts = found.split(' ');
    let mut number = || parts.next().unwrap().parse().unwrap();
    let (own, number) = (number(), number());
    assert_eq!(found, text(own, number), "a torn element");
    (own, number)
}

fn open(names: &Path) -> List<str> {
    let options = Options::<str>::new().max_length(CAPACITY).max_element_bytes(70);
    let plan = Namespace::builder().list("list", &options).max_participants(16).directory(names);
    plan.open(NAME).unwrap().list("list").unwrap()
}

/// Where a process counts the changes that it has begun.
fn begun(own: u64) -> usize {
    2 * own as usize
}

/// Where it counts the insertions that it has made.
fn done(own: u64) -> usize {
    begun(own) + 1
}

/// Inserts its numbers anywhere. After a kill it goes on with the next number.
pub fn insert_until_killed(arguments: &[String]) {
    let (list, counters) = (open(Path::new(&arguments[0])), SharedCounters::at(Path::new(&arguments[1])));
    let own: u64 = arguments[2].parse().unwrap();
    let mut random = Random(own + 1);
    loop {
        let number = counters.word(begun(own)).fetch_add(1, Ordering::SeqCst);
        loop {
            let at = random.below(list.len().unwrap() as u64 + 1) as usize;
            match list.insert(at, &text(own, number)) {
                Ok(()) => break,
                // Full, or others have removed elements.
                Err(ListError::Full { .. } | ListError::OutOfBounds { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        counters.word(done(own)).fetch_add(1, Ordering::SeqCst);
    }
}

/// Removes any element, again and again.
pub fn remove_until_killed(arguments: &[String]) {
    let (list, counters) = (open(Path::new(&arguments[0])), SharedCounters::at(Path::new(&arguments[1])));
    let own: u64 = arguments[2].parse().unwrap();
    let mut random = Random(own + 100);
    loop {
        counters.word(begun(own)).fetch_add(1, Ordering::SeqCst);
        let at = random.below(list.len().unwrap() as u64 + 1) as usize;
        match list.remove(at) {
            Ok(found) => _ = numbers(&found),
            Err(ListError::OutOfBounds { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Has a directory, and processes that are started again as often as they are killed.
struct Storm {
    test_dir: TestDir,
    counters: SharedCounters,
    running: Vec<(u64, Process)>,
}

impl Storm {
    fn new() -> Self {
        let test_dir = TestDir::new();
        let counters = SharedCounters::at(&test_dir.file("counters"));
        Self { test_dir, counters, running: Vec::new() }
    }

    /// The first ones insert, and the others remove.
    fn start(&mut self, own: u64) {
        let role = if own < PROCESSES { "insert_until_killed" } else { "remove_until_killed" };
        let (names, path) = (self.test_dir.names(), self.test_dir.file("counters"));
        let before = self.count(begun(own));
        let process = start(role, &[names.to_str().unwrap(), path.to_str().unwrap(), &own.to_string()]);
        self.running.push((own, process));
        until(|| self.count(begun(own)) > before);
    }

    /// How many blocks there are, free or with elements.
    fn blocks(&self) -> u64 {
        let state = Directory::at(self.test_dir.names()).inspect(NAME).unwrap().objects[0].state.clone();
        let numbers = state.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u64>().ok());
        numbers.skip(2).sum()
    }

    fn count(&self, word: usize) -> u64 {
        self.counters.word(word).load(Ordering::SeqCst)
    }
}

/// A list that several processes insert into at any place, which are killed: each number that was
/// inserted is there, none twice, and no block is lost.
#[test]
fn list_inserted_into_by_killed_processes_loses_and_doubles_nothing() {
    let mut storm = Storm::new();
    let list = open(&storm.test_dir.names());
    let mut random = stress_random(3);
    let blocks = storm.blocks();
    (0..PROCESSES).for_each(|own| storm.start(own));
    let mut found = vec![Vec::new(); PROCESSES as usize];
    let mut take = |list: &List<str>| {
        while let Some(element) = list.pop().unwrap() {
            let (own, number) = numbers(&element);
            found[own as usize].push(number);
        }
    };
    for _ in 0..40 * stress_factor() {
        // There is room all the time, so that they are at work when they are killed.
        let inserted = || (0..PROCESSES).map(|own| storm.count(done(own))).sum::<u64>();
        let goal = inserted() + random.below(100);
        while inserted() <= goal {
            take(&list);
        }
        let (own, process) = storm.running.remove(random.below(PROCESSES) as usize);
        process.kill();
        take(&list);
        storm.start(own);
    }
    storm.running.drain(..).for_each(|(_, process)| process.kill());
    take(&list);
    for (own, mut numbers) in (0..PROCESSES).zip(found) {
        numbers.sort_unstable();
        let length = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), length, "process {own}: a number is there twice");
        // One that was killed between the insertion and its note is there, and not counted.
        assert!(numbers.iter().all(|&number| number < storm.count(begun(own))), "process {own}");
        assert!(length as u64 >= storm.count(done(own)), "process {own}: a number is lost");
    }
    Directory::at(storm.test_dir.names()).repair(NAME).unwrap();
    assert_eq!(storm.blocks(), blocks);
}

/// Writers are stopped anywhere, all at once and again and again. Meanwhile the others change each
/// element, and all of them.
#[test]
fn list_writers_stopped_anywhere_others_change_it() {
    let mut storm = Storm::new();
    let list = open(&storm.test_dir.names());
    let mut random = stress_random(5);
    (0..2 * PROCESSES).for_each(|own| storm.start(own));
    for round in 0..40 * stress_factor() {
        let all = || (0..2 * PROCESSES).map(|own| storm.count(begun(own))).sum::<u64>();
        let before = all();
        until(|| all() > before);
        thread::sleep(Duration::from_micros(random.below(300)));
        for (_, process) in &storm.running {
            process.signal(libc::SIGSTOP);
        }
        for at in 0..CAPACITY {
            let length = list.len().unwrap();
            let new = text(7, round);
            assert_eq!(list.insert(at.min(length), &new).err(), {
                (length == CAPACITY).then_some(ListError::Full { length: CAPACITY + 1, limit: CAPACITY })
            });
            let index = at.min(list.len().unwrap() - 1);
            let found = list.get(index).unwrap().unwrap();
            numbers(&found);
            assert_eq!(list.set(index, &new), Ok(()));
            assert_eq!(list.remove(index), Ok(new));
            assert_eq!(list.push(&found), Ok(()));
        }
        list.to_vec().unwrap().iter().for_each(|element| _ = numbers(element));
        for (_, process) in &storm.running {
            process.signal(libc::SIGCONT);
        }
    }
    storm.running.drain(..).for_each(|(_, process)| process.kill());
}
