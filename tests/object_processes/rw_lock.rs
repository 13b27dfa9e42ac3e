//! `RwLock`: writers and readers that die.

use std::thread;

use tombolo::sync::SyncError;

use crate::common::{MOMENT, Pair, open, owner_died, refusal, start_ready};
use crate::support::{TestDir, until};

#[test]
fn rw_lock_writer_killed_readers_and_next_writer_get_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    for readers in [2, 0, 1, 0] {
        let owner = start_ready(&test_dir, "hold", &["writing"]);
        assert_eq!(refusal(lock.try_read()), SyncError::WouldBlock);
        assert_eq!(refusal(lock.read_timeout(MOMENT)), SyncError::TimedOut);
        assert_eq!(refusal(lock.write_timeout(MOMENT)), SyncError::TimedOut);
        owner.kill();
        (0..readers).for_each(|_| assert_eq!(*owner_died(lock.read()), [1; 2], "a reader cannot repair it"));
        assert_eq!(*owner_died(lock.write()), [1; 2]);
        assert_eq!(*lock.read().unwrap(), [1; 2]);
        assert_eq!(*lock.write().unwrap(), [1; 2]);
    }
}

#[test]
fn rw_lock_reader_of_owner_died_killed_next_writer_gets_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    start_ready(&test_dir, "hold", &["writing"]).kill();
    start_ready(&test_dir, "hold", &["reading after a death"]).kill();
    drop(owner_died(lock.write())); // readers could not repair anything
    drop(lock.write().unwrap());
}

#[test]
fn rw_lock_reader_killed_is_released_silently() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let lock = namespace.rw_lock::<Pair>("writing").unwrap();
    let [first, second] = [(); 2].map(|()| start_ready(&test_dir, "hold", &["reading"]));
    drop(lock.read().unwrap());
    first.kill();
    assert_eq!(refusal(lock.write_timeout(3 * MOMENT)), SyncError::TimedOut, "one is left");
    thread::scope(|scope| {
        let writing = scope.spawn(|| *lock.write().unwrap() = [2; 2]);
        thread::sleep(MOMENT);
        second.kill();
        writing.join().unwrap();
    });
    start_ready(&test_dir, "hold", &["reading"]).kill();
    until(|| lock.try_write().is_ok()); // does not wait, and checks liveness now and then
    assert_eq!(*lock.read().unwrap(), [2; 2]);
}
