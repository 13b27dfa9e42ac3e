//! `Semaphore`: permits without an owner.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::sync::{BoundedSemaphore, Semaphore, SyncError};
use tombolo::{ErrorKind, WaitStrategy};

use crate::common::{MOMENT, WAITS, in_other_thread, unwind, unwinds};
use crate::support::TestDir;

const MAX_PERMITS: u32 = i32::MAX as u32;

#[test]
fn semaphore_count_beyond_limit_is_refused() {
    assert_eq!(Semaphore::new(MAX_PERMITS + 1).unwrap_err().kind(), ErrorKind::InvalidOptions);
    let semaphore = Semaphore::new(MAX_PERMITS - 2).unwrap();
    assert_eq!(semaphore.release(2), Ok(()));
    let too_many = |count| Err(SyncError::LimitExceeded { count, limit: MAX_PERMITS.into() });
    assert_eq!(semaphore.release(1), too_many(u64::from(MAX_PERMITS) + 1));
    assert_eq!(semaphore.release(u32::MAX), too_many(u64::from(MAX_PERMITS) + u64::from(u32::MAX)));
    assert_eq!((semaphore.available(), semaphore.release(0)), (Ok(MAX_PERMITS), Ok(())));
    assert_eq!(
        semaphore.acquire_many(MAX_PERMITS + 1).map(|permit| permit.forget()),
        too_many(u64::from(MAX_PERMITS) + 1),
        "never, so it does not wait"
    );
    assert_eq!(semaphore.try_acquire_many(u32::MAX).map(|permit| permit.forget()), too_many(u32::MAX.into()));
    assert_eq!(
        semaphore.acquire_many_timeout(u32::MAX, Duration::MAX).map(|permit| permit.forget()),
        too_many(u32::MAX.into())
    );
    assert_eq!(
        (semaphore.acquire_many(MAX_PERMITS).map(|permit| permit.forget()), semaphore.available()),
        (Ok(()), Ok(0))
    );
    assert_eq!(
        (
            semaphore.acquire_many(0).map(|permit| permit.forget()),
            semaphore.try_acquire_many(0).map(|permit| permit.forget())
        ),
        (Ok(()), Ok(())),
        "nothing is always there"
    );
    assert_eq!(semaphore.try_acquire().unwrap_err(), SyncError::WouldBlock);
    assert_eq!(semaphore.acquire_timeout(Duration::ZERO).unwrap_err(), SyncError::TimedOut);
    assert_eq!(semaphore.try_acquire().err(), Some(SyncError::WouldBlock));
    assert_eq!(semaphore.release(MAX_PERMITS), Ok(()), "whichever thread acquired them");
}

#[test]
fn semaphore_permit_dropped_is_released() {
    let semaphore = Semaphore::new(2).unwrap();
    let (first, second) = (semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap());
    assert_eq!((semaphore.try_acquire().err(), semaphore.available()), (Some(SyncError::WouldBlock), Ok(0)));
    in_other_thread(|| drop(first));
    assert_eq!(semaphore.available(), Ok(1));
    unwinds(|| {
        let _second = second;
        unwind()
    });
    assert_eq!(semaphore.available(), Ok(2));
}

#[test]
fn semaphore_acquire_several_takes_all_or_none() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let semaphore = Semaphore::new(0).unwrap().with_wait(wait);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.acquire_many(3).map(|permit| permit.forget()));
            for permits in 1..=2 {
                semaphore.release(1).unwrap();
                thread::sleep(MOMENT);
                assert_eq!((semaphore.available(), waiting.is_finished()), (Ok(permits), false), "it keeps none");
            }
            semaphore.release(1).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(()));
            assert_eq!(semaphore.available(), Ok(0));
            let waiting = [1, 1, 2, 4].map(|count| {
                let semaphore = semaphore.clone();
                scope.spawn(move || semaphore.acquire_many_timeout(count, Duration::MAX).map(|permit| permit.forget()))
            });
            thread::sleep(MOMENT);
            semaphore.release(8).unwrap();
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
        });
        assert_eq!(semaphore.available(), Ok(0));
        assert_eq!(semaphore.acquire_timeout(MOMENT).unwrap_err(), SyncError::TimedOut);
    }
}

/// Counts permits in use; panics if there are more than `bound`.
struct Occupancy<'a> {
    inside: &'a AtomicU64,
    count: u64,
}

impl<'a> Occupancy<'a> {
    fn enter(inside: &'a AtomicU64, count: u32, bound: u64) -> Self {
        let count = u64::from(count);
        let before = inside.fetch_add(count, Ordering::SeqCst);
        assert!(before + count <= bound, "{before} and {count} of {bound}");
        Self { inside, count }
    }
}

impl Drop for Occupancy<'_> {
    fn drop(&mut self) {
        self.inside.fetch_sub(self.count, Ordering::SeqCst);
    }
}

#[test]
fn semaphore_concurrent_holders_never_exceed_permits() {
    const EACH: u32 = 2000;
    let _watchdog = TestDir::new();
    for wait in [WaitStrategy::SpinThenPark, WaitStrategy::Park] {
        let semaphore = Semaphore::new(3).unwrap().with_wait(wait);
        let bounded = BoundedSemaphore::new(3).unwrap().with_wait(wait);
        let inside = [AtomicU64::new(0), AtomicU64::new(0)];
        thread::scope(|scope| {
            for thread in 0..4 {
                let (semaphore, bounded, inside) = (&semaphore, &bounded, &inside);
                scope.spawn(move || {
                    for round in 0..EACH {
                        let count = 1 + (thread + round) % 3;
                        semaphore.acquire_many(count).unwrap().forget();
                        drop(Occupancy::enter(&inside[0], count, 3));
                        semaphore.release(count).unwrap();
                        let permit = bounded.acquire().unwrap();
                        drop(Occupancy::enter(&inside[1], 1, 3));
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!((semaphore.available(), bounded.available()), (Ok(3), 3));
    }
}
