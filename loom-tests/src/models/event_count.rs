//! Models of `src/raw/event_count.rs`, alone and as a condition variable beside a lock.

use super::robust_lock::LockWorld;
use super::*;
use crate::raw::robust_lock::History;

/// A flag, and what its waiters sleep on.
#[derive(Clone)]
struct FlagWorld {
    flag: Shared<AtomicU64>,
    futex: Shared<AtomicU32>,
}

impl FlagWorld {
    fn new() -> Self {
        Self { flag: new_word(), futex: new_futex() }
    }

    /// A world in which a listener was killed and left its bit behind.
    fn with_stale_bit() -> Self {
        let world = Self::new();
        let _ = world.event().listen();
        world
    }

    fn event(&self) -> EventCount<Heap> {
        event(&self.futex)
    }

    fn set(&self, value: u64) {
        self.flag.store(value, Ordering::Release);
        self.event().notify(1);
    }

    fn wait_for(&self, value: u64) {
        block_on_flag(&self.event(), &self.flag, value);
    }
}

/// The bit of a killed waiter is cleared while a new one goes to sleep.
#[test]
fn event_count_stale_bit_cleared_new_waiter_is_woken() {
    model(|| {
        let world = FlagWorld::with_stale_bit();
        let notifier = spawn(&world, |world| (1..=2).for_each(|value| world.set(value)));
        (1..=2).for_each(|value| world.wait_for(value));
        join(notifier);
    });
}

/// A second listener sets its bit and dies just when the bit of the first was cleared. The first
/// must not take the word for unchanged.
#[test]
fn event_count_listener_killed_other_waiter_is_woken() {
    model(|| {
        let world = FlagWorld::new();
        let notifier = spawn(&world, |world| world.set(1));
        let dying = spawn(&world, |world| {
            let _ = world.event().listen();
        });
        world.wait_for(1);
        join_all([notifier, dying]);
    });
}

/// A stale bit is cleared when one waiter has just listened, then another one listens. The first
/// must not take the word for unchanged.
#[test]
fn event_count_listener_during_stale_bit_clear_waiter_is_woken() {
    model(|| {
        let world = FlagWorld::with_stale_bit();
        let notifier = spawn(&world, |world| {
            world.event().notify(1); // of something else
            world.set(1);
            let _ = world.event().listen(); // this thread may as well be the other listener
        });
        let waiter = spawn(&world, |world| world.wait_for(1));
        join_all([notifier, waiter]);
    });
}

/// A sandbox refuses membarrier(2) after the process has registered for it. Once notifiers can
/// know that, no wake-up is lost.
#[test]
fn event_count_heavy_fence_refused_waiter_is_woken() {
    model_without_membarrier(|| {
        // An earlier listen left nothing but the bit that tells notifiers to use full fences.
        let world = FlagWorld::with_stale_bit();
        world.event().notify(1);
        assert!(!world.event().has_waiters());
        let notifier = spawn(&world, |world| world.set(1));
        world.wait_for(1);
        join(notifier);
    });
}

#[test]
fn event_count_two_waiters_notified_in_turn_are_both_woken() {
    model(|| {
        let world = FlagWorld::new();
        let waiters = spawn_each(&world, [(), ()], |world, ()| {
            world.wait_for(1);
            world.event().notify(1); // pass it on
        });
        world.set(1);
        join_all(waiters);
    });
}

#[test]
fn event_count_no_barging_bit_survives_wake_ups() {
    model(|| {
        let world = FlagWorld::with_stale_bit();
        let waiter = spawn(&world, |world| world.event().set_no_barging(true));
        let waker = spawn(&world, |world| {
            world.event().wake(1);
        });
        join_all([waiter, waker]);
        let event = world.event();
        event.wake(1);
        assert!(event.no_barging() && !event.peer_has_left());
        event.set_no_barging(false);
        assert!(!event.no_barging());
    });
}

/// A lock, and a condition variable for "the payload is not 0".
#[derive(Clone)]
struct CondvarWorld {
    guarded: LockWorld,
    condvar: Shared<AtomicU32>,
}

impl CondvarWorld {
    fn new() -> Self {
        Self { guarded: LockWorld::new(), condvar: new_futex() }
    }

    fn condvar(&self) -> EventCount<Heap> {
        event(&self.condvar)
    }

    /// Blocks until the condition holds, and returns with the lock.
    fn park_until_notified(&self, participant: usize) -> History {
        let condvar = self.condvar();
        let mut past = self.guarded.lock_sleeping(participant);
        while self.guarded.value() == 0 {
            // Listens before it unlocks, so that the thread that changes the condition finds the
            // bit set.
            let key = condvar.listen();
            self.guarded.unlock_and_wake(participant, past);
            block_on(&condvar, || condvar.has_advanced_since(key).then_some(()));
            past = self.guarded.lock_sleeping(participant);
        }
        past
    }

    /// Makes the condition hold, and notifies `count` waiters.
    fn notify(&self, participant: usize, count: u32) {
        let past = self.guarded.lock_sleeping(participant);
        self.guarded.increment();
        self.guarded.unlock_and_wake(participant, past);
        self.condvar().notify(count);
    }
}

#[test]
fn condvar_notify_between_listen_and_sleep_is_seen() {
    model(|| {
        let world = CondvarWorld::new();
        let notifier = spawn(&world, |world| world.notify(OTHER, 1));
        let waiter = spawn(&world, |world| world.park_until_notified(VICTIM));
        join(notifier);
        assert_eq!(join(waiter), History::default());
    });
}

#[test]
fn condvar_notify_all_wakes_every_waiter() {
    model(|| {
        let world = CondvarWorld::new();
        let waiters = spawn_each(&world, [VICTIM, OTHER], |world, participant| {
            let past = world.park_until_notified(participant);
            world.guarded.unlock_and_wake(participant, past);
        });
        let notifier = spawn(&world, |world| world.notify(THIRD, ALL));
        join_all(waiters);
        join(notifier);
    });
}

#[test]
fn condvar_notify_one_twice_wakes_two_waiters() {
    model(|| {
        let world = CondvarWorld::new();
        let waiters = spawn_each(&world, [VICTIM, OTHER], |world, participant| {
            let past = world.park_until_notified(participant);
            world.guarded.set_value(world.guarded.value() - 1);
            world.guarded.unlock_and_wake(participant, past);
        });
        let notifier = spawn(&world, |world| (0..2).for_each(|_| world.notify(THIRD, 1)));
        join_all(waiters);
        join(notifier);
        assert_eq!(world.guarded.value(), 0);
    });
}

/// A killed waiter's bit is cleared when another waiter has just listened.
#[test]
fn condvar_waiter_that_sleeps_during_stale_bit_clear_is_woken() {
    model(|| {
        let world = CondvarWorld::new();
        let _ = world.condvar().listen(); // and was killed
        let notifier = spawn(&world, |world| {
            world.condvar().notify(1); // of something else
            world.notify(OTHER, 1);
        });
        let waiter = spawn(&world, |world| world.park_until_notified(VICTIM));
        join(notifier);
        assert_eq!(join(waiter), History::default());
    });
}
