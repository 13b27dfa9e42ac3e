//! `Semaphore`: acquiring and releasing are cut off.

use tombolo::sync::SyncError;

use crate::common::{WAIT_CALLS, within_a_second};
use crate::objects::permits_of;
use crate::sweeps::{sweep_beside_sleeper, sweep_object, sweep_wait};

/// raw/semaphore.rs ns-semaphore-1: acquired permits stay acquired.
#[test]
fn semaphore_holder_killed_permits_stay_taken() {
    let swept = sweep_object(
        |plan| plan.semaphore("permits", 5),
        |namespace| {
            let permits = permits_of(namespace);
            move || {
                permits.acquire_many(2).unwrap().forget();
                permits.release(2).unwrap();
            }
        },
        |namespace, crash| {
            let permits = permits_of(namespace);
            let left = permits.available().unwrap();
            assert!(left == 5 || left == 3, "{left}");
            assert_eq!(crash.object("permits").state, format!("{left} permits left"));
            permits.release(5 - left).unwrap(); // as the application would
        },
        |namespace| {
            let permits = permits_of(namespace);
            permits.acquire_many(5).unwrap().forget();
            assert_eq!(permits.try_acquire().unwrap_err(), SyncError::WouldBlock);
            permits.release(5).unwrap();
        },
    );
    swept.covers(0, 2);
}

/// raw/semaphore.rs N2.
#[test]
fn semaphore_release_killed_sleeper_gets_permits() {
    let swept = sweep_beside_sleeper(
        |plan| plan.semaphore("permits", 0),
        |namespace| permits_of(namespace).acquire_many(2).unwrap().forget(),
        |namespace| {
            let permits = permits_of(namespace);
            move || permits.release(2).unwrap()
        },
        // The sleeper gets two; of the victim's two, both are there or none.
        |survivor, _| permits_of(survivor).release(2).unwrap(),
        |namespace| {
            let permits = permits_of(namespace);
            let left = permits.available().unwrap();
            assert!(left == 0 || left == 2, "{left}");
            permits.release(3).unwrap();
            permits.acquire_many(3).unwrap().forget();
        },
    );
    swept.covers(1, 2);
}

#[test]
fn semaphore_wait_killed_permits_are_free_for_others() {
    let swept = sweep_wait(
        |plan| plan.semaphore("permits", 2),
        |survivor| permits_of(survivor).acquire_many(2).unwrap().forget(),
        |namespace, patience| permits_of(namespace).acquire_timeout(patience).map(|permit| permit.forget()).is_ok(),
        |survivor, ()| permits_of(survivor).release(2).unwrap(),
        |namespace| {
            let permits = permits_of(namespace);
            within_a_second(|| permits.try_acquire_many(2).map(|permit| permit.forget()).ok());
            permits.release(2).unwrap();
        },
    );
    swept.covers(WAIT_CALLS, 2);
}
