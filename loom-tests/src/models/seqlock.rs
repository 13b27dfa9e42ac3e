//! Models of `src/raw/seqlock.rs`.

use super::robust_lock::LockWorld;
use super::*;
use crate::raw::seqlock::{CONTROL, SeqLockView};

/// A value in versions. The value of version v is ten times v, plus its writer.
#[derive(Clone)]
struct SeqLockWorld {
    control: SharedWords,
    buffers: SharedWords,
    count: u64,
}

impl SeqLockWorld {
    fn new(count: u64) -> Self {
        // A writer also loads the first control word; no thread both loads and stores the second.
        let control: [AtomicU64; CONTROL] = [AtomicU64::new(0), AtomicU64::payload(0)];
        let buffers: Vec<u64> = message(0).into_iter().chain((1..count).flat_map(|_| [0, 0])).collect();
        Self { control: SharedWords(Arc::new(control.into())), buffers: new_payload(&buffers), count }
    }

    fn cell(&self) -> SeqLockView<'_> {
        SeqLockView::view(&self.control, &self.buffers, 2, self.count).unwrap()
    }

    fn write(&self, writer: usize, version: u64) -> u64 {
        self.cell().write(|buffer| store_message(buffer, 10 * version + writer as u64))
    }

    /// Writes the next version and returns it.
    fn write_next(&self, writer: usize) -> u64 {
        let version = self.cell().version() + 1;
        assert_eq!(self.write(writer, version), version);
        version
    }

    /// Returns the version and its writer.
    fn read(&self) -> (u64, u64) {
        // No pause between attempts: after one, loom would show the next attempt newer words.
        let (copied, version) = self.cell().read(copy_message, |_| {}).expect("valid control words");
        let value = number(copied);
        assert_eq!(value / 10, version, "another version's value");
        (version, value % 10)
    }
}

/// One thread writes versions while another reads `READS` times.
fn write_and_read<const READS: usize>(buffers: u64, versions: u64) {
    model(move || {
        let world = SeqLockWorld::new(buffers);
        let writer = spawn(&world, move |world| (1..=versions).for_each(|n| assert_eq!(world.write(OTHER, n), n)));
        let reader = spawn(&world, |world| [(); READS].map(|()| world.read().0));
        assert!(join(reader).is_sorted(), "back in time");
        join(writer);
        assert_eq!(world.read().0, versions);
    });
}

#[test]
fn seqlock_two_buffers_reader_sees_no_torn_value() {
    write_and_read::<2>(2, 3);
}

#[test]
fn seqlock_four_buffers_reader_sees_no_torn_value() {
    write_and_read::<1>(4, 5);
}

/// A writer is killed at any access and the next one goes on, while another thread reads.
fn killed_write_and_read<const READS: usize>(buffers: u64, versions: u64) {
    for_every_kill(40, move |accesses| {
        let world = SeqLockWorld::new(buffers);
        let writers = spawn(&world, move |world| {
            let written = Note::new(0);
            let finished = kill_after(accesses, || {
                for n in 1..=versions {
                    assert_eq!(world.write(VICTIM, n), n);
                    written.set(n);
                }
            });
            // The right to write came from the kernel.
            assert_eq!(world.write_next(OTHER), written.get() + 1, "a version more, or less, than was written");
            (finished, written.get())
        });
        let reader = spawn(&world, |world| [(); READS].map(|()| world.read()));
        let seen = join(reader);
        for pair in seen.windows(2) {
            assert!(pair[0].0 <= pair[1].0, "back in time");
            assert!(pair[0].0 != pair[1].0 || pair[0] == pair[1], "two values of one version");
        }
        let (finished, written) = join(writers);
        for (version, writer) in seen {
            let expected = if version > written { OTHER } else { VICTIM };
            assert!(version <= written + 1 && (version == 0 || writer == expected as u64), "{version} by {writer}");
        }
        finished
    });
}

#[test]
fn seqlock_two_buffers_writer_killed_reader_sees_no_torn_value() {
    killed_write_and_read::<2>(2, 2);
}

/// The last version but three is overwritten while it is being read.
#[test]
fn seqlock_four_buffers_writer_killed_reader_sees_no_torn_value() {
    killed_write_and_read::<1>(4, 4);
}

/// A writer is killed at any access, another waits for its lock, and a third thread reads.
#[test]
fn seqlock_writer_killed_next_lock_owner_writes_on() {
    for_every_kill(20, |accesses| {
        let worlds = (LockWorld::new(), SeqLockWorld::new(2));
        let victim = spawn(&worlds, move |(guarded, versions)| {
            let finished = kill_after(accesses, || {
                if let Some(past) = guarded.try_lock(VICTIM) {
                    versions.write_next(VICTIM);
                    guarded.unlock(VICTIM, past);
                }
            });
            guarded.raw_lock().release_dead(VICTIM);
            finished
        });
        let reader = spawn(&worlds, |(_, versions)| versions.read().0);
        let next = spawn(&worlds, |(guarded, versions)| {
            let past = guarded.lock(OTHER);
            let version = versions.write_next(OTHER);
            guarded.unlock(OTHER, past);
            version
        });
        assert!(join(reader) <= 2);
        let finished = join(victim);
        assert!(join(next) <= worlds.1.read().0);
        finished
    });
}

#[test]
fn seqlock_waiters_for_a_change_are_woken() {
    model(|| {
        let world = (SeqLockWorld::new(2), new_futex());
        let waiters = spawn_each(&world, [(), ()], |(versions, changed), ()| {
            let changed = event(&changed);
            let mut seen = 0;
            while seen < 2 {
                block_on(&changed, || (versions.cell().version() != seen).then_some(()));
                let (version, _) = versions.read();
                assert!(version > seen);
                seen = version;
            }
        });
        let writer = spawn(&world, |(versions, changed)| {
            for n in 1..=2 {
                versions.write(OTHER, n);
                event(&changed).notify(ALL);
            }
        });
        join_all(waiters);
        join(writer);
    });
}
