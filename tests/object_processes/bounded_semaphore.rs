//! `BoundedSemaphore`: permits of dead processes.

use std::thread;

use tombolo::sync::SyncError;

use crate::common::{MOMENT, open, start_ready};
use crate::support::{TestDir, until};

#[test]
fn bounded_semaphore_holder_killed_permits_return_plain_ones_do_not() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let (permits, plain) = (namespace.bounded_semaphore("permits").unwrap(), namespace.semaphore("semaphore").unwrap());
    for count in [2, 3, 2, 3] {
        let owner = start_ready(&test_dir, "hold", &["permits"]);
        assert_eq!(
            (permits.available(), permits.release(1)),
            (1, Err(SyncError::NotOwner)),
            "another process holds them"
        );
        assert_eq!(permits.acquire_many_timeout(count, MOMENT).unwrap_err(), SyncError::TimedOut, "it is alive");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| permits.acquire_many(count).map(|permit| permit.forget()));
            thread::sleep(MOMENT);
            owner.kill();
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        assert_eq!((permits.release(count), permits.available()), (Ok(()), 3));
    }
    start_ready(&test_dir, "hold", &["permits", "semaphore"]).kill();
    until(|| permits.try_acquire_many(3).map(|permit| permit.forget()).is_ok()); // does not wait, and checks liveness now and then
    assert_eq!((permits.release(3), permits.available()), (Ok(()), 3));
    assert_eq!(plain.acquire_timeout(MOMENT).unwrap_err(), SyncError::TimedOut);
    assert_eq!((plain.available(), plain.release(1)), (Ok(0), Ok(())), "any process may release it");
}
