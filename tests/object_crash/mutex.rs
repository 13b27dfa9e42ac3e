//! `Mutex` and `ReentrantMutex`: locking, changing and unlocking are cut off.

use std::mem::forget;
use std::path::Path;
use std::thread;

use tombolo::sync::{LockError, Mutex, SyncError};

use crate::common::{
    CrashState, LONG, Pair, SLEEP, WAIT_CALLS, dead_participant, guard_and_death, newcomer, number, open_leaked, pair,
    plan_for, state_of, within_a_second,
};
use crate::objects::{mutex_of, mutex_works};
use crate::support::{TestDir, alone, fork, until};
use crate::sweep::{NAME, nested_guard, sweep};
use crate::sweeps::{sweep_beside_sleeper, sweep_object, sweep_wait};

/// raw/robust_lock.rs ns-lock-1 to -3, raw/seqlock.rs ns-value-1, -2.
#[test]
fn mutex_change_killed_next_lock_reports_owner_died() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)).atomic("phase", 0_u64),
        |namespace| {
            let mutex = mutex_of(namespace);
            let phase = namespace.atomic("phase").unwrap();
            move || {
                let mut guard = mutex.lock().unwrap();
                phase.store(1_u64);
                *guard = pair(1);
                phase.store(2);
                drop(guard);
            }
        },
        |namespace, crash| {
            let held = crash.held("mutex");
            let phase = namespace.atomic::<u64>("phase").unwrap().load();
            let mutex = mutex_of(namespace);
            let (guard, died) = guard_and_death(mutex.lock());
            assert_eq!(died, held, "reports only the death of an owner");
            match (phase, held, number(*guard)) {
                (0, _, 0) | (1, true, 0) | (2, true, 0 | 1) | (2, false, 1) => {}
                found => panic!("(phase, held, value): {found:?}"),
            }
        },
        mutex_works,
    );
    swept.covers(0, 8);
}

/// Only the lock word changes.
#[test]
fn mutex_lock_and_unlock_killed_next_lock_reports_owner_died() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            move || drop(mutex.lock().unwrap())
        },
        |namespace, crash| {
            let mutex = mutex_of(namespace);
            assert_eq!(guard_and_death(mutex.lock()).1, crash.held("mutex"));
        },
        mutex_works,
    );
    swept.covers(0, 2);
}

/// raw/robust_lock.rs I2: `OwnerDied` is reported until an owner that got it has unlocked.
#[test]
fn mutex_lock_after_death_killed_next_lock_reports_owner_died() {
    let swept = sweep(
        |names| {
            let survivor = plan_for(2, names).mutex("mutex", pair(0)).open(NAME).unwrap();
            dead_participant(plan_for(2, names), |namespace| forget(mutex_of(namespace).lock().unwrap()));
            survivor
        },
        |names| {
            let mutex = mutex_of(open_leaked(plan_for(2, names)));
            move || {
                let (mut guard, died) = guard_and_death(mutex.lock());
                assert!(died);
                *guard = pair(1);
            }
        },
        |names, survivor| {
            let crash = CrashState::of(names);
            let mutex = mutex_of(&survivor);
            let (guard, died) = guard_and_death(mutex.lock());
            let is_repaired = number(*guard) == 1 && !crash.held("mutex");
            assert_eq!(died, !is_repaired);
            drop(guard);
            mutex_works(&survivor);
            newcomer(plan_for(2, names), mutex_works);
        },
    );
    swept.covers(0, 5);
}

/// The death of an owner does not clear the poison.
#[test]
fn mutex_clear_poison_killed_is_poisoned_or_cleared() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            mutex.lock().unwrap().poison();
            move || {
                let Err(LockError::Poisoned(mut guard)) = mutex.lock() else { panic!("it is poisoned") };
                *guard = pair(1);
                guard.clear_poison();
            }
        },
        |namespace, crash| {
            let held = crash.held("mutex");
            let mutex = mutex_of(namespace);
            match mutex.lock() {
                Ok(guard) => assert!(!held && number(*guard) == 1),
                Err(LockError::Poisoned(mut guard)) => {
                    assert!(number(*guard) <= u64::from(held));
                    guard.clear_poison();
                }
                Err(error) => panic!("{error}"),
            }
        },
        mutex_works,
    );
    swept.covers(0, 6);
}

/// raw/robust_lock.rs K2.
#[test]
fn mutex_unlock_killed_sleeper_gets_lock() {
    let swept = sweep_beside_sleeper(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            let (guard, died) = guard_and_death(mutex.lock());
            assert!(died || number(*guard) == 1, "unlocked without a commit");
        },
        |namespace| {
            let mutex: &'static Mutex<Pair> = Box::leak(Box::new(mutex_of(namespace)));
            let mut guard = mutex.lock().unwrap();
            *guard = pair(1);
            move || drop(guard)
        },
        |_, _| {},
        mutex_works,
    );
    swept.covers(1, 6);
}

#[test]
fn mutex_wait_killed_lock_is_free_for_others() {
    let swept = sweep_wait(
        |plan| plan.mutex("mutex", pair(0)),
        |survivor| mutex_of(survivor).lock().unwrap().keep_locked(),
        |namespace, patience| mutex_of(namespace).lock_timeout(patience).is_ok(),
        |survivor, ()| mutex_of(survivor).unlock().unwrap(),
        |namespace| {
            let mutex = mutex_of(namespace);
            drop(within_a_second(|| mutex.try_lock().ok()));
            mutex_works(namespace);
        },
    );
    swept.covers(WAIT_CALLS, 2);
}

/// object/fairness.rs: a killed waiter has set the no-barging bit; a newcomer that it holds back is
/// killed, too.
#[test]
fn mutex_lock_with_stale_no_barging_bit_killed_lock_is_free_for_others() {
    let plan = |names: &Path| plan_for(2, names).mutex("mutex", pair(0));
    let swept = sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let mutex = mutex_of(&survivor);
            mutex.lock().unwrap().keep_locked();
            let waiter = fork(&nested_guard(), || drop(mutex_of(open_leaked(plan(names))).lock()));
            let is_asleep = || CrashState::of(names).0.participants.len() == 2 && state_of(waiter.pid() as u64) == 'S';
            until(is_asleep);
            thread::sleep(2 * SLEEP);
            waiter.kill();
            mutex.unlock().unwrap();
            survivor
        },
        |names| {
            let mutex = mutex_of(open_leaked(plan(names)));
            move || *mutex.lock().unwrap() = pair(1)
        },
        |names, survivor| {
            let mutex = mutex_of(&survivor);
            let held = CrashState::of(names).held("mutex");
            let (guard, died) = guard_and_death(mutex.lock());
            assert_eq!(died, held);
            assert!(number(*guard) <= 1);
            drop(guard);
            mutex_works(&survivor);
            newcomer(plan(names), mutex_works);
        },
    );
    swept.covers(1, 9);
}

/// Polls a lock of a living owner and one of a dead owner, without waiting.
#[test]
fn mutex_try_lock_polled_finds_dead_owner() {
    let plan = |names: &Path| plan_for(3, names).mutex("busy", pair(0)).mutex("mutex", pair(0));
    let alone = alone();
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let namespace = plan(&names).open(NAME).unwrap();
    let (busy, mutex) = (namespace.mutex::<Pair>("busy").unwrap(), mutex_of(&namespace));
    let _alive = fork(&alone, || {
        forget(open_leaked(plan(&names)).mutex::<Pair>("busy").unwrap().lock().unwrap());
        thread::sleep(LONG);
    });
    fork(&alone, || forget(mutex_of(open_leaked(plan(&names))).lock().unwrap())).finish(); // without leaving
    until(|| busy.is_locked());
    let got = (0..50).any(|_| {
        thread::sleep(SLEEP + SLEEP / 4);
        assert!(matches!(busy.try_lock(), Err(LockError::Failed(SyncError::WouldBlock))));
        matches!(mutex.try_lock(), Err(LockError::OwnerDied(_)))
    });
    assert!(got, "no attempt checked its owner");
}

#[test]
fn reentrant_mutex_nested_lock_killed_next_lock_reports_owner_died() {
    let swept = sweep_object(
        |plan| plan.reentrant_mutex("mutex", pair(0)),
        |namespace| {
            let mutex = namespace.reentrant_mutex("mutex").unwrap();
            move || {
                let outer = mutex.lock().unwrap();
                outer.set(&pair(1)).unwrap();
                let inner = mutex.lock().unwrap();
                inner.set(&pair(2)).unwrap();
                drop(inner);
                outer.set(&pair(3)).unwrap();
            }
        },
        |namespace, crash| {
            let mutex = namespace.reentrant_mutex::<Pair>("mutex").unwrap();
            let (guard, died) = guard_and_death(mutex.lock());
            assert_eq!(died, crash.held("mutex"));
            let found = number(guard.get().unwrap());
            assert!(if died { found <= 3 } else { found == 0 || found == 3 }, "{found}");
        },
        |namespace| {
            let mutex = namespace.reentrant_mutex::<Pair>("mutex").unwrap();
            let outer = mutex.lock().unwrap();
            mutex.lock().unwrap().set(&pair(4)).unwrap();
            assert_eq!(number(outer.get().unwrap()), 4);
        },
    );
    swept.covers(0, 2 + 3 * 4);
}
