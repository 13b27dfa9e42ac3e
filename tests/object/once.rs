//! `Once`: one call of many runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::sync::{Once, SyncError};

use crate::common::{MOMENT, WAITS, unwind, unwinds};
use crate::support::TestDir;

#[test]
fn once_concurrent_calls_run_once_panics_do_not_count() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let once = Once::new().unwrap().with_wait(wait);
        let times = AtomicU64::new(0);
        assert_eq!((once.is_completed(), once.wait_timeout(Duration::ZERO)), (false, Err(SyncError::TimedOut)));
        unwinds(|| once.call_once(|| unwind()).unwrap());
        assert_eq!((once.is_completed(), once.wait_timeout(MOMENT)), (false, Err(SyncError::TimedOut)));
        thread::scope(|scope| {
            let waiting = [scope.spawn(|| once.wait()), scope.spawn(|| once.wait_timeout(Duration::MAX))];
            thread::sleep(MOMENT);
            for _ in 0..4 {
                scope.spawn(|| {
                    let done = once.call_once(|| {
                        assert_eq!(once.call_once(|| unreachable!()), Err(SyncError::WouldDeadlock));
                        thread::sleep(MOMENT);
                        times.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!((done, times.load(Ordering::Relaxed)), (Ok(()), 1));
                });
            }
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
            assert_eq!(times.load(Ordering::Relaxed), 1);
        });
        assert_eq!(once.call_once(|| unreachable!()), Ok(()));
        assert_eq!((once.is_completed(), once.wait(), once.wait_timeout(Duration::ZERO)), (true, Ok(()), Ok(())));
    }
}
