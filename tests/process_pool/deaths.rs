//! Workers that die, are stopped, or are replaced.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::process::pool::{self, JobError, WorkerDeath};

use crate::common::{begun, double, own_pid, pids, pool_of, release, send_signal, sleep_micros, stop, wait_at};
use crate::support::{SharedCounters, TestDir, stress_factor, stress_random, until};

/// Counts each time that it runs.
fn count((path, number): (PathBuf, usize)) -> usize {
    SharedCounters::at(&path).word(number % 512).fetch_add(1, Ordering::SeqCst);
    sleep_micros(500);
    number
}

#[test]
fn workers_killed_at_random_each_job_has_one_result() {
    const JOBS: usize = 500;
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    let counters = SharedCounters::at(&path);
    let pool = pool::Builder::new().processes(3).max_attempts(1000).build().unwrap();
    let mut random = stress_random(21);
    for _ in 0..stress_factor() {
        let begin = pool.stats().succeeded;
        let inputs = (0..JOBS).map(|number| (path.clone(), number));
        thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let (mut kills, mut succeeded) = (0, begin);
                while kills < 60 && succeeded < begin + JOBS as u64 {
                    thread::sleep(Duration::from_micros(random.below(4000)));
                    // Not faster than the workers start.
                    if pool.stats().succeeded > succeeded {
                        succeeded = pool.stats().succeeded;
                        kills += 1;
                        if let Some(&pid) = pool.pids().get(random.below(3) as usize) {
                            send_signal(pid, libc::SIGKILL);
                        }
                    }
                }
            });
            let results: Vec<usize> = pool.map(count, inputs).chunk_size(5).map(Result::unwrap).collect();
            assert!(results.into_iter().eq(0..JOBS));
            killer.join().unwrap();
        });
    }
    assert!((0..JOBS).all(|number| begun(&counters, number) >= stress_factor()));
    let stats = pool.stats();
    assert_eq!(stats.succeeded, JOBS as u64 * stress_factor());
    assert!(stats.workers_died > 0 && stats.redelivered > 0, "{stats:?}");
    assert_eq!((stats.running, stats.waiting, stats.failed), (0, 0, 0), "{stats:?}");
}

/// Kills its worker if it is number 3.
fn kill_if_three((path, number): (PathBuf, usize)) -> usize {
    SharedCounters::at(&path).word(number).fetch_add(1, Ordering::SeqCst);
    if number == 3 {
        send_signal(std::process::id(), libc::SIGKILL);
    }
    number
}

#[test]
fn job_that_kills_its_workers_ends_as_error_and_chunk_survives() {
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    let counters = SharedCounters::at(&path);
    let pool = pool_of(2);
    let inputs = (0..10).map(|number| (path.clone(), number));
    let results: Vec<_> = pool.map(kill_if_three, inputs).chunk_size(10).collect();
    for (number, result) in results.iter().enumerate() {
        if number == 3 {
            let Err(JobError::WorkerDied(WorkerDeath { status, attempts, .. })) = result else { panic!("{result:?}") };
            assert_eq!(*attempts, 3);
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status.unwrap()), Some(libc::SIGKILL));
        } else {
            assert_eq!(*result, Ok(number));
        }
        assert_eq!(begun(&counters, number), if number == 3 { 3 } else { 1 }, "job {number}");
    }
    let message = results[3].as_ref().unwrap_err().to_string();
    assert!(message.contains("3 workers") && message.contains("SIGKILL"), "{message}");
    let stats = pool.stats();
    assert_eq!((stats.succeeded, stats.failed, stats.workers_died), (9, 1, 3), "{stats:?}");
}

/// Job 0 kills its first worker, and the next one waits for job 1.
fn kill_then_wait((path, number): (PathBuf, usize)) -> usize {
    let counters = SharedCounters::at(&path);
    if counters.word(1 + number).fetch_add(1, Ordering::SeqCst) == 0 && number == 0 {
        send_signal(std::process::id(), libc::SIGKILL);
    }
    until(|| number > 0 || begun(&counters, 2) > 0);
    number
}

#[test]
fn job_redelivered_rest_of_its_chunk_does_not_wait_for_it() {
    let test_dir = TestDir::new();
    let inputs = (0..2).map(|number| (test_dir.file("words"), number));
    let pool = pool_of(2);
    assert!(pool.map(kill_then_wait, inputs).chunk_size(2).map(Result::unwrap).eq(0..2));
    assert_eq!(begun(&SharedCounters::at(&test_dir.file("words")), 1), 2);
}

#[test]
fn job_with_one_attempt_its_worker_dies_is_reported_at_once() {
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    let inputs = (2..5).map(|number| (path.clone(), number));
    let results: Vec<_> = pool.map(kill_if_three, inputs).chunk_size(3).collect();
    assert_eq!((&results[0], &results[2]), (&Ok(2), &Ok(4)));
    assert!(matches!(&results[1], Err(JobError::WorkerDied(death)) if death.attempts == 1), "{results:?}");
    assert_eq!(begun(&SharedCounters::at(&path), 3), 1);
}

#[test]
fn job_that_exits_or_aborts_error_says_so() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    let result = pool.submit(|code: i32| -> () { std::process::exit(code) }, 7).join();
    let Err(JobError::WorkerDied(death)) = &result else { panic!("{result:?}") };
    assert_eq!(death.status.unwrap().code(), Some(7), "{death}");

    // A panic while a panic unwinds aborts.
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    let twice = |()| {
        let _second = PanicOnDrop;
        panic!("the first")
    };
    let result = pool.submit::<(), ()>(twice, ()).join();
    let Err(JobError::WorkerDied(death)) = &result else { panic!("{result:?}") };
    assert!(death.panic.is_some() && death.status.is_some(), "{death:?}");
    assert_eq!(pool.submit(double, 1).join(), Ok(2));
}

#[test]
fn worker_killed_after_caught_panic_is_not_blamed_on_it() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    fn panic_or_abort(number: u64) {
        if number == 0 { panic!("caught") } else { std::process::abort() }
    }
    assert!(matches!(pool.submit(panic_or_abort, 0).join(), Err(JobError::Panicked(_))));
    let result = pool.submit(panic_or_abort, 1).join();
    assert!(matches!(&result, Err(JobError::WorkerDied(WorkerDeath { panic: None, .. }))), "{result:?}");
}

#[test]
fn worker_aborted_by_unreported_panic_is_not_blamed_on_caught_one() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    // `resume_unwind` calls no hook. What follows, a panic in a function that cannot unwind, does.
    extern "C" fn unwind() {
        std::panic::resume_unwind(Box::new("unreported"));
    }
    fn panic_or_unwind(number: u64) {
        if number == 0 { panic!("caught") } else { unwind() }
    }
    assert!(matches!(pool.submit(panic_or_unwind, 0).join(), Err(JobError::Panicked(_))));
    let result = pool.submit(panic_or_unwind, 1).join();
    assert!(matches!(&result, Err(JobError::WorkerDied(WorkerDeath { panic: None, .. }))), "{result:?}");
}

#[test]
fn worker_aborted_after_long_panic_is_not_blamed_on_it() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    fn panic_or_abort(number: u64) {
        if number == 0 { panic!("{}", "ä".repeat(3000)) } else { std::process::abort() }
    }
    let result = pool.submit(panic_or_abort, 0).join();
    assert!(matches!(&result, Err(JobError::Panicked(panic)) if panic.message == "ä".repeat(2048)), "{result:?}");
    let result = pool.submit(panic_or_abort, 1).join();
    assert!(matches!(&result, Err(JobError::WorkerDied(WorkerDeath { panic: None, .. }))), "{result:?}");
}

#[test]
fn worker_aborted_after_panics_that_a_job_survived_is_not_blamed_on_them() {
    let _test_dir = TestDir::new();
    fn survive_or_abort(number: u64) {
        match number {
            0 => drop(std::panic::catch_unwind(|| panic!("of the thread of the job"))),
            1 => drop(thread::spawn(|| panic!("of another thread")).join()),
            _ => std::process::abort(),
        }
    }
    for chunk in [1, 2] {
        for first in [0, 1] {
            let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
            let results: Vec<_> = pool.map(survive_or_abort, [first, 2]).chunk_size(chunk).collect();
            let [Ok(()), Err(JobError::WorkerDied(WorkerDeath { panic: None, .. }))] = &*results else {
                panic!("{results:?}")
            };
        }
    }
}

#[test]
fn idle_worker_killed_is_replaced() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let first = pool.submit(own_pid, ()).join().unwrap();
    send_signal(first, libc::SIGKILL);
    until(|| pool.pids().iter().any(|&pid| pid != first));
    let second = pool.submit(own_pid, ()).join().unwrap();
    assert_ne!(first, second);
    assert_eq!((pool.stats().workers_died, pool.stats().redelivered), (1, 0));
}

#[test]
fn worker_with_limit_of_jobs_is_replaced() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_jobs_per_worker(4).build().unwrap();
    let mut pids: Vec<u32> = pool.map(own_pid, [(); 20]).chunk_size(3).map(Result::unwrap).collect();
    assert!(pids.chunks(4).all(|worker| worker.iter().all(|pid| *pid == worker[0])), "{pids:?}");
    pids.dedup();
    assert_eq!(pids.len(), 5);
    pool.join().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.workers_retired, stats.workers_died, stats.redelivered), (5, 0, 0));
}

#[test]
fn stopped_worker_keeps_its_job_and_others_go_on() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(2));
    let counters = SharedCounters::at(&path);
    let job = pool.submit(
        |(path, word): (PathBuf, usize)| {
            let counters = SharedCounters::at(&path);
            counters.word(2).store(u64::from(std::process::id()), Ordering::SeqCst);
            wait_at((path, word))
        },
        (path, 1),
    );
    until(|| begun(&counters, 1) == 1);
    let stopped = begun(&counters, 2) as u32;
    stop(stopped);
    let others: Vec<u32> = pool.map(own_pid, [(); 50]).chunk_size(1).map(Result::unwrap).collect();
    assert!(!others.contains(&stopped));
    release(&counters);
    assert!(!job.is_finished());
    send_signal(stopped, libc::SIGCONT);
    assert_eq!(job.join(), Ok(stopped));
    assert_eq!(pool.stats().redelivered, 0);
}

#[test]
fn stopped_worker_killed_its_job_is_redelivered() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let job = pool.submit(wait_at, (path, 1));
    until(|| begun(&counters, 1) == 1);
    let first = pids(&pool, 1)[0];
    stop(first);
    send_signal(first, libc::SIGKILL);
    until(|| begun(&counters, 1) == 2);
    release(&counters);
    assert_ne!(job.join().unwrap(), first);
}

#[test]
fn worker_killed_before_it_begins_job_that_is_no_attempt() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    let first = pool.submit(own_pid, ()).join().unwrap();
    stop(first);
    let job = pool.submit(own_pid, ());
    until(|| pool.stats().running == 1);
    send_signal(first, libc::SIGKILL);
    assert_ne!(job.join().unwrap(), first);
    assert_eq!((pool.stats().redelivered, pool.stats().workers_died), (1, 1));
}

/// Ends its worker after a moment.
fn exit_soon(path: PathBuf) {
    SharedCounters::at(&path).word(1).fetch_add(1, Ordering::SeqCst);
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(20));
        std::process::exit(7);
    });
}

#[test]
fn workers_that_die_before_any_job_pool_ends() {
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    let pool = pool::Builder::new().processes(1).initializer(exit_soon, path.clone()).build().unwrap();
    let counters = SharedCounters::at(&path);
    // Only then a job: one that has begun is a reason to go on.
    until(|| begun(&counters, 1) == 8 && pool.pids().is_empty());
    let result = pool.submit(double, 1).join();
    let Err(JobError::PoolFailed(text)) = &result else { panic!("{result:?}") };
    assert!(text.contains("8 workers in a row") && text.contains("exit status: 7"), "{text}");
    assert_eq!(pool.join(), Err(JobError::PoolFailed(text.clone())));
}
