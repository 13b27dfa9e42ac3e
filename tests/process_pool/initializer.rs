//! What each worker does first.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use tombolo::process::pool::{self, JobError};
use tombolo::process::{self, ProcessPool};
use tombolo::{Namespace, pipe};

use crate::common::double;
use crate::support::{SharedCounters, TestDir, until};

static NUMBER: OnceLock<u64> = OnceLock::new();
static NAMESPACE: OnceLock<Namespace> = OnceLock::new();

fn error_of(pool: &ProcessPool) -> String {
    let result = pool.submit(double, 1).join();
    let Err(JobError::PoolFailed(text)) = result else { panic!("{result:?}") };
    assert_eq!(pool.join(), Err(JobError::PoolFailed(text.clone())));
    // A map that comes too late returns the error once for each job of its first chunk.
    assert_eq!(pool.map(double, 0..).next(), Some(Err(JobError::PoolFailed(text.clone()))));
    text
}

#[test]
fn initializer_sets_static_jobs_find_it() {
    let test_dir = TestDir::new();
    let path = test_dir.file("words");
    fn set((path, number): (PathBuf, u64)) {
        SharedCounters::at(&path).word(0).fetch_add(1, Ordering::SeqCst);
        NUMBER.set(number).unwrap();
    }
    let pool = pool::Builder::new().processes(2).max_jobs_per_worker(5).initializer(set, (path.clone(), 7));
    let pool = pool.build().unwrap();
    assert!(pool.map(|()| NUMBER.get().copied(), [(); 20]).all(|result| result == Ok(Some(7))));
    pool.join().unwrap();
    assert_eq!(NUMBER.get(), None, "not in this process");
    let workers = SharedCounters::at(&path).word(0).load(Ordering::SeqCst);
    assert!(workers >= 4, "{workers} workers were initialised");
}

#[test]
fn initializer_with_namespace_all_workers_share_it() {
    let _test_dir = TestDir::new();
    let namespace = Namespace::builder().atomic("sum", 0_u64).create().unwrap();
    let sum = namespace.atomic::<u64>("sum").unwrap();
    fn set(namespace: Namespace) {
        let _ = NAMESPACE.set(namespace);
    }
    fn add(number: u64) {
        NAMESPACE.get().unwrap().atomic::<u64>("sum").unwrap().fetch_add(number);
    }
    let pool = pool::Builder::new().processes(3).initializer(set, namespace).build().unwrap();
    assert!(pool.map(add, 1..=100).all(|result| result.is_ok()));
    assert_eq!(sum.load(), 5050);
}

#[test]
fn initializer_panics_pool_ends_with_its_message() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(2).initializer(|number: u64| assert_eq!(number, 1, "not one"), 2);
    let text = error_of(&pool.build().unwrap());
    assert!(text.contains("initializer") && text.contains("not one"), "{text}");
}

#[test]
fn initializer_returns_error_pool_ends() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(2).initializer(|()| ExitCode::from(3), ()).build().unwrap();
    assert!(error_of(&pool).contains("initializer"));
}

#[test]
fn initializer_exits_or_is_killed_pool_ends() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(2).initializer(|()| -> () { std::process::exit(5) }, ()).build().unwrap();
    let text = error_of(&pool);
    assert!(text.contains("in a row") && text.contains("exit status: 5"), "{text}");
    let pool = pool::Builder::new().processes(1).initializer(|()| -> () { std::process::abort() }, ()).build().unwrap();
    assert!(error_of(&pool).contains("SIGABRT"));
}

#[test]
fn initializer_with_endpoint_is_refused_when_second_worker_starts() {
    let _test_dir = TestDir::new();
    let (tx, _rx) = pipe::Options::<u64>::new().create().unwrap();
    let pool = pool::Builder::new().processes(2).initializer(|_: pipe::Sender<u64>| (), tx).build().unwrap();
    until(|| matches!(pool.submit(double, 1).join(), Err(JobError::PoolFailed(_))));
}

#[test]
fn worker_options_panic_pool_ends() {
    let _test_dir = TestDir::new();
    let pool = pool::Builder::new().processes(1).worker_options(|_| panic!("no options")).build().unwrap();
    assert!(error_of(&pool).contains("worker_options"));
}

#[test]
fn worker_options_panic_with_payload_that_panics_pool_ends() {
    let _test_dir = TestDir::new();
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("once more");
        }
    }
    let options = |_| std::panic::panic_any(PanicOnDrop);
    let pool = pool::Builder::new().processes(1).worker_options(options).build().unwrap();
    assert!(error_of(&pool).contains("worker_options"));
}

#[test]
fn worker_options_environment_and_name_are_the_workers() {
    let _test_dir = TestDir::new();
    let options = |index| process::Builder::new().name(format!("number {index}")).env("POOL_TEST", "yes");
    let pool = pool::Builder::new().processes(1).worker_options(options).build().unwrap();
    let found = pool.submit(
        |()| {
            (std::fs::read_to_string("/proc/thread-self/comm").unwrap(), std::env::var("POOL_TEST").unwrap_or_default())
        },
        (),
    );
    assert_eq!(found.join(), Ok(("number 0\n".to_string(), "yes".to_string())));
}
