//! Models of `src/raw/reader_counts.rs`, with the lock that writers hold.

use super::robust_lock::LockWorld;
use super::*;
use crate::raw::reader_counts::{ReaderCounts, TryEnter};
use crate::raw::robust_lock::History;

/// A message under a read-write lock.
#[derive(Clone)]
struct RwLockWorld {
    guarded: LockWorld,
    counts: SharedWords,
    /// A plain word of each participant, which it sets while it reads.
    traces: SharedWords,
    readers_gone: Shared<AtomicU32>,
    /// The distance between the indices of two participants.
    spread: usize,
}

impl RwLockWorld {
    /// All readers are counted in one word.
    fn new() -> Self {
        Self::with_counts(1, 1)
    }

    /// Each reader is counted in a word of its own, so that no load sees all of them.
    fn with_separate_words() -> Self {
        Self::with_counts(3, (1..).find(|&spread| ReaderCounts::<Heap>::words(spread + 1) > 1).unwrap())
    }

    fn with_counts(words: usize, spread: usize) -> Self {
        let (guarded, traces) = (LockWorld::new(), new_payload(&[0; 3]));
        Self { guarded, counts: new_words(words), traces, readers_gone: new_futex(), spread }
    }

    fn readers(&self) -> ReaderCounts<Heap> {
        ReaderCounts::new(self.counts.clone())
    }

    fn readers_gone(&self) -> EventCount<Heap> {
        event(&self.readers_gone)
    }

    fn leave_trace(&self, participant: usize) {
        self.traces[participant].store(1, Ordering::Relaxed);
    }

    fn is_visible(&self, participant: usize) -> bool {
        self.traces[participant].load(Ordering::Relaxed) == 1
    }

    fn try_enter(&self, participant: usize) -> bool {
        self.readers().try_enter(participant * self.spread, &self.guarded.raw_lock()) == Ok(TryEnter::Entered)
    }

    /// Reads if no writer is in the way.
    fn try_read(&self, participant: usize) -> Option<u64> {
        self.try_enter(participant).then(|| self.read_entered(participant))
    }

    /// Enters through the lock.
    fn enter_locked(&self, participant: usize) {
        let past = self.guarded.lock(participant);
        self.readers().count_in(participant * self.spread).unwrap();
        self.guarded.unlock(participant, past);
    }

    fn read_entered(&self, participant: usize) -> u64 {
        let n = self.guarded.value();
        self.leave_trace(participant);
        assert!(self.readers().count_out(participant * self.spread), "released while reading");
        n
    }

    fn write(&self, participant: usize, wait: impl FnOnce()) {
        let past = self.guarded.lock(participant);
        wait();
        self.guarded.increment();
        self.guarded.unlock(participant, past);
    }

    fn write_spinning(&self, participant: usize) {
        self.write(participant, || spin_until(|| self.readers().is_empty()));
    }

    fn write_sleeping(&self, participant: usize) {
        let readers_gone = self.readers_gone();
        self.write(participant, || block_on(&readers_gone, || self.readers().is_empty().then_some(())));
    }

    /// Writes, and returns whose traces it found.
    fn write_tracing(&self, participant: usize) -> [bool; 3] {
        let mut traces = [false; 3];
        self.write(participant, || {
            spin_until(|| self.readers().is_empty());
            traces = [VICTIM, OTHER, THIRD].map(|participant| self.is_visible(participant));
        });
        traces
    }
}

/// What each reader saw, and the traces of each that a writer saw: a reader that was first had
/// finished before the write.
fn assert_no_overlap(seen: impl IntoIterator<Item = Option<u64>>, traces: [bool; 3]) {
    for (seen, trace) in seen.into_iter().zip(traces) {
        assert!(seen != Some(0) || trace, "wrote before a reader was done");
    }
}

fn two_readers_and_a_writer(world: fn() -> RwLockWorld) {
    model(move || {
        let world = world();
        let readers = spawn_each(&world, [VICTIM, OTHER], |world, participant| world.try_read(participant));
        let writer = spawn(&world, |world| world.write_tracing(THIRD));
        let seen = join_all(readers);
        assert_no_overlap(seen, join(writer));
    });
}

#[test]
fn reader_counts_two_readers_and_a_writer_in_one_word_exclude_each_other() {
    two_readers_and_a_writer(RwLockWorld::new);
}

#[test]
fn reader_counts_two_readers_and_a_writer_in_separate_words_exclude_each_other() {
    two_readers_and_a_writer(RwLockWorld::with_separate_words);
}

/// The two readers are threads of one participant and share its count.
#[test]
fn reader_counts_two_threads_of_a_participant_and_a_writer_exclude_each_other() {
    model(|| {
        let world = RwLockWorld::new();
        let readers = spawn_each(&world, [0, 1], |world, trace| {
            world.try_enter(VICTIM).then(|| {
                let n = world.guarded.value();
                world.leave_trace(trace);
                world.readers().count_out(VICTIM);
                n
            })
        });
        let writer = spawn(&world, |world| world.write_tracing(THIRD));
        let seen = join_all(readers);
        assert_no_overlap(seen, join(writer));
        assert!(world.readers().is_empty());
    });
}

#[test]
fn reader_counts_two_writers_and_a_reader_exclude_each_other() {
    model(|| {
        let world = RwLockWorld::new();
        let reader = spawn(&world, |world| world.try_read(THIRD));
        let impatient = spawn(&world, |world| {
            let past = world.guarded.try_lock(OTHER)?;
            let is_alone = world.readers().is_empty();
            if is_alone {
                world.guarded.increment();
            }
            world.guarded.unlock(OTHER, past);
            is_alone.then_some(())
        });
        let writer = spawn(&world, |world| world.write_spinning(VICTIM));
        join(writer);
        let writes = 1 + u64::from(join(impatient).is_some());
        assert!(join(reader).is_none_or(|n| n <= writes));
        assert_eq!(world.try_read(THIRD), Some(writes));
    });
}

#[test]
fn reader_counts_reader_entered_through_the_lock_writer_waits() {
    model(|| {
        let world = RwLockWorld::new();
        let reader = spawn(&world, |world| {
            world.enter_locked(VICTIM);
            world.read_entered(VICTIM)
        });
        let writer = spawn(&world, |world| world.write_tracing(THIRD));
        let traces = join(writer);
        assert_no_overlap([Some(join(reader))], traces);
    });
}

/// A reader that finds the lock taken is counted for a moment, so it wakes the writer like one
/// that leaves.
#[test]
fn reader_counts_sleeping_writer_is_woken_by_the_last_reader() {
    model(|| {
        let world = RwLockWorld::new();
        let readers = spawn_each(&world, [VICTIM, OTHER], |world, participant| {
            let _ = world.try_read(participant);
            world.readers_gone().notify(1);
        });
        let writer = spawn(&world, |world| world.write_sleeping(THIRD));
        join_all(readers);
        join(writer);
    });
}

/// A reader is killed at any access, on either way in, and repaired while a writer waits.
#[test]
fn reader_counts_reader_killed_writer_gets_in() {
    for_every_kill(20, |accesses| {
        let world = RwLockWorld::new();
        let victim = spawn(&world, move |world| {
            let (owns, reads) = (Note::new(false), Note::new(false));
            let finished = kill_after(accesses, || {
                if world.try_read(VICTIM).is_none()
                    && let Some(past) = world.guarded.try_lock(VICTIM)
                {
                    owns.set(true);
                    world.readers().count_in(VICTIM).unwrap();
                    reads.set(true);
                    world.guarded.unlock(VICTIM, past);
                    owns.set(false);
                    world.read_entered(VICTIM);
                    reads.set(false);
                }
            });
            assert_eq!(world.guarded.raw_lock().release_dead(VICTIM), owns.get());
            let was_reading = world.readers().release_dead(VICTIM);
            assert!(was_reading || !reads.get(), "read without being counted");
            assert!(!(finished && was_reading), "left, and is still counted");
            world.readers_gone().wake(1);
            finished
        });
        let writer = spawn(&world, |world| world.write_sleeping(OTHER));
        let finished = join(victim);
        join(writer);
        assert_eq!(world.readers().participants().count(), 0);
        world.write(OTHER, || assert!(world.readers().is_empty()));
        assert_eq!(world.guarded.value(), 2);
        finished
    });
}

/// A writer is killed at any access. Nobody reads what it left until the next owner has cleared
/// the history.
#[test]
fn reader_counts_writer_killed_readers_stay_out() {
    for_every_kill(20, |accesses| {
        let world = RwLockWorld::new();
        let victim = spawn(&world, move |world| {
            let owns = Note::new(false);
            let finished = kill_after(accesses, || {
                world.guarded.lock(VICTIM);
                owns.set(true);
                spin_until(|| world.readers().is_empty());
                world.guarded.increment();
                world.guarded.unlock(VICTIM, History::default());
                owns.set(false);
            });
            assert_eq!(world.guarded.raw_lock().release_dead(VICTIM), owns.get());
            (finished, owns.get())
        });
        let reader = spawn(&world, |world| world.try_read(OTHER));
        let (finished, owned) = join(victim);
        let seen = join(reader);
        assert!(seen.is_none_or(|n| n <= u64::from(finished)));
        if owned {
            assert_eq!(world.try_read(OTHER), None, "reads what a killed writer left");
            assert!(world.guarded.lock(THIRD).died);
            world.guarded.set_value(1);
            world.guarded.unlock(THIRD, History::default());
        }
        assert!(world.try_read(OTHER).is_some());
        finished
    });
}
