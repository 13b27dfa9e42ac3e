//! A storm over a collection: processes that change it are killed at random, again and again. No
//! block is lost, and nothing that was committed.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{panic, process, thread};

use tombolo::Directory;

use crate::support::{
    Process, Random, SharedCounters, TestDir, alone, fork, report, stress_factor, stress_random, until,
};

/// The name of the namespace.
pub const NAME: &str = "storm";
/// Processes at a time, and notes.
const PROCESSES: u64 = 2;
/// After so many it is looked for what was lost.
const KILLS_OF_A_ROUND: u64 = 12;
/// The counter of the processes that have begun. Those before it have the last notes.
const BEGUN: usize = PROCESSES as usize;

/// A collection, and beside it notes that only one process at a time changes.
pub trait Collection: Clone + Send {
    /// Opens the namespace [`NAME`], or creates it.
    fn open(names: &Path) -> Self;
    /// Makes one change at random, and checks what it sees.
    fn change(&self, random: &mut Random);
    /// The note at a place. 0 at first.
    fn note(&self, place: u64) -> u64;
    fn set_note(&self, place: u64, number: u64);
    /// Nobody is at work, and all dead participants are repaired.
    fn assert_nothing_is_lost(&self);
}

/// What inspection says of the first object: for a map its entries, places, free blocks and spare
/// ones, for a list its elements, limit, blocks with elements, and free ones.
pub fn figures(names: &Path) -> [usize; 4] {
    let info = Directory::at(names).inspect(NAME).unwrap();
    let state = &info.objects.first().unwrap().state;
    let numbers = state.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers: Vec<usize> = numbers.map(|part| part.parse().unwrap()).collect();
    numbers.try_into().unwrap_or_else(|numbers| panic!("{state}: {numbers:?}"))
}

/// Requires a process without other tests. Returns a handle of what is left.
pub fn storm<C: Collection>(test_dir: &TestDir) -> C {
    let (names, path) = (test_dir.names(), test_dir.file("counters"));
    let collection = C::open(&names);
    let counters = SharedCounters::at(&path);
    let mut random = stress_random(3);
    let (mut started, mut kills, began) = (0, 0, Instant::now());
    let mut begin = || -> Process {
        let number = started;
        started += 1;
        let child = fork(&alone(), || change_until_killed::<C>(&names, &path, number));
        until(|| counters.word(BEGUN).load(Ordering::SeqCst) == started);
        child
    };
    for _ in 0..stress_factor() {
        let mut children: Vec<_> = (0..PROCESSES).map(|_| begin()).collect();
        for nth in 1..=KILLS_OF_A_ROUND {
            for _ in 0..random.below(20) {
                collection.change(&mut random);
            }
            thread::sleep(Duration::from_micros(random.below(1000)));
            children.remove(0).kill();
            // The next one has the place of this one.
            if nth + PROCESSES <= KILLS_OF_A_ROUND {
                children.push(begin());
            }
        }
        kills += KILLS_OF_A_ROUND;
        Directory::at(&names).repair(NAME).unwrap();
        collection.assert_nothing_is_lost();
        (0..PROCESSES).for_each(|place| assert_note(&collection, &counters, place));
    }
    let per_second = kills as f64 / began.elapsed().as_secs_f64();
    report(&format!("{kills} kills, {per_second:.0} per second"));
    collection
}

/// Three threads change the collection. One of them also counts up the note of this process.
fn change_until_killed<C: Collection>(names: &Path, counters: &Path, number: u64) {
    // Its parent finds that it was not killed.
    panic::set_hook(Box::new(|panic| {
        report(&format!("a process that changed the collection: {panic}"));
        process::abort();
    }));
    let collection = C::open(names);
    let counters = SharedCounters::at(counters);
    counters.word(BEGUN).fetch_add(1, Ordering::SeqCst);
    let place = number % PROCESSES;
    thread::scope(|scope| {
        for thread in 0..3 {
            let (collection, counters) = (collection.clone(), &counters);
            scope.spawn(move || {
                let mut random = stress_random(number * 3 + thread);
                loop {
                    collection.change(&mut random);
                    if thread == 0 {
                        assert_note(&collection, counters, place);
                        let next = collection.note(place) + 1;
                        collection.set_note(place, next);
                        counters.word(place as usize).store(next, Ordering::SeqCst);
                    }
                }
            });
        }
    });
}

/// The note is the last one that was committed, or the next one, in the middle of which its process
/// was killed.
fn assert_note<C: Collection>(collection: &C, counters: &SharedCounters, place: u64) {
    let (committed, note) = (counters.word(place as usize).load(Ordering::SeqCst), collection.note(place));
    assert!(note == committed || note == committed + 1, "note {place} is {note}, {committed} was committed");
}
