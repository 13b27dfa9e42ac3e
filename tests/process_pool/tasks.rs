//! Futures of jobs: under several executors, beside calls that block, and when the pool ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tombolo::process::pool::{self, JobError};

use crate::common::{begun, double, pids, pool_of, release, send_signal, wait_at};
use crate::executor::{Unpark, block_on, poll, smol_block_on, tokio_block_on};
use crate::support::{SharedCounters, TestDir, fork, until};

fn results(run: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>)) {
    let pool = pool_of(2);
    run(Box::pin(async move {
        for round in 0..100 {
            let jobs: Vec<_> = (0..10).map(|number| pool.submit(double, round + number)).collect();
            for (number, job) in (0..).zip(jobs) {
                assert_eq!(job.join_async().await, Ok(2 * (round + number)));
                assert_eq!(job.join(), Ok(2 * (round + number)));
            }
        }
    }));
}

#[test]
fn future_of_job_returns_its_result() {
    let _test_dir = TestDir::new();
    results(block_on);
}

#[test]
fn future_of_job_under_tokio_returns_its_result() {
    let _test_dir = TestDir::new();
    results(tokio_block_on);
}

#[test]
fn future_of_job_under_smol_returns_its_result() {
    let _test_dir = TestDir::new();
    results(smol_block_on);
}

#[test]
fn worker_killed_future_of_its_job_returns_worker_died() {
    let test_dir = TestDir::new();
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    let job = pool.submit(wait_at, (file, 1));
    let (mut future, unpark) = (Box::pin(job.join_async()), Unpark::new());
    assert!(poll(future.as_mut(), &unpark).is_pending());
    until(|| begun(&counters, 1) == 1);
    send_signal(pids(&pool, 1)[0], libc::SIGKILL);
    assert!(matches!(block_on(future), Err(JobError::WorkerDied(_))));
}

#[test]
fn job_cancelled_and_pool_dropped_their_futures_return() {
    let test_dir = TestDir::new();
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let pool = pool_of(1);
    let [running, cancelled, waiting] = [(); 3].map(|()| pool.submit(wait_at, (file.clone(), 1)));
    until(|| begun(&counters, 1) == 1);
    let mut futures = [&running, &cancelled, &waiting].map(|job| Box::pin(job.join_async()));
    let unpark = Unpark::new();
    for future in &mut futures {
        assert!(poll(future.as_mut(), &unpark).is_pending());
    }
    let [mut running, cancelled_future, waiting] = futures;
    assert!(cancelled.cancel());
    assert_eq!(block_on(cancelled_future), Err(JobError::Cancelled));
    assert!(poll(running.as_mut(), &unpark).is_pending());
    let dropper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(pool);
    });
    assert_eq!(block_on(running), Err(JobError::Closed));
    assert_eq!(block_on(waiting), Err(JobError::Closed));
    dropper.join().unwrap();
}

#[test]
fn future_of_job_dropped_wakes_nobody_and_others_return() {
    let test_dir = TestDir::new();
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let pool = pool_of(1);
    let job = pool.submit(wait_at, (file, 1));
    let (dropped, waits) = (Unpark::new(), Unpark::new());
    let mut future = Box::pin(job.join_async());
    assert!(poll(future.as_mut(), &dropped).is_pending());
    drop(future);
    let mut future = Box::pin(job.join_async());
    assert!(poll(future.as_mut(), &waits).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| job.join());
        thread::sleep(Duration::from_millis(20));
        release(&counters);
        let pid = block_on(future).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(pid));
    });
    assert_eq!(dropped.count.load(Ordering::SeqCst), 0);
}

#[test]
fn forked_child_polls_and_drops_a_future_of_a_job() {
    let test_dir = TestDir::new();
    let alone = crate::support::alone();
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let pool = pool_of(1);
    let (job, unpark) = (pool.submit(wait_at, (file, 1)), Unpark::new());
    let mut future = Some(Box::pin(job.join_async()));
    assert!(poll(future.as_mut().unwrap().as_mut(), &unpark).is_pending());
    let child = fork(&alone, || {
        let mut future = future.take().unwrap();
        assert_eq!(poll(future.as_mut(), &unpark), Poll::Ready(Err(JobError::Forked)));
    });
    child.finish();
    release(&counters);
    assert!(block_on(future.unwrap()).is_ok());
}
