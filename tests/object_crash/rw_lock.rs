//! `RwLock`: reading and writing are cut off.

use std::mem::forget;
use std::path::Path;
use std::thread;

use tombolo::sync::RwLock;

use crate::common::{
    CrashState, Pair, WAIT_CALLS, dead_participant, guard_and_death, newcomer, number, open_leaked, pair, plan_for,
};
use crate::objects::{lock_of, rw_lock_works};
use crate::sweep::{NAME, sweep};
use crate::sweeps::{sweep_beside_sleeper, sweep_object, sweep_wait};

/// raw/reader_counts.rs ns-read-1, -2.
#[test]
fn rw_lock_read_killed_is_released_silently() {
    let swept = sweep_object(
        |plan| plan.rw_lock("rw", pair(1)),
        |namespace| {
            let lock = lock_of(namespace);
            move || assert_eq!(number(*lock.read().unwrap()), 1)
        },
        |namespace, crash| {
            let lock = lock_of(namespace);
            assert!(!crash.held("rw"));
            let (guard, died) = guard_and_death(lock.write());
            assert!(!died && number(*guard) == 1, "a reader changes nothing");
        },
        rw_lock_works,
    );
    swept.covers(0, 2);
}

#[test]
fn rw_lock_write_killed_reader_and_writer_get_owner_died() {
    let swept = sweep_object(
        |plan| plan.rw_lock("rw", pair(0)),
        |namespace| {
            let lock = lock_of(namespace);
            move || *lock.write().unwrap() = pair(1)
        },
        |namespace, crash| {
            let lock = lock_of(namespace);
            // Readers get `OwnerDied` as well.
            let (guard, died) = guard_and_death(lock.read());
            assert_eq!(died, crash.held("rw"));
            assert!(if died { number(*guard) <= 1 } else { true });
            drop(guard);
            assert_eq!(guard_and_death(lock.write()).1, died);
        },
        rw_lock_works,
    );
    swept.covers(0, 6);
}

/// raw/reader_counts.rs, object/rw_lock.rs: after a death a reader takes the writer lock.
#[test]
fn rw_lock_read_after_death_killed_next_writer_gets_owner_died() {
    let plan = |names: &Path| plan_for(2, names).rw_lock("rw", pair(1));
    let swept = sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            dead_participant(plan(names), |namespace| forget(lock_of(namespace).write().unwrap()));
            survivor
        },
        |names| {
            let lock = lock_of(open_leaked(plan(names)));
            move || assert!(guard_and_death(lock.read()).1)
        },
        |names, survivor| {
            let crash = CrashState::of(names);
            assert!(crash.held("rw") || crash.object("rw").state == "an owner died");
            let lock = lock_of(&survivor);
            let (guard, died) = guard_and_death(lock.write());
            assert!(died, "even if a reader has died since");
            assert_eq!(number(*guard), 1);
            drop(guard);
            rw_lock_works(&survivor);
            newcomer(plan(names), rw_lock_works);
        },
    );
    swept.covers(0, 4);
}

/// raw/reader_counts.rs S2.
#[test]
fn rw_lock_read_unlock_killed_sleeping_writer_gets_lock() {
    let swept = sweep_beside_sleeper(
        |plan| plan.rw_lock("rw", pair(0)),
        |namespace| {
            let lock = lock_of(namespace);
            *lock.write().unwrap() = pair(1);
        },
        |namespace| {
            let lock: &'static RwLock<Pair> = Box::leak(Box::new(lock_of(namespace)));
            let guard = lock.read().unwrap();
            move || drop(guard)
        },
        |_, _| {},
        rw_lock_works,
    );
    swept.covers(1, 2);
}

/// The victim holds the writer lock while it waits for the reader. It has written nothing, but its
/// death may be reported.
#[test]
fn rw_lock_wait_to_write_killed_lock_is_free_for_others() {
    let swept = sweep_wait(
        |plan| plan.rw_lock("rw", pair(0)),
        |survivor| {
            let lock = Box::into_raw(Box::new(lock_of(survivor)));
            // SAFETY: alive until it is taken back, after the guard.
            (unsafe { &*lock }.read().unwrap(), lock)
        },
        |namespace, patience| lock_of(namespace).write_timeout(patience).is_ok(),
        |survivor, (reader, lock)| {
            // Waiting for the dead writer finds its death.
            let died =
                thread::scope(|scope| scope.spawn(|| guard_and_death(lock_of(survivor).read()).1).join().unwrap());
            drop(reader);
            assert_eq!(guard_and_death(lock_of(survivor).write()).1, died);
            // SAFETY: the box from above; nothing refers to it any more.
            drop(unsafe { Box::from_raw(lock) });
        },
        rw_lock_works,
    );
    swept.covers(WAIT_CALLS, 2);
}
