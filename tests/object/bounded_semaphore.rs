//! `BoundedSemaphore`: permits that belong to the process that acquired them.

use std::mem::forget;
use std::thread;
use std::time::Duration;

use tombolo::ErrorKind;
use tombolo::sync::{BoundedSemaphore, SyncError};

use crate::common::{MOMENT, WAITS, in_other_thread};
use crate::support::TestDir;

#[test]
fn bounded_semaphore_release_beyond_acquired_is_refused() {
    for permits in [0, (1 << 16) + 1] {
        assert_eq!(BoundedSemaphore::new(permits).unwrap_err().kind(), ErrorKind::InvalidOptions);
    }
    let semaphore = BoundedSemaphore::new(3).unwrap();
    assert_eq!((semaphore.bound(), semaphore.available()), (3, 3));
    assert_eq!((semaphore.release(0), semaphore.acquire_many(0).map(|permit| permit.forget())), (Ok(()), Ok(())));
    assert_eq!(semaphore.release(1), Err(SyncError::NotOwner));
    let too_many = Err(SyncError::LimitExceeded { count: 4, limit: 3 });
    assert_eq!(
        (
            semaphore.acquire_many(4).map(|permit| permit.forget()),
            semaphore.try_acquire_many(4).map(|permit| permit.forget())
        ),
        (too_many, too_many)
    );
    assert_eq!(semaphore.acquire_many_timeout(4, Duration::MAX).map(|permit| permit.forget()), too_many);
    assert_eq!((semaphore.acquire_many(2).map(|permit| permit.forget()), semaphore.available()), (Ok(()), 1));
    assert_eq!((semaphore.release(3), semaphore.available()), (Err(SyncError::NotOwner), 1), "then none");
    assert_eq!(
        (semaphore.try_acquire_many(2).map(|permit| permit.forget()), semaphore.available()),
        (Err(SyncError::WouldBlock), 1)
    );
    assert_eq!(semaphore.try_acquire().map(|permit| permit.forget()), Ok(()));
    assert_eq!(
        (
            semaphore.acquire_many(0).map(|permit| permit.forget()),
            semaphore.try_acquire_many(0).map(|permit| permit.forget())
        ),
        (Ok(()), Ok(())),
        "though none is left"
    );
    assert_eq!(in_other_thread(|| semaphore.release(2)), Ok(()), "threads share what they took");
    assert_eq!((semaphore.release(1), semaphore.release(1)), (Ok(()), Err(SyncError::NotOwner)));
    for _ in 0..20 {
        assert_eq!((semaphore.acquire_many(3).map(|permit| permit.forget()), semaphore.release(3)), (Ok(()), Ok(())));
    }
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn bounded_semaphore_permit_dropped_is_released() {
    let semaphore = BoundedSemaphore::new(2).unwrap();
    let (first, second) = (semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap());
    assert_eq!((semaphore.try_acquire().err(), semaphore.available()), (Some(SyncError::WouldBlock), 0));
    in_other_thread(|| drop(first));
    drop(second);
    assert_eq!(semaphore.available(), 2);
    forget(semaphore.acquire().unwrap());
    assert_eq!((semaphore.release(1), semaphore.release(1)), (Ok(()), Err(SyncError::NotOwner)));
}

#[test]
fn bounded_semaphore_acquire_several_takes_all_or_none() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let semaphore = BoundedSemaphore::new(4).unwrap().with_wait(wait);
        semaphore.acquire_many(4).unwrap().forget();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.acquire_many(3).map(|permit| permit.forget()));
            for permits in 1..=2 {
                semaphore.release(1).unwrap();
                thread::sleep(MOMENT);
                assert!(!waiting.is_finished(), "{permits}");
            }
            semaphore.release(1).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(()));
            assert_eq!(semaphore.available(), 0);
        });
        assert_eq!(semaphore.acquire_many_timeout(2, MOMENT).unwrap_err(), SyncError::TimedOut);
        assert_eq!((semaphore.release(4), semaphore.available()), (Ok(()), 4));
    }
}

/// The permits of a process are interchangeable: a thread may release any of them.
#[test]
fn bounded_semaphore_concurrent_mixed_counts_are_all_released() {
    const EACH: usize = 50_000;
    let _watchdog = TestDir::new();
    let semaphore = BoundedSemaphore::new(3).unwrap();
    thread::scope(|scope| {
        for count in [1, 2, 3, 1] {
            let semaphore = &semaphore;
            scope.spawn(move || {
                for _ in 0..EACH {
                    if semaphore.try_acquire_many(count).map(|permit| permit.forget()).is_ok() {
                        semaphore.release(count).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(semaphore.available(), 3);
}
