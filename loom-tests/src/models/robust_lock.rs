//! Models of `src/raw/robust_lock.rs`.

use super::*;
use crate::raw::robust_lock::{History, RobustLock};

pub(super) const POISONED: History = History { died: false, poisoned: true };

/// A message that a lock guards.
#[derive(Clone)]
pub(super) struct LockWorld {
    lock: Shared<AtomicU64>,
    payload: SharedWords,
    unlocked: Shared<AtomicU32>,
}

impl LockWorld {
    pub(super) fn new() -> Self {
        Self { lock: new_word(), payload: new_payload(&message(0)), unlocked: new_futex() }
    }

    pub(super) fn raw_lock(&self) -> RobustLock<Heap> {
        RobustLock::new(self.lock.clone())
    }

    fn unlocked(&self) -> EventCount<Heap> {
        event(&self.unlocked)
    }

    pub(super) fn try_lock(&self, participant: usize) -> Option<History> {
        self.raw_lock().try_lock(participant).unwrap()
    }

    /// Spins until it has the lock.
    pub(super) fn lock(&self, participant: usize) -> History {
        spin_for(|| self.try_lock(participant))
    }

    pub(super) fn unlock(&self, participant: usize, past: History) {
        assert!(self.raw_lock().unlock(participant, past), "the lock of somebody else");
    }

    /// Sleeps until it has the lock.
    pub(super) fn lock_sleeping(&self, participant: usize) -> History {
        block_on(&self.unlocked(), || self.try_lock(participant))
    }

    pub(super) fn unlock_and_wake(&self, participant: usize, past: History) {
        self.unlock(participant, past);
        self.unlocked().notify(1);
    }

    pub(super) fn value(&self) -> u64 {
        load_message(&self.payload)
    }

    pub(super) fn set_value(&self, value: u64) {
        store_message(&self.payload, value);
    }

    pub(super) fn increment(&self) {
        self.set_value(self.value() + 1);
    }

    fn increment_sleeping(&self, participant: usize) {
        let past = self.lock_sleeping(participant);
        self.increment();
        self.unlock_and_wake(participant, past);
    }
}

#[test]
fn robust_lock_contended_each_owner_finds_what_the_last_one_wrote() {
    model(|| {
        let world = LockWorld::new();
        let increment = |world: LockWorld, participant| {
            let past = world.lock(participant);
            world.increment();
            world.unlock(participant, past);
        };
        join_all(spawn_each(&world, [VICTIM, OTHER], increment));
        increment(world.clone(), THIRD);
        assert_eq!(world.value(), 3);
    });
}

#[test]
fn robust_lock_unlocked_with_history_next_owner_gets_it_with_the_writes() {
    model(|| {
        let world = LockWorld::new();
        let owner = spawn(&world, |world| {
            world.lock(OTHER);
            world.increment();
            assert!(!world.raw_lock().unlock(VICTIM, History::default()), "not its own");
            world.unlock(OTHER, POISONED);
        });
        let next = spawn(&world, |world| {
            let past = world.lock(VICTIM);
            assert_eq!(world.value(), u64::from(past == POISONED));
            world.unlock(VICTIM, past);
            past
        });
        join(owner);
        let past = join(next);
        assert!(past == POISONED || past == History::default());
        assert_eq!(world.lock(THIRD), POISONED);
        world.unlock(THIRD, History::default());
        assert_eq!(world.lock(VICTIM), History::default());
    });
}

/// An attempt fails only if another participant has the lock.
#[test]
fn robust_lock_free_one_of_two_attempts_succeeds() {
    model(|| {
        let world = LockWorld::new();
        world.lock(THIRD);
        world.unlock(THIRD, POISONED);
        let attempts = spawn_each(&world, [VICTIM, OTHER], |world, participant| world.try_lock(participant));
        let pasts: Vec<History> = join_all(attempts).into_iter().flatten().collect();
        assert_eq!(pasts, [POISONED]);
    });
}

/// An owner is killed at any access and repaired, while another participant waits for the lock.
#[test]
fn robust_lock_owner_killed_next_owner_is_told_once() {
    for_every_kill(20, |accesses| {
        let world = LockWorld::new();
        let victim = spawn(&world, move |world| {
            let (owns, added) = (Note::new(false), Note::new(0));
            let finished = kill_after(accesses, || {
                let past = world.lock(VICTIM);
                owns.set(true);
                world.increment();
                added.set(1);
                world.unlock(VICTIM, past);
                owns.set(false);
            });
            assert_eq!(
                world.raw_lock().release_dead(VICTIM),
                owns.get(),
                "released what it did not own, or kept what it did"
            );
            (finished, owns.get(), added.get())
        });
        let next = spawn(&world, |world| {
            let past = world.lock(OTHER);
            let found = copy_message(&world.payload);
            world.set_value(if past.died { 10 } else { number(found) + 10 });
            world.unlock(OTHER, History::default());
            (past, found)
        });
        let (finished, owned, added) = join(victim);
        let (past, found) = join(next);
        if past.died && added == 1 {
            assert_eq!(found, message(1), "the victim's writes are lost");
        }
        let last = world.lock(THIRD);
        assert!(!past.died || !last.died, "told twice");
        assert_eq!(past.died || last.died, owned, "told without a death, or not told");
        if !owned {
            assert_eq!(world.value(), 10 + added);
        }
        finished
    });
}

/// A repairer is killed over a dead owner and another one follows. Then the next owner is killed,
/// too, before it has cleared the history.
#[test]
fn robust_lock_repairer_killed_death_is_reported_until_cleared() {
    for_every_kill(10, |accesses| {
        let world = LockWorld::new();
        world.lock(VICTIM);
        world.unlock(VICTIM, POISONED);
        world.lock(VICTIM); // and was killed
        let repairers = spawn(&world, move |world| {
            let finished = kill_after(accesses, || {
                world.raw_lock().release_dead(VICTIM);
            });
            world.raw_lock().release_dead(VICTIM);
            finished
        });
        let next = spawn(&world, |world| world.lock(OTHER)); // and was killed
        let both = History { died: true, ..POISONED };
        assert_eq!(join(next), both);
        let finished = join(repairers);
        assert_eq!(world.raw_lock().owner(), Some(OTHER), "a repairer released another owner's lock");
        assert!(world.raw_lock().release_dead(OTHER));
        assert_eq!(world.lock(THIRD), both, "the first death is forgotten");
        world.unlock(THIRD, History::default());
        assert_eq!(world.lock(OTHER), History::default());
        finished
    });
}

#[test]
fn robust_lock_sleeping_waiters_are_woken() {
    model(|| {
        let world = LockWorld::new();
        let all = spawn_each(&world, [VICTIM, OTHER, THIRD], |world, participant| {
            world.increment_sleeping(participant);
        });
        join_all(all);
        assert_eq!(world.value(), 3);
    });
}

/// An owner is killed at any access. The repairer wakes a sleeping waiter.
#[test]
fn robust_lock_owner_killed_sleeping_waiter_is_woken() {
    for_every_kill(20, |accesses| {
        let world = LockWorld::new();
        let victim = spawn(&world, move |world| {
            let finished = kill_after(accesses, || {
                let past = world.lock_sleeping(VICTIM);
                world.unlock_and_wake(VICTIM, past);
            });
            world.raw_lock().release_dead(VICTIM);
            // Stands for the liveness check of a waiter, in case the victim's wake-up died with it.
            world.unlocked().wake(1);
            finished
        });
        let other = spawn(&world, |world| {
            let past = world.lock_sleeping(OTHER);
            world.unlock_and_wake(OTHER, past);
        });
        let finished = join(victim);
        join(other);
        finished
    });
}
