//! `BoundedSemaphore`: acquiring and releasing are cut off.

use crate::common::{WAIT_CALLS, within_a_second};
use crate::objects::{slots_of, slots_work};
use crate::sweeps::{sweep_beside_sleeper, sweep_object, sweep_wait};

/// raw/pool.rs ns-permit-1, -4: all permits return.
#[test]
fn bounded_semaphore_holder_killed_permits_return() {
    let swept = sweep_object(
        |plan| plan.bounded_semaphore("slots", 3),
        |namespace| {
            let slots = slots_of(namespace);
            move || {
                slots.acquire_many(2).unwrap().forget();
                slots.release(2).unwrap();
            }
        },
        |namespace, crash| {
            let pid = crash.pid().unwrap();
            let users = &crash.object("slots").users;
            assert!(users.len() <= 2 && users.iter().all(|user| *user == pid), "{users:?}");
            slots_of(namespace).acquire_many(3).unwrap().forget();
            slots_of(namespace).release(3).unwrap();
        },
        slots_work,
    );
    swept.covers(0, 4);
}

#[test]
fn bounded_semaphore_release_killed_sleeper_gets_permits() {
    let swept = sweep_beside_sleeper(
        |plan| plan.bounded_semaphore("slots", 3),
        |namespace| slots_of(namespace).acquire_many(2).unwrap().forget(),
        |namespace| {
            let slots = slots_of(namespace);
            slots.acquire_many(2).unwrap().forget();
            move || slots.release(2).unwrap()
        },
        |_, _| {},
        slots_work,
    );
    swept.covers(1, 3);
}

#[test]
fn bounded_semaphore_wait_killed_permits_are_free_for_others() {
    let swept = sweep_wait(
        |plan| plan.bounded_semaphore("slots", 3),
        |survivor| slots_of(survivor).acquire_many(2).unwrap().forget(),
        |namespace, patience| {
            slots_of(namespace).acquire_many_timeout(2, patience).map(|permit| permit.forget()).is_ok()
        },
        |survivor, ()| slots_of(survivor).release(2).unwrap(),
        |namespace| {
            let slots = slots_of(namespace);
            within_a_second(|| slots.try_acquire_many(3).map(|permit| permit.forget()).ok());
            slots.release(3).unwrap();
            slots_work(namespace);
        },
    );
    swept.covers(WAIT_CALLS, 1);
}
