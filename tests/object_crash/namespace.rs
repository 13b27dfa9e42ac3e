//! `Namespace`: creating, joining, leaving and recreating are cut off.

use std::mem::forget;
use std::path::Path;
use std::thread;

use tombolo::{Directory, OnStale};

use crate::common::{dead_participant, guard_and_death, newcomer, number, pair, plan_for};
use crate::objects::{all_kinds, all_work, lock_of, mutex_of, mutex_works, slots_of, value_of};
use crate::support::TestDir;
use crate::sweep::{NAME, sweep};

/// region/mod.rs: a half-made namespace is never seen; namespace/mod.rs: the place of the dead
/// creator, the only one, is taken again.
#[test]
fn namespace_create_killed_next_open_works() {
    let plan = |names: &Path| all_kinds(plan_for(1, names));
    let swept = sweep(
        |_| (),
        |names| {
            let plan = plan(names);
            move || forget(plan.open(NAME).unwrap())
        },
        |names, ()| {
            let namespace = plan(names).open(NAME).unwrap();
            all_work(&namespace);
            assert_eq!(number(value_of(&namespace).load().unwrap()), 1, "it began with 0");
        },
    );
    swept.covers(12, 0);
}

/// region/lifecycle.rs join-1 to join-5.
#[test]
fn namespace_join_killed_participant_is_replaced() {
    let plan = |names: &Path| plan_for(2, names).mutex("mutex", pair(0));
    let swept = sweep(
        |names| plan(names).open(NAME).unwrap(),
        |names| {
            let plan = plan(names).must_exist();
            move || forget(plan.open(NAME).unwrap())
        },
        |names, survivor| {
            newcomer(plan(names), mutex_works);
            mutex_works(&survivor);
        },
    );
    swept.covers(16, 6);
}

/// object/member.rs ns-leave-1, -2: what forgotten guards hold is released when their process
/// leaves, or on its behalf if it dies.
#[test]
fn namespace_leave_with_forgotten_guards_killed_locks_are_released() {
    let swept = sweep(
        |names| all_kinds(plan_for(2, names)).open(NAME).unwrap(),
        |names| {
            let namespace = all_kinds(plan_for(2, names)).open(NAME).unwrap();
            forget(mutex_of(&namespace).lock().unwrap());
            forget(lock_of(&namespace).read().unwrap());
            forget(value_of(&namespace).writer().unwrap());
            slots_of(&namespace).acquire_many(2).unwrap().forget();
            move || drop(namespace)
        },
        |names, survivor| {
            assert!(guard_and_death(mutex_of(&survivor).lock()).1, "it left or died with the lock");
            all_work(&survivor);
            newcomer(all_kinds(plan_for(2, names)), all_work);
            all_work(&survivor);
        },
    );
    swept.covers(6, 5);
}

/// The same for a process that lives on and joins again.
#[test]
fn namespace_left_with_forgotten_guard_rejoin_finds_lock_free() {
    let test_dir = TestDir::new();
    for round in 0..8 {
        let namespace = plan_for(1, &test_dir.names()).rw_lock("rw", pair(0)).open(NAME).unwrap();
        let lock = lock_of(&namespace);
        drop(lock.try_write().unwrap_or_else(|error| panic!("no reader is left, {error}")));
        let reader = lock.read().unwrap();
        thread::scope(|scope| {
            let other = scope.spawn(|| lock.try_write().is_ok());
            assert!(!other.join().unwrap(), "the reader of round {round} does not exclude writers");
        });
        forget(reader);
    }
}

/// region/lifecycle.rs leave-4 to leave-6: the last participant removes the name; the next one
/// finds the old namespace or a new one.
#[test]
fn namespace_leave_as_last_killed_next_open_works() {
    let swept = sweep(
        |_| (),
        |names| {
            let namespace = all_kinds(plan_for(1, names)).open(NAME).unwrap();
            value_of(&namespace).store(&pair(1)).unwrap();
            move || drop(namespace)
        },
        |names, ()| {
            let namespace = all_kinds(plan_for(1, names)).open(NAME).unwrap();
            assert!(number(value_of(&namespace).load().unwrap()) <= 1);
            all_work(&namespace);
        },
    );
    swept.covers(8, 2);
}

#[test]
fn namespace_leave_persistent_as_last_killed_contents_remain() {
    let plan = |names: &Path| all_kinds(plan_for(1, names)).persistent();
    let swept = sweep(
        |_| (),
        |names| {
            let namespace = plan(names).open(NAME).unwrap();
            value_of(&namespace).store(&pair(1)).unwrap();
            move || drop(namespace)
        },
        |names, ()| {
            let namespace = plan(names).must_exist().open(NAME).unwrap();
            assert_eq!(number(value_of(&namespace).load().unwrap()), 1);
            all_work(&namespace);
            drop(namespace);
            Directory::at(names).unlink(NAME, false).unwrap();
        },
    );
    swept.covers(4, 1);
}

/// options.rs: an abandoned namespace is removed and created again.
#[test]
fn namespace_recreate_killed_next_open_finds_old_or_new() {
    let plan = |names: &Path| all_kinds(plan_for(1, names));
    let swept = sweep(
        |names| {
            dead_participant(plan(names), |namespace| value_of(namespace).store(&pair(7)).unwrap());
        },
        |names| {
            let plan = plan(names).on_stale(OnStale::Recreate);
            move || forget(plan.open(NAME).unwrap())
        },
        |names, ()| {
            let namespace = plan(names).open(NAME).unwrap();
            let found = number(value_of(&namespace).load().unwrap());
            assert!(found == 7 || found == 0, "{found}");
            all_work(&namespace);
        },
    );
    swept.covers(20, 1);
}
