//! `Once`: a runner that dies.

use std::thread;

use tombolo::sync::SyncError;

use crate::common::{MOMENT, open, start_ready};
use crate::support::TestDir;

#[test]
fn once_runner_killed_next_caller_runs_it() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let once = namespace.once("doing").unwrap();
    let runner = start_ready(&test_dir, "stay_inside_call", &["doing"]);
    assert!(!once.is_completed());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| once.wait());
        let doing = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut times = 0;
                once.call_once(|| times += 1).map(|()| times)
            })
        });
        thread::sleep(MOMENT);
        assert_eq!(once.wait_timeout(MOMENT), Err(SyncError::TimedOut), "it is at it");
        runner.kill();
        let times: u32 = doing.into_iter().map(|doing| doing.join().unwrap().unwrap()).sum();
        assert_eq!((times, waiting.join().unwrap()), (1, Ok(())));
    });
}
