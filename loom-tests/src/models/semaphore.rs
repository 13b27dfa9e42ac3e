//! Models of `src/raw/semaphore.rs`.

use super::*;
use crate::raw::semaphore::{MAX_PERMITS, Semaphore};

/// Permits, and a message that one permit guards.
#[derive(Clone)]
struct SemaphoreWorld {
    word: Shared<AtomicU64>,
    payload: SharedWords,
    released: Shared<AtomicU32>,
}

impl SemaphoreWorld {
    fn new(permits: u64) -> Self {
        let world = Self { word: new_word(), payload: new_payload(&message(0)), released: new_futex() };
        world.release(permits);
        world
    }

    fn semaphore(&self) -> Semaphore<Heap> {
        Semaphore::new(self.word.clone())
    }

    fn available(&self) -> u64 {
        self.semaphore().available().unwrap()
    }

    fn try_acquire(&self, count: u64) -> bool {
        self.semaphore().try_acquire(count).unwrap()
    }

    fn acquire(&self, count: u64) {
        spin_until(|| self.try_acquire(count));
    }

    fn release(&self, count: u64) {
        assert!(self.semaphore().release(count).unwrap());
    }

    fn released(&self) -> EventCount<Heap> {
        event(&self.released)
    }
}

#[test]
fn semaphore_of_one_permit_excludes() {
    model(|| {
        let world = SemaphoreWorld::new(1);
        let increment = |world: SemaphoreWorld, ()| {
            world.acquire(1);
            store_message(&world.payload, load_message(&world.payload) + 1);
            world.release(1);
        };
        join_all(spawn_each(&world, [(), ()], increment));
        increment(world.clone(), ());
        assert_eq!((load_message(&world.payload), world.available()), (3, 1));
    });
}

#[test]
fn semaphore_contended_no_more_permits_are_out_than_exist() {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    model(|| {
        // `out` belongs to the checker: it is no shared memory of the model.
        let world = (SemaphoreWorld::new(2), std::sync::Arc::new(AtomicU64::new(0)));
        let all = spawn_each(&world, [1, 2, 1], |(world, out), count| {
            let acquired = world.try_acquire(count);
            if acquired {
                let now = count + out.fetch_add(count, SeqCst);
                assert!(now <= 2, "{now} of 2");
                thread::yield_now();
                out.fetch_sub(count, SeqCst);
                world.release(count);
            }
            acquired
        });
        assert!(join_all(all).contains(&true), "permits were available, and every attempt failed");
        assert_eq!(world.0.available(), 2);
        assert!(!world.0.semaphore().release(MAX_PERMITS - 1).unwrap(), "more than the maximum");
    });
}

/// This holds even if a third thread acquires and releases the permit in between.
#[test]
fn semaphore_release_publishes_earlier_writes() {
    model(|| {
        let world = SemaphoreWorld::new(0);
        let releaser = spawn(&world, |world| {
            store_message(&world.payload, 7);
            world.release(1);
        });
        let third = spawn(&world, |world| {
            if world.try_acquire(1) {
                world.release(1);
            }
        });
        let acquirer = spawn(&world, |world| {
            world.acquire(1);
            assert_eq!(load_message(&world.payload), 7);
        });
        join_all([releaser, third, acquirer]);
    });
}

/// A holder is killed at any access. Its permits stay acquired or were released; those of others
/// are untouched.
#[test]
fn semaphore_holder_killed_its_permits_stay_acquired() {
    for_every_kill(10, |accesses| {
        let world = SemaphoreWorld::new(2);
        let victim = spawn(&world, move |world| {
            let holds = Note::new(0);
            let finished = kill_after(accesses, || {
                if world.try_acquire(2) {
                    holds.set(2);
                    world.release(2);
                    holds.set(0);
                }
            });
            (finished, holds.get())
        });
        let other = spawn(&world, |world| {
            if world.try_acquire(1) {
                world.release(1);
            }
        });
        let (finished, held) = join(victim);
        join(other);
        assert_eq!(world.available(), 2 - held);
        finished
    });
}

#[test]
fn semaphore_sleeping_waiters_are_woken() {
    model(|| {
        let world = SemaphoreWorld::new(0);
        let waiters = spawn_each(&world, [(), ()], |world, ()| {
            block_on(&world.released(), || world.try_acquire(1).then_some(()));
            world.release(1);
            world.released().notify(1);
        });
        world.release(1);
        world.released().notify(1);
        join_all(waiters);
    });
}
