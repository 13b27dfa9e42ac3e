//! `Condvar`: a death under its mutex.

use std::thread;

use crate::common::{MOMENT, Pair, open, owner_died, start_ready};
use crate::support::TestDir;

#[test]
fn condvar_mutex_owner_killed_waiter_gets_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let (mutex, condition) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.condvar("condition").unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let result = condition.wait_while(mutex.lock().unwrap(), |pair| *pair == [0; 2]);
            *owner_died(result)
        });
        thread::sleep(MOMENT);
        let owner = start_ready(&test_dir, "hold", &["mutex"]);
        condition.notify_all().unwrap();
        thread::sleep(MOMENT);
        owner.kill();
        assert_eq!(waiting.join().unwrap(), [1; 2]);
    });
    drop(mutex.lock().unwrap());
}
