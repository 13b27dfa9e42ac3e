//! Models of what is shared without messages: `src/raw/lock.rs`, `cell.rs`, `readers.rs`, `semaphore.rs`, `barrier.rs`, and sleeping on
//! a condition with `event.rs`.
//!
//! Who dies does so in `crash_after`; what repair does afterwards runs in the same thread, because it runs after the kernel has said
//! that the other is gone. Spins stand where a fence of the event would order what is to be shown ordered; one spins at a time, as
//! more of them make loom go round for ever. What matters runs in threads of its own: leaving the model's unfinished counts as a preemption.

use super::*;
use crate::raw::barrier::{Arrival, Barrier, Outcome};
use crate::raw::cell::{CONTROL, Cell};
use crate::raw::lock::{Lock, Past};
use crate::raw::readers::{Entry, Readers};
use crate::raw::semaphore::{MOST, Semaphore};

/// What a victim's test remembers of it.
type Memo<T> = std::cell::Cell<T>;

const VICTIM: usize = 0;
const OTHER: usize = 1;
const THIRD: usize = 2;

const EVERYBODY: u32 = u32::MAX;

const POISONED: Past = Past { died: false, poisoned: true };

fn plain(values: &[u64]) -> SharedWords {
    SharedWords(Arc::new(values.iter().copied().map(AtomicU64::payload).collect()))
}

/// The two words of a message, untorn.
fn get(words: &[AtomicU64]) -> u64 {
    number(copy(words))
}

fn copy(words: &[AtomicU64]) -> [u64; 2] {
    std::array::from_fn(|i| words[i].load(Ordering::Relaxed))
}

fn put(words: &[AtomicU64], n: u64) {
    for (word, value) in words.iter().zip(message(n)) {
        word.store(value, Ordering::Relaxed);
    }
}

fn spin_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        spin_loop();
    }
}

fn joined<T, const N: usize>(threads: [thread::JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().unwrap())
}

/// The victim was killed: there is a further place at which it can be.
fn died(done: &std::sync::atomic::AtomicBool) {
    done.store(false, std::sync::atomic::Ordering::SeqCst);
}

/// Two plain words that belong together, and what keeps their users apart.
#[derive(Clone)]
struct Guarded {
    lock: Shared<AtomicU64>,
    counts: SharedWords,
    payload: SharedWords,
    /// A plain word of each lane.
    traces: SharedWords,
    freed: Shared<AtomicU32>,
    drained: Shared<AtomicU32>,
    /// From one reader's lane to the next one's.
    spread: usize,
}

impl Guarded {
    fn new() -> Self {
        let counts = SharedWords(Arc::new(vec![AtomicU64::new(0)]));
        let (payload, traces) = (plain(&message(0)), plain(&[0; 3]));
        Self { lock: word(), counts, payload, traces, freed: futex(), drained: futex(), spread: 1 }
    }

    /// Each reader has a word of its own, so nobody sees them all at once.
    fn with_readers_apart() -> Self {
        let counts: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let spread = (1..).find(|&lane| Readers::<Heap>::words(lane + 1) > 1).unwrap();
        Self { counts: SharedWords(Arc::new(counts)), spread, ..Self::new() }
    }

    fn lock(&self) -> Lock<Heap> {
        Lock::new(self.lock.clone())
    }

    fn readers(&self) -> Readers<Heap> {
        Readers::new(self.counts.clone())
    }

    fn freed(&self) -> Event<Heap> {
        Event::new(self.freed.clone())
    }

    fn drained(&self) -> Event<Heap> {
        Event::new(self.drained.clone())
    }

    fn try_take(&self, lane: usize) -> Option<Past> {
        self.lock().try_lock(lane).unwrap()
    }

    fn take(&self, lane: usize) -> Past {
        loop {
            match self.try_take(lane) {
                Some(past) => return past,
                None => spin_loop(),
            }
        }
    }

    fn give(&self, lane: usize, past: Past) {
        assert!(self.lock().unlock(lane, past), "somebody else's");
    }

    fn take_asleep(&self, lane: usize) -> Past {
        blocking(&self.freed(), || self.try_take(lane))
    }

    fn give_and_wake(&self, lane: usize, past: Past) {
        self.give(lane, past);
        self.freed().notify(1);
    }

    fn add(&self) {
        put(&self.payload, get(&self.payload) + 1);
    }

    fn leaves_a_trace(&self, lane: usize) {
        self.traces[lane].store(1, Ordering::Relaxed);
    }

    fn left_a_trace(&self, lane: usize) -> bool {
        self.traces[lane].load(Ordering::Relaxed) == 1
    }
}

#[test]
fn a_lock_has_one_owner_who_finds_what_the_last_one_wrote() {
    model(|| {
        let world = Guarded::new();
        let turn = |lane: usize| {
            let world = world.clone();
            move || {
                let past = world.take(lane);
                world.add();
                world.give(lane, past);
            }
        };
        let both = [VICTIM, OTHER].map(|lane| thread::spawn(turn(lane)));
        joined(both);
        turn(THIRD)();
        assert_eq!(get(&world.payload), 3);
    });
}

#[test]
fn what_an_owner_says_comes_with_what_it_wrote() {
    model(|| {
        let world = Guarded::new();
        let owner = thread::spawn({
            let world = world.clone();
            move || {
                world.take(OTHER);
                world.add();
                assert!(!world.lock().unlock(VICTIM, Past::default()), "not its own");
                world.give(OTHER, POISONED);
            }
        });
        let next = thread::spawn({
            let world = world.clone();
            move || {
                let past = world.take(VICTIM);
                let expected = if past == POISONED { 1 } else { 0 };
                assert_eq!(get(&world.payload), expected);
                world.give(VICTIM, past);
                past
            }
        });
        owner.join().unwrap();
        let past = next.join().unwrap();
        assert!(past == POISONED || past == Past::default());
        assert_eq!(world.take(THIRD), POISONED);
        world.give(THIRD, Past::default());
        assert_eq!(world.take(VICTIM), Past::default());
    });
}

/// One who only tries gets it, unless another has it just then.
#[test]
fn a_free_lock_is_taken_by_somebody() {
    model(|| {
        let world = Guarded::new();
        world.take(THIRD);
        world.give(THIRD, POISONED);
        let both = [VICTIM, OTHER].map(|lane| {
            let world = world.clone();
            thread::spawn(move || world.try_take(lane))
        });
        let told = joined(both);
        assert_eq!(told.into_iter().flatten().collect::<Vec<_>>(), [POISONED]);
    });
}

/// An owner dies at any access, and is buried, while another waits for the lock.
#[test]
fn the_next_owner_is_told_of_a_death() {
    for_every_kill(20, |accesses, done| {
        let world = Guarded::new();
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let (owns, added) = (Memo::new(false), Memo::new(0));
                let finished = crash_after(accesses, || {
                    let past = world.take(VICTIM);
                    owns.set(true);
                    world.add();
                    added.set(1);
                    world.give(VICTIM, past);
                    owns.set(false);
                });
                assert_eq!(world.lock().bury(VICTIM), owns.get(), "buried what it did not have, or not what it had");
                (finished, owns.get(), added.get())
            }
        });
        let next = thread::spawn({
            let world = world.clone();
            move || {
                let past = world.take(OTHER);
                let found = copy(&world.payload);
                put(&world.payload, if past.died { 10 } else { number(found) + 10 });
                world.give(OTHER, Past::default());
                (past, found)
            }
        });
        let (finished, owned, added) = victim.join().unwrap();
        let (past, found) = next.join().unwrap();
        if past.died && added == 1 {
            assert_eq!(found, message(1), "the dead one's work is lost");
        }
        let last = world.take(THIRD);
        assert!(!past.died || !last.died, "told twice");
        assert_eq!(past.died || last.died, owned, "told of nothing, or not told");
        if !owned {
            assert_eq!(get(&world.payload), 10 + added);
        }
        if !finished {
            died(done);
        }
    });
}

/// A repairer dies over a dead owner and another comes; who then mends what the owner left dies, too.
#[test]
fn a_death_is_told_until_it_is_mended() {
    for_every_kill(10, |accesses, done| {
        let world = Guarded::new();
        world.take(VICTIM);
        world.give(VICTIM, POISONED);
        world.take(VICTIM); // and was killed
        let repairers = thread::spawn({
            let world = world.clone();
            move || {
                let finished = crash_after(accesses, || {
                    world.lock().bury(VICTIM);
                });
                world.lock().bury(VICTIM);
                finished
            }
        });
        let mender = thread::spawn({
            let world = world.clone();
            move || world.take(OTHER) // and was killed
        });
        let both = Past { died: true, ..POISONED };
        assert_eq!(mender.join().unwrap(), both);
        if !repairers.join().unwrap() {
            died(done);
        }
        assert_eq!(world.lock().owner(), Some(OTHER), "a repairer freed what another had");
        assert!(world.lock().bury(OTHER));
        assert_eq!(world.take(THIRD), both, "the first death is forgotten");
        world.give(THIRD, Past::default());
        assert_eq!(world.take(OTHER), Past::default());
    });
}

#[test]
fn who_sleeps_on_a_lock_is_woken() {
    model(|| {
        let world = Guarded::new();
        let turn = |lane: usize| {
            let world = world.clone();
            move || {
                let past = world.take_asleep(lane);
                world.add();
                world.give_and_wake(lane, past);
            }
        };
        let all = [VICTIM, OTHER, THIRD].map(|lane| thread::spawn(turn(lane)));
        joined(all);
        assert_eq!(get(&world.payload), 3);
    });
}

/// An owner dies at any access; who repairs wakes who sleeps.
#[test]
fn who_sleeps_on_a_dead_ones_lock_is_woken() {
    for_every_kill(20, |accesses, done| {
        let world = Guarded::new();
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let finished = crash_after(accesses, || {
                    let past = world.take_asleep(VICTIM);
                    world.give_and_wake(VICTIM, past);
                });
                world.lock().bury(VICTIM);
                world.freed().wake(1); // what a slice's end does where the victim's own wake-up died with it
                finished
            }
        });
        let other = thread::spawn({
            let world = world.clone();
            move || {
                let past = world.take_asleep(OTHER);
                world.give_and_wake(OTHER, past);
            }
        });
        if !victim.join().unwrap() {
            died(done);
        }
        other.join().unwrap();
    });
}

/// A value in versions. That of version v is ten times v, and who wrote it.
#[derive(Clone)]
struct Versions {
    control: SharedWords,
    buffers: SharedWords,
    count: u64,
}

impl Versions {
    fn new(count: u64) -> Self {
        // Who writes also loads the first word; nobody both loads and stores the second.
        let control: [AtomicU64; CONTROL] = [AtomicU64::new(0), AtomicU64::payload(0)];
        let buffers: Vec<u64> = message(0).into_iter().chain((1..count).flat_map(|_| [0, 0])).collect();
        Self { control: SharedWords(Arc::new(control.into())), buffers: plain(&buffers), count }
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.control, &self.buffers, 2, self.count).unwrap()
    }

    fn write(&self, writer: usize, version: u64) -> u64 {
        self.cell().write(|buffer| put(buffer, 10 * version + writer as u64))
    }

    /// Who writes, the next version as it should be.
    fn write_next(&self, writer: usize) -> u64 {
        let version = self.cell().version() + 1;
        assert_eq!(self.write(writer, version), version);
        version
    }

    /// The version, and who wrote it.
    fn read(&self) -> (u64, u64) {
        // No pause after a failed attempt: loom would show the next one newer words for it.
        let (copied, version) = self.cell().read(copy, |_| {}).expect("an honest writer's");
        let value = number(copied);
        assert_eq!(value / 10, version, "another version's value");
        (version, value % 10)
    }
}

/// One writes versions while another reads as often as it likes.
fn a_writer_and_a_reader<const READS: usize>(count: u64, versions: u64) {
    model(move || {
        let world = Versions::new(count);
        let writer = thread::spawn({
            let world = world.clone();
            move || (1..=versions).for_each(|n| assert_eq!(world.write(OTHER, n), n))
        });
        let reader = thread::spawn({
            let world = world.clone();
            move || [(); READS].map(|()| world.read().0)
        });
        assert!(reader.join().unwrap().is_sorted(), "back in time");
        writer.join().unwrap();
        assert_eq!(world.read().0, versions);
    });
}

#[test]
fn a_cell_of_two_buffers_is_never_torn() {
    a_writer_and_a_reader::<2>(2, 3);
}

#[test]
fn a_cell_of_four_buffers_is_never_torn() {
    a_writer_and_a_reader::<1>(4, 5);
}

/// A writer dies at any access and the next one goes on, while another reads.
fn a_killed_writer_and_a_reader<const READS: usize>(count: u64, versions: u64) {
    for_every_kill(40, move |accesses, done| {
        let world = Versions::new(count);
        let writers = thread::spawn({
            let world = world.clone();
            move || {
                let written = Memo::new(0);
                let finished = crash_after(accesses, || {
                    for n in 1..=versions {
                        assert_eq!(world.write(VICTIM, n), n);
                        written.set(n);
                    }
                });
                // The right to write came from the kernel.
                assert_eq!(world.write_next(OTHER), written.get() + 1, "a version more, or less, than was written");
                (finished, written.get())
            }
        });
        let reader = thread::spawn({
            let world = world.clone();
            move || [(); READS].map(|()| world.read())
        });
        let seen = reader.join().unwrap();
        for pair in seen.windows(2) {
            assert!(pair[0].0 <= pair[1].0, "back in time");
            assert!(pair[0].0 != pair[1].0 || pair[0] == pair[1], "two values of a version");
        }
        let (finished, written) = writers.join().unwrap();
        for (version, writer) in seen {
            let wrote = if version > written { OTHER } else { VICTIM };
            assert!(version <= written + 1 && (version == 0 || writer == wrote as u64), "{version} by {writer}");
        }
        if !finished {
            died(done);
        }
    });
}

#[test]
fn a_killed_writers_cell_of_two_buffers_is_never_torn() {
    a_killed_writer_and_a_reader::<2>(2, 2);
}

/// The last version but three is written over in the middle of being read.
#[test]
fn a_killed_writers_cell_of_four_buffers_is_never_torn() {
    a_killed_writer_and_a_reader::<1>(4, 4);
}

/// A writer dies at any access, another is waiting for its lock, and a third one reads.
#[test]
fn the_right_to_write_passes_on_with_the_lock() {
    for_every_kill(20, |accesses, done| {
        let (world, versions) = (Guarded::new(), Versions::new(2));
        let victim = thread::spawn({
            let (world, versions) = (world.clone(), versions.clone());
            move || {
                let finished = crash_after(accesses, || {
                    if let Some(past) = world.try_take(VICTIM) {
                        versions.write_next(VICTIM);
                        world.give(VICTIM, past);
                    }
                });
                world.lock().bury(VICTIM);
                finished
            }
        });
        let reader = thread::spawn({
            let versions = versions.clone();
            move || versions.read().0
        });
        let next = thread::spawn({
            let (world, versions) = (world.clone(), versions.clone());
            move || {
                let past = world.take(OTHER);
                let version = versions.write_next(OTHER);
                world.give(OTHER, past);
                version
            }
        });
        assert!(reader.join().unwrap() <= 2);
        if !victim.join().unwrap() {
            died(done);
        }
        assert!(next.join().unwrap() <= versions.read().0);
    });
}

#[test]
fn who_waits_for_a_change_hears_of_it() {
    model(|| {
        let (versions, changed) = (Versions::new(2), futex());
        let waiter = || {
            let (versions, changed) = (versions.clone(), Event::<Heap>::new(changed.clone()));
            move || {
                let mut seen = 0;
                while seen < 2 {
                    blocking(&changed, || (versions.cell().version() != seen).then_some(()));
                    let (version, _) = versions.read();
                    assert!(version > seen);
                    seen = version;
                }
            }
        };
        let waiters = [(); 2].map(|()| thread::spawn(waiter()));
        let writer = thread::spawn({
            let (versions, changed) = (versions.clone(), Event::<Heap>::new(changed.clone()));
            move || {
                for n in 1..=2 {
                    versions.write(OTHER, n);
                    changed.notify(EVERYBODY);
                }
            }
        });
        joined(waiters);
        writer.join().unwrap();
    });
}

impl Guarded {
    /// Reads if that can be at once.
    fn try_read(&self, lane: usize) -> Option<u64> {
        (self.readers().try_enter(lane * self.spread, &self.lock()) == Ok(Entry::Entered))
            .then(|| self.read_inside(lane))
    }

    /// Reads as a thread of that lane, if that can be at once, and leaves a trace of its own.
    fn try_read_as(&self, lane: usize, trace: usize) -> Option<u64> {
        (self.readers().try_enter(lane, &self.lock()) == Ok(Entry::Entered)).then(|| {
            let n = get(&self.payload);
            self.leaves_a_trace(trace);
            self.readers().leave(lane);
            n
        })
    }

    /// Enters through the lock.
    fn enter_slowly(&self, lane: usize) {
        let past = self.take(lane);
        self.readers().mark(lane * self.spread).unwrap();
        self.give(lane, past);
    }

    fn read_inside(&self, lane: usize) -> u64 {
        let n = get(&self.payload);
        self.leaves_a_trace(lane);
        assert!(self.readers().leave(lane * self.spread), "let go while reading");
        n
    }

    fn write(&self, lane: usize, wait: impl FnOnce()) {
        let past = self.take(lane);
        wait();
        self.add();
        self.give(lane, past);
    }

    fn write_spinning(&self, lane: usize) {
        self.write(lane, || spin_until(|| self.readers().is_empty()));
    }

    fn write_asleep(&self, lane: usize) {
        self.write(lane, || blocking(&self.drained(), || self.readers().is_empty().then_some(())));
    }

    /// Writes; whose traces it found in there.
    fn write_tracing(&self, lane: usize) -> [bool; 3] {
        let mut traces = [false; 3];
        self.write(lane, || {
            spin_until(|| self.readers().is_empty());
            traces = [VICTIM, OTHER, THIRD].map(|lane| self.left_a_trace(lane));
        });
        traces
    }
}

/// What a reader did before it left is done for the writer.
fn two_readers_and_a_writer(world: fn() -> Guarded) {
    model(move || {
        let world = world();
        let readers = [VICTIM, OTHER].map(|lane| {
            let world = world.clone();
            thread::spawn(move || world.try_read(lane))
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_tracing(THIRD)
        });
        let seen = joined(readers);
        let traces = writer.join().unwrap();
        for (seen, trace) in seen.into_iter().zip(traces) {
            assert!(seen != Some(0) || trace, "wrote before a reader was done");
        }
    });
}

#[test]
fn two_readers_and_a_writer_are_never_inside_together() {
    two_readers_and_a_writer(Guarded::new);
}

#[test]
fn two_readers_and_a_writer_are_never_inside_together_from_afar() {
    two_readers_and_a_writer(Guarded::with_readers_apart);
}

/// Threads of one process, which count in one place.
#[test]
fn two_readers_of_a_lane_and_a_writer_are_never_inside_together() {
    model(|| {
        let world = Guarded::new();
        let readers = [0, 1].map(|trace| {
            let world = world.clone();
            thread::spawn(move || world.try_read_as(VICTIM, trace))
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_tracing(THIRD)
        });
        let seen = joined(readers);
        let traces = writer.join().unwrap();
        for (seen, trace) in seen.into_iter().zip(traces) {
            assert!(seen != Some(0) || trace, "wrote before a reader was done");
        }
        assert!(world.readers().is_empty());
    });
}

#[test]
fn two_writers_and_a_reader_are_never_inside_together() {
    model(|| {
        let world = Guarded::new();
        let reader = thread::spawn({
            let world = world.clone();
            move || world.try_read(THIRD)
        });
        let hasty = thread::spawn({
            let world = world.clone();
            move || {
                let past = world.try_take(OTHER)?;
                let alone = world.readers().is_empty();
                if alone {
                    world.add();
                }
                world.give(OTHER, past);
                alone.then_some(())
            }
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_spinning(VICTIM)
        });
        writer.join().unwrap();
        let writes = 1 + u64::from(hasty.join().unwrap().is_some());
        assert!(reader.join().unwrap().is_none_or(|n| n <= writes));
        assert_eq!(world.try_read(THIRD), Some(writes));
    });
}

#[test]
fn a_reader_that_came_through_the_lock_is_waited_for() {
    model(|| {
        let world = Guarded::new();
        let reader = thread::spawn({
            let world = world.clone();
            move || {
                world.enter_slowly(VICTIM);
                world.read_inside(VICTIM)
            }
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_tracing(THIRD)
        });
        let traces = writer.join().unwrap();
        assert!(reader.join().unwrap() != 0 || traces[VICTIM], "wrote before a reader was done");
    });
}

/// A reader that finds the lock taken was counted for a moment, too: it wakes the writer as one that leaves does.
#[test]
fn a_writer_that_sleeps_is_woken_by_the_last_reader() {
    model(|| {
        let world = Guarded::new();
        let readers = [VICTIM, OTHER].map(|lane| {
            let world = world.clone();
            thread::spawn(move || {
                let _ = world.try_read(lane);
                world.drained().notify(1);
            })
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_asleep(THIRD)
        });
        joined(readers);
        writer.join().unwrap();
    });
}

/// A reader dies at any access, on either way in, and is let go while a writer waits.
#[test]
fn a_killed_reader_is_let_go() {
    for_every_kill(20, |accesses, done| {
        let world = Guarded::new();
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let (owns, reads) = (Memo::new(false), Memo::new(false));
                let finished = crash_after(accesses, || {
                    if world.try_read(VICTIM).is_none()
                        && let Some(past) = world.try_take(VICTIM)
                    {
                        owns.set(true);
                        world.readers().mark(VICTIM).unwrap();
                        reads.set(true);
                        world.give(VICTIM, past);
                        owns.set(false);
                        world.read_inside(VICTIM);
                        reads.set(false);
                    }
                });
                assert_eq!(world.lock().bury(VICTIM), owns.get());
                let was_reading = world.readers().clear(VICTIM);
                assert!(was_reading || !reads.get(), "read without being counted");
                assert!(!(finished && was_reading), "left, and is still there");
                world.drained().wake(1);
                finished
            }
        });
        let writer = thread::spawn({
            let world = world.clone();
            move || world.write_asleep(OTHER)
        });
        if !victim.join().unwrap() {
            died(done);
        }
        writer.join().unwrap();
        assert_eq!(world.readers().lanes().count(), 0);
        world.write(OTHER, || assert!(world.readers().is_empty()));
        assert_eq!(get(&world.payload), 2);
    });
}

/// A writer dies at any access; nobody reads what it left until it is mended.
#[test]
fn a_killed_writer_keeps_the_readers_out() {
    for_every_kill(20, |accesses, done| {
        let world = Guarded::new();
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let owns = Memo::new(false);
                let finished = crash_after(accesses, || {
                    world.take(VICTIM);
                    owns.set(true);
                    spin_until(|| world.readers().is_empty());
                    world.add();
                    world.give(VICTIM, Past::default());
                    owns.set(false);
                });
                assert_eq!(world.lock().bury(VICTIM), owns.get());
                (finished, owns.get())
            }
        });
        let reader = thread::spawn({
            let world = world.clone();
            move || world.try_read(OTHER)
        });
        let (finished, owned) = victim.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(seen.is_none_or(|n| n <= u64::from(finished)));
        if owned {
            assert_eq!(world.try_read(OTHER), None, "let in to a dead one's work");
            assert!(world.take(THIRD).died);
            put(&world.payload, 1);
            world.give(THIRD, Past::default());
        }
        assert!(world.try_read(OTHER).is_some());
        if !finished {
            died(done);
        }
    });
}

/// Permits, and two plain words that one permit guards.
#[derive(Clone)]
struct Permits {
    word: Shared<AtomicU64>,
    payload: SharedWords,
    given: Shared<AtomicU32>,
}

impl Permits {
    fn new(count: u64) -> Self {
        let world = Self { word: word(), payload: plain(&message(0)), given: futex() };
        world.give(count);
        world
    }

    fn permits(&self) -> Semaphore<Heap> {
        Semaphore::new(self.word.clone())
    }

    fn try_take(&self, count: u64) -> bool {
        self.permits().try_acquire(count).unwrap()
    }

    fn take(&self, count: u64) {
        spin_until(|| self.try_take(count));
    }

    fn give(&self, count: u64) {
        assert!(self.permits().release(count).unwrap());
    }

    fn given(&self) -> Event<Heap> {
        Event::new(self.given.clone())
    }
}

#[test]
fn one_permit_is_one_owner() {
    model(|| {
        let world = Permits::new(1);
        let turn = || {
            let world = world.clone();
            move || {
                world.take(1);
                put(&world.payload, get(&world.payload) + 1);
                world.give(1);
            }
        };
        let both = [(); 2].map(|()| thread::spawn(turn()));
        joined(both);
        turn()();
        assert_eq!((get(&world.payload), world.permits().available().unwrap()), (3, 1));
    });
}

#[test]
fn no_more_permits_are_out_than_there_are() {
    model(|| {
        let world = Permits::new(2);
        // Of the model, not of its world.
        let out = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let turn = |count: u64| {
            let (world, out) = (world.clone(), out.clone());
            move || {
                let got = world.try_take(count);
                if got {
                    let now = count + out.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
                    assert!(now <= 2, "{now} of 2");
                    thread::yield_now();
                    out.fetch_sub(count, std::sync::atomic::Ordering::SeqCst);
                    world.give(count);
                }
                got
            }
        };
        let all = [1, 2, 1].map(|count| thread::spawn(turn(count)));
        let got = joined(all);
        assert!(got.contains(&true), "all were there, and nobody got any");
        assert_eq!(world.permits().available().unwrap(), 2);
        assert!(!world.permits().release(MOST - 1).unwrap(), "more than there can be");
    });
}

/// Also if a third one takes the permit and gives it back in between.
#[test]
fn a_permit_brings_what_was_done_before_it_was_given() {
    model(|| {
        let world = Permits::new(0);
        let giver = thread::spawn({
            let world = world.clone();
            move || {
                put(&world.payload, 7);
                world.give(1);
            }
        });
        let third = thread::spawn({
            let world = world.clone();
            move || {
                if world.try_take(1) {
                    world.give(1);
                }
            }
        });
        let taker = thread::spawn({
            let world = world.clone();
            move || {
                world.take(1);
                assert_eq!(get(&world.payload), 7);
            }
        });
        giver.join().unwrap();
        third.join().unwrap();
        taker.join().unwrap();
    });
}

/// A holder dies at any access: its permits are taken or given, and nobody else's are touched.
#[test]
fn the_permits_of_the_dead_stay_taken() {
    for_every_kill(10, |accesses, done| {
        let world = Permits::new(2);
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let holds = Memo::new(0);
                let finished = crash_after(accesses, || {
                    if world.try_take(2) {
                        holds.set(2);
                        world.give(2);
                        holds.set(0);
                    }
                });
                (finished, holds.get())
            }
        });
        let other = thread::spawn({
            let world = world.clone();
            move || {
                if world.try_take(1) {
                    world.give(1);
                }
            }
        });
        let (finished, held) = victim.join().unwrap();
        other.join().unwrap();
        assert_eq!(world.permits().available().unwrap(), 2 - held);
        if !finished {
            died(done);
        }
    });
}

#[test]
fn who_sleeps_for_a_permit_is_woken() {
    model(|| {
        let world = Permits::new(0);
        let turn = || {
            let world = world.clone();
            move || {
                blocking(&world.given(), || world.try_take(1).then_some(()));
                world.give(1);
                world.given().notify(1);
            }
        };
        let both = [(); 2].map(|()| thread::spawn(turn()));
        world.give(1);
        world.given().notify(1);
        joined(both);
    });
}

/// What a party says of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Met,
    Broken(u64),
}

const PID: u64 = 4711;

#[derive(Clone)]
struct Meeting {
    word: Shared<AtomicU64>,
    marks: SharedWords,
    /// What each lane did before it came, in each generation.
    done: [SharedWords; 2],
    over: Shared<AtomicU32>,
    parties: u64,
}

impl Meeting {
    fn new(parties: u64) -> Self {
        let marks = SharedWords(Arc::new((0..3).map(|_| AtomicU64::new(0)).collect()));
        Self { word: word(), marks, done: [plain(&[0; 3]), plain(&[0; 3])], over: futex(), parties }
    }

    fn barrier(&self) -> Barrier<Heap> {
        Barrier::new(self.word.clone(), self.marks.clone(), self.parties)
    }

    fn over(&self) -> Event<Heap> {
        Event::new(self.over.clone())
    }

    fn outcome(&self, generation: u64) -> Option<Heard> {
        match self.barrier().outcome(generation) {
            Outcome::Open => None,
            Outcome::Met => Some(Heard::Met),
            Outcome::Broken { by } => Some(Heard::Broken(by)),
        }
    }

    /// Comes, and stays until the meeting is over.
    fn meet(&self, lane: usize) -> Heard {
        match self.barrier().arrive(lane).unwrap() {
            Arrival::Met => Heard::Met,
            Arrival::Broken { by } => Heard::Broken(by),
            Arrival::Waits { generation, .. } => loop {
                match self.outcome(generation) {
                    Some(heard) => return heard,
                    None => spin_loop(),
                }
            },
        }
    }

    /// As `meet`, asleep.
    fn meet_asleep(&self, lane: usize) -> Heard {
        match self.barrier().arrive(lane).unwrap() {
            Arrival::Met => {
                self.over().notify(EVERYBODY);
                Heard::Met
            }
            Arrival::Broken { by } => Heard::Broken(by),
            Arrival::Waits { generation, .. } => blocking(&self.over(), || self.outcome(generation)),
        }
    }
}

#[test]
fn after_a_meeting_each_sees_what_the_others_did_before() {
    model(|| {
        let world = Meeting::new(2);
        let party = |lane: usize, other: usize| {
            let world = world.clone();
            move || {
                for done in &world.done {
                    done[lane].store(1, Ordering::Relaxed);
                    assert_eq!(world.meet(lane), Heard::Met);
                    assert_eq!(done[other].load(Ordering::Relaxed), 1);
                }
            }
        };
        let both = [(VICTIM, OTHER), (OTHER, VICTIM)].map(|(lane, other)| thread::spawn(party(lane, other)));
        joined(both);
        assert_eq!(world.barrier().lanes().count(), 0);
    });
}

/// Who waits learns from the last one what the second did.
#[test]
fn three_meet() {
    model(|| {
        let world = Meeting::new(3);
        let others = [VICTIM, OTHER].map(|lane| {
            let world = world.clone();
            thread::spawn(move || {
                world.done[0][lane].store(1, Ordering::Relaxed);
                world.barrier().arrive(lane).unwrap()
            })
        });
        let waiting = thread::spawn({
            let world = world.clone();
            move || {
                assert_eq!(world.meet(THIRD), Heard::Met);
                assert!([VICTIM, OTHER].iter().all(|&lane| world.done[0][lane].load(Ordering::Relaxed) == 1));
            }
        });
        let arrivals = joined(others);
        waiting.join().unwrap();
        assert!(arrivals.iter().filter(|&&arrival| arrival == Arrival::Met).count() <= 1);
    });
}

#[test]
fn nobody_sleeps_through_a_meeting() {
    model(|| {
        let world = Meeting::new(3);
        let all = [VICTIM, OTHER, THIRD].map(|lane| {
            let world = world.clone();
            thread::spawn(move || assert_eq!(world.meet_asleep(lane), Heard::Met))
        });
        joined(all);
    });
}

/// While one sleeps, others meet again and give up again; it hears of its own meeting.
#[test]
fn a_late_riser_hears_of_its_own_meeting() {
    model(|| {
        let world = Meeting::new(2);
        let barrier = world.barrier();
        let mut expected = Vec::new();
        for is_met in [true, false, true, true, false, true] {
            let Arrival::Waits { generation, index: 0 } = barrier.arrive(VICTIM).unwrap() else {
                panic!("not the first")
            };
            if is_met {
                assert_eq!(barrier.arrive(OTHER).unwrap(), Arrival::Met);
            } else {
                barrier.reset();
            }
            expected.push((generation, if is_met { Heard::Met } else { Heard::Broken(0) }));
            for &(generation, heard) in &expected {
                assert_eq!(world.outcome(generation), Some(heard), "generation {generation}");
            }
        }
    });
}

/// Somebody breaks the meeting while the last one comes.
#[test]
fn all_hear_the_same_of_a_meeting() {
    model(|| {
        let world = Meeting::new(2);
        let parties = [VICTIM, OTHER].map(|lane| {
            let world = world.clone();
            thread::spawn(move || world.meet(lane))
        });
        let breaker = thread::spawn({
            let world = world.clone();
            move || world.barrier().abort(Some(0), PID)
        });
        let heard = joined(parties);
        let expected = if breaker.join().unwrap() { Heard::Broken(PID) } else { Heard::Met };
        assert_eq!(heard, [expected; 2]);
    });
}

/// One that waits gives up while the last one comes.
#[test]
fn who_gives_up_too_late_has_met() {
    model(|| {
        let world = Meeting::new(2);
        let other = thread::spawn({
            let world = world.clone();
            move || world.meet_asleep(OTHER)
        });
        let hasty = thread::spawn({
            let world = world.clone();
            move || {
                let heard = match world.barrier().arrive(VICTIM).unwrap() {
                    Arrival::Met => Heard::Met,
                    Arrival::Broken { by } => Heard::Broken(by),
                    Arrival::Waits { generation, .. } => {
                        world.barrier().abort(Some(generation), PID);
                        world.outcome(generation).expect("open after giving up")
                    }
                };
                world.over().notify(EVERYBODY);
                heard
            }
        });
        assert_eq!(hasty.join().unwrap(), other.join().unwrap());
    });
}

/// A party dies at any access, in time or asleep. If it was missed it is told; who was gone before it came leaves its place to another.
#[test]
fn a_killed_party_breaks_the_meeting() {
    for_every_kill(30, |accesses, done| {
        let world = Meeting::new(2);
        let victim = thread::spawn({
            let world = world.clone();
            move || {
                let heard = Memo::new(None);
                if crash_after(accesses, || heard.set(Some(world.meet_asleep(VICTIM)))) {
                    assert!(!world.barrier().bury(VICTIM, PID), "broken by one who had met");
                    return heard.get();
                }
                let before = world.barrier().state();
                let broke = world.barrier().bury(VICTIM, PID);
                world.over().notify(EVERYBODY);
                if broke {
                    assert_eq!(world.meet_asleep(VICTIM), Heard::Broken(PID), "met without it");
                } else if before.came < 2 && world.outcome(0).is_none() {
                    assert_eq!(world.meet_asleep(VICTIM), Heard::Met);
                }
                None
            }
        });
        let other = thread::spawn({
            let world = world.clone();
            move || world.meet_asleep(OTHER)
        });
        let theirs = victim.join().unwrap();
        let heard = other.join().unwrap();
        match theirs {
            Some(theirs) => assert_eq!((heard, theirs), (Heard::Met, Heard::Met)),
            None => {
                assert!(heard == Heard::Met || heard == Heard::Broken(PID), "{heard:?}");
                died(done);
            }
        }
    });
}

/// The repairer of one that came dies, too, while others come.
#[test]
fn a_killed_repairer_of_a_party_is_followed_by_another() {
    for_every_kill(20, |accesses, done| {
        let world = Meeting::new(3);
        assert!(world.barrier().arrive(VICTIM).is_ok()); // and was killed
        let repairers = thread::spawn({
            let world = world.clone();
            move || {
                let bury = || {
                    if world.barrier().bury(VICTIM, PID) {
                        world.over().notify(EVERYBODY);
                    }
                };
                let finished = crash_after(accesses, bury);
                bury();
                world.over().notify(EVERYBODY); // what a slice's end does where a wake-up died with the first
                finished
            }
        });
        let other = thread::spawn({
            let world = world.clone();
            move || world.meet_asleep(OTHER)
        });
        if !repairers.join().unwrap() {
            died(done);
        }
        assert_eq!(other.join().unwrap(), Heard::Broken(PID));
        assert_eq!(world.meet_asleep(THIRD), Heard::Broken(PID));
        world.barrier().reset();
        assert!(matches!(world.barrier().arrive(THIRD), Ok(Arrival::Waits { generation: 1, index: 0 })));
        assert!(!world.barrier().bury(VICTIM, PID), "broken again by the same death");
    });
}

/// A reset finds one that waits and another that comes: they meet before it, or the first is sent away and the second waits anew.
#[test]
fn a_reset_sends_away_who_waits() {
    model(|| {
        let world = Meeting::new(2);
        let Arrival::Waits { generation, .. } = world.barrier().arrive(VICTIM).unwrap() else { panic!("alone") };
        let waiting = thread::spawn({
            let world = world.clone();
            move || blocking(&world.over(), || world.outcome(generation))
        });
        let coming = thread::spawn({
            let world = world.clone();
            move || {
                let arrival = world.barrier().arrive(OTHER).unwrap();
                world.over().notify(EVERYBODY);
                arrival
            }
        });
        let resetting = thread::spawn({
            let world = world.clone();
            move || {
                world.barrier().reset();
                world.over().notify(EVERYBODY);
            }
        });
        resetting.join().unwrap();
        let expected = match coming.join().unwrap() {
            Arrival::Met => Heard::Met,
            Arrival::Waits { generation: 1, index: 0 } => Heard::Broken(0),
            other => panic!("{other:?}"),
        };
        assert_eq!(waiting.join().unwrap(), expected);
    });
}

/// A condition, as several wait for it: that the payload is another than 0.
impl Guarded {
    /// Sleeps until it is so; has the lock then.
    fn sleep_until_told(&self, lane: usize, told: &Event<Heap>) -> Past {
        let mut past = self.take_asleep(lane);
        while get(&self.payload) == 0 {
            let ticket = told.listen(); // before the lock is free: who changes something then finds it listening
            self.give_and_wake(lane, past);
            blocking(told, || told.has_moved_since(ticket).then_some(()));
            past = self.take_asleep(lane);
        }
        past
    }

    fn tell(&self, lane: usize, told: &Event<Heap>, count: u32) {
        let past = self.take_asleep(lane);
        self.add();
        self.give_and_wake(lane, past);
        told.notify(count);
    }
}

fn told(world: &Guarded, told: &Shared<AtomicU32>) -> (Guarded, Event<Heap>) {
    (world.clone(), Event::new(told.clone()))
}

#[test]
fn a_condition_is_not_missed_on_the_way_to_bed() {
    model(|| {
        let (world, word) = (Guarded::new(), futex());
        let teller = thread::spawn({
            let (world, told) = told(&world, &word);
            move || world.tell(OTHER, &told, 1)
        });
        let sleeper = thread::spawn({
            let (world, told) = told(&world, &word);
            move || world.sleep_until_told(VICTIM, &told)
        });
        teller.join().unwrap();
        assert_eq!(sleeper.join().unwrap(), Past::default());
    });
}

#[test]
fn a_condition_is_told_to_all() {
    model(|| {
        let (world, word) = (Guarded::new(), futex());
        let sleepers = [VICTIM, OTHER].map(|lane| {
            let (world, told) = told(&world, &word);
            thread::spawn(move || {
                let past = world.sleep_until_told(lane, &told);
                world.give_and_wake(lane, past);
            })
        });
        let teller = thread::spawn({
            let (world, told) = told(&world, &word);
            move || world.tell(THIRD, &told, EVERYBODY)
        });
        joined(sleepers);
        teller.join().unwrap();
    });
}

/// Two sleepers, and two things told to one of them each.
#[test]
fn a_condition_is_told_to_one_at_a_time() {
    model(|| {
        let (world, word) = (Guarded::new(), futex());
        let sleepers = [VICTIM, OTHER].map(|lane| {
            let (world, told) = told(&world, &word);
            thread::spawn(move || {
                let past = world.sleep_until_told(lane, &told);
                put(&world.payload, get(&world.payload) - 1);
                world.give_and_wake(lane, past);
            })
        });
        let teller = thread::spawn({
            let (world, told) = told(&world, &word);
            move || {
                for _ in 0..2 {
                    world.tell(THIRD, &told, 1);
                }
            }
        });
        joined(sleepers);
        teller.join().unwrap();
        assert_eq!(get(&world.payload), 0);
    });
}

/// Somebody who listened is gone, and its bit is cleared when another one has just listened.
#[test]
fn who_lies_down_while_a_stale_bit_is_cleared_is_told() {
    model(|| {
        let (world, word) = (Guarded::new(), futex());
        let _ = Event::<Heap>::new(word.clone()).listen(); // and was killed
        let teller = thread::spawn({
            let (world, told) = told(&world, &word);
            move || {
                told.notify(1); // of something else
                world.tell(OTHER, &told, 1);
            }
        });
        let sleeper = thread::spawn({
            let (world, told) = told(&world, &word);
            move || world.sleep_until_told(VICTIM, &told)
        });
        teller.join().unwrap();
        assert_eq!(sleeper.join().unwrap(), Past::default());
    });
}

/// A stale bit is cleared when one has just listened; then another one listens: the first must not take the word for unchanged.
#[test]
fn a_listener_that_passes_by_hides_no_news() {
    model(|| {
        let (flag, word) = (word(), futex());
        let event = || Event::<Heap>::new(word.clone());
        let _ = event().listen(); // and was killed
        let notifier = thread::spawn({
            let (flag, event) = (flag.clone(), event());
            move || {
                event.notify(1); // of something else
                flag.store(1, Ordering::Release);
                event.notify(1);
                let _ = event.listen(); // this thread may as well be the other listener
            }
        });
        let listener = thread::spawn({
            let (flag, event) = (flag.clone(), event());
            move || blocking(&event, || (flag.load(Ordering::Acquire) == 1).then_some(()))
        });
        joined([notifier, listener]);
    });
}

/// The threads of a process share a mark. One of them is late for its meeting when the process dies, and hides nobody who came to the next.
#[test]
fn a_late_thread_hides_nobody() {
    for_every_kill(20, |accesses, done| {
        let world = Meeting::new(2);
        let late = thread::spawn({
            let world = world.clone();
            move || crash_after(accesses, || assert!(world.barrier().arrive(VICTIM).is_ok()))
        });
        let punctual = thread::spawn({
            let world = world.clone();
            move || (0..3).for_each(|_| assert!(world.barrier().arrive(VICTIM).is_ok()))
        });
        punctual.join().unwrap();
        if !late.join().unwrap() {
            died(done);
        }
        let is_missed = world.barrier().state().came == 1;
        assert_eq!(world.barrier().bury(VICTIM, PID), is_missed, "came and died, and nobody hears of it");
    });
}

#[test]
fn a_bar_stays_through_wake_ups_until_it_is_lifted() {
    model(|| {
        let word = futex();
        let event = || Event::<Heap>::new(word.clone());
        let _ = event().listen();
        let barring = thread::spawn({
            let event = event();
            move || event.bar(true)
        });
        let waking = thread::spawn({
            let event = event();
            move || event.wake(1)
        });
        barring.join().unwrap();
        waking.join().unwrap();
        event().wake(1);
        assert!(event().is_barred() && !event().is_hung_up());
        event().bar(false);
        assert!(!event().is_barred());
    });
}
