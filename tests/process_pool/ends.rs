//! How pools end, and what is left.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tombolo::pipe::{self, Sender};
use tombolo::process::pool::{self, JobError};
use tombolo::process::{self, Process, ProcessPool};

use crate::common::{
    SHORT, begun, double, exists, own_pid, pids, pool_of, release, send_signal, sleep_micros, stop, wait_at,
};
use crate::support::{SharedCounters, TestDir, until};

#[test]
fn close_jobs_submitted_before_run_and_later_ones_are_refused() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let jobs = [1, 2, 3].map(|word| pool.submit(wait_at, (path.clone(), word)));
    pool.close();
    assert_eq!(pool.submit(double, 1).join(), Err(JobError::Closed));
    assert!(pool.map(double, 0..).take(10).all(|result| result == Err(JobError::Closed)));
    assert_eq!(pool.join_timeout(SHORT), Err(JobError::TimedOut));
    release(&SharedCounters::at(&path));
    assert_eq!(pool.join(), Ok(()));
    assert!(jobs.iter().all(|job| job.is_finished() && job.join().is_ok()));
    assert!(pool.pids().is_empty());
}

#[test]
fn close_worker_dies_its_job_is_redelivered() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let job = pool.submit(wait_at, (path, 1));
    until(|| begun(&counters, 1) == 1);
    pool.close();
    let first = pool.pids()[0];
    send_signal(first, libc::SIGKILL);
    release(&counters);
    assert_ne!(job.join().unwrap(), first);
    assert_eq!(pool.join(), Ok(()));
}

#[test]
fn terminate_running_and_stopped_workers_are_gone() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(3));
    let counters = SharedCounters::at(&path);
    let jobs = [1, 1, 1, 2].map(|word| pool.submit(wait_at, (path.clone(), word)));
    until(|| begun(&counters, 1) == 3);
    let workers = pids(&pool, 3);
    stop(workers[0]);
    pool.terminate();
    assert!(workers.iter().all(|&pid| !exists(pid)), "no process and no zombie");
    assert!(jobs.iter().all(|job| job.join() == Err(JobError::Closed)));
    assert_eq!(begun(&counters, 2), 0);
    assert_eq!(pool.submit(double, 1).join(), Err(JobError::Closed));
    assert_eq!(pool.join(), Ok(()));
    assert_eq!(pool.stats().workers_died, 0);
}

#[test]
fn terminate_job_with_one_attempt_ends_as_closed() {
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    let pool = pool::Builder::new().processes(1).max_attempts(1).build().unwrap();
    let inputs = (0..2).map(|_| (path.clone(), 1));
    let job = pool.submit(wait_at, (path.clone(), 1));
    until(|| begun(&SharedCounters::at(&path), 1) == 1);
    let mut results = pool.map(wait_at, inputs).in_flight(2);
    pool.terminate();
    assert_eq!(job.join(), Err(JobError::Closed));
    assert_eq!(results.next(), Some(Err(JobError::Closed)));
    assert_eq!(pool.stats().workers_died, 0);
}

#[test]
fn join_worker_hangs_in_its_initializer_returns_when_jobs_are_done() {
    let test_dir = TestDir::new();
    fn hang_second(path: PathBuf) {
        let counters = SharedCounters::at(&path);
        let is_first = counters.word(1).fetch_add(1, Ordering::SeqCst) == 0;
        until(|| is_first || begun(&counters, 0) > 0);
    }
    let path = test_dir.file("words");
    let pool = pool::Builder::new().processes(2).initializer(hang_second, path.clone()).build().unwrap();
    assert_eq!(pool.submit(double, 1).join(), Ok(2));
    until(|| begun(&SharedCounters::at(&path), 1) == 2);
    let workers = pids(&pool, 2);
    assert_eq!(pool.join(), Ok(()));
    assert!(workers.iter().all(|&pid| !exists(pid)));
}

#[test]
fn terminate_while_initializers_hang_workers_are_gone() {
    let test_dir = TestDir::new();
    fn hang(path: PathBuf) {
        wait_at((path, 1));
    }
    let path = test_dir.file("words");
    let pool = pool::Builder::new().processes(2).initializer(hang, path.clone()).build().unwrap();
    until(|| begun(&SharedCounters::at(&path), 1) == 2);
    let workers = pids(&pool, 2);
    pool.terminate();
    assert!(workers.iter().all(|&pid| !exists(pid)));
}

#[test]
fn terminate_while_large_message_is_sent_to_stopped_worker_returns() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let worker = pool.submit(own_pid, ()).join().unwrap();
    stop(worker);
    let job = pool.submit(|text: String| text.len(), "x".repeat(8 << 20));
    until(|| pool.stats().running == 1);
    thread::sleep(SHORT);
    pool.terminate();
    assert_eq!(job.join(), Err(JobError::Closed));
    assert!(!exists(worker));
}

/// Counts the descriptors and threads of this process.
fn count_own() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|directory| fs::read_dir(directory).unwrap().count())
}

/// In a process of its own, where no other test opens descriptors.
fn build_and_drop(path: PathBuf) {
    let once = || {
        let pool = pool_of(3);
        let job = pool.submit(wait_at, (path.clone(), 1));
        let mut results = pool.map(|()| sleep_micros(100), [(); 1000]);
        for _ in 0..10 {
            results.next().unwrap().unwrap();
        }
        drop(results);
        let workers = pids(&pool, 3);
        stop(workers[1]);
        let closed = pool.submit(wait_at, (path.clone(), 2));
        drop(pool);
        assert!(job.is_finished() && closed.is_finished());
        assert!(workers.iter().all(|&pid| !exists(pid)));
    };
    once();
    let before = count_own();
    for _ in 0..5 {
        once();
    }
    assert_eq!(count_own(), before, "descriptors and threads");
}

#[test]
fn drop_jobs_run_leaves_no_process_descriptor_or_thread() {
    let test_dir = TestDir::new();
    assert_eq!(Process::spawn(build_and_drop, test_dir.file("words")).unwrap().join(), Ok(()));
}

/// Tells which workers it has, and never ends.
fn build_and_wait((mut tx, path): (Sender<u32>, PathBuf)) {
    let pool = pool_of(2);
    let _jobs = [1, 1].map(|word| pool.submit(wait_at, (path.clone(), word)));
    until(|| begun(&SharedCounters::at(&path), 1) == 2);
    for pid in pids(&pool, 2) {
        tx.send(pid).unwrap();
    }
    pool.join().unwrap();
}

#[test]
fn process_of_pool_killed_workers_are_gone() {
    let test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u32>::new().create().unwrap();
    let owner = Process::spawn(build_and_wait, (tx, test_dir.file("words"))).unwrap();
    let workers = [(); 2].map(|()| rx.recv().unwrap());
    stop(workers[0]);
    owner.kill().unwrap();
    // init, or whatever reaps here, may take its time with zombies.
    let is_gone = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"));
    until(|| workers.iter().all(|&pid| is_gone(pid)));
    owner.join().unwrap_err();
}

/// In a process of its own, which has one thread besides those of the pool.
fn use_in_fork((): ()) {
    let pool = pool_of(2);
    let job = pool.submit(double, 1);
    let mut results = pool.map(double, 0..100);
    assert_eq!(results.next(), Some(Ok(0)));
    // SAFETY: this thread holds no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_refused = |pool: &ProcessPool| {
            job.join() == Err(JobError::Forked)
                && !job.cancel()
                && results.next() == Some(Err(JobError::Forked))
                && results.next().is_none()
                && pool.submit(double, 1).join() == Err(JobError::Forked)
                && pool.join() == Err(JobError::Forked)
                && pool.pids().is_empty()
        };
        let is_refused = { is_refused }(&pool);
        drop(results);
        pool.terminate();
        drop(pool);
        // SAFETY: ends the child.
        unsafe { libc::_exit(if is_refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(job.join(), Ok(2));
    assert!(results.all(|result| result.is_ok()));
}

/// In a process of its own. Its children are killed when it ends.
fn fork_while_pool_is_used((): ()) {
    let (pool, is_over) = (pool_of(1), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    pool.stats();
                }
            });
        }
        for _ in 0..200 {
            // SAFETY: this thread holds no lock.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: asks for a signal.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let is_refused = pool.submit(double, 1).join() == Err(JobError::Forked);
                // SAFETY: ends the child.
                unsafe { libc::_exit(if is_refused { 0 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: a child of this process.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn submit_in_forked_child_of_busy_process_is_refused() {
    let _test_dir = TestDir::new();
    let owner = process::Builder::new().daemon(true).spawn(fork_while_pool_is_used, ()).unwrap();
    assert_eq!(owner.join(), Ok(()));
}

#[test]
fn pool_in_forked_child_refuses_and_parent_goes_on() {
    let _test_dir = TestDir::new();
    assert_eq!(Process::spawn(use_in_fork, ()).unwrap().join(), Ok(()));
}
