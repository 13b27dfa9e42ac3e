//! `Barrier`: a party that dies.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::Namespace;
use tombolo::sync::SyncError;

use crate::common::{MOMENT, NAME, counters, start_ready, stop};
use crate::support::{SharedCounters, TestDir, until};

pub fn wait_at_barrier(arguments: &[String]) {
    let namespace = three_parties(Path::new(&arguments[0]));
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let barrier = namespace.barrier("meeting").unwrap();
    counters.meet(0, 2);
    let result = barrier.wait();
    // 1 if all have met, else 1 + the PID that broke it.
    counters.word(1).store(result.map_or_else(|error| broken_by(error) + 1, |_| 1), Ordering::SeqCst);
}

fn broken_by(error: SyncError) -> u64 {
    match error {
        SyncError::BarrierBroken { pid } => pid,
        other => panic!("{other}"),
    }
}

fn three_parties(names: &Path) -> Namespace {
    Namespace::builder().barrier("meeting", 3).directory(names).open(NAME).unwrap()
}

#[test]
fn barrier_waiter_killed_breaks_it_for_the_others() {
    let test_dir = TestDir::new();
    let barrier = three_parties(&test_dir.names()).barrier("meeting").unwrap();
    let counters = counters(&test_dir);
    for round in 0..3 {
        let victim = start_ready(&test_dir, "wait_at_barrier", &[]);
        until(|| barrier.waiting() == 1);
        let other = start_ready(&test_dir, "wait_at_barrier", &[]);
        until(|| barrier.waiting() == 2);
        let pid = victim.pid() as u64;
        let broken = Err(SyncError::BarrierBroken { pid });
        if round == 0 {
            victim.kill();
            other.finish(); // it notices the death itself
            assert_eq!(counters.word(1).load(Ordering::SeqCst), pid + 1);
        } else {
            stop(&other); // so that no process notices
            victim.kill();
            // If the third party comes before the death is noticed, all have met.
            thread::sleep(MOMENT);
            drop(three_parties(&test_dir.names()));
            let result = barrier.wait_timeout(Duration::MAX);
            assert!(result == broken || result.is_ok_and(|met| met.is_leader()), "{result:?}");
            other.signal(libc::SIGCONT);
            other.finish();
            let outcome = counters.word(1).load(Ordering::SeqCst);
            assert_eq!(outcome, if result.is_ok() { 1 } else { pid + 1 });
        }
        if barrier.is_broken() {
            assert_eq!((barrier.wait(), barrier.wait_timeout(Duration::ZERO)), (broken, broken));
            barrier.reset().unwrap();
        }
        let [first, second] = [(); 2].map(|()| start_ready(&test_dir, "wait_at_barrier", &[]));
        assert!(barrier.wait().is_ok());
        first.finish();
        second.finish();
        assert_eq!(counters.word(1).load(Ordering::SeqCst), 1);
    }
}
