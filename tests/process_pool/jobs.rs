//! Jobs and their results.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::thread;

use serde::{Deserialize, Serialize};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::ProcessPool;
use tombolo::process::pool::{self, JobError};

use crate::common::{SHORT, begun, double, own_pid, pool_of, release, sleep_micros, wait_at};
use crate::support::{SharedCounters, TestDir, until};

/// The first one does not wait.
fn wait_unless_first((path, number): (PathBuf, usize)) -> usize {
    if number > 0 {
        wait_at((path, 1));
    }
    number
}

/// Waits, those with a smaller number longer.
fn slow_first(number: u64) -> u64 {
    sleep_micros(2000 / (number + 1));
    number
}

#[test]
fn map_jobs_of_different_length_results_are_in_order() {
    let _test_dir = TestDir::new();
    let pool = pool_of(4);
    let results: Vec<u64> = pool.map(slow_first, 0..200).chunk_size(1).map(Result::unwrap).collect();
    assert!(results.into_iter().eq(0..200));
    pool.join().unwrap();
}

#[test]
fn map_unordered_jobs_of_different_length_returns_each_once() {
    let _test_dir = TestDir::new();
    let pool = pool_of(4);
    let mut results: Vec<_> =
        pool.map_unordered(slow_first, 0..200).map(|(index, result)| (index as u64, result.unwrap())).collect();
    results.sort_unstable();
    assert!(results.into_iter().eq((0..200).map(|number| (number, number))));
}

#[test]
fn map_unordered_first_job_waits_others_return() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(2));
    let counters = SharedCounters::at(&path);
    fn wait_if_first((path, number): (PathBuf, usize)) -> usize {
        if number == 0 {
            wait_at((path, 1));
        }
        number
    }
    let inputs = (0..20).map(|number| (path.clone(), number));
    let mut results = pool.map_unordered(wait_if_first, inputs).chunk_size(1).in_flight(20);
    for _ in 1..20 {
        assert_ne!(results.next().unwrap().0, 0);
    }
    release(&counters);
    assert_eq!(results.next(), Some((0, Ok(0))));
    assert_eq!(results.next(), None);
}

#[test]
fn map_chunks_of_any_size_return_all_in_order() {
    let _test_dir = TestDir::new();
    let pool = pool_of(3);
    for size in [0, 1, 2, 7, 99, 100, 101, 1000] {
        let results: Vec<u64> = pool.map(double, 0..100).chunk_size(size).map(Result::unwrap).collect();
        assert!(results.into_iter().eq((0..100).map(|number| 2 * number)), "chunks of {size}");
    }
    assert_eq!(pool.stats().succeeded, 800);
}

#[test]
fn map_empty_iterator_returns_nothing() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    assert!(pool.map(double, []).next().is_none());
    assert!(pool.map_unordered(double, []).next().is_none());
    pool.join().unwrap();
}

#[test]
fn map_one_worker_runs_all_jobs() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let mut pids: Vec<u32> = pool.map(own_pid, [(); 50]).map(Result::unwrap).collect();
    pids.dedup();
    assert_eq!(pids.len(), 1);
    assert_ne!(pids[0], std::process::id());
}

#[test]
fn map_more_workers_than_jobs_returns_all() {
    let _test_dir = TestDir::new();
    let pool = pool_of(8);
    let results: Vec<_> = pool.map(double, [1, 2]).collect();
    assert_eq!(results, [Ok(2), Ok(4)]);
    pool.join().unwrap();
}

#[test]
fn map_endless_iterator_takes_what_may_be_in_flight() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    let taken = Cell::new(0);
    let inputs = (0..).inspect(|_| taken.set(taken.get() + 1));
    let results: Vec<u64> = pool.map(double, inputs).in_flight(10).take(100).map(Result::unwrap).collect();
    assert!(results.into_iter().eq((0..100).map(|number| 2 * number)));
    assert!((100..=110).contains(&taken.get()), "{} inputs", taken.get());
}

#[test]
fn map_result_is_there_it_is_returned_before_more_is_taken() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let taken = Cell::new(0);
    let inputs = (0..).inspect(|&number: &u64| {
        taken.set(taken.get() + 1);
        if number == 1 {
            // After the first one, which the same worker runs.
            assert_eq!(pool.submit(double, 7).join(), Ok(14));
        }
    });
    let mut results = pool.map(double, inputs);
    assert_eq!(results.next(), Some(Ok(0)));
    assert_eq!(taken.get(), 2);
    assert_eq!(results.next(), Some(Ok(2)));
}

#[derive(Deserialize)]
struct RefuseTwo(u64);

impl Serialize for RefuseTwo {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 2 {
            Err(serde::ser::Error::custom("two"))
        } else {
            serializer.serialize_newtype_struct("", &self.0)
        }
    }
}

#[test]
fn map_unordered_iterator_panics_after_refused_input_no_result_of_it_is_left() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let inputs = (0..4).inspect(|&number| assert_ne!(number, 3, "the last one")).map(RefuseTwo);
    let mut results = pool.map_unordered(|_: RefuseTwo| thread::sleep(SHORT), inputs).chunk_size(2);
    panic::catch_unwind(AssertUnwindSafe(|| results.next())).unwrap_err();
    let mut results: Vec<_> = results.collect();
    results.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(results, [(0, Ok(())), (1, Ok(()))]);
}

#[test]
fn map_dropped_jobs_that_wait_are_cancelled() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let inputs = (0..4).map(|number| (path.clone(), number));
    let mut results = pool.map(wait_unless_first, inputs).chunk_size(1).in_flight(4);
    assert_eq!(results.next(), Some(Ok(0)));
    until(|| begun(&counters, 1) == 1);
    drop(results);
    release(&counters);
    pool.join().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.succeeded, stats.cancelled, stats.failed), (2, 2, 0));
    assert_eq!(begun(&counters, 1), 1, "the one that had begun");
}

#[test]
fn submit_several_functions_each_handle_has_its_result() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    let number = pool.submit(double, 21);
    let text = pool.submit(|(text, count): (String, usize)| text.repeat(count), ("ab".to_string(), 3));
    assert_eq!(text.join(), Ok("ababab".to_string()));
    assert_eq!(number.join(), Ok(42));
    assert_eq!(number.join(), Ok(42), "once more");
    assert!(number.is_finished());
    assert_eq!(number.try_join(), Some(Ok(42)));
}

#[test]
fn handle_job_runs_is_not_finished() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let job = pool.submit(wait_at, (path, 1));
    until(|| begun(&counters, 1) == 1);
    assert!(!job.is_finished());
    assert_eq!(job.try_join(), None);
    assert_eq!(job.join_timeout(SHORT), Err(JobError::TimedOut));
    assert!(!job.cancel(), "it runs");
    assert_eq!(pool.stats().running, 1);
    release(&counters);
    assert_eq!(job.join(), Ok(pool.pids()[0]));
}

#[test]
fn cancel_job_that_waits_it_never_runs() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let first = pool.submit(wait_at, (path.clone(), 1));
    let second = pool.submit(wait_at, (path.clone(), 2));
    let third = pool.submit(wait_at, (path, 3));
    until(|| begun(&counters, 1) == 1);
    assert!(second.cancel());
    assert!(!second.cancel(), "twice");
    assert_eq!(second.join(), Err(JobError::Cancelled));
    release(&counters);
    first.join().unwrap();
    third.join().unwrap();
    assert_eq!(begun(&counters, 2), 0);
    assert_eq!(pool.stats().cancelled, 1);
}

#[test]
fn cancel_all_jobs_that_wait_nothing_waits_and_later_ones_run() {
    let test_dir = TestDir::new();
    let (path, pool) = (test_dir.file("words"), pool_of(1));
    let counters = SharedCounters::at(&path);
    let first = pool.submit(wait_at, (path.clone(), 1));
    until(|| begun(&counters, 1) == 1);
    let mut jobs: Vec<_> = (0..1000).map(|_| pool.submit(wait_at, (path.clone(), 2))).collect();
    let last = jobs.pop().unwrap();
    assert!(jobs.iter().all(|job| job.cancel() && job.join() == Err(JobError::Cancelled)));
    assert_eq!((pool.stats().waiting, pool.stats().cancelled), (1, 999));
    assert!(last.cancel());
    assert_eq!(pool.stats().waiting, 0);
    let later = pool.submit(double, 1);
    assert_eq!(pool.stats().waiting, 1);
    release(&counters);
    first.join().unwrap();
    assert_eq!(later.join(), Ok(2));
    assert_eq!(begun(&counters, 2), 0);
    pool.join().unwrap();
    assert_eq!((pool.stats().succeeded, pool.stats().cancelled), (2, 1000));
}

#[test]
fn job_panics_error_has_message_and_place_and_worker_goes_on() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let before = pool.submit(own_pid, ()).join().unwrap();
    let results: Vec<_> = pool
        .map(|number: u64| if number % 2 == 1 { panic!("odd: {number}") } else { number }, 0..4)
        .chunk_size(4)
        .collect();
    assert_eq!((&results[0], &results[2]), (&Ok(0), &Ok(2)));
    let Err(JobError::Panicked(panic)) = &results[3] else { panic!("{:?}", results[3]) };
    assert_eq!(panic.message, "odd: 3");
    assert!(panic.file.ends_with("jobs.rs") && panic.line > 0, "{panic}");
    assert_eq!(pool.submit(own_pid, ()).join(), Ok(before));
    assert_eq!((pool.stats().succeeded, pool.stats().failed, pool.stats().workers_died), (4, 2, 0));
}

#[test]
fn job_of_units_runs() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    assert!(pool.map(|()| (), [(); 100]).all(|result| result == Ok(())));
}

#[test]
fn job_of_64_mib_each_way_runs() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    fn reverse(mut text: String) -> String {
        // SAFETY: ASCII.
        unsafe { text.as_bytes_mut() }.reverse();
        text
    }
    let text = "0123456789abcdef".repeat(4 << 20);
    let mut results = pool.map(reverse, [text, "ab".to_string()]);
    let reversed = results.next().unwrap().unwrap();
    assert_eq!(reversed.len(), 64 << 20);
    assert!(reversed.as_bytes().chunks(16).all(|chunk| chunk == b"fedcba9876543210"));
    assert_eq!(results.next(), Some(Ok("ba".to_string())));
}

#[test]
fn job_with_endpoint_is_refused() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let refused = pool.submit(|_: Sender<u64>| (), tx).join();
    let Err(JobError::Arguments(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("an endpoint") && text.contains("initializer"), "{text}");
    assert_eq!(rx.recv(), Err(tombolo::RecvError::Closed), "it was closed with the arguments");

    let refused = pool.submit(|()| pipe::Options::<u64>::new().create().unwrap().1, ()).join();
    let Err(JobError::Result(text)) = refused.map(|_: Receiver<u64>| ()) else { panic!("it had a result") };
    assert!(text.contains("an endpoint"), "{text}");
    assert_eq!(pool.submit(double, 1).join(), Ok(2));
}

/// postcard writes it, and cannot read it.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
}

/// serde cannot write it.
#[derive(Deserialize, Debug, PartialEq)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

#[test]
fn job_not_serialisable_has_error_and_others_run() {
    let _test_dir = TestDir::new();
    let pool = pool_of(1);
    let results: Vec<_> = pool.map(|_: Untagged| (), [Untagged::Number(1)]).collect();
    assert!(matches!(&results[..], [Err(JobError::Arguments(text))] if text.contains("Untagged")), "{results:?}");
    let results: Vec<_> = pool.map(|_: Unwritable| (), [Unwritable]).collect();
    assert!(matches!(&results[..], [Err(JobError::Arguments(_))]), "{results:?}");
    let result = pool.submit(|()| Untagged::Number(1), ()).join();
    assert!(matches!(&result, Err(JobError::Result(text)) if text.contains("Untagged")), "{result:?}");
    let result = pool.submit(|()| Unwritable, ()).join();
    assert!(matches!(&result, Err(JobError::Result(_))), "{result:?}");
    assert_eq!(pool.submit(double, 1).join(), Ok(2));
}

#[test]
fn submit_from_several_threads_each_gets_its_results() {
    let _test_dir = TestDir::new();
    let pool = pool_of(2);
    thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let inputs = (0..200).map(|number| 1000 * thread + number);
                let results: Vec<u64> = pool.map(double, inputs).map(Result::unwrap).collect();
                assert!(results.into_iter().eq((0..200).map(|number| 2 * (1000 * thread + number))));
            });
        }
    });
    assert_eq!(pool.stats().succeeded, 800);
}

#[test]
fn build_with_impossible_number_is_refused() {
    for (option, builder) in [
        ("processes", pool::Builder::new().processes(0)),
        ("processes", pool::Builder::new().processes(usize::MAX)),
        ("max_attempts", pool::Builder::new().max_attempts(0)),
        ("max_jobs_per_worker", pool::Builder::new().max_jobs_per_worker(0)),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), tombolo::ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(option), "{error}");
    }
}

#[test]
fn new_pool_has_a_worker_for_each_processor() {
    let _test_dir = TestDir::new();
    let pool = ProcessPool::new().unwrap();
    crate::common::pids(&pool, thread::available_parallelism().unwrap().get());
}
